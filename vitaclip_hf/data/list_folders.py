"""Folders of annotation files: which of the files are the lists, and which name the classes."""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from .class_names import read_class_file, read_class_names
from .listings import SPLIT_WORDS, SPLITS, ListedVideos, is_video_name, split_of_name
from .lists import ListFile, path_and_label
from .readers import READERS
from .text_files import JSON_ENDINGS, AnnotationError


ENDINGS = (".txt", ".csv", ".tsv", ".lst", ".list", *JSON_ENDINGS)
MAX_SEARCHED = 1000  # files of a folder that are looked into
CLASS_FILES = tuple(
    f"{name}{ending}"
    for ending in (".txt", ".csv", ".json")
    for name in ("classInd", "classes", "class_names", "labels")
)


def detect_format(path: Path) -> str:
    """
    The format of an annotation file or folder, by its content.

    Args:
        path (`Path`): the file or folder.

    Returns:
        `str`: a name of `READERS`, or `"lists"` for a folder with one file for each split.

    Raises:
        AnnotationError: several formats fit a folder.
    """
    file = ListFile(path)
    fitting = [name for name, reader in READERS.items() if reader.fits(file)]
    if path.is_dir():
        fitting += ["lists"] if split_files(path) else []
        if len(fitting) > 1:
            raise AnnotationError(
                f"{path}: several kinds of lists ({', '.join(fitting)}); name the file, or choose the `format`."
            )
    return fitting[0] if fitting else "lists"


def read_listed(path: Path, format: str = "auto", number: int = 1) -> ListedVideos:
    """
    Reads everything that an annotation file or folder lists.

    Args:
        path (`Path`): the file or folder.
        format (`str`): a name of `READERS`, `"lists"`, or `"auto"`.
        number (`int`): number of the official split, for UCF101 and HMDB51.

    Returns:
        [`ListedVideos`]

    Raises:
        AnnotationError: files that cannot be read, or that the format does not fit.
    """
    chosen = detect_format(path) if format == "auto" else format
    if path.is_dir() and chosen not in ("ucf101", "hmdb51"):
        return _read_folder(path, "auto" if chosen == "lists" else chosen, number)
    if chosen == "lists":
        raise AnnotationError(f'{path} is a file; format "lists" reads a folder with one file for each split.')
    return READERS[chosen].read(ListFile(path), number)


def _read_folder(folder: Path, format: str, number: int) -> ListedVideos:
    files: Mapping[str | None, Path] = split_files(folder) or _lists_below(folder, number)
    if not files:
        raise AnnotationError(
            f"{folder}: no known lists; name the file. A folder can be UCF101's or HMDB51's own, or hold a file for "
            "each split, such as train.csv, validation.json or test.txt."
        )
    parts = {split: read_listed(file, format, number) for split, file in files.items()}
    listings = [
        item if item.split else item._replace(split=split) for split, part in parts.items() for item in part.listings
    ]
    kinds = {type(item.label) for item in listings if item.label is not None}
    if len(kinds) > 1:
        raise AnnotationError(f"{folder}: some lists have class names and others have class numbers as labels.")
    class_names = next((part.class_names for part in parts.values() if part.class_names), None)
    beside = next((folder / name for name in CLASS_FILES if (folder / name).exists()), None)
    class_file = None
    if class_names is None and beside is not None:
        class_names, class_file = read_class_names(beside), str(beside)
    notes = tuple(note for part in parts.values() for note in part.notes)
    suspected = next(iter(parts.values())).header_suspected
    return ListedVideos(listings, class_names, None, suspected, notes, class_file)


def _files_in(folder: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise AnnotationError(f"{folder} cannot be read: {error.strerror or error}.") from error
    return [entry for entry in entries if entry.suffix.lower() in ENDINGS and entry.is_file()]


def split_files(folder: Path) -> dict[str | None, Path]:
    """The annotation file of each split in a folder; its name ends in the split's, as in `…-validation.json`."""
    found: dict[str, Path] = {}
    for file in _files_in(folder):
        split = SPLIT_WORDS.get(re.split(r"[^a-z]", file.stem.lower())[-1])
        if split in found:
            raise AnnotationError(f"{folder}: two files for {split}, {found[split].name} and {file.name}; name one.")
        if split:
            found[split] = file
    return {split: found[split] for split in SPLITS if split in found}


def _files_below(folder: Path) -> list[Path]:
    """The text files in a folder and its subfolders, sorted; at most `MAX_SEARCHED`."""
    found: list[Path] = []
    for place, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += _files_in(Path(place))
        if len(found) > MAX_SEARCHED:
            raise AnnotationError(f"{folder} holds more than {MAX_SEARCHED} text files; name the list.")
    return found


def _is_list(path: Path) -> bool:
    """Whether the first lines of a file list videos."""
    file = ListFile(path)
    try:
        if file.is_json or file.header is not None:
            return bool(read_listed(path).listings)
        first = [path_and_label(line, "")[0] for _, line in file.lines[:20]]
        return bool(first) and all(map(is_video_name, first))
    except AnnotationError:  # another kind of file
        return False


def _lists_below(folder: Path, number: int) -> dict[str | None, Path]:
    """
    The list of each split in a folder and its subfolders, told from class files by its content.

    Raises:
        AnnotationError: several lists for one split.
    """
    by_split: dict[str | None, list[Path]] = {}
    for file in filter(_is_list, _files_below(folder)):
        split = split_of_name(file) or (split_of_name(file.parent) if file.parent != folder else None)
        by_split.setdefault(split, []).append(file)
    numbered = re.compile(rf"(?:train|val|test)[a-z]*_?(?:split)?_?0?{number}(?!\d)")  # such as hmdb51_val1.txt
    for split, files in by_split.items():
        files = [file for file in files if numbered.search(file.stem.lower())] or files if len(files) > 1 else files
        if len(files) > 1 or split is None and len(by_split) > 1:
            names = ", ".join(str(file.relative_to(folder)) for file in files[:4])
            raise AnnotationError(f"{folder}: several lists for {split or 'no split'}: {names}; name the file.")
        by_split[split] = files
    return {split: by_split[split][0] for split in (*SPLITS, None) if split in by_split}


def _names_of(file: Path) -> tuple[tuple[str, ...], bool]:
    """The class names of a file and whether they are numbered; none if it is another kind of file."""
    try:
        return read_class_file(file)
    except AnnotationError:
        return (), False


def matching_class_file(place: Path, count: int, lists: Collection[str] = ()) -> Path | None:
    """
    The one file of `count` numbered class names near a list: beside it, in a folder `labels` beside it, or in the
    `labels` of the two folders above. `lists` are the files that were read as lists.

    Raises:
        AnnotationError: several different ones.
    """
    folder = place if place.is_dir() else place.parent
    near = [folder, *(above / "labels" for above in (folder, *list(folder.absolute().parents)[:2]))]
    fitting: dict[tuple[str, ...], Path] = {}
    for file in (file for folder in near if folder.is_dir() for file in _files_in(folder)[:MAX_SEARCHED]):
        if str(file) not in lists and file.stat().st_size < 1000 + 300 * count:  # larger: names of more classes
            names, numbered = _names_of(file)
            if numbered and len(names) == count:
                fitting.setdefault(names, file)
    if len(fitting) > 1:
        first, second = list(fitting.values())[:2]
        raise AnnotationError(
            f"{place}: the labels are numbers, and {first} and {second} both hold {count} names; choose with `classes`."
        )
    return next(iter(fitting.values()), None)
