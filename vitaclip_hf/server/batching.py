"""One worker that runs the model on all the videos that are waiting."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from ..model.encoder import VideoEncoder
from ..model.scorer import Scorer, checked


@dataclass
class Job:
    """A video that waits for the model, and the labels to score."""

    pixels: torch.Tensor
    labels: tuple[str, ...] | None
    templates: tuple[str, ...]
    result: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ModelWorker:
    """
    Scores videos in batches, in the running event loop, from its making until [`stop`].

    It takes what is waiting, up to a limit, and waits for nothing: alone, a request is a batch of its own.

    Args:
        encoder ([`VideoEncoder`]): the model.
        batch (`int`): videos of a forward pass.
        observe (`Callable`): is told the size of each batch.
    """

    def __init__(self, encoder: VideoEncoder, batch: int, observe: Callable[[int], None]):
        self.encoder, self.batch, self.observe = encoder, batch, observe
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Ends the worker; what still waits is cancelled."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        while not self._waiting.empty():
            self._waiting.get_nowait().result.cancel()
        self._thread.shutdown()

    async def checked(self, labels: tuple[str, ...] | None, templates: tuple[str, ...]) -> None:
        """
        Makes the embeddings of labels, which the encoder keeps for a while.

        Raises:
            ValueError: labels or templates that cannot be scored.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self.encoder.class_features, labels, templates)

    async def scores(
        self, pixels: torch.Tensor, labels: tuple[str, ...] | None, templates: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        """`{"label": …, "score": …, "cosine": …}` of every label, best first."""
        job = Job(pixels, labels, templates)
        self._waiting.put_nowait(job)
        return await job.result

    async def _work(self) -> None:
        while True:
            jobs = [await self._waiting.get()]
            while len(jobs) < self.batch and not self._waiting.empty():
                jobs.append(self._waiting.get_nowait())
            jobs = [job for job in jobs if not job.result.done()]  # the others' clients have gone
            if not jobs:
                continue
            self.observe(len(jobs))
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._scored, jobs)
            for job, result in zip(jobs, results, strict=True):
                if job.result.done():
                    continue
                if isinstance(result, Exception):
                    job.result.set_exception(result)
                else:
                    job.result.set_result(result)

    def _scored(self, jobs: Sequence[Job]) -> list[list[dict[str, Any]] | Exception]:
        """The rows of each job; if a batch fails, each job by itself."""
        try:
            features = self.encoder.video_features(torch.stack([job.pixels for job in jobs]))
            return [self._rows(job, video[None]) for job, video in zip(jobs, features, strict=True)]
        except Exception as error:  # whatever it is, the worker goes on
            return [error] if len(jobs) == 1 else [self._scored([job])[0] for job in jobs]

    def _rows(self, job: Job, features: torch.Tensor) -> list[dict[str, Any]]:
        scorer = Scorer(self.encoder, job.labels, job.templates)
        scores, cosines = (checked(values)[0].tolist() for values in scorer.compare(features))
        ranked = sorted(zip(scorer.labels, scores, cosines, strict=True), key=lambda row: -row[1])
        return [{"label": label, "score": score, "cosine": cosine} for label, score, cosine in ranked]
