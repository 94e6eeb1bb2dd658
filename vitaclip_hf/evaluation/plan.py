"""The videos of an evaluation: the lists of a protocol's splits, read and checked."""

import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ..data.annotations import AnnotationError, AnnotationTable, VideoSample, read_annotations
from ..data.class_names import read_class_names, spell_class_name
from ..data.configuration_files import class_file
from ..loading.checksums import sha256_of
from .protocols import PARTS, EvaluationError, Protocol


OWN_SPLIT = "own split"


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

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the videos to evaluate."""
        return frozenset(sample.name for sample in self.table.samples)

    def texts(self, spelling: str) -> list[str]:
        """The class names as they are put into the templates."""
        if spelling == "camel":
            return [spell_class_name(name) for name in self.table.class_names]
        return [" ".join(name.replace("_", " ").split()) for name in self.table.class_names]


@dataclass(frozen=True)
class ClassSplit:
    """
    Where the base and the novel classes of a base-to-novel evaluation come from.

    Attributes:
        origin (`str`): `"given"` (class files of the arguments), `"protocol"` (class names of the protocol), or
            `"own split"`: the first half of the classes is base, since nothing says which are.
        files (`dict[str, dict[str, str]]`): `name` and `sha256` of the class file of each part.
    """

    origin: str
    files: dict[str, dict[str, str]]

    @property
    def label(self) -> str:
        """A few words for tables."""
        files = f"classes of {', '.join(file['name'] for file in self.files.values())}"
        return {"protocol": "the protocol's class files", "given": files}.get(self.origin, self.origin)


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
        warnings = []
        if self.class_split is not None and self.class_split.origin == OWN_SPLIT:
            warnings.append(
                "OWN SPLIT: the first half of the classes is base, which is not the published choice; these figures "
                "are not comparable with published ones. Give the published class files as `base_classes` and "
                "`novel_classes`"
            )
        for split in self.splits:
            expected_videos = self.protocol.expected_videos.get(split.name)
            warnings += [
                f"split {split.name}: {count:,} {kind}, but the protocol's list has {expected:,}"
                for kind, count, expected in (
                    ("classes", len(split.table.class_names), self.protocol.expected_classes),
                    ("videos", split.listed, expected_videos),
                )
                if expected not in (None, count)
            ]
            if len(split.table) < split.listed:
                warnings.append(f"split {split.name}: only {len(split.table):,} of {split.listed:,} videos (`limit`)")
        return warnings


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
            protocol, else the two halves of the classes, which is called an own split.

    Raises:
        AnnotationError: lists that cannot be found or used.
        EvaluationError: arguments that do not fit the protocol.
    """
    if limit is not None and limit < 1:
        raise EvaluationError(f"`limit` must be at least 1, got {limit}.")
    files = {part: class_file(file) for part, file in zip(PARTS, (base_classes, novel_classes), strict=True) if file}
    if files and protocol.task != "base-to-novel":
        raise EvaluationError(f"`base_classes` and `novel_classes` are for base-to-novel, not for {protocol.name}.")
    class_split, parts = None, None
    if protocol.task == "base-to-novel":
        published = {part: names for part in PARTS if (names := getattr(protocol, f"{part}_classes"))}
        parts = {part: read_class_names(file) for part, file in files.items()} or published
        hashes = {part: {"name": file.name, "sha256": sha256_of(file)} for part, file in files.items()}
        class_split = ClassSplit("given" if files else "protocol" if published else OWN_SPLIT, hashes)
    splits = [_read_split(protocol, name, videos, annotations, classes, parts) for name in protocol.splits]
    numbered = {split.table.files: split.name for split in splits if split.name.isdecimal()}
    repeated = [split.name for split in splits if split.name != numbered.get(split.table.files, split.name)]
    if repeated:  # their mean and deviation would be of one list, read again
        raise AnnotationError(
            f"{protocol.name}: split {repeated[0]} has no list of its own in {annotations}; give the folder of the "
            f"lists ({' or '.join(protocol.lists)}) as `annotations`, or choose one split with `splits`."
        )
    splits = [replace(split, table=_limited(split.table, limit)) for split in _told_apart(splits, str(videos))]
    return EvaluationPlan(protocol, tuple(splits), limit, class_split)


def _read_split(
    protocol: Protocol, name: str, videos, annotations, classes, parts: dict[str, tuple[str, ...]] | None
) -> EvaluationSplit:
    folder = Path(annotations) if annotations is not None and Path(annotations).is_dir() else None
    source = _first_file(folder, protocol.lists, name) or annotations
    classes = classes or _first_file(folder, protocol.classes, name)
    part_list = _first_file(folder, [file for file in protocol.lists if "{split}" in file], name)
    if parts is not None and part_list is not None and set(parts) == set(PARTS):
        try:  # numbered within the part, or over all classes
            table = read_annotations(videos, part_list, parts[name], split=protocol.subset)
        except AnnotationError:
            table = read_annotations(videos, part_list, classes, split=protocol.subset).with_classes(parts[name])
    else:
        number = int(name) if name.isdecimal() else protocol.official_split or 1
        table = read_annotations(videos, source, classes, split=protocol.subset, number=number)
        if parts is not None:
            table = table.base_to_novel(base=parts.get("base"), novel=parts.get("novel"))[PARTS.index(name)]
    unlabelled = next((sample for sample in table.samples if sample.label is None), None)
    if unlabelled is not None:
        raise AnnotationError(f"{table.source}: {unlabelled.name} has no label; an evaluation needs all labels.")
    files = {Path(file).name: sha256_of(Path(file)) for file in table.files}
    return EvaluationSplit(name, protocol.text_side(name), table, len(table), table.sha256, files)


def _first_file(folder: Path | None, names, split: str) -> Path | None:
    files = [] if folder is None else [folder / name.replace("{split}", split) for name in names]
    return next((file for file in files if file.is_file()), None)


def _told_apart(splits: list[EvaluationSplit], root: str) -> list[EvaluationSplit]:
    """Renames videos that share one listed name (`v1` in the folders of two classes) to their path in the folder."""
    listed = {(sample.name, sample.path) for split in splits for sample in split.table.samples}
    videos = Counter(name for name, _ in listed)

    def renamed(sample: VideoSample) -> VideoSample:
        several = videos[sample.name] > 1
        name = Path(os.path.relpath(sample.path, root)).as_posix() if several else sample.name
        # Results are UTF-8; bytes of a file name that are not become `\\xe9`.
        return replace(sample, name=name.encode(errors="surrogateescape").decode(errors="backslashreplace"))

    return [
        replace(split, table=replace(split.table, samples=tuple(map(renamed, split.table.samples)))) for split in splits
    ]


def _limited(table: AnnotationTable, limit: int | None) -> AnnotationTable:
    """Takes videos evenly from the list. Lists are sorted by class: the first videos would be of few classes."""
    if limit is None or limit >= len(table):
        return table
    return replace(table, samples=tuple(table.samples[index * len(table) // limit] for index in range(limit)))
