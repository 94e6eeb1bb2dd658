"""Lists of videos: `path label` lines, tables with a header, JSON and JSON lines.

Two forms are always read: lines `path label` whose paths end in a video's extension, and CSV with the header
`path,label`. Ambiguous lists are refused.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from .listings import SPLIT_WORDS, VIDEO_EXTENSIONS, ListedVideos, Listing, is_video_name, split_of_name, split_of_word
from .text_files import (
    JSON_ENDINGS,
    AnnotationError,
    column_name,
    fields_of,
    read_json,
    read_rows,
    read_text,
    split_lines,
    unquoted,
)


# Column names without case, spaces, hyphens and underscores. Of several paths, the first of these is taken: addresses
# come late, since beside an id they are often the page of a video (MSR-VTT).
PATHS = (
    *("path", "videopath", "filepath", "clippath", "relativepath", "file", "filename", "videofile", "videofilename"),
    *("video", "videoname", "vidname", "clip", "clipname", "videos", "videoid", "clipid", "vid", "youtubeid"),
    *("uri", "url", "videourl", "link", "name", "id"),
)
_WORDS = ("label", "class", "category", "action", "target", "activity")
NAMES = tuple(f"{word}name" for word in _WORDS)  # class names, even if they are digits
LABELS = (*_WORDS, "labels", "classlabel", "actionlabel")
NUMBERS = tuple(f"{word}{end}" for end in ("id", "index", "idx") for word in _WORDS)
SPLIT_COLUMNS = ("split", "subset", "set", "partition")
FORMS = "expected lines `path label` (`videos/a.mp4 run`), or CSV with a header `path,label` (and `split`)"

_EXTENSION = "|".join(map(re.escape, VIDEO_EXTENSIONS))
_PATH_THEN_LABEL = re.compile(rf'("(?:[^"]|"")+"|.+(?:{_EXTENSION}))(\s*[,;]\s*|\s+)(\S.*)', re.IGNORECASE)
_PATH_INSIDE = re.compile(rf"(?:{_EXTENSION})[^\w./\\ -]", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.0)?")  # pandas writes whole numbers as `3.0` where some are missing
LIKE_A_NUMBER = re.compile(r"[+-]?[\d.]+(?:e[+-]?\d+)?", re.IGNORECASE)
_SEVERAL = re.compile(r"[\[({]\s*(?:['\"]|-?\d)|-?\d+(?:[\s,;]+-?\d+)+$")  # `[0, 3]`, `120 1`
_COLUMN_AFTER_LABEL = re.compile(r"[,;\t](?!\s)")


class ListFile:
    """A file or folder, whose content is read once."""

    def __init__(self, path: Path):
        self.path = path
        self.is_json = path.suffix.lower() in JSON_ENDINGS and not path.is_dir()

    @cached_property
    def text(self) -> str:
        return read_text(self.path, "surrogateescape")

    @cached_property
    def json(self) -> Any:
        return read_json(self.path)

    @cached_property
    def lines(self) -> list[tuple[int, str]]:
        """The lines of a text that are not empty, with their numbers."""
        if self.path.is_dir() or self.is_json:
            return []
        return [(number, line.strip()) for number, line in enumerate(split_lines(self.text), 1) if line.strip()]

    @cached_property
    def header(self) -> tuple[str, list[str]]:
        """The separator and the columns of a text whose first line names a column of paths; no columns otherwise."""
        for separator in ",\t;" if self.lines else "":
            names = fields_of(self.lines[0][1], separator)
            columns = list(map(column_name, names))
            if set(columns) & set(PATHS) and not any(map(is_video_name, names)):
                return separator, columns
        return "", []

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number and the fields, by column, of each row below the header."""
        separator, columns = self.header
        for number, fields in islice(read_rows(self.text, separator, self.path), 1, None):
            if len(fields) != len(columns) or list(map(column_name, fields)) == columns:
                raise AnnotationError(
                    f"{self.path}:{number}: expected {len(columns)} fields ({', '.join(columns)}), got {fields!r:.99}; "
                    "quote a field that holds the separator."
                )
            yield number, dict(zip(columns, fields, strict=True))


