"""Vectors of many videos as Parquet files, on this machine or on many through Ray Data.

    embedding.json       the model, its fingerprint, how videos are cut, the labels
    part-<name>.parquet  exactly one row a video: its vectors, or the error

Only the process that was started writes. A file is written beside its place and then renamed, and a video is done when
its row is in such a file. A run that is killed loses at most the rows since the last file, and the next run reads those
videos again. Needs pyarrow; Ray for `engine="ray"`.
"""

import json
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..data.folder_lock import FolderLock
from ..data.output_files import replace_file, storable
from ..loading.checkpoint import Checkpoint, load_checkpoint
from ..model.decoding import VideoDecodingError
from ..model.reading_ahead import read_ahead, reading_threads
from ..model.video_reader import VideoReader
from ..model.zero_shot_classifier import embed_views, view_scores
from .video_index import fingerprint_of
from .windows import check_window, read_windows


VERSION = 1
ENGINES = ("local", "ray")
ABOUT = "embedding.json"


class EmbeddingError(ValueError):
    """A folder of vectors cannot be used, or belongs to another model or other settings."""


@dataclass
class EmbeddingReport:
    """
    What a run of [`embed_videos`] did.

    Attributes:
        new (`int`): videos that were read.
        unchanged (`int`): videos that had their row.
        failed (`int`): videos of this run that could not be read.
    """

    new: int = 0
    unchanged: int = 0
    failed: int = 0


def embed_videos(
    videos: Iterable[str],
    output: str | Path,
    checkpoint: Checkpoint,
    *,
    window: float | None = None,
    stride: float | None = None,
    labels: Sequence[str] | None = None,
    templates: str | Sequence[str] = "{}",
    engine: str = "local",
    batch_size: int = 8,
    workers: int | None = None,
    num_model_actors: int = 1,
    retry: bool = False,
    save_every: int = 500,
    on_video: Callable[[dict[str, Any]], None] | None = None,
) -> EmbeddingReport:
    """
    Writes the vectors of videos, one row a video. Videos that have their row are not read again.

    Args:
        videos (`Iterable[str]`): paths or URLs. A name that is given twice is one video.
        output (`str` or `Path`): folder of the Parquet files.
        checkpoint ([`Checkpoint`]): the model. Ray's actors load it by its name, which they must be able to find.
        window, stride (`float`, *optional*): a vector for each window of so many seconds, see [`read_windows`]; by
            default one vector of the whole video.
        labels (`Sequence[str]`, *optional*): to score; adds the columns `label`, `score` and `scores`.
        templates: sentences with `{}` for the label.
        engine (`str`, defaults to `"local"`): or `"ray"`: decoding in CPU tasks, the model in actors.
        batch_size (`int`, defaults to 8): clips of a forward pass.
        workers (`int`, *optional*): reading threads, or Ray's decoding tasks at a time; by default the free cores.
        num_model_actors (`int`, defaults to 1): of Ray; each takes a GPU if Ray has some, else a core.
        retry (`bool`, defaults to `False`): read videos again whose row is an error.
        save_every (`int`, defaults to 500): rows of a file.
        on_video (`Callable`, *optional*): called with each new row.

    Returns:
        [`EmbeddingReport`]

    Raises:
        EmbeddingError: the folder belongs to another model or other settings, or is damaged.
        ValueError: an argument out of range.
        OSError: the folder cannot be written, or another run is writing to it (`FolderInUseError`).

    Example:

    ```python
    >>> from vitaclip_hf import load_checkpoint
    >>> from vitaclip_hf.library.embedding import embed_videos

    >>> checkpoint = load_checkpoint("examples/demo/checkpoint")  # doctest: +SKIP
    >>> embed_videos(["a.mp4", "b.mp4"], "vectors", checkpoint)  # doctest: +SKIP

    ```
    """
    if engine not in ENGINES:
        raise ValueError(f"`engine` must be one of {', '.join(ENGINES)}, got {engine!r}.")
    for name, value in (("batch_size", batch_size), ("num_model_actors", num_model_actors), ("save_every", save_every)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    if workers is not None and workers < 1:
        raise ValueError(f"`workers` must be at least 1, got {workers}.")
    if window is None and stride is not None:
        raise ValueError("`stride` is for windows; pass `window` too.")
    if window is not None:
        stride = window if stride is None else stride
        check_window(window, stride)
    classes = None if labels is None else checkpoint.encoder().class_embeds(labels, templates)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "version": VERSION,
        "model": checkpoint.name,
        "fingerprint": fingerprint_of(checkpoint),
        "window": window,
        "stride": stride,
        "width": checkpoint.model.config.projection_dim,
        "labels": None if classes is None else list(classes[0]),
        "templates": None if classes is None else [templates] if isinstance(templates, str) else list(templates),
    }
    with FolderLock(folder, "embedding"):  # two runs would write rows for the same videos
        _check_about(folder, about)
        done = _finished(folder, retry)
        given = {storable(video): video for video in videos}
        unread = [video for name, video in given.items() if name not in done]
        report = EmbeddingReport(unchanged=len(done))
        settings = _Settings(window, stride, batch_size, None if classes is None else classes[1].float().cpu())
        if engine == "local":
            parts = _local(unread, checkpoint, settings, workers)
        else:
            parts = _with_ray(unread, checkpoint, settings, workers, num_model_actors)
        rows: list[dict[str, Any]] = []
        schema = schema_of(about)
        try:
            for row in _joined(parts, unread, about["labels"]):
                rows.append(row)
                report.new += 1
                report.failed += row["error"] is not None
                if on_video is not None:
                    on_video(row)
                if len(rows) >= save_every:
                    full, rows = rows, []
                    _write(folder, full, schema)
        finally:
            if rows:
                _write(folder, rows, schema)
    return report


