"""The page of `vitaclip demo` without a browser."""

import asyncio
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import replace
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import pytest


gr = pytest.importorskip("gradio", minversion="6.31")
pytest.importorskip("pyarrow")

import app  # noqa: E402
from drawn_clips import write  # noqa: E402

from vitaclip_hf import load_checkpoint  # noqa: E402
from vitaclip_hf.model import decoding_process  # noqa: E402
from vitaclip_hf.model.decoding import PyAVVideo  # noqa: E402
from vitaclip_hf.server.limits import Limits  # noqa: E402


TAXI = "taxi_moving_left.mp4"
LABELS = "taxi moving left\ntaxi spinning, basketball bouncing"


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    return app.Door(load_checkpoint(app.DEMO / "checkpoint"), tmp_path_factory.mktemp("app"), Limits())


def test_an_answer_shows_label_scores_and_times_of_the_library(door):
    shown = door.classify(door.samples[TAXI], LABELS, 0, -1)
    labels = ["taxi moving left", "taxi spinning", "basketball bouncing"]
    answer = door.checkpoint.classifier()(door.samples[TAXI], candidate_labels=labels, return_details=True)
    assert f"<h2>{answer['answer']}</h2>" in shown
    assert re.findall(r"cosine (-?\d\.\d\d)", shown) == [f"{row['cosine']:.2f}" for row in answer["scores"]]
    assert shown.count("<figure>") == len(answer["frames"])
    assert f"<figcaption>{answer['times'][0]:.1f} s<" in shown


def test_the_timeline_has_times_to_click_and_search_finds_the_rocket(door):
    shown = door.timeline(door.samples[app.LONG_SAMPLE], (app.DEMO / "labels.txt").read_text(), 2, 0.3)
    times = [float(time) for time in re.findall(r'data-time="([\d.]+)"', shown)]
    assert len(times) > 8 and max(times) > 10
    hits = re.findall(r'data-video="([^"]+)"', door.search("a rocket rising"))
    assert hits[0] == app.START and len(hits) == app.SHOWN_HITS


def test_labels_and_limits(door, monkeypatch):
    for text, found in (("", "one label"), (" ,\n", "one label"), ("http://127.0.0.1/a.mp4", "URLs are not read")):
        assert found in door.classify(door.samples[TAXI], text, 0, -1)
    monkeypatch.setattr(door, "limits", replace(door.limits, labels=2, label_length=5))
    assert "the limit is 2" in door.classify(door.samples[TAXI], "a,b,c", 0, -1)
    assert "the limit is 5" in door.classify(door.samples[TAXI], "longer", 0, -1)
    assert "URLs are not read" in door.search("http://127.0.0.1/")


def test_files_that_cannot_be_used(door, tmp_path, monkeypatch):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video" * 100)
    shown = door.classify(str(bad), LABELS, 0, -1)
    assert 'role="alert"' in shown and "bad.mp4" in shown and str(tmp_path) not in shown
    assert "Choose a video" in door.classify(None, LABELS, 0, -1)
    uploaded = shutil.copy(door.samples[TAXI], str(tmp_path / "mine.mp4"))
    monkeypatch.setattr(app, "MOST_SECONDS", 1)
    assert "the limit is 1 s" in door.classify(uploaded, LABELS, 0, -1)
    monkeypatch.setattr(door, "limits", replace(door.limits, upload_bytes=10))
    assert "the limit is 10" in door.classify(uploaded, LABELS, 0, -1)


def test_a_class_of_the_model_is_one_label(door, monkeypatch):
    """Something-Something's have commas, and are there at the start."""
    monkeypatch.setattr(door, "classes", ("lifting it, then dropping it", "lifting it"))
    assert door.labels("lifting it, then dropping it\na, b") == ["lifting it, then dropping it", "a", "b"]


def test_a_timeline_up_to_damage_and_to_a_decoder_that_hangs(door, tmp_path, monkeypatch):
    whole = Path(door.samples[app.LONG_SAMPLE]).read_bytes()
    place = whole.index(b"mdat") + int(0.6 * (len(whole) - whole.index(b"mdat")))
    (tmp_path / "bad.mp4").write_bytes(whole[:place] + b"\xff" * 1500 + whole[place + 1500 :])
    labels = (app.DEMO / "labels.txt").read_text()
    shown = door.timeline(str(tmp_path / "bad.mp4"), labels, 2, 0.3)
    assert "data-time" in shown and "Cannot read the video bad.mp4" in shown

    original = PyAVVideo._whole_frames

    def hanging(*arguments):
        yield from islice(original(*arguments), 100)
        time.sleep(600)

    monkeypatch.setattr(PyAVVideo, "_whole_frames", hanging)
    monkeypatch.setattr(decoding_process, "IDLE", [])
    monkeypatch.setattr(door, "limits", replace(door.limits, wait_seconds=3))
    shown = door.timeline(door.samples[app.LONG_SAMPLE], labels, 2, 0.3)
    assert "data-time" in shown and re.search("(not decoded|stopped) after 3 s", shown)


