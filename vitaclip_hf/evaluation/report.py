"""The files of a finished evaluation: predictions, `results.json`, tables and figures.

predictions.parquet      one row a video and split: label, best classes and scores of each row, status
results.json             accuracies with everything that they depend on
results.md               the same as a table for a model card
per_class_SPLIT.csv      videos and accuracy of each class; .png beside
confusion_SPLIT.csv      videos of each true class (lines) by predicted class (columns); .png beside
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from ..data import metrics
from ..model.version import package_versions
from . import cost
from .evaluator import Evaluator
from .log import VideoResult
from .outcome import SplitOutcome, outcomes
from .per_class import ROW_TITLES, write_per_class
from .protocols import Protocol


FIGURES = ("top1", "top5", "mean_class")
FIGURE_TITLES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean per class"}


def write_report(folder: Path, evaluator: Evaluator, finished: Mapping[str, VideoResult], command: str = "") -> str:
    """Writes every file of a finished evaluation; returns the table."""
    done = outcomes(evaluator.plan, finished)
    write_predictions(folder / "predictions.parquet", done, evaluator.rows)
    results = build_results(evaluator, done, command)
    write_json(folder / "results.json", results)
    table = markdown_table(results)
    (folder / "results.md").write_text(table, encoding="utf-8")
    note = f" of {evaluator.protocol.name}" + (f" ({results['limited']})" if results["limited"] else "")
    for outcome in done:
        write_per_class(folder, outcome, evaluator.rows, note)
    return table


def build_results(evaluator: Evaluator, done: Sequence[SplitOutcome], command: str) -> dict:
    """What `results.json` holds: accuracies in 0 … 1, and all that another lab needs to get them again."""
    plan, protocol, checkpoint = evaluator.plan, evaluator.protocol, evaluator.checkpoint
    model = checkpoint.model
    return {
        "protocol": protocol.to_dict(),
        "limited": f"limited to {plan.limit} videos a split: a quick look, no result" if plan.limit else None,
        "rows": summarize(done, evaluator.rows, protocol),
        "std": "over the splits, of a sample (n - 1)",
        "splits": describe_splits(done, protocol),
        "warnings": evaluator.warnings,
        "model": {
            "name": checkpoint.name,
            "revision": checkpoint.revision,
            "sha256": evaluator.sha256,
            "dtype": str(model.dtype).removeprefix("torch."),
            "logit_scale": model.logit_scale.exp().item(),
        },
        "video_processor": json.loads(checkpoint.processor.video_processor.to_json_string()),
        "cost": cost.cost(model, evaluator.frames, evaluator.batch_size * protocol.views * protocol.spatial_views),
        "batch_size": evaluator.batch_size,
        "machine": cost.machine(model.device),
        "versions": package_versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
    }


def write_predictions(file: Path, done: Sequence[SplitOutcome], rows: Sequence[str]) -> None:
    """The per-video predictions; the same results give the same bytes."""
    columns: dict[str, tuple[pyarrow.DataType, list]] = {
        name: (kind, [])
        for name, kind in {
            "split": pyarrow.string(),
            "path": pyarrow.string(),
            "label": pyarrow.int32(),
            "class": pyarrow.string(),
            "status": pyarrow.string(),
            "reason": pyarrow.string(),
            **{f"{row}_ids": pyarrow.list_(pyarrow.int32()) for row in rows},
            **{f"{row}_scores": pyarrow.list_(pyarrow.float32()) for row in rows},
        }.items()
    }
    for outcome in done:
        name, classes = outcome.split.name, outcome.split.table.class_names
        for sample, result in zip(outcome.split.table.samples, outcome.results, strict=True):
            label = sample.label or 0  # a plan has labelled videos only
            values: dict[str, object] = {
                "split": name,
                "path": sample.name,
                "label": label,
                "class": classes[label],
                "status": result.status,
                "reason": result.reason,
            }
            for row in rows:
                ids, scores = result.scores[row][name] if result.status == "ok" else (None, None)
                values |= {f"{row}_ids": ids, f"{row}_scores": scores}
            for column, value in values.items():
                columns[column][1].append(value)
    table = pyarrow.table({name: pyarrow.array(values, kind) for name, (kind, values) in columns.items()})
    partial = file.with_suffix(".partial")
    pyarrow.parquet.write_table(table, partial)
    partial.replace(file)


def mean_and_std(values: Sequence[float]) -> dict:
    """Mean, and sample standard deviation (n - 1) if there are several."""
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def summarize(done: Sequence[SplitOutcome], rows: Sequence[str], protocol: Protocol) -> dict:
    """Accuracies by row: of each split, and over the splits.

    Returns:
        For each row `{"splits": {split: {"top1", "top5", "mean_class"}}, "top1": {"mean", "std"}, …}`, in 0 … 1; for
        base-to-novel, `{"harmonic_mean"}` of the two in place of mean and deviation.
    """
    summary: dict[str, dict] = {}
    for row in rows:
        by_split = {}
        for outcome in done:
            found = metrics.accuracies(outcome.ranks(row), outcome.labels)
            by_split[outcome.split.name] = {name: _number(found[name]) for name in FIGURES}
        summary[row] = {"splits": by_split}
        for name in FIGURES:
            values = [value for figures in by_split.values() if (value := figures[name]) is not None]
            if len(values) < len(by_split):  # a split without a single video that could be read
                summary[row][name] = {"mean": None, "std": None}
            elif protocol.task == "base-to-novel" and len(values) == 2:
                summary[row][name] = {"harmonic_mean": statistics.harmonic_mean(values)}
            else:
                summary[row][name] = mean_and_std(values)
    return summary


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def describe_splits(done: Sequence[SplitOutcome], protocol: Protocol) -> dict:
    """What each split's figures were measured on."""
    return {
        outcome.split.name: {
            "list": Path(outcome.split.table.source).name,
            "list_sha256": outcome.split.sha256,
            "files_sha256": outcome.split.files,
            "text": outcome.split.text,
            "videos": outcome.videos(),
            "missing": [result.name for result in outcome.results if result.status == "missing"],
            "failed": [
                {"path": result.name, "reason": result.reason}
                for result in outcome.results
                if result.status == "failed"
            ],
            "classes": dict(zip(outcome.split.table.class_names, outcome.split.texts(protocol.spelling), strict=True)),
        }
        for outcome in done
    }