def read_list(file: ListFile) -> ListedVideos:
    """
    Reads a list of videos.

    - Lines of path and label, separated by a space, a tab, a comma or a semicolon. Paths and class names may hold
      spaces and commas if the path is quoted or ends in a video's extension. There are no comments, since names can
      begin with `#`.
    - A table whose header names its columns, separated by a tab, a comma or a semicolon.
    - JSON: a list of objects, an object from path to label, or one of these for each split; or one object on each line
      (`.jsonl`).

    If all labels are numbers, they are class numbers, else class names.

    Raises:
        AnnotationError: the file cannot be read, or it is not clear what is a path and what a label.
    """
    if file.is_json:
        entries = [{column_name(key): value for key, value in entry.items()} for entry in _json_entries(file)]
        columns = list(dict.fromkeys(key for entry in entries for key in entry))
        listed = _listed_in_table(columns, enumerate(entries, 1), file.path)
    elif not file.lines:
        raise AnnotationError(f"{file.path} is empty.")
    elif file.header[1]:
        listed = _listed_in_table(file.header[1], file.rows(), file.path)
    else:
        listed = _listed_in_lines(file)
    return replace(listed, suggested_split=split_of_name(file.path))


def _json_entries(file: ListFile) -> list[dict[str, Any]]:
    """The objects of a JSON list; those of each split get the column `split`."""
    content = file.json
    by_split = isinstance(content, dict) and content and all(key.lower() in SPLIT_WORDS for key in content)
    entries: list[dict[str, Any]] = []
    for split, part in content.items() if by_split else [(None, content)]:
        if isinstance(part, dict) and all(map(is_video_name, part)):
            part = [{"path": name, "label": label} for name, label in part.items()]
        if not part or not isinstance(part, list) or not all(isinstance(entry, dict) for entry in part):
            raise AnnotationError(
                f'{file.path}: expected a list of objects (`[{{"video": "a.mp4", "label": "run"}}]`), an object from '
                f"path to label, or a text: {FORMS}."
            )
        entries += [{"split": split} | entry for entry in part] if split else part
    return entries


# Tables


def _listed_in_table(columns: Sequence[str], rows: Iterable[tuple[int, dict[str, Any]]], path: Path) -> ListedVideos:
    paths, labels, splits = (
        [name for name in known if name in columns] for known in (PATHS, (*NAMES, *LABELS, *NUMBERS), SPLIT_COLUMNS)
    )
    repeated = [name for name in (*paths, *labels, *splits) if columns.count(name) > 1]
    if not paths or repeated:
        problem = f"two columns are called {repeated[0]!r}" if repeated else f"no column of paths in {columns!r:.200}"
        raise AnnotationError(f"{path}: {problem}; {FORMS}. Known columns of paths: {', '.join(PATHS)}.")
    listings: list[Listing] = []
    values: list[list[Any]] = []  # of each label column
    for line, row in rows:
        name, listing = row.get(paths[0]), Listing("", None, None, str(path), line)
        if not isinstance(name, str) or not name:
            raise AnnotationError(f"{listing.where}: the column of paths holds {name!r:.100}; expected a path.")
        values.append([_label(row.get(each), listing, each in NAMES) for each in labels] or [None])
        split = split_of_word(str(row[splits[0]]), listing.where) if splits and row.get(splits[0]) else None
        listings.append(listing._replace(name=name, split=split))
    if not listings:
        raise AnnotationError(f"{path} lists no videos.")
    names = bool(labels) and labels[0] in NAMES
    first, *others = sorted(zip(*values, strict=True), key=lambda column: not names and _are_numbers(column))
    listings = [listing._replace(label=label) for listing, label in zip(listings, first, strict=True)]
    ordered = [_names_in_order(first, other, path) for other in others]
    unread = [name for name in columns if name not in ("", paths[0], *labels, *splits[:1])]
    notes = [f"{path}: videos are read as a whole; columns not read: {', '.join(unread):.200}"] if unread else []
    if missing := first.count(None):
        notes.append(f"{path}: {missing} of {len(listings)} videos have no label")
    return ListedVideos(_numbered(listings, names), next(filter(None, ordered), None), notes=tuple(notes))


def _are_numbers(labels: Iterable[Any]) -> bool:
    return all(_NUMBER.fullmatch(str(label)) for label in labels if label is not None)


