"""Vectors in Parquet: one row a video, against vectors by hand; what is done again, what is refused, what is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from vitaclip_hf import load_checkpoint
from vitaclip_hf.cli.main import main
from vitaclip_hf.data.folder_lock import FolderLock


pytest.importorskip("pyarrow")

from vitaclip_hf.library import embedding  # noqa: E402
from vitaclip_hf.library.embedding import EmbeddingError, embed_videos, read_embeddings  # noqa: E402


DEMO = Path(__file__).parents[2] / "examples" / "demo"
SAMPLES = sorted(map(str, (DEMO / "videos").iterdir()))


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(DEMO / "checkpoint")


@torch.no_grad()
def vector_by_hand(checkpoint, path: str) -> np.ndarray:
    pixels = checkpoint.processor(videos=path, return_tensors="pt")["pixel_values_videos"]
    return torch.nn.functional.normalize(checkpoint.model.get_video_features(pixels).pooler_output)[0].numpy()


@pytest.fixture
def broken(tmp_path) -> str:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    return str(tmp_path / "broken.mp4")


def test_one_row_a_video(checkpoint, tmp_path, broken):
    labels = ["red star turning", "yellow moon shaking"]
    given = [*SAMPLES[:3], broken, SAMPLES[0]]
    report = embed_videos(given, tmp_path / "out", checkpoint, labels=labels, batch_size=2, save_every=2)
    assert vars(report) == {"new": 4, "unchanged": 0, "failed": 1}
    table = read_embeddings(tmp_path / "out")
    assert table.schema.metadata[b"fingerprint"]
    rows = {row["video"]: row for row in table.to_pylist()}
    assert len(table) == 4 and len(list((tmp_path / "out").glob("part-*.parquet"))) == 2
    assert "not supported" in rows[broken]["error"] and rows[broken]["vector"] is None
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


def test_windows_are_a_list(checkpoint, tmp_path):
    embed_videos(SAMPLES[:1], tmp_path / "out", checkpoint, window=1, stride=0.5, batch_size=2)
    (row,) = read_embeddings(tmp_path / "out").to_pylist()
    assert row["starts"] == [0, 0.5, 1] and row["ends"] == [1, 1.5, 2]
    assert np.allclose(np.linalg.norm(row["vectors"], axis=1), 1, atol=1e-5)


def test_a_run_goes_on(checkpoint, tmp_path, broken, monkeypatch):
    out = tmp_path / "out"

    def stop(row):
        if row["video"] == SAMPLES[2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_videos([broken, *SAMPLES[:5]], out, checkpoint, batch_size=1, save_every=2, on_video=stop)
    (out / "part-x.parquet.new-1").write_bytes(b"half")
    done = len(read_embeddings(out))
    read = []
    original = embedding.read_clips
    monkeypatch.setattr(embedding, "read_clips", lambda video, **rest: read.append(video) or original(video, **rest))
    report = embed_videos([broken, *SAMPLES[:5]], out, checkpoint)
    assert 0 < done < 6 and vars(report) == {"new": 6 - done, "unchanged": done, "failed": 0}
    assert len(read) == 6 - done and not list(out.glob("*.new-*"))
    videos = read_embeddings(out)["video"].to_pylist()
    assert sorted(videos) == sorted({broken, *SAMPLES[:5]})
    shutil.copy(SAMPLES[0], broken)  # mended
    assert vars(embed_videos([broken], out, checkpoint, retry=True)) == {"new": 1, "unchanged": 5, "failed": 0}
    assert read_embeddings(out)["error"].null_count == 6


def test_what_is_refused(checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    embed_videos(SAMPLES[:1], out, checkpoint)
    with pytest.raises(EmbeddingError, match="another window and stride"):
        embed_videos(SAMPLES[:1], out, checkpoint, window=1)
    for name in ("engine", "batch_size", "workers", "num_model_actors"):
        with pytest.raises(ValueError, match=f"`{name}`"):
            embed_videos([], tmp_path / "new", checkpoint, **{name: 0})
    model = ["--model", str(DEMO / "checkpoint"), "--output", str(out)]
    for arguments, message in (
        (["no.mp4", *model], "no.mp4"),
        ([SAMPLES[0], *model, "--stride", "1"], "--stride"),
        ([SAMPLES[0], *model, "--labels", "a,b"], "another labels and templates"),
    ):
        assert main(["embed", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_a_second_run_is_refused(checkpoint, tmp_path):
    with FolderLock(tmp_path / "out", "embedding"), pytest.raises(OSError, match="out: another run"):
        embed_videos(SAMPLES[:1], tmp_path / "out", checkpoint)


def test_names_that_are_not_utf8_are_rows(checkpoint, tmp_path, broken):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.mp4")
    shutil.copy(SAMPLES[0], name)
    for new, unchanged in ((2, 0), (0, 2)):
        report = embed_videos([name, broken], tmp_path / "out", checkpoint)
        assert vars(report) == {"new": new, "unchanged": unchanged, "failed": min(new, 1)}
    rows = {row["video"]: row for row in read_embeddings(tmp_path / "out").to_pylist()}
    assert rows[f"{tmp_path}/a\\udcff.mp4"]["error"] is None and len(rows) == 2


@pytest.mark.parametrize("change", ["vectors", "scores"])
def test_vectors_that_are_no_numbers_are_errors(tmp_path, change):
    damaged = load_checkpoint(DEMO / "checkpoint")
    weight = damaged.model.visual_projection.weight if change == "vectors" else damaged.model.logit_scale
    weight.data.fill_(float("nan" if change == "vectors" else "inf"))
    assert embed_videos(SAMPLES[:1], tmp_path / "out", damaged, labels=["a", "b"]).failed == 1
    (row,) = read_embeddings(tmp_path / "out").to_pylist()
    assert "NaN or infinite" in row["error"] and row["vector"] is None and row["scores"] is None


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("embedding.json", b"[" * 100_000),
        ("embedding.json", b"[]"),
        ("embedding.json", b"\xff"),
        ("part", b""),
        ("part", b"PAR1 and no more"),
        ("part", {"other": [1]}),
        ("part", {"video": [1], "error": [None]}),
        ("part", {"video": [None], "error": ["x"]}),
    ],
    ids=str,
)
def test_damaged_folders(checkpoint, tmp_path, file, content):
    embed_videos(SAMPLES[:1], tmp_path, checkpoint)
    (path,) = tmp_path.glob(f"{file}*")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        embedding.pq.write_table(embedding.pa.table(content), path)
    with pytest.raises(EmbeddingError, match="is damaged"):
        embed_videos(SAMPLES[:1], tmp_path, checkpoint)


def test_a_flipped_bit_in_a_vector_is_found(checkpoint, tmp_path):
    embed_videos(SAMPLES[:1], tmp_path, checkpoint)
    (path,) = tmp_path.glob("part*")
    vector = read_embeddings(tmp_path)["vector"].to_pylist()[0]
    data = bytearray(path.read_bytes())
    data[data.find(np.float32(vector[:2]).tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        read_embeddings(tmp_path)


def test_a_full_disk_leaves_no_half_file(checkpoint, tmp_path, monkeypatch):
    embed_videos(SAMPLES[:1], tmp_path, checkpoint)

    def full(table, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedding, "_write_table", full)
    with pytest.raises(OSError, match="No space"):
        embed_videos(SAMPLES[:2], tmp_path, checkpoint)
    assert not list(tmp_path.glob("*.new-*"))
    monkeypatch.undo()
    assert vars(embed_videos(SAMPLES[:2], tmp_path, checkpoint)) == {"new": 1, "unchanged": 1, "failed": 0}


def test_parts_come_in_any_order_and_twice():
    def part(video, place, last, error=""):
        return {"video": video, "place": place, "last": last, "error": error, "vector": [place], "start": 0, "end": 1}

    parts = [part("a", 1, True), part("b", 0, False), part("a", 0, False), part("a", 0, False), part("c", 0, True, "x")]
    rows = {row["video"]: row for row in embedding._joined(parts, ["a", "b", "c"], None)}
    assert [vector[0] for vector in rows["a"]["vectors"]] == [0, 1]
    assert "was lost" in rows["b"]["error"] and rows["c"]["error"] == "x" and len(rows) == 3


COMMAND = [sys.executable, "-m", "vitaclip_hf.cli", "embed"]


def ray_workers(driver: int) -> list[int]:
    """Processes of Ray below a process of ours that read or compute."""
    psutil = pytest.importorskip("psutil")
    names = ("FlatMap", "MapWorker")
    try:
        children = psutil.Process(driver).children(recursive=True)
        return [child.pid for child in children if any(name in " ".join(child.cmdline()) for name in names)]
    except psutil.Error:
        return []


@pytest.mark.slow
def test_ray_with_killed_workers(checkpoint, tmp_path, broken):
    """Workers are killed while they work; the rows are those of the local engine."""
    pytest.importorskip("ray")
    (tmp_path / "videos").mkdir()
    for copy in range(12):
        for sample in SAMPLES:
            shutil.copy(sample, tmp_path / "videos" / f"{copy}-{Path(sample).name}")
    shutil.copy(broken, tmp_path / "videos")
    arguments = [str(tmp_path / "videos"), "--model", str(DEMO / "checkpoint"), "--engine", "ray"]
    arguments += ["--output", str(tmp_path / "ray"), "--batch-size", "2"]
    killed = 0
    run = subprocess.Popen([*COMMAND, *arguments], start_new_session=True)
    end = time.monotonic() + 240
    while run.poll() is None and time.monotonic() < end and killed < 2:
        for pid in ray_workers(run.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(2)
    assert run.wait(400) == 1 and killed > 0
    rows = read_embeddings(tmp_path / "ray")
    paths = sorted(map(str, (tmp_path / "videos").iterdir()))
    assert rows["video"].to_pylist() == paths
    embed_videos(paths, tmp_path / "local", checkpoint)
    for found, expected in zip(rows.to_pylist(), read_embeddings(tmp_path / "local").to_pylist(), strict=True):
        assert found["error"] == expected["error"]
        if found["error"] is None:
            np.testing.assert_allclose(found["vector"], expected["vector"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_killed_driver(tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    (tmp_path / "videos").mkdir()
    for copy in range(150):
        for sample in SAMPLES:
            shutil.copy(sample, tmp_path / "videos" / f"{copy}-{Path(sample).name}")
    out = tmp_path / "out"
    arguments = [str(tmp_path / "videos"), "--model", str(DEMO / "checkpoint"), "--output", str(out)]
    arguments += ["--engine", engine]
    run = subprocess.Popen([*COMMAND, *arguments])
    end = time.monotonic() + 240
    while run.poll() is None and not list(out.glob("part-*.parquet")) and time.monotonic() < end:
        time.sleep(0.05)
    run.kill()
    run.wait()
    total = 150 * len(SAMPLES)
    assert 0 < len(read_embeddings(out)) < total
    assert main(["embed", *arguments]) == 0
    videos = read_embeddings(out)["video"].to_pylist()
    assert len(videos) == len(set(videos)) == total
