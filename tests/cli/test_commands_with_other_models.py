"""Commands with models of other families, from a local Hub, and without `--model`."""

import json
from pathlib import Path

import pytest
from hub_server import local_hub
from huggingface_hub import constants
from huggingface_hub.utils import _cache_manager, _http
from tiny_encoders import save_tiny_encoder

from vitaclip_hf import load_checkpoint
from vitaclip_hf.cli.main import main


VIDEO = Path(__file__).parents[2] / "examples" / "demo" / "videos" / "banana_spinning.mp4"
LABELS = ["a taxi", "a bell"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The models' folders, which the Hub of this process has too."""
    root = tmp_path_factory.mktemp("encoders")
    with local_hub() as hub, pytest.MonkeyPatch.context() as patch:
        for module in (constants, _cache_manager):
            patch.setattr(module, "HF_HUB_CACHE", str(root / "cache"))
        for family in ("clip", "siglip", "xclip"):
            save_tiny_encoder(family, root / family)
            hub.add(f"org/{family}", root / family)
        hub.add("org/gated", root / "clip")
        hub.gated.add("org/gated")
        yield root


def test_classify_by_hub_id(folders, capsys):
    command = ["classify", str(VIDEO), "--labels", ",".join(LABELS), "--model", "org/siglip", "--format", "json"]
    assert main([*command, "--dtype", "float32"]) == 0
    printed = capsys.readouterr()
    (answer,) = json.loads(printed.out)
    expected = load_checkpoint(folders / "siglip").classifier()(str(VIDEO), candidate_labels=LABELS)
    assert [(row["label"], row["score"]) for row in answer["scores"]] == [(r["label"], r["score"]) for r in expected]
    assert answer["activation"] == "sigmoid" and "independent" in printed.err


@pytest.mark.parametrize(("name", "word"), [("org/gated", "gated"), ("org/missing", "not a valid model")])
def test_a_model_that_cannot_be_had_is_one_line(folders, refused, name, word):
    error = refused("classify", VIDEO, "--labels", ",".join(LABELS), "--model", name)
    assert name in error and word in error


def test_without_a_model_a_public_clip_is_named_before_it_is_downloaded(folders, capsys, monkeypatch):
    command = ["classify", str(VIDEO), "--labels", ",".join(LABELS)]
    assert main([*command, "--model", "org/clip"]) == 0  # so that it is in the cache
    capsys.readouterr()
    assert main(command) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "openai/clip-vit-base-patch16" in first and "0.6 GB" in first
    assert "--model" in second and "org/clip" in second and "examples/demo/checkpoint" in second
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(command) == 2
    (offline,) = capsys.readouterr().err.splitlines()
    assert "--model" in offline and "org/clip" in offline


def test_without_a_connection_the_cache_answers_at_once(folders, capsys, monkeypatch):
    command = ["classify", str(VIDEO), "--labels", ",".join(LABELS), "--model", "org/clip", "--format", "json"]
    assert main(command) == 0
    online, waits = capsys.readouterr().out, []
    closed = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{closed}/{{repo_id}}/{{revision}}/{{filename}}")
    monkeypatch.setattr(_http.time, "sleep", waits.append)  # between the tries of a request
    assert main(command) == 0
    assert capsys.readouterr().out == online and not waits
    assert main([*command[:-3], "org/missing"]) == 2
    assert "org/missing" in capsys.readouterr().err.splitlines()[-1] and not waits


def test_info_and_search_say_what_x_clip_is(folders, tmp_path, capsys):
    assert main(["info", "--model", "org/xclip", "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["frames"] == 4 and facts["scores"] == "softmax" and "approximation" in facts["note"]
    assert main(["embed", str(VIDEO), "--model", "org/xclip", "--output", str(tmp_path / "vectors")]) == 0
    assert "approximation" in capsys.readouterr().err
    assert main(["classify", str(VIDEO), "--labels", ",".join(LABELS), "--model", "org/xclip"]) == 0
    assert "approximation" not in capsys.readouterr().err, "it concerns embeddings, not scores"


@pytest.mark.parametrize("command", ["explain", "export"])
def test_what_needs_a_vita_clip_says_so(folders, tmp_path, command, capsys):
    video = [str(VIDEO), "--label", "taxi"] if command == "explain" else []
    assert main([command, *video, "--model", "org/xclip", "--output", str(tmp_path / "out.png")]) == 2
    expected = f"vitaclip {command}: org/xclip: this is a 'xclip' model; give a Vita-CLIP checkpoint."
    assert capsys.readouterr().err.splitlines()[-1] == expected
