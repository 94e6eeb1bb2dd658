"""The index: what it reads, keeps and finds, against vectors and ranks by hand."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from vitaclip_hf import load_checkpoint
from vitaclip_hf.cli.main import main
from vitaclip_hf.data.folder_lock import FolderInUseError, FolderLock
from vitaclip_hf.data.motion_shapes import Scene, all_scenes, draw_videos, write_video
from vitaclip_hf.library import video_index as video_index_module
from vitaclip_hf.library.contact_sheet import draw_contact_sheet
from vitaclip_hf.library.video_index import Moment, VideoIndex, VideoIndexError, fingerprint_of


DEMO = Path(__file__).parents[2] / "examples" / "demo"
SAMPLES = sorted((DEMO / "videos").iterdir())
TEXT = "red star moving left"


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(DEMO / "checkpoint")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three samples, one of them in a subfolder, a long video of two scenes, and a broken file."""
    (tmp_path / "more").mkdir()
    for name in ("red_star_moving_left", "red_star_turning"):
        shutil.copy(DEMO / "videos" / f"{name}.mp4", tmp_path)
    shutil.copy(DEMO / "videos" / "yellow_moon_shaking.mp4", tmp_path / "more")
    scenes = [Scene("blue", "heart", "bouncing"), Scene("pink", "square", "growing")]
    frames = draw_videos(scenes, torch.Generator().manual_seed(4)).numpy().reshape(-1, 96, 96, 3)
    write_video(tmp_path / "long.mp4", frames)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    (tmp_path / "notes.txt").write_text("no video, not looked at")
    return tmp_path


def counts(report) -> dict[str, int]:
    return {name: value for name, value in vars(report).items() if value}


@torch.no_grad()
def vector_by_hand(checkpoint, path: Path) -> np.ndarray:
    pixels = checkpoint.processor(videos=str(path), return_tensors="pt")["pixel_values_videos"]
    return torch.nn.functional.normalize(checkpoint.model.get_video_features(pixels).pooler_output)[0].numpy()


def test_what_is_kept(checkpoint, folder):
    index = VideoIndex(folder)
    report = index.update(checkpoint, window=2, stride=1, batch_size=3)
    assert counts(report) == {"new": 4, "failed": 1, "windows": 6}
    files = {file.path: file for file in index.files()}
    assert list(files) == [
        *("broken.mp4", "long.mp4", "more/yellow_moon_shaking.mp4", "red_star_moving_left.mp4", "red_star_turning.mp4")
    ]
    assert "not supported" in files["broken.mp4"].error
    assert all(file.error is None for name, file in files.items() if name != "broken.mp4")
    table, vectors = index.vectors()
    rows = {(row["content"], row["start"]): (row, vectors[n]) for n, row in enumerate(table.to_pylist())}
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for name in ("red_star_turning.mp4", "more/yellow_moon_shaking.mp4"):
        row, vector = rows[files[name].content, 0.0]
        assert np.allclose(vector, vector_by_hand(checkpoint, folder / name), atol=1e-5)
        assert row["end"] == 2 and row["times"] == [0.125 + 0.25 * n for n in range(8)]
    spans = sorted(
        (row["start"], row["end"]) for (content, _), (row, _) in rows.items() if content == files["long.mp4"].content
    )
    assert spans == [(0, 2), (1, 3), (2, 4)]


def test_only_what_is_new_is_read(checkpoint, folder, monkeypatch):
    index = VideoIndex(folder)
    index.update(checkpoint, window=2, stride=2)
    before = index.search(index.embed_text(checkpoint, TEXT), 10)
    read = []
    original = video_index_module.read_windows
    monkeypatch.setattr(
        video_index_module,
        "read_windows",
        lambda reader, path, *rest: read.append(path.name) or original(reader, path, *rest),
    )
    assert counts(index.update(checkpoint)) == {"unchanged": 5, "failed": 1} and read == []
    assert index.search(index.embed_text(checkpoint, TEXT), 10) == before

    (folder / "long.mp4").rename(folder / "more" / "longer.mp4")
    (folder / "red_star_turning.mp4").unlink()
    shutil.copy(folder / "red_star_moving_left.mp4", folder / "copy.mp4")
    os.utime(folder / "more" / "yellow_moon_shaking.mp4")
    report = index.update(checkpoint)
    assert counts(report) == {"unchanged": 3, "moved": 1, "copied": 1, "deleted": 1, "failed": 1} and read == []
    assert [file.path for file in index.files()] == [
        *("broken.mp4", "copy.mp4", "more/longer.mp4", "more/yellow_moon_shaking.mp4", "red_star_moving_left.mp4")
    ]
    hits = index.search(index.embed_text(checkpoint, TEXT), 10)
    assert [hit.path for hit in hits[:2]] == ["copy.mp4", "red_star_moving_left.mp4"]
    assert len(index.vectors()[0]) == 4  # those of the deleted file are gone

    shutil.copy(SAMPLES[0], folder / "copy.mp4")  # changed
    assert counts(index.update(checkpoint)) == {"new": 1, "unchanged": 4, "failed": 1, "windows": 1}
    assert read == ["copy.mp4"]
    shutil.copy(SAMPLES[1], folder / "broken.mp4")  # mended
    assert counts(index.update(checkpoint)) == {"new": 1, "unchanged": 4, "windows": 1}