def test_pictures_are_read_as_the_model_says(tmp_path, monkeypatch):
    checkpoint = load_checkpoint(app.DEMO / "checkpoint")
    checkpoint.processor.video_processor.on_damage = "skip"
    monkeypatch.setattr(app, "DEMO", tmp_path / "none")
    cut = write(tmp_path / "cut.mkv", g=12)
    cut.write_bytes(cut.read_bytes()[:-2000])
    assert "<figure>" in app.Door(checkpoint, tmp_path, Limits()).classify(str(cut), "a,b", 0, -1)


def test_a_folder_in_place_of_the_samples(tmp_path):
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    for name, sample in ((TAXI, TAXI), ("deep/ball.mp4", "basketball_bouncing.mp4")):
        shutil.copy(app.DEMO / "videos" / sample, tmp_path / "mine" / name)
    door = app.Door(load_checkpoint(app.DEMO / "checkpoint"), tmp_path / "empty", Limits(), tmp_path / "mine")
    assert list(door.samples) == ["deep/ball.mp4", TAXI] and door.name == "demo/checkpoint"
    assert re.findall(r'data-video="([^"]+)"', door.search("a basketball bouncing")) == ["deep/ball.mp4", TAXI]
    (tmp_path / "mine" / "deep" / "ball.mp4").unlink()
    assert re.findall(r'data-video="([^"]+)"', door.search("a basketball bouncing")) == [TAXI]
    shutil.copy(tmp_path / "mine" / TAXI, os.fsencode(tmp_path / "mine") + b"/caf\xe9.mp4")
    door.read_samples(own=True)
    assert list(door.samples) == [TAXI]


def test_outside_a_clone_there_are_uploads_alone(door, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "DEMO", tmp_path / "none")
    alone = app.Door(door.checkpoint, tmp_path / "empty", Limits())
    config = app.build(alone).get_config_file()["components"]
    visible = {part["props"].get("elem_id"): part["props"].get("visible") for part in config}
    assert not visible["sample"] and not visible["tab_search"] and visible["upload"]
    assert "<h2>taxi moving left</h2>" in alone.classify(door.samples[TAXI], LABELS, 0, -1)


def test_texts_of_others_are_text(door):
    shown = door.classify(door.samples[TAXI], "<img src=x onerror=alert(1)>", 0, -1)
    assert "<img src=x" not in shown and "&lt;img src=x" in shown


def test_an_address_in_place_of_a_file_is_refused():
    with pytest.raises(gr.Error, match="URLs are not read"):
        asyncio.run(app.uploaded_file("file").async_move_resource_to_block_cache("http://127.0.0.1:1/a.mp4"))


def test_everything_has_an_id_and_nothing_is_an_api(door):
    page = app.build(door)
    config = page.get_config_file()
    shown = [part for part in config["components"] if part["type"] not in ("state", "form", "tabs")]
    assert not [part["type"] for part in shown if not part["props"].get("elem_id")]
    assert {event["api_visibility"] for event in config["dependencies"]} == {"private"}
    assert page.analytics_enabled is False


def test_only_the_videos_of_a_folder_are_served(door, tmp_path, monkeypatch):
    """And under their own names, by which the page knows the video of a hit."""
    (tmp_path / "deep" / ".ssh").mkdir(parents=True)
    shutil.copy(app.DEMO / "videos" / TAXI, tmp_path / "deep")
    (tmp_path / "deep" / ".ssh" / "id").write_text("key")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))  # whose files gradio shows in any case
    own = app.Door(door.checkpoint, tmp_path / "empty", Limits(), tmp_path)
    page = app.build(own)
    _, url, _ = app.launch(page, own, server_name="127.0.0.1", prevent_thread_lock=True)
    try:
        files = [tmp_path / "deep" / name for name in (TAXI, ".ssh/id")]
        for file, status in zip(files, (200, 403), strict=True):
            connection = HTTPConnection(urlsplit(url).netloc)
            connection.request("GET", f"/gradio_api/file={file}")
            assert connection.getresponse().status == status
        [player] = [block for block in page.blocks.values() if isinstance(block, gr.Video)]
        assert player.postprocess(str(files[0])).path == str(files[0])
        number = next(number for number, event in page.fns.items() if event.name == "chosen")
        event = json.dumps({"data": [f"deep/{TAXI}"], "fn_index": number, "session_hash": "s"})
        connection = HTTPConnection(urlsplit(url).netloc)
        connection.request("POST", "/gradio_api/queue/join", event, {"Content-Type": "application/json"})
        assert connection.getresponse().read()
        connection.request("GET", "/gradio_api/queue/data?session_hash=s")
        answer = next(line for line in connection.getresponse() if b"process_completed" in line)
        assert b'"success":true' in answer and str(files[0]).encode() in answer
    finally:
        page.close()
