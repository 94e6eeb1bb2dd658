"""The attacks of this folder, seeded and short; `make attack` runs them long."""

import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from attack import hostile_folders, kills, media_files, publishing, released_files
from attack.outcomes import Outcomes
from tiny_models import tiny_model, tiny_processor
from tiny_training import save_start

from vitaclip_hf import CheckpointError, ZeroShotVideoClassificationPipeline, load_checkpoint, open_video
from vitaclip_hf.model.scorer import ScoreError


@pytest.fixture(scope="module")
def good(tokenizer, tmp_path_factory):
    return save_start(tmp_path_factory.mktemp("good") / "folder", tokenizer)


def outcomes_of(attacks) -> dict[str, int]:
    """Counts of the outcomes, none of which is a defect."""
    outcomes = Outcomes().run(attacks)
    assert outcomes.defects == []
    return outcomes.counts


def test_damaged_clips():
    recipes = ("sparse_keyframes.mp4", "vp9.webm", "mpeg4_b_frames.avi", "transport_stream.ts")
    counts = outcomes_of(media_files.damaged_clips(seed=1, count=160, recipes=recipes))
    assert counts["VideoDecodingError"] > 40 and counts["frames"] > 20 and counts.total() == 160


def test_bombs_and_scripts():
    assert outcomes_of(media_files.bombs()).total() >= 45


def test_released_files(golden_cases, tokenizer_folder):
    case = golden_cases["all_prompts_csc_end"]
    counts = outcomes_of(released_files.attacks(case, tokenizer_folder, seed=1, count=16))
    assert counts["ValueError"] > 5 and counts.total() >= 10


def test_cards(tokenizer):
    cards = publishing.cards(tiny_model(tokenizer=tokenizer), tiny_processor(tokenizer))
    assert outcomes_of(cards).total() >= 70


@pytest.mark.slow
def test_hostile_folders(good):
    chosen = ["pickle", "code", "index:../../../etc/passwd", "header:huge tensor", "weights:nan", "kernel of the hub"]
    chosen += [name for number, (name, _) in enumerate(hostile_folders.changes()) if "=" in name and number % 97 == 5]
    assert outcomes_of(hostile_folders.attacks(good, chosen)).total() == len(chosen) > 16


# With these, a model is made and loaded, but cannot be used: they have to be refused when the folder is loaded.
UNUSABLE = (
    *("config.json:vision_config.num_attention_heads=2", "config.json:text_config.num_attention_heads=2"),
    *("config.json:text_config.eos_token_id=19", "processor_config.json:video_processor.size=2"),
    *(f"processor_config.json:video_processor.{end}" for end in ("size=5", "rescale_factor=3", "resample=2")),
    *(f"processor_config.json:video_processor.{end}" for end in ("seed=8", "crop_size=0", "size=19")),
    *(f"tokenizer_config.json:model_max_length={number}" for number in (12, 15)),
)


@pytest.mark.slow
def test_folders_that_load_and_cannot_be_used(good):
    names = [*UNUSABLE, *(name for name, _ in hostile_folders.processor_changes())]
    assert outcomes_of(hostile_folders.attacks(good, names)) == {"CheckpointError": len(names)}


def test_an_impossible_size_takes_no_memory(good, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for part, fields in (
        ("vision_config", {"hidden_size": 10**9}),
        ("text_config", {"vocab_size": 10**9}),
        ("vision_config", {"num_frames": 10**9}),
        # As lists, the class prompts took 8 GB for each of a model's classes.
        ("text_config", {"max_position_embeddings": 2 * 10**6, "num_context_tokens": 10**6}),
        ("text_config", {"max_position_embeddings": 2 * 10**9, "num_context_tokens": 10**9}),
    ):
        folder = hostile_folders.copied(good, tmp_path / "folder")
        for field, value in fields.items():
            hostile_folders.set_field("config.json", (part, field), value)(folder)
        with pytest.raises(CheckpointError, match="folder"):
            load_checkpoint(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def huge(path: Path) -> None:
    """1 TB that takes no disk."""
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
@pytest.mark.parametrize("make", [os.mkfifo, partial(os.symlink, "/dev/zero"), huge])
def test_pipes_devices_and_huge_texts_are_never_read(good, tmp_path, name, make):
    folder = hostile_folders.copied(good, tmp_path / "folder")
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


def test_a_flipped_bit_is_found(good, tmp_path):
    folder = hostile_folders.copied(good, tmp_path / "folder")
    hostile_folders.flip_bit(folder)
    with pytest.raises(CheckpointError, match="model.safetensors.*checksums.json"):
        load_checkpoint(folder)
    (folder / "checksums.json").unlink()  # as in folders of others
    assert load_checkpoint(folder).kind == "vita-clip"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers(value, tokenizer):
    model = tiny_model(tokenizer=tokenizer)
    model.logit_scale.data.fill_(value)
    parts = {"tokenizer": tokenizer, "video_processor": tiny_processor(tokenizer).video_processor}
    classifier = ZeroShotVideoClassificationPipeline(model, **parts)
    for labels in (None, ["archery", "yoga"]):
        with pytest.raises(ScoreError):
            classifier(np.zeros((4, 32, 32, 3), np.uint8), candidate_labels=labels)


def test_each_limit_is_on_the_page():
    root = Path(__file__).parents[2]
    files = (file for part in ("vitaclip_hf", "conversion") for file in (root / part).rglob("*.py"))
    sources = "\n".join(file.read_text("utf-8") for file in files)
    page = (root / "SECURITY.md").read_text("utf-8")
    assert set(re.findall(r"^(MAX_\w+) =", sources, re.MULTILINE)) == set(re.findall(r"`(MAX_\w+)`", page))


@pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan")])
def test_wrong_time_limits(videos, seconds):
    with pytest.raises(ValueError, match="`max_seconds`"):
        open_video(min(videos.rglob("*.mp4")), max_seconds=seconds)


@pytest.mark.slow  # minutes
@pytest.mark.parametrize("run", kills.RUNS)
def test_killed_runs(good, videos, tmp_path, run):
    assert outcomes_of(kills.attacks(good, videos, tmp_path, seed=1, runs=[run])).total() == 1
