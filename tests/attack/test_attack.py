"""The attacks of this folder, seeded and short; `make attack` runs them long."""

import json
import os
import time

import numpy as np
import pytest
import torch
from attack import hostile_folders, kills, media_files, publishing, released_files
from attack.outcomes import Outcomes, table
from tiny_models import tiny_model
from tiny_training import save_start, write_videos
from transformers import pipeline

from vitaclip_hf import (
    CheckpointError,
    VideoDecodingError,
    VitaClipForVideoClassification,
    VitaClipProcessor,
    VitaClipVideoClassificationPipeline,
    VitaClipVideoProcessor,
    load_checkpoint,
    open_video,
)
from vitaclip_hf.model import decoding, decoding_process
from vitaclip_hf.model.scorer import ScoreError


@pytest.fixture(scope="module")
def good(tokenizer, tmp_path_factory):
    return save_start(tmp_path_factory.mktemp("good") / "folder", tokenizer)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos"))


def expect_no_defects(outcomes: Outcomes, at_least: int) -> None:
    about = outcomes.as_dict()
    assert about["defects"] == 0, table([outcomes]) + "\n" + "\n".join(outcomes.defects)
    assert about["attacks"] >= at_least


def test_damaged_clips():
    recipes = ("sparse_keyframes.mp4", "vp9.webm", "mpeg4_b_frames.avi", "transport_stream.ts")
    found = media_files.attack_damaged_clips(seed=1, count=160, recipes=recipes)
    expect_no_defects(found, 160)
    assert found.counts["VideoDecodingError"] > 40 and found.counts["frames"] > 20


def test_bombs_and_scripts(tmp_path):
    expect_no_defects(media_files.attack_bombs(tmp_path), 45)


def test_released_files(golden_cases, tokenizer_folder):
    found = released_files.attack_released_files(
        golden_cases["all_prompts_csc_end"], tokenizer_folder, seed=1, count=16
    )
    expect_no_defects(found, 10)
    assert found.counts["ValueError"] > 5


def test_hostile_folders(good):
    chosen = ("pickle", "code", "index:../../../etc/passwd", "header:huge tensor", "weights:nan", "kernel of the hub")
    expect_no_defects(hostile_folders.attack_hostile_folders(good, lambda number, name: name in chosen), len(chosen))


def test_fields_of_hostile_folders(good):
    def chosen(number: int, name: str) -> bool:
        return "=" in name and number % 97 == 5

    expect_no_defects(hostile_folders.attack_hostile_folders(good, chosen), 10)


# With these, a model is made and loaded, but cannot be used: they have to be refused when the folder is loaded.
UNUSABLE = (
    *("config.json:vision_config.num_attention_heads=2", "config.json:text_config.num_attention_heads=2"),
    *("config.json:text_config.eos_token_id=19", "processor_config.json:video_processor.size=2"),
    *(f"processor_config.json:video_processor.{end}" for end in ("size=5", "rescale_factor=3", "resample=2")),
    *(f"processor_config.json:video_processor.{end}" for end in ("seed=8", "crop_size=0", "size=19")),
)


def test_folders_that_load_and_cannot_be_used(good):
    found = hostile_folders.attack_hostile_folders(good, lambda number, name: name in UNUSABLE)
    expect_no_defects(found, len(UNUSABLE))
    assert dict(found.counts) == {"CheckpointError": len(UNUSABLE)}


def test_cards(tokenizer, tmp_path):
    model = tiny_model(tokenizer=tokenizer)
    processor = VitaClipProcessor(VitaClipVideoProcessor(num_frames=4), tokenizer)
    expect_no_defects(publishing.attack_cards(model, processor, tmp_path), 70)


