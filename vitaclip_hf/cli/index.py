"""`vitaclip index`: the index of a folder of videos, for `vitaclip search`."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import CommandError, needs_extra, reported
from .libraries import dtype_of, loaded_checkpoint
from .options import BatchSize, Device, MaxSeconds, Model, NumberType


def index(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of videos, with its subfolders.")],
    model: Model,
    place: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", help="Folder of the index. Default: .vitaclip-index within DIR."),
    ] = None,
    window: Annotated[
        float | None, typer.Option(metavar="S", help="Length of a window in seconds. Default: 4, or as before.")
    ] = None,
    stride: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds from one window to the next. Default: the window.")
    ] = None,
    batch_size: BatchSize = 8,
    device: Device = None,
    dtype: Annotated[
        NumberType | None, typer.Option(help="Number type of the model. Default: auto, or as before.")
    ] = None,
    max_seconds: MaxSeconds = None,
    retry: Annotated[bool, typer.Option("--retry", help="Read files again that could not be read before.")] = False,
) -> int:
    """Make the index of a folder of videos, or bring it up to date.

    New and changed files are read; moved ones keep their vectors; deleted ones are dropped. A run that was stopped goes
    on where it was.

    Exit code: 0, 1 if some videos could not be read (each named), 2 if nothing could start.
    """
    with needs_extra("search"):
        from ..library.video_index import IndexedFile, VideoIndex

    import torch
    from tqdm import tqdm

    started = time.perf_counter()
    if not folder.is_dir():
        raise CommandError(f"{folder}: no such folder.")
    kept = VideoIndex(folder, place)
    with reported(ValueError, OSError):
        about = kept.about
    if dtype is None:
        dtype = NumberType.auto if about is None else number_type_of(about)
    checkpoint = loaded_checkpoint(model, device, dtype)
    with tqdm(unit="video", leave=False, disable=None) as bar:

        def show(file: IndexedFile) -> None:
            bar.update()
            if file.error is not None:
                bar.clear()
                print(f"vitaclip index: {file.error}", file=sys.stderr)

        try:
            with reported(ValueError, OSError):
                report = kept.update(
                    checkpoint,
                    window=window,
                    stride=stride,
                    batch_size=batch_size,
                    retry=retry,
                    on_file=show,
                    max_seconds=max_seconds,
                )
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise CommandError("out of memory; lower `batch_size`.") from error
    counts = {name: value for name, value in vars(report).items() if value or name in ("new", "unchanged")}
    print(", ".join(f"{value} {name}" for name, value in counts.items()))
    place_and_type = f"{dtype_of(checkpoint.model)} on {checkpoint.model.device}"
    print(f"{kept.place}, {time.perf_counter() - started:.1f} s in {place_and_type}", file=sys.stderr)
    return 1 if report.failed else 0


def number_type_of(about: dict[str, Any]) -> NumberType | None:
    """Of the vectors of an index; `None`, that of the checkpoint, for an index that does not say it."""
    return NumberType(about["dtype"]) if about.get("dtype") in [kind.value for kind in NumberType] else None
