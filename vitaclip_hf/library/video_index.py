"""An index of a folder of videos: vectors of their windows, to be searched by text or by video.

    index.json               the model's fingerprint and number type, how windows are cut, version of this format
    files.parquet            one row a file: path, size, time of change, content hash, error
    vectors-<name>.parquet   one row a window: content hash, start, end, times of its frames, vector

A file that was moved or copied keeps its vectors, which belong to the content. Each file is written beside its place
and then renamed, vectors before the rows that need them: a run that is killed loses at most what it was working on.
Needs pyarrow.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..data.folder_lock import FolderLock
from ..data.listings import is_video_name
from ..data.output_files import replace_file, storable
from ..loading.checkpoint import Checkpoint
from ..model.decoding import VideoDecodingError
from ..model.shown_names import check_utf8
from ..model.video_reader import VideoReader
from .windows import VideoWindow, check_window, embed_windows, read_windows


FOLDER = ".vitaclip-index"
VERSION = 1
FILES = "files.parquet"
APPROXIMATE = "vectors.usearch"


class VideoIndexError(ValueError):
    """An index cannot be read or used, or belongs to another model."""


@dataclass(frozen=True)
class IndexedFile:
    """
    A video file of the index.

    Attributes:
        path (`str`): relative to the indexed folder, with `/`.
        size (`int`): bytes.
        changed (`int`): time of the last change in nanoseconds.
        content (`str`): SHA-256 of the file.
        error (`str`, *optional*): why it could not be read.
    """

    path: str
    size: int
    changed: int
    content: str
    error: str | None = None


FILE_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("changed", pa.int64()),
        ("content", pa.string()),
        ("error", pa.string()),
    ]
)


def vector_schema(width: int) -> pa.Schema:
    return pa.schema(
        [
            ("content", pa.string()),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("times", pa.list_(pa.float32())),
            ("vector", pa.list_(pa.float32(), width)),
        ]
    )


@dataclass(frozen=True)
class Moment:
    """
    A hit of a search.

    Attributes:
        path (`str`): the video, relative to the indexed folder.
        start, end (`float`): the window in seconds.
        cosine (`float`): how near it is to what was searched for, from -1 to 1.
        times (`list[float]`): when its frames are shown, in seconds.
    """

    path: str
    start: float
    end: float
    cosine: float
    times: list[float]


@dataclass
class IndexReport:
    """
    What a run of [`VideoIndex.update`] found.

    Attributes:
        new (`int`): files that were read.
        unchanged (`int`): files as they were, also those that could not be read before.
        moved, copied (`int`): files whose content was known under another path, which is gone or still there.
        deleted (`int`): files that are gone.
        failed (`int`): files that cannot be read, those of earlier runs too.
        windows (`int`): windows that were embedded.
    """

    new: int = 0
    unchanged: int = 0
    moved: int = 0
    copied: int = 0
    deleted: int = 0
    failed: int = 0
    windows: int = 0


class VideoIndex:
    """
    The index of a folder of videos.

    Args:
        folder (`str` or `Path`): the folder with the videos.
        place (`str` or `Path`, *optional*): folder of the index; by default `.vitaclip-index` within `folder`.

    Example:

    ```python
    >>> from vitaclip_hf import load_checkpoint
    >>> from vitaclip_hf.library.video_index import VideoIndex

    >>> checkpoint = load_checkpoint("examples/demo/checkpoint")  # doctest: +SKIP
    >>> index = VideoIndex("videos")  # doctest: +SKIP
    >>> index.update(checkpoint)  # doctest: +SKIP
    >>> index.search(index.embed_text(checkpoint, "a red star moving left"), top_k=3)  # doctest: +SKIP

    ```
    """

    def __init__(self, folder: str | Path, place: str | Path | None = None):
        self.folder = Path(folder)
        self.place = self.folder / FOLDER if place is None else Path(place)
        self._loaded: tuple[list[tuple[int, int]], pa.Table, np.ndarray] | None = None

    # What is kept

    @property
    def about(self) -> dict[str, Any] | None:
        """The contents of `index.json`, or `None` if there is no index yet."""
        try:
            about = json.loads((self.place / "index.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, UnicodeDecodeError) as error:
            raise VideoIndexError(f"{self.place}: index.json is damaged ({error}); delete the folder.") from error
        if not isinstance(about, dict) or about.get("version") != VERSION:
            raise VideoIndexError(f"{self.place}: not an index of this version of vitaclip_hf; delete the folder.")
        return about

    def files(self) -> list[IndexedFile]:
        """All files of the index, those with errors too."""
        path = self.place / FILES
        rows = _read_table(path).to_pylist() if path.exists() else []
        return [IndexedFile(**row | {"path": _path_on_disk(self.folder, row["path"])}) for row in rows]

    def check_model(self, checkpoint: Checkpoint) -> None:
        """
        Raises:
            ValueError: the vectors of this index were made by another model, or by this one in another number type.
                Vectors of two models cannot be compared.
        """
        about = self.about
        if about is None:
            return
        here = number_type(checkpoint)
        if about.get("dtype", here) != here:
            raise VideoIndexError(
                f"{self.place}: this index was made with `dtype` {about['dtype']}, not {here}, and vectors of two "
                "number types are not mixed. Pass that one, or make an index of its own in another `index` folder."
            )
        if about["fingerprint"] != fingerprint_of(checkpoint):
            raise VideoIndexError(
                f"{self.place}: this index was made with another model ({about['model']}), and vectors of two models "
                "cannot be compared. Pass that model, or make an index of its own in another `index` folder."
            )

    # Filling

    def update(
        self,
        checkpoint: Checkpoint,
        *,
        window: float | None = None,
        stride: float | None = None,
        batch_size: int = 8,
        retry: bool = False,
        save_every: int = 500,
        on_file: Callable[[IndexedFile], None] | None = None,
        max_seconds: float | None = None,
    ) -> IndexReport:
        """
        Brings the index up to date: reads new and changed files, follows moved ones, drops deleted ones.

        A file of known size and time of change is not opened. Another one is hashed, and read only if its content is
        new. A run that was stopped goes on where it was.

        Args:
            checkpoint ([`Checkpoint`]): the model.
            window, stride (`float`, *optional*): seconds, see [`read_windows`]; of a new index 4 and 4, else as before.
            batch_size (`int`, defaults to 8): windows of a forward pass, of several videos together.
            retry (`bool`, defaults to `False`): read files again that could not be read.
            save_every (`int`, defaults to 500): windows after which what was done is saved.
            on_file (`Callable`, *optional*): called with each [`IndexedFile`] that was read or failed.
            max_seconds (`float`, *optional*): most time for decoding one video; one that takes longer has an error and
                the run goes on. By default the video processor's.

        Returns:
            [`IndexReport`]

        Raises:
            ValueError: the index belongs to another model, or was made with another window.
            FolderInUseError: another run updates this index; the message names it.
            OSError: the folder cannot be read or written.
        """
        if not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder}: no such folder.")
        about = self._begin(checkpoint, window, stride)
        with FolderLock(self.place, "indexing"):  # two runs would remove each other's files
            return self._update(checkpoint, about, batch_size, retry, save_every, on_file, max_seconds)

    def _update(
        self,
        checkpoint: Checkpoint,
        about: dict[str, Any],
        batch_size: int,
        retry: bool,
        save_every: int,
        on_file: Callable[[IndexedFile], None] | None,
        max_seconds: float | None,
    ) -> IndexReport:
        known = {file.path: file for file in self.files()}
        contents = self._contents()
        report = IndexReport()
        kept: dict[str, IndexedFile] = {}
        unread: list[tuple[str, int, int]] = []
        for path, size, changed in videos_in(self.folder):
            old = known.get(path)
            same = old is not None and (old.size, old.changed) == (size, changed)
            if old is not None and same and (not retry if old.error else old.content in contents):
                kept[path] = old
                report.unchanged += 1
                report.failed += old.error is not None
            else:
                unread.append((path, size, changed))
        writer = _Writer(self, kept, contents, save_every)
        writer.save()  # of what is deleted
        present = {*kept, *(path for path, _, _ in unread)}
        gone = {file.content: path for path, file in known.items() if path not in present}
        report.deleted = sum(path not in present for path in known)
        for file, rows in self._embedded(checkpoint, unread, contents, about, batch_size, max_seconds):
            if file.error is not None:
                report.failed += 1
            elif rows is not None:
                report.new += 1
                report.windows += len(rows)
                contents.add(file.content)
            elif file.path in known and known[file.path].content == file.content:
                report.unchanged += 1  # touched only
            elif gone.pop(file.content, None) is not None:
                report.moved += 1
                report.deleted -= 1
            else:
                report.copied += 1
            writer.add(file, rows)
            if on_file is not None:
                on_file(file)
        writer.save()
        self._compact({file.content for file in writer.files.values()})
        return report

    def _begin(self, checkpoint: Checkpoint, window: float | None, stride: float | None) -> dict[str, Any]:
        self.check_model(checkpoint)
        about = self.about
        if about is None:
            window = 4.0 if window is None else window
            about = {
                "version": VERSION,
                "model": checkpoint.name
                if not Path(checkpoint.name).is_dir()
                else str(Path(checkpoint.name).resolve()),
                "fingerprint": fingerprint_of(checkpoint),
                "dtype": number_type(checkpoint),
                "window": window,
                "stride": window if stride is None else stride,
                "width": checkpoint.model.config.projection_dim,
            }
            check_window(about["window"], about["stride"])
            self.place.mkdir(parents=True, exist_ok=True)
            content = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
            replace_file(self.place / "index.json", lambda path: path.write_text(storable(content), encoding="utf-8"))
        for name, value in (("window", window), ("stride", stride)):
            if value is not None and value != about[name]:
                raise VideoIndexError(
                    f"{self.place}: this index was made with `{name}` {about[name]:g}, not {value:g}; leave it out, or "
                    "make another index."
                )
        return about

    def _embedded(
        self,
        checkpoint: Checkpoint,
        unread: Sequence[tuple[str, int, int]],
        contents: set[str],
        about: dict[str, Any],
        batch_size: int,
        max_seconds: float | None,
    ) -> Iterator[tuple[IndexedFile, list[dict[str, Any]] | None]]:
        """
        Each file with the rows of its vectors; with `None` if its content is known or it could not be read.

        Windows of several videos make a batch, so that files come out a little later than they are read.
        """
        processor = checkpoint.processor.video_processor
        limits: dict[str, Any] = {} if max_seconds is None else {"max_seconds": max_seconds}
        rows: dict[str, list[dict[str, Any]]] = {}
        owners: list[str] = []  # of the windows that are on their way through the model
        finished: list[IndexedFile] = []
        begun: set[str] = set()  # contents of this run

        def windows() -> Iterator[VideoWindow]:
            for path, size, changed in unread:
                file = IndexedFile(path, size, changed, "")
                try:
                    file = replace(file, content=content_hash(self.folder / path))
                    if file.content not in contents and file.content not in begun:
                        rows[path] = []
                        reader = VideoReader(processor, **limits)
                        windows_of_file = read_windows(reader, self.folder / path, about["window"], about["stride"])
                        for window in windows_of_file:
                            owners.append(path)
                            yield window
                        begun.add(file.content)
                except (VideoDecodingError, OSError) as error:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    file = replace(file, error=reason[:2000])
                finished.append(file)

        def complete(all_of_them: bool) -> Iterator[tuple[IndexedFile, list[dict[str, Any]] | None]]:
            while finished and (all_of_them or finished[0].path not in owners):
                file = finished.pop(0)
                found = rows.pop(file.path, None)
                if file.error is None and found is not None:
                    for row in found:
                        row["content"] = file.content
                    yield file, found
                else:
                    yield file, None

        for window, features in embed_windows(checkpoint.encoder(), windows(), batch_size):
            path = owners.pop(0)
            if path in rows:
                vector = torch.nn.functional.normalize(features.mean(0), dim=-1).numpy()
                rows[path].append({"start": window.start, "end": window.end, "times": window.times, "vector": vector})
            yield from complete(False)
        yield from complete(True)

    def _contents(self) -> set[str]:
        """Contents whose vectors are there. A shard that cannot be read is removed: its files are read again."""
        found: set[str] = set()
        for shard in self._shards():
            try:
                found.update(_read_table(shard, columns=["content"])["content"].to_pylist())
            except (pa.ArrowInvalid, OSError):
                shard.unlink()
        for path in self.place.glob("*.new-*"):  # of a run that was killed
            path.unlink()
        return found

    def _shards(self) -> list[Path]:
        return sorted(self.place.glob("vectors-*.parquet"))

    def _compact(self, wanted: set[str]) -> None:
        """Drops vectors that no file needs any more."""
        for shard in self._shards():
            table = _read_table(shard)
            keep = np.array([content in wanted for content in table["content"].to_pylist()], bool)
            if not keep.any():
                shard.unlink()
            elif not keep.all():
                _write_table(shard, table.filter(pa.array(keep)))

    # Searching

    def vectors(self) -> tuple[pa.Table, np.ndarray]:
        """
        The windows of all files: a table (`content`, `start`, `end`, `times`), and their vectors of shape
        `(num_windows, projection_dim)`, normalised, float32.

        Raises:
            ValueError: there is no index.
        """
        about = self.about
        if about is None:
            raise VideoIndexError(f"{self.place}: there is no index; make one with `vitaclip index {self.folder}`.")
        state = [(path.stat().st_mtime_ns, path.stat().st_size) for path in self._shards()]
        loaded = self._loaded
        if loaded is None or loaded[0] != state:
            empty = vector_schema(about["width"]).empty_table()
            table = pa.concat_tables([empty, *(_read_table(path) for path in self._shards())]).combine_chunks()
            vector = table["vector"].combine_chunks()
            values = vector.flatten().to_numpy().reshape(-1, about["width"])
            self._loaded = loaded = state, table.drop_columns("vector"), values
        return loaded[1:]

    def embed_text(self, checkpoint: Checkpoint, text: str, templates: str | Sequence[str] = "{}") -> np.ndarray:
        """The normalised vector of a text, of shape `(projection_dim,)`."""
        self.check_model(checkpoint)
        return checkpoint.encoder().class_embeds((text,), templates)[1][0].float().cpu().numpy()

    def embed_video(self, checkpoint: Checkpoint, video: Any) -> np.ndarray:
        """
        The normalised vector of a video, of shape `(projection_dim,)`: the mean of its windows.

        Raises:
            VideoDecodingError: it cannot be read.
        """
        self.check_model(checkpoint)
        about = self.about or {"window": 4.0, "stride": 4.0}
        windows = read_windows(checkpoint.encoder().reader(), video, about["window"], about["stride"])
        rows = [features.mean(0) for _, features in embed_windows(checkpoint.encoder(), windows)]
        mean = torch.nn.functional.normalize(torch.stack(rows), dim=-1).mean(0)
        return torch.nn.functional.normalize(mean, dim=-1).numpy()

    def search(self, query: np.ndarray, top_k: int = 10, per_video: int = 1, approximate: bool = False) -> list[Moment]:
        """
        The windows nearest to a query.

        Args:
            query (`np.ndarray` of shape `(projection_dim,)`): of [`embed_text`] or [`embed_video`].
            top_k (`int`, defaults to 10): how many hits.
            per_video (`int`, defaults to 1): most hits of one video; they do not overlap.
            approximate (`bool`, defaults to `False`): search with usearch, for millions of windows. It can miss hits.

        Returns:
            `list[Moment]`, nearest first. Copies of a file are hits of their own.

        Raises:
            ValueError: there is no index.
            ImportError: usearch is not installed.
        """
        table, vectors = self.vectors()
        paths: dict[str, list[str]] = {}
        for file in self.files():
            if file.error is None:
                paths.setdefault(file.content, []).append(file.path)
        starts, ends = table["start"].to_numpy(), table["end"].to_numpy()
        contents = table["content"]
        taken: dict[str, list[tuple[float, float]]] = {}
        hits: list[Moment] = []
        for row, cosine in self._nearest(vectors, query, approximate):
            content, start, end = contents[row].as_py(), float(starts[row]), float(ends[row])
            before = taken.setdefault(content, [])
            if len(before) >= per_video or any(start < other[1] and other[0] < end for other in before):
                continue
            before.append((start, end))
            times = table["times"][row].as_py()
            hits += [Moment(path, start, end, cosine, times) for path in sorted(paths.get(content, ()))]
            if len(hits) >= top_k:
                break
        return hits[:top_k]

    def _nearest(self, vectors: np.ndarray, query: np.ndarray, approximate: bool) -> Iterator[tuple[int, float]]:
        """Rows by cosine, the nearest first."""
        if not approximate:
            cosines = vectors @ query.astype(np.float32)
            for row in np.argsort(-cosines, kind="stable"):
                yield int(row), float(cosines[row])
            return
        graph = self._graph(vectors)
        found = graph.search(query.astype(np.float32), min(1000, len(vectors)))
        for row, distance in zip(found.keys.tolist(), found.distances.tolist(), strict=True):
            yield row, 1 - distance

    def _graph(self, vectors: np.ndarray) -> Any:
        """usearch's graph of these vectors, made once and kept beside them."""
        from usearch.index import Index

        path = self.place / APPROXIMATE
        check_utf8(path, "usearch", error=VideoIndexError)
        of = hashlib.sha256(vectors.tobytes()).hexdigest()
        stamp = path.with_suffix(".sha256")
        if path.exists() and stamp.exists() and stamp.read_text() == of:
            return Index.restore(path)
        graph = Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
        graph.add(np.arange(len(vectors)), vectors)
        graph.save(path)
        stamp.write_text(of)
        return graph


