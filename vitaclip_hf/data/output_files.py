"""Files that are there as a whole, or as they were."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def replace_file(path: str | Path, write: Callable[[Path], Any]) -> None:
    """
    Writes a file beside its place and renames it. Where writing fails, on a full disk for example, nothing is left of
    the new file and the old one stays.

    Args:
        path: the file. A pipe or device is written directly.
        write: is called with the path to write to, which has the same ending.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        write(path)
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path  # a link stays one
    beside = path.with_name(f".new-{os.getpid()}-{path.name[-80:]}")
    try:
        write(beside)
        os.replace(beside, path)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError) and error.filename in (beside, str(beside)):
            error.filename = str(path)  # which the user knows
        raise


def csv_text(text: str) -> str:
    """A name in a CSV file, with an apostrophe where a spreadsheet would compute it as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def storable(text: str) -> str:
    """A name as UTF-8 can hold it: a byte that is none is written as `\\udcff`, which JSON reads back."""
    return text.encode("utf-8", "backslashreplace").decode()


def unstored(text: str) -> str:
    """The name that `storable` wrote."""
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda byte: chr(0xDC00 + int(byte[1], 16)), text)
