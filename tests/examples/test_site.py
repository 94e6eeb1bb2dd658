"""The pages as a site: it builds without a warning, fetches nothing from elsewhere, and leaves no page out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def pages_of(entry) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages_of(part)]


def test_every_page_is_in_the_navigation_once():
    settings = yaml.safe_load((DOCS / "site" / "mkdocs.yml").read_text())
    written = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert sorted(pages_of(settings["nav"])) == written


@pytest.mark.slow
def test_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/site/mkdocs.yml", "-d", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0 and "WARNING" not in result.stderr, result.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', page.read_text())
        loaded += re.findall(r'<link[^>]* rel="(?:stylesheet|preconnect)"[^>]* href="([^"]+)"', page.read_text())
        assert not [address for address in loaded if "//" in address], page
    for style in tmp_path.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()[ \"']*(?:https?:)?//[^)\"']*", style.read_text()), style
    assert 'class="language-bash' in (tmp_path / "classification.html").read_text()  # site.css wraps these
    assert ">Classify videos</a>" in (tmp_path / "long-videos.html").read_text()
    reference = (tmp_path / "reference" / "library.html").read_text()
    assert "explain" in reference and not re.search(r"<code>\[?`", reference)
