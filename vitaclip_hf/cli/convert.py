"""`vitaclip convert original`, `vitaclip convert clip` and `vitaclip convert vifi`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .libraries import load_libraries
from .options import NewFolder, Revision


Heads = Annotated[
    int | None, typer.Option(metavar="NUMBER", help="Attention heads of this tower. Default: width / 64.")
]


def convert_original(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="The .pth file of the authors' released code.")],
    classes: Annotated[Path, typer.Option(metavar="FILE", help="Class names in label order.")],
    output: NewFolder,
    tokenizer: Annotated[
        str, typer.Option(metavar="NAME", help="Folder or Hub id of CLIP's tokenizer.")
    ] = "openai/clip-vit-base-patch16",
    vision_heads: Heads = None,
    text_heads: Heads = None,
    context_position: Annotated[
        Literal["end", "front", "middle"], typer.Option(help="Where the class name stands.")
    ] = "end",
) -> None:
    """Convert a checkpoint of the authors' released code.

    Sizes, frames and prompts are read from the weights. Every weight of the file must find its place.
    """
    load_libraries()
    from ..conversion import convert_vita_clip_original

    model = convert_vita_clip_original.convert_original(
        checkpoint,
        classes,
        output,
        tokenizer=tokenizer,
        vision_heads=vision_heads,
        text_heads=text_heads,
        context_position=context_position,
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
    classes: Annotated[Path | None, typer.Option(metavar="FILE", help="Class names in label order.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Folder or Hub id. Default: the CLIP's own, else OpenAI's.")
    ] = None,
    activation: Annotated[
        Literal["quick-gelu", "gelu"] | None,
        typer.Option(help="Of a state dict: quick-gelu (OpenAI, MetaCLIP, DFN) or gelu (LAION)."),
    ] = None,
    vision_heads: Heads = None,
    text_heads: Heads = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the new prompts.")] = 0,
) -> None:
    """Make an untrained Vita-CLIP of a stock CLIP.

    The weights of the CLIP stay as they are, to the bit. The prompts are new; train them with `vitaclip train`.
    """
    load_libraries(warnings=False)  # transformers would warn that the prompts are new, which is meant here
    from ..conversion import convert_clip as conversion

    model = conversion.convert_clip(
        source,
        output,
        revision=revision,
        classes=classes,
        tokenizer=tokenizer,
        activation=activation and activation.replace("-", "_"),
        vision_heads=vision_heads,
        text_heads=text_heads,
        seed=seed,
    )
    _report(output, model)


def convert_vifi(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="The .pth file of ViFi-CLIP's released code.")],
    output: NewFolder,
    base: Annotated[
        str, typer.Option(metavar="NAME", help="Folder or Hub id of the CLIP that it started from.")
    ] = "openai/clip-vit-base-patch16",
    revision: Revision = None,
) -> None:
    """Make a CLIP folder of a ViFi-CLIP.

    ViFi-CLIP is a fine-tuned CLIP; its file lacks the token embedding, which is that of the base. The folder works
    wherever a CLIP does, also in `vitaclip classify` and `vitaclip evaluate`.
    """
    load_libraries()
    from ..conversion.convert_vifi_clip import convert_vifi_clip

    model = convert_vifi_clip(checkpoint, output, base, revision)
    print(f"{output}: {model.num_parameters():,} parameters")


def _report(output: Path, model: Any) -> None:
    classes = model.config.num_labels if model.class_prompts.have_names else 0
    print(f"{output}: {model.num_parameters():,} parameters, {classes or 'no'} classes")
