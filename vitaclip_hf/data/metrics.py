"""Top-1, top-5 and mean per-class accuracy, for the training and the evaluation.

All of them follow from one number a video: the *rank* of its true class, 0 for the highest score. Of equal scores the
class with the lower index ranks first, so a tie has one outcome on every machine. A video whose label is -1 or -100 is
missing: it counts in no accuracy and is reported separately.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np


MISSING_LABELS = (-1, -100)
TOP = 5  # classes of a ranking that all metrics here need


def _top_k(ranks: np.ndarray, labels: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
    return weights @ (ranks < k) / weights.sum(1)


def _mean_class(ranks: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    order = np.argsort(labels, kind="stable")
    starts = np.unique(labels[order], return_index=True)[1]
    counts = np.add.reduceat(weights[:, order], starts, axis=1)  # [R, C]
    hits = np.add.reduceat((weights * (ranks == 0))[:, order], starts, axis=1)
    # A class without a video in a resample does not count there.
    return (hits / np.maximum(counts, 1)).sum(1) / (counts > 0).sum(1)


class Metric(NamedTuple):
    """
    A metric of ranks.

    Attributes:
        title (`str`): its name in tables.
        compute (`Callable`): from ranks `[N]`, true classes `[N]` and weights `[R, N]` to values `[R]` in 0 … 1. A
            weight says how often a video counts; each row is a resample.
    """

    title: str
    compute: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


# A new metric is one line here: results, comparisons and `metric_for_best_model` of a training take it from there.
METRICS = {
    "top1": Metric("top-1", partial(_top_k, k=1)),
    "top5": Metric("top-5", partial(_top_k, k=TOP)),
    "mean_class": Metric("mean per class", _mean_class),
}


def ranks_in_ranking(ranking, labels) -> np.ndarray:
    """
    Rank of each video's true class in a ranking.

    Args:
        ranking (`np.ndarray` of shape `(num_videos, K)`): class indices, best first.
        labels (`np.ndarray` of shape `(num_videos,)`): class indices; -1 or -100 for a missing video.

    Returns:
        `np.ndarray` of shape `(num_videos,)`: 0 … K - 1, `max(K, 5)` where the true class is not in the ranking, -1
        where the video is missing.
    """
    ranking, labels = np.asarray(ranking), np.asarray(labels)
    hits = ranking == labels[:, None]
    ranks = np.where(hits.any(1), hits.argmax(1), max(ranking.shape[1], TOP))
    return np.where(np.isin(labels, MISSING_LABELS), -1, ranks)


def ranking(scores, k: int = TOP) -> np.ndarray:
    """The best classes of each row of scores, best first, of shape `(num_videos, min(k, num_classes))`."""
    return np.argsort(-np.asarray(scores, dtype=np.float64), axis=1, kind="stable")[:, :k]


def per_class_accuracy(ranks: np.ndarray, labels, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Accuracy of each class.

    Args:
        ranks (`np.ndarray` of shape `(num_videos,)`): from [`ranks_in_ranking`].
        labels (`np.ndarray` of shape `(num_videos,)`): class indices; -1 or -100 for a missing video.
        num_classes (`int`): number of classes.

    Returns:
        `tuple[np.ndarray, np.ndarray]`, both of shape `(num_classes,)`: top-1 accuracies (NaN for a class without
        videos), and the number of videos.
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels[ranks >= 0], minlength=num_classes)
    hits = np.bincount(labels[ranks == 0], minlength=num_classes)
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan), counts


def accuracies(ranking, labels) -> dict[str, float]:
    """
    All metrics of a ranking.

    Args:
        ranking (`np.ndarray` of shape `(num_videos, K)`): class indices, best first; at least the best five, or all.
        labels (`np.ndarray` of shape `(num_videos,)`): class indices; -1 or -100 for a missing video.

    Returns:
        `dict[str, float]`: `top1`, `top5` and `mean_class` in 0 … 1 (NaN without videos), and `missing`, the number of
        videos that count in none of them.
    """
    ranks, labels = ranks_in_ranking(ranking, labels), np.asarray(labels)
    present = ranks >= 0
    every = np.ones((1, present.sum()))
    values = {
        name: float(metric.compute(ranks[present], labels[present], every)[0]) if present.any() else float("nan")
        for name, metric in METRICS.items()
    }
    return values | {"missing": int((~present).sum())}


def compute_metrics(scores, labels) -> dict[str, float]:
    """
    The accuracies of scores.

    Args:
        scores (`np.ndarray` of shape `(num_videos, num_classes)`): the scores, of any kind.
        labels (`np.ndarray` of shape `(num_videos,)`): class indices; -1 or -100 for a missing video.

    Returns:
        `dict[str, float]`: see [`accuracies`].

    Raises:
        ValueError: labels outside the classes, or scores that are NaN.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if len(labels) and labels.max() >= scores.shape[1]:
        raise ValueError(f"The label {labels.max()} is outside the {scores.shape[1]} classes of the scores.")
    if np.isnan(scores[~np.isin(labels, MISSING_LABELS)]).any():
        raise ValueError("The scores of a video are not numbers (NaN); the model's output is broken.")
    return accuracies(ranking(scores), labels)
