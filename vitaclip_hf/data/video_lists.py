"""Reads lists of videos: `path label` lines, tables with a header, JSON and JSON lines."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .class_names import SEPARATORS
from .listings import (
    SPLIT_WORDS,
    VIDEO_EXTENSIONS,
    ListedVideos,
    Listing,
    is_video_name,
    split_of_name,
    split_of_word,
)
from .text_files import (
    AnnotationError,
    fields_of,
    read_json,
    read_rows,
    read_text,
    split_lines,
    unquoted,
)


# Column names, in any case, with or without spaces, hyphens and underscores. Of several paths, the first of these is
# taken: addresses come late, since beside an id they are often the page of a video (MSR-VTT).
PATH_COLUMNS = (
    *("path", "video_path", "file_path", "filepath", "clip_path", "relative_path"),
    *("file", "file_name", "filename", "video_file", "video_file_name", "video_filename"),
    *("video", "video_name", "vid_name", "clip", "clip_name", "videos", "video_id", "clip_id", "vid", "youtube_id"),
    *("uri", "url", "video_url", "link", "name", "id"),
)
NAME_COLUMNS = ("label_name", "class_name", "category_name", "action_name")  # class names, even if they are digits
LABEL_COLUMNS = ("label", "class", "category", "action", "target", "activity", "labels", "class_label", "action_label")
NUMBER_COLUMNS = (
    *("label_id", "class_id", "category_id", "action_id", "label_index", "class_index", "label_idx", "class_idx"),
)
SPLIT_COLUMNS = ("split", "subset", "set", "partition")
TABLE_ENDINGS = (".json", ".jsonl", ".ndjson")
MAX_DIGITS = 19  # of a class number

_KNOWN = {*PATH_COLUMNS, *NAME_COLUMNS, *LABEL_COLUMNS, *NUMBER_COLUMNS, *SPLIT_COLUMNS}
_LABELS = (*NAME_COLUMNS, *LABEL_COLUMNS, *NUMBER_COLUMNS)
_SPELLINGS = {name.replace("_", ""): name for name in (*_KNOWN, "time_start", "time_end")}
_IDS = {"id", "index", "idx", "number", "", *NUMBER_COLUMNS}
_EXTENSION = "|".join(re.escape(extension) for extension in VIDEO_EXTENSIONS)
_PATH_THEN_LABEL = re.compile(rf'("(?:[^"]|"")+"|.+(?:{_EXTENSION}))(\s*[,;]\s*|\s+)(\S.*)', re.IGNORECASE | re.DOTALL)
_PATH_INSIDE = re.compile(rf"(?:{_EXTENSION})[^\w./\\ -]", re.IGNORECASE)

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?")
_PARTS_OF_VIDEOS = re.compile(r"(?:.*_)?(?:start|end|begin|stop|from|to|t0|t1|segment|duration)(?:_.*)?")
_LIST_OF_LABELS = re.compile(r"[\[({]\s*(?:['\"]|\d+\s*,)")  # not `[Something] falls`
_SEVERAL = re.compile(r"\[\s*(?:-?\d+|'[^']*'|\"[^\"]*\")(?:\s*,.*)?\]", re.DOTALL)
_PARTS_OF_SPLITS = re.compile(r"(?:is_)?(?:train|test|val|valid|validation)(?:ing)?|fold|phase|usage")
_WHOLE_NUMBER = re.compile(r"[+-]?\d+")


def known_columns() -> str:
    """The known column names, for messages."""
    labels = ", ".join((*LABEL_COLUMNS[:6], *NAME_COLUMNS[:2], *NUMBER_COLUMNS[:2]))
    return f"path columns: {', '.join(PATH_COLUMNS)}; label columns: {labels}; split columns: {SPLIT_COLUMNS[0]}, …"


def column_name(text: str) -> str:
    """A column's name in one spelling: `videoPath`, `VIDEO-PATH` and `Video Path` are `video_path`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text.strip().lstrip("#").strip())
    return _SPELLINGS.get(re.sub(r"[\W_]+", "", text).lower(), re.sub(r"[\s_-]+", "_", words).lower())


