"""What strangers send to `vitaclip serve`: every request has an answer with a reason, and none stops the next."""

import json
from pathlib import Path

import pytest

from vitaclip_hf import load_checkpoint


pytest.importorskip("fastapi")

from fastapi.testclient import TestClient  # noqa: E402

from vitaclip_hf.server.app import create_app  # noqa: E402
from vitaclip_hf.server.limits import Limits  # noqa: E402


DEMO = Path(__file__).parents[2] / "examples" / "demo"
GOOD = next((DEMO / "videos").iterdir()).read_bytes()
LABELS = {"labels": ["red star turning", "yellow moon shaking"]}


@pytest.fixture(scope="module")
def client():
    limits = Limits(upload_bytes=1 << 20, decoders=1, sentences=40)
    with TestClient(create_app(load_checkpoint(DEMO / "checkpoint"), limits)) as client:
        yield client


def classify(client, content: bytes = GOOD, name: str = "v.mp4", **fields):
    return client.post("/classify", files={"video": (name, content)}, data=fields or LABELS)


def test_a_video_is_answered(client):
    answer = classify(client).json()
    assert answer["answer"] in LABELS["labels"] and sum(row["score"] for row in answer["scores"]) == pytest.approx(1)


@pytest.mark.parametrize(
    "content",
    [
        b"ffconcat version 1.0\nfile v.mp4\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nv.mp4\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 45678 RTP/AVP 96\n",
        b"some text",
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_scripts_and_texts_are_not_supported(client, content):
    for name in ("v.mp4", "../../etc/passwd", "a\x1b[2J"):
        response = classify(client, content, name)
        assert response.status_code == 422
        message = response.json()["error"]["message"]
        assert "this format is not supported" in message and "/tmp" not in message


@pytest.mark.parametrize("content", [b"", GOOD[: len(GOOD) // 2], GOOD.replace(b"avcC", b"xxxx")])
def test_damaged_videos(client, content):
    response = classify(client, content)
    assert (response.status_code, response.json()["error"]["type"]) == (422, "unreadable_video")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": '["\\ud800", "b"]'}, "`labels` must be a list of non-empty strings"),
        ({"labels": "[]"}, "`labels` is an empty list"),
        ({"labels": "[NaN]"}, "`labels` must be a list"),
        ({"labels": "[" * 100_000}, "`labels` begins like a JSON list but is none"),
        ({"labels": ["a"] * 30}, "`labels` must differ"),
        ({"labels": "x" * 301}, "the limit is 300"),
        ({"labels": json.dumps(["a"] * 1001)}, "the limit is 1000"),
        (LABELS | {"template": '["{} \\ud800"]'}, "`template` needs"),
        (LABELS | {"template": "no place"}, "`template` needs"),
        (LABELS | {"template": [f"{n} {{}}" for n in range(21)]}, "are 42 sentences"),
        (LABELS | {"top_k": "9" * 5000}, "`top_k` must be a whole number of at least 1"),
        (LABELS | {"top_k": "nan"}, "`top_k` must be a whole number"),
        (LABELS | {"top_k": "0"}, "`top_k` must be a whole number"),
        (LABELS | {"path": "/etc/passwd"}, "unknown field 'path'"),
    ],
    ids=range(14),
)
def test_fields_that_cannot_be_used(client, fields, message):
    response = classify(client, **fields)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_addresses_and_paths_are_not_read(client):
    for content in ("/etc/passwd", "http://169.254.169.254/"):
        response = client.post("/classify", files={"labels": (None, "a"), "video": (None, content)})
        assert (response.status_code, response.json()["error"]["type"]) == (400, "no_video")


def test_requests_that_are_too_large_or_no_forms(client):
    assert classify(client, bytes(2 << 20)).status_code == 413
    assert client.post("/classify", json={"video": "a"}).status_code == 415
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/classify", content=b"junk", headers=form).status_code == 400
    assert client.post("/classify", content=b"junk", headers={"Content-Type": "multipart/form-data"}).status_code == 400


def test_scores_that_are_no_numbers_are_no_answer():
    damaged = load_checkpoint(DEMO / "checkpoint")
    damaged.model.logit_scale.data.fill_(float("inf"))
    with TestClient(create_app(damaged, Limits(decoders=1)), raise_server_exceptions=False) as client:
        response = classify(client)
    assert (response.status_code, response.json()["error"]["type"]) == (500, "internal")


def test_the_server_still_answers(client):
    assert classify(client).status_code == 200
