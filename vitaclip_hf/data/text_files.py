"""Reads text, CSV and JSON files of unknown origin; whatever is wrong with one is an [`AnnotationError`]."""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..model.shown_names import one_line


MAX_FILE_BYTES = 256 << 20  # a list of a million videos has about 80 MB
JSON_LINES = (".jsonl", ".ndjson")
JSON_ENDINGS = (".json", *JSON_LINES)
# Files that are often given in place of a list: first bytes in lower case, and kind.
_NO_LISTS = {
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS",
    b"pk\x03\x04": "an Excel workbook or a zip archive",
}


class OneLineError(ValueError):
    """Something that a user can mend; the message is one line of bounded length."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


class AnnotationError(OneLineError):
    """An unusable annotation or class file; the message names place, content and remedy."""


@contextmanager
def content_errors(problem: str, error: type[ValueError] = AnnotationError) -> Iterator[None]:
    """What goes wrong with the content of a file becomes an `error` that names the problem."""
    try:
        yield
    except error:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, OSError) as cause:
        raise error(f"{problem} ({type(cause).__name__}: {one_line(cause)}).") from cause


def read_bytes(path: str | Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """
    The content of a file.

    Raises:
        AnnotationError: there is no such file, it is not a regular file (a folder, a pipe, a device), or it is larger
            than `limit` bytes.
    """
    if Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait for its writer
        raise AnnotationError(f"{path} cannot be read: it is a folder, a pipe or a device, not a file.")
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with NUL
        raise AnnotationError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(content) > limit:
        raise AnnotationError(f"{path} is larger than {limit:,} bytes; divide it into several files.")
    return content


def read_text(path: str | Path, errors: str = "strict") -> str:
    """
    A text file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Args:
        path (`str` or `Path`): the file.
        errors (`str`, defaults to `"strict"`): `"surrogateescape"` keeps the bytes of file names that are not UTF-8.

    Raises:
        AnnotationError: the file cannot be read or is not text.
    """
    content = read_bytes(path)
    start = content[:200].lstrip().lower()
    if kind := next((kind for beginning, kind in _NO_LISTS.items() if start.startswith(beginning)), None):
        raise AnnotationError(f"{path} is {kind}, not the list itself; fetch it again, or save it as CSV in UTF-8.")
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not text in UTF-8 (byte {error.start}); save it as UTF-8.") from error
    if "\0" in text:
        raise AnnotationError(f"{path} is not text (NUL at character {text.index(chr(0))}); save it as UTF-8.")
    return text


def unquoted(text: str) -> str:
    """A field without its CSV quotes; doubled quotes in it become single."""
    return text[1:-1].replace('""', '"') if re.fullmatch(r'"(?:[^"]|"")*"', text) else text


def split_lines(text: str) -> list[str]:
    """The lines of a text. Only LF, CR LF and CR end a line; a name may hold the others."""
    return text.split("\n") if "\n" in text else text.split("\r")


def read_rows(text: str, separator: str, path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """
    The rows of a table that are not empty: (line number, fields). Spaces around a field are dropped.

    Raises:
        AnnotationError: quotes that do not fit.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if any(row):
                yield reader.line_num, [field.strip(" ") for field in row]
    except csv.Error as error:
        raise AnnotationError(f"{path}:{reader.line_num}: the quotes do not fit ({error}).") from error


def fields_of(line: str, separator: str) -> list[str]:
    """The fields of one line; the whole line as one if its quotes do not fit."""
    try:
        return next((fields for _, fields in read_rows(line, separator, "")), [""])
    except AnnotationError:
        return [line]


def column_name(text: str) -> str:
    """A column's name in one spelling: `videoPath`, `VIDEO-PATH` and `Video Path` are `videopath`."""
    return re.sub(r"[\W_]+", "", text).lower()


def read_json(path: str | Path) -> Any:
    """
    The content of a JSON file, or of a file with one JSON value on each line (`.jsonl`), as a list.

    Raises:
        AnnotationError: the file cannot be read or is not JSON, or an object has a key twice.
    """
    text = read_text(path)
    if Path(path).suffix.lower() not in JSON_LINES:
        return _parse_json(text, str(path))
    lines = enumerate(split_lines(text), 1)
    return [_parse_json(line, f"{path}:{number}") for number, line in lines if line.strip()]


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except (RecursionError, ValueError) as error:  # ValueError: also an integer of thousands of digits
        raise AnnotationError(f"{where} is not valid JSON: {error}.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {repeated!r:.100} occurs twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def check_text(value: str, what: str, where: str) -> None:
    """Raises an `AnnotationError` for a name that is not text: not UTF-8, or with a NUL."""
    if "\0" in value or not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise AnnotationError(f"{where}: {what} {value!r:.200} is not text in UTF-8; save the file as UTF-8.")