def header_with(line: str, wanted: Sequence[str]) -> tuple[str, list[str]] | None:
    """The separator and the column names of a header that has all columns `wanted`; `None` for another line."""
    for separator in SEPARATORS:
        names = [column_name(name) for name in fields_of(line, separator) or ()]
        if set(wanted) <= set(names):
            return separator, names
    return None


@dataclass(frozen=True)
class Columns:
    """
    Which columns of a table are read.

    Attributes:
        path (`int`): number of the column with the videos' paths.
        path_name (`str`): its name.
        label (`int`, *optional*): that of the labels.
        kind (`str`): `"names"`, `"numbers"`, or `"auto"`: numbers if all labels are.
        other_labels (`tuple[int, ...]`): further label columns; they must agree with the first.
        split (`int`, *optional*): that of the splits.
        unread (`tuple[str, ...]`): names of the other columns.
    """

    path: int
    path_name: str
    label: int | None
    kind: str
    other_labels: tuple[int, ...]
    split: int | None
    unread: tuple[str, ...]


def columns_of(names: Sequence[str], where: str) -> Columns | None:
    """
    The columns of a table by their names; `None` if no column holds paths.

    Raises:
        AnnotationError: a name occurs twice, or the columns are those of a class file.
    """
    names = [column_name(name) for name in names]
    paths = [name for name in PATH_COLUMNS if name in names]
    if not paths:
        return None
    repeated = next((name for name in names if name in _KNOWN and names.count(name) > 1), None)
    if repeated is not None:
        raise AnnotationError(f"{where}: two columns are called {repeated!r}; rename one.")
    labels = [name for name in _LABELS if name in names]
    splits = [name for name in SPLIT_COLUMNS if name in names]
    paired = len(paths) + len(labels) in (2, len(names))  # else the table has other columns, and none of labels
    if set(paths) <= {"name", "id"} and not splits and set(labels) <= _IDS and len(names) <= 3 and paired:
        raise class_file_error(where)
    kind = "auto"
    if labels:
        kind = "names" if labels[0] in NAME_COLUMNS else "numbers" if labels[0] in NUMBER_COLUMNS else "auto"
    return Columns(
        path=names.index(paths[0]),
        path_name=paths[0],
        label=names.index(labels[0]) if labels else None,
        kind=kind,
        other_labels=tuple(names.index(name) for name in labels[1:]),
        split=names.index(splits[0]) if splits else None,
        unread=tuple(name for name in names if name not in {paths[0], *labels, *splits[:1]}),
    )


def class_file_error(where: str) -> AnnotationError:
    return AnnotationError(
        f"{where}: this is a file of class names, not a list of videos; give it as `classes`. (A list of videos has a "
        "column `path`.)"
    )


def header_of(line: str, where: str) -> tuple[str, list[str], Columns] | None:
    """The separator, names and meaning of a header line; `None` if the line names no known path column."""
    for separator in (*SEPARATORS, " "):
        names = line.split() if separator == " " else fields_of(line, separator)
        if not names or any(map(is_video_name, names)):
            continue
        names = names[1:] if separator == " " and names[0] == "#" else names
        known = [column_name(name) in _KNOWN for name in names]
        if len(names) < 2 and separator != SEPARATORS[-1]:
            continue  # a single column is tried once
        if separator == " " and not all(known):
            continue
        if any(known) and (columns := columns_of(names, where)) is not None:
            return separator, names, columns
    return None


# One file


