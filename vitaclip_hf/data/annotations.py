"""Tables of labelled videos, from folders or annotation files, and the selections that protocols make from them.

`read_annotations` is the one entry; what each kind of file looks like is in `annotation_formats`.
"""

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from .annotation_formats import (
    CLASS_FILES,
    READERS,
    SPLIT_WORDS,
    SPLITS,
    ListedVideos,
    Listing,
    is_video_name,
    read_listed,
)
from .class_names import AnnotationError, ClassIndex, checked_class_names, read_class_names, spell_class_name


FORMATS = ("auto", "lists", *READERS)


@dataclass(frozen=True)
class VideoSample:
    """A video of a table.

    Attributes:
        path: as it can be opened, the folder of the videos joined with the listed path; or an http(s) address.
        label: number of its class, or `None` if it is not labelled.
        split: `"train"`, `"validation"` or `"test"`.
        name: the path within the folder of the videos as listed, the same on every machine.
    """

    path: str
    label: int | None
    split: str = "train"
    name: str = ""


@dataclass(frozen=True)
class AnnotationTable:
    """Videos with their labels and splits. Selections return new tables and leave this one as it is.

    Attributes:
        samples: the videos in the order of the list.
        class_names: as spelled in the annotation files.
        source: what was read, for messages.
        files: the list files among it, and the class file if one was given.
    """

    samples: tuple[VideoSample, ...]
    class_names: tuple[str, ...]
    source: str
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def sha256(self) -> str:
        """Hash of the class names and of each video's listed path, label and split: the same on every machine."""
        rows = [[sample.name or sample.path, sample.label, sample.split] for sample in self.samples]
        content = json.dumps([self.class_names, rows], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def split(self, *names: str) -> "AnnotationTable":
        """Only the videos of these splits; the classes stay.

        Raises:
            AnnotationError: an unknown split, or one without videos.
        """
        for name in names:
            _check_split(name)
        samples = tuple(sample for sample in self.samples if sample.split in names)
        if not samples:
            there = ", ".join(sorted({sample.split for sample in self.samples})) or "nothing"
            raise AnnotationError(f"{self.source} has no videos for {' or '.join(names)}, only for {there}.")
        return replace(self, samples=samples)

    def counts(self) -> list[int]:
        """Videos of each class."""
        count = Counter(sample.label for sample in self.samples)
        return [count[label] for label in range(len(self.class_names))]

    def with_classes(self, names: Sequence[str]) -> "AnnotationTable":
        """Only the videos of these classes, labelled in the order given; unlabelled videos go.

        Raises:
            AnnotationError: a class that this table has not.
        """
        names = checked_class_names(names, "the chosen classes")
        index = ClassIndex(self.class_names, self.source)
        label_of = {index.label(name, "The chosen classes"): new for new, name in enumerate(names)}
        samples = tuple(
            replace(sample, label=label_of[sample.label]) for sample in self.samples if sample.label in label_of
        )
        return replace(self, samples=samples, class_names=tuple(self.class_names[old] for old in label_of))

    def few_shot(self, shots: int, seed: int) -> "AnnotationTable":
        """`shots` videos of every class from `train`; the other splits stay whole.

        Videos are ranked by a hash of seed and listed path, so that the choice depends neither on the order of the
        list nor on a library's version, and 2 shots are among the 4 of the same seed.

        Raises:
            AnnotationError: a class with fewer videos than that.
        """
        if shots < 1:
            raise AnnotationError(f"few_shot: `shots` must be at least 1, got {shots}.")
        by_label: dict[int, list[VideoSample]] = {label: [] for label in range(len(self.class_names))}
        for sample in self.samples:
            if sample.split == "train" and sample.label is not None:
                by_label[sample.label].append(sample)
        chosen: set[VideoSample] = set()
        for label, samples in by_label.items():
            if len(samples) < shots:
                raise AnnotationError(
                    f"few_shot: {shots} shots asked for, but class {self.class_names[label]!r} of {self.source} has "
                    f"{len(samples)} training videos; choose fewer shots or leave the class out."
                )
            chosen.update(sorted(samples, key=lambda sample: _rank(seed, sample))[:shots])
        kept = tuple(sample for sample in self.samples if sample.split != "train" or sample in chosen)
        return replace(self, samples=kept)

    def base_to_novel(self, order: str = "listed") -> tuple["AnnotationTable", "AnnotationTable"]:
        """The table of the first half of the classes (the larger one) and that of the rest, each labelled from 0.

        Args:
            order: `"listed"`, the classes as they stand (CoOp's rule); or `"frequent"`, those with most training
                videos first (the rule of ViFi-CLIP's paper).
        """
        if order not in ("listed", "frequent"):
            raise AnnotationError(f'base_to_novel: `order` must be "listed" or "frequent", got {order!r}.')
        if len(self.class_names) < 2:
            raise AnnotationError(f"base_to_novel: {self.source} has {len(self.class_names)} classes; two are needed.")
        labels = list(range(len(self.class_names)))
        half = (len(labels) + 1) // 2
        if order == "frequent":
            count = Counter(sample.label for sample in self.samples if sample.split == "train")
            labels.sort(key=lambda label: -count[label])
        base, novel = sorted(labels[:half]), sorted(labels[half:])
        return tuple(self.with_classes([self.class_names[label] for label in part]) for part in (base, novel))  # type: ignore[return-value]

    def write(self, path: str | Path) -> None:
        """Writes the videos as a list that `read_annotations` reads: `path,label`, labels by name."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "label"))
            for sample in self.samples:
                label = "" if sample.label is None else self.class_names[sample.label]
                writer.writerow((sample.name or sample.path, label))

    def require_videos(self) -> None:
        """Raises an `AnnotationError` if not a single video is there: the folder given is most likely another one."""
        if not any(is_url(sample.path) or os.path.isfile(sample.path) for sample in self.samples):
            first = f", such as {self.samples[0].path}" if self.samples else ""
            raise AnnotationError(
                f"{self.source}: none of the {len(self)} videos exist{first}; check the videos' folder."
            )


def _rank(seed: int, sample: VideoSample) -> str:
    return hashlib.sha256(f"{seed}/{sample.name or sample.path}".encode()).hexdigest()


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise AnnotationError(f"Unknown split {split!r}; choose {', '.join(SPLITS)}.")


def is_url(path: str) -> bool:
    return path.lower().startswith(("http://", "https://"))


def read_annotations(
    videos: str | Path,
    annotations: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    split: str | None = None,
    format: str = "auto",
    number: int = 1,
) -> AnnotationTable:
    """A table of videos from a folder, or from a folder and its annotations.

    Without annotations, `videos` holds one folder for each class, or `train`, `val` (or `validation`) and `test`
    folders that do; the classes are in alphabetical order.

    Annotations are a file: `path label` or `path,label` a line, the label a number from 0 or a class name; a CSV with a
    header (`path`, `label`, and maybe `split`); one of UCF101's own lists, Kinetics' csv or SSv2's json. Or they are a
    folder: UCF101's own, HMDB51's own, or one file for each split. A list of numbers needs `classes`.

    Listed videos that do not exist stay in the table (`check_data` lists them). A name that is not found where it is
    listed is looked for in the folders below `videos` too, and taken if exactly one file fits and does not lie in
    another class's folder; an id without extension fits any video's extension.

    Args:
        videos: the folder of the videos, or an http(s) address that the listed paths are appended to.
        annotations: a file or a folder.
        classes: a class file (`read_class_names`) or the names, in the order of the labels. If left out: the one that
            comes with the annotations, else the listed names in alphabetical order.
        split: only this one; a list that does not say a split is taken to be this one, else the one that its name
            tells (`val.txt`), else `"train"`.
        format: `"auto"` to tell it from the content, or `"list"`, `"lists"` (a folder of lists), `"ucf101"`,
            `"hmdb51"`, `"kinetics"`, `"ssv2"`.
        number: which of the official splits of UCF101 or HMDB51, 1 to 3.

    Raises:
        AnnotationError: files that cannot be read or contradict themselves; labels that no class has; a video listed
            twice.

    Example:
        ```python
        table = read_annotations("hmdb51/videos", "hmdb51/splits", number=1, split="test")
        ```
    """
    if format not in FORMATS:
        raise AnnotationError(f"Unknown annotation format {format!r}; choose {', '.join(FORMATS)}.")
    if split is not None:
        _check_split(split)
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
    """The classes given, else those that came with the annotations, else the names that occur."""
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
    """The listed path, relative to the videos' folder if it is an absolute one within it."""
    inside = os.path.isabs(name) and Path(name).is_relative_to(os.path.abspath(root))
    return Path(os.path.relpath(name, root)).as_posix() if inside else name


def _check_repeats(samples: list[VideoSample], listings: list[Listing]) -> None:
    seen: dict[str, str] = {}
    for sample, listing in zip(samples, listings, strict=True):
        file = sample.path if is_url(sample.path) else os.path.normpath(sample.path)  # `./v.mp4` is `v.mp4`
        if file in seen:
            raise AnnotationError(f"{listing.where}: {listing.name!r} is listed before, at {seen[file]}.")
        seen[file] = listing.where


# Folders


def _listed_folders(root: Path) -> ListedVideos:
    """Listings of a folder of class folders, or of split folders that hold those."""
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
            f"{root}: no videos found; expected a folder of videos for each class (maybe within train, val, test), "
            "or give the annotations."
        )
    return ListedVideos(listings, tuple(sorted({folder.name for folder, _ in class_folders})))