def test_an_impossible_size_takes_no_memory(good, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for part, field in (
        ("vision_config", "hidden_size"),
        ("text_config", "vocab_size"),
        ("vision_config", "num_frames"),
    ):
        folder = hostile_folders.copied(good, tmp_path / "folder")
        hostile_folders._set("config.json", (part, field), 10**9)(folder)
        with pytest.raises(CheckpointError, match="folder"):
            load_checkpoint(folder)
    for tokens in (10**6, 10**9):  # as lists, the class prompts took 8 GB for each of a model's classes
        folder = hostile_folders.copied(good, tmp_path / "folder")
        hostile_folders._set("config.json", ("text_config", "max_position_embeddings"), 2 * tokens)(folder)
        hostile_folders._set("config.json", ("text_config", "num_context_tokens"), tokens)(folder)
        with pytest.raises(CheckpointError, match="folder"):
            load_checkpoint(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_a_crop_that_no_frame_has_takes_no_memory(good, tmp_path):
    folder = hostile_folders.copied(good, tmp_path / "folder")
    config = json.loads((folder / "processor_config.json").read_text())
    config["video_processor"]["crop_size"] = {"height": 1, "width": 100_000}
    (folder / "processor_config.json").write_text(json.dumps(config))
    start = time.monotonic()
    with pytest.raises(CheckpointError, match="its video processor cannot be used"):
        load_checkpoint(folder)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_mean", [0.5, float("nan"), 0.5]),
        ("image_std", [1.0, 0.0, 1.0]),
        ("image_mean", [0.5] * 5),
        ("image_std", "wide"),
    ],
)
def test_a_processor_that_makes_no_numbers(good, tmp_path, field, value):
    folder = hostile_folders.copied(good, tmp_path / "folder")
    config = json.loads((folder / "processor_config.json").read_text())
    config["video_processor"][field] = value
    (folder / "processor_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="its video processor cannot be used"):
        load_checkpoint(folder)


def test_a_flipped_bit_is_found(good, tmp_path):
    folder = hostile_folders.copied(good, tmp_path / "folder")
    hostile_folders._flip(folder)
    with pytest.raises(CheckpointError, match="model.safetensors.*checksums.json"):
        load_checkpoint(folder)
    (folder / "checksums.json").unlink()  # as in folders of others
    assert load_checkpoint(folder).kind == "vita-clip"


# Scores


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers(tokenizer, value):
    model = tiny_model(tokenizer=tokenizer)
    closed = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification)
    for each in (model, closed):
        each.logit_scale.data.fill_(value)
    processor = VitaClipVideoProcessor(num_frames=4, size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    clip = np.zeros((4, 32, 32, 3), np.uint8)
    zero_shot = pipeline("zero-shot-video-classification", model=model, tokenizer=tokenizer, video_processor=processor)
    with pytest.raises(ScoreError, match="NaN or infinite"):
        zero_shot(clip, candidate_labels=["a", "b"])
    assert "NaN" in zero_shot(clip, candidate_labels=["a", "b"], on_error="skip")["error"]
    classifier = VitaClipVideoClassificationPipeline(closed, video_processor=processor)
    for function in ("softmax", "sigmoid", "none"):
        with pytest.raises(ScoreError, match="NaN or infinite"):
            classifier(clip, function_to_apply=function)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_one_bad_file_does_not_end_a_list(good, videos, batch_size):
    files = sorted(map(str, videos.rglob("*.mp4")))[:3]
    files.insert(1, "no such file.mp4")
    zero_shot = pipeline("zero-shot-video-classification", model=str(good))
    closed = pipeline("video-classification", model=str(good), pipeline_class=VitaClipVideoClassificationPipeline)
    for run in (
        lambda given, **more: zero_shot(given, candidate_labels=["a", "b"], batch_size=batch_size, **more),
        lambda given, **more: closed(given, batch_size=batch_size, **more),
    ):
        with pytest.raises(VideoDecodingError, match="no such file"):
            run(files)
        answers = run(files, on_error="skip")
        assert [isinstance(answer, dict) for answer in answers] == [False, True, False, False]
        assert "no such file.mp4" in answers[1]["error"]
        for place in (0, 3):  # alone and not in a batch: the last digits may differ
            alone = run(files[place])
            assert [row["label"] for row in answers[place]] == [row["label"] for row in alone]
            assert [row["score"] for row in answers[place]] == pytest.approx([row["score"] for row in alone], abs=1e-5)
        assert list(run(iter(files), on_error="skip")) == answers
        with pytest.raises(ValueError, match="`on_error` must be"):
            run(files, on_error="ignore")
        with pytest.raises(ValueError):  # a mistake of the call is no error of an item
            run(files, on_error="skip", sampling="wrong")


# Time limits


def test_a_decoder_that_hangs_is_ended(videos, monkeypatch):
    file = min(videos.rglob("*.mp4"))
    expected = open_video(file).read([0, 2])
    assert torch.equal(open_video(file, max_seconds=60).read([0, 2]), expected)

    def hang(self, numbers):
        while True:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(decoding_process, "IDLE", [])
        patch.setattr(decoding.PyAVVideo, "_decode", hang)
        started = time.monotonic()
        video = open_video(file, max_seconds=1)
        with pytest.raises(VideoDecodingError, match="not decoded after 1 s"):
            video.read([0])
        assert time.monotonic() - started < 5
    assert torch.equal(open_video(file, max_seconds=60).read([0, 2]), expected)  # and the run goes on


def test_a_decoder_that_dies_is_an_error(videos, monkeypatch):
    file = min(videos.rglob("*.mp4"))
    with monkeypatch.context() as patch:
        patch.setattr(decoding_process, "IDLE", [])
        patch.setattr(decoding.PyAVVideo, "_decode", lambda self, numbers: os._exit(1))
        with pytest.raises(VideoDecodingError, match="the decoding process ended"):
            open_video(file, max_seconds=60).read([0])
    assert len(open_video(file, max_seconds=60).read([0])) == 1


@pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan")])
def test_wrong_time_limits(videos, seconds):
    with pytest.raises(ValueError, match="`max_seconds` must be a positive number"):
        open_video(min(videos.rglob("*.mp4")), max_seconds=seconds)


# Kills, each of them minutes


@pytest.mark.slow
def test_killed_trainings(good, videos, tmp_path):
    expect_no_defects(kills.attack_trainings(good, videos, tmp_path, seed=1, numbers=range(3)), 3)


@pytest.mark.slow
def test_killed_evaluations(good, videos, tmp_path):
    expect_no_defects(kills.attack_evaluations(good, videos, tmp_path, seed=1, numbers=range(2)), 2)


@pytest.mark.slow
def test_killed_indexes(good, videos, tmp_path):
    expect_no_defects(kills.attack_indexes(good, videos, tmp_path, seed=1, numbers=range(2)), 2)