def test_failed_files_are_read_again_when_asked(checkpoint, folder):
    index = VideoIndex(folder)
    index.update(checkpoint, window=2)
    assert counts(index.update(checkpoint, retry=True)) == {"unchanged": 4, "failed": 1}


def test_a_file_that_breaks_midway_leaves_no_vectors(checkpoint, folder):
    whole = (folder / "long.mp4").read_bytes()
    damaged = bytearray(whole)
    place = whole.index(b"mdat") + int(0.7 * (len(whole) - whole.index(b"mdat")))
    damaged[place : place + 800] = b"\xff" * 800
    (folder / "long.mp4").write_bytes(bytes(damaged))
    index = VideoIndex(folder)
    report = index.update(checkpoint, window=0.5, stride=0.5, batch_size=2)
    assert report.failed == 2 and report.new == 3
    kept = {file.content for file in index.files() if file.error is None}
    assert set(index.vectors()[0]["content"].to_pylist()) == kept and len(kept) == 3


def test_another_model_is_refused(checkpoint, folder):
    index = VideoIndex(folder)
    index.update(checkpoint, window=2)
    other = load_checkpoint(DEMO / "checkpoint")
    assert fingerprint_of(other) == fingerprint_of(checkpoint)
    with torch.no_grad():
        other.model.visual_projection.weight[0, 0] += 1e-3
    for use in (lambda: index.update(other), lambda: index.embed_text(other, TEXT)):
        with pytest.raises(VideoIndexError, match="made with another model"):
            use()
    reading = load_checkpoint(DEMO / "checkpoint")
    reading.processor.video_processor.num_frames = 4
    with pytest.raises(VideoIndexError, match="made with another model"):
        index.update(reading)
    with pytest.raises(VideoIndexError, match="made with `window` 2, not 3"):
        index.update(checkpoint, window=3)


def test_search_is_exact_and_takes_the_best_of_each_video(checkpoint, folder):
    index = VideoIndex(folder)
    index.update(checkpoint, window=1, stride=0.5)
    query = index.embed_text(checkpoint, "pink square growing")
    table, vectors = index.vectors()
    cosines = [sum(float(a) * float(b) for a, b in zip(vector, query, strict=True)) for vector in vectors]
    names = {file.content: file.path for file in index.files()}
    best: dict[str, tuple[float, float]] = {}
    for row, cosine in zip(table.to_pylist(), cosines, strict=True):
        path = names[row["content"]]
        best[path] = max(best.get(path, (-2.0, 0.0)), (cosine, row["start"]))
    expected = sorted(best, key=lambda path: -best[path][0])
    hits = index.search(query, 10)
    assert [hit.path for hit in hits] == expected
    assert [(hit.cosine, hit.start) for hit in hits] == [pytest.approx(best[path], abs=1e-5) for path in expected]
    assert hits[0].path == "long.mp4" and hits[0].start >= 2
    assert index.search(query, 2) == hits[:2]

    several = [hit for hit in index.search(query, 50, per_video=3) if hit.path == "long.mp4"]
    assert len(several) == 3
    assert all(a.end <= b.start or b.end <= a.start for n, a in enumerate(several) for b in several[:n])


def test_search_by_video(checkpoint, folder):
    index = VideoIndex(folder)
    index.update(checkpoint, window=2)
    [hit] = index.search(index.embed_video(checkpoint, folder / "red_star_turning.mp4"), 1)
    assert hit.path == "red_star_turning.mp4" and hit.cosine == pytest.approx(1, abs=1e-5)


