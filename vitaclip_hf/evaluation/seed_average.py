"""Mean and deviation over evaluations of models that differ in their training seed (base-to-novel: three seeds)."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from .per_class import ROW_TITLES
from .report import FIGURE_TITLES, FIGURES, mean_and_std


class SeedAverageError(ValueError):
    """Results that are not repetitions of one evaluation; the message is one line."""


def average_over_seeds(files: Sequence[Path]) -> dict:
    """Averages the figures of several `results.json` of one protocol on the same lists.

    Returns:
        `{"protocol", "models", "figures": {row: {column: {"top1": {"mean", "std"}, …}}}}` in 0 … 1; the columns are the
        splits and, of several, `"mean"` or, for base-to-novel, `"harmonic mean"`, which is taken within each seed.

    Raises:
        SeedAverageError: fewer than two files, a model twice, other protocols or lists, or limited runs.
    """
    results = [_read(Path(file)) for file in files]
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


def _read(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        content["rows"], content["protocol"]["name"], content["model"]["sha256"], content["splits"], content["limited"]  # noqa: B018
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SeedAverageError(f"{file}: not the results.json of an evaluation ({error}).") from error
    if content["limited"]:
        raise SeedAverageError(f"{file}: {content['limited']}.")
    return content


def _check_repetitions(files: Sequence[Path], results: Sequence[Mapping]) -> None:
    if len(results) < 2:
        raise SeedAverageError("Give the results.json of two or more seeds.")
    hashes = [result["model"]["sha256"] for result in results]
    for index, (file, result) in enumerate(zip(files, results, strict=True)):
        if hashes[index] in hashes[:index]:
            raise SeedAverageError(
                f"{file}: the same model as {files[hashes.index(hashes[index])]}; each seed counts once."
            )
        lists = [{name: split["list_sha256"] for name, split in one["splits"].items()} for one in (results[0], result)]
        if result["protocol"] != results[0]["protocol"] or lists[0] != lists[1]:
            raise SeedAverageError(f"{file}: another protocol or other lists than {files[0]}.")


def _columns(row: Mapping) -> dict[str, dict[str, float]]:
    columns = {split: {name: figures[name] for name in FIGURES} for split, figures in row["splits"].items()}
    if any(value is None for figures in columns.values() for value in figures.values()):
        raise SeedAverageError("A split has no video that could be read.")
    if len(columns) > 1:
        harmonic = "harmonic_mean" in row["top1"]
        average = statistics.harmonic_mean if harmonic else statistics.fmean
        columns["harmonic mean" if harmonic else "mean"] = {
            name: average([row["splits"][split][name] for split in row["splits"]]) for name in FIGURES
        }
    return columns


def seeds_table(average: Mapping) -> str:
    """The averages in percent as a Markdown table."""
    rows = average["figures"]
    titles = [f"{ROW_TITLES[row]} {FIGURE_TITLES[name]}" for row in rows for name in FIGURES]
    lines = [f"| {average['protocol']}, {len(average['models'])} seeds | {' | '.join(titles)} |"]
    lines.append("| --- |" + " ---: |" * len(titles))
    for column in next(iter(rows.values())):
        values = [rows[row][column][name] for row in rows for name in FIGURES]
        cells = [f"{100 * value['mean']:.1f} ± {100 * value['std']:.1f}" for value in values]
        lines.append(f"| {column} | {' | '.join(cells)} |")
    return "\n".join(lines)
