"""Differences between two evaluations of the same videos, with paired bootstrap confidence intervals.

A resample draws videos with replacement and takes both systems' answers for each. What makes a video hard for both
systems therefore does not widen the interval. A video that several splits share is drawn for all of them at once (the
three test splits of HMDB51 overlap).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet

from ..data.metrics import METRICS, ranks_in_ranking
from ..data.text_files import content_errors
from .average import different_settings, read_results, results_file
from .plan import OWN_SPLIT
from .progress_log import PREDICTIONS_FILE
from .protocols import EvaluationError


BATCH = 250  # resamples at a time, to save memory


@dataclass(frozen=True)
class PairedSplit:
    """
    Both systems' answers for one split, for the videos that both could read.

    Attributes:
        name (`str`): of the split.
        videos (`np.ndarray` of shape `(num_videos,)`): number of each video, the same number in all splits.
        labels (`np.ndarray` of shape `(num_videos,)`): the true classes.
        ranks (`np.ndarray` of shape `(2, num_videos)`): rank of the true class, by both systems.
    """

    name: str
    videos: np.ndarray
    labels: np.ndarray
    ranks: np.ndarray


@dataclass(frozen=True)
class Difference:
    """The accuracies of A and B in 0 … 1, B minus A, and the bounds of its confidence interval."""

    a: float
    b: float
    difference: float
    low: float
    high: float


def read_predictions(folder: Path, row: str) -> dict[tuple[str, str], tuple[int, list[int] | None]]:
    """The label and the best classes, best first, of each split and video path; `None` for an unreadable video.

    Raises:
        EvaluationError: the file cannot be read, or it does not have the row.
    """
    file = folder / PREDICTIONS_FILE
    with content_errors(f"{file}: cannot be read", EvaluationError):
        if not file.is_file():
            raise FileNotFoundError("there is no such file")
        with file.open("rb") as stream:  # pyarrow opens no path that is not UTF-8
            table = pyarrow.parquet.read_table(stream)
        if f"{row}_ids" not in table.column_names:
            rows = [name.removesuffix("_ids") for name in table.column_names if name.endswith("_ids")]
            raise EvaluationError(f"{file}: has no row {row!r:.100}, only {', '.join(rows):.300}.")
        split, path, label, ids = (table[name].to_pylist() for name in ("split", "path", "label", f"{row}_ids"))
    return dict(zip(zip(split, path, strict=True), zip(label, ids, strict=True), strict=True))


def first_rows(*files: Path | str) -> tuple[str, ...]:
    """The row of the evaluated model in each `results.json`."""
    return tuple((*read_results(file)["rows"],)[0] for file in files)


def pair(a: Path | str, b: Path | str, rows: tuple[str, ...] | None = None) -> tuple[list[PairedSplit], int]:
    """
    Puts the answers of two evaluations side by side.

    Args:
        a, b (`Path` or `str`): two `results.json`, or their folders.
        rows (`tuple[str, str]`, *optional*): which row of each, by default the first: that of the evaluated model.

    Returns:
        The splits, and how many answers were left out because one of the two could not read the video.

    Raises:
        EvaluationError: files that cannot be read, or videos, labels or splits that differ.
    """
    rows = rows or first_rows(a, b)
    answers = [read_predictions(results_file(file).parent, row) for file, row in zip((a, b), rows, strict=True)]
    only = sorted(answers[0].keys() ^ answers[1].keys())
    if only:
        raise EvaluationError(
            f"{a} and {b} are of different videos: {len(only)} are in one only, such as {only[0][1]} (split "
            f"{only[0][0]}); evaluate both on the same lists."
        )
    numbers = {path: number for number, path in enumerate(dict.fromkeys(path for _, path in answers[0]))}
    splits, left_out = [], 0
    for name in dict.fromkeys(split for split, _ in answers[0]):
        keys = [key for key in answers[0] if key[0] == name]
        if any(answers[0][key][0] != answers[1][key][0] for key in keys):
            raise EvaluationError(f"{a} and {b} have different labels for the same videos (split {name}).")
        both = [key for key in keys if answers[0][key][1] and answers[1][key][1]]
        left_out += len(keys) - len(both)
        if both:
            labels = np.array([answers[0][key][0] for key in both])
            ranks = np.stack([ranks_in_ranking([side[key][1] for key in both], labels) for side in answers])
            splits.append(PairedSplit(name, np.array([numbers[path] for _, path in both]), labels, ranks))
    if not splits:
        raise EvaluationError(f"{a} and {b} have no video that both could read.")
    return splits, left_out


def compare(
    splits: Sequence[PairedSplit], resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Difference]:
    """
    B minus A, with percentile bootstrap intervals.

    Args:
        splits (`Sequence[PairedSplit]`): paired answers, of [`pair`].
        resamples (`int`, defaults to 10000): the bounds of 10,000 vary by about a fiftieth of the interval.
        confidence (`float`, defaults to 0.95): of the interval.
        seed (`int`, defaults to 0): of the resampling.

    Returns:
        `dict[str, Difference]`: for each of `METRICS`, averaged over the splits.

    Raises:
        EvaluationError: no resamples, a confidence outside 0 … 1, or a negative seed.
    """
    if resamples < 1 or not 0 < confidence < 1 or seed < 0:
        raise EvaluationError(
            "`resamples` must be at least 1, `confidence` between 0 and 1 and `seed` at least 0, got "
            f"{resamples}, {confidence} and {seed}."
        )
    videos = np.unique(np.concatenate([split.videos for split in splits]))
    numbered = [replace(split, videos=np.searchsorted(videos, split.videos)) for split in splits]

    def accuracies(weights: np.ndarray) -> np.ndarray:  # [R, N], how often each video counts -> [M, 2, R]
        with np.errstate(invalid="ignore"):  # a small split may have no video in a resample
            by_split = [
                [
                    [m.compute(ranks, split.labels, weights[:, split.videos]) for ranks in split.ranks]
                    for split in numbered
                ]
                for m in METRICS.values()
            ]
        return np.nanmean(by_split, axis=1)

    rng, differences = np.random.default_rng(seed), []
    for start in range(0, resamples, BATCH):
        drawn = rng.integers(len(videos), size=(min(BATCH, resamples - start), len(videos)))
        counts = np.stack([np.bincount(resample, minlength=len(videos)) for resample in drawn])
        both = accuracies(counts.astype(np.float64))
        differences.append(both[:, 1] - both[:, 0])
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(differences, axis=1), [tail, 1 - tail], axis=1).tolist()
    measured = accuracies(np.ones((1, len(videos))))[..., 0].tolist()
    bounds = zip(METRICS, measured, low, high, strict=True)
    return {name: Difference(a, b, b - a, lower, upper) for name, (a, b), lower, upper in bounds}


def settings(a: Path | str, b: Path | str) -> tuple[list[str], list[str]]:
    """
    Compares the settings of two results.

    Returns:
        The [`different_settings`]; and a note for each of the two that was limited to some of the videos, or is of an
        own split.

    Raises:
        EvaluationError: base and novel classes are an own split in one of the two, and published or given in the other.
    """
    results = [read_results(file) for file in (a, b)]
    with content_errors("These results cannot be compared", EvaluationError):
        origins = [(result.get("class_split") or {}).get("origin") for result in results]
        if None not in origins and origins.count(OWN_SPLIT) == 1:
            own, other = (a, b) if origins[0] == OWN_SPLIT else (b, a)
            raise EvaluationError(
                f"{own} is of an own split (the first half of the classes is base), {other} is not: their accuracies "
                "are of different classes. Evaluate both with the same `base_classes` and `novel_classes`."
            )
        notes = []
        for side, result, origin in zip("AB", results, origins, strict=True):
            notes += [f"{side}: {result['limited']}"] if result["limited"] else []
            notes += [f"{side}: {OWN_SPLIT}, not a published one"] if origin == OWN_SPLIT else []
        return different_settings(*results), notes