def read_list(path: Path) -> ListedVideos:
    """
    Reads a list of videos.

    - Lines of path and label, separated by a space, a tab, a comma or a semicolon. Fields may be quoted. Paths and
      class names may hold spaces and commas if the path is quoted or ends in a video's extension. There are no
      comments, since names can begin with `#`.
    - A table whose header names its columns, with one of these separators.
    - JSON: a list of objects, an object of lists, an object from path to label, one of these for each split, Kinetics'
      own or SSv2's; or one object on each line (`.jsonl`).

    If all labels are numbers, they are class numbers, else class names.

    Raises:
        AnnotationError: the file cannot be read, or it is not clear what is a path and what a label.
    """
    if path.suffix.lower() in TABLE_ENDINGS:
        return _listed_in_json(read_json(path), path)
    lines = split_lines(read_text(path, "surrogateescape"), path)
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise AnnotationError(f"{path} is empty.")
    header = header_of(lines[first], f"{path}:{first + 1}")
    if header is None:
        return _listed_in_lines(lines, path)
    separator, names, columns = header
    return _listed_in_rows(_rows(lines, separator, names, path, first + 1), columns, path)


def _rows(
    lines: list[str], separator: str, names: list[str], path: Path, start: int
) -> Iterator[tuple[int, Sequence[str]]]:
    """The rows below a header, all of its width."""
    spaces = separator == " "
    rows = _rows_of_words(lines, names, path, start) if spaces else read_rows(lines, separator, path, start)
    for number, fields in rows:
        if len(fields) != len(names):
            hint = "a comma" if separator == "," else {"\t": "a tab", ";": "a semicolon"}.get(separator, "a space")
            raise AnnotationError(
                f"{path}:{number}: expected {len(names)} fields ({', '.join(names)}), got {len(fields)}; quote a field "
                f"that holds {hint}."
            )
        if fields[0] == names[0] and list(fields) == names:
            raise AnnotationError(f"{path}:{number}: the header stands here again; remove this line.")
        yield number, fields


