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

from ..data.output_files import csv_text, replace_file
from ..model.shown_names import shown
from . import options
from .inputs import PICTURES, check_ending, read_labels
from .libraries import loaded_checkpoint, print_summary


def timeline(
    video: options.OneVideo,
    model: options.AnyModel = None,
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    template: options.Template = None,
    window: options.Window = 4.0,
    stride: options.Stride = 2.0,
    high: Annotated[float, typer.Option(metavar="X", help="A segment needs this score somewhere (0 to 1).")] = 0.4,
    low: Annotated[float, typer.Option(metavar="X", help="A segment goes on while its score is at least this.")] = 0.2,
    min_length: Annotated[float, typer.Option(min=0, metavar="S", help="Shortest segment in seconds.")] = 0.0,
    min_cosine: options.MinCosine = -1.0,
    overlap: Annotated[bool, typer.Option("--overlap", help="Segments of different labels may overlap.")] = False,
    batch_size: options.BatchSize = 8,
    max_seconds: options.MaxSeconds = None,
    on_damage: options.OnDamage = None,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    output: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="File to write: .json, .csv, .vtt, .srt, .html (a page with a player), .otio, .edl, or a picture "
            ".png, .pdf, .svg. Repeatable.",
        ),
    ] = None,
    clips: options.Clips = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Scores of every window and label, as they are made.")
    ] = None,
) -> int:
    """Label the segments of a long video.

    The video is read in windows that overlap, and again where one label follows another. Segments go to stdout as soon
    as they are known (start, end, score, label), progress and errors to stderr. Each --output is one file; its ending
    names the format.

    Exit code: 0, 1 if the video could not be read to its end (segments up to there are written), 2 if nothing could
    start.
    """
    from ..library.timeline_files import WRITERS

    for path in output or ():
        check_ending("output", path, *WRITERS)
        if path.suffix.lower() in (".otio", ".edl"):
            import opentimelineio

            if path.suffix.lower()[1:] not in opentimelineio.adapters.suffixes_with_defined_adapters(write=True):
                raise ValueError(f"`output` {path}: needs an adapter: pip install 'vitaclip_hf[timeline]'.")
    texts = read_labels(labels, labels_file, template)
    if overlap and any(path.suffix.lower() == ".edl" for path in output or ()):
        raise ValueError("an EDL holds one event after another; leave out `overlap`, or write an .otio file.")
    from ..library.moments import clock
    from ..library.timeline import Thumbnails, VideoTimeline

    started = time.perf_counter()
    checkpoint = loaded_checkpoint(model, device, dtype)
    settings: dict[str, Any] = {"high": high, "low": low, "min_length": min_length, "min_cosine": min_cosine}
    settings |= {"window": window, "stride": stride, "batch_size": batch_size, "max_seconds": max_seconds}
    searched = VideoTimeline(checkpoint.encoder(), texts, template or "{}", on_damage=on_damage, **settings)
    opened = searched.reader.open(video)
    thumbnails = Thumbnails()
    drawn_cells: list[Any] = []
    segments: list[Any] = []
    errors: list[str] = []
    highest: list[tuple[float, float]] = []
    drawn = any(path.suffix.lower() in PICTURES for path in output or ())
    with ExitStack() as stack:
        windows = while_readable(searched.scores(opened, thumbnails=drawn), errors, highest)
        windows = with_progress(windows, opened.metadata.duration)
        if scores is not None:
            file = stack.enter_context(scores.open("w", encoding="utf-8", newline=""))
            windows = written(windows, searched.labels, file)
        cells = searched.cells(windows)
        if drawn:
            cells = remembered(cells, drawn_cells, thumbnails)
        for segment in searched.merge(cells) if overlap else searched.separate(cells, opened):
            segments.append(segment)
            times = f"{clock(segment.start)}  {clock(segment.end)}"
            print(f"{times}  {segment.score:6.1%}  {shown(segment.label)}", flush=True)
    for path in output or ():
        write(path, segments, video, opened.metadata, searched.labels, drawn_cells, thumbnails)
    if clips is not None:
        reading = replace(searched.reader.options, max_seconds=None)
        report_clips(clips, [(video, one.start, one.end, one.label) for one in segments], reading)
    if highest and not segments:
        score, cosine = map(max, zip(*highest, strict=True))
        hint = f"the highest score of a window is {score:.2g}, the highest cosine {cosine:.2g}; a segment needs --high"
        hint += f" {high:g} and --low {low:g}" + f" and --min-cosine {min_cosine:g}" * (min_cosine > -1)
        print(f"vitaclip timeline: {hint}", file=sys.stderr)
    for error in errors:
        print(f"vitaclip timeline: {error}", file=sys.stderr)
    counts = f"{len(segments)} segment{'s' * (len(segments) != 1)}, {len(searched.labels)} labels"
    print_summary(counts, started, checkpoint)
    return 1 if errors else 0


def while_readable(windows: Iterable[Any], errors: list[str], highest: list[tuple[float, float]]) -> Iterator[Any]:
    """Windows up to an error of the file, which goes to `errors`; highest score and cosine of each go to `highest`."""
    from ..model.sources import VideoDecodingError

    try:
        for window in windows:
            highest.append((float(window.scores.max()), float(window.cosines.max())))
            yield window
    except VideoDecodingError as error:
        errors.append(str(error))


def with_progress(windows: Iterable[Any], duration: float | None) -> Iterator[Any]:
    """The windows, with the seconds of the video on stderr."""
    from tqdm import tqdm

    with tqdm(total=duration and round(duration), unit="s", leave=False, disable=None) as bar:
        for window in windows:
            bar.n = round(window.end)
            bar.refresh()
            yield window
            bar.clear()


def written(windows: Iterable[Any], labels: tuple[str, ...], file: Any) -> Iterator[Any]:
    """The windows, whose scores are written to a CSV file on the way."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("start", "end", *map(csv_text, labels)))
    for window in windows:
        writer.writerow((f"{window.start:.3f}", f"{window.end:.3f}", *(f"{score:.6f}" for score in window.scores)))
        yield window


def remembered(cells: Iterable[Any], drawn: list[Any], thumbnails: Any) -> Iterator[Any]:
    """The cells, whose scores and thumbnails are remembered for the picture on the way."""
    for cell in cells:
        thumbnails.add((cell.start + cell.end) / 2, cell.thumbnail)
        drawn.append(replace(cell, frames=[], times=[], thumbnail=None))
        yield cell


def report_clips(folder: Path, moments: list[tuple[str, float, float, str]], options: Any = None) -> None:
    """Cuts the moments out, and says which were copied."""
    from ..library.clips import write_clips

    for path, how in write_clips(folder, moments, options):
        print(f"vitaclip: {shown(str(path))} {how}", file=sys.stderr)


def write(
    path: Path, segments: list[Any], video: str, metadata: Any, labels: tuple[str, ...], cells: Any, thumbnails: Any
) -> None:
    from ..library.timeline_files import write_timeline

    if path.suffix.lower() not in PICTURES:
        write_timeline(path, segments, video, metadata.fps, metadata.timecode)
        return
    from ..library.timeline_picture import draw_timeline

    replace_file(path, draw_timeline(segments, labels, cells, thumbnails, Path(video).name).savefig)
