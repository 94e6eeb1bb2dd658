"""`vitaclip explain`: where a model looks in a video."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..data.output_files import replace_file
from ..model.shown_names import one_line, shown
from .inputs import check_ending
from .libraries import loaded_checkpoint
from .options import Device, Model, OnDamage, OneVideo, Template


def explain(
    video: OneVideo,
    model: Model,
    output: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Picture to write (PNG, PDF, SVG), or the numbers alone (.json)."),
    ],
    label: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What to look for. Default: the best of the checkpoint's own classes."),
    ] = None,
    template: Template = None,
    on_damage: OnDamage = None,
    device: Device = None,
) -> int:
    """Show where a model looks in a video.

    Draws the frames that were read and, on them, the evidence for the label and the attention of the class token. Bars
    show what each frame adds to the cosine of the label, and how much attention goes to patches, summary, local and
    global prompts.

    Exit code: 0, 1 if the video could not be read, 2 if nothing could start.
    """
    check_ending("output", output, ".json")
    if label is None and template:
        raise ValueError("`template` is for `label`; the classes of a checkpoint need none.")
    from ..library.relevance import explain as explained
    from ..model.sources import VideoDecodingError

    checkpoint = loaded_checkpoint(model, device, vita_clip=True)
    try:
        relevance = explained(checkpoint, video, label, template or "{}", on_damage=on_damage)
    except VideoDecodingError as error:
        print(f"vitaclip explain: {one_line(error)}", file=sys.stderr)
        return 1
    if output.suffix.lower() == ".json":
        content = json.dumps(relevance.as_dict(), ensure_ascii=False) + "\n"
        replace_file(output, lambda beside: beside.write_text(content, encoding="utf-8"))
    else:
        from ..library.relevance_picture import draw_relevance

        replace_file(output, draw_relevance(relevance, Path(video).name).savefig)
    most = max(range(len(relevance.frames)), key=lambda index: float(relevance.frame_relevance[index]))
    print(
        f"{shown(relevance.label)}: cosine {relevance.cosine:.3f}; frame {relevance.frames[most]} adds most; {output}"
    )
    return 0
