"""Any number of ranks and micro-batches trains as plain gradient descent; also sharded, and by the shipped file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed_training import VIDEOS, FixedClips, new_model, run
from safetensors.torch import load_file
from tiny_models import tiny_model
from tiny_training import assert_near

from vitaclip_hf import VitaClipForVideoClassification
from vitaclip_hf.training.arguments import CHECKPOINTING
from vitaclip_hf.training.shared_class_embeds import SharedClassEmbeds


TESTS = Path(__file__).parent
SHIPPED = TESTS.parents[1] / "configuration" / "accelerate" / "fsdp.yaml"


def result_of(folder: Path) -> tuple[dict, dict]:
    """What was trained, and the facts that were written."""
    return load_file(folder / "trained.safetensors"), json.loads((folder / "facts.json").read_text())


def plain_training(soft: bool = False) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Plain SGD on the mean loss of all videos, without any trainer: what was trained, and each step's loss."""
    model, data = new_model(), FixedClips(VIDEOS, soft)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    losses = []
    for _ in range(2):
        video = torch.nn.functional.normalize(model.get_video_features(data.pixels).pooler_output, dim=-1)
        classes = torch.nn.functional.normalize(model.get_class_features().pooler_output, dim=-1)
        loss = torch.nn.functional.cross_entropy(model.logit_scale.exp() * video @ classes.T, data.labels)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(trained.values()))
        with torch.no_grad():
            for parameter, gradient in zip(trained.values(), gradients, strict=True):
                parameter -= 0.1 * gradient
    return {name: parameter.detach() for name, parameter in trained.items()}, losses


def accuracy_by_hand(trained: dict) -> float:
    model, data = new_model().eval(), FixedClips(7, views=2)
    assert not model.load_state_dict(trained, strict=False).unexpected_keys
    with torch.no_grad():
        scores = model(data.pixels.flatten(0, 1)).logits.softmax(-1).unflatten(0, (7, 2)).mean(1)
    return (scores.argmax(-1) == data.labels).float().mean().item()


@pytest.mark.parametrize("soft", [False, True])
def test_one_rank_trains_as_plain_gradient_descent(tmp_path, soft):
    expected, losses = plain_training(soft)
    assert abs(losses[0] - losses[1]) > 1e-3
    assert (expected["class_prompts.context"] - new_model().class_prompts.context).abs().max() > 1e-4
    for size in (8, 4, 2):
        output = tmp_path / str(size)
        run(output, soft, per_device_train_batch_size=size, total_batch_size=VIDEOS)
        assert_near(load_file(output / "trained.safetensors"), expected, atol=2e-6, rtol=1e-4)
        np.testing.assert_allclose(json.loads((output / "facts.json").read_text())["losses"], losses, rtol=1e-5)


JOBS = {
    "micro-batches": {"per_device_train_batch_size": 2, "total_batch_size": 8},
    "soft labels": {"per_device_train_batch_size": 4, "total_batch_size": 8, "soft": True, CHECKPOINTING: True},
}
SHARDED = {"sharded": {}} if hasattr(torch.cpu.Stream, "record_event") else {}  # not by every torch on CPUs


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> Path:
    """Two ranks do the jobs one after the other: a process takes longer to start than to train."""
    output = tmp_path_factory.mktemp("ranks")
    launcher = ["accelerate.commands.launch", "--config_file", str(SHIPPED), "--main_process_port", "0"]
    program = [str(TESTS / "distributed_training.py"), str(output), json.dumps(JOBS | SHARDED)]
    paths = os.pathsep.join([str(TESTS.parents[1]), str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    finished = subprocess.run(
        [sys.executable, "-m", *launcher, *program], capture_output=True, text=True, env=environment
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return output


@pytest.mark.parametrize("job", JOBS)
def test_two_ranks_train_as_plain_gradient_descent(two_ranks, job):
    """In micro-batches; and with soft labels and activation checkpointing."""
    trained, metrics = result_of(two_ranks / job)
    expected, losses = plain_training(JOBS[job].get("soft", False))
    assert_near(trained, expected, atol=2e-6, rtol=1e-4)
    np.testing.assert_allclose(metrics["losses"], losses, rtol=1e-5)
    # Seven videos on two ranks of batches of two: one rank repeats some to fill up, none may count twice.
    np.testing.assert_allclose(metrics["eval_top1"], accuracy_by_hand(trained), atol=1e-6)
    assert metrics["eval_missing"] == 0


@pytest.mark.parametrize("job", SHARDED)
def test_the_shipped_file_shards_and_trains_as_plain_gradient_descent(two_ranks, job):
    trained, facts = result_of(two_ranks / job)
    assert facts["fsdp2"] and facts["all sharded"]
    layers = {"VitaClipVisionLayer", "CLIPEncoderLayer", "VitaClipForVideoClassification"}
    assert layers <= {unit.removeprefix("FSDP") for unit in facts["units"]}
    # Two ranks: every tensor with an even first dimension is halved.
    assert facts["shares"].count(0.5) > 0.9 * len(facts["shares"])
    assert_near(trained, plain_training()[0], atol=2e-6, rtol=1e-4)
    np.testing.assert_allclose(facts["eval_top1"], accuracy_by_hand(trained), atol=1e-6)
    assert facts["restored"] == facts["eval_loss"]


# Class features that the micro-batches of a step share


def double_model(tokenizer) -> VitaClipForVideoClassification:
    """In float64, so that only a different sum and no rounding can make a difference."""
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification).double().train()
    model.freeze_backbone()
    return model


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def test_gradients_are_those_of_the_plain_way_for_any_split(tokenizer):
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(6, 4, 3, 32, 32, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (6,), generator=generator)
    plain = double_model(tokenizer)
    embeds = torch.nn.functional.normalize(plain.get_class_features().pooler_output, dim=-1)
    video = torch.nn.functional.normalize(plain.get_video_features(pixels).pooler_output, dim=-1)
    logits = plain.logit_scale.exp() * video @ embeds.T
    torch.nn.functional.cross_entropy(logits, labels).backward()
    expected = gradients(plain)
    assert expected["class_prompts.context"].abs().max() > 1e-4
    for sizes in ([6], [3, 3], [1, 2, 3], [1] * 6):
        model, runs = double_model(tokenizer), []
        model.text_model.encoder.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        step = SharedClassEmbeds(model)
        for index, (some, truth) in enumerate(zip(pixels.split(sizes), labels.split(sizes), strict=True)):
            shared = step.for_micro_batch(is_last=index == len(sizes) - 1)
            model(some, labels=truth, num_items_in_batch=6, class_embeds=shared).loss.backward()
        assert len(runs) == 1
        assert_near(gradients(model), expected, atol=1e-12, rtol=1e-9)
        step.for_micro_batch(is_last=True)
        assert len(runs) == 2  # the next step computes anew
