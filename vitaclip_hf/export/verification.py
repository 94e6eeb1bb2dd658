"""What an exported file answers, beside torch: differences, ranks and times."""

import statistics
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .video_scorer import VideoScorer, sample_inputs


# The least cosine of an embedding with torch's own.
LEAST_COSINE = {"float32": 0.99999, "bfloat16": 0.995, "int8": 0.98}
SIZES = ((1, 1, 2), (1, 4, 3), (2, 8, 20), (1, 16, 50))  # videos, frames, classes
ORDER = (0, 1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3, 0)  # each size after each other one: a session may specialise
Run = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]


class VerificationError(RuntimeError):
    """An exported file does not answer as torch does."""


@dataclass
class Verification:
    """
    How an exported file compares with torch in float32, on random frames.

    Attributes:
        max_difference (`float`): the largest absolute difference of a logit.
        least_cosine (`float`): of a video embedding with torch's.
        rank_agreement (`float`): share of pairs of classes that stand in the same order.
        seconds, torch_seconds (`float`, *optional*): median time of one video, measured in turn.
    """

    max_difference: float
    least_cosine: float
    rank_agreement: float
    seconds: float | None = None
    torch_seconds: float | None = None


@torch.no_grad()
def verify(model: Any, run: Run, dtype: str, rounds: int = 5) -> Verification:
    """
    Compares a file with torch at 1, 4, 8 and 16 frames, in each order, at several numbers of videos and classes, and
    times both.

    Args:
        model ([`VitaClipModel`]): in evaluation, float32, on the CPU.
        run (`Callable`): pixels and class embeddings in, logits and video embeddings out.
        dtype (`str`): of the file; it says how near its answers must be.
        rounds (`int`, defaults to 5): of timing; 0 for none.

    Raises:
        VerificationError: the answers are too far from torch's, or are no numbers.
    """
    scorer = VideoScorer(model).eval()
    differences, cosines, agreements = [], [], []
    samples = [sample_inputs(model, *size, seed=seed) for seed, size in enumerate(SIZES)]
    answers = [[output.numpy() for output in scorer(*inputs)] for inputs in samples]
    for number in ORDER:
        expected, found = answers[number], run(*(array.numpy() for array in samples[number]))
        for name, mine, theirs in zip(("logits", "video_embeds"), found, expected, strict=True):
            if mine.shape != theirs.shape or not np.isfinite(mine).all():
                frames = SIZES[number][1]
                raise VerificationError(f"`{name}` has the shape {mine.shape}, or is not finite, at {frames} frames.")
        differences.append(float(np.abs(found[0] - expected[0]).max()))
        lengths = np.linalg.norm(found[1], axis=1) * np.linalg.norm(expected[1], axis=1)
        cosines.append(float(((found[1] * expected[1]).sum(1) / lengths).min()))
        agreements.append(rank_agreement(found[0], expected[0]))
    result = Verification(max(differences), min(cosines), statistics.mean(agreements))
    if not result.least_cosine >= LEAST_COSINE[dtype]:  # also for NaN
        raise VerificationError(
            f"the exported file's embeddings have a cosine of {result.least_cosine:.5f} with torch's; {dtype} needs at "
            f"least {LEAST_COSINE[dtype]}."
        )
    if rounds:
        inputs = sample_inputs(model, 1, model.config.vision_config.num_frames, 10)
        arrays = tuple(array.numpy() for array in inputs)
        result.seconds, result.torch_seconds = timed((lambda: run(*arrays), lambda: scorer(*inputs)), rounds)
    return result


def rank_agreement(found: np.ndarray, expected: np.ndarray) -> float:
    """Share of the pairs of classes whose order is the same, over the videos; 1 with a single class."""
    above = np.triu_indices(found.shape[1], 1)
    orders = [np.sign(rows[:, :, None] - rows[:, None, :])[:, above[0], above[1]] for rows in (found, expected)]
    return float((orders[0] == orders[1]).mean()) if len(above[0]) else 1.0


def timed(calls: tuple[Callable[[], Any], ...], rounds: int) -> list[float]:
    """Median seconds of each call, measured in turn after one call to warm up."""
    seconds = [[timeit.timeit(call, number=1) for call in calls] for _ in range(rounds + 1)]
    return [statistics.median(taken) for taken in zip(*seconds[1:], strict=True)]
