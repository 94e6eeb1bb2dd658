"""`vitaclip search`: moments of indexed videos by text or by a video."""

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..data.output_files import replace_file
from ..model.shown_names import shown
from .inputs import check_ending
from .libraries import loaded_checkpoint
from .options import Clips, Device, OnDamage, TableFormat, Template
from .timeline import report_clips


def search(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What to look for.")] = None,
    video: Annotated[str | None, typer.Option(metavar="FILE", help="Look for what resembles this video.")] = None,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="The indexed folder. Default: this one.")] = Path("."),
    place: Annotated[
        str | None, typer.Option("--index", metavar="DIR", help="Of the vectors. Default: .vitaclip-index in --folder.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Folder or Hub id. Default: that of the vectors; no other fits.")
    ] = None,
    template: Template = None,
    top_k: Annotated[int, typer.Option(min=1, metavar="N", help="How many hits.")] = 10,
    per_video: Annotated[int, typer.Option(min=1, metavar="N", help="Most hits of one video.")] = 1,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Search with an index, for very many windows. It can miss hits.")
    ] = False,
    format: TableFormat = "table",
    contact_sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the hits (PNG, PDF, SVG).")] = None,
    page: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page that plays each hit.")] = None,
    clips: Clips = None,
    on_damage: OnDamage = None,
    device: Device = None,
) -> int:
    """Find moments in indexed videos.

    The cosine says how near a moment is to what was looked for. There is always a nearest one, also if nothing of the
    kind is there.
    """
    if (not (text or "").strip()) == (video is None):
        raise ValueError("give either TEXT or `video`.")
    if video is not None and template:
        raise ValueError("`template` is for TEXT; a video needs none.")
    if contact_sheet is not None:
        check_ending("contact_sheet", contact_sheet)
    from ..library.moments import clock, write_page
    from ..library.store import FOLDER, VideoStore

    store = VideoStore(place or folder / FOLDER)
    settings = store.settings
    if settings is None:
        raise ValueError(f"{store.place}: no index of this version; make one with `vitaclip index {folder}`.")
    name, revision = (model, None) if model else (settings["model"], settings.get("revision"))
    checkpoint = loaded_checkpoint(name, device, settings["dtype"], embeds=True, revision=revision)
    if video is not None:
        query = store.embed_video(checkpoint, video, on_damage=on_damage)
    else:
        query = store.embed_text(checkpoint, text or "", template or ["{}"])
    hits = store.search(query, top_k, per_video, approximate)
    pairs = [(hit.path if "://" in hit.path else str(folder / hit.path), hit) for hit in hits]
    if format == "json":
        print(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False, indent=1))
    else:
        for hit in hits:
            print(f"{hit.cosine:6.3f}  {clock(hit.start)}  {clock(hit.end)}  {shown(hit.path)}")
    pairs = [(at, hit) for at, hit in pairs if "://" in at or Path(at).exists()]
    if not hits:
        print(f"vitaclip search: {store.place}: no video in this index", file=sys.stderr)
    if gone := len(hits) - len(pairs):
        print(f"vitaclip search: files that are gone: {gone}; `vitaclip index` finds moved ones", file=sys.stderr)
    reading = checkpoint.encoder().reader(decoder="pyav", on_damage=on_damage).options
    if contact_sheet is not None and pairs:
        from ..library.contact_sheet import draw_contact_sheet

        replace_file(
            contact_sheet, draw_contact_sheet([hit for _, hit in pairs], folder, text or video, reading).savefig
        )
    if clips is not None:
        report_clips(clips, [(at, hit.start, hit.end, Path(hit.path).stem) for at, hit in pairs], reading)
    if page is not None:
        rows = [(at, hit.start, hit.end, hit.path, f"{hit.cosine:.3f}") for at, hit in pairs]
        replace_file(page, partial(write_page, title=text or f"like {video}", moments=rows))
    return 0
