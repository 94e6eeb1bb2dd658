"""Class names: reads their files, finds the label of a name, and spells a name as words."""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .listings import VIDEO_EXTENSIONS
from .text_files import AnnotationError, check_text, fields_of, read_json, read_rows, read_text, split_lines, unquoted


ID_COLUMNS = {
    *("id", "index", "idx", "number", "label_id", "class_id", "category_id", "action_id"),
    *("label_index", "class_index", "label_idx", "class_idx"),
}
NAME_COLUMNS = {"name", "label_name", "class_name", "category_name", "action_name", "action", "category"}
EITHER_COLUMNS = {"label", "class"}  # names or numbers, as their column shows
SEPARATORS = (",", "\t", ";")

MAX_NAME = 1000  # characters of a class name; the text tower reads 77 tokens

_HEADERS = ID_COLUMNS | NAME_COLUMNS | EITHER_COLUMNS  # above names alone, in the plural too
_HEADERS |= {f"{name}s" for name in _HEADERS} | {"classes", "categories", "classname", "class_list", "label_list"}
_REMARK = re.compile(r"# |//|\[.*\]$|[\[\]{}(),]+$|([-=*_#])\1\1+$")  # `[classes]`, `]`, `---`
_JOINED = {name.replace("_", ""): name for name in ID_COLUMNS | NAME_COLUMNS}
_ID = re.compile(r"\d{1,9}")
_DECIMAL = re.compile(r"[+-]?\d+\.\d*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # line breaks and tabs can stand in quotes
_LISTED_VIDEO = re.compile(rf"(?:{'|'.join(map(re.escape, VIDEO_EXTENSIONS))})[\"']?(?:$|[\s,;])", re.IGNORECASE)
_NUMBERED = re.compile(r"[(\[#]?(\d{1,9})\s*[.:)\]-]?\s+(?=\S)")
_LIST_COLUMNS = {"path", "videopath", "filepath", "file", "filename", "video", "videoid", "youtubeid", "clip", "uri"}


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """
    Reads class names, in the order of their labels.

    A file can hold

    - one name on each line,
    - `id,name` or `name,id` on each line, with a comma, a tab or a semicolon; a header says which column is which, else
      the column of whole numbers holds the ids,
    - `id name`, as UCF101's `classInd.txt`, or `name id`,
    - JSON: a list of names, an object `name: id` (SSv2's `labels.json`), an object `id: name`, or a list of objects
      with `id` and `name`.

    Ids count from 0 or from 1, without gaps, in any order. A name with a comma can be quoted.

    Args:
        path (`str` or `Path`): the file.

    Returns:
        `tuple[str, ...]`: the class names.

    Raises:
        AnnotationError: an unreadable or empty file, a repeated name, ids with gaps, or two columns of numbers without
            a header.
    """
    if Path(path).suffix.lower() in (".json", ".jsonl"):
        names = _names_of_json(read_json(path), path)
    else:
        lines = split_lines(read_text(path), path)
        numbered = _numbered_lines(lines, path)
        names = _plain_names(lines, path) if numbered is None else _in_order_of_ids(numbered, path)
    for number, name in enumerate(names):
        check_text(name, f"class {number},", str(path))
    if len(names) > 1 and all(map(_LISTED_VIDEO.search, names[1:])):
        raise AnnotationError(
            f"{path}: this is a list of videos, such as {names[1]!r:.100}, and no file of class names; give it as "
            "`annotations`."
        )
    return checked_class_names(names, str(path))


def read_numbered_names(path: str | Path) -> tuple[str, ...] | None:
    """The class names of a file that numbers them; `None` for any other file."""
    try:
        if Path(path).suffix.lower() == ".json":
            return checked_class_names(_names_of_json(read_json(path), path), str(path))
        numbered = _numbered_lines(split_lines(read_text(path), path), path)
        return None if numbered is None else checked_class_names(_in_order_of_ids(numbered, path), str(path))
    except AnnotationError:
        return None


def _numbered_lines(lines: Sequence[str], path) -> list[tuple[int, str]] | None:
    """Id and name of each line; `None` if the lines are no pairs of both."""
    start = next((number for number, line in enumerate(lines) if line.strip()), None)
    if start is None:
        return None
    for separator in SEPARATORS:
        header = [_column(name) for name in fields_of(lines[start], separator) or ()]
        known = ID_COLUMNS | NAME_COLUMNS | EITHER_COLUMNS
        if len(header) > 1 and set(header[:1]) <= known | {""} and set(header) & known and _is_header(header):
            return _numbered_rows(lines, separator, header, start, path)
    texts = [line.strip() for line in lines if line.strip()]
    for separator in SEPARATORS:
        _check_columns(texts, separator, path)
        if all(separator in text for text in texts) and (pairs := _pairs(texts, separator, path)) is not None:
            return pairs
        _check_half_numbered(texts, separator, path)
    if _header_of_words(texts):
        pairs = _pairs(texts[1:], " ", path)
        if pairs is None:
            raise AnnotationError(f"{path}: the first line, {texts[0]!r:.100}, looks like a header; remove it.")
        return pairs
    for separator in "|:=":  # in no other place of a line
        if len(texts) > 1 and all(text.count(separator) == 1 for text in texts):
            pairs = _pairs(texts, separator, path)
            if pairs is None:
                _check_half_numbered(texts, separator, path)
            elif _is_count(sorted(number for number, _ in pairs)):
                return pairs
    _check_signs(texts, path)
    if all(map(_NUMBERED.match, texts)):  # `1. run`
        texts = [_NUMBERED.sub(r"\1 ", text) for text in texts]
    return _pairs(texts, " ", path)


def _header_of_words(texts: list[str]) -> bool:
    """Whether the first line is a header such as `id name`."""
    header = [_column(word) for word in texts[0].split()]
    known = ID_COLUMNS | NAME_COLUMNS | EITHER_COLUMNS
    return len(texts) > 1 and len(header) == 2 and set(header) <= known and set(header) & ID_COLUMNS != set()


def _check_signs(texts: list[str], path) -> None:
    """Refuses lines that all begin or end with a sign that is not part of a name: YAML, Markdown, Python."""
    if len(texts) < 2:
        return
    for sign in ("- ", "* ", "|", "'"):
        if all(text.startswith(sign) for text in texts):
            raise AnnotationError(f"{path}: each line begins with {sign!r}; write one class name a line without it.")
    for sign in SEPARATORS:
        if all(text.endswith(sign) for text in texts):
            raise AnnotationError(f"{path}: each line ends in {sign!r}; write one class name a line without it.")
    for separator in SEPARATORS:
        rows = [fields_of(text, separator) or [text] for text in texts]
        first = [re.sub(r"[\W_]+", "", field).lower() for field in rows[0]]
        labels = {"label", "class", "category", "action"}
        if set(first) & _LIST_COLUMNS and set(first) & labels:
            raise AnnotationError(f"{path}: this is a list of videos with a header; give it as `annotations`.")
        plain = separator != "," or not any(", " in text for text in texts)
        if len(rows[0]) > 1 and {len(row) for row in rows} == {len(rows[0])} and plain:
            raise AnnotationError(
                f"{path}: each line has {len(rows[0])} fields, such as {texts[0]!r:.100}; keep only the names, put a "
                "header above (`id,name`), or quote names that hold a separator."
            )


def _check_columns(texts: list[str], separator: str, path) -> None:
    """Refuses three columns without a header, and ids that are no whole numbers (`0.0`)."""
    if len(texts) < 2 or not all(separator in text for text in texts):
        return
    rows = [fields_of(text, separator) for text in texts]
    lengths = {len(row) if row else 0 for row in rows}
    if lengths == {3} and any(all(row and _ID.fullmatch(row[column]) for row in rows) for column in range(3)):
        raise AnnotationError(
            f"{path}: each line has 3 fields, such as {texts[0]!r:.100}; put a header above (`id,name,other`), or "
            "quote names that hold a separator."
        )
    if lengths == {2} and any(all(row and _DECIMAL.fullmatch(row[column]) for row in rows) for column in range(2)):
        raise AnnotationError(f"{path}: the ids must be whole numbers, got {texts[0]!r:.100}.")


def _check_half_numbered(texts: list[str], separator: str, path) -> None:
    """Refuses a file of which most lines, but not all, pair a name with a number in the same order."""
    single = [
        text
        for text in texts
        if not _ID.fullmatch(text.partition(separator)[0].strip())
        and not _ID.fullmatch(text.rpartition(separator)[2].strip())
        or separator not in text
    ]
    if len(single) * 2 <= len(texts) and len(texts) > 1:
        problem = f"but not {single[0]!r:.100}" if single else "but not all in the same order"
        raise AnnotationError(f"{path}: most lines are `id{separator}name` or `name{separator}id`, {problem}.")
    if len(texts) == 1 and separator in texts[0] and len(fields_of(texts[0], separator) or "  ") > 1:
        raise AnnotationError(
            f"{path}: expected one class name a line, got {texts[0]!r:.200}; quote it if it is one name."
        )


def _column(text: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text.strip().lstrip("#").strip())  # `className`
    name = re.sub(r"[\s_-]+", "_", words).lower()
    return _JOINED.get(name, name)  # `classname`


def _is_header(header: list[str]) -> bool:
    """Whether a line's fields name a column of ids and one of names; one may be called `label` or `class`."""
    ids = sum(name in ID_COLUMNS or name == "" for name in header)
    names = sum(name in NAME_COLUMNS for name in header)
    either = sum(name in EITHER_COLUMNS for name in header)
    return ids + names + either >= 2 and (bool(ids) or bool(names) or either == 2)


def _numbered_rows(lines: Sequence[str], separator: str, header: list[str], start: int, path) -> list[tuple[int, str]]:
    rows = []
    for number, fields in read_rows(list(lines), separator, path, start + 1):
        if len(fields) > len(header) and separator == "," and len(header) == 2 and fields[0].isdecimal():
            fields = [fields[0], lines[number - 1].split(",", 1)[1].strip()]  # `0,putting a, then b`
        if len(fields) != len(header):
            raise AnnotationError(
                f"{path}:{number}: expected {len(header)} fields ({', '.join(header)}); quote a name that holds a "
                "separator."
            )
        rows.append(fields)
    if not rows:
        raise AnnotationError(f"{path}: no class names found.")
    numbers = [all(_ID.fullmatch(row[column]) for row in rows) for column in range(len(header))]
    ids = [column for column, name in enumerate(header) if name in ID_COLUMNS or name == ""]
    names = [column for column, name in enumerate(header) if name in NAME_COLUMNS]
    either = [column for column, name in enumerate(header) if name in EITHER_COLUMNS]
    ids = ids or [column for column in either if numbers[column]]
    names = names or [column for column in either if column not in ids]
    if len(ids) != 1 or len(names) < 1 or len(names) > 1:
        raise AnnotationError(
            f"{path}: it is not clear which column holds the ids and which the names ({', '.join(header)}); call them "
            "`id,name`."
        )
    id_column, name_column = ids[0], names[0]
    if not numbers[id_column]:
        wrong = next(row[id_column] for row in rows if not _ID.fullmatch(row[id_column]))
        raise AnnotationError(f"{path}: the column {header[id_column]!r} must hold whole numbers, got {wrong!r:.100}.")
    return [(int(row[id_column]), row[name_column]) for row in rows]


def _pairs(texts: list[str], separator: str, path) -> list[tuple[int, str]] | None:
    """`id,name` or `name,id` of all lines; `None` if some are not such pairs."""
    heads = [text.partition(separator) for text in texts]
    tails = [text.rpartition(separator) for text in texts]
    number_first = all(_ID.fullmatch(head.strip()) and tail.strip() for head, _, tail in heads)
    number_last = all(_ID.fullmatch(tail.strip()) and head.strip() for head, _, tail in tails)
    if number_first and number_last:
        # `1,2,3` has one way to be read; `0,1` has two.
        raise AnnotationError(
            f"{path}: each line may be `id{separator}name` or `name{separator}id`; put a header above (`id,name`)."
        )
    first = [(int(head.strip()), unquoted(tail)) for head, _, tail in heads] if number_first else None
    last = [(int(tail.strip()), unquoted(head)) for head, _, tail in tails] if number_last else None
    pairs = first or last
    if pairs is None or separator != " ":
        return pairs
    # "3 point throw" and "step 2" can be names, so these need complete ids, and more than one name.
    complete = _is_count(sorted(number for number, _ in pairs))
    distinct = len(pairs) > 1 and len({name for _, name in pairs}) == len(pairs)
    return pairs if complete and (pairs is first or distinct) else None


def _plain_names(lines: Sequence[str], path) -> list[str]:
    names = [unquoted(line) for line in lines if line.strip()]
    if len(names) < 2:
        return names
    if names[0].split()[:1] == ["names:"]:
        raise AnnotationError(f"{path}: this is YAML; expected `id,name` or one name a line.")
    if names[0] == str(len(names) - 1) and not all(name.isdecimal() for name in names):
        raise AnnotationError(
            f"{path}: the first line, {names[0]!r:.100}, looks like the number of classes; remove it."
        )
    if _column(names[0]) in _HEADERS or names[0].endswith(":"):
        raise AnnotationError(f"{path}: the first line, {names[0]!r:.100}, looks like a header; remove it.")
    if remark := next(filter(_REMARK.match, names), None):
        raise AnnotationError(
            f"{path}: the line {remark!r:.100} looks like a remark, a rule or a bracket; write only class names, one "
            "a line."
        )
    return names


def _names_of_json(content: Any, path) -> list[str]:
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        content = _pairs_of_objects(content, path)
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    if isinstance(content, dict) and content:
        values = content.values()
        names_first = all(_ID.fullmatch(value if isinstance(value, str) else repr(value)[:20]) for value in values)
        numbers_first = all(map(_ID.fullmatch, content))
        if names_first and numbers_first:
            raise AnnotationError(f"{path}: keys and values are whole numbers; which are the names is not clear.")
        if names_first:  # Kinetics' class names come with quotes of their own
            return _in_order_of_ids([(int(value), unquoted(name)) for name, value in content.items()], path)
        if numbers_first and all(isinstance(value, str) for value in values):
            return _in_order_of_ids([(int(key), name) for key, name in content.items()], path)
    raise AnnotationError(f"{path}: expected a list of class names or an object from name to id.")


def _pairs_of_objects(entries: list[dict], path) -> dict[str, str]:
    """A list of `{"id": …, "name": …}` as an object from id to name."""
    pairs: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        ids = [value for key, value in entry.items() if _column(key) in ID_COLUMNS and type(value) is int]
        names = [
            value
            for key, value in entry.items()
            if _column(key) in NAME_COLUMNS | EITHER_COLUMNS and type(value) is str
        ]
        if len(ids) != 1 or len(names) != 1 or not 0 <= ids[0] < 10**9 or str(ids[0]) in pairs:
            raise AnnotationError(
                f"{path}, entry {number}: expected an object with one `id` of its own and a `name`, got {entry!r:.200}."
            )
        pairs[str(ids[0])] = names[0]
    return pairs


def _is_count(numbers: Sequence[int]) -> bool:
    return list(numbers) in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))


