"""The table of vectors: what is read, kept and found, against vectors and ranks by hand."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import lancedb
import numpy as np
import pyarrow as pa
import pytest
import torch
from stamped_video import write_stamped
from world import Scene, draw_videos

from vitaclip_hf import load_checkpoint
from vitaclip_hf.cli.main import main
from vitaclip_hf.data.folder_lock import FolderInUseError, folder_lock
from vitaclip_hf.data.video_writing import write_video
from vitaclip_hf.library import embedding
from vitaclip_hf.library import store as store_module
from vitaclip_hf.library.contact_sheet import draw_contact_sheet, middle_frame
from vitaclip_hf.library.embedding import embed_videos
from vitaclip_hf.library.store import Moment, VideoStore, read_embeddings
from vitaclip_hf.library.windows import read_clips
from vitaclip_hf.model.read_options import ReadOptions


DEMO = Path(__file__).parents[2] / "examples" / "demo"
SAMPLES = sorted(map(str, (DEMO / "videos").iterdir()))
TEXT = "taxi moving left"
BELL = "more/the_yellow_bell_shaking.mp4"
SETTINGS = {"model": "none", "fingerprint": "0" * 64, "dtype": "float32"}
MODEL = ["--model", str(DEMO / "checkpoint")]


@pytest.fixture(scope="session")
def films(world, tmp_path_factory) -> Path:
    """Three short videos, one of them in a subfolder, a long one of two scenes, and a broken file."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "more").mkdir(parents=True)
    shutil.copy(DEMO / "videos" / "taxi_moving_left.mp4", folder)
    shutil.copy(DEMO / "videos" / "bell_shaking.mp4", folder / BELL)
    scenes = [Scene("airplane", "right"), Scene("balloon", "growing"), Scene("taxi", "spinning")]
    frames = draw_videos(world, scenes, torch.Generator().manual_seed(4), size=112)
    write_video(folder / "long.mp4", frames[:2].flatten(0, 1).numpy())
    write_video(folder / "taxi_spinning.mp4", frames[2].numpy())
    (folder / "broken.mp4").write_bytes(b"no video at all")
    (folder / "notes.txt").write_text("no video, not looked at")
    return folder


