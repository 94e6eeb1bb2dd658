"""Class descriptions as data: a JSON file with several texts for each class."""

from collections.abc import Sequence
from pathlib import Path

from .class_names import ClassIndex, checked_class_names
from .text_files import AnnotationError, check_text, read_json


MAX_TEXT = 10_000  # characters of a text; the text tower reads 77 tokens


def read_class_descriptions(path: str | Path) -> dict[str, tuple[str, ...]]:
    """
    Reads the texts of each class.

    The JSON file holds an object from class name to a text, to a list of texts, or to an object of such lists. A
    class's texts are taken together. FROSTER's and OST's files have the class's number in place of its name; see
    [`texts_of_classes`].

    Args:
        path (`str` or `Path`): the file.

    Returns:
        `dict[str, tuple[str, ...]]`: the texts by class name, in the order of the file.

    Raises:
        AnnotationError: another content, a class without texts, or an empty text.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise AnnotationError(f"{path}: expected an object from class name to texts, `{{class: [texts]}}`.")
    descriptions = {}
    for name, value in content.items():
        parts = value.values() if isinstance(value, dict) else [value]
        texts = [text for part in parts for text in (part if isinstance(part, list) else [part])]
        wrong = [text for text in texts if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT]
        if wrong or not texts:
            raise AnnotationError(
                f"{path}, class {name!r:.100}: expected a text, a list of texts or an object of lists, none empty or "
                f"longer than {MAX_TEXT:,} characters, got {value!r:.100}."
            )
        for text in (name, *texts):
            check_text(text, "the text", f"{path}, class {name!r:.100}")
        descriptions[name] = tuple(texts)
    checked_class_names(descriptions, str(path))
    return descriptions


def texts_of_classes(
    descriptions: dict[str, tuple[str, ...]], class_names: Sequence[str], source: str
) -> list[tuple[str, ...]]:
    """
    The texts of some classes, in their order. A name may differ in case, spaces and punctuation.

    Names `"0"`, `"1"`, … are the numbers of the classes, as in FROSTER (arXiv 2402.03241) and OST (arXiv 2312.00096).

    Raises:
        AnnotationError: a class has no texts, or the numbers are not those of the classes.
    """
    names = list(descriptions)
    numbers = [str(number) for number in range(len(names))]
    if sorted(names) == sorted(numbers) and not set(names) & set(class_names):
        if len(names) != len(class_names):
            raise AnnotationError(
                f"{source}: has texts for {len(names)} numbers; there are {len(class_names)} classes."
            )
        return [descriptions[number] for number in numbers]
    index = ClassIndex(names, source)
    places = [index.find(name) for name in class_names]
    missing = [name for name, place in zip(class_names, places, strict=True) if place is None]
    if missing:
        raise AnnotationError(f"{source}: no texts for {len(missing)} classes, such as {missing[0]!r:.100}.")
    return [descriptions[names[place]] for place in places if place is not None]