def _check_beside_splits(root: Path, others: list[Path]) -> None:
    """Folders beside `train` and `val` may hold anything but videos: whose those are, nobody could tell."""
    for folder in others:
        if any(is_video_name(file.name) for file in folder.rglob("*")):
            raise AnnotationError(
                f"{root}: {folder.name} holds videos and lies beside split folders; move it into one of them or away."
            )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


class VideoFolder:
    """Finds listed videos below a folder.

    The folders are walked through once, when the first listed path turns out not to exist as it stands.
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
        """Where the video is, or where it should be if it is missing."""
        if is_url(name):
            return name
        if is_url(self.root):
            return f"{self.root.rstrip('/')}/{name}"
        path = os.path.join(self.root, name)
        if os.path.isabs(name) or os.path.isfile(path):
            return path
        fitting = [file for file in self._files.get(os.path.basename(name), ()) if self._fits(file, name, label)]
        if len(fitting) > 1:  # Kinetics' folders: one for each split
            fitting = [file for file in fitting if split in map(SPLIT_WORDS.get, file.lower().split(os.sep))] or fitting
        if len(fitting) > 1:
            raise AnnotationError(
                f"{where}: {name!r} may be {fitting[0]} or {fitting[1]}; list the path within {self.root}."
            )
        return os.path.join(self.root, fitting[0]) if fitting else path

    def _fits(self, file: str, name: str, label: int | None) -> bool:
        """Whether the file lies in all the folders listed, in their order, and not in another class's folder."""
        folders = file.split(os.sep)[:-1]
        remaining = iter(folders)
        if not all(part in remaining for part in name.split("/")[:-1]):
            return False
        found = self.classes.find(folders[-1]) if folders else None
        return found is None or label is None or found == label


__all__ = [
    "CLASS_FILES",
    "FORMATS",
    "AnnotationError",
    "AnnotationTable",
    "VideoSample",
    "read_annotations",
    "read_class_names",
    "spell_class_name",
]
