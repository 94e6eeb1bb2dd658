"""What an exported file answers, beside torch."""

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
    """

    max_difference: float
    least_cosine: float


@torch.no_grad()
def verify(model: Any, run: Run, dtype: str) -> Verification:
    """
    Compares a file with torch at 1, 4, 8 and 16 frames, in each order, at several numbers of videos and classes.

    Args:
        model ([`VitaClipModel`]): in evaluation, float32, on the CPU.
        run (`Callable`): pixels and class embeddings in, logits and video embeddings out.
        dtype (`str`): of the file; it says how near its answers must be.

    Raises:
        VerificationError: the answers are too far from torch's, or are no numbers.
    """
    scorer = VideoScorer(model).eval()
    differences, cosines = [], []
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
    result = Verification(max(differences), min(cosines))
    if not result.least_cosine >= LEAST_COSINE[dtype]:  # also for NaN
        raise VerificationError(
            f"the exported file's embeddings have a cosine of {result.least_cosine:.5f} with torch's; {dtype} needs at "
            f"least {LEAST_COSINE[dtype]}."
        )
    return result
