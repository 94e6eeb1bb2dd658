"""Tables of labelled videos from folders or annotation files.

[`read_annotations`] is the one entry. `annotation_formats` says what each kind of file looks like, and
`annotation_table` what the result can do.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from .annotation_formats import (
    READERS,
    SPLIT_WORDS,
    ListedVideos,
    Listing,
    is_video_name,
    read_listed,
)
from .annotation_table import AnnotationTable, VideoSample, check_split, is_url
from .class_names import AnnotationError, ClassIndex, read_class_names


FORMATS = ("auto", "lists", *READERS)


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
    `test` folders with a folder for each class. The classes are in alphabetical order.

    Annotations can be a file:

    - a list with `path label` or `path,label` on each line; the label is a class name or a number from 0,
    - a CSV with a header (`path`, `label` and, if wanted, `split`),
    - one of UCF101's own lists, Kinetics' csv or SSv2's json.

    They can be a folder: UCF101's own, HMDB51's own, or one with a file for each split. Labels that are numbers need
    `classes`.

    Listed videos that do not exist stay in the table; `check_data` lists them. A video that is not where the list says
    is also looked for in the folders below `videos`. It is taken if exactly one file fits, outside other classes'
    folders. A name without an extension fits any video's extension.

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
    if not is_url(root) and not os.path.isdir(root):
        raise AnnotationError(f"{root} is not a folder; give the folder of the videos.")
    source = root if annotations is None else str(annotations)
    listed = _listed_folders(Path(root)) if annotations is None else _listed_files(Path(annotations), format, number)
    if not listed.listings:
        raise AnnotationError(f"{source} lists no videos.")
    index = _class_index(listed, classes, source)
    fallback = split or listed.suggested_split or "train"
    folder = VideoFolder(root, index)
    samples = []
    for listing in listed.listings:
        label = None if listing.label is None else index.label(listing.label, listing.where)
        its_split = listing.split or fallback
        path = folder.locate(listing.name, label, its_split, listing.where)
        samples.append(VideoSample(path, label, its_split, _name_within(root, listing.name)))
    _check_repeats(samples, listed.listings)
    files = [listing.file for listing in listed.listings] if annotations is not None else []
    files += [str(classes)] if isinstance(classes, (str, Path)) else []
    table = AnnotationTable(tuple(samples), index.names, source, tuple(dict.fromkeys(files)))
    return table if split is None else table.split(split)


def _listed_files(path: Path, format: str, number: int) -> ListedVideos:
    if not path.exists():
        raise AnnotationError(f"There is no annotation file or folder {path}.")
    return read_listed(path, format, number)


def _class_index(listed: ListedVideos, classes, source: str) -> ClassIndex:
    """Index of the given classes, else of those that come with the annotations, else of the listed names."""
    if isinstance(classes, (str, Path)):
        return ClassIndex(read_class_names(classes), str(classes))
    if classes is not None:
        return ClassIndex(classes, "`classes`")
    if listed.class_names is not None:
        return ClassIndex(listed.class_names, source)
    labels = {listing.label for listing in listed.listings if listing.label is not None}
    if not labels:
        raise AnnotationError(f"{source}: no video has a label, and there are no class names; give `classes`.")
    if any(isinstance(label, int) for label in labels):
        raise AnnotationError(
            f"{source}: the labels are numbers; give `classes`, a file with the class names in the order of the labels "
            "(`id,name` or one name a line)."
        )
    return ClassIndex(sorted(map(str, labels)), source)


def _name_within(root: str, name: str) -> str:
    """The listed path; relative to the videos' folder if it is an absolute path in it."""
    inside = os.path.isabs(name) and Path(name).is_relative_to(os.path.abspath(root))
    return Path(os.path.relpath(name, root)).as_posix() if inside else name


def _check_repeats(samples: list[VideoSample], listings: list[Listing]) -> None:
    seen: dict[str, str] = {}
    for sample, listing in zip(samples, listings, strict=True):
        file = sample.path if is_url(sample.path) else os.path.normpath(sample.path)  # `./v.mp4` is `v.mp4`
        if file in seen:
            raise AnnotationError(
                f"{listing.where}: {listing.name!r} is listed before, at {seen[file]}; remove one of them."
            )
        seen[file] = listing.where


