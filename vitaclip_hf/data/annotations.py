"""Tables of labelled videos from folders or annotation files.

[`read_annotations`] is the one entry. `readers` has the formats, and `table` what the result can do.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers.utils import logging

from .class_names import ClassIndex, alike_names, read_class_names
from .listings import ListedVideos, Listing, is_url
from .lists import FORMS
from .readers import READERS, matching_class_file, read_listed
from .table import AnnotationTable, VideoSample, check_split
from .text_files import AnnotationError, check_text
from .video_folders import VideoFolder, listed_folder


logger = logging.get_logger(__name__)

FORMATS = ("auto", *READERS)


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
    `metadata.jsonl` of a Hugging Face video folder is read if there is one.

    Annotations can be a file:

    - a list with path and label on each line, separated by a space, a tab, a comma or a semicolon; the label is a class
      name or a number from 0,
    - a table with a header (`path` and `label`, or other known names, and `split`),
    - JSON or JSON lines with such names (see [`read_list`]),
    - one of UCF101's own lists, Kinetics' csv or json, or SSv2's json.

    They can be a folder: UCF101's own, HMDB51's own, or one with a file for each split. Labels that are numbers need
    `classes`, or one file with as many numbered names near the list.

    Ambiguous input raises `AnnotationError`. Files that are left out are counted in the table's `notes`, which are
    logged as warnings.

    Listed videos that do not exist stay in the table; `check_data` lists them. A video that is not where the list says
    is looked for in the folders below `videos`, and taken if exactly one file fits outside other classes' folders.
    Windows' separators, another form of accents (NFC, NFD) and another case fit where nothing else does. A name without
    an extension fits any video's extension.

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
    root = str(videos)
    if not os.path.isdir(root) and (annotations is None or not is_url(root)):
        raise AnnotationError(f"{root} is not a folder; give the folder of the videos, or `annotations` of an address.")
    if annotations is not None and not os.path.exists(annotations):  # also a path that is too long, or a link to itself
        raise AnnotationError(f"There is no annotation file or folder {annotations}.")
    table = _read(root, annotations, classes, split, format, number)
    for note in table.notes:
        logger.warning(note)
    return table if split is None else table.split(split)


def _read(root: str, annotations, classes, split: str | None, format: str, number: int) -> AnnotationTable:
    source = root if annotations is None else str(annotations)
    listed = listed_folder(Path(root)) if annotations is None else read_listed(Path(annotations), format, number)
    if not listed.listings:
        raise AnnotationError(f"{source} lists no videos.")
    lists = list(dict.fromkeys(listing.file for listing in listed.listings))
    if classes is None and listed.class_names is None:
        listed = _with_class_file(listed, Path(source), lists)
    index = _class_index(listed, classes, source)
    samples = _samples(listed, index, root, split or listed.suggested_split or "train")
    files = [] if annotations is None else lists
    files += [listed.class_file] if listed.class_file and classes is None else []
    files += [str(classes)] if isinstance(classes, (str, Path)) else []
    notes = listed.notes
    if pairs := alike_names(index.names):
        shown = ", ".join(f"{one!r:.60} and {other!r:.60}" for one, other in pairs[:3])
        notes += (f"{source}: {len(pairs)} pairs of classes differ only in case, spaces or underscores: {shown}",)
    return AnnotationTable(samples, index.names, source, tuple(dict.fromkeys(files)), notes)


def _with_class_file(listed: ListedVideos, source: Path, lists: list[str]) -> ListedVideos:
    """Adds the class names of a file near the list, if the labels are numbers and exactly one file fits."""
    count = max((item.label for item in listed.listings if isinstance(item.label, int)), default=-1) + 1
    if not count or (file := matching_class_file(source, count, lists)) is None:
        return listed
    note = f"{source}: the labels are numbers; their {count} class names are those of {file}"
    return replace(listed, class_names=read_class_names(file), class_file=str(file), notes=(*listed.notes, note))


def _class_index(listed: ListedVideos, classes, source: str) -> ClassIndex:
    """Index of the given classes, else of those that come with the annotations, else of the listed names."""
    if isinstance(classes, (str, os.PathLike)):
        return ClassIndex(read_class_names(Path(classes)), str(classes))
    if classes is not None:
        return ClassIndex(classes, "`classes`")
    if listed.class_names is not None:
        return ClassIndex(listed.class_names, source)
    labels = {listing.label for listing in listed.listings if listing.label is not None}
    if not labels or any(isinstance(label, int) for label in labels):
        problem = "the labels are numbers" if labels else "no video has a label"
        raise AnnotationError(
            f"{source}: {problem}; give `classes`, a file with the class names in the order of the labels. "
            f"{' '.join(listed.notes)}"
        )
    return ClassIndex(sorted(map(str, labels)), source)


def _samples(listed: ListedVideos, index: ClassIndex, root: str, split: str) -> tuple[VideoSample, ...]:
    """The listed videos with paths and class numbers. Raises an `AnnotationError` for a video that is listed twice."""
    folder = VideoFolder(root, index)
    labels: dict[str | int | None, int | None] = {None: None}
    samples: list[VideoSample] = []
    seen: dict[str, Listing] = {}
    for listing in listed.listings:
        where = listing.where
        if listing.label is not None and listing.label not in labels:
            labels[listing.label] = index.label(listing.label, where)
        label, its_split, name = labels[listing.label], listing.split or split, listing.name
        if re.search("[\0\ud800-\udc7f\udd00-\udfff]", name):  # \udc80 … \udcff are bytes that are not UTF-8
            check_text(name, "the path", where)
        if re.match("[A-Za-z][A-Za-z0-9+.-]+://", name) and not is_url(name):
            raise AnnotationError(f"{where}: {name!r:.200} is not read; list paths or http(s) addresses.")
        path, exists = folder.locate(name, label, its_split, where)
        if not samples and not exists and (listed.header_suspected or re.match(r"\d+[\s,;]+\S", name)):
            raise AnnotationError(
                f"{where}: there is no video {name!r:.100}; is this a header, or does the label stand first? {FORMS}."
            )
        before = seen.setdefault(path if is_url(path) else os.path.normpath(path), listing)
        if before is not listing:
            raise AnnotationError(f"{where}: {name!r:.200} is listed before, at {before.where}; remove one of them.")
        samples.append(VideoSample(path, label, its_split, _name_within(root, name, path)))
    _check_class_folders(listed.listings, index)
    return tuple(samples)


def _check_class_folders(listings: Sequence[Listing], index: ClassIndex) -> None:
    """Raises an `AnnotationError` if no class number is that of the folder's class: they may count from 1."""
    other = None
    for listing in listings:
        label = index.find(listing.name.replace("\\", "/").rpartition("/")[0].rpartition("/")[2] or "/")
        if isinstance(listing.label, int) and label is not None:
            if label == listing.label:
                return
            other = other or listing
    if other is not None:
        raise AnnotationError(
            f"{other.where}: label {other.label} is not the class of the folder in {other.name!r:.200}, and no other "
            "label fits its folder either; labels count from 0 in the order of the class names."
        )


def _name_within(root: str, name: str, path: str) -> str:
    """The listed path; relative to the videos' folder if it is an absolute path in it."""
    if name.startswith("/") and Path(name).is_relative_to(os.path.abspath(root)):
        return Path(os.path.relpath(name, root)).as_posix()
    if "\\" in name and "\\" not in path:  # found with `/` in place of Windows' separators
        return name.replace("\\", "/")
    return name


__all__ = ["FORMATS", "AnnotationError", "AnnotationTable", "VideoSample", "is_url", "read_annotations"]
