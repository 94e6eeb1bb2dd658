"""`vitaclip average`: mean and standard deviation over training seeds."""

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOutput


def average(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS", help="Folder or results.json of each seed.")],
    output: JsonOutput = None,
) -> None:
    """Average evaluations over training seeds.

    The results must be of one protocol on the same lists, each of another model.
    """
    from ..evaluation.average import average_over_seeds, seeds_table
    from ..evaluation.progress_log import write_json

    means = average_over_seeds(results)
    print(seeds_table(means))
    if output is not None:
        write_json(output, means)
