"""`results.json`, the file that an evaluation leaves behind: how it is written and read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.output_files import replace_file, storable
from ..data.text_files import one_line


# What `results.json` must have, and what must be in each of these tables.
REQUIRED = {"protocol": ("name",), "model": ("name", "sha256", "dtype"), "rows": (), "splits": ()}


class ResultsError(ValueError):
    """Results that cannot be read, compared or averaged; the message is one line."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file in one step: a killed run leaves the old file or the new one, never half a file.

    Raises:
        OSError: the file cannot be written.
        ValueError: a number that JSON does not have (NaN or infinity).
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(file, lambda beside: beside.write_text(storable(text) + "\n", encoding="utf-8"))


def read_results(file: Path | str) -> dict[str, Any]:
    """Reads the `results.json` of an evaluation.

    Raises:
        ResultsError: the file cannot be read, or it is not the `results.json` of an evaluation.
    """
    about = f"{file}: not the results.json of an evaluation"
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise ResultsError(f"{about} ({error!s:.300}).") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{about} (it holds a {type(content).__name__}).")
    lacking = [] if "limited" in content else ["limited"]
    for table, names in REQUIRED.items():
        if not isinstance(content.get(table), dict):
            lacking.append(table)
        else:
            lacking += [f"{table}.{name}" for name in names if name not in content[table]]
    if lacking:
        raise ResultsError(f"{about} (it lacks {', '.join(sorted(lacking))}).")
    return content


def fingerprint_of_json(content: Any) -> str:
    """SHA-256 of plain data. The order of a table's entries does not matter."""
    return hashlib.sha256(storable(json.dumps(content, sort_keys=True, ensure_ascii=False)).encode()).hexdigest()


__all__ = ["ResultsError", "fingerprint_of_json", "read_results", "write_json"]
