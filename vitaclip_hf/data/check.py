"""What is wrong with videos, counted and listed before anything is trained on them."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..model.video_decoding import VideoDecodingError, decode_video
from .annotation_table import AnnotationTable, is_url
from .video_sources import HubVideos, TableVideos


@dataclass(frozen=True)
class DataReport:
    """What `check_data` found. A video stands in at most one of `missing` and `unreadable`.

    Attributes:
        source: what the table was read from.
        videos: how many videos of each split the table has.
        classes: how many classes the table has.
        missing: paths of files that do not exist.
        unreadable: path and reason of files that cannot be read (without `deep`: only empty ones).
        unlabelled: paths of videos without a label.
        empty_classes: `split: class` for classes without a video in a split that has labels.
        deep: whether the files were decoded.
    """

    source: str
    videos: dict[str, int]
    classes: int
    missing: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    unlabelled: tuple[str, ...]
    empty_classes: tuple[str, ...]
    deep: bool

    @property
    def total(self) -> int:
        return sum(self.videos.values())

    @property
    def usable(self) -> int:
        """Videos that are there and can be read, as far as was looked."""
        return self.total - len(self.missing) - len(self.unreadable)

    @property
    def ok(self) -> bool:
        """Whether no file is missing, unreadable or unlabelled."""
        return not (self.missing or self.unreadable or self.unlabelled)

    def summary(self, limit: int = 10) -> str:
        """Counts, and the first `limit` of each kind of problem; all of them with `limit=0`."""
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
        return "\n".join(lines)


def check_data(
    videos: AnnotationTable | HubVideos, deep: bool = False, workers: int = 4, decoder: str = "auto"
) -> DataReport:
    """Looks for missing, unreadable and unlabelled videos and for classes without any.

    Args:
        videos: what `read_annotations` gave, or the videos of a `datasets` data set.
        deep: decode every file, which takes about as long as an epoch's decoding and finds damaged ones; addresses are
            downloaded for it. Otherwise files are only looked up.
        workers: threads that look or decode.
        decoder: of `decode_video`.
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
    )


_MISSING = "there is no such file"


def _problem(source: TableVideos | HubVideos, index: int, deep: bool, decoder: str) -> str | None:
    try:
        video = source.video(index)
        if isinstance(video, str) and not is_url(video) and not os.path.isfile(video):
            return _MISSING
        if _is_empty(video):
            return "it is empty"
        if deep:
            decode_video(video, [0], decoder=decoder)
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
