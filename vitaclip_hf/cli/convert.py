"""`vitaclip convert original` and `vitaclip convert clip`."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import reported
from .libraries import load_libraries
from .options import NewFolder, Revision


class ContextPosition(str, Enum):
    end = "end"
    front = "front"
    middle = "middle"


class Activation(str, Enum):
    quick_gelu = "quick_gelu"
    gelu = "gelu"


VisionHeads = Annotated[
    int | None, typer.Option(metavar="NUMBER", help="Attention heads of the vision tower. Default: width / 64.")
]
TextHeads = Annotated[
    int | None, typer.Option(metavar="NUMBER", help="Attention heads of the text tower. Default: width / 64.")
]


def convert_original(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="The .pth file of the authors' released code.")],
    classes: Annotated[Path, typer.Option(metavar="FILE", help="Class names in label order.")],
    output: NewFolder,
    tokenizer: Annotated[
        str, typer.Option(metavar="NAME", help="Folder or Hub id of CLIP's tokenizer.")
    ] = "openai/clip-vit-base-patch16",
    vision_heads: VisionHeads = None,
    text_heads: TextHeads = None,
    context_position: Annotated[ContextPosition, typer.Option(help="Where the class name stands.")] = (
        ContextPosition.end
    ),
) -> None:
    """Convert a checkpoint of the authors' released code.

    Sizes, frames and prompts are read from the weights. Every weight of the file must find its place.
    """
    load_libraries()
    from ..conversion import convert_vita_clip_original

    with reported(OSError, ValueError):
        model = convert_vita_clip_original.convert_original(
            checkpoint,
            classes,
            output,
            tokenizer=tokenizer,
            vision_heads=vision_heads,
            text_heads=text_heads,
            context_position=context_position.value,
        )
    _report(output, model)


def convert_clip(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder or Hub id in the format of transformers or open_clip, or a file with a plain state dict.",
        ),
    ],
    output: NewFolder,
    revision: Revision = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Prompts as in a preset, such as vita-clip-b16, or a JSON file.")
    ] = None,
    classes: Annotated[Path | None, typer.Option(metavar="FILE", help="Class names in label order.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Folder or Hub id. Default: the CLIP's own, else OpenAI's.")
    ] = None,
    activation: Annotated[
        Activation | None,
        typer.Option(help="Of a state dict: quick_gelu (OpenAI, MetaCLIP, DFN) or gelu (LAION)."),
    ] = None,
    vision_heads: VisionHeads = None,
    text_heads: TextHeads = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the new prompts.")] = 0,
) -> None:
    """Make an untrained Vita-CLIP of a stock CLIP.

    The weights of the CLIP stay as they are, to the bit. The prompts are new; train them with `vitaclip train`.
    """
    load_libraries(warnings=False)  # transformers would warn that the prompts are new, which is meant here
    from ..conversion import convert_clip as conversion

    with reported(OSError, ValueError):
        model = conversion.convert_clip(
            source,
            output,
            revision=revision,
            preset=preset,
            classes=classes,
            tokenizer=tokenizer,
            activation=None if activation is None else activation.value,
            vision_heads=vision_heads,
            text_heads=text_heads,
            seed=seed,
        )
    _report(output, model)


def _report(output: Path, model: Any) -> None:
    print(f"{output}: {model.num_parameters():,} parameters, {model.config.num_labels} classes")
