"""Differences between two evaluations of the same videos, with paired bootstrap confidence intervals.

Both systems are resampled together: a resample draws videos with replacement and takes both systems' answers for each,
so what makes a video hard for both does not widen the interval. A video that several splits share is drawn for all of
them at once (the three test splits of HMDB51 overlap).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet

from ..data import metrics


FIGURES = ("top1", "top5", "mean_class")
CHUNK = 250  # resamples at a time, for the memory's sake


class ComparisonError(ValueError):
    """Two results that cannot be compared; the message is one line."""


@dataclass(frozen=True)
class PairedSplit:
    """Both systems' answers for one split, videos that both could read only.

    Attributes:
        videos: number of each row's video, the same for one video in all splits `[N]`.
        labels: `[N]`.
        ranks: of the true class, by both systems `[2, N]`.
    """

    name: str
    videos: np.ndarray
    labels: np.ndarray
    ranks: np.ndarray


@dataclass(frozen=True)
class Difference:
    """B minus A, in 0 … 1, with the bounds of its confidence interval."""

    a: float
    b: float
    difference: float
    low: float
    high: float


def read_row(results: Path, row: str) -> dict[str, list]:
    """The predictions beside a `results.json`: split, path, label, status, and the ranking of one row.

    Raises:
        ComparisonError: files that are not there or lack the row.
    """
    file = results.parent / "predictions.parquet"
    columns = ["split", "path", "label", "status", f"{row}_ids"]
    try:
        names = pyarrow.parquet.read_schema(file).names
        if columns[-1] not in names:
            rows = [name.removesuffix("_ids") for name in names if name.endswith("_ids")]
            raise ComparisonError(f"{file}: has no row {row!r}, only {', '.join(rows)}.")
        return pyarrow.parquet.read_table(file, columns=columns).to_pydict()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ComparisonError(f"{file}: cannot be read ({' '.join(str(error).split())}).") from error


def pair(a: Path, b: Path, rows: tuple[str, str] = ("vita_clip", "vita_clip")) -> tuple[list[PairedSplit], int]:
    """Both results' answers side by side.

    Args:
        a, b: two `results.json`.
        rows: which row of each.

    Returns:
        The splits, and how many rows were left out because one of the two could not read the video.

    Raises:
        ComparisonError: other videos, labels or splits in one than in the other.
    """
    tables = [read_row(Path(file), row) for file, row in zip((a, b), rows, strict=True)]
    keys = [
        {(split, path): place for place, (split, path) in enumerate(zip(t["split"], t["path"], strict=True))}
        for t in tables
    ]
    if keys[0].keys() != keys[1].keys():
        only = sorted(keys[0].keys() ^ keys[1].keys())
        raise ComparisonError(
            f"{a} and {b} are of different videos: {len(only)} are in one only, such as {only[0][1]} (split "
            f"{only[0][0]}); evaluate both on the same lists."
        )
    numbers = {path: number for number, path in enumerate(dict.fromkeys(tables[0]["path"]))}
    splits, left_out = [], 0
    for name in dict.fromkeys(tables[0]["split"]):
        there = [key for key in keys[0] if key[0] == name]
        places = [[keys[side][key] for key in there] for side in (0, 1)]
        labels = [[tables[side]["label"][place] for place in places[side]] for side in (0, 1)]
        if labels[0] != labels[1]:
            raise ComparisonError(f"{a} and {b} have different labels for the same videos (split {name}).")
        rankings = [[tables[side][f"{rows[side]}_ids"][place] for place in places[side]] for side in (0, 1)]
        both = [index for index in range(len(there)) if rankings[0][index] and rankings[1][index]]
        left_out += len(there) - len(both)
        kept = np.array([labels[0][index] for index in both], dtype=np.int64)
        ranks = [_ranks([ranking[index] for index in both], kept) for ranking in rankings]
        splits.append(PairedSplit(name, np.array([numbers[there[i][1]] for i in both]), kept, np.stack(ranks)))
    if not any(len(split.labels) for split in splits):
        raise ComparisonError(f"{a} and {b} have no video that both could read.")
    return [split for split in splits if len(split.labels)], left_out


def _ranks(rankings: list[list[int]], labels: np.ndarray) -> np.ndarray:
    width = len(rankings[0]) if rankings else 1
    return metrics.ranks_in_ranking(np.array(rankings, dtype=np.int64).reshape(len(rankings), width), labels)


def figure(splits: Sequence[PairedSplit], name: str, weights: np.ndarray) -> np.ndarray:
    """One accuracy of both systems, averaged over the splits.

    Args:
        splits: paired answers.
        name: `"top1"`, `"top5"` or `"mean_class"`.
        weights: how often each video counts, `[R, videos]`.

    Returns:
        `[R, 2]`.
    """
    by_split = [_figure_of_split(split, name, weights[:, split.videos]) for split in splits]
    return np.nanmean(by_split, axis=0)  # a small split may have no video in a resample


def _figure_of_split(split: PairedSplit, name: str, weights: np.ndarray) -> np.ndarray:
    hits = (split.ranks < (5 if name == "top5" else 1)).astype(np.float64)  # [2, N]
    with np.errstate(invalid="ignore"):
        if name != "mean_class":
            return weights @ hits.T / weights.sum(1, keepdims=True)
        order = np.argsort(split.labels, kind="stable")
        starts = np.unique(split.labels[order], return_index=True)[1]
        counts = np.add.reduceat(weights[:, order], starts, axis=1)  # [R, C]
        right = [np.add.reduceat(weights[:, order] * hits[side, order], starts, axis=1) for side in (0, 1)]
        # A class that a resample has no video of does not count in it.
        there = (counts > 0).sum(1)
        return np.stack([(side / np.maximum(counts, 1)).sum(1) / there for side in right], -1)


def compare(
    splits: Sequence[PairedSplit], resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Difference]:
    """B minus A with percentile bootstrap intervals.

    Args:
        splits: paired answers.
        resamples: how many; the bounds of 10,000 vary by about a fiftieth of the interval.
        confidence: of the interval.
        seed: of the resampling.

    Raises:
        ComparisonError: no resamples, a confidence outside of 0 … 1, or a negative seed.
    """
    if resamples < 1 or not 0 < confidence < 1 or seed < 0:
        raise ComparisonError(
            f"Wanted are resamples ≥ 1, 0 < confidence < 1 and seed ≥ 0, got {resamples}, {confidence} and {seed}."
        )
    videos = np.unique(np.concatenate([split.videos for split in splits]))
    numbered = [
        PairedSplit(split.name, np.searchsorted(videos, split.videos), split.labels, split.ranks) for split in splits
    ]
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in FIGURES}
    for start in range(0, resamples, CHUNK):
        weights = _resample_weights(generator, min(CHUNK, resamples - start), len(videos))
        for name in FIGURES:
            both = figure(numbered, name, weights)
            drawn[name].append(both[:, 1] - both[:, 0])
    differences = {}
    for name in FIGURES:
        a, b = figure(numbered, name, np.ones((1, len(videos))))[0]
        tail = (1 - confidence) / 2
        low, high = np.quantile(np.concatenate(drawn[name]), [tail, 1 - tail])
        differences[name] = Difference(float(a), float(b), float(b - a), float(low), float(high))
    return differences


def _resample_weights(generator: np.random.Generator, resamples: int, videos: int) -> np.ndarray:
    """How often each video is drawn, `[R, videos]`."""
    chosen = generator.integers(videos, size=(resamples, videos))
    offsets = np.arange(resamples)[:, None] * videos
    return (
        np.bincount((chosen + offsets).ravel(), minlength=resamples * videos).reshape(resamples, videos).astype(float)
    )


def read_results(file: Path) -> dict:
    """
    Raises:
        ComparisonError: not the `results.json` of an evaluation.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        lacking = {"protocol", "model", "limited", "splits"} - content.keys()
    except (OSError, AttributeError, ValueError) as error:
        raise ComparisonError(f"{file}: not the results.json of an evaluation ({error}).") from error
    if lacking:
        raise ComparisonError(f"{file}: not the results.json of an evaluation (it lacks {', '.join(sorted(lacking))}).")
    return content


