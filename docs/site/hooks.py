"""Hooks of mkdocs."""

import re
from collections.abc import Iterator


def on_page_markdown(markdown: str, config, **_) -> str:
    """Links called like their file get the page's title; links to what is no page become its name."""
    titles = {page: title for group in config.nav for title, page in entries(group)}
    markdown = re.sub(r"\[([\w-]+\.md)\]\(\1\)", lambda link: f"[{titles[link[1]]}]({link[1]})", markdown)
    return re.sub(r"\[[^\]]*\]\(\.\./([^)]*)\)", r"`\1`", markdown)


def entries(group: dict) -> Iterator[tuple[str, str]]:
    """Titles and pages of a part of the navigation."""
    for title, content in group.items():
        if isinstance(content, str):
            yield title, content
        else:
            for part in content:
                yield from entries(part)


def on_page_content(html: str, **_) -> str:
    """Docstrings have transformers' form: [`Name`], and types such as `int`, *optional*. The marks are left out."""
    html = re.sub(r"<code>(\[?`[^<]*)</code>", lambda code: f"<code>{plain_type(code[1])}</code>", html)
    html = re.sub(r"\[(<code>[^<]*</code>)\]", r"\1", html)
    # Browsers would break a line within an option, behind its hyphens.
    return re.sub(r"(?<=[ >])--[a-z][\w-]*", r'<span class="option">\g<0></span>', html)


def plain_type(text: str) -> str:
    """The type alone: whether it is optional, and its default, stand in a column of their own."""
    return re.sub(r", (\*optional\*|defaults to).*", "", text).replace("[`", "").replace("`]", "").replace("`", "")
