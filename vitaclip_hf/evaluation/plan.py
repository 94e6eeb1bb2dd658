"""The videos of an evaluation: the lists of a protocol's splits, read and checked."""

import hashlib
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ..data.annotations import AnnotationError, AnnotationTable, VideoSample, read_annotations
from ..data.class_names import read_class_names, spell_class_name
from ..data.configuration_files import class_file
from ..data.list_folders import PARTS, class_file_of_part, detect_format, list_of_part, read_listed
from .protocols import Protocol


@dataclass(frozen=True)
class EvaluationSplit:
    """
    The videos and classes of one split.

    Attributes:
        name (`str`): as in the protocol.
        text (`str`): `"zero-shot"` or `"supervised"`.
        table ([`AnnotationTable`]): the videos to evaluate (a limit leaves some out) and the class names as listed.
        listed (`int`): videos of the whole list.
        sha256 (`str`): of the whole list: class names, and each video's listed path and label.
        files (`dict[str, str]`): SHA-256 of the list files and of the class file, by name.
    """

    name: str
    text: str
    table: AnnotationTable
    listed: int
    sha256: str
    files: dict[str, str]

    def texts(self, spelling: str) -> list[str]:
        """The class names as they are put into the templates."""
        if spelling == "camel":
            return [spell_class_name(name) for name in self.table.class_names]
        return [" ".join(name.replace("_", " ").split()) for name in self.table.class_names]


OWN_SPLIT = "own split"
GENERAL_NAMES = ("val", "validate", "validation", "test", "train", "classes", "labels")


@dataclass(frozen=True)
class ClassSplit:
    """
    Where the base and the novel classes of a base-to-novel evaluation come from.

    Attributes:
        origin (`str`): `"given"` (class files of the arguments), `"protocol"` (class names of the protocol), `"found"`
            (class files in the annotations folder), or `"own split"`: the first half of the classes is base, since
            nothing says which are.
        files (`dict[str, dict[str, str]]`): `name` and `sha256` of the class file of each part.
    """

    origin: str
    files: dict[str, dict[str, str]]

    @property
    def label(self) -> str:
        """A few words for tables."""
        if self.origin == "protocol":
            return "the protocol's class files"
        return (
            OWN_SPLIT
            if self.origin == OWN_SPLIT
            else f"classes of {', '.join(file['name'] for file in self.files.values())}"
        )


@dataclass(frozen=True)
class EvaluationPlan:
    """A protocol with the videos of its splits. Splits may share videos. `class_split` is for base-to-novel."""

    protocol: Protocol
    splits: tuple[EvaluationSplit, ...]
    limit: int | None
    class_split: ClassSplit | None = None

    @cached_property
    def videos(self) -> tuple[VideoSample, ...]:
        """Every video, once, in the order of the splits."""
        return tuple({sample.name: sample for split in self.splits for sample in split.table.samples}.values())

    @property
    def warnings(self) -> list[str]:
        """Lists that differ from what the protocol expects, and splits of which only a part is evaluated."""
        found = []
        if self.class_split is not None and self.class_split.origin == OWN_SPLIT:
            found.append(
                "OWN SPLIT: the first half of the classes is base, which is not the published choice; these figures "
                "are not comparable with published ones. Give the published class files as `base_classes` and "
                "`novel_classes`"
            )
        for split in self.splits:
            classes, videos = len(split.table.class_names), split.listed
            expected = self.protocol.expected_classes
            if expected is not None and classes != expected:
                found.append(f"split {split.name}: {classes} classes, but the protocol's list has {expected}")
            expected = self.protocol.expected_videos.get(split.name)
            if expected is not None and videos != expected:
                found.append(f"split {split.name}: {videos:,} videos, but the protocol's list has {expected:,}")
            if len(split.table) < split.listed:
                found.append(f"split {split.name}: only {len(split.table):,} of {split.listed:,} videos (`limit`)")
        return found


