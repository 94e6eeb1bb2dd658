"""Class names: reads their files, finds the label of a name, and spells a name as words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..model.shown_names import shown
from .listings import VIDEO_EXTENSIONS
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


FORMS = (
    "a class file holds one name a line, `id,name` lines (a header is optional), or JSON: a list of names or an object "
    "from name to id"
)
MAX_NAME = 1000  # characters of a class name; the text tower reads 77 tokens

# Column names in lower case, without spaces and signs: of ids, of names, and of either beside one of the other kind.
_IDS = re.compile(r"(label|class|category|action)?(id|index|idx)|number|")
_NAMES = re.compile(r"(label|class|category|action)?name|category|action")
_EITHER = re.compile("label|class")
_HEADING = re.compile(r"(label|class|category|action|name|id|index|idx)+(s|es)?")
# Several fields, a remark, a rule or a mark of YAML, Markdown, Python or JSON in place of a name.
_NO_NAME = re.compile(
    r'(?!"(?:[^"]|"")*"$).*(?:[;\t]|,\S)'
    r"|# |//|[-*] |\||'.*'$|\[.*\]$|[\[\]{}(),]+$|([-=*_#])\1\1+$|.*[:,;]$"
)
_VIDEO = re.compile(rf"(?:{'|'.join(map(re.escape, VIDEO_EXTENSIONS))})\b", re.IGNORECASE)
_PAIRS = {  # an id before or after its name, and how a comma divides them
    r"[(\[#]?(?P<id>\d{1,9})(?:\s*[.:)\]=|,;\t-]\s*|\s+)(?P<name>\S.*)": r"\d+\s*[,;\t]",
    r"(?P<name>\S.*?)(?:\s*[:=|,;\t]\s*|\s+)(?P<id>\d{1,9})": r".*[,;\t]\s*\d+$",
}
_FIELDS = re.compile(r"\t|;|,(?!\s)")


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
        names, pairs = _names_in_json(read_json(path), path)
    else:
        text = read_text(path)
        lines = [line.strip() for line in split_lines(text) if line.strip()]
        if video := next(filter(_VIDEO.search, lines), None):
            raise AnnotationError(f"{path}: {video!r:.100} is a line of a list of videos; give it as `annotations`.")
        if not lines:
            raise AnnotationError(f"{path}: no class names found.")
        names = list(map(unquoted, lines))
        pairs = _rows_with_header(text, lines[0], path) or _numbered_lines(lines, path)
        if pairs is None and len(lines) > 1 and _HEADING.fullmatch(column_name(lines[0])):
            raise _refused(path, lines[0])
        if pairs is None and (line := next(filter(_NO_NAME.match, lines), None)):
            raise _refused(path, line)
    if pairs is not None:
        if not _is_count(pairs):
            raise AnnotationError(f"{path}: the {len(pairs)} ids must count from 0 or 1 without gaps or repeats.")
        names = [name for _, name in sorted(pairs)]
    return checked_class_names(names, str(path)), pairs is not None


def _refused(path: str | Path, line: str) -> AnnotationError:
    return AnnotationError(f"{path}: {line!r:.100} is not clear; {FORMS}. Quote a name that holds a separator.")


def _rows_with_header(text: str, first_line: str, path: str | Path) -> list[tuple[int, str]] | None:
    """Id and name of each row below a header that names both columns; `None` without such a header."""
    for separator in (",", "\t", ";"):
        header = list(map(column_name, fields_of(first_line, separator)))
        ids, names, either = (
            [place for place, name in enumerate(header) if known.fullmatch(name)] for known in (_IDS, _NAMES, _EITHER)
        )
        if len(header) > 1 and len(ids or either) == len(names or either) == 1 and (ids or names):
            place, name = (ids or either)[0], (names or either)[0]
            pairs = []
            for _, row in islice(read_rows(text, separator, path), 1, None):
                if len(row) != len(header) or not row[place].isdecimal():
                    raise _refused(path, separator.join(row))
                pairs.append((int(row[place]), row[name]))
            return pairs
    return None


def _numbered_lines(lines: list[str], path: str | Path) -> list[tuple[int, str]] | None:
    """Id and name of each line; `None` if the lines are not pairs of both."""
    ways = _pairs(lines)
    if len(ways) > 1 or not ways and _pairs(lines[1:]) or ways and all(_FIELDS.search(name) for _, name in ways[0]):
        raise _refused(path, lines[0])  # two ways, a heading, or three columns
    return ways[0] if ways else None


def _pairs(lines: Sequence[str]) -> list[list[tuple[int, str]]]:
    """The ways to divide all lines into id and name."""
    ways = []
    for pattern, comma in _PAIRS.items():
        matches = [match for line in lines if (match := re.fullmatch(pattern, line))]
        pairs = [(int(match["id"]), unquoted(match["name"])) for match in matches]
        # "3 point throw" and "step 2" can be names: without a comma, the ids must be complete.
        complete = _is_count(pairs) and len({name for _, name in pairs}) == len(pairs) > 1
        if len(pairs) == len(lines) > 0 and (complete or all(re.match(comma, line) for line in lines)):
            ways.append(pairs)
    return ways


def _names_in_json(content: Any, path: str | Path) -> tuple[list[str], list[tuple[int, str]] | None]:
    """The names of a list, or the pairs of id and name of an object."""
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content, None
    items = list(content.items()) if isinstance(content, dict) else []
    number = re.compile(r"\d{1,9}")
    are_ids = [all(number.fullmatch(str(item[side])[:20]) for item in items) for side in (0, 1)]
    if are_ids == [False, True]:  # Kinetics' names have quotes of their own
        return [], [(int(value), unquoted(name)) for name, value in items]
    if are_ids == [True, False] and all(isinstance(name, str) for _, name in items):
        return [], [(int(key), name) for key, name in items]
    raise _refused(path, str(content)[:100])


def _is_count(pairs: Sequence[tuple[int, str]]) -> bool:
    numbers = sorted(number for number, _ in pairs)
    return numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))


def checked_class_names(names: Iterable[str], source: str) -> tuple[str, ...]:
    """
    The names as a tuple.

    Raises:
        AnnotationError: no names, or one that is empty, repeated, too long, not UTF-8 or with control characters.
    """
    names = tuple(names)
    if not names:
        raise AnnotationError(f"{source}: no class names found.")
    if "" in names:
        raise AnnotationError(f"{source}: class {names.index('')} has an empty name.")
    count = Counter(names)
    for name in names:
        plain = re.sub(r"[\t\r\n]", " ", name)  # these can stand in quotes
        if count[name] > 1:
            problem = "occurs more than once"
        elif len(name) > MAX_NAME:
            problem = f"has {len(name):,} characters; at most {MAX_NAME:,} are read"
        elif shown(plain) != plain:
            problem = "is not text in UTF-8, or holds a control character"
        else:
            continue
        raise AnnotationError(f"{source}: the class name {name!r:.200} {problem}.")
    return names


def alike_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ only in case, spaces, underscores or hyphens."""
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        key = re.sub(r"[\s_-]+", "", name).casefold()
        if first.setdefault(key, name) != name:
            pairs.append((first[key], name))
    return pairs


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
        number = self.find(label) if isinstance(label, str) else label
        count = len(self.names)
        if number is not None and 0 <= number < count:
            return number
        problem = f"{label!r:.200} is none" if isinstance(label, str) else f"label {label} is none"
        hint = "; labels count from 0: if these count from 1, subtract 1" if label == count else ""
        raise AnnotationError(f"{where}: {problem} of the {count} classes of {self.source}{hint}.")


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
