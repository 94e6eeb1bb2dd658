"""`vitaclip timeline`: what happens when in a long video."""

import csv
import sys
import time
from collections.abc import Iterator
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
    from ..library.timeline_files import WRITERS, write_timeline

    for path in output or ():
        check_ending("output", path, *WRITERS)
        if path.suffix.lower() in (".otio", ".edl"):
            import opentimelineio

            if path.suffix.lower()[1:] not in opentimelineio.adapters.suffixes_with_defined_adapters(write=True):
                raise ValueError(f"`output` {path}: needs an adapter: pip install 'vitaclip_hf[timeline]'.")
    texts = read_labels(labels, labels_file, template)
    if overlap and any(path.suffix.lower() == ".edl" for path in output or ()):
        raise ValueError("an EDL holds one event after another; leave out `overlap`, or write an .otio file.")
    from tqdm import tqdm

    from ..library.moments import clock
    from ..library.timeline import Thumbnails, VideoTimeline
    from ..model.sources import VideoDecodingError

    started = time.perf_counter()
    checkpoint = loaded_checkpoint(model, device, dtype)
    settings: dict[str, Any] = {"high": high, "low": low, "min_length": min_length, "min_cosine": min_cosine}
    settings |= {"window": window, "stride": stride, "batch_size": batch_size, "max_seconds": max_seconds}
    searched = VideoTimeline(checkpoint.encoder(), texts, template or "{}", on_damage=on_damage, **settings)
    opened = searched.reader.open(video)
    thumbnails = Thumbnails()
    drawn_cells: list[Any] = []
    segments: list[Any] = []
    highest: list[float] = []  # score and cosine of a window
    errors: list[str] = []
    drawn = any(path.suffix.lower() in PICTURES for path in output or ())

    def windows(bar: Any, table: Any) -> Iterator[Any]:
        """The windows up to an error of the file."""
        try:
            for window in searched.scores(opened, thumbnails=drawn):
                best = float(window.scores.max()), float(window.cosines.max())
                highest[:] = map(max, best, highest or best)
                if table is not None:
                    times = (f"{window.start:.3f}", f"{window.end:.3f}")
                    table.writerow((*times, *(f"{score:.6f}" for score in window.scores)))
                bar.n = round(window.end)
                bar.refresh()
                yield window
                bar.clear()
        except VideoDecodingError as error:
            errors.append(str(error))

    def cells(windows: Iterator[Any]) -> Iterator[Any]:
        for cell in searched.cells(windows):
            if cell.thumbnail is not None:
                thumbnails.add((cell.start + cell.end) / 2, cell.thumbnail)
                drawn_cells.append(replace(cell, frames=[], times=[], thumbnail=None))
            yield cell

    with ExitStack() as stack:
        table = None
        if scores is not None:
            table = csv.writer(stack.enter_context(scores.open("w", encoding="utf-8", newline="")), lineterminator="\n")
            table.writerow(("start", "end", *map(csv_text, searched.labels)))
        length = opened.metadata.duration and round(opened.metadata.duration)
        bar = stack.enter_context(tqdm(total=length, unit="s", leave=False, disable=None))
        found = cells(windows(bar, table))
        for segment in searched.merge(found) if overlap else searched.separate(found, opened):
            segments.append(segment)
            times = f"{clock(segment.start)}  {clock(segment.end)}"
            print(f"{times}  {segment.score:6.1%}  {shown(segment.label)}", flush=True)
    for error in errors:
        print(f"vitaclip timeline: {error}", file=sys.stderr)
    for path in output or ():
        if path.suffix.lower() not in PICTURES:
            about = opened.metadata
            end = about.duration and about.start + about.duration
            write_timeline(path, segments, video, about.fps, about.timecode, end)
        elif drawn_cells:  # none of a video that is damaged at its beginning
            from ..library.timeline_picture import draw_timeline

            figure = draw_timeline(segments, searched.labels, drawn_cells, thumbnails, Path(video).name)
            replace_file(path, figure.savefig)
    if clips is not None:
        report_clips(clips, [(video, one.start, one.end, one.label) for one in segments], searched.reader.options)
    if highest and not segments:
        score, cosine = highest
        hint = f"the highest score of a window is {score:.2g}, the highest cosine {cosine:.2g}; a segment needs --high"
        hint += f" {high:g} and --low {low:g}" + f" and --min-cosine {min_cosine:g}" * (min_cosine > -1)
        print(f"vitaclip timeline: {hint}", file=sys.stderr)
    if len(searched.labels) == 1 and checkpoint.encoder().activation != "sigmoid" and min_cosine == -1:
        print("vitaclip timeline: a single label always scores 100%; see --min-cosine", file=sys.stderr)
    counts = ((len(segments), "segment"), (len(searched.labels), "label"))
    print_summary(", ".join(f"{n} {noun}{'s' * (n != 1)}" for n, noun in counts), started, checkpoint)
    return 1 if errors else 0


def report_clips(folder: Path, moments: list[tuple[str, float, float, str]], options: Any = None) -> None:
    """Cuts the moments out, and says which were copied."""
    from ..library.clips import write_clips

    for path, how in write_clips(folder, moments, options):
        print(f"vitaclip: {shown(str(path))} {how}", file=sys.stderr)
