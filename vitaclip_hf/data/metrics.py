"""Top-1, top-5 and mean per-class accuracy, as a metric of Hugging Face's `evaluate` and for `Trainer`.

All of them follow from one number a video: the *rank* of its true class, 0 for the highest score. Of equal scores the
class with the lower index ranks first, so a tie has one outcome on every machine. A video whose label is -1 or -100 is
missing: it counts in no accuracy and is reported by itself.
"""

import os
import sys
import tempfile
from collections.abc import Mapping

import datasets
import numpy as np


# A script called `evaluate.py`, such as ours in `examples/`, hides the library of that name from the scripts beside it.
_path, sys.path = sys.path, [folder for folder in sys.path if not os.path.isfile(os.path.join(folder, "evaluate.py"))]
try:
    import evaluate
finally:
    sys.path = _path


MISSING_LABELS = (-1, -100)


class MetricError(ValueError):
    """Scores and labels that no accuracy can be computed from; the message is one line."""


class VideoAccuracy(evaluate.Metric):
    """
    Top-1, top-5 and mean per-class accuracy of rankings, as a metric of `evaluate`. Nothing is fetched, and by default
    the predictions stay in memory.

    Example:

    ```python
    >>> from vitaclip_hf.data.metrics import VideoAccuracy

    >>> VideoAccuracy().compute(predictions=[[0, 1], [0, 1], [0, 1]], references=[0, 1, -1])
    {'top1': 0.5, 'top5': 1.0, 'mean_class': 0.5, 'missing': 1}

    ```
    """

    def __init__(self, *args, keep_in_memory: bool = True, num_process: int = 1, **kwargs):
        keep_in_memory = keep_in_memory and num_process == 1
        if keep_in_memory and "cache_dir" not in kwargs:
            # `evaluate` makes a folder even if nothing is written; its default is a cache that may be read-only, and a
            # name that all users of a machine share is one that another may have taken.
            with tempfile.TemporaryDirectory() as folder:
                super().__init__(*args, cache_dir=folder, keep_in_memory=True, **kwargs)
        else:
            super().__init__(*args, keep_in_memory=keep_in_memory, num_process=num_process, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": [datasets.Value("int64")], "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description="Top-1, top-5 and mean per-class accuracy of videos.",
            citation="",
            inputs_description="""
Args:
    predictions: class indices `(num_videos, K)`, best first; all classes, or at least the best five.
    references: class indices `(num_videos,)`; -1 or -100 for a missing video, which counts in no accuracy.
""",
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        width = max(map(len, predictions), default=1)
        if any(len(classes) != width for classes in predictions):
            raise MetricError("The rankings have different lengths; give the same number of classes for each video.")
        ranks = ranks_in_ranking(np.array(predictions, dtype=np.int64).reshape(len(predictions), width), references)
        return {
            "top1": top_k_accuracy(ranks, 1),
            "top5": top_k_accuracy(ranks, min(5, width)),
            "mean_class": mean_class_accuracy(ranks, references),
            "missing": int((ranks < 0).sum()),
        }


def true_class_ranks(scores, labels) -> np.ndarray:
    """
    Rank of each video's true class by its scores.

    Args:
        scores (`np.ndarray` of shape `(num_videos, num_classes)`): logits or probabilities, higher is better.
        labels (`np.ndarray` of shape `(num_videos,)`): class indices; -1 or -100 for a missing video.

    Returns:
        `np.ndarray` of shape `(num_videos,)`: 0 for the best class, `num_classes - 1` for the last, -1 where the video
        is missing.

    Raises:
        MetricError: shapes that do not match, labels outside the classes, or scores that are NaN.
    """
    scores, labels = _checked_scores(scores, labels)
    present = ~np.isin(labels, MISSING_LABELS)
    ranks = np.full(len(labels), -1)
    own = scores[present, labels[present]][:, None]
    before = np.arange(scores.shape[1]) < labels[present][:, None]
    ranks[present] = (scores[present] > own).sum(1) + ((scores[present] == own) & before).sum(1)
    return ranks


def ranks_in_ranking(ranking, labels) -> np.ndarray:
    """
    Rank of each video's true class in a ranking.

    Args:
        ranking (`np.ndarray` of shape `(num_videos, K)`): class indices, best first.
        labels (`np.ndarray` of shape `(num_videos,)`): class indices; -1 or -100 for a missing video.

    Returns:
        `np.ndarray` of shape `(num_videos,)`: 0 … K - 1, K where the true class is not in the ranking, -1 where the
        video is missing.

    Raises:
        MetricError: shapes that do not match, or labels that are not class indices.
    """
    ranking, labels = np.asarray(ranking), _checked_labels(labels)
    if ranking.ndim != 2 or len(ranking) != len(labels):
        raise MetricError(
            f"Rankings must have the shape [videos, K] with a label each, got {list(ranking.shape)} and "
            f"{len(labels)} labels."
        )
    hits = ranking == labels[:, None]
    ranks = np.where(hits.any(1), hits.argmax(1), ranking.shape[1])
    return np.where(np.isin(labels, MISSING_LABELS), -1, ranks)


def ranking(scores, k: int) -> np.ndarray:
    """The best classes of each row of scores, best first, of shape `(num_videos, min(k, num_classes))`."""
    return np.argsort(-np.asarray(scores, dtype=np.float64), axis=1, kind="stable")[:, :k]


def top_k_accuracy(ranks: np.ndarray, k: int) -> float:
    """Share of the videos whose true class is among the best `k`, without missing ones; NaN if all are missing."""
    if k < 1:
        raise MetricError(f"`k` must be at least 1, got {k}.")
    present = ranks[ranks >= 0]
    return float((present < k).mean()) if len(present) else float("nan")


def per_class_accuracy(ranks: np.ndarray, labels, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Accuracy of each class.

    Args:
        ranks (`np.ndarray` of shape `(num_videos,)`): from [`true_class_ranks`] or [`ranks_in_ranking`].
        labels (`np.ndarray` of shape `(num_videos,)`): class indices; -1 or -100 for a missing video.
        num_classes (`int`): number of classes.

    Returns:
        `tuple[np.ndarray, np.ndarray]`, both of shape `(num_classes,)`: top-1 accuracies (NaN for a class without
        videos), and the number of videos.
    """
    labels = _checked_labels(labels)
    present = ranks >= 0
    counts = np.bincount(labels[present], minlength=num_classes)
    hits = np.bincount(labels[present & (ranks == 0)], minlength=len(counts))
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan), counts


def mean_class_accuracy(ranks: np.ndarray, labels) -> float:
    """Mean of the top-1 accuracies of the classes that have videos; NaN without any video."""
    accuracies, counts = per_class_accuracy(ranks, labels, 0)
    return float(accuracies[counts > 0].mean()) if counts.any() else float("nan")


def accuracies(ranking: np.ndarray, labels) -> dict[str, float]:
    """
    The figures of [`VideoAccuracy`].

    Args:
        ranking (`np.ndarray` of shape `(num_videos, K)`): class indices, best first.
        labels (`np.ndarray` of shape `(num_videos,)`): class indices; -1 or -100 for a missing video.

    Returns:
        `dict[str, float]`: `top1`, `top5` and `mean_class` in 0 … 1, and `missing`, the number of videos that count in
        none of them.
    """
    return VideoAccuracy().compute(predictions=ranking, references=labels)


def compute_metrics(prediction) -> dict[str, float]:
    """
    The accuracies for `Trainer(compute_metrics=…)`.

    Args:
        prediction (`transformers.EvalPrediction`): or a pair of predictions and labels. The predictions are scores of
            shape `(num_videos, num_classes)`, or a tuple or dictionary of outputs whose first entry they are.

    Returns:
        `dict[str, float]`: see [`accuracies`].

    Raises:
        MetricError: shapes that do not match, labels outside the classes, or scores that are NaN.
    """
    scores, labels = (
        (prediction.predictions, prediction.label_ids) if hasattr(prediction, "predictions") else prediction
    )
    scores, labels = _checked_scores(_first(scores), _first(labels))
    return accuracies(ranking(scores, 5), labels)


def _first(value):
    while isinstance(value, (tuple, Mapping)):
        value = next(iter(value.values() if isinstance(value, Mapping) else value))
    return value


def _checked_scores(scores, labels) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores), _checked_labels(labels)
    if scores.ndim != 2 or len(scores) != len(labels):
        raise MetricError(
            f"Scores must have the shape [videos, classes] with a label each, got scores {list(scores.shape)} and "
            f"{len(labels)} labels."
        )
    present = ~np.isin(labels, MISSING_LABELS)
    if present.any() and labels[present].max() >= scores.shape[1]:
        raise MetricError(f"The label {labels[present].max()} is outside the {scores.shape[1]} classes of the scores.")
    if np.isnan(scores[present]).any():
        first = int(np.flatnonzero(present)[np.isnan(scores[present]).any(1).argmax()])
        raise MetricError(f"The scores of video {first} are not numbers (NaN); the model's output is broken.")
    return scores, labels


def _checked_labels(labels) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or (len(labels) and labels.dtype.kind not in "iu"):
        raise MetricError(f"Labels must be class indices [videos], got {labels.dtype} of shape {list(labels.shape)}.")
    labels = labels.astype(np.int64)
    wrong = labels[(labels < 0) & ~np.isin(labels, MISSING_LABELS)]
    if len(wrong):
        raise MetricError(f"The label {wrong[0]} is neither a class index nor {MISSING_LABELS} for a missing video.")
    return labels


__all__ = ["MetricError", "VideoAccuracy", "accuracies", "compute_metrics"]
