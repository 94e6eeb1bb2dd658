"""Reads the results of evaluations; mean and deviation over models that differ in their training seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.metrics import METRICS
from ..data.text_files import content_errors, read_json
from ..model.video_inputs import SETTINGS
from .accuracies import mean_and_std
from .protocols import EvaluationError


def results_file(path: Path | str) -> Path:
    """The `results.json` of an evaluation, which is named by itself or by its folder."""
    return Path(path) / "results.json" if Path(path).is_dir() else Path(path)


def read_results(file: Path | str) -> dict[str, Any]:
    """Reads the `results.json` of an evaluation, named as for [`results_file`].

    Raises:
        EvaluationError: the file cannot be read, or it is not the `results.json` of an evaluation.
    """
    if not results_file(file).is_file():
        raise EvaluationError(f"{file}: no results.json; `vitaclip evaluate` writes it when it is done.")
    with content_errors(f"{file}: not the results.json of an evaluation", EvaluationError):
        content = read_json(results_file(file))
        if not content["protocol"].keys() or not content["rows"].keys():
            raise ValueError("it is incomplete")
        return content


def different_settings(*results: Mapping[str, Any]) -> list[str]:
    """What two results have differently of protocol, dtype, options, processor and classes, with both values."""
    processors = [result.get("video_processor") or {} for result in results]
    shared = sorted(processors[0].keys() & processors[1].keys() - SETTINGS.keys())  # those are protocol and options
    first, second = (
        result["protocol"]
        | {"dtype": result["model"]["dtype"]}
        | (result.get("options") or {})
        | {f"video_processor.{name}": processor[name] for name in shared}
        for result, processor in zip(results, processors, strict=True)
    )
    different = [
        f"{name}: {first.get(name)} / {second.get(name)}"
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]
    for split in results[0]["splits"].keys() & results[1]["splits"].keys():
        classes = [list(result["splits"][split]["classes"].values()) for result in results]
        if classes[0] != classes[1]:
            such = next((f", such as {a!r} / {b!r}" for a, b in zip(*classes, strict=False) if a != b), "")
            different.append(f"classes of split {split}: {len(classes[0])} / {len(classes[1])}{such}")
    return different


def average_over_seeds(files: Sequence[Path | str]) -> dict[str, Any]:
    """
    Averages the figures of several results of one protocol on the same lists.

    Args:
        files (`Sequence[Path]`): the `results.json` of each seed.

    Returns:
        `{"protocol", "models", "figures": {row: {column: {"top1": {"mean", "std"}, …}}}}`, in 0 … 1. The columns are
        the splits and, of several splits, `"mean"`, or `"harmonic mean"` for base-to-novel. The harmonic mean is taken
        within each seed.

    Raises:
        EvaluationError: fewer than two files, a model twice, different settings or lists, or limited evaluations.
    """
    results = [read_results(file) for file in files]
    if len(results) < 2:
        raise EvaluationError("Give the results.json of two or more seeds.")
    with content_errors("These results cannot be averaged", EvaluationError):
        first: dict[str, Any] = {}
        for file, result in zip(files, results, strict=True):
            sha256 = result["model"]["sha256"]
            if result["limited"]:
                raise EvaluationError(f"{file}: {result['limited']}.")
            if sha256 in first:
                raise EvaluationError(f"{file}: the same model as {first[sha256]}; each seed counts once.")
            first[sha256] = file
            if different := different_settings(results[0], result):
                raise EvaluationError(f"{file}: other settings than {files[0]} ({'; '.join(different):.500}).")
            if _lists(result) != _lists(results[0]):
                raise EvaluationError(f"{file}: other lists than {files[0]}.")
        rows = [row for row in results[0]["rows"] if all(row in result["rows"] for result in results)]
        if not rows:
            raise EvaluationError("The results have no row in common.")
        seeds = {row: [_columns(result["rows"][row]) for result in results] for row in rows}
        return {
            "protocol": results[0]["protocol"]["name"],
            "models": [result["model"]["name"] for result in results],
            "figures": {
                row: {
                    column: {name: mean_and_std([seed[column][name] for seed in seeds[row]]) for name in METRICS}
                    for column in seeds[row][0]
                }
                for row in rows
            },
        }


def _lists(results: Mapping[str, Any]) -> dict[str, str]:
    return {name: split["list_sha256"] for name, split in results["splits"].items()}


def _columns(row: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    columns = dict(row["splits"])
    if len(columns) > 1:
        kind = "harmonic_mean" if "harmonic_mean" in row["top1"] else "mean"
        columns[kind.replace("_", " ")] = {name: row[name][kind] for name in METRICS}
    if any(figures[name] is None for figures in columns.values() for name in METRICS):
        raise EvaluationError("A split has no video that could be read.")
    return columns
