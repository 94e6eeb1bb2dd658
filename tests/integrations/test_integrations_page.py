"""The code of docs/integrations.md runs as it stands."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
VIDEO = ROOT / "examples" / "demo" / "videos" / "blue_heart_bouncing.mp4"
PAGE = (ROOT / "docs" / "integrations.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
SECTIONS = {"sentence-transformers": 2, "mteb": 1, "peft": 1, "accelerate": 1}


def test_sections_and_their_blocks():
    sections = [section.split(":")[0] for section in re.findall(r"^## (.*)$", PAGE, re.M)]
    assert sections == list(SECTIONS) and len(BLOCKS) == sum(SECTIONS.values())


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs_as_it_stands(number, tmp_path, monkeypatch):
    code = BLOCKS[number]
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.M))
    missing = sorted(name for name in imported if find_spec(name) is None)
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    if "mteb" in imported:  # its registry is as before afterwards
        from mteb.models.model_implementations import MODEL_REGISTRY

        monkeypatch.setitem(MODEL_REGISTRY, "ORG/NAME", None)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names: dict = {}
    own = re.sub(
        r'"my[-.][^"]*"', lambda name: repr(str(VIDEO if name[0] == '"my.mp4"' else tmp_path / name[0][1:-1])), code
    )
    exec(own, names)
    if "write_sentence_transformers_files" in names:
        written = sorted(file.name for file in (tmp_path / "my-folder").iterdir())
        assert {"modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"} <= set(written)
