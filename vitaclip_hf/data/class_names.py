"""Class names: reads their files, finds the label of a name, and spells a name as words."""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path


HEADER_WORDS = {"id", "index", "idx", "label", "class", "name", "label_id", "class_id", "class_name", "label_name"}


class AnnotationError(ValueError):
    """An annotation or class file that cannot be used; the message says where, what was found and what to do."""


def read_text(path: str | Path) -> str:
    """A text file in UTF-8, with or without a byte order mark."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not text in UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except OSError as error:
        raise AnnotationError(f"Cannot read {path}: {error.strerror or error}.") from error


def read_json(path: str | Path):
    """The content of a JSON file in UTF-8."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path} is not valid JSON: {error}.") from error


def unquoted(text: str) -> str:
    """A field without its CSV quotes; doubled quotes in it become single."""
    text = text.strip()
    return text[1:-1].replace('""', '"').strip() if re.fullmatch(r'"(?:[^"]|"")*"', text) else text


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """
    Reads class names, in the order of their labels.

    A file can hold one name on each line; `id,name` on each line, with or without a header; `id name`, as UCF101's
    `classInd.txt`; or JSON: a list of names, an object `name: id` (SSv2's `labels.json`) or an object `id: name`. Ids
    count from 0 or from 1, without gaps, in any order. A name with a comma can be quoted.

    Args:
        path (`str` or `Path`): the file.

    Returns:
        `tuple[str, ...]`: the class names.

    Raises:
        AnnotationError: an unreadable or empty file, a repeated name, or ids with gaps.
    """
    if Path(path).suffix.lower() == ".json":
        names = _names_of_json(read_json(path), path)
    else:
        names = _names_of_lines(read_text(path).splitlines(), path)
    return checked_class_names(names, str(path))


def _names_of_lines(lines: Iterable[str], path) -> list[str]:
    lines = [line.strip() for line in lines if line.strip()]
    fields = [field.strip() for field in lines[0].lower().split(",")] if lines else []
    if len(fields) == 2 and set(fields) <= HEADER_WORDS:
        lines = lines[1:]
    numbered = [re.match(r"(\d+)\s*[,\t ]\s*(.+)", line) for line in lines]
    by_id = [(int(match[1]), unquoted(match[2])) for match in numbered if match]
    if len(by_id) == len(lines) and lines:
        comma = all("," in (match[0][: match.start(2)] if match else "") for match in numbered)
        # "3 point throw" can be a name that begins with a number, so `id name` needs complete ids.
        if comma or _is_count(sorted(number for number, _ in by_id)):
            return _in_order_of_ids(by_id, path)
    return [unquoted(line) for line in lines]


def _names_of_json(content, path) -> list[str]:
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    if isinstance(content, dict) and content:
        if all(re.fullmatch(r"\d+", str(value)) for value in content.values()):
            return _in_order_of_ids([(int(value), name) for name, value in content.items()], path)
        if all(re.fullmatch(r"\d+", key) for key in content):
            return _in_order_of_ids([(int(key), str(name)) for key, name in content.items()], path)
    raise AnnotationError(f"{path}: expected a list of class names or an object from name to id.")


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
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise AnnotationError(f"{source}: the class name {repeated[0]!r} occurs more than once.")
    if "" in names:
        raise AnnotationError(f"{source}: class {names.index('')} has an empty name.")
    return names


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


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
            key = _folded(name)
            self._loose[key] = None if key in self._loose else label  # two names alike need the exact spelling

    def find(self, name: str) -> int | None:
        """The label of a class name; `None` if there is no such class."""
        label = self._exact.get(name)
        return self._loose.get(_folded(name)) if label is None else label

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
