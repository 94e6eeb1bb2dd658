"""The web application: `POST /classify`, `GET /health`, `GET /metrics`."""

import asyncio
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from ..loading.checkpoint import Checkpoint
from ..model.encoder import check_labels, check_templates
from ..model.pipeline_zero_shot_video_classification import details
from ..version import __version__
from .batching import ModelWorker
from .decoding import read_upload
from .errors import RequestError, overloaded
from .limits import Limits


logger = logging.getLogger(__name__)

FIELDS = {
    "video": {"type": "string", "format": "binary", "description": "The file."},
    "labels": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Repeated, or one field: a JSON list, or labels with commas between. Default: the checkpoint's.",
    },
    "template": {"type": "array", "items": {"type": "string"}, "description": "Sentences with {} for the label."},
    "top_k": {"type": "integer", "minimum": 1, "default": 3, "description": "Labels in the answer."},
}
FORM = {"type": "object", "required": ["video"], "properties": FIELDS}


class Metrics:
    """Counts and times, in a registry of their own."""

    def __init__(self):
        self.registry = CollectorRegistry()
        shared: dict[str, Any] = {"registry": self.registry}
        seconds = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
        self.requests = Counter("vitaclip_requests", "Requests for /classify by status.", ["status"], **shared)
        self.in_flight = Gauge("vitaclip_requests_in_flight", "Requests in work or waiting.", **shared)
        self.seconds = Histogram("vitaclip_request_seconds", "Time of an answer with 200.", buckets=seconds, **shared)
        self.decoding = Histogram(
            "vitaclip_decode_seconds", "Time to decode, with the wait for a decoder.", buckets=seconds, **shared
        )
        self.batch = Histogram("vitaclip_batch_videos", "Videos of a batch.", buckets=(1, 2, 4, 8, 16, 32), **shared)


