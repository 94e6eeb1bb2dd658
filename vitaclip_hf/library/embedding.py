"""Fills a [`VideoStore`] with the vectors of videos, in this process or in many through Ray.

Threads read the next videos while the model computes. Only the process that was started writes, every 500 windows.
"""

import json
import logging
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from ..data.listings import is_video_name
from ..data.output_files import storable
from ..data.video_folders import files_below
from ..loading.checkpoint import Checkpoint, load_checkpoint
from ..loading.checksums import sha256_of
from ..model.machine import reading_threads
from ..model.scorer import Scorer
from ..model.shown_names import one_line
from ..model.sources import VideoDecodingError
from .store import VideoStore, is_one_of, mean_vectors
from .windows import VideoWindow, check_window, read_clips, window_features


SAVED_EVERY = 500  # windows or videos
SENT_AT_ONCE = 16  # videos that an actor of Ray gets

Rows = list[dict[str, Any]]


class _File(NamedTuple):
    """A video to be read: its name in the table, where it is, bytes and time of change of a file."""

    video: str
    source: str
    size: int | None = None
    changed: int | None = None


def embed_videos(
    videos: str | Path | Iterable[str],
    place: str | Path,
    checkpoint: Checkpoint,
    *,
    window: float | None = None,
    stride: float | None = None,
    labels: Any = None,
    templates: str | Sequence[str] | None = None,
    engine: str = "local",
    batch_size: int = 8,
    workers: int | None = None,
    num_model_actors: int = 1,
    retry: bool = False,
    on_video: Callable[[dict[str, Any]], None] | None = None,
    **reading: Any,
) -> Counter[str]:
    """
    Brings a table of vectors up to date. Videos of known size and time of change are not read again.

    Args:
        videos: a folder, or paths and URLs. The table follows a folder: videos have their paths within it, moved ones
            keep their vectors, which belong to the content, and deleted ones are dropped.
        place (`str` or `Path`): of the [`VideoStore`].
        checkpoint ([`Checkpoint`]): the model. Ray's actors load it by its name, which they must be able to find.
        window, stride (`float`, *optional*): a vector for each window of so many seconds, see [`read_windows`]; by
            default as before, and in a new table one vector of the whole video.
        labels (*optional*): to score, see [`Scorer`]; fills the columns `label`, `score` and `scores`. By default as
            before.
        templates (*optional*): sentences with `{}` for the label.
        engine (`str`, defaults to `"local"`): or `"ray"`.
        batch_size (`int`, defaults to 8): clips of a forward pass.
        workers (`int`, *optional*): reading threads of a process; by default the free cores.
        num_model_actors (`int`, defaults to 1): processes of Ray; each takes a GPU if Ray has some.
        retry (`bool`, defaults to `False`): read videos again that could not be read.
        on_video (`Callable`, *optional*): called with the first row of each video that was read or failed, now or in an
            earlier run.
        reading: fields of [`ReadOptions`], such as `max_seconds`, in place of the video processor's own.

    Returns:
        `Counter`: `new` videos, which were read; `unchanged` ones; `moved`, new names of known content; `deleted` files
        of the folder; `failed` videos that cannot be read, those of earlier runs too; `windows` that were embedded.

    Raises:
        ValueError: an argument out of range, or a table of another model or other settings.
        OSError: the folder cannot be written, or another run works on it (`FolderInUseError`).
    """
    if engine not in ("local", "ray") or batch_size < 1 or num_model_actors < 1:
        raise ValueError("`engine` must be local or ray, `batch_size` and `num_model_actors` at least 1.")
    if engine == "local" and num_model_actors > 1:
        raise ValueError("`num_model_actors` is for the `engine` ray; the local one is this process.")
    folder = Path(videos) if isinstance(videos, (str, Path)) else None
    if folder is not None and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder.")
    checkpoint.encoder().reader(**reading)  # refuses what it does not know
    store = VideoStore(place)
    settings = _settings(store, checkpoint, window, stride, labels, templates)  # before the folder is made
    with store.lock():  # two runs would read the same videos
        if store.settings is None:
            store.create(settings)
        files = map(_file, map(str, videos)) if folder is None else videos_in(folder)  # type: ignore[arg-type]
        rows = store.rows(["video", "size", "changed", "content", "error"])
        known = {row["video"]: row for row in rows.to_pylist()}
        listed = {file.video: file for file in files}
        unread, report = _update(store, listed, known, folder is not None, retry, on_video)
        run = settings | {"batch_size": batch_size, "workers": workers, "reading": reading}
        run["hash"] = folder is not None  # by which moved files are found
        local = engine == "local"
        produced = _Embedder(run, checkpoint).rows(unread) if local else _with_ray(unread, run, num_model_actors)
        new_rows: Rows = []
        try:
            for of_video in produced:
                new_rows += of_video
                failed = of_video[0]["error"] is not None
                report.update({"failed": 1} if failed else {"new": 1, "windows": len(of_video)})
                if on_video is not None:
                    on_video(of_video[0])
                if len(new_rows) >= SAVED_EVERY:
                    saved, new_rows = new_rows, []  # a Ctrl-C while they are written does not write them again
                    store.write(saved, known)
        finally:
            store.write(new_rows, known)
        store.compact()
    return +report