def table_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) of a table with a header that names the columns `wanted`."""
    lines = split_lines(read_text(path, "surrogateescape"), path)
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    header = header_with(lines[first], wanted)
    if header is None:
        raise AnnotationError(f"{path}:{first + 1}: expected a header with {', '.join(wanted)}.")
    separator, names = header
    for number, fields in _rows(lines, separator, names, path, first + 1):
        yield number, dict(zip(names, fields, strict=True))


def _rows_of_words(lines: list[str], names: list[str], path: Path, start: int) -> Iterator[tuple[int, Sequence[str]]]:
    first_is_path = len(names) == 2 and column_name(names[0]) in PATH_COLUMNS
    for number in range(start, len(lines)):
        line = lines[number]
        if not line.strip():
            continue
        if first_is_path:  # path and label may hold spaces, as in a list without a header
            name, label = path_and_label(line, str(path), number + 1)
            yield number + 1, (name, label or "")
        else:
            yield number + 1, _unquoted_words(line)


def _unquoted_words(line: str) -> list[str]:
    return [unquoted(word) for word in re.findall(r'"(?:[^"]|"")*"|\S+', line)]


def _listed_in_rows(rows: Iterable[tuple[int, Sequence[Any]]], columns: Columns, path: Path) -> ListedVideos:
    file = str(path)
    listings: list[Listing] = []
    numbers = _NumbersOfNames(columns, file)
    known_splits: dict[Any, str | None] = {"": None, None: None}
    labels: dict[Any, str | int | None] = {}
    for line, row in rows:
        name = row[columns.path]
        if not isinstance(name, str) or not name:
            where = Listing("", None, None, file, line).where
            found = "is empty" if name in ("", None) else f"holds {name!r:.100}"
            raise AnnotationError(f"{where}: the column of paths {found}; expected a path.")
        split = row[columns.split] if columns.split is not None else None
        if split.__hash__ is None or split not in known_splits:
            where = Listing("", None, None, file, line).where
            known_splits[split] = split_of_word(split if isinstance(split, str) else repr(split), where)
        label = row[columns.label] if columns.label is not None else None
        if label.__class__ is not str or label not in labels:
            label = _checked_label(label, name, file, line)
        label = labels.setdefault(label, label)  # one string for all videos of a class
        if columns.other_labels:
            numbers.add(label, [row[column] for column in columns.other_labels], line)
        listings.append(Listing(name, label, known_splits[split], file, line))
    if not listings:
        raise AnnotationError(f"{path} lists no videos.")
    listings = _numbered(listings, columns.kind)
    if columns.path_name in ("id", "name") and _are_classes(listings):
        raise class_file_error(file)
    return ListedVideos(
        listings, numbers.ordered_names(), split_of_name(path), notes=tuple(_notes_of_table(columns, listings, path))
    )


def _are_classes(listings: list[Listing]) -> bool:
    """Whether rows of two fields pair each class with its number: `0,run` or `run,0`."""
    labels = {item.label for item in listings}
    if len(labels) < len(listings):
        return False
    counts = [{str(first + number) for number in range(len(listings))} for first in (0, 1)]
    return {str(label) for label in labels} in counts or {item.name for item in listings} in counts


def _checked_label(label: Any, name: str, file: str, line: int) -> str | int | None:
    """A label of a table: text or a whole number; an empty one is none."""
    if label is None or isinstance(label, str):
        if label and label[0] in "[({" and _LIST_OF_LABELS.match(label):
            where = Listing(name, None, None, file, line).where
            raise AnnotationError(f"{where}: expected one label for each video, got the list {label!r:.100}.")
        return label or None
    if isinstance(label, int) and not isinstance(label, bool) and abs(label) < 10**18:
        return label
    if isinstance(label, float) and label.is_integer() and abs(label) < 10**15:
        return int(label)
    where = Listing(name, None, None, file, line).where
    shown = repr(label) if not isinstance(label, int) or isinstance(label, bool) else "a number of many digits"
    raise AnnotationError(f"{where}: a label must be a class name or a class number, got {shown:.100}.")


def _notes_of_table(columns: Columns, listings: list[Listing], path: Path) -> Iterator[str]:
    unlabelled = sum(listing.label is None for listing in listings)
    if columns.label is None and columns.unread:
        yield (
            f"{path}: no column holds labels; not read: {', '.join(columns.unread):.200} (known: {', '.join(_LABELS)})"
        )
    others = [name for name in columns.unread if name in PATH_COLUMNS and name not in ("name", "id")]
    if others:
        yield f"{path}: the videos are those of the column `{columns.path_name}`; not read: {', '.join(others):.200}"
    parts = [name for name in columns.unread if _PARTS_OF_VIDEOS.fullmatch(name)]
    if parts:
        yield f"{path}: each video is read as a whole; not read: {', '.join(parts):.200}"
    splits = [name for name in columns.unread if _PARTS_OF_SPLITS.fullmatch(name)]
    if splits and columns.split is None:
        yield f"{path}: no column is called `split`; not read: {', '.join(splits):.200}"
    if columns.label is not None and unlabelled:
        yield f"{path}: {unlabelled} of {len(listings)} videos have no label"


class _NumbersOfNames:
    """Several label columns: each label must stand beside the same others in all rows."""

    def __init__(self, columns: Columns, file: str):
        self.columns = columns
        self.file = file
        self.pairs: list[dict] = [{} for _ in columns.other_labels]
        self.back: list[dict] = [{} for _ in columns.other_labels]

    def add(self, label: Any, others: list[Any], line: int) -> None:
        for forth, back, other in zip(self.pairs, self.back, others, strict=True):
            other = str(other)
            if forth.setdefault(label, other) != other or back.setdefault(other, label) != label:
                where = Listing("", None, None, self.file, line).where
                raise AnnotationError(
                    f"{where}: two columns hold labels and do not agree: {label!r:.80} stands beside {other!r:.80}, "
                    f"but before beside {forth[label]!r:.80}; keep one of the columns."
                )

    def ordered_names(self) -> tuple[str, ...] | None:
        """The class names in the order of their numbers, if another column numbers them without gaps."""
        for pairs in self.pairs:
            names = {str(number): name for name, number in pairs.items()}
            for first in (0, 1):
                wanted = [str(number) for number in range(first, first + len(names))]
                if set(wanted) == set(names) and all(isinstance(name, str) for name in pairs):
                    return tuple(names[number] for number in wanted)
        return None


def _numbered(listings: list[Listing], kind: str = "auto") -> list[Listing]:
    """Turns labels into numbers if all of them are."""
    if kind == "names":
        return [item if item.label is None else item._replace(label=str(item.label)) for item in listings]
    labels = {listing.label for listing in listings}
    _check_single(labels, listings)
    numbers = {label: _as_number(label) for label in labels if label is not None}
    if None in numbers.values():
        _check_numbers([label for label in numbers if isinstance(label, str)], listings)
        if kind == "numbers":
            wrong = next(item for item in listings if item.label is not None and numbers[item.label] is None)
            raise AnnotationError(f"{wrong.where}: expected a class number, got {wrong.label!r:.100}.")
        if any(isinstance(label, int) for label in labels):
            wrong = next(item for item in listings if isinstance(item.label, int))
            raise AnnotationError(f"{wrong.where}: label {wrong.label} is a number, but other labels are class names.")
        return listings
    if not numbers or (None in labels and kind == "lines"):
        return listings
    return [item if item.label is None else item._replace(label=numbers[item.label]) for item in listings]


def _check_single(labels: set, listings: list[Listing]) -> None:
    """Refuses several labels of one video, such as `[0, 3]`."""
    several = next((label for label in labels if isinstance(label, str) and _SEVERAL.fullmatch(label)), None)
    if several is not None:
        where = next(item.where for item in listings if item.label == several)
        raise AnnotationError(f"{where}: expected one label for each video, got the list {several!r:.100}.")


def _check_numbers(labels: list[str], listings: list[Listing]) -> None:
    """Refuses labels that are all numbers but no class numbers, and a number of too many digits."""
    wrong = next((label for label in labels if len(label) >= MAX_DIGITS and _WHOLE_NUMBER.fullmatch(label)), None)
    if wrong is None and all(map(_NUMBER.fullmatch, labels)):
        wrong = next(label for label in labels if _as_number(label) is None)
    if wrong is not None:
        where = next(item.where for item in listings if item.label == wrong)
        raise AnnotationError(
            f"{where}: the label {wrong!r:.60} is a number, but no class number; if it is a name, call the column "
            "`label_name`."
        )


def _as_number(label: str | int) -> int | None:
    """A label as a class number. pandas writes whole numbers as `3.0` where some are missing."""
    if isinstance(label, int):
        return label
    text = label[:-2] if label.endswith(".0") else label
    return int(text) if len(text) < MAX_DIGITS and _WHOLE_NUMBER.fullmatch(text) else None


# Lines without a header


def _listed_in_lines(lines: list[str], path: Path) -> ListedVideos:
    file = str(path)
    listings = []
    labels: dict[str, str] = {}
    plain_paths = 0
    for number, line in enumerate(lines, 1):
        if line and not line.isspace():
            name, label = path_and_label(line, file, number)
            if label is not None:
                label = labels.setdefault(label, label)  # one string for all videos of a class
            elif name != line.strip() or not any(separator in name for separator in SEPARATORS):
                plain_paths += 1
            listings.append(Listing(name, label, None, file, number))
    _check_columns(listings, lines)
    unlabelled = [listing for listing in listings if listing.label is None]
    if unlabelled and len(unlabelled) < len(listings):
        raise AnnotationError(
            f"{unlabelled[0].where}: {unlabelled[0].name!r:.200} has no label, but other lines have one; expected "
            "`path label` or `path,label`."
        )
    first = listings[0]
    if len(unlabelled) == len(listings) and not plain_paths:
        raise AnnotationError(
            f"{first.where}: {first.name!r:.200} may be a label and a path; put a header such as `label,path` above "
            "the first line, or quote paths that hold a separator."
        )
    suspected = (
        len(listings) > 1
        and first.label is not None
        and not is_video_name(first.name)
        and (
            all(is_video_name(listing.name) for listing in listings[1:])
            or not any(listing.label == first.label for listing in listings[1:])
        )
    )
    label_first = all(" " in item.name and item.label is None for item in listings)
    notes = (_label_first(first),) if label_first else ()
    return ListedVideos(_numbered(listings), None, split_of_name(path), suspected or label_first, notes)


def _label_first(first: Listing) -> str:
    return (
        f"{first.where}: {first.name!r:.200} is taken for one path without a label; if it is a label and a path, put a "
        "header such as `label path` above the first line"
    )


def header_error(first: Listing) -> AnnotationError:
    """The error for a first line that may be a header, or for lines that may have the label first."""
    if first.label is None:
        return AnnotationError(f"{_label_first(first)}.")
    return AnnotationError(
        f"{first.where}: there is no video {first.name!r:.100}, and no other line is like this one with the label "
        f"{str(first.label)!r:.100}, so it may be a header that is not known; rename its columns (or put `path,label` "
        f"above the first video). Known {known_columns()}."
    )


def path_and_label(line: str, file: str, number: int = 0) -> tuple[str, str | None]:
    """Path and label of a line; `None` for a line that is only a path."""
    line = line.strip()
    name, _, label = line.rpartition(" ")
    if '"' not in line and is_video_name(name) and not is_video_name(label) and not set(",;\t") & set(label):
        return name.rstrip(), label  # most lines, quickly
    return _path_and_label(line, Listing("", None, None, file, number))


def _path_and_label(line: str, place: Listing) -> tuple[str, str | None]:
    whole = unquoted(line)
    if is_video_name(whole):
        return whole, None
    match = None if line.startswith('"') and line.count('"') % 2 else _PATH_THEN_LABEL.fullmatch(line)
    if match:
        name, label = unquoted(match[1]), unquoted(match[3])
    else:
        name, label = _without_extension(line, place)
    if not name or not label:
        raise _unclear(line, place)
    if re.fullmatch(r"-?\d+(?:[\s,;]+-?\d+)+", label):
        raise AnnotationError(
            f"{place.where}: expected one label for each video, got {label!r:.100}; keep only `path label`."
        )
    return name, label


def _without_extension(line: str, place: Listing) -> tuple[str, str]:
    """Path and label of a line where no path ends in a video's extension: there must be one way to divide it."""
    if _PATH_INSIDE.search(line) is None:
        for separator in ("\t", ";", ","):
            fields = fields_of(line, separator) if separator in line else None
            if fields and len(fields) == 2:
                return fields[0], fields[1]
            if fields and len(fields) > 2:
                break
        else:
            fields = _unquoted_words(line)
            if len(fields) == 2:
                return fields[0], fields[1]
            if len(fields) > 2 and _WHOLE_NUMBER.fullmatch(fields[-1]) and not _WHOLE_NUMBER.fullmatch(fields[-2]):
                return line.rpartition(fields[-1])[0].strip(), fields[-1]
    raise _unclear(line, place)


