"""Sources of labelled videos: an annotation table, or a Hugging Face data set.

A source gives its classes, and for each index a label, a name and the opened video.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from transformers.video_utils import VideoMetadata

from ..model.decoding import Video, checked_indices, open_video
from ..model.read_options import ReadOptions
from ..model.sources import VideoDecodingError, VideoInput, failure
from .class_names import ClassIndex
from .table import AnnotationTable, VideoSample, is_url
from .text_files import AnnotationError


def decode_video(
    source: VideoInput, indices: Iterable[int], options: ReadOptions | None = None, **fields: Any
) -> tuple[np.ndarray, VideoMetadata]:
    """
    The frames of a video, see [`open_video`] and [`Video.read`], and its metadata.

    Returns:
        `np.ndarray` of shape `(num_indices, height, width, 3)`, uint8 RGB as displayed, and `VideoMetadata`.
    """
    indices = checked_indices(indices)  # before anything is downloaded
    video = open_video(source, options, **fields)
    return video.read(indices).permute(0, 2, 3, 1).numpy(), video.metadata


class TableVideos:
    """
    The videos of an [`AnnotationTable`].

    Args:
        table ([`AnnotationTable`]): the videos.
    """

    def __init__(self, table: AnnotationTable):
        self.table = table

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.table.class_names

    def __len__(self) -> int:
        return len(self.table)

    def label(self, index: int) -> int | None:
        return self.table.samples[index].label

    def name(self, index: int) -> str:
        return self.table.samples[index].path

    def video(self, index: int, options: ReadOptions | None = None) -> str | bytes:
        """A source for [`open_video`]."""
        return self.table.samples[index].path

    def open(self, index: int, options: ReadOptions | None = None) -> Video:
        return open_video(self.video(index, options), options)


# Hugging Face data sets

FETCHED = {"hf", "http", "https", "file", "zip"}  # of fsspec's protocols, some of which run programs


class HubColumns:
    """
    The columns of a `datasets` data set that hold video and label.

    Args:
        features (`datasets.Features`, *optional*): the data set's features; `None` for a stream that does not know
            them.
        video_column (`str`, *optional*): name of the video column; by default the one of type `Video`, else `video` or
            `mp4`.
        label_column (`str`): name of the column with a `ClassLabel` or class names.
        class_names (`Sequence[str]`, *optional*): names in the order of the labels; by default the `ClassLabel`'s.

    Raises:
        AnnotationError: there is no such column, or several columns could be the video column.
    """

    def __init__(self, features: Any, video_column: str | None, label_column: str, class_names: Sequence[str] | None):
        for name in (video_column, label_column):
            if name is not None and features is not None and name not in features:
                raise AnnotationError(f"The data set has no column {name!r}, only {', '.join(features)}.")
        self.video, self.label = video_column or _video_column(features), label_column
        names = class_names or getattr((features or {}).get(label_column), "names", None)
        self.index = ClassIndex(names, "the data set") if names else None

    @property
    def class_names(self) -> tuple[str, ...]:
        if self.index is None:
            raise AnnotationError("The data set names no classes; give `class_names`.")
        return self.index.names

    def label_of(self, value: Any, where: str) -> int | None:
        """The label for a value of the label column; `None` if there is none."""
        # `datasets` marks videos without a label with -1.
        return None if value is None or value == -1 or self.index is None else self.index.label(value, where)

    def undecoded(self, dataset):
        """The data set with a video column of paths and bytes, which we decode ourselves."""
        from datasets import Video

        return dataset.cast_column(self.video, Video(decode=False))


def _video_column(features: Any) -> str:
    if features is None:
        return "video"
    names = [name for name, feature in features.items() if type(feature).__name__ == "Video"]
    names = names or [name for name in ("video", "mp4") if name in features]
    if len(names) != 1:
        problem = (
            f"several video columns ({', '.join(names)})" if names else f"no video column in {', '.join(features)}"
        )
        raise AnnotationError(f"The data set has {problem}; in Python, `video_column` names it.")
    return names[0]


def encoded_video(video: Any, name: str, options: ReadOptions | None = None) -> str | bytes:
    """
    A source for [`open_video`]: the bytes of an undecoded value, else its path. A remote file is downloaded.

    Args:
        video (`dict`): a value of a video column, with `bytes` and `path`.
        name (`str`): its name, for messages.
        options ([`ReadOptions`], *optional*): limit the download.

    Raises:
        VideoDecodingError: there is no video, or it cannot be downloaded.
    """
    options = options or ReadOptions()
    content, path = (video.get("bytes"), video.get("path")) if isinstance(video, dict) else (None, None)
    if content is not None:
        return content
    if path is None:
        raise VideoDecodingError(f"Cannot read the video {name}: it has neither path nor bytes.", name, "no video")
    if "://" not in path or is_url(path):
        return path
    schemes = {part.partition("://")[0].lower() for part in path.split("::") if "://" in part}
    # fsspec does not say which addresses it connects to.
    fetched = FETCHED if options.allow_private_addresses else FETCHED - {"http", "https"}
    if not schemes <= fetched:
        reason = f"addresses with {min(schemes - fetched)!r:.50} are not read"
        raise failure(path, reason, "download", "Data sets can name files, http(s) and hf addresses, and zip archives.")
    import fsspec

    limit = options.max_download_bytes
    try:
        with fsspec.open(path, "rb") as file:
            content = file.read(-1 if limit is None else limit + 1)
        if limit is not None and len(content) > limit:
            raise ValueError(f"it has more than {limit:,} bytes, see `max_download_bytes`")
        return content
    except (AttributeError, NameError, TypeError):
        raise
    except Exception as error:  # every file system raises its own errors
        raise VideoDecodingError(f"Cannot read the video {path}: {error} (download).", path, error) from error


class HubVideos(TableVideos):
    """
    The videos of a map-style `datasets.Dataset`.

    Args:
        dataset (`datasets.Dataset`): a data set with a video column (type `Video`, or paths) and a label column.
        video_column (`str`, *optional*): name of the video column; by default the one of type `Video`, else `video` or
            `mp4`.
        label_column (`str`, defaults to `"label"`): name of the column with a `ClassLabel` or class names.
        class_names (`Sequence[str]`, *optional*): names in the order of the labels; by default the `ClassLabel`'s, else
            the names that occur, in alphabetical order.
        split (`str`, *optional*): `"train"`, `"validation"` or `"test"`, for `table` and messages.
        root (`str` or `Path`, *optional*): local folder that the data set was read from; `table` then lists the paths
            within it. By default it lists row numbers.
        source (`str`, defaults to `"the data set"`): name of the data set in messages.

    Attributes:
        table ([`AnnotationTable`]): the videos as a table, to select from.

    Raises:
        AnnotationError: the video column or the class names cannot be found out.

    Example:

    ```python
    source = HubVideos(datasets.load_dataset("videofolder", data_dir="videos", split="train"))
    ```
    """

    def __init__(
        self,
        dataset,
        video_column: str | None = None,
        label_column: str = "label",
        class_names: Sequence[str] | None = None,
        *,
        split: str | None = None,
        root: str | Path | None = None,
        source: str = "the data set",
    ):
        self.columns = HubColumns(dataset.features, video_column, label_column, class_names)
        if self.columns.index is None:
            known = {label for label in dataset.unique(label_column) if label is not None}
            if not known or not all(isinstance(label, str) for label in known):
                raise AnnotationError(
                    f"The column {label_column!r} holds numbers without names; cast it to ClassLabel, or give "
                    "`class_names`."
                )
            self.columns.index = ClassIndex(sorted(known), "the data set")
        self.dataset = self.columns.undecoded(dataset.with_format(None))
        values = dataset.with_format(None)[label_column]
        labels = [self.columns.label_of(value, f"row {row}") for row, value in enumerate(values)]
        listed = [None] * len(labels) if root is None else self._paths_within(Path(root).absolute())
        samples = []
        for row, (label, path) in enumerate(zip(labels, listed, strict=True)):
            place = f"row {row}" if split is None else f"{split} row {row}"
            shown = place if path is None else f"{place} ({path})"
            samples.append(VideoSample(shown, label, split or "train", path or f"row {row}"))
        super().__init__(AnnotationTable(tuple(samples), self.columns.class_names, source))
        self._rows = list(range(len(samples)))

    def _paths_within(self, root: Path) -> list[str | None]:
        """Paths of the videos within a folder; `None` for a video outside it."""
        # Flattened columns leave the videos' bytes unread.
        paths = self.dataset.select_columns([self.columns.video]).flatten()[f"{self.columns.video}.path"]
        return [
            Path(path).relative_to(root).as_posix() if path is not None and Path(path).is_relative_to(root) else None
            for path in paths
        ]

    def select(self, table: AnnotationTable) -> "HubVideos":
        """Only the videos of `table`, which is a selection from this one's table; labels and classes are `table`'s."""
        row_of = {sample.path: row for sample, row in zip(self.table.samples, self._rows, strict=True)}
        selected = copy(self)
        selected.table = table
        selected._rows = [row_of[sample.path] for sample in table.samples]
        return selected

    def write(self, path: str | Path) -> None:
        """Writes the videos as a list, see [`AnnotationTable.write`]."""
        self.table.write(path)

    def video(self, index: int, options: ReadOptions | None = None) -> str | bytes:
        return encoded_video(self.dataset[self._rows[index]][self.columns.video], self.name(index), options)
