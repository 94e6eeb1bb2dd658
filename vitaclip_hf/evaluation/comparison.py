"""Differences between two evaluations of the same videos, with paired bootstrap confidence intervals.

A resample draws videos with replacement and takes both systems' answers for each. What makes a video hard for both
systems therefore does not widen the interval. A video that several splits share is drawn for all of them at once (the
three test splits of HMDB51 overlap).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from ..data import metrics
from .plan import OWN_SPLIT
from .predictions import read_predictions
from .result_files import ResultsError, read_results


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


def pair(
    a: Path | str, b: Path | str, rows: tuple[str, str] = ("vita_clip", "vita_clip")
) -> tuple[list[PairedSplit], int]:
    """
    Puts the answers of two evaluations side by side.

    Args:
        a, b (`Path` or `str`): two `results.json`.
        rows (`tuple[str, str]`, defaults to `("vita_clip", "vita_clip")`): which row of each.

    Returns:
        The splits, and how many answers were left out because one of the two could not read the video.

    Raises:
        ResultsError: files that cannot be read, or videos, labels or splits that differ.
    """
    tables = [read_predictions(Path(file).parent, row) for file, row in zip((a, b), rows, strict=True)]
    places = [
        {key: place for place, key in enumerate(zip(table["split"], table["path"], strict=True))} for table in tables
    ]
    if places[0].keys() != places[1].keys():
        only = sorted(places[0].keys() ^ places[1].keys())
        raise ResultsError(
            f"{a} and {b} are of different videos: {len(only)} are in one only, such as {only[0][1]} (split "
            f"{only[0][0]}); evaluate both on the same lists."
        )
    numbers = {path: number for number, path in enumerate(dict.fromkeys(tables[0]["path"]))}
    splits, left_out = [], 0
    for name in dict.fromkeys(tables[0]["split"]):
        keys = [key for key in places[0] if key[0] == name]
        in_order = [[place[key] for key in keys] for place in places]
        labels = [[table["label"][i] for i in order] for table, order in zip(tables, in_order, strict=True)]
        if labels[0] != labels[1]:
            raise ResultsError(f"{a} and {b} have different labels for the same videos (split {name}).")
        rankings = [[table["ids"][i] for i in order] for table, order in zip(tables, in_order, strict=True)]
        both = [index for index in range(len(keys)) if rankings[0][index] and rankings[1][index]]
        left_out += len(keys) - len(both)
        if not both:
            continue
        kept = np.array([labels[0][index] for index in both])
        ranks = [metrics.ranks_in_ranking([ranking[index] for index in both], kept) for ranking in rankings]
        videos = np.array([numbers[keys[index][1]] for index in both])
        splits.append(PairedSplit(name, videos, kept, np.stack(ranks)))
    if not splits:
        raise ResultsError(f"{a} and {b} have no video that both could read.")
    return splits, left_out


def figure(splits: Sequence[PairedSplit], name: str, weights: np.ndarray) -> np.ndarray:
    """
    One accuracy of both systems, averaged over the splits.

    Args:
        splits (`Sequence[PairedSplit]`): paired answers.
        name (`str`): a key of `METRICS`.
        weights (`np.ndarray` of shape `(num_resamples, num_videos)`): how often each video counts.

    Returns:
        `np.ndarray` of shape `(num_resamples, 2)`.
    """
    metric = metrics.METRICS[name]
    with np.errstate(invalid="ignore"):  # a small split may have no video in a resample
        by_split = [
            [metric.compute(ranks, split.labels, weights[:, split.videos]) for ranks in split.ranks] for split in splits
        ]
    return np.nanmean(by_split, axis=0).T


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
        ResultsError: no resamples, a confidence outside 0 … 1, or a negative seed.
    """
    if resamples < 1 or not 0 < confidence < 1 or seed < 0:
        raise ResultsError(
            "`resamples` must be at least 1, `confidence` between 0 and 1 and `seed` at least 0, got "
            f"{resamples}, {confidence} and {seed}."
        )
    videos = np.unique(np.concatenate([split.videos for split in splits]))
    numbered = [
        PairedSplit(split.name, np.searchsorted(videos, split.videos), split.labels, split.ranks) for split in splits
    ]

    def figures(weights: np.ndarray) -> np.ndarray:  # [R, N] -> [F, R, 2]
        return np.stack([figure(numbered, name, weights) for name in metrics.METRICS])

    def differences(drawn: np.ndarray, axis: int) -> np.ndarray:  # [R, N] -> [F, R]
        both = figures(_draws_of_each(drawn, len(videos)))
        return both[..., 1] - both[..., 0]

    interval = bootstrap(
        (np.resize(np.arange(len(videos)), max(2, len(videos))),),  # scipy wants two: a single video stands there twice
        differences,
        n_resamples=resamples,
        batch=BATCH,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    found = zip(metrics.METRICS, figures(np.ones((1, len(videos))))[:, 0], interval.low, interval.high, strict=True)
    return {
        name: Difference(float(a), float(b), float(b - a), float(low), float(high)) for name, (a, b), low, high in found
    }


def _draws_of_each(drawn: np.ndarray, videos: int) -> np.ndarray:
    """How often each video was drawn: numbers of videos `[R, K]` to counts `[R, videos]`."""
    offsets = np.arange(len(drawn))[:, None] * videos
    counts = np.bincount((drawn + offsets).ravel(), minlength=len(drawn) * videos)
    return counts.reshape(len(drawn), videos).astype(np.float64)


def limits(a: Path | str, b: Path | str) -> list[str]:
    """A note for each of two results that was limited to some of the videos, or is of an own split."""
    notes = []
    for side, file in (("A", a), ("B", b)):
        results = read_results(file)
        class_split = results.get("class_split") or {}
        notes += [f"{side}: {results['limited']}"] if results["limited"] else []
        notes += [f"{side}: {OWN_SPLIT}, not a published one"] if class_split.get("origin") == OWN_SPLIT else []
    return notes


def check_class_splits(a: Path | str, b: Path | str) -> None:
    """
    Raises:
        ResultsError: base and novel classes are an own split in one of the two results, and published or given in the
            other.
    """
    origins = [(read_results(file).get("class_split") or {}).get("origin") for file in (a, b)]
    if None not in origins and origins.count(OWN_SPLIT) == 1:
        own, other = (a, b) if origins[0] == OWN_SPLIT else (b, a)
        raise ResultsError(
            f"{own} is of an own split (the first half of the classes is base), {other} is not: their accuracies are "
            "of different classes. Evaluate both with the same `base_classes` and `novel_classes`."
        )


def setting_differences(a: Path | str, b: Path | str) -> list[str]:
    """Fields of the protocol, number types and classes that differ between two results, with both values."""
    results = [read_results(file) for file in (a, b)]
    settings = [
        result["protocol"] | {"dtype": result["model"]["dtype"]} | (result.get("options") or {}) for result in results
    ]
    different = [
        f"{name}: {settings[0].get(name)} / {settings[1].get(name)}"
        for name in dict.fromkeys([*settings[0], *settings[1]])
        if settings[0].get(name) != settings[1].get(name)
    ]
    for split in results[0]["splits"].keys() & results[1]["splits"].keys():
        classes = [list(result["splits"][split]["classes"].values()) for result in results]
        if classes[0] != classes[1]:
            first = next((pair for pair in zip(*classes, strict=False) if pair[0] != pair[1]), None)
            such = f", such as {first[0]!r} / {first[1]!r}" if first else ""
            different.append(f"classes of split {split}: {len(classes[0])} / {len(classes[1])}{such}")
    return different


__all__ = ["Difference", "PairedSplit", "check_class_splits", "compare", "limits", "pair", "setting_differences"]
