"""The Python code of README and model card runs as it stands, with another video in place of `my.mp4`."""

import re
from pathlib import Path

import pytest
import torch

from vitaclip_hf.data.motion_shapes import Scene, draw_videos, write_video


ROOT = Path(__file__).parents[2]


def blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.S)


@pytest.fixture
def video(tmp_path) -> Path:
    frames = draw_videos([Scene("red", "star", "turning")], torch.Generator().manual_seed(4))[0]
    write_video(tmp_path / "another.mp4", frames.numpy())
    return tmp_path / "another.mp4"


CASES = [
    ("README.md", 0, r"^\d+\.\d%  red star turning\n\d+\.\d%  red star moving left\n$"),
    ("README.md", 1, r"^\[\[\{'score': .*'label': 'red \w+ .*\n$"),
    ("README.md", 2, r"^tensor\(\[\[.*\]\]\)\ntorch.Size\(\[300, 64\]\)\n$"),
    ("MODEL_CARD.md", 0, r"^\[\{'score': .*'label': 'blue heart .*\n$"),
    ("MODEL_CARD.md", 1, r"^\[\{'score': .*'label': 'red \w+ .*\n$"),
]


@pytest.mark.parametrize(("document", "number", "output"), CASES)
def test_code_runs_as_it_stands(document, number, output, video, run_script, tmp_path):
    code = blocks(document)[number]
    assert '"my.mp4"' in code
    script = tmp_path / "pasted.py"
    script.write_text(code.replace('"my.mp4"', repr(str(video))))
    result = run_script(script)
    assert result.returncode == 0, result.stderr
    assert re.match(output, result.stdout, re.S), result.stdout


def test_starting_from_a_stock_clip(tokenizer, tmp_path, capsys):
    from transformers import CLIPConfig, CLIPModel

    assert len(blocks("README.md")) == 5
    size = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "hidden_size": 32}
    CLIPModel(CLIPConfig(vision_config=size | {"image_size": 32}, text_config=size)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    names: dict = {}
    exec(blocks("README.md")[3], names)
    model = names["start"](tmp_path, ["yoga", "archery"])
    assert model.config.id2label == {0: "yoga", 1: "archery"} and model.config.num_frames == 8
    assert "trainable params: " in capsys.readouterr().out


def test_prompts_alone_as_the_readme_shares_them(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    names: dict = {}
    exec(blocks("README.md")[4].replace('"my-prompts"', repr(str(tmp_path / "my-prompts"))), names)
    ours, again = names["model"].state_dict(), names["again"].state_dict()
    assert ours.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in ours.items())


def test_commands_of_the_readme_exist():
    text, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.M):
        assert re.search(rf"^{target}:", makefile, re.M)
    for script in re.findall(r"python (\S+\.py)", text):
        assert (ROOT / script).is_file()
    for document in (text, (ROOT / "MODEL_CARD.md").read_text()):
        for path in re.findall(r"`((?:examples|conversion|configuration|vitaclip_hf|tests)/[\w/.]*)`", document):
            assert (ROOT / path).exists(), path
