"""`vitaclip compare` and `vitaclip average`: the difference of two evaluations, and the mean of several."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOutput


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Folder or results.json of the first evaluation.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Folder or results.json of the second evaluation.")],
    rows: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="ROW ROW", help="Which row of each, such as frozen_clip. Default: the evaluated model."),
    ] = None,
    resamples: Annotated[int, typer.Option(metavar="NUMBER", help="Bootstrap resamples.")] = 10_000,
    confidence: Annotated[float, typer.Option(metavar="0..1", help="Confidence of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the resamples.")] = 0,
    output: JsonOutput = None,
) -> None:
    """Compare two evaluations of the same videos.

    Differences have paired bootstrap confidence intervals. The predictions are read from the files beside the two
    results.json.
    """
    from ..data.metrics import METRICS
    from ..evaluation import comparison
    from ..evaluation.accuracies import table
    from ..evaluation.average import read_results
    from ..evaluation.progress_log import write_json

    settings, limited = comparison.settings(a, b)
    chosen = rows or comparison.first_rows(a, b)
    splits, left_out = comparison.pair(a, b, chosen)
    choices = (resamples, confidence, seed)
    differences = {f"split {split.name}": comparison.compare([split], *choices) for split in splits}
    if len(splits) > 1:
        differences["mean of the splits"] = comparison.compare(splits, *choices)
    print(f"A: {a}, {chosen[0]}\nB: {b}, {chosen[1]}\n")
    lines = [["", "A", "B", "B − A, points", f"{100 * confidence:g}% interval"]]
    for over, metrics in differences.items():
        for name, value in metrics.items():
            cells = [f"{value.a:.1%}", f"{value.b:.1%}", f"{100 * value.difference:+.1f}"]
            interval = f"{100 * value.low:+.1f} … {100 * value.high:+.1f}"
            lines.append([f"{over}, {METRICS[name].title}", *cells, interval])
    print("\n".join(table(lines)))
    videos = len({number for split in splits for number in split.videos.tolist()})
    print(f"\n{videos:,} videos, {left_out} left out that not both could read; ", end="")
    print(f"paired bootstrap over videos, {resamples:,} resamples, seed {seed}.")
    if published := read_results(a).get("published"):
        print(f"Published: {published}")
    for note in limited:
        print(f"**{note}**")
    for difference in settings:
        print(f"not the same setting: {difference}")
    if output is not None:
        content = {
            over: {name: asdict(value) for name, value in metrics.items()} for over, metrics in differences.items()
        }
        facts = {"rows": chosen, "resamples": resamples, "confidence": confidence, "seed": seed, "left_out": left_out}
        write_json(output, {"differences": content, "settings": settings, "limited": limited} | facts)


def average(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS", help="Folder or results.json of each seed.")],
    output: JsonOutput = None,
) -> None:
    """Average evaluations over training seeds.

    The results must be of one protocol on the same lists, each of another model.
    """
    from ..evaluation.accuracies import accuracy_table
    from ..evaluation.average import average_over_seeds
    from ..evaluation.progress_log import write_json

    means = average_over_seeds(results)
    title = f"{means['protocol']}, {len(means['models'])} seeds"
    print("\n".join(accuracy_table(title, means["figures"])))
    if output is not None:
        write_json(output, means)
