"""Reads text, CSV and JSON files of unknown origin; whatever is wrong with one is an [`AnnotationError`]."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any


MAX_FILE_BYTES = 256 << 20  # a list of a million videos has about 80 MB
MAX_RECORD = 1 << 20  # characters of a line, or of a row whose fields hold line breaks
MAX_MESSAGE = 1000  # characters
# What a download leaves in place of a file: its first characters, and what it is.
_NO_LISTS = (
    ("<!doctype", "a web page"),
    ("<html", "a web page"),
    ("<?xml", "XML"),
    ("version https://git-lfs", "a pointer of Git LFS"),
)

_NO_TEXTS = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "a gzip archive",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(message: str) -> str:
    """A message as one line of bounded length: control characters are escaped, and a long one loses its middle."""
    message = _CONTROL.sub(lambda match: repr(match[0])[1:-1], message)
    if len(message) > MAX_MESSAGE:
        half = MAX_MESSAGE // 2
        message = f"{message[:half]} … {message[3 - half :]}"
    return message


class AnnotationError(ValueError):
    """An annotation or class file that cannot be used; the message says where, what was found and what to do."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


def read_bytes(path: str | Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """
    The content of a file.

    Raises:
        AnnotationError: there is no such file, it is not a regular file (a folder, a pipe, a device), or it is larger
            than `limit` bytes.
    """
    if "\0" in str(path):
        raise AnnotationError(f"Cannot read {str(path)!r:.200}: a path holds no NUL.")
    try:
        if Path(path).exists() and not Path(path).is_file():
            kind = "a folder" if Path(path).is_dir() else "a pipe or a device"
            raise AnnotationError(f"Cannot read {path}: it is {kind}, not a file.")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise AnnotationError(f"Cannot read {path}: {error.strerror or error}.") from error
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
    kind = next((kind for beginning, kind in _NO_TEXTS.items() if content.startswith(beginning)), None)
    if kind is not None:
        raise AnnotationError(f"{path} is {kind}, not text; save it as CSV or JSON in UTF-8.")
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding, errors if encoding == "utf-8-sig" else "strict")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not text in UTF-8 (byte {error.start}); save it as UTF-8.") from error
    if "\0" in text:
        raise AnnotationError(f"{path} is not text (NUL at character {text.index(chr(0))}); save it as UTF-8.")
    if kind := next((kind for start, kind in _NO_LISTS if text[:200].lstrip().lower().startswith(start)), None):
        raise AnnotationError(f"{path} is {kind}, not the file itself; fetch the file again.")
    # Files that were joined have a byte order mark at each beginning.
    return re.sub(r"(^|[\r\n])\ufeff+", r"\1", text) if "\ufeff" in text else text


def split_lines(text: str, path: str | Path) -> list[str]:
    """The lines of a text, without their line ends. Only LF, CR LF and CR end a line; a name may hold the others."""
    lines = text.split("\n") if "\n" in text else text.split("\r")
    longest = max(map(len, lines))
    if longest > MAX_RECORD:
        number = next(number for number, line in enumerate(lines, 1) if len(line) == longest)
        raise AnnotationError(f"{path}:{number}: a line of {longest:,} characters; at most {MAX_RECORD:,} are read.")
    return lines


# Fields


def unquoted(text: str) -> str:
    """A field without the spaces around it and its CSV quotes; doubled quotes in it become single."""
    text = text.strip()
    return text[1:-1].replace('""', '"') if text[:1] == '"' and re.fullmatch(r'"(?:[^"]|"")*"', text) else text


@lru_cache
def _quoted_field(separator: str) -> re.Pattern:
    space = rf"(?:(?!{re.escape(separator)})\s)*"
    return re.compile(rf'{space}"((?:[^"]|"")*)"{space}(?:{re.escape(separator)}|\Z)')


