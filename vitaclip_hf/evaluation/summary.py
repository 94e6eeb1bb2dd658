"""Accuracies of each split, and over the splits."""

import statistics
from collections.abc import Sequence

import numpy as np

from ..data import metrics
from .protocols import Protocol
from .results_table import FIGURES
from .split_outcome import SplitOutcome


def summarize(done: Sequence[SplitOutcome], rows: Sequence[str], protocol: Protocol) -> dict[str, dict]:
    """Accuracies by row: of each split, and over the splits.

    Returns:
        For each row `{"splits": {split: {"top1", "top5", "mean_class"}}, "top1": {"mean", "std"}, …}`, in 0 … 1.
        For base-to-novel, `{"harmonic_mean"}` of the two splits replaces mean and deviation.
    """
    summary: dict[str, dict] = {}
    for row in rows:
        by_split = {}
        for outcome in done:
            found = metrics.accuracies(outcome.ranking(row), outcome.labels)
            by_split[outcome.split.name] = {name: _number(found[name]) for name in FIGURES}
        summary[row] = {"splits": by_split}
        for name in FIGURES:
            values = [value for figures in by_split.values() if (value := figures[name]) is not None]
            if len(values) < len(by_split):  # no video of a split could be read
                summary[row][name] = {"mean": None, "std": None}
            elif protocol.task == "base-to-novel" and len(values) == 2:
                summary[row][name] = {"harmonic_mean": statistics.harmonic_mean(values)}
            else:
                summary[row][name] = mean_and_std(values)
    return summary


def mean_and_std(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, and sample standard deviation (n - 1) if there are several values."""
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


__all__ = ["mean_and_std", "summarize"]
