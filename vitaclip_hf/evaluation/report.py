"""Writes the files of a finished evaluation.

predictions.parquet      one row for each video and split: label, best classes and scores, status
results.json             accuracies with everything that they depend on
results.md               the same as a table for a model card
per_class_SPLIT.csv      videos and accuracy of each class; .png beside
confusion_SPLIT.csv      videos of each true class (lines) by predicted class (columns); .png beside
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..model.version import package_versions
from . import cost
from .evaluator import Evaluator
from .per_class import write_per_class
from .predictions import write_predictions
from .progress_log import VideoResult
from .protocols import Protocol
from .result_files import write_json
from .results_table import markdown_table
from .split_outcome import SplitOutcome, outcomes
from .summary import summarize


def write_report(folder: Path, evaluator: Evaluator, finished: Mapping[str, VideoResult], command: str = "") -> str:
    """Writes every file of a finished evaluation.

    Args:
        folder: the results folder.
        evaluator: what was evaluated.
        finished: the results of all its videos, by name.
        command: the command line, for `results.json`.

    Returns:
        The Markdown table of `results.md`.
    """
    done = outcomes(evaluator.plan, finished)
    write_predictions(folder, done, evaluator.rows)
    results = build_results(evaluator, done, command)
    write_json(folder / "results.json", results)
    table = markdown_table(results)
    (folder / "results.md").write_text(table, encoding="utf-8")
    notes = [results["limited"], (results["class_split"] or {}).get("label")]
    note = f" of {evaluator.protocol.name}" + "".join(f" ({note})" for note in notes if note)
    for outcome in done:
        write_per_class(folder, outcome, evaluator.rows, note)
    return table


def build_results(evaluator: Evaluator, done: Sequence[SplitOutcome], command: str) -> dict[str, Any]:
    """The content of `results.json`: accuracies in 0 … 1, and all that is needed to measure them again."""
    plan, protocol, checkpoint = evaluator.plan, evaluator.protocol, evaluator.checkpoint
    model = checkpoint.model
    views = protocol.views * protocol.spatial_views
    return {
        "protocol": protocol.to_dict(),
        "limited": f"limited to {plan.limit} videos a split: a quick look, no result" if plan.limit else None,
        "rows": summarize(done, evaluator.rows, protocol),
        "std": "over the splits, of a sample (n - 1)",
        "splits": describe_splits(done, protocol),
        "options": evaluator.options(),
        "class_split": None
        if plan.class_split is None
        else {**asdict(plan.class_split), "label": plan.class_split.label},
        "warnings": evaluator.warnings,
        "model": {
            "name": checkpoint.name,
            "revision": checkpoint.revision,
            "sha256": evaluator.sha256,
            "dtype": str(model.dtype).removeprefix("torch."),
            "logit_scale": model.logit_scale.exp().item(),
        },
        "video_processor": json.loads(checkpoint.processor.video_processor.to_json_string()),
        "cost": cost.cost(model, protocol.clip_specification.num_frames, evaluator.batch_size * views),
        "batch_size": evaluator.batch_size,
        "machine": cost.machine(model.device),
        "versions": package_versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
    }


def describe_splits(done: Sequence[SplitOutcome], protocol: Protocol) -> dict[str, dict]:
    """The videos, classes and lists that each split's figures were measured on."""
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


__all__ = ["write_report"]
