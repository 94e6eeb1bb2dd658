"""Tables of labelled videos from folders or annotation files.

[`read_annotations`] is the one entry. `annotation_formats` says what each kind of file looks like, and
`annotation_table` what the result can do.
"""

import gc
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from transformers.utils import logging

from .annotation_formats import READERS, matching_class_file, read_listed
from .annotation_table import AnnotationTable, VideoSample, check_split
from .class_names import ClassIndex, alike_names, read_class_names
from .listings import ListedVideos, Listing, is_url
from .text_files import AnnotationError, check_text
from .video_folders import VideoFolder, listed_folder
from .video_lists import header_error


logger = logging.get_logger(__name__)

FORMATS = ("auto", "lists", *READERS)
_NO_NAMES = ("nan", "none", "null", "n/a", "<na>")  # as which programs write what is missing


def read_annotations(
    videos: str | Path,
    annotations: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    split: str | None = None,
    format: str = "auto",
    number: int = 1,
) -> AnnotationTable:
    """
    Reads a table of videos from a folder, or from a folder and its annotations.

    Without annotations, `videos` holds one folder for each class. It may also hold `train`, `val` (or `validation`) and
    `test` folders with a folder for each class. The classes are in alphabetical order. The `metadata.csv` or
    `metadata.jsonl` of a Hugging Face video folder is found by itself.

    Annotations can be a file:

    - a list with path and label on each line, separated by a space, a tab, a comma or a semicolon; the label is a class
      name or a number from 0,
    - a table with such a separator and a header (`path` and `label`, or other known names, and `split`),
    - JSON or JSON lines with such names (see [`read_list`]),
    - one of UCF101's own lists, Kinetics' csv or json, or SSv2's json.

    They can be a folder: UCF101's own, HMDB51's own, one with a file for each split, or one whose lists and class file
    are told apart by their content. Labels that are numbers need `classes`, or one file with as many numbered names
    near the list.

    What is not clear is refused, such as a header with unknown names. What is left out is counted in the table's
    `notes`, which are logged as warnings.

    Listed videos that do not exist stay in the table; `check_data` lists them. A video that is not where the list says
    is also looked for in the folders below `videos`. It is taken if exactly one file fits, outside other classes'
    folders. Windows' separators, another form of accents (NFC, NFD) and another case fit where nothing else does. A
    name without an extension fits any video's extension.

    Args:
        videos (`str` or `Path`): the folder of the videos, or an http(s) address that the listed paths are appended to.
        annotations (`str` or `Path`, *optional*): a file or a folder.
        classes (`str`, `Path` or `Sequence[str]`, *optional*): a class file (see [`read_class_names`]) or the names, in
            the order of the labels. By default, the class file that comes with the annotations, else the listed names
            in alphabetical order.
        split (`str`, *optional*): read only this split. A list that names no split is taken to be of this one. Without
            `split`, its file name decides (`val.txt`), else it is `"train"`.
        format (`str`, defaults to `"auto"`): `"auto"` tells it from the content; else `"list"`, `"lists"` (a folder of
            lists), `"ucf101"`, `"hmdb51"`, `"kinetics"` or `"ssv2"`.
        number (`int`, defaults to 1): number of the official split of UCF101 or HMDB51, 1 to 3.

    Returns:
        [`AnnotationTable`]

    Raises:
        AnnotationError: files that cannot be read or contradict each other, a label without a class, or a video that is
            listed twice.

    Example:
        ```python
        table = read_annotations("hmdb51/videos", "hmdb51/splits", number=1, split="test")
        ```
    """
    if format not in FORMATS:
        raise AnnotationError(f"Unknown annotation format {format!r:.100}; choose {', '.join(FORMATS)}.")
    if split is not None:
        check_split(split)
    _check_path("videos", videos)
    if annotations is not None:
        _check_path("annotations", annotations)
    if isinstance(classes, (str, os.PathLike)):
        _check_path("classes", classes)
    elif classes is not None:
        classes = _names_of_call(classes)
    root = str(videos)
    if not is_url(root) and not os.path.isdir(root):
        raise AnnotationError(f"{root} is not a folder; give the folder of the videos.")
    with _without_collections():
        table = _read(root, annotations, classes, split, format, number)
    for note in table.notes:
        logger.warning(note)
    return table if split is None else table.split(split)


def _check_path(argument: str, value: Any) -> None:
    """Raises an `AnnotationError` for what is no path. Names that are not UTF-8 are paths."""
    if not isinstance(value, (str, os.PathLike)):
        raise AnnotationError(f"`{argument}` must be a path, got {type(value).__name__}.")
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        raise AnnotationError(f"`{argument}` is {str(value)!r:.200}, which no file can be called.") from error


