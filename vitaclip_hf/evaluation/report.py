"""Writes the files of a finished evaluation.

predictions.parquet      one row for each video and split: label, best classes and scores, status
results.json             accuracies with everything that they depend on
results.md               the same as a table for a model card
per_class_SPLIT.csv      videos and accuracy of each class; .png beside
confusion_SPLIT.csv      videos of each true class (lines) by predicted class (columns); .png beside
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from ..charts import BEST, DOTS_PER_INCH, INK, OTHER, QUIET, TRACK, charts, title
from ..data.metrics import per_class_accuracy
from ..data.output_files import csv_text, replace_file
from ..version import package_versions
from . import cost
from .accuracies import ROW_TITLES, SplitOutcome, markdown_table, outcomes, summarize
from .evaluator import Evaluator
from .progress_log import PREDICTIONS_FILE, VideoResult, write_json


READABLE = 80  # classes whose names fit beside a picture


def write_report(
    folder: Path, evaluator: Evaluator, finished: Mapping[str, VideoResult], command: str = ""
) -> dict[str, Any]:
    """Writes every file of a finished evaluation.

    Args:
        folder: the results folder.
        evaluator: what was evaluated.
        finished: the results of all its videos, by name.
        command: the command line, for `results.json`.

    Returns:
        The content of `results.json`: accuracies in 0 … 1, and all that is needed to measure them again.
    """
    plan, protocol, checkpoint, model = evaluator.plan, evaluator.protocol, evaluator.checkpoint, evaluator.model
    done = outcomes(plan, finished)
    limited = any(len(split.table) < split.listed for split in plan.splits)
    _write_predictions(folder / PREDICTIONS_FILE, done, evaluator.rows)
    results = {
        "protocol": protocol.to_dict(),
        "limited": f"limited to {plan.limit} videos a split: a quick look, no result" if limited else None,
        "published": protocol.published or None,
        "rows": summarize(done, evaluator.rows, protocol),
        "std": "over the splits, of a sample (n - 1)",
        "splits": {outcome.split.name: _split_facts(outcome, protocol.spelling) for outcome in done},
        "options": evaluator.options,
        "class_split": plan.class_split and {**asdict(plan.class_split), "label": plan.class_split.label},
        "warnings": plan.warnings,
        "model": {
            "name": checkpoint.name,
            "revision": checkpoint.revision,
            "sha256": evaluator.sha256,
            "dtype": evaluator.setup["dtype"],
            "logit_scale": model.logit_scale.exp().item() if hasattr(model, "logit_scale") else None,
        },
        "video_processor": json.loads(checkpoint.processor.video_processor.to_json_string()),
        "cost": cost.cost(model, protocol.clip_specification.num_frames),
        "batch_size": evaluator.batch_size,
        "machine": cost.machine(model.device),
        "versions": package_versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
    }
    write_json(folder / "results.json", results)
    (folder / "results.md").write_text(markdown_table(results), encoding="utf-8", errors="backslashreplace")
    notes = [results["limited"], plan.class_split and plan.class_split.label]
    title = f" of {protocol.name}" + "".join(f" ({note})" for note in notes if note)
    for outcome in done:
        _write_per_class(folder, outcome, evaluator.rows, f"split {outcome.split.name}{title}")
        _write_confusion(folder, outcome, evaluator.rows[0], f"split {outcome.split.name}{title}")
    return results


def _split_facts(outcome: SplitOutcome, spelling: str) -> dict[str, Any]:
    """The videos, classes and lists that a split's figures were measured on."""
    split = outcome.split
    failed = [result for result in outcome.results if result.status == "failed"]
    return {
        "list": Path(split.table.source).name,
        "list_sha256": split.sha256,
        "files_sha256": split.files,
        "text": split.text,
        "videos": outcome.videos(),
        "missing": [result.name for result in outcome.results if result.status == "missing"],
        "failed": [{"path": result.name, "reason": result.reason} for result in failed],
        "classes": dict(zip(split.table.class_names, split.texts(spelling), strict=True)),
    }


