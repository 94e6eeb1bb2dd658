"""Accuracies of each split and over the splits, and their Markdown table for the results folder and model cards."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.metrics import METRICS, TOP, accuracies, ranks_in_ranking
from ..model.read_options import CHOICES
from .plan import EvaluationPlan, EvaluationSplit
from .progress_log import VideoResult
from .protocols import Protocol


ROW_TITLES = {"vita_clip": "Vita-CLIP", "frozen_clip": "frozen CLIP"}


@dataclass(frozen=True)
class SplitOutcome:
    """One split with the results of its videos, in the order of its list."""

    split: EvaluationSplit
    results: tuple[VideoResult, ...]

    @property
    def labels(self) -> np.ndarray:
        """The true classes, shape `(num_videos,)`; -1 where the video is missing or failed."""
        pairs = zip(self.split.table.samples, self.results, strict=True)
        return np.array([sample.label if result.status == "ok" else -1 for sample, result in pairs], dtype=np.int64)

    def ranking(self, row: str) -> np.ndarray:
        """The best classes, best first, shape `(num_videos, k)`; -1 where the video is missing or failed."""
        width = min(TOP, len(self.split.table.class_names))
        scores = [result.scores[row][self.split.name][0] if result.scores else [-1] * width for result in self.results]
        return np.array(scores, dtype=np.int64).reshape(len(scores), width)

    def ranks(self, row: str) -> np.ndarray:
        """The rank of each true class, shape `(num_videos,)`; -1 where the video is missing or failed."""
        return ranks_in_ranking(self.ranking(row), self.labels)

    def videos(self) -> dict[str, int]:
        """How many videos are listed, asked for under the limit, evaluated, missing and failed."""
        count = Counter(result.status for result in self.results)
        counts = {"evaluated": count["ok"], "missing": count["missing"], "failed": count["failed"]}
        return {"listed": self.split.listed, "asked_for": len(self.results)} | counts


def outcomes(plan: EvaluationPlan, finished: Mapping[str, VideoResult]) -> list[SplitOutcome]:
    """The splits of a plan with their results."""
    return [
        SplitOutcome(split, tuple(finished[sample.name] for sample in split.table.samples)) for split in plan.splits
    ]


def summarize(done: Sequence[SplitOutcome], rows: Sequence[str], protocol: Protocol) -> dict[str, dict]:
    """Accuracies by row: of each split, and over the splits.

    Returns:
        For each row `{"splits": {split: {"top1", "top5", "mean_class"}}, "top1": {"mean", "std"}, …}`, in 0 … 1.
        For base-to-novel, `{"harmonic_mean"}` of the two splits replaces mean and deviation.
    """
    summary: dict[str, dict] = {}
    for row in rows:
        measured = {outcome.split.name: accuracies(outcome.ranking(row), outcome.labels) for outcome in done}
        splits = {split: {n: None if np.isnan(f[n]) else f[n] for n in METRICS} for split, f in measured.items()}
        summary[row] = {"splits": splits}
        for name in METRICS:
            values = [figures[name] for figures in measured.values()]
            if np.isnan(values).any():  # no video of a split could be read
                summary[row][name] = {"mean": None, "std": None}
            elif protocol.task == "base-to-novel" and len(values) == 2:
                summary[row][name] = {"harmonic_mean": statistics.harmonic_mean(values)}
            else:
                summary[row][name] = mean_and_std(values)
    return summary


def mean_and_std(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, and sample standard deviation (n - 1) if there are several values."""
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def markdown_table(results: Mapping[str, Any]) -> str:
    """Accuracies in percent, one line for each split, with the setting below.

    Args:
        results: the content of a `results.json`, as [`read_results`] gives it.
    """
    class_split, several = results.get("class_split"), len(results["splits"]) > 1
    title = results["protocol"]["name"] + (f" ({class_split['label']})" if class_split else "")
    harmonic = any("harmonic_mean" in row["top1"] for row in results["rows"].values())
    over = "harmonic mean" if harmonic else "mean ± std (n − 1)"
    figures = {name: row["splits"] | ({over: row} if several else {}) for name, row in results["rows"].items()}
    lines = [*accuracy_table(title, figures), ""]
    for split, facts in results["splits"].items():
        videos = facts["videos"]
        counts = f"{videos['evaluated']:,} of {videos['asked_for']:,}; {videos['missing']} missing, "
        lines.append(f"- {split}: videos {counts}{videos['failed']} failed")
    lines += [f"- published: {results['published']}"] if results.get("published") else []
    notes = [*([results["limited"]] if results["limited"] else []), *results["warnings"]]
    lines += [f"- **{note}**" for note in notes]
    return "\n".join([*lines, "", _setting(results)]) + "\n"


def accuracy_table(title: str, figures: Mapping[str, Any]) -> list[str]:
    """The lines of a table of `{row: {split: {metric: value or {"mean", "std"}}}}`, in percent."""
    lines = [[title, *(metric.title for metric in METRICS.values())]]
    for split in next(iter(figures.values())):
        for row, splits in figures.items():
            lines.append([f"{split}, {ROW_TITLES.get(row, row)}", *(percent(splits[split][name]) for name in METRICS)])
    return table(lines)


def table(lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; the first one is its head. The cells of a column have one width."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    forms = [f"<{widths[0]}", *(f">{width}" for width in widths[1:])]
    return [f"| {' | '.join(map(format, line, forms))} |" for line in (lines[0], rule, *lines[1:])]


def percent(value: Mapping[str, float | None] | float | None) -> str:
    """A value or a mean in 0 … 1 in percent, with its deviation if there is one; a dash for `None`."""
    figures = value if isinstance(value, Mapping) else {"mean": value}
    mean, std = figures.get("harmonic_mean", figures.get("mean")), figures.get("std")
    return "–" if mean is None else f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _setting(results: Mapping[str, Any]) -> str:
    """One line with the model and the setting: frames, views, texts and cost."""
    protocol, model, gmacs = results["protocol"], results["model"], results["cost"].get("gmacs_per_view")
    dense = f", stride {protocol['frame_stride']}" if protocol["sampling"] == "dense" else ""
    templates = "; ".join(f"`{template}`" for template in protocol["templates"])
    if any(split["text"] == "supervised" for split in results["splits"].values()):
        templates = f"learned contexts (frozen CLIP and novel classes: {templates})"
    else:
        templates = f"templates {templates}"
    options = results.get("options") or {}
    more = f", blend {options['blend']:g} with frozen CLIP" if "blend" in options else ""
    more += ", texts of a class descriptions file" if "descriptions" in options else ""
    more += "".join(f", {name} {options[name]}" for name in CHOICES if name in options)
    cost = f"; {gmacs['vita_clip']:.1f} GMACs a view (plain CLIP {gmacs['plain_clip']:.1f})" if gmacs else ""
    return (
        f"{model['name']} ({(model['revision'] or model['sha256'])[:12]}), {results['date'][:10]}: "
        f"{protocol['num_frames']} frames ({protocol['sampling']}{dense}), "
        f"{protocol['num_views']} × {protocol['num_spatial_views']} views, {templates}, class names "
        f"{protocol['spelling']}{more}{cost}."
    )
