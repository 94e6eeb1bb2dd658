"""`vitaclip classify`: what videos show, by labels of your own or by the classes of a checkpoint."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ..data.output_files import replace_file
from ..model.shown_names import shown
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
    NumViews,
    Template,
    TopK,
    Videos,
)
from .result_formats import WRITERS, Format
from .video_files import GivenVideo, find_videos


ENDINGS = {".json": Format.json, ".jsonl": Format.jsonl, ".csv": Format.csv, ".txt": Format.table}


def classify(
    videos: Videos,
    model: Model,
    labels: Labels = None,
    labels_file: LabelsFile = None,
    template: Template = None,
    num_views: NumViews = 1,
    batch_size: BatchSize = 8,
    device: Device = None,
    dtype: Dtype = NumberType.auto,
    top_k: TopK = 3,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, metavar="X", help="A label whose score is lower is no answer (0 to 1).")
    ] = 0.0,
    min_cosine: MinCosine = -1.0,
    max_seconds: MaxSeconds = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the frames that were read and the scores (one video; PNG, PDF, SVG)."),
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Output format. Default: by the ending of --output, else table.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write instead of stdout.")] = None,
) -> int:
    """Say what videos show.

    With labels, the videos are scored against these labels (zero-shot). Without, against the classes that the
    checkpoint was trained on. Scores of a video sum to 1 over all labels: they say nothing about "none of these". The
    cosine of a label does not depend on the others.

    Results go to stdout, progress and errors to stderr. Exit code: 0, 1 if some videos could not be read, 2 if nothing
    could start.
    """
    candidates = read_labels(labels, labels_file)
    chosen = choose_format(format, output)
    given = find_videos(videos)
    missing = [video.error for video in given if video.error]
    # `--labels a b` makes a video of "b".
    hint = "; several labels are separated by commas" if labels and missing else ""
    if len(missing) == len(given):
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CommandError(f"{missing[0]}{more}{hint}.")
    started = time.perf_counter()
    if candidates is None and template:
        raise CommandError("`template` is for `labels`; the classes of a checkpoint need none.")
    if picture is not None:
        check_picture(picture, given)
    classifier = loaded_checkpoint(model, device, dtype).classifier()
    scoring: dict[str, Any] = {"labels": candidates, "templates": template or "{}"}
    with reported(ValueError):
        number = len(classifier.scorer(**scoring).labels)
    settings: dict[str, Any] = {
        "num_views": num_views,
        "max_seconds": max_seconds,
        "min_score": min_score,
        "min_cosine": min_cosine,
    }
    settings |= {"candidate_labels": candidates, "hypothesis_template": template, "batch_size": batch_size}
    with ExitStack() as stack:
        if output is None:
            file = sys.stdout
        else:
            with reported(OSError):
                file = stack.enter_context(output.open("w", encoding="utf-8", errors="backslashreplace", newline=""))
        failed: list[str] = []
        with reported(OSError):
            rows = classified(classifier, given, settings | {"top_k": top_k}, failed, picture)
            WRITERS[chosen](rows, file)
    seconds = time.perf_counter() - started
    counted = (len(given), "video"), (number, "label")
    counts = ", ".join(f"{number} {noun}{'s' * (number != 1)}" for number, noun in counted)
    place = f"{dtype_of(classifier.model)} on {classifier.model.device}"
    print(f"{counts}, {seconds:.1f} s in {place}", file=sys.stderr)
    if failed:
        print(f"vitaclip classify: {len(failed)} of {len(given)} videos could not be read{hint}", file=sys.stderr)
    return 1 if failed else 0


def read_labels(labels: list[str] | None, file: Path | None) -> Any:
    """The labels of both options, texts by label of a JSON file, or None if neither option is given."""
    from ..data.class_descriptions import read_class_descriptions
    from ..data.class_names import AnnotationError, read_text

    if labels is None and file is None:
        return None
    if file is not None and file.suffix.lower() == ".json":
        if labels is not None:
            raise CommandError("`labels` and a JSON file of `labels_file` exclude each other.")
        with reported(AnnotationError, OSError):
            found = read_class_descriptions(file)
        if all(name.isdecimal() for name in found):
            raise CommandError(f"{file}: names no labels, only numbers; write the labels in their place.")
        return found
    listed = [label.strip() for part in labels or () for label in part.split(",")]
    if file is not None:
        with reported(AnnotationError, OSError):
            listed += [line.strip() for line in read_text(file).splitlines()]
    listed = [label for label in listed if label]
    if not listed:
        raise CommandError("`labels` and `labels_file` hold no label.")
    return listed


def choose_format(format: Format | None, output: Path | None) -> Format:
    """The format as given, else by the ending of the output file."""
    if output is None or format is not None:
        return format or Format.table
    if output.suffix.lower() not in ENDINGS:
        raise CommandError(f"`output` {output}: pass `format` for a file that does not end in {', '.join(ENDINGS)}.")
    return ENDINGS[output.suffix.lower()]


def check_picture(picture: Path, given: list[GivenVideo]) -> None:
    """One picture is for one video, and needs matplotlib."""
    if len(given) != 1:
        raise CommandError(f"`picture` draws one video; got {len(given)}.")
    if picture.suffix.lower() not in PICTURES:
        raise CommandError(f"`picture` {picture}: the name must end in {', '.join(PICTURES)}.")
    with needs_extra("plots"):
        import matplotlib  # noqa: F401


def classified(
    classifier: Any, given: list[GivenVideo], settings: dict[str, Any], failed: list[str], picture: Path | None
) -> Iterator[dict]:
    """The rows of [`result_formats`], one by one; names of videos that could not be read go to `failed`."""
    import torch
    from tqdm import tqdm
    from transformers.utils import logging

    logging.set_verbosity_error()  # the pipeline counts errors too
    names = (video.name for video in given if not video.error)
    answers = classifier(names, on_error="skip", return_details=True, **settings)
    dtype = dtype_of(classifier.model)
    with tqdm(total=len(given), unit="video", leave=False, disable=None) as bar:
        for video in given:
            try:
                answer = {"error": video.error} if video.error else next(answers)
            except (torch.OutOfMemoryError, MemoryError) as error:
                raise CommandError("out of memory; lower `batch_size`.") from error
            bar.clear()
            if "error" in answer:
                reason = answer["error"] if video.name in answer["error"] else f"{video.name}: {answer['error']}"
                failed.append(video.name)
                print(f"vitaclip classify: {shown(reason)}", file=sys.stderr)
                yield {"video": video.name, "error": reason}
            else:
                if picture is not None:
                    from ..library.figure import draw_details

                    options = classifier.encoder.reader(max_seconds=settings["max_seconds"]).options
                    figure = draw_details(video.name, answer, Path(video.name).name, options)
                    with reported(OSError):
                        replace_file(picture, figure.savefig)
                yield {"video": video.name} | answer | {"dtype": dtype}
            bar.update()
