"""`vitaclip export`: the video tower as ONNX or OpenVINO."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .inputs import read_labels
from .libraries import loaded_checkpoint
from .options import Model, NewFolder, Template


def export(
    model: Model,
    output: NewFolder,
    format: Annotated[Literal["onnx", "openvino"], typer.Option(help="Format of the file.")] = "onnx",
    dtype: Annotated[
        Literal["float32", "bfloat16", "int8"], typer.Option(help="Number type; bfloat16 is for openvino.")
    ] = "float32",
    labels_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels whose embeddings are written too, one a line.")
    ] = None,
    template: Template = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare with torch.")] = True,
) -> int:
    """Write the video tower for another runtime.

    The file takes any number of videos, frames and classes; the class embeddings are an input. It is compared with
    torch before the folder appears.

    Exit code: 0, or 2 if nothing was written.
    """
    texts = {"labels": read_labels(None, labels_file, template), "templates": template or "{}"}
    from ..export.folder import export_checkpoint

    checkpoint = loaded_checkpoint(model, "cpu", "float32", vita_clip=True)
    result = export_checkpoint(checkpoint, output, format, dtype, **texts, check=check)
    print(output)
    if result is not None:
        print(f"largest difference of a logit  {result.max_difference:.2g}")
        print(f"least cosine with torch        {result.least_cosine:.6f}")
    return 0
