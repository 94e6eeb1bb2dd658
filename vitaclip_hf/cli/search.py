"""`vitaclip search`: moments of indexed videos by text or by a video."""

import json
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..data.output_files import replace_file
from ..model.shown_names import shown
from .classify import PICTURES, loaded_checkpoint
from .errors import CommandError, needs_extra, reported
from .index import number_type_of
from .timeline import clock


class SearchFormat(str, Enum):
    table = "table"
    json = "json"


def search(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What to look for.")] = None,
    video: Annotated[
        str | None, typer.Option(metavar="FILE", help="Look for what resembles this video, in place of a text.")
    ] = None,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="The indexed folder. Default: this one.")] = Path("."),
    place: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", help="Folder of the index. Default: .vitaclip-index within --folder."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model of the index. Default: from where it was then.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="'TEXT {}'", help="Sentence with {} for the text. Repeatable: several are averaged."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, metavar="N", help="How many hits.")] = 10,
    per_video: Annotated[int, typer.Option(min=1, metavar="N", help="Most hits of one video.")] = 1,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Search with usearch, for millions of windows. It can miss hits.")
    ] = False,
    format: Annotated[SearchFormat, typer.Option(help="Output format.")] = SearchFormat.table,
    contact_sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a frame of each hit (PNG, PDF, SVG).")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Device, such as cpu or cuda:1. Default: a GPU, if any.")
    ] = None,
) -> int:
    """Find moments in indexed videos.

    The cosine says how near a moment is to what was looked for. There is always a nearest one, also if nothing of the
    kind is there.
    """
    if (text is None) == (video is None):
        raise CommandError("give either TEXT or `video`.")
    if contact_sheet is not None and contact_sheet.suffix.lower() not in PICTURES:
        raise CommandError(f"`contact_sheet` {contact_sheet}: the name must end in {', '.join(PICTURES)}.")
    with needs_extra("search"):
        from ..library.video_index import VideoIndex
    from ..model.decoding import VideoDecodingError

    if contact_sheet is not None:
        with needs_extra("plots"):
            from ..library.contact_sheet import draw_contact_sheet
    index = VideoIndex(folder, place)
    with reported(ValueError, OSError):
        about = index.about
        if about is None:
            raise CommandError(f"{index.place}: there is no index; make one with `vitaclip index {folder}`.")
    checkpoint = loaded_checkpoint(model or about["model"], device, number_type_of(about))
    with reported(ValueError, OSError, VideoDecodingError), needs_extra("usearch"):
        if video is not None:
            query = index.embed_video(checkpoint, video)
        else:
            query = index.embed_text(checkpoint, text or "", template or ["{}"])
        hits = index.search(query, top_k, per_video, approximate)
        if contact_sheet is not None and hits:
            replace_file(contact_sheet, draw_contact_sheet(hits, folder, text or video).savefig)
    if format is SearchFormat.json:
        print(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False, indent=1))
    else:
        for hit in hits:
            print(f"{hit.cosine:6.3f}  {clock(hit.start)}  {clock(hit.end)}  {shown(hit.path)}")
    return 0