def limits(a: Path, b: Path) -> list[str]:
    """What is to be said of results that were limited to some of the videos."""
    return [f"{side}: {note}" for side, file in (("A", a), ("B", b)) if (note := read_results(file)["limited"])]


def setting_differences(a: Path, b: Path) -> list[str]:
    """Fields of the protocols, number types and classes in which two results differ, with both values."""
    results = [read_results(file) for file in (a, b)]
    protocols = [result["protocol"] | {"dtype": result["model"]["dtype"]} for result in results]
    fields = dict.fromkeys([*protocols[0], *protocols[1]])
    different = [
        f"{name}: {protocols[0].get(name)} / {protocols[1].get(name)}"
        for name in fields
        if protocols[0].get(name) != protocols[1].get(name)
    ]
    for split in results[0]["splits"].keys() & results[1]["splits"].keys():
        classes = [list(result["splits"][split]["classes"].values()) for result in results]
        if classes[0] != classes[1]:
            first = next((pair for pair in zip(*classes, strict=False) if pair[0] != pair[1]), None)
            such = f", such as {first[0]!r} / {first[1]!r}" if first else ""
            different.append(f"classes of split {split}: {len(classes[0])} / {len(classes[1])}{such}")
    return different


__all__ = ["ComparisonError", "Difference", "compare", "pair"]