def _label(value: Any, row: Listing, is_name: bool) -> str | int | None:
    """A label of a table: text or a whole number; an empty one is none."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    several = not is_name and _SEVERAL.match(str(value)[:200])
    if isinstance(value, bool) or not isinstance(value, (str, int)) or several:
        raise AnnotationError(f"{row.where}: expected one class name or class number as the label, got {value!r:.100}.")
    return value


def _names_in_order(names: Sequence[Any], numbers: Sequence[Any], path: Path) -> tuple[str, ...] | None:
    """
    The class names in the order of their numbers, if another column numbers them without gaps.

    Raises:
        AnnotationError: the two columns do not agree.
    """
    pairs = {(str(number), str(name)) for name, number in zip(names, numbers, strict=True)}
    name_of = dict(pairs)
    if not len(pairs) == len(name_of) == len(set(name_of.values())):
        raise AnnotationError(f"{path}: two columns hold labels and do not agree; keep one of them.")
    counts = [[str(first + number) for number in range(len(pairs))] for first in (0, 1)]
    return next((tuple(name_of[number] for number in count) for count in counts if {*count} == {*name_of}), None)


def _numbered(listings: list[Listing], names: bool = False) -> list[Listing]:
    """Labels as numbers if all of them are whole numbers and not known to be `names`, else as names."""
    texts: dict[Any, str] = {item.label: str(item.label) for item in listings if item.label is not None}
    if names:
        return [item._replace(label=texts.get(item.label)) for item in listings]
    if _are_numbers(texts):
        numbers: dict[Any, int] = {label: int(text.removesuffix(".0")) for label, text in texts.items()}
        return [item._replace(label=numbers.get(item.label)) for item in listings]
    if any(isinstance(label, int) for label in texts) or all(map(LIKE_A_NUMBER.fullmatch, texts.values())):
        wrong = next(item for item in listings if not _NUMBER.fullmatch(texts.get(item.label, "0")))
        raise AnnotationError(
            f"{wrong.where}: expected class names, or whole numbers in all rows, got the label {wrong.label!r:.60}; a "
            "column of names that look like numbers is called `label_name`."
        )
    return listings


# Lines without a header


def _listed_in_lines(file: ListFile) -> ListedVideos:
    listings, three_columns, label_first = [], True, True
    labels: dict[str, str] = {}
    for number, line in file.lines:
        name, label, separator = path_and_label(line, f"{file.path}:{number}")
        if label is None:
            label_first &= bool(re.search(r"[,;\s]", line)) and not line.startswith('"')  # `run a.mp4`
        else:
            label = labels.setdefault(label, label)  # one string for all videos of a class
            again = separator.strip() and re.search(re.escape(separator) + r"(?!\s)", label)
            three_columns &= bool(again or _COLUMN_AFTER_LABEL.search(label)) and not line.endswith('"')
        listings.append(Listing(name, label, None, str(file.path), number))
    first, rest = listings[0], listings[1:]
    unlabelled = [item for item in listings if item.label is None]
    if 0 < len(unlabelled) < len(listings):
        raise AnnotationError(f"{unlabelled[0].where}: {unlabelled[0].name!r:.200} has no label; {FORMS}.")
    if label_first if unlabelled else three_columns:
        problem = "may be a label and a path" if unlabelled else "has three columns"
        raise AnnotationError(f"{first.where}: {file.lines[0][1]!r:.200} {problem}; {FORMS}.")
    unlike = all(is_video_name(item.name) for item in rest) or all(item.label != first.label for item in rest)
    suspected = bool(rest) and first.label is not None and not is_video_name(first.name) and unlike
    return ListedVideos(_numbered(listings), header_suspected=suspected)


def path_and_label(line: str, where: str) -> tuple[str, str | None, str]:
    """
    Path, label and separator of a line. A line that is only a path has no label.

    Raises:
        AnnotationError: there is not one way to divide the line.
    """
    fields: Sequence[str] = ()
    separator = next((sign for sign in ("\t", ";", ",") if sign in line), " ")
    if is_video_name(unquoted(line)):
        return unquoted(line), None, ""
    if line.startswith('"') and line.count('"') % 2:
        pass
    elif match := _PATH_THEN_LABEL.fullmatch(line):
        fields, separator = (unquoted(match[1]), unquoted(match[3])), match[2]
    elif not _PATH_INSIDE.search(line):  # no path ends in a video's extension
        fields = fields_of(line, separator) if separator != " " else line.split()
        if separator == " " and fields[-1].isdecimal() and not fields[-2:][0].isdecimal():
            fields = line.rsplit(None, 1)
    if len(fields) != 2 or not all(fields) or _SEVERAL.match(fields[1]):
        raise AnnotationError(f"{where}: {line!r:.200} is not clear; {FORMS}. Quote a path that holds a separator.")
    return fields[0], fields[1], separator