def write_json(file: Path, content: Mapping) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(file)


# The table


def markdown_table(results: Mapping) -> str:
    """Accuracies in percent with what they depend on, for a model card."""
    protocol, rows = results["protocol"], results["rows"]
    titles = [f"{ROW_TITLES[row]} {FIGURE_TITLES[name]}" for row in rows for name in FIGURES]
    lines = [f"| {protocol['name']} | {' | '.join(titles)} | videos |", "| --- |" + " ---: |" * (len(titles) + 1)]
    for split, about in results["splits"].items():
        cells = [percent(rows[row]["splits"][split][name]) for row in rows for name in FIGURES]
        lines.append(f"| {split} | {' | '.join(cells)} | {video_counts(about['videos'])} |")
    if len(results["splits"]) > 1:
        harmonic = "harmonic_mean" in next(iter(rows.values()))["top1"]
        cells = [_mean_cell(rows[row][name]) for row in rows for name in FIGURES]
        lines.append(f"| {'harmonic mean' if harmonic else 'mean ± std (n − 1)'} | {' | '.join(cells)} | |")
    notes = [*([results["limited"]] if results["limited"] else []), *results["warnings"]]
    listed = ["", *(f"- **{note}**" for note in notes)] if notes else []
    return "\n".join([*lines, "", describe_setting(results), *listed]) + "\n"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _mean_cell(figures: Mapping) -> str:
    if "harmonic_mean" in figures:
        return percent(figures["harmonic_mean"])
    return percent(figures["mean"]) + (f" ± {100 * figures['std']:.1f}" if figures["std"] is not None else "")


def video_counts(videos: Mapping[str, int]) -> str:
    return f"{videos['evaluated']:,} of {videos['asked_for']:,}; {videos['missing']} missing, {videos['failed']} failed"


def describe_setting(results: Mapping) -> str:
    """One line that says under what the figures were measured."""
    protocol, model, cost = results["protocol"], results["model"], results["cost"]
    sampling = protocol["sampling"] + (f", stride {protocol['stride']}" if protocol["sampling"] == "dense" else "")
    templates = "; ".join(f"`{template}`" for template in protocol["templates"])
    gmacs = cost["gmacs_per_view"]
    if any(about["text"] == "supervised" for about in results["splits"].values()):
        templates = f"learned contexts (frozen CLIP and novel classes: {templates})"
    else:
        templates = f"templates {templates}"
    return (
        f"{model['name']} ({(model['revision'] or model['sha256'])[:12]}), {results['date'][:10]}: "
        f"{protocol['frames']} frames ({sampling}), {protocol['views']} × {protocol['spatial_views']} views, "
        f"{templates}, class names {protocol['spelling']}; {gmacs['vita_clip']:.1f} GMACs a view "
        f"(plain CLIP {gmacs['plain_clip']:.1f})."
    )
