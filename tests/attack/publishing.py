"""Model cards from hostile files: nothing of them becomes HTML, a link or a picture, and no private path is told."""

import json
import re
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from attack.outcomes import Attack
from markdown_it import MarkdownIt

from vitaclip_hf.conversion.model_card import make_card
from vitaclip_hf.conversion.publish import check_repo_id
from vitaclip_hf.loading.prompts_alone import fingerprint_of_tensors


HOSTILE_TEXTS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</code></pre><iframe src='http://evil.example'></iframe>",
    "```\n<script>alert(1)</script>\n```",
    "a\n```\n\n<script>alert(1)</script>\n",
    "~~~\n<b>bold</b>",
    "`<script>alert(1)</script>`",
    "![x](http://evil.example/pixel.png)",
    "[click](javascript:alert(1))",
    "[click](http://evil.example)",
    "| a | b |\n| --- | --- |\n| <b>x</b> | y |",
    "---\nlicense: mit\n---",
    "$title ${summary} $$",
    "{0} {model} {}",
    "\u202eevil\u0000\u2028# heading",
    "x" * 100_000,
)
FORBIDDEN = re.compile(r"<(script|img|iframe|b)\b|href=\"(?!https?://(?!evil))|evil\.example\"", re.IGNORECASE)


def results_with(text: str, sha256: str) -> dict[str, Any]:
    """A `results.json` whose every free text is hostile."""
    figures = {"mean": 0.5, "std": 0.1}
    figure = {"top1": 0.5, "top5": 0.9, "mean_class": 0.5}
    split = {
        "list": text, "list_sha256": text, "files_sha256": {text: text}, "text": "zero-shot",
        "videos": {"listed": 1, "asked_for": 1, "evaluated": 1, "missing": 0, "failed": 0},
    }  # fmt: skip
    return {
        "protocol": {
            "name": text, "task": text, "sampling": "dense", "stride": 16, "templates": [text + "{}"], "frames": 8,
            "views": 1, "spatial_views": 1, "spelling": text,
        },
        "rows": {"vita_clip": {"splits": {text: figure}} | dict.fromkeys(figure, figures)},
        "splits": {text: split}, "limited": None, "warnings": [text], "date": text,
        "model": {"name": text, "revision": text, "sha256": sha256, "dtype": text},
        "cost": {"gmacs_per_view": {"vita_clip": 1.0, "plain_clip": 1.0}},
    }  # fmt: skip


def cards(model: Any, processor: Any) -> Iterator[Attack]:
    """Cards of a checkpoint whose records or class names are hostile, and names on the Hub."""
    sha256 = fingerprint_of_tensors(model.state_dict())
    names = dict(model.config.id2label)
    for number, text in enumerate(HOSTILE_TEXTS):
        files = {
            "recipe.yaml": yaml.safe_dump({"model": text, "learning_rate": 0.1, "videos": f"/home/me/{text}"}),
            "run.json": json.dumps({"data": {text: [text]}, "ranks": text, "date": text, "environment": {text: text}}),
            "results.json": json.dumps(results_with(text, sha256)),
            "labels": "",
        }
        for kind, content in files.items():
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, kind).write_text(content, encoding="utf-8")
                model.config.id2label = dict.fromkeys(names, text) if kind == "labels" else names
                yield Attack(
                    f"card-{kind}-{number}",
                    lambda folder=folder: checked(make_card(Path(folder), "org/name", model, processor)),
                    (ValueError,),
                )
    model.config.id2label = names
    for name in ("../x/y", "org/..", "a/b/c", "org/<script>", "org/na me", "", "/", "org/" + "x" * 1000, "org/a\nb"):
        yield Attack(f"repo_id {name[:20]!r}", partial(check_repo_id, name), (ValueError,), success=None)


def checked(card: str) -> str:
    """Renders a card as a page would; raises AssertionError for what should not be there."""
    body = card.split("---\n", 2)[2]
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    found = FORBIDDEN.search(html)
    if found:
        raise AssertionError(f"{found[0]} … {html[max(found.start() - 100, 0) : found.end() + 60]!r}")
    if "/home/me" in card:
        raise AssertionError("a private folder")
    return "a card"