def _unclear(line: str, place: Listing) -> AnnotationError:
    return AnnotationError(
        f"{place.where}: expected `path label` or `path,label`, got {line!r:.200}; quote a path that holds a "
        f"separator, or name the columns in a header. Known {known_columns()}."
    )


def _check_columns(listings: list[Listing], lines: list[str]) -> None:
    """Refuses three columns without a header: a label such as `run,train`, `run,` or `3;7` in all lines."""
    for separator in SEPARATORS:
        if not all(isinstance(item.label, str) and separator in item.label for item in listings):
            continue
        rows = [str(item.label).split(separator) for item in listings]
        if len({len(row) for row in rows}) > 1:
            continue
        if any(_are_columns(item, lines[item.line - 1], separator) for item in listings):
            raise _columns_error(listings[0], len(rows[0]))
        for column in zip(*rows, strict=True):
            words = {word.strip().lower() for word in column}
            if words == {""} or words <= SPLIT_WORDS.keys() or all(map(_WHOLE_NUMBER.fullmatch, words)):
                raise _columns_error(listings[0], len(rows[0]))


def _are_columns(listing: Listing, line: str, separator: str) -> bool:
    """Whether a label is several fields, and no name with commas: it is quoted, or a space follows only its commas."""
    line, label = line.strip(), str(listing.label)
    if line.endswith('"'):
        return False
    if separator != "," or label.count(",") > label.count(", "):
        return True
    return line[line.find(listing.name) + len(listing.name) :].lstrip('"').startswith(", ")