def schema_of(about: dict[str, Any]) -> pa.Schema:
    """The columns of the Parquet files, with the model's fingerprint."""
    vector = pa.list_(pa.float32(), about["width"])
    columns = [("video", pa.string()), ("error", pa.string())]
    if about["window"] is None:
        columns += [("vector", vector)]
    else:
        columns += [("starts", pa.list_(pa.float64())), ("ends", pa.list_(pa.float64())), ("vectors", pa.list_(vector))]
    if about["labels"] is not None:
        columns += [("label", pa.string()), ("score", pa.float32()), ("scores", pa.list_(pa.float32()))]
    return pa.schema(columns, metadata={"fingerprint": about["fingerprint"], "model": about["model"]})


def read_embeddings(folder: str | Path) -> pa.Table:
    """All rows of a folder that [`embed_videos`] wrote, sorted by video."""
    paths = sorted(Path(folder).glob("part-*.parquet"))
    if not paths:
        raise EmbeddingError(f"{folder}: there are no vectors here.")
    return pa.concat_tables([_read(path) for path in paths]).sort_by("video")


# What is kept


def _check_about(folder: Path, about: dict[str, Any]) -> None:
    path = folder / ABOUT
    if not path.exists():
        replace_file(path, lambda beside: beside.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8"))
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError("it holds no object")
    except (ValueError, RecursionError) as error:
        raise EmbeddingError(f"`output` {folder}: {ABOUT} is damaged ({error!s:.200}); take another folder.") from error
    # The fingerprint tells models apart; a folder may have moved.
    different = [name for name in about if name != "model" and before.get(name) != about[name]]
    if different:
        raise EmbeddingError(
            f"`output` {folder}: its vectors were made with another {' and '.join(different)}; take another folder."
        )


def _finished(folder: Path, retry: bool) -> set[str]:
    """Videos that have their row. With `retry`, rows of errors are dropped."""
    for left in folder.glob("*.new-*"):  # of a run that was killed
        left.unlink()
    done: set[str] = set()
    for path in sorted(folder.glob("part-*.parquet")):
        try:
            names = _read(path, ["video", "error"])
            if retry and names["error"].null_count < len(names):
                replace_file(path, partial(_write_table, _read(path).filter(names["error"].is_null())))
                names = names.filter(names["error"].is_null())
            found = names["video"].to_pylist()
        except (pa.ArrowException, KeyError, ValueError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise EmbeddingError(f"{path}: is damaged ({reason:.200}); delete it, and run again.") from error
        if not all(isinstance(name, str) for name in found):
            raise EmbeddingError(f"{path}: is damaged (a row without a video); delete it, and run again.")
        done.update(found)
    return done


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    # pyarrow gets open files, since it opens none whose path is not UTF-8.
    with path.open("rb") as opened, pq.ParquetFile(opened, page_checksum_verification=True) as file:
        return file.read(columns)


def _write(folder: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    table = pa.Table.from_pylist(rows, schema)
    replace_file(folder / f"part-{uuid.uuid4().hex[:12]}.parquet", partial(_write_table, table))


def _write_table(table: pa.Table, path: Path) -> None:
    with path.open("wb") as file:
        pq.write_table(table, file, write_page_checksum=True)


# From videos to parts of rows


@dataclass(frozen=True)
class _Settings:
    window: float | None
    stride: float | None
    batch_size: int
    class_embeds: torch.Tensor | None


def read_clips(video: str, video_processor: Any, window: float | None, stride: float | None) -> Iterator[dict]:
    """
    The clips of a video, one after the other. The last one says so; it holds the error if there is one.

    Yields:
        `video`, `place` (from 0), `last`, `error` (empty if there is none), `start`, `end` and `pixels`, an array of
        shape `(num_views, num_frames, 3, height, width)`.
    """
    waiting: dict[str, Any] | None = None
    name = storable(video)
    place, error, shape = 0, "", None
    try:
        for start, end, pixels in _clips(video, video_processor, window, stride):
            if waiting is not None:
                yield waiting
            shape = pixels.shape
            waiting = {"video": name, "place": place, "last": False, "error": "", "start": start, "end": end}
            waiting["pixels"] = pixels
            place += 1
        if waiting is None:
            error = f"{name}: it has no frames"
    except (VideoDecodingError, OSError, ValueError) as failure:
        error = storable(" ".join(str(failure).split()) or type(failure).__name__)[:2000]
    if waiting is None:
        size, specification = video_processor.crop_size, video_processor.clip_specification
        views = specification.num_spatial_views * (specification.num_views if window is None else 1)
        shape = (views, video_processor.num_frames, 3, size["height"], size["width"])
        waiting = {"video": name, "place": 0, "start": 0.0, "end": 0.0, "pixels": np.zeros(shape, np.float32)}
    yield waiting | {"last": True, "error": error}


def _clips(video: str, video_processor: Any, window: float | None, stride: float | None) -> Iterator[tuple]:
    if window is None:
        pixels, metadata = VideoReader(video_processor).read(video)
        yield 0.0, metadata.duration or 0.0, pixels.numpy()
    else:
        for found in read_windows(VideoReader(video_processor), video, window, stride or window):
            if found.pixels is not None:
                yield found.start, found.end, found.pixels.numpy()


@torch.no_grad()
def embed_clips(model: Any, pixels: np.ndarray, class_embeds: torch.Tensor | None) -> dict[str, np.ndarray]:
    """Vectors of clips `(num_clips, num_views, num_frames, 3, height, width)`, and their scores for labels."""
    views = pixels.shape[1]
    embeds = embed_views(model, torch.from_numpy(np.ascontiguousarray(pixels))).float()
    vectors = torch.nn.functional.normalize(embeds.unflatten(0, (-1, views)).mean(1), dim=-1)
    found = {"vector": vectors.cpu().numpy()}
    if class_embeds is not None:
        logits = embeds @ class_embeds.to(embeds).T * model.logit_scale.float().exp()
        found["scores"] = view_scores(logits, views).cpu().numpy()
    return found


def _local(videos: list[str], checkpoint: Checkpoint, settings: _Settings, workers: int | None) -> Iterator[dict]:
    """In this process. Whole videos are read ahead in threads; windows are read one by one, since a film has many."""
    read = partial(
        read_clips,
        video_processor=checkpoint.processor.video_processor,
        window=settings.window,
        stride=settings.stride,
    )
    if settings.window is None:
        threads = workers or reading_threads(checkpoint.model.device)
        ahead = read_ahead(videos, lambda video: list(read(video)), threads, settings.batch_size + threads)
        clips: Iterator[dict] = (clip for future in ahead for clip in future.result())
    else:
        clips = (clip for video in videos for clip in read(video))
    batch: list[dict] = []

    def embedded() -> Iterator[dict]:
        found = embed_clips(checkpoint.model, np.stack([clip.pop("pixels") for clip in batch]), settings.class_embeds)
        for number, clip in enumerate(batch):
            yield clip | {name: values[number] for name, values in found.items()}

    for clip in clips:
        batch.append(clip)
        if len(batch) == settings.batch_size:
            yield from embedded()
            batch = []
    if batch:
        yield from embedded()


class _ModelActor:
    """The model in an actor of Ray."""

    def __init__(self, name: str, revision: str | None, settings: _Settings, device: str, dtype: torch.dtype):
        self._model = load_checkpoint(name, revision, device=device, dtype=dtype).model
        self._class_embeds = settings.class_embeds

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pixels = batch.pop("pixels")
        return batch | embed_clips(self._model, pixels, self._class_embeds)


def _with_ray(
    videos: list[str], checkpoint: Checkpoint, settings: _Settings, workers: int | None, num_model_actors: int
) -> Iterator[dict]:
    """Decoding in tasks, the model in actors. Ray runs again what a killed process was working on."""
    import ray

    if not videos:
        return
    if not ray.is_initialized():
        cores = (workers or 1) + num_model_actors
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, num_cpus=cores)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A process that dies again and again takes its block with it; the videos of that block get an error.
    context.max_errored_blocks = -1
    gpus = int(ray.cluster_resources().get("GPU", 0) > 0)
    processor, window, stride = checkpoint.processor.video_processor, settings.window, settings.stride

    def read(row: dict[str, Any]) -> Iterator[dict]:
        torch.set_num_threads(1)
        return read_clips(os.fsdecode(row["item"]), processor, window, stride)

    name = str(Path(checkpoint.name).resolve()) if Path(checkpoint.name).is_dir() else checkpoint.name
    model = (name, checkpoint.revision, settings, "cuda" if gpus else "cpu", checkpoint.model.dtype)
    blocks = min(len(videos), max(len(videos) // 16, 4 * (workers or 1)))  # a block is what is done again
    tasks: dict[str, Any] = {} if workers is None else {"concurrency": workers}
    items = [os.fsencode(video) for video in videos]  # Arrow has no names that are not UTF-8
    clips = ray.data.from_items(items, override_num_blocks=blocks).flat_map(read, **tasks)
    embedded = clips.map_batches(
        _ModelActor,
        fn_constructor_args=model,
        batch_size=settings.batch_size,
        concurrency=num_model_actors,
        num_cpus=0 if gpus else 1,
        num_gpus=gpus,
    )
    yield from embedded.iter_rows()


def _joined(parts: Iterable[dict], videos: list[str], labels: list[str] | None) -> Iterator[dict[str, Any]]:
    """One row a video, as soon as all of its parts are there. Videos whose parts never came are rows with an error."""
    waiting: dict[str, dict[int, dict]] = {}
    finished: set[str] = set()
    for part in parts:
        video = part["video"]
        if video in finished:
            continue
        found = waiting.setdefault(video, {})
        found[int(part["place"])] = part
        last = [place for place, other in found.items() if other["last"]]
        if last and len(found) == last[0] + 1:
            finished.add(video)
            del waiting[video]
            yield _row(video, [found[place] for place in sorted(found)], labels)
    for video in map(storable, videos):
        if video not in finished:
            yield {"video": video, "error": f"{video}: the process that read it was lost, each time it was tried"}


def _row(video: str, parts: list[dict], labels: list[str] | None) -> dict[str, Any]:
    """The row of a video; a column that the file does not have is left out when it is written."""
    error = parts[-1]["error"]
    if error:
        return {"video": video, "error": error}
    vectors = [np.asarray(part["vector"], np.float32) for part in parts]
    if not all(np.isfinite(part.get(name, 0.0)).all() for part in parts for name in ("vector", "scores")):
        return {"video": video, "error": f"{video}: vector or scores are NaN or infinite; the model is damaged"}
    row: dict[str, Any] = {"video": video, "error": None, "vector": vectors[0], "vectors": vectors}
    row |= {"starts": [float(part["start"]) for part in parts], "ends": [float(part["end"]) for part in parts]}
    if labels is not None:
        scores = np.mean([part["scores"] for part in parts], axis=0)
        row |= {"label": labels[int(scores.argmax())], "score": float(scores.max()), "scores": scores}
    return row


__all__ = ["EmbeddingError", "EmbeddingReport", "embed_videos", "read_embeddings", "schema_of"]
