"""One worker that runs the model on all the videos that are waiting."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..library.answers import class_embeds_of
from ..loading.checkpoint import Checkpoint
from ..model.zero_shot_classifier import check_scores, embed_views, view_scores


@dataclass
class Job:
    """A video that waits for the model, and the labels to score."""

    pixels: np.ndarray
    labels: tuple[str, ...] | None
    templates: tuple[str, ...]
    result: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ModelWorker:
    """
    Scores videos in batches.

    It takes what is waiting, up to a limit, and waits for nothing: alone, a request is a batch of its own.

    Args:
        checkpoint ([`Checkpoint`]): model and tokenizer.
        batch (`int`): videos of a forward pass.
        observe (`Callable`): is told the size of each batch.
    """

    def __init__(self, checkpoint: Checkpoint, batch: int, observe: Callable[[int], None]):
        self.checkpoint, self.batch, self.observe = checkpoint, batch, observe
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Ends the worker; what still waits is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._waiting.empty():
            self._waiting.get_nowait().result.cancel()
        self._thread.shutdown()

    async def checked(self, labels: tuple[str, ...] | None, templates: tuple[str, ...]) -> None:
        """
        Makes the embeddings of labels, which the model keeps for a while.

        Raises:
            ValueError: labels or templates that cannot be scored.
        """
        await asyncio.get_running_loop().run_in_executor(
            self._thread, class_embeds_of, self.checkpoint, labels, templates
        )

    async def scores(
        self, pixels: np.ndarray, labels: tuple[str, ...] | None, templates: tuple[str, ...]
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
            loop = asyncio.get_running_loop()
            results = await loop.run_in_executor(self._thread, self._scored, jobs)
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
            return self._scored_together(jobs)
        except Exception as error:  # whatever it is, the worker goes on
            if len(jobs) == 1:
                return [error]
            return [self._scored([job])[0] for job in jobs]

    @torch.inference_mode(False)
    @torch.no_grad()
    def _scored_together(self, jobs: Sequence[Job]) -> list[list[dict[str, Any]] | Exception]:
        model, views = self.checkpoint.model, len(jobs[0].pixels)
        pixels = torch.from_numpy(np.stack([job.pixels for job in jobs]))
        embeds = embed_views(model, pixels).unflatten(0, (-1, views))  # [B, views, E]
        return [self._rows(job, video) for job, video in zip(jobs, embeds, strict=True)]

    def _rows(self, job: Job, embeds: torch.Tensor) -> list[dict[str, Any]]:
        labels, class_embeds = class_embeds_of(self.checkpoint, job.labels, job.templates)
        found = view_scores(self.checkpoint.model.compare(embeds, class_embeds), len(embeds))[0].cpu()
        check_scores(found)
        scores = found.tolist()
        cosines = (embeds.float() @ class_embeds.float().T).mean(0).tolist()
        rows = zip(labels, scores, cosines, strict=True)
        ranked = sorted(rows, key=lambda row: -row[1])
        return [{"label": label, "score": score, "cosine": cosine} for label, score, cosine in ranked]
