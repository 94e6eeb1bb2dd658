"""The results of one split's videos, in the order of its list, as labels and rankings."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..data import metrics
from .plan import EvaluationPlan, EvaluationSplit
from .progress_log import VideoResult


@dataclass(frozen=True)
class SplitOutcome:
    """One split with the results of its videos, in the order of its list."""

    split: EvaluationSplit
    results: tuple[VideoResult, ...]

    @property
    def labels(self) -> np.ndarray:
        """The true classes, shape `(num_videos,)`; -1 where the video is missing or failed."""
        samples = self.split.table.samples
        pairs = zip(samples, self.results, strict=True)
        return np.array([sample.label if result.status == "ok" else -1 for sample, result in pairs], dtype=np.int64)

    def ranking(self, row: str) -> np.ndarray:
        """The best classes, best first, shape `(num_videos, k)`; -1 where the video is missing or failed."""
        width = min(5, len(self.split.table.class_names))
        nothing = [-1] * width
        rows = [result.scores[row][self.split.name][0] if result.status == "ok" else nothing for result in self.results]
        return np.array(rows, dtype=np.int64).reshape(len(rows), width)

    def ranks(self, row: str) -> np.ndarray:
        """The rank of each true class, shape `(num_videos,)`; -1 where the video is missing or failed."""
        return metrics.ranks_in_ranking(self.ranking(row), self.labels)

    def videos(self) -> dict[str, int]:
        """How many videos are listed, asked for under the limit, evaluated, missing and failed."""
        count = Counter(result.status for result in self.results)
        return {
            "listed": self.split.listed,
            "asked_for": len(self.results),
            "evaluated": count["ok"],
            "missing": count["missing"],
            "failed": count["failed"],
        }


def outcomes(plan: EvaluationPlan, finished: Mapping[str, VideoResult]) -> list[SplitOutcome]:
    """The splits of a plan with their results."""
    return [
        SplitOutcome(split, tuple(finished[sample.name] for sample in split.table.samples)) for split in plan.splits
    ]


__all__ = ["SplitOutcome", "outcomes"]