def _columns_error(first: Listing, count: int) -> AnnotationError:
    return AnnotationError(
        f"{first.where}: the lines have {count + 1} columns, with {first.label!r:.100} after the path; name them in a "
        "header, such as `path,label,split`, or quote labels that hold a separator."
    )


# JSON


def _listed_in_json(content: Any, path: Path) -> ListedVideos:
    suggested = split_of_name(path)
    if isinstance(content, dict) and content and all(str(key).lower() in SPLIT_WORDS for key in content):
        parts = [(SPLIT_WORDS[key.lower()], _part_of_json(value, path)) for key, value in content.items()]
        listings = [
            item if item.split else item._replace(split=split) for split, part in parts for item in part.listings
        ]
        return replace(parts[0][1], listings=_numbered(listings))
    return replace(_part_of_json(content, path), suggested_split=suggested)


def _part_of_json(content: Any, path: Path) -> ListedVideos:
    if isinstance(content, dict) and content:
        first = next(iter(content.values()))
        if all(isinstance(value, list) for value in content.values()):
            return _listed_in_rows(_rows_of_lists(content, path), _columns_of_json(list(content), path), path)
        if isinstance(first, dict) and "annotations" in first:
            return _kinetics_of_json(content, path)
        if all(isinstance(value, (str, int)) for value in content.values()) and all(map(is_video_name, content)):
            rows = enumerate(content.items(), 1)
            return _listed_in_rows(rows, Columns(0, "path", 1, "auto", (), None, ()), path)
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        names = list(dict.fromkeys(key for entry in content for key in entry))
        columns = _columns_of_json(names, path)
        return _listed_in_rows(((n, list(map(e.get, names))) for n, e in enumerate(content, 1)), columns, path)
    raise AnnotationError(
        f"{path}: expected SSv2's list of objects with `id` (and `template`), a list of objects with `video` and "
        "`label`, an object with these as lists, or an object from path to label."
    )