# Folders


def _listed_folders(root: Path) -> ListedVideos:
    """Listings of a folder that holds class folders, or split folders with class folders."""
    folders = _subfolders(root)
    splits = {folder: SPLIT_WORDS[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_WORDS}
    found = set(splits.values())
    if folders and (len(splits) == len(folders) or "train" in found and len(found) > 1):
        _check_beside_splits(root, [folder for folder in folders if folder not in splits])
        class_folders: list[tuple[Path, str | None]] = [
            (folder, split) for top, split in splits.items() for folder in _subfolders(top)
        ]
    else:
        class_folders = [(folder, None) for folder in folders]
    listings = [
        Listing(file.relative_to(root).as_posix(), folder.name, split, str(folder))
        for folder, split in class_folders
        for file in sorted(folder.rglob("*"))
        if is_video_name(file.name) and not file.name.startswith(".") and file.is_file()
    ]
    if not listings:
        raise AnnotationError(
            f"{root}: no videos found; expected a folder of videos for each class (or such folders in train, val and "
            "test). Otherwise give `annotations`."
        )
    return ListedVideos(listings, tuple(sorted({folder.name for folder, _ in class_folders})))


def _check_beside_splits(root: Path, others: list[Path]) -> None:
    """Folders beside `train` and `val` must not hold videos: their split is unknown."""
    for folder in others:
        if any(is_video_name(file.name) for file in folder.rglob("*")):
            raise AnnotationError(
                f"{root}: {folder.name} holds videos and lies beside split folders; move it into one of them or "
                "somewhere else."
            )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


class VideoFolder:
    """
    Finds listed videos below a folder.

    All folders are searched once, when the first listed path does not exist.

    Args:
        root (`str`): the folder of the videos, or an http(s) address.
        classes ([`ClassIndex`]): the classes; a folder named after one holds only its videos.
    """

    def __init__(self, root: str, classes: ClassIndex):
        self.root = root
        self.classes = classes

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        """Paths relative to the root by file name, and by file name without extension."""
        found: dict[str, list[str]] = {}
        for folder, folders, files in os.walk(self.root, followlinks=True):
            folders.sort()
            for name in sorted(filter(is_video_name, files)):
                path = os.path.relpath(os.path.join(folder, name), self.root)
                for key in (name, os.path.splitext(name)[0]):
                    found.setdefault(key, []).append(path)
        return found

    def locate(self, name: str, label: int | None, split: str, where: str) -> str:
        """
        Path of a listed video; if it is missing, the path where it should be.

        Raises:
            AnnotationError: several files fit.
        """
        if is_url(name):
            return name
        if is_url(self.root):
            return f"{self.root.rstrip('/')}/{name}"
        path = os.path.join(self.root, name)
        if os.path.isabs(name) or os.path.isfile(path):
            return path
        fitting = [file for file in self._files.get(os.path.basename(name), ()) if self._fits(file, name, label)]
        if len(fitting) > 1:  # Kinetics has a folder for each split
            fitting = [file for file in fitting if split in map(SPLIT_WORDS.get, file.lower().split(os.sep))] or fitting
        if len(fitting) > 1:
            raise AnnotationError(
                f"{where}: {name!r} may be {fitting[0]} or {fitting[1]}; list the path within {self.root}."
            )
        return os.path.join(self.root, fitting[0]) if fitting else path

    def _fits(self, file: str, name: str, label: int | None) -> bool:
        """Whether the file lies in the listed folders, in their order, and not in another class's folder."""
        folders = file.split(os.sep)[:-1]
        remaining = iter(folders)
        if not all(part in remaining for part in name.split("/")[:-1]):
            return False
        found = self.classes.find(folders[-1]) if folders else None
        return found is None or label is None or found == label


__all__ = [
    "FORMATS",
    "AnnotationError",
    "AnnotationTable",
    "VideoSample",
    "is_url",
    "read_annotations",
]
