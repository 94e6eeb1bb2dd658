"""`vitaclip classify`: what videos show, by labels of your own or by the classes of a checkpoint."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import CommandError, reported
from .result_formats import WRITERS, Format
from .video_files import GivenVideo, find_videos


ENDINGS = {".json": Format.json, ".jsonl": Format.jsonl, ".csv": Format.csv, ".txt": Format.table}


def classify(
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEOS", help="Files, folders (with their subfolders), globs and URLs."),
    ],
    model: Annotated[str, typer.Option(metavar="MODEL", help="Folder or Hub id of a Vita-CLIP checkpoint.")],
    labels: Annotated[
        list[str] | None,
        typer.Option(metavar="'A,B,...'", help="Labels to choose from, separated by commas. Repeatable."),
    ] = None,
    labels_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labels to choose from, one a line; they may hold commas."),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="'TEXT {}'", help="Sentence with {} for the label. Repeatable: several are averaged."),
    ] = None,
    views: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Clips of each video; their scores are averaged."),
    ] = 1,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Videos of a forward pass.")] = 8,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Device, such as cpu or cuda:1. Default: a GPU, if any."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, metavar="N", help="Labels to show of each video.")] = 3,
    format: Annotated[
        Format | None,
        typer.Option(help="Output format. Default: by the ending of --output, else table."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to write instead of stdout."),
    ] = None,
) -> int:
    """Say what videos show.

    With labels, the videos are scored against these labels (zero-shot). Without, against the classes that the
    checkpoint was trained on. Scores of a video sum to 1 over all labels.

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
    if candidates is None:
        if template or views > 1:
            raise CommandError("`template` and `views` are for `labels`; the classes of a checkpoint need neither.")
        classifier = trained_classifier(model, device, top_k)
    else:
        classifier = zero_shot_classifier(model, device, candidates, template or ["{}"], top_k, views)
    with ExitStack() as stack:
        if output is None:
            file = sys.stdout
            if hasattr(file, "reconfigure"):
                file.reconfigure(errors="backslashreplace")  # file names that are not UTF-8
        else:
            with reported(OSError):
                file = stack.enter_context(output.open("w", encoding="utf-8", errors="backslashreplace", newline=""))
        failed: list[str] = []
        with reported(OSError):
            WRITERS[chosen](classified(classifier, given, batch_size, failed), file)
    number = len(candidates) if candidates else classifier.model.config.num_labels
    seconds = time.perf_counter() - started
    print(f"{len(given)} videos, {number} labels, {seconds:.1f} s on {classifier.device}", file=sys.stderr)
    if failed:
        print(f"vitaclip classify: {len(failed)} of {len(given)} videos could not be read{hint}", file=sys.stderr)
    return 1 if failed else 0


def read_labels(labels: list[str] | None, file: Path | None) -> list[str] | None:
    """The labels of both options, or None if neither is given."""
    from ..data.class_names import AnnotationError, read_text

    if labels is None and file is None:
        return None
    found = [label.strip() for part in labels or () for label in part.split(",")]
    if file is not None:
        with reported(AnnotationError, OSError):
            found += [line.strip() for line in read_text(file).splitlines()]
    found = [label for label in found if label]
    if not found:
        raise CommandError("`labels` and `labels_file` hold no label.")
    return found


def choose_format(format: Format | None, output: Path | None) -> Format:
    """The format as given, else by the ending of the output file."""
    if output is None or format is not None:
        return format or Format.table
    if output.suffix.lower() not in ENDINGS:
        raise CommandError(f"`output` {output}: pass `format` for a file that does not end in {', '.join(ENDINGS)}.")
    return ENDINGS[output.suffix.lower()]


def zero_shot_classifier(
    name: str, device: str | None, labels: list[str], templates: list[str], top_k: int, views: int
) -> Any:
    """The zero-shot pipeline with everything set; labels that it cannot score are refused here."""
    from transformers import pipeline

    from ..model.zero_shot_classifier import build_zero_shot_classifier

    parts = loaded_parts(name, device)
    options = {"candidate_labels": labels, "hypothesis_template": templates, "top_k": top_k, "num_views": views}
    try:
        classifier = pipeline("zero-shot-video-classification", **parts, **options)
        build_zero_shot_classifier(classifier.model, classifier.tokenizer, tuple(labels), tuple(templates))  # kept
    except ValueError as error:
        message = str(error).replace("candidate_labels", "labels").replace("hypothesis_template", "template")
        raise CommandError(message) from error
    return classifier


def trained_classifier(name: str, device: str | None, top_k: int) -> Any:
    """The pipeline for the checkpoint's own classes."""
    from transformers import pipeline

    from ..model.modeling_vita_clip import VitaClipForVideoClassification

    parts = loaded_parts(name, device, VitaClipForVideoClassification)
    if not parts["model"].class_prompts.have_names:
        raise CommandError(f"{name}: was not trained on classes; pass `labels`.")
    return pipeline("video-classification", **parts, top_k=top_k)


def loaded_parts(name: str, device: str | None, model_class: Any = None) -> dict[str, Any]:
    """Model, tokenizer and video processor of a checkpoint, and the device: arguments of `pipeline`."""
    import torch
    from transformers.utils import logging

    from ..model.checkpoint import CheckpointError, load_checkpoint

    logging.disable_progress_bar()  # of loading weights
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    if device is not None:
        try:
            found = torch.device(device)
            torch.zeros(1, device=found).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise CommandError(f"`device` {device}: cannot be used here ({reason})") from error
    kind = {} if model_class is None else {"model_class": model_class}
    with reported(CheckpointError, OSError, about=name):
        checkpoint = load_checkpoint(name, **kind)
    processor = checkpoint.processor
    parts = {"model": checkpoint.model, "tokenizer": processor.tokenizer, "video_processor": processor.video_processor}
    return parts | {"device": found}


def classified(classifier: Any, given: list[GivenVideo], batch_size: int, failed: list[str]) -> Iterator[dict]:
    """The rows of [`result_formats`], batch by batch; names of videos that could not be read go to `failed`."""
    from tqdm import tqdm

    with tqdm(total=len(given), unit="video", leave=False, disable=None) as bar:
        for start in range(0, len(given), batch_size):
            batch = given[start : start + batch_size]
            answers = iter(scores_of_batch(classifier, [video.name for video in batch if not video.error]))
            for video in batch:
                answer = video.error or next(answers)
                bar.clear()
                if isinstance(answer, str):
                    failed.append(video.name)
                    print(f"vitaclip classify: {answer}", file=sys.stderr)
                    yield {"video": video.name, "error": answer}
                else:
                    scores = [{"label": score["label"], "score": score["score"]} for score in answer]
                    yield {"video": video.name, "scores": scores}
                bar.update()


def scores_of_batch(classifier: Any, videos: list[str]) -> list[Any]:
    """The pipeline's answer for each video, or the error as text."""
    import torch

    from ..model.video_decoding import VideoDecodingError

    if not videos:
        return []
    try:
        return list(classifier(videos, batch_size=len(videos)))
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise CommandError("out of memory; lower `batch_size`.") from error
    except (VideoDecodingError, OSError, ValueError) as error:
        if len(videos) == 1:
            reason = " ".join(str(error).split()) or type(error).__name__
            return [reason if videos[0] in reason else f"{videos[0]}: {reason}"]
        # One of them cannot be read: each by itself, so that the others are classified.
        return [answer for video in videos for answer in scores_of_batch(classifier, [video])]