def _names_of_call(classes: Any) -> list[str]:
    """The class names that were passed. Raises an `AnnotationError` for what is no sequence of strings."""
    is_sequence = isinstance(classes, Iterable) and not isinstance(classes, (bytes, bytearray, Mapping))
    names = list(classes) if is_sequence else []
    if not is_sequence or not all(isinstance(name, str) for name in names):
        found = next((type(name).__name__ for name in names if not isinstance(name, str)), type(classes).__name__)
        raise AnnotationError(f"`classes` must be a path or a sequence of names, got {found}.")
    return names


@contextmanager
def _without_collections() -> Iterator[None]:
    """Pauses the search for reference cycles, which takes half of the time while a million small objects are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(root: str, annotations, classes, split: str | None, format: str, number: int) -> AnnotationTable:
    source = root if annotations is None else str(annotations)
    listed = listed_folder(Path(root)) if annotations is None else _listed_files(Path(annotations), format, number)
    if not listed.listings:
        raise AnnotationError(f"{source} lists no videos.")
    if classes is None and listed.class_names is None:
        listed = _with_class_file(listed, Path(source))
    index = _class_index(listed, classes, source)
    samples = _samples(listed, index, root, split or listed.suggested_split or "train")
    files = list(dict.fromkeys(listing.file for listing in listed.listings)) if annotations is not None else []
    files += [listed.class_file] if listed.class_file and classes is None else []
    files += [str(classes)] if isinstance(classes, (str, Path)) else []
    notes = (*listed.notes, *_alike(index, source))
    return AnnotationTable(samples, index.names, source, tuple(dict.fromkeys(files)), notes)


def _samples(listed: ListedVideos, index: ClassIndex, root: str, split: str) -> tuple[VideoSample, ...]:
    """The listed videos with paths and class numbers. Raises an `AnnotationError` for a video that is listed twice."""
    folder = VideoFolder(root, index)
    labels: dict[str | int | None, int | None] = {None: None}
    samples: list[VideoSample] = []
    folders = _ClassFolders(index)
    seen: set[str] = set()
    for listing in listed.listings:
        name, label, its_split = listing.name, listing.label, listing.split or split
        if label not in labels:
            if isinstance(label, str):
                check_text(label, "the label", listing.where)
            labels[label] = index.label(label, listing.where)  # type: ignore[arg-type]
        if isinstance(label, int):
            folders.add(listing)
        if "://" in name:
            name = _path_of_address(name, listing)
        _check_name(name, listing)
        path, exists = folder.locate(name, labels[label], its_split, listing)
        if not samples and listed.header_suspected and not is_url(name) and (is_url(path) or not exists):
            rest = name.partition(" ")[2]
            if label is not None or rest and folder.locate(rest, None, its_split, listing)[1]:
                raise header_error(listing)
        if not samples and not exists and not is_url(path) and _begin_with_numbers(listed.listings):
            raise AnnotationError(
                f"{listing.where}: there is no video {name!r:.100}, and all lines begin with a number; name the "
                "columns in a header, such as `label,path` or `id,path,label`."
            )
        key = folder.normal(path)
        if key in seen:
            before = samples[[folder.normal(sample.path) for sample in samples].index(key)]
            where = listed.listings[samples.index(before)].where
            raise AnnotationError(f"{listing.where}: {name!r:.200} is listed before, at {where}; remove one of them.")
        seen.add(key)
        samples.append(VideoSample(path, labels[label], its_split, _name_within(root, name, path)))
    folders.check()
    return tuple(samples)


class _ClassFolders:
    """Compares labels that are numbers with the class folders that the videos are listed in."""

    def __init__(self, index: ClassIndex):
        self.index = index
        self.known: dict[str, int | None] = {}
        self.agree = False
        self.other: Listing | None = None

    def add(self, listing: Listing) -> None:
        folder = listing.name.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
        if folder not in self.known:
            self.known[folder] = None if folder[:1] in "0123456789" else self.index.find(folder)
        found = self.known[folder]
        if found == listing.label:
            self.agree = True
        elif found is not None and self.other is None:
            self.other = listing

    def check(self) -> None:
        """Raises an `AnnotationError` if no number is that of the folder's class: they may count from 1."""
        if self.other is None or self.agree:
            return
        label = self.other.label
        found = self.known[self.other.name.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]]
        raise AnnotationError(
            f"{self.other.where}: label {label} is the class {self.index.names[label]!r:.100}, but "  # type: ignore[index]
            f"{self.other.name!r:.200} lies in the folder of class {found}, and no other label fits its folder; labels "
            "count from 0 in the order of the class names."
        )