def _columns_of_json(names: list[str], path: Path) -> Columns:
    columns = columns_of(names, str(path))
    if columns is None:
        raise AnnotationError(
            f"{path}: no key of {', '.join(names):.200} is known to hold the videos. Known {known_columns()}."
        )
    return columns


def _rows_of_lists(content: Mapping[str, list], path: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    lengths = {key: len(values) for key, values in content.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key!r:.50}: {length}" for key, length in list(lengths.items())[:5])
        raise AnnotationError(f"{path}: the lists differ in length ({shown}).")
    return enumerate(zip(*content.values(), strict=True), 1)


def _kinetics_of_json(content: Mapping[str, Any], path: Path) -> ListedVideos:
    """Kinetics' own JSON: id -> `annotations` with `label` and `segment`, `subset`."""
    listings = []
    for number, (key, entry) in enumerate(content.items(), 1):
        where = f"{path}, entry {number}"
        try:
            start, end = (clip_second(value) for value in entry["annotations"]["segment"])
            label, split = entry["annotations"].get("label"), entry.get("subset")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AnnotationError(
                f"{where}: expected Kinetics' objects with `annotations` (`label`, `segment`), got {entry!r:.200}."
            ) from error
        split = split_of_word(str(split), where) if split else None
        label = _checked_label(label, key, str(path), number)
        listings.append(Listing(f"{key}_{start:06d}_{end:06d}", label, split, str(path), number))
    return ListedVideos(listings)


def clip_second(value: Any) -> int:
    """A time in seconds as it stands in the names of Kinetics' files. Raises a `ValueError` if it is none."""
    seconds = float(value)
    if not 0 <= seconds < 1e6:
        raise ValueError(f"{seconds} is not a time of a video")
    return round(seconds)
