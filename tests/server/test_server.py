"""The HTTP server on the demo checkpoint: answers, batches, limits, files that cannot be read, overload."""

import asyncio
import errno
import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import pytest
import torch
from transformers import pipeline

from vitaclip_hf import load_checkpoint
from vitaclip_hf.cli.main import main


pytest.importorskip("fastapi")

import uvicorn  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from vitaclip_hf.model import containers, decoding_process  # noqa: E402
from vitaclip_hf.model.decoding import PyAVVideo  # noqa: E402
from vitaclip_hf.model.scorer import Scorer  # noqa: E402
from vitaclip_hf.server import app as server_app  # noqa: E402
from vitaclip_hf.server.batching import ModelWorker  # noqa: E402
from vitaclip_hf.server.connections import TimedProtocol  # noqa: E402
from vitaclip_hf.server.limits import Limits  # noqa: E402


DEMO = Path(__file__).parents[2] / "examples" / "demo"
VIDEOS = sorted((DEMO / "videos").glob("*.mp4"))
TAXI = DEMO / "videos" / "taxi_moving_left.mp4"
CONTENT = TAXI.read_bytes()
LABELS = ["taxi moving left", "taxi spinning", "basketball bouncing"]


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(DEMO / "checkpoint")


@pytest.fixture(scope="module")
def client(checkpoint):
    with TestClient(server_app.create_app(checkpoint, Limits(decoders=1, wait_seconds=300))) as client:
        yield client


@pytest.fixture
def service(client):
    return client.app.state.service


def limited(monkeypatch, service, **limits):
    """Other limits until the test ends."""
    monkeypatch.setattr(service, "limits", replace(service.limits, **limits))


def post(client, video=TAXI, labels=LABELS, name=None, **fields):
    content = video if isinstance(video, bytes) else video.read_bytes()
    files = {"video": (name or getattr(video, "name", "clip.mp4"), content)}
    return client.post("/classify", files=files, data={"labels": labels} | fields)


def error_of(response, status: int, kind: str) -> str:
    """The message of an error, which is one line without paths of the server."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(response.json()) == {"error"} and error["type"] == kind
    message = error["message"]
    assert 8 < len(message) <= 1000 and not re.search(r"\n|Traceback|/tmp/|vitaclip-\w{8}|on.damage", message)
    return message


def count(client, name: str) -> float:
    """A value of /metrics."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.M)
    return float(found[1]) if found else 0.0


def test_an_answer_is_that_of_the_pipeline_and_of_the_library(client, checkpoint, monkeypatch):
    found = post(client, top_k="2").json()
    classify = pipeline("zero-shot-video-classification", model=str(DEMO / "checkpoint"))
    expected = classify(str(TAXI), candidate_labels=LABELS, hypothesis_template="{}")
    assert found["video"] == TAXI.name and found["answer"] == expected[0]["label"] == "taxi moving left"
    assert [row["label"] for row in found["scores"]] == [row["label"] for row in expected[:2]]
    assert [row["score"] for row in found["scores"]] == pytest.approx([row["score"] for row in expected[:2]], abs=1e-5)
    answer = classify(str(TAXI), candidate_labels=LABELS, return_details=True)
    assert found["frames"] == answer["frames"] and found["times"] == answer["times"]
    monkeypatch.setattr(server_app, "details", partial(server_app.details, min_score=1.1))
    unsure = post(client).json()
    assert unsure["answer"] == "something else" and "below 1.1" in unsure["reason"]


def test_templates_a_json_list_of_labels_and_the_classes_of_the_checkpoint(client, checkpoint):
    one_field = post(client, labels="taxi moving left, taxi spinning").json()
    assert one_field == post(client, labels=["taxi moving left", "taxi spinning"]).json()
    templates = ["a video of a {}", "the {}"]
    sent = post(client, labels='["taxi moving left", "a, with a comma"]', template=templates).json()
    labels = ["taxi moving left", "a, with a comma"]
    classify = checkpoint.classifier(return_details=True)
    answer = classify(TAXI, candidate_labels=labels, hypothesis_template=templates)
    assert sent["scores"] == [
        {"label": row["label"]} | {name: pytest.approx(row[name], abs=1e-5) for name in ("score", "cosine")}
        for row in answer["scores"]
    ]
    of_classes = post(client, labels=[]).json()
    assert [row["label"] for row in of_classes["scores"]] == [row["label"] for row in classify(TAXI, top_k=3)["scores"]]


