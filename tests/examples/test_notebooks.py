"""The notebooks: small, with their outputs; run as they stand, without a network (slow)."""

import json
import os
from pathlib import Path

import pytest


NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
EXPECTED = {
    "quickstart": ["'red star moving left'", "something else: the cosine of the best label is"],
    "search_my_videos": ["'new': 10", "'unchanged': 10", "yellow_moon_moving_down.mp4, 0.0 to 2.0 s", "'vector'"],
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
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
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
