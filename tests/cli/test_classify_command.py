"""`vitaclip classify`: which videos are found, what is written where, and what ends it."""

import csv
import io
import json
import os
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from drawn_clips import write
from tiny_models import tiny_model, tiny_processor
from transformers import AutoProcessor, pipeline
from typer.testing import CliRunner

from vitaclip_hf import ZeroShotVideoClassificationPipeline, fast_dtype
from vitaclip_hf.cli.inputs import find_videos, read_labels
from vitaclip_hf.cli.main import app


DEMO = Path(__file__).parents[2] / "examples" / "demo"
MODEL, VIDEOS, LABELS = DEMO / "checkpoint", DEMO / "videos", DEMO / "labels.txt"
VIDEO = VIDEOS / "taxi_moving_left.mp4"
SHOWN = [path.stem.replace("_", " ") for path in sorted(VIDEOS.glob("*.mp4"))]


def call(*arguments, model=MODEL):
    chosen = [] if model is None or "--model" in arguments else ["--model", str(model)]
    command = ["classify", *map(str, arguments), *chosen]
    return CliRunner().invoke(app, command)


def rows_of(result) -> list[dict]:
    return json.loads(result.stdout)


def scores_of(scores: list[dict]) -> dict[str, float]:
    return {row["label"]: row["score"] for row in scores}


# The demo


def test_demo_videos_are_named():
    result = call(VIDEOS, "--labels-file", LABELS, "--format", "json")
    assert result.exit_code == 0, result.stderr
    rows = rows_of(result)
    assert [row["scores"][0]["label"] for row in rows] == SHOWN
    assert len(rows) == 10 and "10 videos, 100 labels" in result.stderr


def test_scores_are_the_pipeline_s(tmp_path):
    labels, templates = ["taxi moving left", "a, b"], ["a video of {}", "{}."]
    options = [part for template in templates for part in ("--template", template)]
    file = VIDEOS / "banana_spinning.mp4"
    (tmp_path / "labels.txt").write_text("\n".join(labels) + "\n\n")
    options += ["--labels-file", tmp_path / "labels.txt", "--num-views", "3", "--dtype", "float32"]
    found = rows_of(call(file, *options, "--format", "json"))
    classifier = pipeline("zero-shot-video-classification", model=str(MODEL), device="cpu")
    expected = classifier(str(file), candidate_labels=labels, hypothesis_template=templates, num_views=3)
    assert scores_of(found[0]["scores"]) == pytest.approx(scores_of(expected), abs=1e-6)


def test_classes_of_the_checkpoint_without_labels():
    (row,) = rows_of(call(VIDEO, "--dtype", "float32", "--format", "json", "--top-k", "5"))
    expected = pipeline("video-classification", model=str(MODEL), device="cpu")(str(VIDEO), top_k=5)
    assert scores_of(row["scores"]) == pytest.approx(scores_of(expected), abs=1e-6)
    result = call(VIDEO, "--template", "a {}")
    assert result.exit_code == 2 and "--template is for given labels" in result.stderr


def test_views_are_those_of_the_checkpoint(tmp_path):
    """As in the pipeline and the server."""
    shutil.copytree(MODEL, tmp_path, dirs_exist_ok=True)
    processor = AutoProcessor.from_pretrained(MODEL)
    processor.video_processor.num_views = 3
    processor.save_pretrained(tmp_path)
    for chosen, frames in (([], 24), (["--num-views", 1], 8)):
        (row,) = rows_of(call(VIDEO, "--labels", "a,b", "--format", "json", *chosen, model=tmp_path))
        assert len(row["frames"]) == frames


def test_an_untrained_checkpoint_needs_labels(tokenizer, tmp_path):
    model = tiny_model()
    torch.nn.init.zeros_(model.vision_model.time_embedding.weight)  # as new prompts have it
    model.save_pretrained(tmp_path)
    tiny_processor(tokenizer).save_pretrained(tmp_path)
    result = call(VIDEO, model=tmp_path)
    assert result.exit_code == 2 and "--labels" in result.stderr
    result = call(VIDEO, "--labels", "a,b", model=tmp_path)
    assert result.exit_code == 0 and "prompts of this model are untrained" in result.stderr
    assert "untrained" not in call(VIDEO, "--labels", "a,b").stderr


