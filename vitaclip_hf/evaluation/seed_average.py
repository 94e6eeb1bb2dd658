"""Mean and deviation over evaluations of models that differ in their training seed (base-to-novel: three seeds)."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .result_files import ResultsError, read_results
from .results_table import FIGURES, table_head
from .summary import mean_and_std


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
        ResultsError: fewer than two files, a model twice, different protocols or lists, or limited evaluations.
    """
    results = [_read_unlimited(file) for file in files]
    _check_repetitions(files, results)
    rows = [row for row in results[0]["rows"] if all(row in result["rows"] for result in results)]
    by_seed = {row: [_columns(result["rows"][row]) for result in results] for row in rows}
    return {
        "protocol": results[0]["protocol"]["name"],
        "models": [result["model"]["name"] for result in results],
        "figures": {
            row: {
                column: {name: mean_and_std([seed[column][name] for seed in seeds]) for name in FIGURES}
                for column in seeds[0]
            }
            for row, seeds in by_seed.items()
        },
    }


def _read_unlimited(file: Path | str) -> dict[str, Any]:
    results = read_results(file)
    if results["limited"]:
        raise ResultsError(f"{file}: {results['limited']}.")
    return results


def _check_repetitions(files: Sequence[Path | str], results: Sequence[Mapping]) -> None:
    if len(results) < 2:
        raise ResultsError("Give the results.json of two or more seeds.")
    hashes = [result["model"]["sha256"] for result in results]
    for index, (file, result) in enumerate(zip(files, results, strict=True)):
        if hashes[index] in hashes[:index]:
            raise ResultsError(
                f"{file}: the same model as {files[hashes.index(hashes[index])]}; each seed counts once."
            )
        lists = [{name: split["list_sha256"] for name, split in one["splits"].items()} for one in (results[0], result)]
        if result["protocol"] != results[0]["protocol"] or lists[0] != lists[1]:
            raise ResultsError(f"{file}: another protocol or other lists than {files[0]}.")


def _columns(row: Mapping) -> dict[str, dict[str, float]]:
    columns = {split: {name: figures[name] for name in FIGURES} for split, figures in row["splits"].items()}
    if any(value is None for figures in columns.values() for value in figures.values()):
        raise ResultsError("A split has no video that could be read.")
    if len(columns) > 1:
        harmonic = "harmonic_mean" in row["top1"]
        average = statistics.harmonic_mean if harmonic else statistics.fmean
        columns["harmonic mean" if harmonic else "mean"] = {
            name: average([row["splits"][split][name] for split in row["splits"]]) for name in FIGURES
        }
    return columns


def seeds_table(average: Mapping[str, Any]) -> str:
    """The averages of [`average_over_seeds`] in percent, as a Markdown table."""
    rows = average["figures"]
    lines = [*table_head(f"{average['protocol']}, {len(average['models'])} seeds", rows)]
    for column in next(iter(rows.values())):
        values = [rows[row][column][name] for row in rows for name in FIGURES]
        cells = [f"{100 * value['mean']:.1f} ± {100 * value['std']:.1f}" for value in values]
        lines.append(f"| {column} | {' | '.join(cells)} |")
    return "\n".join(lines)


__all__ = ["average_over_seeds", "seeds_table"]