class VideoService:
    """Worker, limits and counts of one application."""

    def __init__(self, checkpoint: Checkpoint, limits: Limits):
        self.checkpoint, self.limits = checkpoint, limits
        self.metrics = Metrics()
        self.in_flight = 0
        self.metrics.in_flight.set_function(lambda: self.in_flight)
        self.decoders = anyio.Semaphore(limits.decoders)
        self.worker = ModelWorker(checkpoint.encoder(), limits.batch, self.metrics.batch.observe)

    async def classify(self, request: Request) -> dict[str, Any]:
        if self.in_flight >= self.limits.queue:
            raise overloaded(f"{self.in_flight} requests are being worked on; try again later.")
        self.in_flight += 1
        try:
            form = await self._received(request)
            try:
                upload, labels, templates, top_k = self._fields(form)
                with anyio.fail_after(self.limits.wait_seconds):
                    return await self._answer(upload, labels, templates, top_k)
            except TimeoutError as error:
                raise overloaded(f"no answer within {self.limits.wait_seconds:g} s; try again later.", 5) from error
            finally:
                await form.close()
        finally:
            self.in_flight -= 1

    async def _received(self, request: Request) -> FormData:
        limit, seconds = self.limits.upload_bytes, self.limits.upload_seconds
        if not request.headers.get("Content-Type", "").lower().startswith("multipart/form-data"):
            raise RequestError(
                415, "unsupported_media_type", "send multipart/form-data: curl -F video=@clip.mp4 -F labels=yoga …"
            )
        received, end = 0, b""

        async def receive() -> Message:
            nonlocal received, end
            message = await request.receive()
            body = message.get("body", b"")
            received += len(body)
            end = (end + body[-4096:])[-4096:]  # a boundary has 70 characters at most
            if received > limit:
                reason = f"the request has more than {limit:,} bytes."
                raise RequestError(413, "upload_too_large", reason, {"Connection": "close"})
            return message

        try:
            with anyio.fail_after(seconds):
                form = await Request(request.scope, receive).form(
                    max_files=1, max_fields=self.limits.labels + 20, max_part_size=1 << 20
                )
            boundary = parse_options_header(request.headers["Content-Type"])[1].get(b"boundary", b"")
            if b"--" + boundary + b"--" not in end:  # the parser takes such a form, without its last part
                await form.close()
                raise HTTPException(400, "the form's end mark is missing; was the request cut short?")
            return form
        except TimeoutError as error:
            raise RequestError(408, "upload_too_slow", f"the request was not received within {seconds:g} s.") from error
        except HTTPException as error:  # of the form's parser
            raise RequestError(400, "invalid_form", str(error.detail)) from error

    def _fields(self, form: FormData) -> tuple[UploadFile, tuple[str, ...] | None, tuple[str, ...], int]:
        unknown = sorted({name[:100] for name in form if name not in FIELDS})
        if unknown:
            raise RequestError(400, "unknown_field", f"unknown field {unknown[0]!r}; there are {', '.join(FIELDS)}.")
        upload = form.get("video")
        if not isinstance(upload, UploadFile):
            missing = "the file is missing" if upload is None else "`video` must be a file; URLs and paths are not read"
            raise RequestError(400, "no_video", f"{missing}: curl -F video=@clip.mp4 -F labels=yoga …")
        try:
            texts, template = self._texts(form, "labels"), self._texts(form, "template")
            labels = None if texts is None else tuple(check_labels(texts))
            templates = check_templates(template or "{}", "template")
            sentences = len(labels or ()) * len(templates)
            if sentences > self.limits.sentences:
                raise ValueError(
                    f"labels times templates are {sentences:,} sentences, the limit is {self.limits.sentences:,}."
                )
            top_k = str(form.get("top_k", "3"))
            if not re.fullmatch("[1-9][0-9]{0,8}", top_k):
                raise ValueError(f"`top_k` must be a whole number of at least 1, got {top_k[:50]!r}.")
        except ValueError as error:
            raise RequestError(400, "invalid_field", str(error)) from error
        return upload, labels, templates, int(top_k)

    def _texts(self, form: FormData, name: str) -> list[str] | None:
        """The texts of a field that is repeated, or that holds a JSON list, or labels with commas between them."""
        values = [value for value in form.getlist(name) if isinstance(value, str)]
        if not values:
            return None
        if len(values) == 1 and values[0].lstrip().startswith("["):
            try:
                values = json.loads(values[0])
            except (ValueError, RecursionError) as error:
                raise ValueError(f"`{name}` begins like a JSON list but is none.") from error
        elif len(values) == 1 and name == "labels":  # as on the command line
            values = [label.strip() for label in values[0].split(",") if label.strip()]
        most, longest = self.limits.labels, self.limits.label_length
        if len(values) > most or any(isinstance(value, str) and len(value) > longest for value in values):
            raise ValueError(f"`{name}` may have {most} entries of {longest} characters.")
        return values

    async def _answer(
        self, upload: UploadFile, labels: tuple[str, ...] | None, templates: tuple[str, ...], top_k: int
    ) -> dict[str, Any]:
        name = os.path.basename(upload.filename or "video")[:200]
        try:
            await self.worker.checked(labels, templates)
        except ValueError as error:  # too long for the text tower
            raise RequestError(400, "invalid_field", str(error)) from error
        started = time.perf_counter()
        with tempfile.NamedTemporaryFile(prefix="vitaclip-") as file:
            await asyncio.to_thread(shutil.copyfileobj, upload.file, file)
            file.flush()
            processor = self.checkpoint.processor.video_processor
            pixels, metadata = await read_upload(file.name, name, processor, self.limits, self.decoders)
        self.metrics.decoding.observe(time.perf_counter() - started)
        scores = await self.worker.scores(pixels, labels, templates)
        return {"video": name} | details(scores, metadata, self.worker.encoder.activation, top_k)


def create_app(checkpoint: Checkpoint, limits: Limits | None = None) -> FastAPI:
    """
    The web application for a checkpoint.

    Args:
        checkpoint ([`Checkpoint`]): of [`load_checkpoint`].
        limits ([`Limits`], *optional*): what a request may take.
    """
    limits = limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = VideoService(checkpoint, limits)
        try:
            yield
        finally:
            await service.worker.stop()

    app = FastAPI(title="Vita-CLIP", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.post("/classify", openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": FORM}}}})
    async def classify(request: Request) -> Response:
        """What a video shows: `video`, `answer`, `scores` (best first), `frames` and `times` that were read."""
        service, started = request.app.state.service, time.perf_counter()
        try:
            response: Response = JSONResponse(await service.classify(request))
            service.metrics.seconds.observe(time.perf_counter() - started)
        except RequestError as error:
            response = error.response()
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it
        except Exception:
            logger.exception("a request failed")
            response = RequestError(500, "internal", "the server failed on this request; its log says why.").response()
        service.metrics.requests.labels(str(response.status_code)).inc()
        return response

    @app.get("/")
    async def places() -> dict[str, str]:
        """Where things are."""
        return {"classify": "POST /classify", "fields": "/openapi.json", "health": "/health", "metrics": "/metrics"}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """That the server is up, and with which model."""
        name = os.path.basename(os.path.normpath(checkpoint.name))
        return {"status": "ok", "version": __version__, "model": name, "device": str(checkpoint.model.device)}

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Counts and times in Prometheus' text format."""
        return Response(generate_latest(request.app.state.service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        return RequestError(error.status_code, kind, str(error.detail), error.headers).response()

    return app