def _settings(
    store: VideoStore, checkpoint: Checkpoint, window: float | None, stride: float | None, labels: Any, templates: Any
) -> dict[str, Any]:
    """The settings of the table, or of a new one."""
    own, settings = store.check_model(checkpoint), store.settings
    if settings is None:
        if window is not None:
            check_window(window, window if stride is None else stride)
        elif stride is not None:
            raise ValueError("`stride` is for windows; pass `window` too.")
        templates, stride = templates or "{}", window if stride is None else stride
        if labels is not None:
            Scorer(checkpoint.encoder(), labels, templates)
    templates = [templates] if isinstance(templates, str) else templates
    chosen = {"window": window, "stride": stride, "labels": labels, "templates": templates}
    chosen = json.loads(json.dumps(chosen))  # as the table has them
    for name, value in chosen.items():
        if settings is not None and value not in (None, settings[name]):
            raise ValueError(
                f"{store.place}: these vectors were made with `{name}` {settings[name]!r:.100}, not {value!r:.100}; "
                "leave it out, or use another folder."
            )
    return (settings or chosen) | own  # the model's folder may have moved


def videos_in(folder: Path) -> Iterator[_File]:
    """The video files of a folder and its subfolders; hidden ones are left out."""
    for name in sorted(files_below(folder)):
        if is_video_name(name) and (folder / name).is_file():
            yield _file(str(folder / name), name)


def _file(source: str, video: str | None = None) -> _File:
    file = _File(storable(video or source), source)
    with suppress(OSError, ValueError):  # a URL, or a file whose reading will say what is wrong
        state = os.stat(source)
        file = file._replace(size=state.st_size, changed=state.st_mtime_ns)
    return file


def _update(
    store: VideoStore, files: dict[str, _File], known: dict[str, dict], follows_folder: bool, retry: bool, on_video: Any
) -> tuple[list[_File], Counter[str]]:
    """The files to be read. Deleted ones are dropped; those of known content keep their vectors."""
    contents = {row["content"]: row for row in known.values() if row["content"] and row["error"] is None}
    sizes = {row["size"] for row in contents.values()}
    relinked: dict[str, str] = {}  # to the video that has the content
    unread: list[_File] = []
    report: Counter[str] = Counter()
    for file in files.values():
        row = known.get(file.video)
        if row and (row["size"], row["changed"]) == (file.size, file.changed) and not (retry and row["error"]):
            report["unchanged" if row["error"] is None else "failed"] += 1
            if row["error"] is not None and on_video is not None:
                on_video(row)
            continue
        with suppress(OSError):  # reading the file will say what is wrong
            if file.size in sizes and (row := contents.get(sha256_of(Path(file.source)))):
                relinked[file.video] = row["video"]
                report["unchanged" if file.video in known else "moved"] += 1
                continue
        unread.append(file)
    gone = known.keys() - files.keys() if follows_folder else set()
    report["deleted"] = len(gone - set(relinked.values()))
    if relinked or gone:
        rows = store.rows(where=is_one_of({"", *relinked.values()}))
        places = defaultdict(list)
        for place, video in enumerate(rows["video"].to_pylist()):
            places[video].append(place)
        taken = [(files[video], place) for video, origin in relinked.items() for place in places[origin]]
        rows = rows.take(pa.array([place for _, place in taken], pa.int64()))
        for name in ("video", "size", "changed"):
            field = rows.schema.field(name)
            column = pa.array([getattr(file, name) for file, _ in taken], field.type)
            rows = rows.set_column(rows.schema.get_field_index(name), field, column)
        store.write(rows, known, gone)
    return unread, report


