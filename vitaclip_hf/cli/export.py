"""`vitaclip export`: the video tower as ONNX or OpenVINO."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .classify import loaded_checkpoint, read_labels
from .errors import CommandError, needs_extra, reported
from .options import Model, NewFolder, Template


class ExportFormat(str, Enum):
    onnx = "onnx"
    openvino = "openvino"


class ExportDtype(str, Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


def export(
    model: Model,
    output: NewFolder,
    format: Annotated[ExportFormat, typer.Option(help="Format of the file.")] = ExportFormat.onnx,
    dtype: Annotated[ExportDtype, typer.Option(help="Number type; bfloat16 is for openvino.")] = ExportDtype.float32,
    labels_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels whose embeddings are written too, one a line.")
    ] = None,
    template: Template = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare with torch, and time both.")] = True,
) -> int:
    """Write the video tower for another runtime.

    The file takes any number of videos, frames and classes; the class embeddings are an input. It is compared with
    torch before the folder appears.

    Exit code: 0, or 2 if nothing was written.
    """
    with needs_extra(format.value):
        from ..export.folder import export_checkpoint
        from ..export.verification import VerificationError

    labels = read_labels(None, labels_file)
    checkpoint = loaded_checkpoint(model, "cpu")
    with needs_extra(format.value), reported(VerificationError, OSError):
        try:
            result = export_checkpoint(
                checkpoint,
                output,
                format.value,
                dtype.value,
                labels=labels,
                templates=template or ["{}"],
                check=check,
            )
        except ValueError as error:
            raise CommandError(str(error).replace("`templates`", "`template`")) from error
    print(output)
    if result is not None:
        print(f"largest difference of a logit  {result.max_difference:.2g}")
        print(f"least cosine with torch        {result.least_cosine:.6f}")
        print(f"pairs of classes in one order  {result.rank_agreement:.2%}")
    if result is not None and result.seconds is not None and result.torch_seconds is not None:
        print(f"seconds a video                {result.seconds:.4f}, torch {result.torch_seconds:.4f}")
    return 0