def test_what_waits_is_one_batch_and_one_bad_video_spoils_no_other(checkpoint):
    generator = torch.Generator().manual_seed(1)
    clips = [torch.randn(1, 8, 3, 48, 48, generator=generator) for _ in range(5)]
    clips.insert(2, torch.zeros(1, 8, 3, 48, 24))
    labels = [tuple(LABELS[: 2 + number % 2]) for number in range(6)]

    async def work():
        sizes = []
        worker = ModelWorker(checkpoint.encoder(), 4, sizes.append)
        try:
            jobs = [worker.scores(clip, names, ("{}",)) for clip, names in zip(clips, labels, strict=True)]
            return await asyncio.wait_for(asyncio.gather(*jobs, return_exceptions=True), 60), sizes
        finally:
            await worker.stop()

    found, sizes = asyncio.run(work())
    assert sizes == [4, 2]
    assert isinstance(found[2], Exception)
    for place in (0, 1, 3, 4, 5):
        cosines = Scorer(checkpoint.encoder(), labels[place]).score(clips[place][None]).cosines[0]
        expected = dict(zip(labels[place], cosines.tolist(), strict=True))
        assert {row["label"]: row["cosine"] for row in found[place]} == pytest.approx(expected, abs=1e-5)


def test_nothing_is_computed_for_a_client_that_has_gone(checkpoint):
    job = torch.zeros(1, 8, 3, 48, 48), tuple(LABELS), ("{}",)

    async def work():
        sizes = []
        worker = ModelWorker(checkpoint.encoder(), 4, sizes.append)
        try:
            gone = asyncio.ensure_future(worker.scores(*job))
            await asyncio.sleep(0)  # it waits in the queue now
            gone.cancel()
            await worker.scores(*job)
            return sizes
        finally:
            await worker.stop()

    assert asyncio.run(work()) == [1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video, but text\n" * 50,
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 45678 RTP/AVP 96\n",
        b"PK\x03\x04" + bytes(100),
        CONTENT[: len(CONTENT) // 2],
        CONTENT.replace(b"avcC", b"xxxx"),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
    ],
    ids=["empty", "text", "session", "archive", "cut in half", "damaged", "broken picture"],
)
def test_files_that_cannot_be_read(client, content):
    for name in ("my clip.mp4", "../../etc/passwd"):
        assert Path(name).name in error_of(post(client, content, name=name), 422, "unreadable_video")
    assert client.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("fields", "kind", "found"),
    [
        *(({"labels": labels}, "invalid_field", "`labels`") for labels in (["", "a"], "[1, null]", "[NaN]", "[]")),
        ({"labels": ["a", "a"]}, "invalid_field", "repeated: 'a'"),
        ({"labels": '["\\ud800", "b"]'}, "invalid_field", "`labels`"),
        *(({"labels": labels}, "invalid_field", "JSON") for labels in ('["a"', "[" * 100_000)),
        ({"labels": [f"label {number}" for number in range(1001)]}, "invalid_field", "1000 entries"),
        ({"labels": "a" * 301}, "invalid_field", "300 characters"),
        ({"template": "no place"}, "invalid_field", "`template`"),
        ({"template": '["{} \\ud800"]'}, "invalid_field", "`template`"),
        ({"template": [f"{n} {{}}" for n in range(700)]}, "invalid_field", "2,100 sentences"),
        ({"labels": [], "template": "a {}"}, "invalid_field", "A template"),
        *(({"top_k": value}, "invalid_field", "`top_k`") for value in ("0", "NaN", "9" * 5000)),
        ({"label": "a"}, "unknown_field", "'label'"),
    ],
    ids=range(18),
)
def test_fields_that_cannot_be_used(client, fields, kind, found):
    assert found in error_of(post(client, **fields), 400, kind)


def test_requests_without_a_file_or_form(client):
    assert "the file is missing" in error_of(client.post("/classify", files={"labels": (None, "a")}), 400, "no_video")
    assert "send multipart/form-data" in error_of(
        client.post("/classify", json={"labels": ["a"]}), 415, "unsupported_media_type"
    )
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        error_of(client.post("/classify", content=b"junk", headers={"Content-Type": kind}), 400, "invalid_form")
    two = [("video", ("a.mp4", b"1")), ("video", ("b.mp4", b"2"))]
    assert "files" in error_of(client.post("/classify", files=two), 400, "invalid_form").lower()
    error_of(client.get("/classify"), 405, "method_not_allowed")
    error_of(client.get("/docs"), 404, "not_found")
    fields = client.get(client.get("/").json()["fields"]).json()["paths"]["/classify"]["post"]["requestBody"]
    assert fields["content"]["multipart/form-data"]["schema"]["required"] == ["video"]