def _write_predictions(file: Path, done: Sequence[SplitOutcome], rows: Sequence[str]) -> None:
    """Writes the predictions of all splits. The same results give the same bytes."""
    texts = {name: pyarrow.string() for name in ("split", "path", "label", "class", "status", "reason")}
    lists = {f"{row}_ids": pyarrow.list_(pyarrow.int32()) for row in rows}
    lists |= {f"{row}_scores": pyarrow.list_(pyarrow.float32()) for row in rows}
    lines = []
    for outcome in done:
        split, classes = outcome.split.name, outcome.split.table.class_names
        for sample, result in zip(outcome.split.table.samples, outcome.results, strict=True):
            label = sample.label or 0  # a plan has labelled videos only
            line: list[Any] = [split, sample.name, label, classes[label], result.status, result.reason]
            if result.status == "ok":
                answers = [result.scores[row][split] for row in rows]
                line += [ids for ids, _ in answers] + [scores for _, scores in answers]
            lines.append(dict(zip((*texts, *lists), line, strict=False)))
    table = pyarrow.Table.from_pylist(lines, pyarrow.schema(texts | {"label": pyarrow.int32()} | lists))

    def write(beside: Path) -> None:
        with beside.open("wb") as stream:  # pyarrow opens no path that is not UTF-8
            pyarrow.parquet.write_table(table, stream)

    replace_file(file, write)


def _write_per_class(folder: Path, outcome: SplitOutcome, rows: Sequence[str], heading: str) -> None:
    """The accuracy of each class, as CSV and PNG."""
    names, labels, stem = outcome.split.table.class_names, outcome.labels, f"per_class_{outcome.split.name}"
    measured = [per_class_accuracy(outcome.ranks(row), labels, len(names)) for row in rows]
    accuracy, counts = np.array([values for values, _ in measured]), measured[0][1]
    cells = [["" if np.isnan(value) else f"{value:.6f}" for value in values] for values in accuracy.T]
    lines = [[csv_text(name), count, *values] for name, count, values in zip(names, counts, cells, strict=True)]
    _write_csv(folder / f"{stem}.csv", [["class", "videos", *rows], *lines])
    order = np.argsort(np.nan_to_num(accuracy[0], nan=-1.0), kind="stable")
    figure, [axes] = charts(height=1.6 + 0.24 * min(len(names), READABLE))
    places = range(len(names))
    for row, values, color, size in zip(rows, accuracy, (BEST, OTHER), (6, 11), strict=False):  # both show where equal
        style = {"color": color, "markersize": size, "zorder": 3 - size / 11}
        axes.plot(100 * values[order], places, "o", label=ROW_TITLES.get(row, row), **style)
    if len(names) <= READABLE:
        axes.set_yticks(places, [names[index] for index in order], color=INK, parse_math=False)
    axes.set(xlabel="videos of the class that are right, %", xlim=(-2, 102), ylim=(-0.7, len(names) - 0.3))
    axes.grid(color=TRACK)
    title(axes, heading)
    figure.legend(loc="outside lower right", ncols=2, frameon=False, labelcolor=QUIET)
    figure.savefig(folder / f"{stem}.png", dpi=DOTS_PER_INCH)


def _write_confusion(folder: Path, outcome: SplitOutcome, row: str, heading: str) -> None:
    """Counts of videos by true class (lines) and predicted class (columns), as CSV and PNG."""
    names, labels, stem = outcome.split.table.class_names, outcome.labels, f"confusion_{outcome.split.name}"
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    present = labels >= 0  # missing and failed ones do not count
    np.add.at(matrix, (labels[present], outcome.ranking(row)[present, 0]), 1)
    lines = [[csv_text(name), *line] for name, line in zip(names, matrix.tolist(), strict=True)]
    _write_csv(folder / f"{stem}.csv", [["true \\ predicted", *map(csv_text, names)], *lines])
    side = 2.5 + 0.24 * min(len(names), READABLE)
    figure, [axes] = charts(width=max(side, 5.0), height=max(side, 4.5))
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    if len(names) <= READABLE:
        precision, recall = (matrix.diagonal() / np.maximum(matrix.sum(axis), 1) for axis in (0, 1))
        predicted, true = (list(map("{}  {:.0%}".format, names, shares)) for shares in (precision, recall))
        axes.set_xticks(range(len(names)), predicted, rotation=90, color=INK, parse_math=False)
        axes.set_yticks(range(len(names)), true, color=INK, parse_math=False)
        for y, x in zip(*matrix.nonzero(), strict=True):
            color = "white" if shares[y, x] > 0.5 else INK
            axes.text(x, y, matrix[y, x], ha="center", va="center", fontsize=8, color=color)
    axes.set(xlabel="predicted class, and its precision", ylabel="true class, and its recall")
    title(axes, heading)
    figure.savefig(folder / f"{stem}.png", dpi=DOTS_PER_INCH)


def _write_csv(file: Path, lines: Iterable[Sequence]) -> None:
    with open(file, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(lines)
