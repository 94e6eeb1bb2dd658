"""Arguments and options that several commands share. A command gives the default."""

from pathlib import Path
from typing import Annotated, Literal

import typer


DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
Videos = Annotated[
    list[str], typer.Argument(metavar="VIDEOS", help="Files, folders (with their subfolders), globs and URLs.")
]
OneVideo = Annotated[str, typer.Argument(metavar="VIDEO", help="File or URL.")]
Model = Annotated[str, typer.Option(metavar="MODEL", help="Folder or Hub id of a Vita-CLIP checkpoint.")]
AnyModel = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Folder or Hub id: Vita-CLIP, CLIP, SigLIP, X-CLIP, … Default: a public CLIP."),
]
Revision = Annotated[str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of the Hub id.")]
Labels = Annotated[
    list[str] | None,
    typer.Option(metavar="'A,B,...'", help="Labels to choose from, separated by commas. Repeatable."),
]
LabelsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Labels, one a line; CSV; or JSON: {label: [texts]}.")
]
Template = Annotated[
    list[str] | None,
    typer.Option(metavar="'TEXT {}'", help="Sentence with {} for the label. Repeatable: several are averaged."),
]
NumViews = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Clips of a video, whose scores are averaged. Default: as the model says."),
]
Window = Annotated[float, typer.Option(metavar="S", help="Length of a window in seconds.")]
Stride = Annotated[float, typer.Option(metavar="S", help="Seconds from one window to the next.")]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Videos or windows of a forward pass.")]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="Such as cpu or cuda:1. Default: a GPU, if any.")]
Dtype = Annotated[DtypeName, typer.Option(help="Number type of the model; auto: bfloat16 where that is fast.")]
MaxSeconds = Annotated[
    float | None, typer.Option(min=0.1, metavar="S", help="Most time for decoding one video. Default: no limit.")
]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="0.0.0.0 listens on all addresses.")]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 for any free one.")]
OnDamage = Annotated[
    Literal["error", "skip"] | None,
    typer.Option(help="skip: the whole frames of damaged videos. Default: as the model says."),
]
TopK = Annotated[int, typer.Option(min=1, metavar="N", help="How many answers to show.")]
MinCosine = Annotated[float, typer.Option(min=-1, max=1, metavar="X", help="A label of a lower cosine is no answer.")]
TableFormat = Annotated[Literal["table", "json"], typer.Option(help="Output format.")]
Clips = Annotated[Path | None, typer.Option(metavar="DIR", help="Cut the moments out as files, copied or re-encoded.")]
JsonOutput = Annotated[Path | None, typer.Option(metavar="FILE", help="JSON file to write.")]
NewFolder = Annotated[Path, typer.Option(metavar="DIR", help="New folder to write.")]
