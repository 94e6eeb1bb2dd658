"""Finds missing, unreadable and unlabelled videos before a training."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..model.shown_names import one_line
from ..model.sources import VideoDecodingError, described
from .table import AnnotationTable
from .video_sources import HubVideos, TableVideos, decode_video


@dataclass(frozen=True)
class DataReport:
    """
    The result of `check_data`.

    Attributes:
        source (`str`): what the table was read from.
        videos (`dict[str, int]`): number of videos of each split.
        classes (`int`): number of classes.
        problems (`dict[str, list[str]]`): `missing` and `unlabelled` have paths, `unreadable` path and reason, and
            `classes without videos` has `split: class` for each split that has labels.
        notes (`tuple[str, ...]`): the table's notes: files that were left out, and names that are easily confused.
    """

    source: str
    videos: dict[str, int]
    classes: int
    problems: dict[str, list[str]]
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> int:
        """Number of videos that exist and can be read."""
        return sum(self.videos.values()) - len(self.problems["missing"]) - len(self.problems["unreadable"])

    @property
    def ok(self) -> bool:
        """Whether no file is missing, unreadable or unlabelled."""
        return not any(self.problems[kind] for kind in ("missing", "unreadable", "unlabelled"))

    def summary(self) -> str:
        """The report as text."""
        splits = ", ".join(f"{count} {split}" for split, count in self.videos.items())
        total = sum(self.videos.values())
        lines = [f"{self.source}: {total} videos ({splits}), {self.classes} classes; {self.usable} usable"]
        for kind, entries in self.problems.items():
            lines += [f"  {kind}: {len(entries)}", *(f"    {entry}" for entry in entries)]
        return "\n".join(lines + [f"  note: {one_line(note)}" for note in self.notes])


def check_data(videos: AnnotationTable | HubVideos, workers: int = 4, max_seconds: float | None = None) -> DataReport:
    """
    Decodes every video, which takes about as long as an epoch's decoding and downloads those that are http(s)
    addresses, and looks for unlabelled videos and for classes without videos.

    Args:
        videos ([`AnnotationTable`] or [`HubVideos`]): the videos.
        workers (`int`, defaults to 4): number of threads.
        max_seconds (`float`, *optional*): most time for decoding one video; no limit by default.

    Returns:
        [`DataReport`]
    """
    source = TableVideos(videos) if isinstance(videos, AnnotationTable) else videos
    table = source.table
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        reasons = list(pool.map(lambda index: _problem(source, index, max_seconds), range(len(table))))
    failures = [(sample.path, reason) for sample, reason in zip(table.samples, reasons, strict=True) if reason]
    count = Counter((sample.split, sample.label) for sample in table.samples)
    problems = {
        "missing": [path for path, reason in failures if reason == _MISSING],
        "unreadable": [f"{path} ({reason})" for path, reason in failures if reason != _MISSING],
        "unlabelled": [sample.path for sample in table.samples if sample.label is None],
        "classes without videos": [
            f"{split}: {name}"
            for split in dict.fromkeys(split for split, label in count if label is not None)
            for label, name in enumerate(table.class_names)
            if not count[split, label]
        ],
    }
    splits = dict(Counter(sample.split for sample in table.samples))
    return DataReport(table.source, splits, len(table.class_names), problems, table.notes)


_MISSING = "there is no such file"  # as the decoder says it


def _problem(source: TableVideos, index: int, max_seconds: float | None) -> str | None:
    try:
        decode_video(source.video(index), [0], verify="full", max_seconds=max_seconds)
    except VideoDecodingError as error:
        return described(error.cause)
    return None