def test_approximate_search(checkpoint, folder):
    pytest.importorskip("usearch")
    index = VideoIndex(folder)
    index.update(checkpoint, window=1, stride=0.5)
    query = index.embed_text(checkpoint, TEXT)
    for _ in range(2):  # made, and read back
        hits, exact = index.search(query, 4, approximate=True), index.search(query, 4)
        assert [(hit.path, hit.start) for hit in hits] == [(hit.path, hit.start) for hit in exact]
        assert [hit.cosine for hit in hits] == pytest.approx([hit.cosine for hit in exact], abs=1e-5)
    (folder / "red_star_moving_left.mp4").unlink()
    index.update(checkpoint)
    assert index.search(query, 1, approximate=True)[0].path == "red_star_turning.mp4"


def test_a_run_that_is_killed_goes_on(folder, checkpoint):
    for n, sample in enumerate(SAMPLES * 3):  # different contents
        (folder / f"{n:03d}.mp4").write_bytes(sample.read_bytes() + bytes(n))
    script = (
        "import sys, time\n"
        "from vitaclip_hf import load_checkpoint\n"
        "from vitaclip_hf.library.video_index import VideoIndex\n"
        f"checkpoint = load_checkpoint({str(DEMO / 'checkpoint')!r})\n"
        "def slow(file): print(file.path, flush=True); time.sleep(0.2)\n"
        f"VideoIndex({str(folder)!r}).update(checkpoint, window=2, save_every=4, batch_size=1, on_file=slow)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for _ in range(14):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    index = VideoIndex(folder)
    (index.place / "files.parquet.new-1").write_bytes(b"half")
    saved = len(index.files())
    assert 8 <= saved <= 14
    report = index.update(checkpoint)
    assert report.unchanged + report.new + report.copied >= 34 and 10 <= report.new <= 26
    assert len(index.files()) == 35 and report.failed == 1
    content = [row for shard in index.place.glob("vectors-*") for row in pq.read_table(shard)["content"].to_pylist()]
    assert len(index.vectors()[0]) == len(content) and not list(index.place.glob("*.new-*"))
    table = index.vectors()[0]
    windows = set(zip(table["content"].to_pylist(), table["start"].to_pylist(), strict=True))
    assert len(set(content)) == 34 and len(windows) == len(content)  # each window once


def test_a_damaged_shard_is_made_again(checkpoint, folder):
    index = VideoIndex(folder)
    index.update(checkpoint, window=2)
    before = index.search(index.embed_text(checkpoint, TEXT), 10)
    [shard] = index.place.glob("vectors-*.parquet")
    shard.write_bytes(shard.read_bytes()[:200])
    assert counts(index.update(checkpoint)) == {"new": 4, "unchanged": 1, "failed": 1, "windows": 5}
    assert [hit.path for hit in index.search(index.embed_text(checkpoint, TEXT), 10)] == [hit.path for hit in before]


def test_two_runs_at_once(checkpoint, folder):
    index = VideoIndex(folder)
    index.update(checkpoint, window=2)
    with FolderLock(index.place, "indexing"), pytest.raises(FolderInUseError, match=str(index.place)):
        VideoIndex(folder).update(checkpoint)
    assert not VideoIndex(folder).update(checkpoint).new


def test_contact_sheet(folder):
    hits = [
        Moment("long.mp4", 2.0, 4.0, 0.9, [2.5, 3.0, 3.5]),
        Moment("more/yellow_moon_shaking.mp4", 0.0, 2.0, 0.25, [0.5, 1.0, 1.5]),
    ]
    figure = draw_contact_sheet(hits, folder, "pink square")
    texts = [text.get_text() for text in figure.texts]
    assert texts[0] == "pink square" and "long.mp4" in texts and "2.0 – 4.0 s" in texts and "0.25" in texts
    [long_name] = [text for text in texts if "yellow" in text or text.startswith("…")]
    assert long_name.startswith("…") and "more/yellow_moon_shaking.mp4".endswith(long_name[1:])
    assert len(long_name) > 10
    pink, yellow = (axes.images[0].get_array().reshape(-1, 3).astype(int) for axes in figure.axes)
    assert ((pink - [242, 89, 204]) ** 2).sum(1).min() < 2000 < ((yellow - [242, 89, 204]) ** 2).sum(1).min()
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_contact_sheet([], folder)


def test_commands(folder, tmp_path, capsys):
    model = ["--model", str(DEMO / "checkpoint")]
    assert main(["index", str(folder), *model, "--window", "2"]) == 1  # one file is broken
    printed = capsys.readouterr()
    assert printed.out == "4 new, 0 unchanged, 1 failed, 5 windows\n" and "broken.mp4" in printed.err
    sheet = tmp_path / "hits.png"
    search = ["search", TEXT, "--folder", str(folder), "--top-k", "2"]
    assert main([*search, "--contact-sheet", str(sheet), "--format", "json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert [hit["path"] for hit in hits] == ["red_star_moving_left.mp4", "red_star_turning.mp4"]
    assert hits[0]["times"][0] == 0.125 and sheet.read_bytes().startswith(b"\x89PNG")
    assert main([*search]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("  0:00:00.0  0:00:02.0  red_star_moving_left.mp4")
    assert main(["search", "--video", str(SAMPLES[0]), "--folder", str(folder), "--top-k", "1"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_number_types_are_kept_apart(checkpoint, folder, capsys):
    """An index says in which type its vectors were made; search and later runs use that type."""
    model = ["--model", str(DEMO / "checkpoint")]
    command = ["index", str(folder), *model, "--window", "2"]
    assert main([*command, "--dtype", "bfloat16"]) == 1
    assert "s in bfloat16 on " in capsys.readouterr().err
    index = VideoIndex(folder)
    assert index.about["dtype"] == "bfloat16"
    half = load_checkpoint(DEMO / "checkpoint", dtype=torch.bfloat16)
    rows = {file.path: file.content for file in index.files()}
    table, vectors = index.vectors()
    row = table["content"].to_pylist().index(rows["red_star_turning.mp4"])
    by_hand = vector_by_hand(checkpoint, folder / "red_star_turning.mp4")
    assert 0.99 < vectors[row] @ by_hand < 1 - 1e-6
    assert np.linalg.norm(vectors[row]) == pytest.approx(1, abs=1e-5)
    with pytest.raises(VideoIndexError, match="made with `dtype` bfloat16, not float32"):
        index.update(checkpoint)
    assert main([*command, "--dtype", "float32"]) == 2
    assert "made with --dtype bfloat16, not float32" in capsys.readouterr().err
    assert main(command) == 1  # as before
    assert capsys.readouterr().out == "0 new, 5 unchanged, 1 failed\n"
    assert main(["search", TEXT, "--folder", str(folder), "--top-k", "1", "--format", "json"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)
    assert hit["cosine"] == pytest.approx(index.search(index.embed_text(half, TEXT), 1)[0].cosine, abs=1e-6)


def test_an_index_that_does_not_say_its_number_type(checkpoint, folder, capsys):
    """As all were before 2026-11-26: the checkpoint's own."""
    index = VideoIndex(folder)
    index.update(checkpoint, window=2)
    about = {name: value for name, value in index.about.items() if name != "dtype"}
    (index.place / "index.json").write_text(json.dumps(about))
    assert main(["index", str(folder), "--model", str(DEMO / "checkpoint")]) == 1
    assert "0 new" in capsys.readouterr().out
    assert main(["search", TEXT, "--folder", str(folder), "--top-k", "1"]) == 0
    assert "red_star_moving_left" in capsys.readouterr().out
    half = load_checkpoint(DEMO / "checkpoint", dtype=torch.bfloat16)
    with pytest.raises(VideoIndexError, match="made with another model"):
        index.update(half)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "no/such", "--model", "{model}"], "no/such: no such folder"),
        (["index", "{folder}", "--model", "{model}", "--window", "1", "--stride", "2"], "--stride must be above 0"),
        (["search", "x", "--folder", "{folder}"], "there is no index"),
        (["search", "--folder", "{folder}"], "give either TEXT or --video"),
        (["search", "x", "--folder", "{folder}", "--contact-sheet", "hits.doc"], "--contact-sheet hits.doc: the name"),
    ],
)
def test_commands_with_bad_input(tmp_path, capsys, arguments, message):
    values = {"folder": str(tmp_path), "model": str(DEMO / "checkpoint")}
    assert main([argument.format(**values) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.slow
def test_recall_on_the_generated_world(checkpoint, tmp_path):
    """Sixty videos, one of each held-out scene; the index finds what arithmetic over all pairs finds."""
    scenes = all_scenes(held_out=True)
    for scene, frames in zip(scenes, draw_videos(scenes, torch.Generator().manual_seed(7)), strict=True):
        write_video(tmp_path / f"{scene.label}.mp4", frames.numpy())
    index = VideoIndex(tmp_path)
    index.update(checkpoint, window=2)
    vectors = np.stack([vector_by_hand(checkpoint, tmp_path / f"{scene.label}.mp4") for scene in scenes])
    found, expected = [], []
    for n, scene in enumerate(scenes):
        query = index.embed_text(checkpoint, scene.label)
        found.append([hit.path for hit in index.search(query, 60)].index(f"{scene.label}.mp4"))
        cosines = vectors @ query
        expected.append(int((cosines > cosines[n]).sum()))
    assert found == expected
    assert np.mean(np.array(found) < 1) > 0.9 and np.mean(np.array(found) < 5) > 0.97
