"""A training that takes seconds: a tiny model, twelve videos, four steps. For the tests of training."""

import json
from pathlib import Path

import drawn_clips
import torch
from safetensors.torch import load_file
from tiny_models import tiny_model, tiny_processor, vocabulary

from vitaclip_hf import save_checkpoint


NAMES = ("left", "growing", "blinking")


def save_start(folder: Path, tokenizer) -> Path:
    """A tiny random Vita-CLIP folder to start from; trainings from it take its CLIP and fresh prompts."""
    model = tiny_model(text=vocabulary(tokenizer), tokenizer=tokenizer)
    save_checkpoint(model, tiny_processor(tokenizer, num_frames=8), folder)
    return folder


def write_videos(folder: Path) -> Path:
    """Three classes of four short videos each."""
    for place, name in enumerate(NAMES):
        (folder / name).mkdir()
        for number in range(4):
            drawn_clips.write(folder / name / f"{number}.mp4", count=8, size=(48, 48), first=16 * place + 4 * number)
    return folder


def arguments(start: Path, videos: Path, output: Path, *more: str) -> list[str]:
    """Four steps with everything random: augmentation, mixing, shuffling, random frames."""
    given = {
        "model": start, "fresh_prompts": True, "num_frames": 4, "num_context_tokens": 4, "videos": videos,
        "validation_share": 0.25, "rand_augment": "rand-m7-n2-mstd0.5", "mixup": 0.8, "flip": 0.5,
        "output_dir": output, "max_steps": 4, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
        "per_device_eval_batch_size": 2, "learning_rate": 0.01, "logging_steps": 1, "save_strategy": "steps",
        "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "use_cpu": True, "dataloader_num_workers": 0,
        "frame_stride": 1,
    }  # fmt: skip
    if "no" in more:  # of `eval_strategy`: its steps would be refused
        del given["eval_steps"]
    return [part for name, value in given.items() for part in (f"--{name}", str(value))] + list(more)


def history(folder: Path, name: str = "loss") -> list[dict]:
    """The entries of a run's log that have `name`."""
    state = json.loads((folder / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if name in entry]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_bit_equal(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def assert_near(found: dict, expected: dict, atol: float, rtol: float) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=atol, rtol=rtol, msg=lambda m, n=name: f"{n}: {m}")
