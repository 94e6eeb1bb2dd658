"""The accuracies of `metrics` as metrics of Hugging Face's `evaluate`: nothing is fetched, as `evaluate.load` would.

A module of its own, because a script beside one that is called `evaluate.py`, as in our `examples/`, cannot import the
library of that name.
"""

import datasets
import evaluate

from .metrics import mean_class_accuracy, top_k_accuracy, true_class_ranks


_INPUTS = """
Args:
    predictions: scores `[N, C]`, higher is better.
    references: class indices `[N]`; -1 or -100 for a missing video, which is left out and counted in `missing`.
"""


class _AccuracyMetric(evaluate.Metric):
    """Keeps predictions in memory by default: nothing is written beside the run."""

    description = ""

    def __init__(self, *args, keep_in_memory: bool = True, num_process: int = 1, **kwargs):
        in_memory = keep_in_memory and num_process == 1
        super().__init__(*args, keep_in_memory=in_memory, num_process=num_process, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": [datasets.Value("float64")], "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=self.description,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )


class TopKAccuracy(_AccuracyMetric):
    """
    Share of videos whose true class is among the best `k`; with fewer classes than k, all are.

    Example:

    ```python
    >>> from .evaluate_metrics import TopKAccuracy

    >>> TopKAccuracy().compute(predictions=[[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]], references=[1, 1, -1], k=1)
    {'top1': 0.5, 'missing': 1}

    ```
    """

    description = "Top-k accuracy from scores; of equal scores the class with the lower index ranks first."

    def _compute(self, predictions, references, k: int = 1) -> dict[str, float]:
        ranks = true_class_ranks(predictions, references)
        return {f"top{k}": top_k_accuracy(ranks, k), "missing": int((ranks < 0).sum())}


class Top5Accuracy(TopKAccuracy):
    """[`TopKAccuracy`] of the best five."""

    def _compute(self, predictions, references, k: int = 5) -> dict[str, float]:
        return super()._compute(predictions, references, k)


class MeanClassAccuracy(_AccuracyMetric):
    """Mean over the classes, of those that have videos, of their top-1 accuracy."""

    description = "Mean per-class top-1 accuracy from scores."

    def _compute(self, predictions, references) -> dict[str, float]:
        ranks = true_class_ranks(predictions, references)
        return {"mean_class": mean_class_accuracy(ranks, references), "missing": int((ranks < 0).sum())}


__all__ = ["MeanClassAccuracy", "Top5Accuracy", "TopKAccuracy"]
