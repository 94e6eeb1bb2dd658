"""`predictions.parquet`: for each video of each split, the best classes and their scores."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from ..data.output_files import replace_file
from .result_files import ResultsError
from .split_outcome import SplitOutcome


PREDICTIONS_FILE = "predictions.parquet"


def write_predictions(folder: Path, done: Sequence[SplitOutcome], rows: Sequence[str]) -> None:
    """Writes the predictions of all splits. The same results give the same bytes."""
    schema = pyarrow.schema(
        {
            "split": pyarrow.string(),
            "path": pyarrow.string(),
            "label": pyarrow.int32(),
            "class": pyarrow.string(),
            "status": pyarrow.string(),
            "reason": pyarrow.string(),
            **{f"{row}_ids": pyarrow.list_(pyarrow.int32()) for row in rows},
            **{f"{row}_scores": pyarrow.list_(pyarrow.float32()) for row in rows},
        }
    )
    lines = [line for outcome in done for line in _lines(outcome, rows)]

    def write(beside: Path) -> None:
        with beside.open("wb") as file:  # pyarrow opens no path that is not UTF-8
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines, schema), file)

    replace_file(folder / PREDICTIONS_FILE, write)


def _lines(outcome: SplitOutcome, rows: Sequence[str]) -> list[dict]:
    split, classes = outcome.split.name, outcome.split.table.class_names
    lines = []
    for sample, result in zip(outcome.split.table.samples, outcome.results, strict=True):
        label = sample.label or 0  # a plan has labelled videos only
        line = {
            "split": split,
            "path": sample.name,
            "label": label,
            "class": classes[label],
            "status": result.status,
            "reason": result.reason,
        }
        if result.status == "ok":
            for row in rows:
                line[f"{row}_ids"], line[f"{row}_scores"] = result.scores[row][split]
        lines.append(line)
    return lines


def read_predictions(folder: Path, row: str) -> dict[str, list]:
    """Reads the predictions of one row.

    Args:
        folder: the results folder.
        row: `"vita_clip"` or `"frozen_clip"`.

    Returns:
        The columns `split`, `path`, `label` and `ids`. `ids` are the best classes of each video, best first, or `None`
        where the video could not be read.

    Raises:
        ResultsError: the file cannot be read, or it does not have the row.
    """
    file = folder / PREDICTIONS_FILE
    ids = f"{row}_ids"
    try:
        with file.open("rb") as opened:
            names = pyarrow.parquet.read_schema(opened).names
            if ids not in names:
                rows = [name.removesuffix("_ids") for name in names if name.endswith("_ids")]
                raise ResultsError(f"{file}: has no row {row!r}, only {', '.join(rows)}.")
            table = pyarrow.parquet.read_table(opened, columns=["split", "path", "label", ids]).to_pydict()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ResultsError(f"{file}: cannot be read ({' '.join(str(error).split())}).") from error
    return {"ids" if name == ids else name: values for name, values in table.items()}


__all__ = ["read_predictions", "write_predictions"]
