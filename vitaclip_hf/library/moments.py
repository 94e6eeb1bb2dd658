"""Moments of videos: their times, and one HTML page with a player that goes to each. The page needs no server."""

import os
from collections.abc import Iterable
from html import escape
from pathlib import Path
from urllib.parse import quote

from ..data.output_files import storable


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{style}</style>
<h1>{title}</h1>
<main><video controls preload="metadata"></video>
<ol>
{items}</ol></main>
<script>{script}</script></html>
"""
STYLE = """
:root {color-scheme: light dark; --line: light-dark(#d9dce1, #3a3f47); --quiet: light-dark(#5c6470, #9aa3af)}
body {font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1100px; padding: 24px}
h1 {font-size: 22px; font-weight: 600; overflow-wrap: anywhere}
main {display: grid; grid-template-columns: minmax(0, 3fr) minmax(260px, 2fr); gap: 24px; align-items: start}
video {width: 100%; aspect-ratio: 16 / 9; background: #000; border-radius: 6px; position: sticky; top: 16px}
ol {list-style: none; margin: 0; padding: 0}
a {display: grid; grid-template-columns: 1fr auto; gap: 0 12px; padding: 8px 10px; color: inherit;
  text-decoration: none; border-top: 1px solid var(--line); overflow-wrap: anywhere}
a:hover, a:focus-visible, a[aria-current] {background: light-dark(#eef2f8, #232a34)}
small {color: var(--quiet); font-variant-numeric: tabular-nums}
@media (max-width: 720px) {main {grid-template-columns: 1fr} video {top: 0; z-index: 1}}
"""
SCRIPT = """
const player = document.querySelector("video");
const links = [...document.querySelectorAll("a")];
const show = link => {
  links.forEach(other => other.toggleAttribute("aria-current", other === link));
  player.src = link.href;
};
links.forEach(link => link.addEventListener("click", event => {
  event.preventDefault();
  show(link);
  player.play();
}));
if (links.length) show(links[0]);
"""


def clock(seconds: float, digits: int = 1, decimal: str = ".") -> str:
    """`"01:02:03.4"`; with three digits as subtitles write times."""
    whole, fraction = divmod(round(seconds * 10**digits), 10**digits)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{decimal}{fraction:0{digits}d}"


def write_page(path: Path, title: str, moments: Iterable[tuple[str, float, float, str, str]]) -> None:
    """
    Writes the page. It names videos on this machine relative to itself, so that it can move with them.

    Args:
        path: of the page.
        title: above the player.
        moments: of each the video (a path or a URL), start and end in seconds, what it is, and its score as text.
    """
    items = []
    for source, start, end, name, score in moments:
        beside = os.fsencode(os.path.relpath(source, path.parent).replace(os.sep, "/"))
        url = source if "://" in source else quote(beside)
        items.append(
            f'<li><a href="{escape(url)}#t={start:.3f},{end:.3f}">{escape(name)}<small>{score}</small>'
            f"<small>{clock(start)} to {clock(end)}</small></a></li>\n"
        )
    page = PAGE.format(title=escape(title), items="".join(items), style=STYLE, script=SCRIPT)
    path.write_text(storable(page), "utf-8")
