"""Class names: reads their files, finds the label of a name, and spells a name as words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .listings import VIDEO_EXTENSIONS
from .text_files import (
    JSON_ENDINGS,
    AnnotationError,
    check_text,
    fields_of,
    read_json,
    read_rows,
    read_text,
    split_lines,
)


FORMS = (
    "a class file holds one name a line, `id,name` lines (a header is optional), or JSON: a list of names or an object "
    "from name to id"
)
MAX_NAME = 1000  # characters of a class name; the text tower reads 77 tokens

_WORDS = ("label", "class", "category", "action")
_IDS = {"id", "index", "idx", "number", "", *(f"{word}{end}" for word in _WORDS for end in ("id", "index", "idx"))}
_NAMES = {"name", "action", "category", *(f"{word}name" for word in _WORDS)}
_EITHER = {"label", "class"}  # the ids beside a column of names, the names beside one of ids
_HEADERS = {f"{name}{end}" for name in _IDS | _NAMES | _EITHER for end in ("", "s", "es")} - {"", "s", "es"}
# A remark, a heading, a rule or a mark of YAML, Markdown, Python or JSON in place of a name.
_NO_NAME = re.compile(r"# |//|[-*] |\||'.*'$|\[.*\]$|[\[\]{}(),]+$|([-=*_#])\1\1+$|.*[:,;]$")
_VIDEO = re.compile(rf"(?:{'|'.join(map(re.escape, VIDEO_EXTENSIONS))})\b", re.IGNORECASE)
_PAIRS = {  # an id before or after its name, and how a comma divides them
    r"[(\[#]?(?P<id>\d{1,9})(?:\s*[.:)\]=|,;\t-]\s*|\s+)(?P<name>\S.*)": r"\d+\s*[,;\t]",
    r"(?P<name>\S.*?)(?:\s*[:=|,;\t]\s*|\s+)(?P<id>\d{1,9})": r".*[,;\t]\s*\d+$",
}
_FIELDS = re.compile(r"\t|;|,(?!\s)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # line breaks and tabs can stand in quotes


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """
    Reads class names, in the order of their labels.

    A file can hold

    - one name on each line,
    - `id,name` or `name,id` on each line, with a comma, a tab or a semicolon; a header says which column is which, else
      the column of whole numbers holds the ids,
    - `id name`, as UCF101's `classInd.txt`,
    - JSON: a list of names, an object `name: id` (SSv2's `labels.json`), or an object `id: name`.

    Ids count from 0 or from 1, without gaps, in any order. A name with a comma can be quoted.

    Args:
        path (`str` or `Path`): the file.

    Returns:
        `tuple[str, ...]`: the class names.

    Raises:
        AnnotationError: another content, a repeated name, or ids with gaps.
    """
    return read_class_file(path)[0]


def read_class_file(path: str | Path) -> tuple[tuple[str, ...], bool]:
    """The class names of a file, see [`read_class_names`], and whether the file numbers them."""
    if Path(path).suffix.lower() in JSON_ENDINGS:
        names, pairs = _read_json_names(read_json(path), path)
    else:
        text = read_text(path)
        names = [_unquoted(line) for line in map(str.strip, split_lines(text)) if line]
        if video := next(filter(_VIDEO.search, names), None):
            raise AnnotationError(f"{path}: {video!r:.100} is a line of a list of videos; give it as `annotations`.")
        pairs = _rows_with_header(text, path) if names else None
        if pairs is None and (pairs := _numbered_lines(text, path)) is None:
            _check_plain(names, path)
    if pairs is not None:
        if not _is_count(pairs):
            raise AnnotationError(f"{path}: the {len(pairs)} ids must count from 0 or 1 without gaps or repeats.")
        names = [name for _, name in sorted(pairs)]
    for number, name in enumerate(names):
        check_text(name, f"class {number},", str(path))
    return checked_class_names(names, str(path)), pairs is not None


def _refused(path: str | Path, line: str) -> AnnotationError:
    return AnnotationError(f"{path}: {line!r:.100} is not clear; {FORMS}. Quote a name that holds a separator.")


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if re.fullmatch(r'"(?:[^"]|"")*"', text) else text


def _rows_with_header(text: str, path: str | Path) -> list[tuple[int, str]] | None:
    """Id and name of each row below a header that names both columns; `None` without such a header."""
    first = text.strip().splitlines()[0]
    for separator in (",", "\t", ";"):
        header = [re.sub(r"[\W_]+", "", name).lower() for name in fields_of(first, separator)]
        ids, names, either = (
            [place for place, name in enumerate(header) if name in known] for known in (_IDS, _NAMES, _EITHER)
        )
        if len(header) > 1 and len(ids or either) == len(names or either) == 1 and (ids or names):
            rows = [row for _, row in read_rows(text, separator, path)][1:]
            place, name = (ids or either)[0], (names or either)[0]
            wrong = next((row for row in rows if len(row) != len(header) or not row[place].isdecimal()), None)
            if wrong is not None:
                raise _refused(path, separator.join(wrong or [first]))
            return [(int(row[place]), row[name]) for row in rows]
    return None


def _numbered_lines(text: str, path: str | Path) -> list[tuple[int, str]] | None:
    """Id and name of each line; `None` if the lines are not pairs of both."""
    lines = [line.strip() for line in split_lines(text) if line.strip()]
    found = _pairs(lines)
    if len(found) > 1 or not found and _pairs(lines[1:]) or found and all(_FIELDS.search(name) for _, name in found[0]):
        raise _refused(path, lines[0])  # two ways, a heading, or three columns
    return found[0] if found else None


def _pairs(lines: Sequence[str]) -> list[list[tuple[int, str]]]:
    """The ways to divide all lines into id and name."""
    found = []
    for pattern, comma in _PAIRS.items():
        matches = [match for line in lines if (match := re.fullmatch(pattern, line))]
        pairs = [(int(match["id"]), match["name"]) for match in matches]
        # "3 point throw" and "step 2" can be names: without a comma, the ids must be complete.
        complete = _is_count(pairs) and len({name for _, name in pairs}) == len(pairs) > 1
        if len(pairs) == len(lines) > 0 and (complete or all(re.match(comma, line) for line in lines)):
            found.append([(number, _unquoted(name)) for number, name in pairs])
    return found


def _check_plain(names: Sequence[str], path: str | Path) -> None:
    """Refuses lines that are probably not plain names: headings, remarks, columns, a half-numbered file."""
    if not names:
        return
    wrong = next(filter(_NO_NAME.match, names), None)
    words = {re.sub(r"[\W_]+", "", word).lower() for first in names[:1] for word in (first, *first.split())}
    numbered = [name for name in names if any(re.match(comma, name) for comma in _PAIRS.values())]
    if len(names) > 1 and (
        len(words & _HEADERS) >= max(1, len(words) - 1) or names[0] == str(len(names) - 1) and not names[1].isdecimal()
    ):
        wrong = names[0]
    elif 2 * len(numbered) >= len(names) > 0 or all(map(_FIELDS.search, names)):
        wrong = wrong or names[0]
    if wrong is not None:
        raise _refused(path, wrong)


def _read_json_names(content: Any, path: str | Path) -> tuple[list[str], list[tuple[int, str]] | None]:
    """The names of a list, or the pairs of id and name of an object."""
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content, None
    items = list(content.items()) if isinstance(content, dict) else []
    number = re.compile(r"\d{1,9}")
    are_ids = [all(number.fullmatch(str(item[side])[:20]) for item in items) for side in (0, 1)]
    if are_ids == [False, True]:  # Kinetics' names have quotes of their own
        return [], [(int(value), _unquoted(name)) for name, value in items]
    if are_ids == [True, False] and all(isinstance(name, str) for _, name in items):
        return [], [(int(key), name) for key, name in items]
    raise _refused(path, str(content)[:100])


def _is_count(pairs: Sequence[tuple[int, str]]) -> bool:
    numbers = sorted(number for number, _ in pairs)
    return numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))


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