def plan_evaluation(
    protocol: Protocol,
    videos: str | Path,
    annotations: str | Path | None = None,
    classes: str | Path | None = None,
    limit: int | None = None,
    *,
    base_classes: str | Path | None = None,
    novel_classes: str | Path | None = None,
) -> EvaluationPlan:
    """
    Reads the lists of all splits.

    Args:
        protocol ([`Protocol`]): what to evaluate.
        videos (`str` or `Path`): folder or address of the videos.
        annotations (`str` or `Path`, *optional*): folder with the protocol's lists, or one list for all splits. By
            default, each folder in `videos` is a class.
        classes (`str` or `Path`, *optional*): file with the class names; by default the protocol's, beside the lists.
        limit (`int`, *optional*): at most so many videos of a split, spread evenly over its list.
        base_classes, novel_classes (`str` or `Path`, *optional*): class files of base-to-novel. By default those of the
            protocol, else the files in the annotations folder that are called `base` and `novel`, else the two halves
            of the classes, which is called an own split.

    Raises:
        AnnotationError: lists that cannot be found or used.
    """
    if limit is not None and limit < 1:
        raise AnnotationError(f"`limit` must be at least 1, got {limit}.")
    given = {part: file for part, file in zip(PARTS, (base_classes, novel_classes), strict=True) if file is not None}
    parts = None
    if protocol.task == "base-to-novel":
        parts = _class_parts(protocol, given, annotations)
    elif given:
        raise AnnotationError(f"`base_classes` and `novel_classes` are for base-to-novel, not for {protocol.name}.")
    splits = tuple(_read_split(protocol, name, videos, annotations, classes, limit, parts) for name in protocol.splits)
    return EvaluationPlan(protocol, _told_apart(splits, str(videos)), limit, parts.split if parts else None)


@dataclass(frozen=True)
class _ClassParts:
    """The classes of base and novel with their origin, and each part's own list in the annotations folder."""

    split: ClassSplit
    names: dict[str, tuple[str, ...]]
    lists: dict[str, Path]


def _class_parts(protocol: Protocol, given: dict[str, str | Path], annotations) -> _ClassParts:
    of_protocol = {part: getattr(protocol, f"{part}_classes") for part in PARTS}
    of_protocol = {part: names for part, names in of_protocol.items() if names}
    lists: dict[str, Path] = {}
    found: dict[str, Path] = {}
    if annotations is not None and Path(annotations).is_dir():
        folder, data_set = Path(annotations), protocol.name.removesuffix(f"-{protocol.task}")
        data_set = re.sub(r"(?<=[a-z]{3})\d+$", "", data_set)  # `hmdb51` is `hmdb` in paths, `k400` stays
        for part in PARTS:
            listed = list_of_part(folder, part, protocol.subset, data_set)
            lists |= {} if listed is None else {part: listed}
            names = None if given or of_protocol else class_file_of_part(folder, part, data_set)
            found |= {} if names is None else {part: names}
    if of_protocol and not given:
        return _ClassParts(ClassSplit("protocol", {}), of_protocol, lists)
    files = {part: class_file(file) for part, file in (given or found).items()}
    hashes = {part: {"name": file.name, "sha256": _sha256(file)} for part, file in files.items()}
    origin = "given" if given else "found" if found else OWN_SPLIT
    return _ClassParts(
        ClassSplit(origin, hashes), {part: read_class_names(file) for part, file in files.items()}, lists
    )


def _told_apart(splits: tuple[EvaluationSplit, ...], root: str) -> tuple[EvaluationSplit, ...]:
    """Renames videos that share one listed name (`v1` in the folders of two classes) to their path in the folder."""
    paths: dict[str, set[str]] = {}
    for split in splits:
        for sample in split.table.samples:
            paths.setdefault(sample.name, set()).add(sample.path)

    def renamed(sample: VideoSample) -> VideoSample:
        name = sample.name
        if len(paths[name]) > 1:
            name = Path(os.path.relpath(sample.path, root)).as_posix()
        # Results are UTF-8; bytes of a file name that are not become `\\xe9`.
        name = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return sample if name == sample.name else replace(sample, name=name)

    return tuple(
        replace(split, table=replace(split.table, samples=tuple(map(renamed, split.table.samples)))) for split in splits
    )


