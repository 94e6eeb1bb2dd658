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
from . import options
from .inputs import check_ending, find_videos, read_labels
from .libraries import dtype_of, loaded_checkpoint, print_summary
from .result_formats import ENDINGS, WRITERS, Format


def classify(
    videos: options.Videos,
    model: options.AnyModel = None,
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    template: options.Template = None,
    num_views: options.NumViews = None,
    batch_size: options.BatchSize = 8,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    top_k: options.TopK = 3,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="X", help="A lower score is no answer. Default: 0, of independent scores 0.5."
        ),
    ] = None,
    min_cosine: options.MinCosine = -1.0,
    max_seconds: options.MaxSeconds = None,
    on_damage: options.OnDamage = None,
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
    checkpoint was trained on. Most models' scores of a video sum to 1 over all labels: they say nothing about "none of
    these". Those of SigLIP and Perception Encoder are independent, as is the cosine of a label.

    Results go to stdout, progress and errors to stderr. Exit code: 0, 1 if some videos could not be read, 2 if nothing
    could start.
    """
    texts = read_labels(labels, labels_file, template)
    if format is None:
        ending = ".txt" if output is None else output.suffix.lower()
        if ending not in ENDINGS:
            raise ValueError(f"`output` {output}: pass `format` for a file that does not end in {', '.join(ENDINGS)}.")
        format = ENDINGS[ending]
    sources = find_videos(videos)
    if texts is None and model is None:
        raise ValueError(
            "give `labels`: without `model`, the videos are scored by a public CLIP, which has no classes."
        )
    if picture is not None:
        if len(sources) != 1:
            raise ValueError(f"`picture` draws one video; got {len(sources)}.")
        check_ending("picture", picture)
    started = time.perf_counter()
    checkpoint = loaded_checkpoint(model, device, dtype)
    classifier = checkpoint.classifier()
    num_labels = len(classifier.scorer(texts, template or "{}").labels)
    settings: dict[str, Any] = {"candidate_labels": texts, "hypothesis_template": template, "num_views": num_views}
    settings |= {"batch_size": batch_size, "top_k": top_k, "min_score": min_score, "min_cosine": min_cosine}
    settings |= {"max_seconds": max_seconds, "on_damage": on_damage}
    failed: list[str] = []
    with ExitStack() as stack:
        file = sys.stdout
        if output is not None:
            file = stack.enter_context(output.open("w", encoding="utf-8", errors="backslashreplace", newline=""))
        WRITERS[format](classified(classifier, sources, settings, failed, picture), file)
    counts = [f"{n} {noun}{'s' * (n != 1)}" for n, noun in ((len(sources), "video"), (num_labels, "label"))]
    kind = ", independent scores (sigmoid)" if classifier.encoder.activation == "sigmoid" else ""
    print_summary(", ".join(counts) + kind, started, checkpoint)
    if num_labels == 1 and not kind and min_cosine == -1:
        print("vitaclip classify: a single label always scores 100%; see --min-cosine", file=sys.stderr)
    if failed:
        # `--labels a b` makes a video of "b".
        words = [name for name, error in sources.items() if error and not Path(name).suffix]
        forgotten = words and labels and not any("," in label for label in labels)
        hint = "; several labels are separated by commas" if forgotten else ""
        print(f"vitaclip classify: {len(failed)} of {len(sources)} videos could not be read{hint}", file=sys.stderr)
    return 1 if failed else 0


def classified(
    classifier: Any, sources: dict[str, str | None], settings: dict[str, Any], failed: list[str], picture: Path | None
) -> Iterator[dict]:
    """The rows of [`result_formats`], one by one; names of videos that could not be read go to `failed`."""
    from tqdm import tqdm
    from transformers.utils import logging

    logging.set_verbosity_error()  # the pipeline counts errors too
    readable = (name for name, error in sources.items() if not error)
    answers = classifier(readable, on_error="skip", return_details=True, **settings)
    with tqdm(total=len(sources), unit="video", leave=False, disable=None) as bar:
        for name, missing in sources.items():
            answer = {"error": missing} if missing else next(answers)
            bar.clear()
            if "error" in answer:
                reason = answer["error"] if name in answer["error"] else f"{name}: {answer['error']}"
                failed.append(name)
                print(f"vitaclip classify: {shown(reason)}", file=sys.stderr)
                yield {"video": name, "error": reason}
            else:
                if picture is not None:
                    from ..library.figure import draw_details

                    reading = {name: settings[name] for name in ("max_seconds", "on_damage")}
                    options = classifier.encoder.reader(**reading).options
                    replace_file(picture, draw_details(name, answer, Path(name).name, options).savefig)
                yield {"video": name} | answer | {"dtype": dtype_of(classifier.model)}
            bar.update()
