"""`vitaclip card`: the model card of a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from ..data.output_files import replace_file
from .libraries import loaded_checkpoint


def card(
    model: Annotated[Path, typer.Option(metavar="DIR", help="Folder with model, processor and tokenizer.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="Markdown file to write.")],
    model_id: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="What the card's code loads. Default: the folder, with the package."),
    ] = None,
) -> None:
    """Write the model card of a checkpoint.

    Training and results are read from the files that `vitaclip train` and `vitaclip evaluate` leave beside the
    checkpoint; other texts from its card.yaml.
    """
    from ..conversion.model_card import make_card

    checkpoint = loaded_checkpoint(str(model), "cpu", warnings=False, vita_clip=True)
    name = model_id or model.as_posix()
    text = make_card(model, name, checkpoint.model, checkpoint.processor, remote_code=model_id is not None)
    replace_file(output, lambda beside: beside.write_text(text, encoding="utf-8"))