# Videos


def test_folders_globs_and_files(tmp_path):
    for name in ("b/2.mp4", "b/deep/1.webm", "a.MP4", "b/a.txt", "odd[1].mp4", "o/d", "b/._2.mp4", "b/.trash/3.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()

    def names(*arguments) -> list[str]:
        found = find_videos([str(tmp_path / argument) for argument in arguments])
        return [os.path.relpath(name, tmp_path) for name, error in found.items() if not error]

    assert names("") == ["a.MP4", "b/2.mp4", "b/deep/1.webm", "odd[1].mp4"]
    assert names("b") == ["b/2.mp4", "b/deep/1.webm"] and names("*/*.mp4") == ["b/2.mp4"]
    assert names("**/*.[mw]*") == ["b/2.mp4", "b/deep/1.webm", "odd[1].mp4"]
    assert names("odd[1].mp4", "o/d") == ["odd[1].mp4", "o/d"]  # files as they are given, whatever their names
    assert names("b/2.mp4", "b", "b/2.mp4") == ["b/2.mp4", "b/deep/1.webm"]  # each once
    errors = find_videos([str(tmp_path / name) for name in ("b", "empty", "none", "n*")]).values()
    messages = ("no video file in this folder", "no such file", "no file matches")
    assert all(message in error for error, message in zip(filter(None, errors), messages, strict=True))
    assert find_videos(["http://host/a.mp4", "file:///a.mp4"]) == {"http://host/a.mp4": None, "file:///a.mp4": None}


def test_urls():
    handler = partial(SimpleHTTPRequestHandler, directory=VIDEOS)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{VIDEO.name}"
        result = call(url, f"{url}x", VIDEO, "--labels", "a,b", "--format", "json")
        server.shutdown()
    web, missing, local = rows_of(result)
    assert result.exit_code == 1 and web["video"] == url and web["scores"] == local["scores"]
    assert "404" in missing["error"]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_one_bad_file_does_not_end_the_list(tmp_path, batch_size):
    good = sorted(VIDEOS.glob("b*.mp4"))
    bad = tmp_path / "cut.mp4"
    bad.write_bytes(VIDEO.read_bytes()[:2000])
    given = [good[0], bad, tmp_path / "none.mp4", *good[1:]]
    result = call(*given, "--labels", ",".join(SHOWN), "--format", "jsonl", "--batch-size", batch_size)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1 and [row["video"] for row in rows] == list(map(str, given))
    assert ["error" in row for row in rows] == [False, True, True, False, False, False]
    for row in rows:
        if "error" in row:
            assert row["video"] in row["error"] and f"vitaclip classify: {row['error']}\n" in result.stderr
        else:
            assert row["scores"][0]["label"] == Path(row["video"]).stem.replace("_", " ")
    assert "2 of 6 videos could not be read" in result.stderr


@pytest.mark.parametrize("command", ["classify", "timeline", "index", "explain", "search"])
def test_the_whole_frames_of_a_damaged_video(tmp_path, command):
    (tmp_path / "videos").mkdir()
    cut = write(tmp_path / "videos" / "cut.mkv", g=12)
    cut.write_bytes(cut.read_bytes()[:-2000])
    given = [cut, "--label" if command == "explain" else "--labels", "a,b"]
    given += ["--output", tmp_path / "map.json"] * (command == "explain")
    if command == "search":
        call_index = ["index", cut.parent, "--model", MODEL, "--on-damage", "skip", "--window", "1"]
        assert CliRunner().invoke(app, list(map(str, call_index))).exit_code == 0
        given = ["--video", cut, "--folder", cut.parent, "--per-video", "2", "--clips", tmp_path / "clips"]
        given += ["--contact-sheet", tmp_path / "hits.png"]
    for damage, code in (("error", 2 if command in ("timeline", "search") else 1), ("skip", 0)):
        given = [cut.parent, "--index", tmp_path / damage] if command == "index" else given
        found = CliRunner().invoke(app, [command, *map(str, given), "--model", str(MODEL), "--on-damage", damage])
        assert found.exit_code == code and ("cut short" in found.stderr) == (code > 0)


# Results


def test_formats_hold_the_same_scores(tmp_path):
    given = (VIDEO, tmp_path / "none.mp4", "--labels", "taxi moving left,basketball bouncing")
    (row, missing) = rows_of(call(*given, "--format", "json"))
    lines = [json.loads(line) for line in call(*given, "--format", "jsonl").stdout.splitlines()]
    assert lines == [row, missing]
    table = list(csv.DictReader(io.StringIO(call(*given, "--format", "csv").stdout)))
    assert [line["label"] for line in table] == [*(score["label"] for score in row["scores"]), ""]
    assert [float(line["score"]) for line in table[:2]] == [score["score"] for score in row["scores"]]
    assert table[2]["video"] == str(tmp_path / "none.mp4") and table[2]["error"] == missing["error"]
    for ending in ("jsonl", "csv", "txt"):
        assert call(*given, "--output", tmp_path / f"scores.{ending}").stdout == ""
        chosen = {"txt": "table"}.get(ending, ending)
        assert (tmp_path / f"scores.{ending}").read_text() == call(*given, "--format", chosen).stdout
    text = call(*given).stdout.splitlines()
    assert text[0] == str(VIDEO) and "100.0%  taxi moving left" in text[1] and "no such file" in text[-2]


def test_results_are_written_as_they_come(tmp_path, monkeypatch):
    """A crash in the second batch keeps the first one's rows."""
    original = ZeroShotVideoClassificationPipeline.preprocess

    def preprocess(self, video, **settings):
        if "spinning" in str(video):
            raise RuntimeError("crash")
        return original(self, video, **settings)

    monkeypatch.setattr(ZeroShotVideoClassificationPipeline, "preprocess", preprocess)
    given = (VIDEO, VIDEOS / "banana_spinning.mp4", "--labels", "a,b", "--batch-size", "1")
    assert isinstance(call(*given, "--output", tmp_path / "x.jsonl").exception, RuntimeError)
    assert json.loads((tmp_path / "x.jsonl").read_text())["video"] == str(VIDEO)


def test_the_number_type_is_chosen_printed_and_stored():
    (auto,) = rows_of(result := call(VIDEO, "--labels", "a,b", "--format", "json"))
    name = str(fast_dtype()).removeprefix("torch.")
    assert auto["dtype"] == name and f"s in {name} on" in result.stderr and "1 video, 2 labels, " in result.stderr
    for name in ("float32", "bfloat16"):
        (row,) = rows_of(call(VIDEO, "--labels", "a,b", "--format", "json", "--dtype", name))
        assert row["dtype"] == name


# What ends it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.mp4", "--labels", "a", "--labels", "b"], "missing.mp4"),
        ([VIDEO, "--labels", "a,a"], "'a'"),
        ([VIDEO, "--labels", "a", "--template", "no place"], "--template"),
        ([VIDEO, "--labels", "a", "--model", "no/such/folder"], "no/such/folder"),
        ([VIDEO, "--labels", " , "], "--labels and --labels-file"),
        ([VIDEO, "--labels", "x " * 100], "shorten the label"),
        ([VIDEO, "--labels", "a", "--device", "cuda:99"], "--device cuda:99"),
        ([VIDEO, "--labels", "a", "--output", "video.mp4"], "--output video.mp4: pass --format"),
        ([VIDEO, "--labels", "a", "--output", "/no/such/folder/x.csv"], "/no/such/folder/x.csv"),
    ],
)
def test_bad_input_is_one_line(refused, arguments, message):
    error = refused("classify", *arguments, *([] if "--model" in arguments else ["--model", MODEL]))
    assert error.startswith("vitaclip classify: ") and message in error


def test_a_csv_file_of_classes_gives_its_names(tmp_path):
    (tmp_path / "classes.csv").write_text("name,id\ngreen,1\nblue bell,0\n")
    assert read_labels(None, tmp_path / "classes.csv") == ["blue bell", "green"]


def test_json_file_of_several_texts_for_a_label(tmp_path):
    texts = {"left": ["taxi moving left", "taxi going to the left"], "bouncing": "basketball bouncing"}
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    result = call(VIDEO, "--labels-file", tmp_path / "texts.json", "--format", "json")
    assert result.exit_code == 0 and rows_of(result)[0]["answer"] == "left"
    both = call(VIDEO, "--labels-file", tmp_path / "texts.json", "--labels", "a,b")
    assert both.exit_code == 2 and "exclude each other" in both.stderr
