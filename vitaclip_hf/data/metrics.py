"""Top-1, top-k and mean per-class accuracy, and a `compute_metrics` of them for `Trainer`.

All three follow from one number a video: the *rank* of its true class, 0 for the highest score. Of equal scores the
class with the lower index ranks first, so that a tie has one outcome on every machine. A video whose label is -1 or
-100 is missing: it counts in no accuracy and is reported by itself. `evaluate_metrics` has them for Hugging Face's
`evaluate`.
"""

from collections.abc import Mapping

import numpy as np


MISSING_LABELS = (-1, -100)


class MetricError(ValueError):
    """Scores and labels that no accuracy can be computed from; the message is one line."""


def true_class_ranks(scores, labels) -> np.ndarray:
    """Rank of each video's true class by its scores.

    Args:
        scores: `[N, C]`, higher is better (logits or probabilities).
        labels: class indices `[N]`; -1 or -100 for a missing video.

    Returns:
        Whole numbers `[N]`, 0 for the best class and `C - 1` for the last; -1 where the video is missing.

    Raises:
        MetricError: shapes that do not match, labels outside 0 … C - 1, or scores that are not numbers.
    """
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
    ranks = np.full(len(labels), -1)
    own = scores[present, labels[present]][:, None]
    before = np.arange(scores.shape[1]) < labels[present][:, None]
    ranks[present] = (scores[present] > own).sum(1) + ((scores[present] == own) & before).sum(1)
    return ranks


def ranks_in_ranking(ranking, labels) -> np.ndarray:
    """The same from class indices, best first, `[N, K]`: K where the true class is not among them."""
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
    """The `k` best classes of each row `[N, C]`, best first, `[N, min(k, C)]`; of equals the lower index first."""
    return np.argsort(-np.asarray(scores, dtype=np.float64), axis=1, kind="stable")[:, :k]


def top_k_accuracy(ranks: np.ndarray, k: int) -> float:
    """Share of the videos that are there (rank ≥ 0) whose true class is among the best k; NaN without any."""
    if k < 1:
        raise MetricError(f"`k` must be at least 1, got {k}.")
    present = ranks[ranks >= 0]
    return float((present < k).mean()) if len(present) else float("nan")


def per_class_accuracy(ranks: np.ndarray, labels, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Top-1 accuracy of each class `[C]`, NaN for one without videos, and the videos of each class `[C]`."""
    labels = _checked_labels(labels)
    present = ranks >= 0
    counts = np.bincount(labels[present], minlength=num_classes)
    hits = np.bincount(labels[present & (ranks == 0)], minlength=len(counts))
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan), counts


def mean_class_accuracy(ranks: np.ndarray, labels) -> float:
    """Mean over the classes that have videos of their top-1 accuracies; NaN without any video."""
    accuracies, counts = per_class_accuracy(ranks, labels, 0)
    return float(accuracies[counts > 0].mean()) if counts.any() else float("nan")


def accuracies(ranks: np.ndarray, labels) -> dict[str, float]:
    """`top1`, `top5` and `mean_class` in 0 … 1, and `missing`, the number of videos that count in none of them."""
    return {
        "top1": top_k_accuracy(ranks, 1),
        "top5": top_k_accuracy(ranks, 5),
        "mean_class": mean_class_accuracy(ranks, labels),
        "missing": int((ranks < 0).sum()),
    }


def compute_metrics(prediction) -> dict[str, float]:
    """For `Trainer(compute_metrics=…)`.

    Args:
        prediction: `transformers.EvalPrediction`, or a pair of predictions and labels. The predictions are scores
            `[N, C]`, or a tuple or dictionary of outputs whose first entry they are.

    Returns:
        `{"top1", "top5", "mean_class", "missing"}`, see [`accuracies`].
    """
    scores, labels = (
        (prediction.predictions, prediction.label_ids) if hasattr(prediction, "predictions") else prediction
    )
    return accuracies(true_class_ranks(_first(scores), _first(labels)), _first(labels))


def _first(value):
    while isinstance(value, (tuple, Mapping)):
        value = next(iter(value.values() if isinstance(value, Mapping) else value))
    return value


def _checked_labels(labels) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or (len(labels) and labels.dtype.kind not in "iu"):
        raise MetricError(f"Labels must be class indices [videos], got {labels.dtype} of shape {list(labels.shape)}.")
    labels = labels.astype(np.int64)
    wrong = labels[(labels < 0) & ~np.isin(labels, MISSING_LABELS)]
    if len(wrong):
        raise MetricError(f"The label {wrong[0]} is neither a class index nor {MISSING_LABELS} for a missing video.")
    return labels


__all__ = ["MetricError", "accuracies", "compute_metrics"]
