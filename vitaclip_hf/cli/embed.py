"""`vitaclip embed`: vectors of many videos, in Parquet files."""

import sys
import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from .classify import loaded_checkpoint, read_labels
from .errors import CommandError, needs_extra
from .video_files import find_videos


class Engine(str, Enum):
    local = "local"
    ray = "ray"


def embed(
    videos: Annotated[
        list[str], typer.Argument(metavar="VIDEOS", help="Files, folders (with their subfolders), globs and URLs.")
    ],
    model: Annotated[str, typer.Option(metavar="MODEL", help="Folder or Hub id of a Vita-CLIP checkpoint.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the Parquet files; a run goes on there.")],
    labels: Annotated[
        list[str] | None,
        typer.Option(metavar="'A,B,...'", help="Labels to score too, separated by commas. Repeatable."),
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels to score too, one a line; they may hold commas.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="'TEXT {}'", help="Sentence with {} for the label. Repeatable: several are averaged."),
    ] = None,
    window: Annotated[
        float | None, typer.Option(metavar="S", help="A vector for each S seconds. Default: one of the whole video.")
    ] = None,
    stride: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds from one window to the next. Default: the window.")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="This process, or Ray.")] = Engine.local,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Clips of a forward pass.")] = 8,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Videos read at a time. Default: by the free cores.")
    ] = None,
    num_model_actors: Annotated[int, typer.Option(min=1, metavar="N", help="Models at a time, with Ray.")] = 1,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Device of --engine local. Default: a GPU, if any.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Read files again that could not be read before.")] = False,
) -> int:
    """Write the vectors of many videos, one row a video.

    A video that has its row is not read again, so a run that was stopped goes on. A video that cannot be read is a row
    with its error.

    Exit code: 0, 1 if some videos could not be read (each named), 2 if nothing could start.
    """
    with needs_extra("ray" if engine is Engine.ray else "embed"):
        from ..library.embedding import embed_videos

        if engine is Engine.ray:
            import ray.data  # noqa: F401

    import torch
    from tqdm import tqdm

    started = time.perf_counter()
    candidates = read_labels(labels, labels_file)
    given = find_videos(videos)
    missing = [video.error for video in given if video.error]
    if len(missing) == len(given):
        raise CommandError(f"{missing[0]}.")
    for error in missing:
        print(f"vitaclip embed: {error}", file=sys.stderr)
    checkpoint = loaded_checkpoint(model, "cpu" if engine is Engine.ray else device)
    names = [video.name for video in given if not video.error]
    with tqdm(total=len(names), unit="video", leave=False, disable=None) as bar:

        def show(row: dict[str, Any]) -> None:
            bar.update()
            if row["error"] is not None:
                bar.clear()
                print(f"vitaclip embed: {row['error']}", file=sys.stderr)

        try:
            report = embed_videos(
                names,
                output,
                checkpoint,
                window=window,
                stride=stride,
                labels=candidates,
                templates=template or ["{}"],
                engine=engine.value,
                batch_size=batch_size,
                workers=workers,
                num_model_actors=num_model_actors,
                retry=retry,
                on_video=show,
            )
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise CommandError("out of memory; lower `batch_size`.") from error
        except (ValueError, OSError) as error:
            raise CommandError(str(error).replace("`templates`", "`template`")) from error
    errors = f" ({report.failed} of them failed)" if report.failed else ""
    print(f"{report.new} new{errors}, {report.unchanged} unchanged")
    print(f"{output}, {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return 1 if report.failed or missing else 0