def fields_of(record: str, separator: str) -> list[str] | None:
    """
    The fields of a row.

    Spaces around a field are dropped; those within its quotes are kept.

    Returns:
        `list[str]`, or `None` if a quote is opened and not closed, or text follows the closing quote.
    """
    if '"' not in record:
        return [field.strip() for field in record.split(separator)]
    fields, start, quoted = [], 0, _quoted_field(separator)
    while True:
        match = quoted.match(record, start)
        if match:
            fields.append(match[1].replace('""', '"'))
            start = match.end()
            if not match[0].endswith(separator):
                return fields
        else:
            end = record.find(separator, start)
            field = (record[start:] if end < 0 else record[start:end]).strip()
            if field.startswith('"'):
                return None
            fields.append(field)
            if end < 0:
                return fields
            start = end + 1


def read_rows(lines: list[str], separator: str, path: str | Path, start: int = 0) -> Iterator[tuple[int, list[str]]]:
    """
    The rows of a table: (line number, fields). Quoted fields may hold separators and line breaks.

    Args:
        lines (`list[str]`): all lines of the file.
        separator (`str`): one character.
        path (`str` or `Path`): for messages.
        start (`int`, defaults to 0): how many lines to leave out.

    Raises:
        AnnotationError: a quote that is not closed, or text after a closing quote.
    """
    number = start
    while number < len(lines):
        first, record = number, lines[number]
        number += 1
        if not record.strip():
            continue
        if '"' not in record:  # most rows
            yield number, [field.strip() for field in record.split(separator)]
            continue
        fields = fields_of(record, separator)
        if fields is None and record.count('"') % 2:
            number = _end_of_record(lines, first, path)
            fields = fields_of("\n".join(lines[first:number]), separator)
        if fields is None:
            raise AnnotationError(f"{path}:{first + 1}: the quotes do not fit, got {record.strip()!r:.200}.")
        yield first + 1, fields


def _end_of_record(lines: list[str], first: int, path: str | Path) -> int:
    """The number after the line that closes the quote which `lines[first]` opens."""
    quotes = length = 0
    for number in range(first, len(lines)):
        quotes += lines[number].count('"')
        length += len(lines[number])
        if quotes % 2 == 0:
            return number + 1
        if length > MAX_RECORD:
            break
    raise AnnotationError(f"{path}:{first + 1}: a quote is opened but not closed, got {lines[first].strip()!r:.200}.")


def quoted(field: str, separator: str = ",") -> str:
    """A field as `fields_of` reads it back: in quotes where it needs them."""
    if field == field.strip() and not any(character in field for character in (separator, '"', "\n", "\r")):
        return field
    return '"' + field.replace('"', '""') + '"'


# JSON


def read_json(path: str | Path) -> Any:
    """
    The content of a JSON file, or of a file with one JSON value on each line (`.jsonl`), as a list.

    Raises:
        AnnotationError: the file cannot be read or is not JSON, or an object has a key twice.
    """
    text = read_text(path)
    if Path(path).suffix.lower() in (".jsonl", ".ndjson"):
        lines = enumerate(split_lines(text, path), 1)
        values = [parse_json(line, f"{path}:{number}") for number, line in lines if line.strip()]
        return values[0] if len(values) == 1 and isinstance(values[0], list) else values
    return parse_json(text, str(path))


def parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError as error:
        raise AnnotationError(f"{where} is not valid JSON: it is nested too deeply.") from error
    except ValueError as error:  # JSONDecodeError; also an integer of thousands of digits
        found = "a number of thousands of digits" if "int_max_str_digits" in str(error) else error
        raise AnnotationError(f"{where} is not valid JSON: {found}.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        count = Counter(key for key, _ in pairs)
        key = next(key for key in count if count[key] > 1)
        raise ValueError(f"the key {key!r:.100} occurs twice")
    return content


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def check_text(value: str, what: str, where: str) -> None:
    """Raises an `AnnotationError` for a name that is not text: not UTF-8, or with a NUL."""
    if not value.isascii() and re.search(r"[\ud800-\udfff]", value) or "\0" in value:
        raise AnnotationError(f"{where}: {what} {value!r:.200} is not text in UTF-8; save the file as UTF-8.")
