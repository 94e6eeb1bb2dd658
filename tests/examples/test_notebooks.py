"""The notebooks: small, with their outputs, run as they stand (slow). The pages as a site, which builds (slow)."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "examples" / "notebooks"
EXPECTED = {
    "quickstart": ["'taxi moving left'", "something else: the cosine of the best label is"],
    "search_my_videos": ["'new': 10", "'unchanged': 10", "snowflake_falling.mp4, 0.0 to 2.0 s", "'vector'"],
    "fine_tune_own_videos": ["of 80 right", "Saved model and curves.png"],
}


def outputs_of(book: dict) -> list[dict]:
    return [output for cell in book["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]


def text_of(outputs: list[dict]) -> str:
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return "\n".join("".join(text) for text in texts)


def right(text: str) -> list[int]:
    return [int(line.strip("'").split()[0]) for line in text.splitlines() if line.endswith("of 80 right'")]


@pytest.mark.parametrize("name", EXPECTED)
def test_it_was_run_and_is_small(name):
    file = NOTEBOOKS / f"{name}.ipynb"
    book = json.loads(file.read_text())
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(EXPECTED)
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert "set `MODEL` to" in "".join(book["cells"][0]["source"])
    assert file.stat().st_size < 600_000
    assert not [output for output in outputs_of(book) if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs_of(book))
    assert all(part in text_of(outputs_of(book)) for part in EXPECTED[name])
    assert "/home/" not in file.read_text() and "/work/" not in file.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_it_runs_as_it_stands(name, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOKS.parents[1]), os.environ.get("PYTHONPATH", "")]))
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    for cell in book.cells:
        cell.outputs = []
    where = {"metadata": {"path": str(NOTEBOOKS)}}
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources=where).execute()
    text = text_of(outputs_of(book))
    assert all(part in text for part in EXPECTED[name])
    if name == "fine_tune_own_videos":
        before, after = right(text)
        assert before < 50 and after > before + 15


# The site


@pytest.mark.slow
def test_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/site/mkdocs.yml", "-d", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0 and "WARNING" not in result.stderr, result.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', page.read_text())
        loaded += re.findall(r'<link[^>]* rel="(?:stylesheet|preconnect)"[^>]* href="([^"]+)"', page.read_text())
        assert not [address for address in loaded if "//" in address], page
    for style in tmp_path.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()[ \"']*(?:https?:)?//[^)\"']*", style.read_text()), style