def _in_order_of_ids(by_id: list[tuple[int, str]], path) -> list[str]:
    by_id = sorted(by_id, key=lambda pair: pair[0])
    numbers = [number for number, _ in by_id]
    if not _is_count(numbers):
        wrong = next((b for a, b in itertools.pairwise(numbers) if b != a + 1), numbers[0])
        raise AnnotationError(
            f"{path}: the {len(numbers)} ids must count from 0 or 1 without gaps or repeats; check id {wrong}."
        )
    return [name for _, name in by_id]


def checked_class_names(names: Iterable[str], source: str) -> tuple[str, ...]:
    """The names as a tuple. Raises an `AnnotationError` if there are none, or one is empty or repeated."""
    names = tuple(names)
    if not names:
        raise AnnotationError(f"{source}: no class names found.")
    count = Counter(names)
    if len(count) < len(names):
        repeated = min(name for name in count if count[name] > 1)
        raise AnnotationError(f"{source}: the class name {repeated!r:.200} occurs more than once.")
    if "" in names:
        raise AnnotationError(f"{source}: class {names.index('')} has an empty name.")
    for name in names:
        if len(name) > MAX_NAME:
            raise AnnotationError(
                f"{source}: the class name {name!r:.100}… has {len(name):,} characters; at most {MAX_NAME:,} are read."
            )
        if not name.isprintable() and (found := _CONTROL.search(name)):
            raise AnnotationError(f"{source}: the class name {name!r:.200} holds the control character {found[0]!r}.")
    return names


