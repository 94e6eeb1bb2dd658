"""Commands with models of other families, from a local Hub, and without `--model`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer
from tiny_encoders import save_tiny_encoder

from vitaclip_hf import load_checkpoint


ROOT = Path(__file__).parents[2]
VIDEO = ROOT / "examples" / "demo" / "videos" / "red_star_turning.mp4"
LABELS = ["red star", "blue heart"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    for family in ("clip", "siglip", "xclip"):
        save_tiny_encoder(family, root / family)
    return root


@pytest.fixture(scope="module")
def vitaclip(folders, tmp_path_factory):
    """Runs the command in a process whose Hub holds the models."""
    with HubServer() as hub:
        for family in ("clip", "siglip", "xclip"):
            hub.add(f"org/{family}", folders / family)
        hub.add("org/gated", folders / "clip")
        hub.gated.add("org/gated")
        home = tmp_path_factory.mktemp("home")

        def run(*arguments, **environment):
            kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
            hub_of = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-m", "vitaclip_hf.cli", *map(str, arguments)]
            return subprocess.run(command, capture_output=True, text=True, env=kept | hub_of | environment, timeout=300)

        yield run


def test_classify_by_hub_id(vitaclip, folders):
    done = vitaclip("classify", VIDEO, "--labels", ",".join(LABELS), "--model", "org/siglip", "--format", "json")
    (answer,) = json.loads(done.stdout)
    expected = load_checkpoint(folders / "siglip").classifier()(str(VIDEO), candidate_labels=LABELS)
    assert [(row["label"], row["score"]) for row in answer["scores"]] == [(r["label"], r["score"]) for r in expected]
    assert answer["activation"] == "sigmoid" and "independent" in done.stderr and done.returncode == 0


@pytest.mark.parametrize(("name", "word"), [("org/gated", "gated"), ("org/missing", "not a valid model")])
def test_a_model_that_cannot_be_had_is_one_line(vitaclip, name, word):
    done = vitaclip("classify", VIDEO, "--labels", ",".join(LABELS), "--model", name)
    (line,) = done.stderr.splitlines()
    assert name in line and word in line and done.returncode == 2


def test_without_a_model_a_public_clip_is_named_before_it_is_downloaded(vitaclip):
    command = ("classify", VIDEO, "--labels", ",".join(LABELS))
    assert vitaclip(*command, "--model", "org/clip").returncode == 0  # so that it is in the cache
    first, second = vitaclip(*command).stderr.splitlines()
    assert "openai/clip-vit-base-patch16" in first and "0.6 GB" in first
    assert "--model" in second and "org/clip" in second and "examples/demo/checkpoint" in second
    (offline,) = vitaclip(*command, HF_HUB_OFFLINE="1").stderr.splitlines()
    assert "--model" in offline and "org/clip" in offline


def test_info_and_search_say_what_x_clip_is(vitaclip, tmp_path):
    facts = json.loads(vitaclip("info", "--model", "org/xclip", "--format", "json").stdout)
    assert facts["frames"] == 4 and facts["scores"] == "softmax" and "approximation" in facts["note"]
    embedded = vitaclip("embed", VIDEO, "--model", "org/xclip", "--output", tmp_path / "vectors")
    assert embedded.returncode == 0 and "approximation" in embedded.stderr


@pytest.mark.parametrize("command", ["explain", "export"])
def test_what_needs_a_vita_clip_says_so(vitaclip, tmp_path, command):
    video = [VIDEO, "--label", "red star"] if command == "explain" else []
    done = vitaclip(command, *video, "--model", "org/xclip", "--output", tmp_path / "out.png")
    assert done.returncode == 2
    assert (
        done.stderr.splitlines()[-1]
        == f"vitaclip {command}: org/xclip: this is a 'xclip' model; give a Vita-CLIP checkpoint."
    )
