"""Finds missing, unreadable and unlabelled videos before a training."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..model.decoding import VideoDecodingError, decode_video
from .table import AnnotationTable, is_url
from .text_files import one_line
from .video_sources import HubVideos, TableVideos


@dataclass(frozen=True)
class DataReport:
    """
    What `check_data` found. A video is never both in `missing` and in `unreadable`.

    Attributes:
        source (`str`): what the table was read from.
        videos (`dict[str, int]`): number of videos of each split.
        classes (`int`): number of classes.
        missing (`tuple[str, ...]`): paths of files that do not exist.
        unreadable (`tuple[tuple[str, str], ...]`): path and reason of files that cannot be read; without `deep`, only
            empty files.
        unlabelled (`tuple[str, ...]`): paths of videos without a label.
        empty_classes (`tuple[str, ...]`): `split: class` for each class without a video in a split that has labels.
        deep (`bool`): whether the files were decoded.
        notes (`tuple[str, ...]`): the table's notes: files that were left out, and names that are easily confused.
    """

    source: str
    videos: dict[str, int]
    classes: int
    missing: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    unlabelled: tuple[str, ...]
    empty_classes: tuple[str, ...]
    deep: bool
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.videos.values())

    @property
    def usable(self) -> int:
        """Number of videos that exist and can be read; without `deep`, reading was not tried."""
        return self.total - len(self.missing) - len(self.unreadable)

    @property
    def ok(self) -> bool:
        """Whether no file is missing, unreadable or unlabelled."""
        return not (self.missing or self.unreadable or self.unlabelled)

    def summary(self, limit: int = 10) -> str:
        """
        The report as text.

        Args:
            limit (`int`, defaults to 10): how many problems of each kind are listed; 0 lists all.
        """
        splits = ", ".join(f"{count} {split}" for split, count in self.videos.items())
        how = "decoded" if self.deep else "looked up"
        lines = [f"{self.source}: {self.total} videos ({splits}), {self.classes} classes; {self.usable} usable ({how})"]
        problems = {
            "missing": self.missing,
            "unreadable": [f"{path} ({reason})" for path, reason in self.unreadable],
            "unlabelled": self.unlabelled,
            "classes without videos": self.empty_classes,
        }
        for kind, found in problems.items():
            lines.append(f"  {kind}: {len(found)}")
            shown = found[:limit] if limit else found
            lines += [f"    {entry}" for entry in shown]
            if len(shown) < len(found):
                lines.append(f"    … and {len(found) - len(shown)} more")
        return "\n".join(lines + [f"  note: {one_line(note)}" for note in self.notes])


def check_data(
    videos: AnnotationTable | HubVideos, deep: bool = False, workers: int = 4, decoder: str = "auto"
) -> DataReport:
    """
    Looks for missing, unreadable and unlabelled videos, and for classes without videos.

    Args:
        videos ([`AnnotationTable`] or [`HubVideos`]): the videos.
        deep (`bool`, defaults to `False`): decode every file, to find damaged ones. This takes about as long as an
            epoch's decoding and downloads videos that are http(s) addresses. Otherwise files are only looked up.
        workers (`int`, defaults to 4): number of threads.
        decoder (`str`, defaults to `"auto"`): see [`decode_video`].

    Returns:
        [`DataReport`]
    """
    source = TableVideos(videos) if isinstance(videos, AnnotationTable) else videos
    table = source.table

    def problem(index: int) -> str | None:
        return _problem(source, index, deep, decoder)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        problems = list(pool.map(problem, range(len(table))))
    found = [(sample.path, reason) for sample, reason in zip(table.samples, problems, strict=True) if reason]
    return DataReport(
        source=table.source,
        videos=dict(Counter(sample.split for sample in table.samples)),
        classes=len(table.class_names),
        missing=tuple(path for path, reason in found if reason == _MISSING),
        unreadable=tuple((path, reason) for path, reason in found if reason != _MISSING),
        unlabelled=tuple(sample.path for sample in table.samples if sample.label is None),
        empty_classes=tuple(_empty_classes(table)),
        deep=deep,
        notes=table.notes,
    )


_MISSING = "there is no such file"


def _problem(source: TableVideos, index: int, deep: bool, decoder: str) -> str | None:
    try:
        video = source.video(index)
        if isinstance(video, str) and not is_url(video) and not os.path.isfile(video):
            return _MISSING
        if _is_empty(video):
            return "it is empty"
        if deep:
            decode_video(video, [0], decoder=decoder, verify="full")
    except VideoDecodingError as error:
        return f"{type(error.cause).__name__}: {error.cause}" if isinstance(error.cause, Exception) else error.cause
    return None


def _is_empty(video: str | bytes) -> bool:
    if isinstance(video, bytes):
        return not video
    return not is_url(video) and os.path.getsize(video) == 0


def _empty_classes(table: AnnotationTable) -> list[str]:
    count = Counter((sample.split, sample.label) for sample in table.samples)
    labelled = {split: None for split, label in count if label is not None}
    return [
        f"{split}: {name}"
        for split in labelled
        for label, name in enumerate(table.class_names)
        if not count[split, label]
    ]