class _Embedder:
    """One model in one process."""

    def __init__(self, run: dict[str, Any], checkpoint: Checkpoint | None = None, device: str | None = None):
        if checkpoint is None:  # in an actor of Ray
            dtype = getattr(torch, run["dtype"])
            checkpoint = load_checkpoint(run["model"], run["revision"], device=device, dtype=dtype)
        self.run, self.encoder = run, checkpoint.encoder()
        self.reader = self.encoder.reader(**run["reading"])
        self.scorer = run["labels"] and Scorer(self.encoder, run["labels"], run["templates"])

    def rows(self, files: Iterable[_File]) -> Iterator[Rows]:
        """The rows of each video: of its windows, or one with its error."""
        threads, batch_size = self.run["workers"] or reading_threads(self.encoder.model.device), self.run["batch_size"]
        ahead = threads + (batch_size if self.run["window"] is None else 1)  # films take more memory
        rows: dict[str, Rows] = defaultdict(list)
        batch: list[tuple[str, Any]] = []

        def embedded() -> Iterator[Rows]:
            windows = [part for _, part in batch if isinstance(part, VideoWindow)]
            values = self._values(windows) if windows else iter(())
            for video, part in batch:
                if isinstance(part, VideoWindow):
                    rows[video].append({"start": part.start, "end": part.end} | next(values))
                else:
                    yield _finished(part, rows.pop(video, []))
            batch.clear()

        for item in read_together(map(self._read, files), threads, ahead):
            batch.append(item)
            if sum(isinstance(part, VideoWindow) for _, part in batch) == batch_size:
                yield from embedded()
        yield from embedded()

    def all_rows(self, files: list[_File]) -> list[Rows]:
        return list(self.rows(files))

    def _read(self, file: _File) -> Iterator[tuple[str, Any]]:
        """The windows of a video, and then the columns that all its rows share, such as hash or error."""
        row = file._asdict() | {"error": None}
        try:
            for window in read_clips(self.reader, file.source, self.run["window"], self.run["stride"]):
                yield file.video, window
            row["content"] = sha256_of(Path(file.source)) if self.run["hash"] else None
            if _file(file.source, file.video) != file:
                raise ValueError("it was changed while it was read; run again")
        except (VideoDecodingError, OSError, ValueError) as error:
            reason, name = one_line(error), str(file.source)
            row["error"] = storable(reason if name in reason else f"{name}: {reason}")
        yield file.video, row

    @torch.no_grad()
    def _values(self, windows: list[Any]) -> Iterator[dict[str, Any]]:
        """Vectors of windows, and their scores of labels."""
        features = window_features(self.encoder, windows)
        scores = self.scorer.compare(features).scores.cpu().numpy() if self.scorer else None
        for number, vector in enumerate(mean_vectors(self.encoder.embeds(features)).numpy()):
            row = {"vector": vector}
            if scores is not None:
                best = scores[number].argmax()
                row |= {"label": self.scorer.labels[best], "score": scores[number, best], "scores": scores[number]}
            yield row


def _finished(row: dict[str, Any], windows: Rows) -> Rows:
    """The rows of a video that was read to its end."""
    if not all(np.isfinite(values.get(name, 0.0)).all() for values in windows for name in ("vector", "scores")):
        row["error"] = f"{row['video']}: vector or scores are NaN or infinite; the model is damaged"
    elif not windows:
        row["error"] = row["error"] or f"{row['video']}: it has no frames"
    return [row | {"start": 0.0, "end": 0.0}] if row["error"] else [row | values for values in windows]


def read_together(streams: Iterator[Iterator[Any]], threads: int, ahead: int) -> Iterator[Any]:
    """The items of several iterators by turns. Threads advance at most `ahead` of them at a time, by one item each."""
    waiting: deque[tuple[Iterator[Any], Future]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="video-reader")
    try:
        while True:
            new = islice(streams, ahead - len(waiting))
            waiting.extend((stream, pool.submit(next, stream, None)) for stream in new)
            if not waiting:
                return
            stream, future = waiting.popleft()
            if (item := future.result()) is not None:
                waiting.append((stream, pool.submit(next, stream, None)))
                yield item
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _with_ray(files: list[_File], run: dict[str, Any], num_actors: int) -> Iterator[Rows]:
    """Actors of Ray read and embed. A video whose actor dies each time is a row with an error."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    # No more than there is: an actor that does not fit would be waited for without end.
    gpus = ray.cluster_resources().get("GPU", 0)
    cores = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    fitting = (most for most in range(run["workers"] or 1, 0, -1) if sum(c // most for c in cores) >= num_actors)
    resources = {"num_cpus": next(fitting, 0), "num_gpus": 1 / -(-num_actors // gpus) if gpus else 0}
    actor = ray.remote(**resources, max_restarts=-1, max_task_retries=2)(_Embedder)
    actors = [actor.remote(run, device="cuda" if gpus else "cpu") for _ in range(num_actors)]
    ray.get([actor.__ray_ready__.remote() for actor in actors])  # a model that cannot be loaded ends the run
    pool, left = ray.util.ActorPool(actors), {file.video: file for file in files}
    for at_once in (SENT_AT_ONCE, 1):  # alone after that, since one video may end the actor of others
        waiting = list(left.values())
        for first in range(0, len(waiting), at_once):
            pool.submit(lambda actor, part: actor.all_rows.remote(part), waiting[first : first + at_once])
        while pool.has_next():
            try:
                for rows in pool.get_next_unordered():
                    del left[rows[0]["video"]]
                    yield rows
            except RayTaskError:
                raise
            except RayError:
                continue
    for file in left.values():
        error = f"{file.video}: the process that read it was lost, each time it was tried"
        yield _finished(file._asdict() | {"error": error}, [])
