"""`vitaclip index` and `vitaclip embed`: a table of vectors of videos, for `vitaclip search` and for other tools."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import options
from .inputs import find_videos, read_labels
from .libraries import loaded_checkpoint, print_summary


ModelOfVectors = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Folder or Hub id. Default: that of the vectors; of new ones a public CLIP."),
]
Window = Annotated[
    float | None,
    typer.Option(metavar="S", help="A vector for each S seconds. Default: as before, else 4 (embed: the whole video)."),
]
Stride = Annotated[float | None, typer.Option(metavar="S", help="Seconds between windows. Default: the window.")]
Dtype = Annotated[options.DtypeName | None, typer.Option(help="Number type of the model. Default: auto, or as before.")]
Retry = Annotated[bool, typer.Option("--retry", help="Read files again that could not be read before.")]


def index(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of videos, with its subfolders.")],
    model: ModelOfVectors = None,
    place: Annotated[
        str | None, typer.Option("--index", "--output", metavar="DIR", help="Default: .vitaclip-index in DIR.")
    ] = None,
    window: Window = None,
    stride: Stride = None,
    batch_size: options.BatchSize = 8,
    device: options.Device = None,
    dtype: Dtype = None,
    max_seconds: options.MaxSeconds = None,
    on_damage: options.OnDamage = None,
    retry: Retry = False,
) -> int:
    """Make the index of a folder of videos, or bring it up to date.

    New and changed files are read; moved ones keep their vectors; deleted ones are dropped. A run that was stopped goes
    on where it was.

    Exit code: 0, 1 if some videos could not be read (each named), 2 if nothing could start.
    """
    from ..library.store import FOLDER

    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder.")
    run = {"batch_size": batch_size, "retry": retry, "stride": stride, "on_damage": on_damage}
    run["max_seconds"] = max_seconds
    return fill(folder, place or str(folder / FOLDER), model, device, dtype, window, 4.0, **run)


def embed(
    videos: options.Videos,
    output: Annotated[str, typer.Option(metavar="DIR", help="Folder or URI of the vectors; a run goes on there.")],
    model: ModelOfVectors = None,
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    template: options.Template = None,
    window: Window = None,
    stride: Stride = None,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="This process, or Ray.")] = "local",
    batch_size: options.BatchSize = 8,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Videos that a process reads at a time. Default: free cores.")
    ] = None,
    num_model_actors: Annotated[int, typer.Option(min=1, metavar="N", help="Processes of Ray.")] = 1,
    device: options.Device = None,
    dtype: Dtype = None,
    max_seconds: options.MaxSeconds = None,
    on_damage: options.OnDamage = None,
    retry: Retry = False,
) -> int:
    """Write the vectors of many videos.

    A video that is there is not read again unless its file changed, so a run that was stopped goes on. A video that
    cannot be read is a row with its error.

    Exit code: 0, 1 if some videos could not be read (each named), 2 if nothing could start.
    """
    if engine == "ray":
        if device:
            raise ValueError("`device` is for the engine local; each process of Ray takes a GPU if Ray has some.")
        import ray  # noqa: F401

        device = "cpu"
    texts = read_labels(labels, labels_file, template)
    sources = find_videos(videos)
    for error in filter(None, sources.values()):
        print(f"vitaclip embed: {error}", file=sys.stderr)
    run = {"labels": texts, "templates": template, "engine": engine, "batch_size": batch_size, "on_damage": on_damage}
    run |= {"workers": workers, "num_model_actors": num_model_actors, "retry": retry, "stride": stride}
    run["max_seconds"] = max_seconds
    names = [name for name, error in sources.items() if not error]
    return fill(names, output, model, device, dtype, window, None, **run) or int(len(names) < len(sources))


def fill(
    videos: Any,
    place: str,
    model: str | None,
    device: str | None,
    dtype: str | None,
    window: float | None,
    first_window: float | None,
    **run: Any,
) -> int:
    """What both commands do; `first_window` is the default of a new table."""
    from tqdm import tqdm

    from ..library.store import VideoStore

    started = time.perf_counter()
    settings = VideoStore(place).settings
    from ..library.embedding import embed_videos  # later: without lancedb, its name must come before pyarrow's

    if settings is None:
        settings = {"model": model, "dtype": "auto"}
        window = first_window if window is None else window
    revision = None if model else settings.get("revision")
    name, dtype = model or settings["model"], dtype or settings["dtype"]
    checkpoint = loaded_checkpoint(name, device, dtype, embeds=True, revision=revision)
    with tqdm(unit="video", leave=False, disable=None) as bar:

        def show(row: dict[str, Any]) -> None:
            bar.update()
            if row["error"] is not None:
                bar.clear()
                print(f"vitaclip: {row['error']}", file=sys.stderr)

        report = embed_videos(videos, place, checkpoint, window=window, on_video=show, **run)
    names = ("new", "unchanged", "moved", "deleted", "failed", "windows")
    counts = ", ".join(f"{report[name]} {name}" for name in names if report[name] or name in ("new", "unchanged"))
    print(counts.removesuffix("s") if report["windows"] == 1 else counts)
    print_summary(place, started, checkpoint)
    return int(report["failed"] > 0)