def test_addresses_are_never_fetched(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.mp4"
        sent = {"video": (None, address), "labels": (None, "a")}
        assert "URLs and paths are not read" in error_of(client.post("/classify", files=sent), 400, "no_video")
        sent["video"] = (None, str(TAXI))
        error_of(client.post("/classify", files=sent), 400, "no_video")
        lists = [f"#EXTM3U\n#EXTINF:1,\n{address}\n", f"ffconcat version 1.0\nfile {address}\n"]
        lists.append(f"ffconcat version 1.0\nfile {TAXI}\n")
        for text in lists:
            error_of(post(client, text.encode(), name=address), 422, "unreadable_video")
        assert post(client, labels=[address, "a"], name=address).json()["video"] == "a.mp4"
        with pytest.raises(TimeoutError):
            listener.accept()


def test_limits_of_bytes_with_and_without_a_length(client, service, monkeypatch):
    limited(monkeypatch, service, upload_bytes=5000)
    found = post(client, bytes(6000))
    assert "the request has more than 5,000 bytes" in error_of(found, 413, "upload_too_large")
    assert found.headers["connection"] == "close"  # else the server would go on receiving the rest
    head = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
    parts = (part for part in [head, *[bytes(1000)] * 6, b"\r\n--x--\r\n"])
    found = client.post("/classify", content=parts, headers={"Content-Type": "multipart/form-data; boundary=x"})
    error_of(found, 413, "upload_too_large")
    limited(monkeypatch, service, frame_pixels=160 * 160 - 1, upload_bytes=1 << 20)
    error_of(post(client), 413, "video_too_large")


def call(client, body):
    """A request to /classify whose body is what `body` gives; returns status and what was sent."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/classify", "query_string": b""}
    scope |= {"headers": [(b"content-type", b"multipart/form-data; boundary=x")], "scheme": "http", "root_path": ""}
    scope |= {"raw_path": b"/classify", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1)}
    client.portal.call(client.app, scope, body, send)
    return sent[0]["status"]


def test_slow_uploads_and_clients_that_go(client, service, monkeypatch):
    limited(monkeypatch, service, upload_seconds=0.1)

    async def silent():
        await asyncio.sleep(60)

    async def gone():
        return {"type": "http.disconnect"}

    started = time.monotonic()
    assert call(client, silent) == 408 and time.monotonic() - started < 20
    assert call(client, gone) == 499
    limited(monkeypatch, service, upload_seconds=60)
    assert service.in_flight == 0 and post(client).status_code == 200


def test_a_form_without_its_end_mark_is_refused(client):
    """The parser would drop the last label in silence."""
    form = client.build_request("POST", "/classify", files={"video": ("a.mp4", CONTENT)}, data={"labels": LABELS})
    kind, body = {"Content-Type": form.headers["Content-Type"]}, form.read()
    for cut in (3, 6, 40):  # of the mark, which ends in `--` and a line break
        assert "end mark" in error_of(client.post("/classify", headers=kind, content=body[:-cut]), 400, "invalid_form")
    assert client.post("/classify", headers=kind, content=body).status_code == 200


def test_half_sent_headers_are_closed_and_hinder_nobody(client, monkeypatch):
    monkeypatch.setattr(TimedProtocol, "seconds", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(client.app, http=TimedProtocol, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        address = listening.getsockname()
        held = [socket.create_connection(address, timeout=30) for _ in range(50)]
        for connection in held:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost:")
        assert urlopen(f"http://127.0.0.1:{address[1]}/health", timeout=30).status == 200
        assert [connection.recv(1) for connection in held] == [b""] * len(held)
        server.should_exit = True
        thread.join(30)


def test_overload_is_answered_503_and_passes(client, service, monkeypatch):
    limited(monkeypatch, service, queue=2)
    served = count(client, 'vitaclip_requests_total{status="200"}')
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda _: post(client), range(12)))
    refused = [response for response in found if response.status_code != 200]
    assert 0 < len(refused) < 12
    for response in refused:
        assert "try again later" in error_of(response, 503, "overloaded") and response.headers["Retry-After"] == "1"
    assert client.get("/health").status_code == 200 and service.in_flight == 0
    assert count(client, 'vitaclip_requests_total{status="200"}') == served + 12 - len(refused)
    for in_flight, status in ((2, 503), (1, 200)):
        monkeypatch.setattr(service, "in_flight", in_flight)
        assert post(client).status_code == status and service.in_flight == in_flight
    limited(monkeypatch, service, wait_seconds=0.001)
    late = post(client)
    assert "no answer within 0.001 s" in error_of(late, 503, "overloaded") and late.headers["Retry-After"] == "5"
    limited(monkeypatch, service, wait_seconds=60)
    assert post(client).status_code == 200


@pytest.mark.parametrize(
    ("decode", "seconds", "kind", "found"),
    [
        (lambda *_: time.sleep(600), 0.5, "decoding_too_slow", "not decoded after 0.5 s"),
        (lambda *_: os.abort(), 60, "unreadable_video", "the decoding process ended"),
    ],
    ids=["hangs", "crashes"],
)
def test_a_decoder_that_hangs_or_crashes_ends_alone(client, service, monkeypatch, decode, seconds, kind, found):
    limited(monkeypatch, service, decode_seconds=seconds, wait_seconds=300)
    with monkeypatch.context() as patch:
        patch.setattr(PyAVVideo, "_decode", decode)
        patch.setattr(decoding_process, "IDLE", [])
        assert found in error_of(post(client), 422, kind)
    limited(monkeypatch, service, decode_seconds=60)
    assert post(client).json()["answer"] == "taxi moving left"  # of a new process


def test_an_error_of_the_system_names_no_file_of_the_server(client, monkeypatch):
    def full(path):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    monkeypatch.setattr(containers, "_binary", full)
    monkeypatch.setattr(decoding_process, "IDLE", [])
    assert "Too many open files: 'clip.mp4'" in error_of(post(client, name="clip.mp4"), 422, "unreadable_video")


def test_a_slow_decoder_does_not_lengthen_the_wait(client, service, monkeypatch):
    limited(monkeypatch, service, decode_seconds=60, wait_seconds=3)
    with monkeypatch.context() as patch:
        patch.setattr(PyAVVideo, "_decode", lambda *_: time.sleep(600))
        patch.setattr(decoding_process, "IDLE", [])
        started = time.monotonic()
        assert "no answer within 3 s" in error_of(post(client), 503, "overloaded")
        assert time.monotonic() - started < 30


def test_a_failure_of_the_code_is_a_500_without_its_words(client, service, monkeypatch):
    async def broken(*_):
        raise RuntimeError("a secret")

    with monkeypatch.context() as patch:
        patch.setattr(service.worker, "scores", broken)
        assert "secret" not in error_of(post(client), 500, "internal")
    scale = service.checkpoint.model.logit_scale
    monkeypatch.setattr(scale, "data", torch.tensor(float("inf")))  # scores that are NaN
    error_of(post(client), 500, "internal")
    assert service.in_flight == 0


def test_health_and_metrics(client):
    assert client.get("/health").json().items() >= {"status": "ok", "model": "checkpoint", "device": "cpu"}.items()
    before = {name: count(client, f"vitaclip_{name}") for name in METRICS}
    post(client)
    post(client, b"text")
    after = {name: count(client, f"vitaclip_{name}") - before[name] for name in METRICS}
    assert after == METRICS
    assert count(client, "vitaclip_requests_in_flight") == 0


METRICS = {
    'requests_total{status="200"}': 1,
    'requests_total{status="422"}': 1,
    "request_seconds_count": 1,
    "decode_seconds_count": 1,
    "batch_videos_sum": 1,
}


@pytest.mark.parametrize("name", ["upload_bytes", "wait_seconds", "queue"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limits_are_above_0(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be above 0"):
        Limits(**{name: value})


def test_the_command_hands_its_options_to_the_server(monkeypatch):
    seen = {}
    monkeypatch.setattr(server_app, "create_app", lambda loaded, limits: seen.update(limits=limits, model=loaded.model))
    monkeypatch.setattr(uvicorn.Server, "run", lambda server: seen.update(config=server.config))
    options = "--port 0 --batch-size 3 --queue 5 --decoders 1 --max-upload 7 --max-decoded 9 --decode-seconds 2"
    options += " --dtype float16"  # which `auto` never takes
    code = main(
        ["serve", "--model", str(DEMO / "checkpoint"), "--device", "cpu", *options.split(), "--wait-seconds", "4"]
    )
    assert code == 2  # it did not start
    assert seen["limits"] == Limits(
        upload_bytes=7 << 20, decoded_bytes=9 << 20, decode_seconds=2, wait_seconds=4, queue=5, batch=3, decoders=1
    )
    assert seen["model"].dtype == torch.float16
    assert seen["config"].host == "127.0.0.1" and seen["config"].timeout_graceful_shutdown == 9
    assert main(["serve", "--model", str(DEMO / "checkpoint"), "--log-level", "loud"]) == 2


@pytest.mark.slow
def test_a_process_of_its_own_serves_and_ends_on_sigterm():
    from benchmark_server import Server, httpx

    server = Server(str(DEMO / "checkpoint"), "--decoders", "1")
    try:
        sent = {"files": {"video": (TAXI.name, TAXI.read_bytes())}, "data": {"labels": LABELS}}
        found = httpx.post(f"{server.address}/classify", timeout=60, trust_env=False, **sent).json()
        assert found["answer"] == "taxi moving left"
    finally:
        code = server.stop()
    assert code in (0, -15) and "Traceback" not in server.text()
