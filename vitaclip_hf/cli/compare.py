"""`vitaclip compare`: how much better one evaluation is than another, with confidence intervals."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import needs_extra, reported
from .options import JsonOutput


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="The results.json of the first evaluation.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The results.json of the second evaluation.")],
    rows: Annotated[
        tuple[str, str], typer.Option(metavar="ROW ROW", help="Which row of each: vita_clip or frozen_clip.")
    ] = ("vita_clip", "vita_clip"),
    resamples: Annotated[int, typer.Option(metavar="NUMBER", help="Bootstrap resamples.")] = 10_000,
    confidence: Annotated[float, typer.Option(metavar="0..1", help="Confidence of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the resamples.")] = 0,
    output: JsonOutput = None,
) -> None:
    """Compare two evaluations of the same videos.

    Differences have paired bootstrap confidence intervals. The predictions are read from the files beside the two
    results.json.
    """
    with needs_extra("train"):
        from ..evaluation import comparison
        from ..evaluation.result_files import ResultsError, write_json
    with reported(OSError, ResultsError):
        comparison.check_class_splits(a, b)
        settings, limited = comparison.setting_differences(a, b), comparison.limits(a, b)
        splits, left_out = comparison.pair(a, b, rows)
        choices = (resamples, confidence, seed)
        found = {f"split {split.name}": comparison.compare([split], *choices) for split in splits}
        if len(splits) > 1:
            found["mean of the splits"] = comparison.compare(splits, *choices)
        print(f"A: {a}, {rows[0]}\nB: {b}, {rows[1]}\n")
        print_differences(found, confidence)
        videos = len({number for split in splits for number in split.videos.tolist()})
        print(f"\n{videos:,} videos, {left_out} left out that not both could read; ", end="")
        print(f"paired bootstrap over videos, {resamples:,} resamples, seed {seed}.")
        for note in limited:
            print(f"**{note}**")
        for difference in settings:
            print(f"not the same setting: {difference}")
        if output is not None:
            differences = {
                over: {name: asdict(value) for name, value in figures.items()} for over, figures in found.items()
            }
            about = {"left_out": left_out, "settings": settings, "limited": limited}
            write_json(output, {"differences": differences} | about)


def print_differences(found: dict[str, dict[str, Any]], confidence: float) -> None:
    """The differences in points as a Markdown table."""
    from ..data.metrics import METRICS

    print(f"| | A | B | B − A, points | {confidence:.0%} interval |\n| --- | ---: | ---: | ---: | ---: |")
    for over, figures in found.items():
        for name, value in figures.items():
            cells = f"{value.a:.1%} | {value.b:.1%} | {100 * value.difference:+.1f}"
            print(f"| {over}, {METRICS[name].title} | {cells} | {100 * value.low:+.1f} … {100 * value.high:+.1f} |")