class _Writer:
    """Saves finished files from time to time, vectors first."""

    def __init__(self, index: VideoIndex, files: dict[str, IndexedFile], contents: set[str], every: int):
        self.index, self.files, self._every = index, files, every
        self._rows: list[dict[str, Any]] = []
        self._unsaved = 0

    def add(self, file: IndexedFile, rows: list[dict[str, Any]] | None) -> None:
        self.files[file.path] = file
        self._rows += rows or []
        self._unsaved += 1
        if len(self._rows) >= self._every or self._unsaved >= self._every:
            self.save()

    def save(self) -> None:
        about = self.index.about or {}
        if self._rows:
            table = pa.Table.from_pylist(self._rows, vector_schema(about["width"]))
            shard = self.index.place / f"vectors-{uuid.uuid4().hex[:12]}.parquet"
            _write_table(shard, table)
        ordered = [asdict(self.files[path]) | {"path": storable(path)} for path in sorted(self.files)]
        _write_table(self.index.place / FILES, pa.Table.from_pylist(ordered, FILE_SCHEMA))
        self._rows, self._unsaved = [], 0


# pyarrow gets open files, since it opens none whose path is not UTF-8.
def _read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    with path.open("rb") as file:
        return pq.read_table(file, columns=columns)


def _write_table(path: Path, table: pa.Table) -> None:
    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            pq.write_table(table, file)

    replace_file(path, write)


def videos_in(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of the video files of a folder and its subfolders; hidden ones are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(filter(is_video_name, names)):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                stat = path.stat()
                yield path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns


def _path_on_disk(folder: Path, stored: str) -> str:
    """The path that `storable` wrote: the bytes of `\\udcff`, unless a file is really called so."""
    if "\\udc" not in stored or (folder / stored).exists():
        return stored
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda byte: chr(0xDC00 + int(byte[1], 16)), stored)


def content_hash(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def number_type(checkpoint: Checkpoint) -> str:
    """The name of the number type that the model runs in."""
    return str(checkpoint.model.dtype).removeprefix("torch.")


def fingerprint_of(checkpoint: Checkpoint) -> str:
    """What the vectors depend on: all weights in their number type, and how frames are made into model input."""
    settings = checkpoint.processor.video_processor.to_dict()
    for name in ("decoder", "on_damage", "allow_private_addresses", "processor_class", "return_metadata", "seed"):
        settings.pop(name, None)
    about = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(f"{checkpoint.fingerprint()} {about}".encode()).hexdigest()


__all__ = ["IndexReport", "IndexedFile", "Moment", "VideoIndex", "VideoIndexError"]
