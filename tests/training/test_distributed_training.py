import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed_training import VIDEOS, FixedClips, run
from safetensors.torch import load_file
from tiny_models import tiny_model

from vitaclip_hf import VitaClipForVideoClassification


TESTS = Path(__file__).parent
RANKS = 2


def run_on_ranks(output: Path, **arguments) -> dict[str, torch.Tensor]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(RANKS), "--master_port", "0"]
    command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
    command += [str(TESTS / "distributed_training.py"), str(output), json.dumps(arguments)]
    paths = os.pathsep.join([str(TESTS.parents[1]), str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return load_file(output / "trained.safetensors")


def plain_training(tokenizer, soft: bool = False, steps: int = 2) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Plain SGD on the mean loss of all videos, without any trainer: what was trained, and each step's loss."""
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification)
    model.freeze_backbone()
    data = FixedClips(VIDEOS, soft)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    losses = []
    for _ in range(steps):
        video = torch.nn.functional.normalize(model.get_video_features(data.pixels).pooler_output, dim=-1)
        classes = torch.nn.functional.normalize(model.get_class_features().pooler_output, dim=-1)
        loss = torch.nn.functional.cross_entropy(model.logit_scale.exp() * video @ classes.T, data.labels)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(trained.values()))
        with torch.no_grad():
            for parameter, gradient in zip(trained.values(), gradients, strict=True):
                parameter -= 0.1 * gradient
    return {name: parameter.detach() for name, parameter in trained.items()}, losses


def assert_same_training(found: dict, expected: dict, tolerance: float = 2e-6) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=tolerance, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def assert_logged(output: Path, losses: list[float]) -> dict[str, float]:
    """The metrics that were written, once their losses are the expected ones."""
    metrics = json.loads((output / "metrics.json").read_text())
    np.testing.assert_allclose(metrics["losses"], losses, rtol=1e-5)
    return metrics


def accuracy_by_hand(trained: dict, tokenizer) -> float:
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification)
    assert not model.load_state_dict(trained, strict=False).unexpected_keys
    data = FixedClips(7, views=2)
    with torch.no_grad():
        scores = model(data.pixels.flatten(0, 1)).logits.softmax(-1).unflatten(0, (7, 2)).mean(1)
    return (scores.argmax(-1) == data.labels).float().mean().item()


@pytest.mark.parametrize("soft", [False, True])
def test_one_rank_trains_as_plain_gradient_descent(tokenizer, tmp_path, soft):
    expected, losses = plain_training(tokenizer, soft)
    assert abs(losses[0] - losses[1]) > 1e-3
    start = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification).class_prompts.context
    assert (expected["class_prompts.context"] - start).abs().max() > 1e-4
    for size in (8, 4, 2):
        run(tmp_path / str(size), soft, per_device_train_batch_size=size, total_batch_size=VIDEOS)
        assert_same_training(load_file(tmp_path / str(size) / "trained.safetensors"), expected)
        assert_logged(tmp_path / str(size), losses)


@pytest.mark.parametrize(
    "arguments",
    [
        {"per_device_train_batch_size": 2, "total_batch_size": 8},
        {"per_device_train_batch_size": 4, "total_batch_size": 8, "soft": True, "gradient_checkpointing": True},
    ],
    ids=["micro-batches", "soft labels, activation checkpointing"],
)
def test_two_ranks_train_as_plain_gradient_descent(tokenizer, tmp_path, arguments):
    found = run_on_ranks(tmp_path, **arguments)
    expected, losses = plain_training(tokenizer, arguments.get("soft", False))
    assert_same_training(found, expected)
    metrics = assert_logged(tmp_path, losses)
    # Seven videos on two ranks of batches of two: one rank repeats some to fill up, none may count twice.
    np.testing.assert_allclose(metrics["eval_top1"], accuracy_by_hand(found, tokenizer), atol=1e-6)
    assert metrics["eval_missing"] == 0


@pytest.mark.skipif(not hasattr(torch.cpu.Stream, "record_event"), reason="this torch does not shard on CPUs")
def test_sharded_weights_train_as_plain_gradient_descent(tokenizer, tmp_path):
    found = run_on_ranks(tmp_path, micro_batches=2)
    assert_same_training(found, plain_training(tokenizer)[0])
