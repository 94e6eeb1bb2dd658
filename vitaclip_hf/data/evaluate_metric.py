"""The accuracies as a metric of Hugging Face's `evaluate`."""

import datasets
import evaluate
import numpy as np

from .metrics import accuracies


class VideoAccuracy(evaluate.Metric):
    """
    Top-1, top-5 and mean per-class accuracy of rankings. Nothing is fetched.

    Example:

    ```python
    >>> from vitaclip_hf.data.evaluate_metric import VideoAccuracy

    >>> VideoAccuracy().compute(predictions=[[0, 1], [0, 1], [0, 1]], references=[0, 1, -1])
    {'top1': 0.5, 'top5': 1.0, 'mean_class': 0.5, 'missing': 1}

    ```
    """

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
        return accuracies(np.array(predictions), references)


__all__ = ["VideoAccuracy"]