def _read_split(
    protocol: Protocol, name: str, videos, annotations, classes, limit: int | None, parts: _ClassParts | None
) -> EvaluationSplit:
    folder = Path(annotations) if annotations is not None and Path(annotations).is_dir() else None
    source = (_first_file(folder, protocol.lists, name) or folder) if folder else annotations
    _check_own_list(protocol, name, source)
    if folder is not None and classes is None:
        classes = _first_file(folder, protocol.classes, name)
    number = protocol.split_number(name) or 1
    own_list = parts.lists.get(name) if parts else None
    if parts is not None and own_list is not None:
        table = _read_part(protocol, name, videos, own_list, classes, parts)
    else:
        table = read_annotations(videos, source, classes, split=protocol.subset, number=number)
        if parts is not None:
            both = table.base_to_novel(base=parts.names.get("base"), novel=parts.names.get("novel"))
            table = both[PARTS.index(name)]
    unlabelled = next((sample for sample in table.samples if sample.label is None), None)
    if unlabelled is not None:
        raise AnnotationError(
            f"{table.source}: {unlabelled.name} has no label; an evaluation needs one for each video."
        )
    files = {Path(file).name: _sha256(Path(file)) for file in table.files}
    return EvaluationSplit(name, protocol.text_side(name), _limited(table, limit), len(table), table.sha256, files)


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise AnnotationError(f"{file}: cannot be read ({error.strerror or error}).") from error


def _read_part(protocol: Protocol, name: str, videos, own_list: Path, classes, parts: _ClassParts) -> AnnotationTable:
    """Reads a list that holds the videos of one part only, such as ViFi-CLIP's `val_novel.txt`."""
    names = parts.names.get(name)
    if names is None:
        raise AnnotationError(
            f"{own_list}: lists the videos of the {name} classes, but no class file says which these are; give it as "
            f"`{name}_classes`."
        )
    labels = {item.label for item in read_listed(own_list).listings}
    numbers = [label for label in labels if isinstance(label, int)]
    if not numbers or max(numbers) < len(names):  # names, or numbers within the part
        return read_annotations(videos, own_list, names, split=protocol.subset)
    return read_annotations(videos, own_list, classes, split=protocol.subset).with_classes(names)


def _check_own_list(protocol: Protocol, name: str, source) -> None:
    """Refuses one list for several numbered splits: their mean and deviation would be of one list read again."""
    numbered = [split for split in protocol.splits if split.isdecimal()]
    has_number = source is not None and Path(source).is_dir() and detect_format(Path(source)) in ("ucf101", "hmdb51")
    listed = source is not None and any(
        Path(source).name == Path(entry.replace("{split}", name)).name for entry in protocol.lists if "{split}" in entry
    )
    if len(numbered) > 1 and not (has_number or listed):
        wanted = " or ".join(entry.replace("{split}", name) for entry in protocol.lists)
        raise AnnotationError(
            f"{protocol.name}: no list of its own for split {name} ({wanted}) in {source}; give the folder of the "
            "lists as `annotations`, or choose one split with `splits`."
        )


def _first_file(folder: Path, names: tuple[str, ...], split: str) -> Path | None:
    """
    The first of the named files in a folder; else the one in its subfolders, as in ViFi-CLIP's clone.

    In subfolders a name counts only if it says the data set: a `val.txt` there may be of any.
    """
    names = tuple(name.replace("{split}", split) for name in names)
    direct = next((folder / name for name in names if (folder / name).is_file()), None)
    if direct is not None:
        return direct
    names = tuple(name for name in names if "/" in name or Path(name).stem not in GENERAL_NAMES)
    below = [file for name in names for depth in ("*", "*/*") for file in folder.glob(f"{depth}/{name}")]
    return below[0] if len(below) == 1 else None


def _limited(table: AnnotationTable, limit: int | None) -> AnnotationTable:
    """Takes videos evenly from the list. Lists are sorted by class: the first videos would be of few classes."""
    if limit is None or limit >= len(table):
        return table
    return replace(table, samples=tuple(table.samples[index * len(table) // limit] for index in range(limit)))
