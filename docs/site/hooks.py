"""Hooks of mkdocs."""

import re


def on_page_markdown(markdown: str, **_) -> str:
    """Links to files of the repository that are no pages become their names."""
    return re.sub(r"\[[^\]]*\]\(\.\./([^)]*)\)", r"`\1`", markdown)


def on_page_content(html: str, **_) -> str:
    """Docstrings have transformers' form: [`Name`], and types such as `int`, *optional*. The marks are left out."""
    html = re.sub(r"<code>(\[?`[^<]*)</code>", lambda code: f"<code>{plain_type(code[1])}</code>", html)
    return re.sub(r"\[(<code>[^<]*</code>)\]", r"\1", html)


def plain_type(text: str) -> str:
    """The type alone: whether it is optional, and its default, stand in a column of their own."""
    return re.sub(r", (\*optional\*|defaults to).*", "", text).replace("[`", "").replace("`]", "").replace("`", "")