@pytest.fixture
def folder(films, tmp_path) -> Path:
    return shutil.copytree(films, tmp_path / "it's")


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "vectors"


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the videos that are read."""
    names, original = [], embedding.read_clips

    def watched(reader, path, *rest):
        names.append(Path(path).name)
        return original(reader, path, *rest)

    monkeypatch.setattr(embedding, "read_clips", watched)
    return names


@torch.no_grad()
def vector_by_hand(checkpoint, path) -> np.ndarray:
    pixels = checkpoint.processor(videos=str(path), return_tensors="pt")["pixel_values_videos"]
    return torch.nn.functional.normalize(checkpoint.model.get_video_features(pixels).pooler_output)[0].numpy()


def test_a_folder_in_windows(checkpoint, folder, place):
    report = embed_videos(folder, place, checkpoint, window=2, stride=1, batch_size=3)
    assert report == {"new": 4, "failed": 1, "windows": 6}
    rows = {(row["video"], row["start"]): row for row in read_embeddings(place).to_pylist()}
    assert [*rows] == [
        *(("broken.mp4", 0), ("long.mp4", 0), ("long.mp4", 1), ("long.mp4", 2), (BELL, 0)),
        *(("taxi_moving_left.mp4", 0), ("taxi_spinning.mp4", 0)),
    ]
    broken = rows.pop(("broken.mp4", 0))
    assert "not supported" in broken["error"] and broken["vector"] is None
    assert all(row["error"] is None and row["end"] == row["start"] + 2 for row in rows.values())
    for name in ("taxi_spinning.mp4", BELL):
        np.testing.assert_allclose(rows[name, 0]["vector"], vector_by_hand(checkpoint, folder / name), atol=1e-5)


def test_whole_videos_and_labels(checkpoint, folder, place):
    labels, given = ["banana spinning", "bell shaking"], [*SAMPLES[:3], str(folder / "broken.mp4"), SAMPLES[0]]
    report = embed_videos(given, place, checkpoint, labels=labels, batch_size=2)
    assert report == {"new": 3, "failed": 1, "windows": 3}
    rows = {row["video"]: row for row in read_embeddings(place).to_pylist()}
    assert len(rows) == 4 and rows[given[3]]["label"] is None
    embeds = torch.from_numpy(np.stack([vector_by_hand(checkpoint, path) for path in SAMPLES[:3]]))
    with torch.no_grad():
        inputs = checkpoint.processor.tokenizer(labels, padding=True, return_tensors="pt")
        texts = torch.nn.functional.normalize(checkpoint.model.get_text_features(**inputs).pooler_output)
        scores = checkpoint.model.compare(embeds, texts).softmax(-1)
    for path, vector, expected in zip(SAMPLES[:3], embeds, scores, strict=True):
        np.testing.assert_allclose(rows[path]["vector"], vector, atol=1e-5)
        np.testing.assert_allclose(rows[path]["scores"], expected, atol=1e-4)
        assert rows[path]["label"] == labels[int(expected.argmax())]
        assert rows[path]["score"] == pytest.approx(float(expected.max()), abs=1e-4)
    report = embed_videos(SAMPLES[:5], place, checkpoint, max_seconds=60)  # labels as before
    assert report == {"new": 2, "unchanged": 3, "windows": 2} and read_embeddings(place)["label"].null_count == 1


def test_only_what_is_new_is_read(checkpoint, folder, place, read):
    embed_videos(folder, place, checkpoint, window=2)
    store, before = VideoStore(place), read_embeddings(place)
    read.clear()
    named: list[dict] = []
    assert embed_videos(folder, place, checkpoint, on_video=named.append) == {"unchanged": 4, "failed": 1} and not read
    assert [row["video"] for row in named] == ["broken.mp4"] and "broken.mp4" in named[0]["error"]
    assert read_embeddings(place) == before

    (folder / "long.mp4").rename(folder / "more" / "longer.mp4")
    (folder / "taxi_spinning.mp4").unlink()
    shutil.copy(folder / "taxi_moving_left.mp4", folder / "copy.mp4")
    os.utime(folder / BELL)
    report = embed_videos(folder, place, checkpoint)
    assert report == {"unchanged": 2, "moved": 2, "deleted": 1, "failed": 1} and not read
    rows = read_embeddings(place)
    names = ("broken.mp4", "copy.mp4", "more/longer.mp4", "more/longer.mp4", BELL)
    assert rows["video"].to_pylist() == [*names, "taxi_moving_left.mp4"]
    assert rows["vector"][2:4].to_pylist() == before["vector"][1:3].to_pylist()
    hits = store.search(store.embed_text(checkpoint, TEXT), 10)
    assert [hit.path for hit in hits[:2]] == ["copy.mp4", "taxi_moving_left.mp4"]
    assert embed_videos(folder, place, checkpoint) == {"unchanged": 4, "failed": 1}

    shutil.copy(SAMPLES[0], folder / "copy.mp4")  # changed
    report = embed_videos(folder, place, checkpoint)
    assert report == {"new": 1, "unchanged": 3, "failed": 1, "windows": 1} and read == ["copy.mp4"]
    for sample in SAMPLES[2:4]:  # the second has the size of the first
        (folder / "copy.mp4").write_bytes(Path(sample).read_bytes().ljust(1 << 20, b"\0"))
        assert embed_videos(folder, place, checkpoint)["new"] == 1
    assert embed_videos(folder, place, checkpoint, retry=True) == {"unchanged": 4, "failed": 1}
    shutil.copy(SAMPLES[1], folder / "broken.mp4")  # mended
    assert embed_videos(folder, place, checkpoint) == {"new": 1, "unchanged": 4, "windows": 1}
    assert read_embeddings(place)["error"].null_count == 6


def test_a_file_that_breaks_midway_leaves_no_vectors(checkpoint, folder, place, damaged):
    (folder / "long.mp4").write_bytes(damaged)
    report = embed_videos(folder, place, checkpoint, window=0.5, batch_size=2)
    assert report["failed"] == 2 and report["new"] == 3
    rows = read_embeddings(place).to_pylist()
    assert [row["vector"] for row in rows if row["video"] == "long.mp4"] == [None]


def test_an_index_without_videos_says_so(tmp_path, capsys):
    assert main(["index", str(tmp_path), *MODEL]) == 0 and main(["search", "taxi", "--folder", str(tmp_path)]) == 0
    assert "no video in this index\n" in capsys.readouterr().err
    shutil.copy(SAMPLES[0], tmp_path)
    assert main(["index", str(tmp_path), *MODEL]) == 0
    assert capsys.readouterr().out == "1 new, 0 unchanged, 1 window\n"


def test_an_interruption_between_two_writings_leaves_no_rows_twice(checkpoint, place, monkeypatch):
    monkeypatch.setattr(embedding, "SAVED_EVERY", 1)
    write = VideoStore.write

    def interrupted(store, rows, *more):
        write(store, rows, *more)
        if rows:
            raise KeyboardInterrupt

    monkeypatch.setattr(VideoStore, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed_videos(SAMPLES[:3], place, checkpoint)
    monkeypatch.setattr(VideoStore, "write", write)
    embed_videos(SAMPLES[:3], place, checkpoint)
    assert sorted(read_embeddings(place)["video"].to_pylist()) == sorted(SAMPLES[:3])


@pytest.mark.parametrize("command", ["index", "search taxi --folder", "demo --folder"])
def test_commands_load_the_revision_that_the_table_names(checkpoint, folder, monkeypatch, command):
    own, asked = replace(checkpoint, revision="0123abc"), []
    embed_videos(folder, folder / ".vitaclip-index", own, window=2)
    module = importlib.import_module(f"vitaclip_hf.cli.{command.split()[0].replace('index', 'embed')}")
    monkeypatch.setattr("vitaclip_hf.examples.app", SimpleNamespace(run=lambda *_: None), raising=False)
    monkeypatch.setattr(module, "loaded_checkpoint", lambda *_, **given: asked.append(given["revision"]) or own)
    assert main([*command.split(), str(folder)]) in (0, 1) and asked == ["0123abc"]


def test_another_model_is_refused(checkpoint, folder, place):
    embed_videos(folder, place, checkpoint, window=2)
    other, reading = load_checkpoint(DEMO / "checkpoint"), load_checkpoint(DEMO / "checkpoint")
    with torch.no_grad():
        other.model.visual_projection.weight[0, 0] += 1e-3
    reading.processor.video_processor.num_frames = 4
    half = load_checkpoint(DEMO / "checkpoint", dtype=torch.bfloat16)
    for model in (other, reading, half):
        with pytest.raises(ValueError, match="another model"):
            embed_videos(folder, place, model)
        with pytest.raises(ValueError, match="another model"):
            VideoStore(place).embed_text(model, TEXT)
    same = load_checkpoint(DEMO / "checkpoint")
    same.processor.video_processor.max_seconds = 60  # how files are opened changes no vector
    VideoStore(place).check_model(same)
    for name, value in {"window": 3, "stride": 1, "labels": ["a", "b"], "templates": "a {}"}.items():
        with pytest.raises(ValueError, match=f"`{name}`"):
            embed_videos(folder, place, checkpoint, **{name: value})
    for name, value in {"engine": "x", "batch_size": 0, "stride": 1, "labels": ["a", "a"]}.items():
        with pytest.raises(ValueError, match=f"`{name}`"):
            embed_videos([], place / "new", checkpoint, **{name: value})
    assert not (place / "new").exists()


def test_search_is_exact_and_takes_the_best_of_each_video(checkpoint, folder, place, monkeypatch):
    embed_videos(folder, place, checkpoint, window=1, stride=0.5)
    store = VideoStore(place)
    query = store.embed_text(checkpoint, "balloon growing")
    best: dict[str, tuple[float, float]] = {}
    for row in read_embeddings(place).to_pylist():
        if row["vector"]:
            cosine = sum(a * float(b) for a, b in zip(row["vector"], query, strict=True))
            best[row["video"]] = max(best.get(row["video"], (-2.0, 0.0)), (cosine, row["start"]))
    expected = sorted(best, key=lambda path: -best[path][0])
    hits = store.search(query, 10)
    assert [hit.path for hit in hits] == expected
    assert [(hit.cosine, hit.start) for hit in hits] == [pytest.approx(best[path], abs=1e-5) for path in expected]
    assert hits[0].path == "long.mp4" and hits[0].start >= 2 and store.search(query, 2) == hits[:2]
    several = [hit for hit in store.search(query, 50, per_video=3) if hit.path == "long.mp4"]
    assert len(several) == 3
    assert all(a.end <= b.start or b.end <= a.start for n, a in enumerate(several) for b in several[:n])
    vectors = [row["vector"] for row in read_embeddings(place).to_pylist() if row["video"] == "long.mp4"]
    mean = np.mean(vectors, axis=0)  # a video is looked for in the windows of the table
    found = store.embed_video(checkpoint, folder / "long.mp4")
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)
    [hit] = store.search(store.embed_video(checkpoint, SAMPLES[0]), 1)
    assert hit.path == "long.mp4" and hit.start < 2
    monkeypatch.setattr(store_module, "FEW_WINDOWS", 0)
    assert [hit.path for hit in store.search(query, 4, approximate=True)] == expected and store.table.list_indices()


@pytest.mark.parametrize("name", ["video", "start"])
def test_rows_that_lack_a_value_are_damaged(place, name):
    store = VideoStore(place)
    store.create(SETTINGS | {"width": 2})
    row = {"video": "a", "start": 0.0, "end": 1.0, "vector": [0.6, 0.8]} | {name: None}
    store.table.add(pa.Table.from_pylist([row], store.table.schema))
    with pytest.raises(ValueError, match="damaged .* missing"):
        store.search(np.array([1.0, 0.0]))


def test_many_windows_of_one_video_hide_no_other(place):
    store, vector = VideoStore(place), np.eye(4, dtype=np.float32)
    store.create(SETTINGS | {"width": 4})
    rows = [{"video": "film", "start": n, "end": n + 1, "vector": vector[0]} for n in range(900)]
    store.write([*rows, {"video": "other", "start": 0, "end": 1, "vector": vector[1]}])
    assert [hit.path for hit in store.search(vector[0], 2)] == ["film", "other"]


@pytest.mark.parametrize("place", ["memory://", "file://{}/vectors"])
def test_object_storage(checkpoint, tmp_path, place):
    store = VideoStore(place.format(tmp_path))
    assert store.settings is None
    store.create(SETTINGS | {"width": 2, "window": None})
    row = {"video": "a'\\b", "start": 0.0, "end": 1.0, "vector": [1.0, 0.0]}
    store.write([row])
    store.write([row | {"vector": [0.0, 1.0]}], known={"a'\\b"})
    assert store.search(np.array([0.0, 1.0])) == [Moment("a'\\b", 0.0, 1.0, 1.0)] and store.settings["width"] == 2
    assert len(store.rows()) == 1 and store.table.version == 3
    store.write([], deleted={"a'\\b"})
    assert not store.search(np.array([0.0, 1.0]))


def test_vectors_that_are_no_numbers_are_errors(checkpoint, place):
    damaged = load_checkpoint(DEMO / "checkpoint")
    damaged.model.visual_projection.weight.data.fill_(float("nan"))
    assert embed_videos(SAMPLES[:1], place, damaged)["failed"] == 1
    (row,) = read_embeddings(place).to_pylist()
    assert "NaN or infinite" in row["error"] and row["vector"] is None
    store = VideoStore(place)
    with pytest.raises(ValueError, match="damaged"):
        store.write([{"video": "a", "vector": [float("inf")] * store.settings["width"]}])
    for query in ([np.nan] * store.settings["width"], [1.0]):
        with pytest.raises(ValueError, match="`query` must be"):
            store.search(np.array(query))


def test_a_video_that_changes_while_it_is_read_is_read_again(checkpoint, tmp_path, place, monkeypatch):
    """Its hash is that of the new content, the vectors are of the old one: they must not stay together."""
    (tmp_path / "films").mkdir()
    film = tmp_path / "films" / "film.mp4"
    first, second = (Path(sample).read_bytes().ljust(1 << 20, b"\0") for sample in SAMPLES[:2])  # of one size
    film.write_bytes(first)

    def replaced(*arguments):
        yield from read_clips(*arguments)
        film.write_bytes(second)

    monkeypatch.setattr("vitaclip_hf.library.embedding.read_clips", replaced)
    assert embed_videos(tmp_path / "films", place, checkpoint)["failed"] == 1
    monkeypatch.undo()
    assert embed_videos(tmp_path / "films", place, checkpoint)["new"] == 1
    embed_videos(SAMPLES[1:2], tmp_path / "other", checkpoint)
    (row,), (expected,) = (read_embeddings(where).to_pylist() for where in (place, tmp_path / "other"))
    assert np.allclose(row["vector"], expected["vector"], atol=1e-6)


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e30, 0.605])
def test_a_damaged_vector_is_never_a_score(place, value):
    store = VideoStore(place)
    store.create(SETTINGS | {"width": 2})
    store.table.add(
        pa.Table.from_pylist([{"video": "a", "start": 0, "end": 1, "vector": [0.6, 0.8]}], store.table.schema)
    )
    (file,) = place.glob("*/data/*.lance")
    data = file.read_bytes()
    file.write_bytes(data.replace(np.float32(0.6).tobytes(), np.float32(value).tobytes()))
    if np.isnan(value):
        assert VideoStore(place).search(np.array([1.0, 0.0])) == []  # the database leaves it out
    else:
        with pytest.raises(ValueError, match="damaged"):
            VideoStore(place).search(np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="damaged"):
        read_embeddings(place)


def test_a_table_of_others_is_refused(place):
    lancedb.connect(place).create_table("videos", [{"vector": [0.0]}])
    with pytest.raises(ValueError, match=f"{place}: the settings of the vectors are damaged"):
        _ = VideoStore(place).settings


@pytest.mark.parametrize("part", ["data/*.lance", "_versions/*.manifest"])
def test_damaged_tables(checkpoint, folder, place, part, refused):
    embed_videos(folder, place, checkpoint, window=2)
    for file in place.glob(f"videos.lance/{part}"):
        file.write_bytes(file.read_bytes()[:60])
    assert f"{place}: the vectors cannot be read" in refused("search", TEXT, "--index", place, *MODEL)
    file.unlink()
    os.mkfifo(file)  # would be waited for
    assert f"{place}: a pipe" in refused("search", TEXT, "--index", place, *MODEL)


def test_one_run_at_a_time_and_what_an_interrupted_one_read_is_kept(checkpoint, place, monkeypatch):
    def stop(row):
        if row["video"] == SAMPLES[2]:
            assert len(read_embeddings(place)) == 2  # saved on the way
            raise KeyboardInterrupt

    monkeypatch.setattr(embedding, "SAVED_EVERY", 1)

    with folder_lock(place, "embedding"), pytest.raises(FolderInUseError):
        embed_videos(SAMPLES[:6], place, checkpoint)
    with pytest.raises(KeyboardInterrupt):
        embed_videos(SAMPLES[:6], place, checkpoint, batch_size=1, on_video=stop)
    assert len(read_embeddings(place)) == 3
    assert embed_videos(SAMPLES[:6], place, checkpoint) == {"new": 3, "unchanged": 3, "windows": 3}


def copies(folder: Path, number: int) -> list[str]:
    """Videos of different contents, and one that is none."""
    folder.mkdir()
    for n in range(number):
        (folder / f"{n:04d}.mp4").write_bytes(Path(SAMPLES[n % len(SAMPLES)]).read_bytes() + bytes(n))
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return sorted(map(str, folder.iterdir()))


def ray_actors(driver: int) -> list[int]:
    psutil = pytest.importorskip("psutil")
    try:
        children = psutil.Process(driver).children(recursive=True)
        return [child.pid for child in children if "_Embedder" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "number"), [("actors", 120), ("driver", 700)])
def test_ray_with_killed_processes(checkpoint, tmp_path, place, victim, number):
    """They are killed while they work; the rows are those of the local engine."""
    pytest.importorskip("ray")
    paths = copies(tmp_path / "videos", number)
    arguments = ["embed", str(tmp_path / "videos"), *MODEL, "--output", str(place), "--engine", "ray"]
    arguments += ["--batch-size", "2"]
    run = subprocess.Popen([sys.executable, "-m", "vitaclip_hf.cli", *arguments], start_new_session=True)
    killed, end = 0, time.monotonic() + 240
    while run.poll() is None and time.monotonic() < end and killed < 2:
        writes = victim == "driver" and bool(list(place.glob("*/data/*")))
        pids = [run.pid] * 2 * writes if victim == "driver" else ray_actors(run.pid)[:1]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(0.05 if victim == "driver" else 2)
    code = run.wait(400)
    assert killed
    if victim == "driver":
        assert 0 <= len(read_embeddings(place)) < len(paths)
        code = main(arguments)
    assert code == 1 and read_embeddings(place)["video"].to_pylist() == paths
    embed_videos(paths, tmp_path / "local", checkpoint)
    pairs = zip(*(read_embeddings(folder).to_pylist() for folder in (place, tmp_path / "local")), strict=True)
    for row, expected in pairs:
        assert row["error"] == expected["error"]
        if row["error"] is None:
            np.testing.assert_allclose(row["vector"], expected["vector"], atol=1e-5)


def test_contact_sheet(folder):
    hits = [Moment("long.mp4", 2.0, 4.0, 0.9), Moment(BELL, 0.0, 2.0, 0.25)]
    [axes] = draw_contact_sheet(hits, folder, "balloon").axes
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "balloon" and "long.mp4" in texts and "2.0 – 4.0 s" in texts and "0.25" in texts
    [long_name] = [text for text in texts if "yellow" in text or text.startswith("…")]
    assert len(long_name) > 10 and long_name.startswith("…") and BELL.endswith(long_name[1:])
    balloon, bell = (image.get_array().reshape(-1, 3).astype(int) for image in axes.images)
    assert ((balloon - [237, 76, 92]) ** 2).sum(1).min() < 2000 < ((bell - [237, 76, 92]) ** 2).sum(1).min()
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_contact_sheet([], folder)
    write_stamped(folder / "late.mkv", range(500, 800, 10), audio_from=0)  # frame n is as light as n; 0 is shown at 5 s
    assert middle_frame(folder, Moment("late.mkv", 6, 7, 1.0)).mean() == pytest.approx(15, abs=2)
    write_stamped(folder / "uneven.mkv", [*range(0, 2000, 100), *range(2000, 2100, 2)])  # one a second, then fifty
    found = middle_frame(folder, Moment("uneven.mkv", 15, 16, 1.0), ReadOptions(max_seconds=60))
    assert found.mean() == pytest.approx(15, abs=2)


def test_commands(folder, tmp_path, place, damaged, capsys):
    assert main(["index", str(folder), *MODEL, "--window", "0"]) == 2
    assert main(["index", str(folder), *MODEL, "--window", "2"]) == 1  # one file is broken
    printed = capsys.readouterr()
    assert printed.out == "4 new, 0 unchanged, 1 failed, 5 windows\n" and "broken.mp4" in printed.err
    assert main(["index", str(folder)]) == 1  # the model of the table
    assert capsys.readouterr().out == "0 new, 4 unchanged, 1 failed\n"
    sheet, page = tmp_path / "hits.png", tmp_path / "hits.html"
    search = ["search", TEXT, "--folder", str(folder), "--top-k", "2"]
    assert main([*search, "--contact-sheet", str(sheet), "--page", str(page), "--format", "json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert [hit["path"] for hit in hits] == ["taxi_moving_left.mp4", "taxi_spinning.mp4"]
    assert sheet.read_bytes().startswith(b"\x89PNG")
    links = re.findall('href="(.*?)#t=0.000,2.000"', page.read_text())
    assert [(tmp_path / unquote(link)).resolve().name for link in links] == [hit["path"] for hit in hits]
    assert main(search) == 0
    lines = capsys.readouterr().out
    assert lines.splitlines()[0].endswith("  00:00:00.0  00:00:02.0  taxi_moving_left.mp4")
    assert main(["search", "taxi", "--template", "{} moving left", *search[2:]]) == 0
    assert capsys.readouterr().out == lines
    (folder / "taxi_moving_left.mp4").rename(tmp_path / "gone.mp4")  # the other one is drawn and linked all the same
    assert main([*search, "--contact-sheet", str(tmp_path / "one.png"), "--page", str(tmp_path / "one.html")]) == 0
    assert "files that are gone: 1;" in capsys.readouterr().err and (tmp_path / "one.png").exists()
    assert len(re.findall("#t=0.000,2.000", (tmp_path / "one.html").read_text())) == len(links) // 2
    assert main(["embed", *SAMPLES, *MODEL, "--output", str(place)]) == 0
    assert capsys.readouterr().out == "10 new, 0 unchanged, 10 windows\n"
    labelled = ["--labels", "taxi,bell", "--template", "a {}", "--output", f"{place}-labelled"]
    assert main(["embed", SAMPLES[0], *MODEL, *labelled]) == 0
    assert VideoStore(f"{place}-labelled").settings["templates"] == ["a {}"]
    capsys.readouterr()
    assert main(["search", "--video", SAMPLES[0], "--index", str(place), "--top-k", "1", "--format", "json"]) == 0
    [hit] = json.loads(capsys.readouterr().out)
    assert hit["path"] == SAMPLES[0] and hit["cosine"] == pytest.approx(1, abs=1e-5)
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    search = ["search", "--video", str(tmp_path / "damaged.mp4"), "--index", str(place)]
    assert main(search) != 0 and main([*search, "--on-damage", "skip"]) == 0


def test_the_number_type_is_that_of_the_table(folder, capsys):
    command = ["index", str(folder), *MODEL, "--window", "2"]
    assert main([*command, "--dtype", "bfloat16"]) == 1
    store = VideoStore(folder / ".vitaclip-index")
    assert store.settings["dtype"] == "bfloat16" and main(command) == 1 and main([*command, "--dtype", "float32"]) == 2
    assert "bfloat16, not with" in capsys.readouterr().err
    assert main(["search", TEXT, "--folder", str(folder), "--top-k", "1", "--format", "json"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)
    half = load_checkpoint(DEMO / "checkpoint", dtype=torch.bfloat16)
    assert hit["cosine"] == pytest.approx(store.search(store.embed_text(half, TEXT), 1)[0].cosine, abs=1e-6)
    for name in ("float32", "bfloat16"):
        assert main(["embed", SAMPLES[0], *MODEL, "--dtype", name, "--output", str(folder / name)]) == 0
        assert VideoStore(folder / name).settings["dtype"] == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "no/such", *MODEL], "no/such is not a folder"),
        (["demo", "--folder", "no/such"], "no/such is not a folder"),
        (["index", "{folder}", *MODEL, "--window", "1", "--stride", "2"], "--stride must be above 0"),
        (["embed", "no.mp4", *MODEL, "--output", "{folder}/x"], "no.mp4"),
        (["embed", SAMPLES[0], *MODEL, "--output", "{folder}/x", "--stride", "1"], "--stride"),
        (["embed", "x", *MODEL, "--output", "{folder}/x", "--engine", "ray", "--device", "cuda:1"], "--device is for"),
        (["embed", SAMPLES[0], *MODEL, "--output", "{folder}/x", "--num-model-actors", "2"], "is for the --engine ray"),
        (["search", " ", "--folder", "{folder}"], "give either TEXT or --video"),
        (["search", "--video", "x", "--template", "a {{}}", "--folder", "{folder}"], "--template is for TEXT"),
        (["search", "x", "--index", "{folder}/old"], "no index of this version"),
        (["search", "x", "--index", "nothing://x"], "nothing"),
    ],
)
def test_what_is_refused(folder, refused, arguments, message):
    (folder / "old").mkdir()
    (folder / "old" / "index.json").write_text("{}")
    assert message in refused(*(argument.format(folder=folder) for argument in arguments))
    assert not (folder / ".vitaclip-index").exists() and not (folder / "x").exists()