def alike_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """
    Pairs of names that differ only in case, spaces, underscores or hyphens, in characters that are not seen, or in how
    an accent or a wide letter is stored.
    """
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        key = re.sub(r"[\s_-]+", "", name if name.isascii() else _seen(name)).casefold()
        if first.setdefault(key, name) != name:
            pairs.append((first[key], name))
    return pairs


def _seen(name: str) -> str:
    """A name as it looks: without marks of width 0."""
    return "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFC", name)).casefold()


class ClassIndex:
    """
    Finds the label of a class name.

    A name fits exactly, or else without regard to case, spaces and punctuation: folders and lists spell one class as
    `brush_hair`, `Brush hair` or `BrushHair`.

    Args:
        names (`Sequence[str]`): class names in the order of their labels.
        source (`str`): where they come from, for messages.
    """

    def __init__(self, names: Sequence[str], source: str):
        self.names = checked_class_names(names, source)
        self.source = source
        self._exact = {name: label for label, name in enumerate(self.names)}
        self._loose: dict[str, int | None] = {}
        for label, name in enumerate(self.names):
            key = _folded(name) or name  # a name of signs alone has only its exact spelling
            self._loose[key] = None if key in self._loose else label  # two names alike need the exact spelling

    def find(self, name: str) -> int | None:
        """The label of a class name; `None` if there is no such class."""
        label = self._exact.get(name)
        return self._loose.get(_folded(name) or name) if label is None else label

    def label(self, label: str | int, where: str) -> int:
        """
        The label of a class.

        Args:
            label (`str` or `int`): class name, or class number from 0.
            where (`str`): file and line, for messages.

        Raises:
            AnnotationError: there is no such class.
        """
        if isinstance(label, str):
            found = self.find(label)
            if found is None:
                raise AnnotationError(
                    f"{where}: {label!r:.200} is none of the {len(self.names)} classes of {self.source}."
                )
            return found
        if not 0 <= label < len(self.names):
            hint = " (labels count from 0; if these count from 1, subtract 1)" if label == len(self.names) else ""
            raise AnnotationError(
                f"{where}: label {label} is not among the {len(self.names)} classes of {self.source}, "
                f"0 … {len(self.names) - 1}{hint}."
            )
        return label


def spell_class_name(name: str) -> str:
    """
    A class name as words, for prompts: underscores become spaces, and CamelCase is split.

    A name that has spaces is not split further.

    Args:
        name (`str`): the class name.

    Example:

    ```python
    >>> from vitaclip_hf.data.class_names import spell_class_name

    >>> spell_class_name("ApplyEyeMakeup"), spell_class_name("brush_hair"), spell_class_name("BMXRiding")
    ('Apply Eye Makeup', 'brush hair', 'BMX Riding')

    ```
    """
    words = " ".join(name.replace("_", " ").split())
    if " " in words:
        return words
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", words)