def _begin_with_numbers(listings: Sequence[Listing]) -> bool:
    """Whether each path begins with a number and a separator: `0 a.mp4`."""
    return all(re.match(r"\d+[\s,;]+\S", listing.name) for listing in listings)


def _path_of_address(name: str, listing: Listing) -> str:
    """The path of a `file:///` address; http(s) addresses stay. Raises an `AnnotationError` for others."""
    scheme, _, rest = name.partition("://")
    if is_url(name) or len(scheme) < 2 or not re.fullmatch("[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return name
    host, slash, path = rest.partition("/")
    if scheme.lower() != "file" or host.lower() not in ("", "localhost"):
        raise AnnotationError(
            f"{listing.where}: {name!r:.200} is not read; list paths, http(s) addresses or file:///path."
        )
    return slash + unquote(path, errors="surrogateescape")


def _check_name(name: str, listing: Listing) -> None:
    """Raises an `AnnotationError` for a path that no file can have."""
    if name.isascii() and "\0" not in name:
        return
    try:
        name.encode("utf-8", "surrogateescape")  # bytes that are not UTF-8 are kept as surrogates
    except UnicodeEncodeError:
        check_text(name, "the path", listing.where)
    if "\0" in name:
        check_text(name, "the path", listing.where)


def _alike(index: ClassIndex, source: str) -> list[str]:
    """A note on class names that are probably one class."""
    pairs = alike_names(index.names)
    known = set(index.names)
    joined = [
        name
        for name in index.names
        if ("|" in name or ";" in name) and all(part.strip() in known for part in re.split("[|;]", name))
    ]
    empty = [name for name in index.names if name.strip().lower() in _NO_NAMES]
    notes = [f"{source}: {name!r} is taken for a class; leave a label out to say that there is none" for name in empty]
    if joined:
        notes.append(f"{source}: {joined[0]!r:.100} is taken for one class; a video has one label, so list one of them")
    if not pairs:
        return notes
    shown = ", ".join(f"{one!r:.60} and {other!r:.60}" for one, other in pairs[:3])
    more = f" and {len(pairs) - 3} more pairs" if len(pairs) > 3 else ""
    return [
        *notes,
        f"{source}: classes that differ only in case, spaces or underscores are classes of their own: {shown}{more}; "
        "rename one if they are the same",
    ]


def _with_class_file(listed: ListedVideos, source: Path) -> ListedVideos:
    """Adds the class names of a file near the list, if the labels are numbers and exactly one file fits."""
    numbers = {listing.label for listing in listed.listings if listing.label is not None}
    if not numbers or not all(isinstance(number, int) for number in numbers):
        return listed
    count = max(numbers) + 1  # type: ignore[operator,type-var]
    file = matching_class_file(source, count, {listing.file for listing in listed.listings})
    if file is None:
        return listed
    note = f"{source}: the labels are numbers; their {count} class names are those of {file}"
    return replace(listed, class_names=read_class_names(file), class_file=str(file), notes=(*listed.notes, note))


def _listed_files(path: Path, format: str, number: int) -> ListedVideos:
    if not os.path.exists(path):  # also for a path that is too long or a link to itself
        raise AnnotationError(f"There is no annotation file or folder {path}.")
    return read_listed(path, format, number)


def _class_index(listed: ListedVideos, classes, source: str) -> ClassIndex:
    """Index of the given classes, else of those that come with the annotations, else of the listed names."""
    if isinstance(classes, (str, os.PathLike)):
        return ClassIndex(read_class_names(Path(classes)), str(classes))
    if classes is not None:
        return ClassIndex(classes, "`classes`")
    if listed.class_names is not None:
        return ClassIndex(listed.class_names, source)
    labels = {listing.label for listing in listed.listings if listing.label is not None}
    if not labels:
        why = "".join(f" {note}." for note in listed.notes)
        raise AnnotationError(f"{source}: no video has a label, and there are no class names; give `classes`.{why}")
    if any(isinstance(label, int) for label in labels):
        raise AnnotationError(
            f"{source}: the labels are numbers; give `classes`, a file with the class names in the order of the labels "
            "(`id,name` or one name a line)."
        )
    return ClassIndex(sorted(map(str, labels)), source)


def _name_within(root: str, name: str, path: str) -> str:
    """The listed path; relative to the videos' folder if it is an absolute path in it."""
    if name.startswith("/") and Path(name).is_relative_to(os.path.abspath(root)):
        return Path(os.path.relpath(name, root)).as_posix()
    if "\\" in name and "\\" not in path:  # found with `/` in place of Windows' separators
        return name.replace("\\", "/")
    return name


__all__ = [
    "FORMATS",
    "AnnotationError",
    "AnnotationTable",
    "VideoSample",
    "is_url",
    "read_annotations",
]
