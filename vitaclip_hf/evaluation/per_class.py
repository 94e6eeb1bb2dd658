"""Accuracy of each class and the confusion matrix of an evaluated split, as CSV and PNG."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data import metrics
from .results_table import ROW_TITLES
from .split_outcome import SplitOutcome


READABLE = 80  # classes whose names fit beside a figure


def write_per_class(folder: Path, outcome: SplitOutcome, rows: Sequence[str], note: str) -> None:
    """
    Writes the accuracy of each class and the confusion matrix of one split, as CSV and PNG.

    Args:
        folder (`Path`): the results folder.
        outcome ([`SplitOutcome`]): the split with its results.
        rows (`Sequence[str]`): rows of the accuracies; the confusion matrix is of the first.
        note (`str`): text behind the split's name in the titles.
    """
    names, labels = outcome.split.table.class_names, outcome.labels
    accuracy = {row: metrics.per_class_accuracy(outcome.ranks(row), labels, len(names))[0] for row in rows}
    counts = np.bincount(labels[labels >= 0], minlength=len(names))
    with open(folder / f"per_class_{outcome.split.name}.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["class", "videos", *rows])
        for index, name in enumerate(names):
            cells = ["" if np.isnan(accuracy[row][index]) else f"{accuracy[row][index]:.6f}" for row in rows]
            writer.writerow([name, counts[index], *cells])
    matrix = confusion_matrix(outcome, rows[0])
    with open(folder / f"confusion_{outcome.split.name}.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["true \\ predicted", *names])
        writer.writerows([name, *line] for name, line in zip(names, matrix.tolist(), strict=True))
    title = f"split {outcome.split.name}{note}"
    _draw_per_class(folder / f"per_class_{outcome.split.name}.png", names, accuracy, title)
    _draw_confusion(folder / f"confusion_{outcome.split.name}.png", names, matrix, title)


def confusion_matrix(outcome: SplitOutcome, row: str) -> np.ndarray:
    """Counts of videos by true class (lines) and predicted class (columns); missing and failed ones do not count."""
    count, labels = len(outcome.split.table.class_names), outcome.labels
    matrix = np.zeros((count, count), dtype=np.int64)
    present = labels >= 0
    np.add.at(matrix, (labels[present], outcome.ranking(row)[present, 0]), 1)
    return matrix


def _figure(width: float, height: float):
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    return Figure(figsize=(width, height), layout="constrained")


def _draw_per_class(file: Path, names: Sequence[str], accuracy: Mapping[str, np.ndarray], title: str) -> None:
    first = next(iter(accuracy.values()))
    order = np.argsort(np.nan_to_num(first, nan=-1.0), kind="stable")
    figure = _figure(8, 1.5 + 0.18 * min(len(names), READABLE))
    axes = figure.subplots()
    places = np.arange(len(names))
    for row, marker in zip(accuracy, "ox"[: len(accuracy)], strict=True):
        axes.plot(100 * accuracy[row][order], places, marker, label=ROW_TITLES[row], markersize=5)
    readable = len(names) <= READABLE
    axes.set_yticks(places if readable else [], [names[index] for index in order] if readable else [], fontsize=7)
    axes.set(xlabel="top-1 accuracy of the class, %", xlim=(-2, 102), ylim=(-1, len(names)), title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower right", ncols=2)
    figure.savefig(file, dpi=120)


def _draw_confusion(file: Path, names: Sequence[str], matrix: np.ndarray, title: str) -> None:
    figure = _figure(8, 7.5)
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(100 * shares, cmap="viridis", vmin=0, vmax=100)
    if len(names) <= READABLE:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=5)
        axes.set_yticks(range(len(names)), names, fontsize=5)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    figure.colorbar(image, label="% of the true class's videos", shrink=0.8)
    figure.savefig(file, dpi=150)
