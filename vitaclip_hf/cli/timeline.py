"""`vitaclip timeline`: what happens when in a long video."""

import csv
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..data.output_files import replace_file
from ..model.shown_names import shown
from .classify import read_labels
from .errors import CommandError, needs_extra, reported
from .libraries import dtype_of, loaded_checkpoint
from .options import (
    PICTURES,
    BatchSize,
    Device,
    Dtype,
    Labels,
    LabelsFile,
    MaxSeconds,
    MinCosine,
    Model,
    NumberType,
    OneVideo,
    Stride,
    Template,
    Window,
)


def timeline(
    video: OneVideo,
    model: Model,
    labels: Labels = None,
    labels_file: LabelsFile = None,
    template: Template = None,
    window: Window = 4.0,
    stride: Stride = 2.0,
    high: Annotated[float, typer.Option(metavar="X", help="A segment needs this score somewhere (0 to 1).")] = 0.4,
    low: Annotated[float, typer.Option(metavar="X", help="A segment goes on while its score is at least this.")] = 0.2,
    min_length: Annotated[float, typer.Option(min=0, metavar="S", help="Shortest segment in seconds.")] = 0.0,
    min_cosine: MinCosine = -1.0,
    batch_size: BatchSize = 8,
    max_seconds: MaxSeconds = None,
    device: Device = None,
    dtype: Dtype = NumberType.auto,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="File to write: .json, .csv, .vtt, .srt, .otio, .edl, or a picture .png, .pdf, .svg. Repeatable.",
        ),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Scores of every window and label, as they are made.")
    ] = None,
) -> int:
    """Say what happens when in a long video.

    The video is read once, in windows that overlap. Segments go to stdout as soon as they are over (start, end, score,
    label), progress and errors to stderr. Each --output is one file; its ending names the format.

    Exit code: 0, 1 if the video could not be read to its end (segments up to there are written), 2 if nothing could
    start.
    """
    from ..library.timeline import Thumbnails, VideoTimeline
    from ..model.decoding import VideoDecodingError

    outputs = check_outputs(output or [])
    candidates = read_labels(labels, labels_file)
    started = time.perf_counter()
    checkpoint = loaded_checkpoint(model, device, dtype)
    settings: dict[str, Any] = {"high": high, "low": low, "min_length": min_length, "min_cosine": min_cosine}
    settings |= {"window": window, "stride": stride, "batch_size": batch_size, "max_seconds": max_seconds}
    with reported(ValueError):
        searched = VideoTimeline(checkpoint.encoder(), candidates, template or ["{}"], **settings)
    with reported(VideoDecodingError, OSError):
        opened = searched.reader.open(video)
    metadata = opened.metadata
    drawn_cells: list[Any] = []
    thumbnails = Thumbnails()
    drawn = any(path.suffix.lower() in PICTURES for path in outputs)
    segments: list[Any] = []
    errors: list[str] = []
    with ExitStack() as stack:
        windows = while_readable(searched.scores(opened, thumbnails=drawn), errors)
        windows = stack.enter_context(progress(windows, metadata.duration))
        if scores is not None:
            with reported(OSError):
                file = stack.enter_context(scores.open("w", encoding="utf-8", newline=""))
            windows = written(windows, searched.labels, file)
        cells = searched.cells(windows)
        if drawn:
            cells = remembered(cells, drawn_cells, thumbnails)
        for segment in searched.merge(cells):
            segments.append(segment)
            times = f"{clock(segment.start)}  {clock(segment.end)}"
            print(f"{times}  {segment.score:6.1%}  {shown(segment.label)}", flush=True)
    for path in outputs:
        with reported(OSError):
            write(path, segments, video, metadata.fps, searched.labels, drawn_cells, thumbnails)
    for failure in errors:
        print(f"vitaclip timeline: {failure}", file=sys.stderr)
    seconds = time.perf_counter() - started
    found = f"{len(segments)} segments, {len(searched.labels)} labels"
    print(f"{found}, {seconds:.1f} s in {dtype_of(checkpoint.model)} on {checkpoint.model.device}", file=sys.stderr)
    return 1 if errors else 0


def check_outputs(outputs: list[Path]) -> list[Path]:
    """All formats are known and their packages are there, before anything is read."""
    from ..library.timeline_files import WRITERS

    for path in outputs:
        ending = path.suffix.lower()
        if ending not in (*WRITERS, *PICTURES):
            raise CommandError(f"`output` {path}: the name must end in {', '.join((*WRITERS, *PICTURES))}.")
        if ending in PICTURES:
            with needs_extra("plots"):
                import matplotlib  # noqa: F401
        if ending in (".otio", ".edl"):
            with needs_extra("timeline"):
                import opentimelineio

            if ending == ".edl" and "edl" not in opentimelineio.adapters.suffixes_with_defined_adapters(write=True):
                raise CommandError("`output`: EDL needs its adapter: pip install 'vitaclip_hf[timeline]'.")
    return outputs


def while_readable(windows: Iterable[Any], errors: list[str]) -> Iterator[Any]:
    """Windows up to an error of the file, which goes to `errors`: what was seen is not lost."""
    import torch

    from ..model.decoding import VideoDecodingError

    try:
        yield from windows
    except VideoDecodingError as error:
        errors.append(str(error))
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise CommandError("out of memory; lower `batch_size`.") from error


class progress:
    """Seconds of the video on stderr."""

    def __init__(self, windows: Iterable[Any], duration: float | None):
        self._windows, self._duration = windows, duration

    def __enter__(self) -> Iterator[Any]:
        from tqdm import tqdm

        total = None if self._duration is None else round(self._duration)
        self._bar = tqdm(total=total, unit="s", leave=False, disable=None)
        return self._shown()

    def _shown(self) -> Iterator[Any]:
        for window in self._windows:
            self._bar.n = round(window.end)
            self._bar.refresh()
            yield window
            self._bar.clear()

    def __exit__(self, *_: Any) -> None:
        self._bar.close()


def written(windows: Iterable[Any], labels: tuple[str, ...], file: Any) -> Iterator[Any]:
    """The windows, whose scores are written to a CSV file on the way."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("start", "end", *labels))
    for window in windows:
        writer.writerow((f"{window.start:.3f}", f"{window.end:.3f}", *(f"{score:.6f}" for score in window.scores)))
        yield window


def remembered(cells: Iterable[Any], drawn: list[Any], thumbnails: Any) -> Iterator[Any]:
    """The cells, whose scores and thumbnails are remembered for the picture on the way."""
    for cell in cells:
        thumbnails.add((cell.start + cell.end) / 2, cell.thumbnail)
        drawn.append(replace(cell, frames=[], times=[], thumbnail=None))
        yield cell


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 10), 600)
    return f"{minutes // 60:d}:{minutes % 60:02d}:{rest // 10:02d}.{rest % 10:d}"


def write(
    path: Path, segments: list[Any], video: str, fps: Any, labels: tuple[str, ...], cells: Any, thumbnails: Any
) -> None:
    from ..library.timeline_files import write_timeline

    if path.suffix.lower() not in PICTURES:
        write_timeline(path, segments, video, fps)
        return
    from ..library.timeline_picture import draw_timeline

    replace_file(path, draw_timeline(segments, labels, cells, thumbnails, Path(video).name).savefig)
