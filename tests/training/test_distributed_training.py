"""Any number of ranks and micro-batches trains as plain gradient descent; also sharded, and by the shipped file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from distributed_training import VIDEOS, FixedClips, new_model, run
from safetensors.torch import load_file
from tiny_training import assert_near

from vitaclip_hf.training.arguments import CHECKPOINTING


TESTS = Path(__file__).parent
SHIPPED = TESTS.parents[1] / "configuration" / "accelerate" / "fsdp.yaml"
TORCHRUN = ["torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
shards_on_cpus = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"), reason="this torch does not shard on CPUs"
)


def run_on_ranks(output: Path, mode: str, launcher: list[str] = TORCHRUN, **arguments) -> tuple[dict, dict]:
    """What two ranks trained, and the facts that they wrote."""
    program = [str(TESTS / "distributed_training.py"), str(output), json.dumps({"mode": mode} | arguments)]
    paths = os.pathsep.join([str(TESTS.parents[1]), str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    environment |= {"ACCELERATE_USE_CPU": "true"} if mode == "launched" else {}
    finished = subprocess.run(
        [sys.executable, "-m", *launcher, *program], capture_output=True, text=True, timeout=300, env=environment
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return load_file(output / "trained.safetensors"), json.loads((output / "facts.json").read_text())


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


@pytest.mark.parametrize(
    "arguments",
    [
        {"per_device_train_batch_size": 2, "total_batch_size": 8},
        {"per_device_train_batch_size": 4, "total_batch_size": 8, "soft": True, CHECKPOINTING: True},
    ],
    ids=["micro-batches", "soft labels, activation checkpointing"],
)
def test_two_ranks_train_as_plain_gradient_descent(tmp_path, arguments):
    trained, metrics = run_on_ranks(tmp_path, "run", **arguments)
    expected, losses = plain_training(arguments.get("soft", False))
    assert_near(trained, expected, atol=2e-6, rtol=1e-4)
    np.testing.assert_allclose(metrics["losses"], losses, rtol=1e-5)
    # Seven videos on two ranks of batches of two: one rank repeats some to fill up, none may count twice.
    np.testing.assert_allclose(metrics["eval_top1"], accuracy_by_hand(trained), atol=1e-6)
    assert metrics["eval_missing"] == 0


@shards_on_cpus
def test_sharded_weights_train_as_plain_gradient_descent(tmp_path):
    trained, _ = run_on_ranks(tmp_path, "sharded", micro_batches=2)
    assert_near(trained, plain_training()[0], atol=2e-6, rtol=1e-4)


@shards_on_cpus
@pytest.mark.parametrize("wrapping", ["as shipped", "by the model's own names"])
def test_the_shipped_file_shards_and_trains_as_plain_gradient_descent(tmp_path, wrapping):
    file = SHIPPED
    if wrapping != "as shipped":  # accelerate asks `_no_split_modules`
        settings = yaml.safe_load(SHIPPED.read_text())
        del settings["fsdp_config"]["fsdp_transformer_layer_cls_to_wrap"]
        file = tmp_path / "fsdp.yaml"
        file.write_text(yaml.safe_dump(settings))
    launcher = ["accelerate.commands.launch", "--config_file", str(file), "--main_process_port", "0"]
    trained, facts = run_on_ranks(tmp_path / "run", "launched", launcher)
    assert facts["fsdp2"] and facts["all sharded"]
    layers = {"VitaClipVisionLayer", "CLIPEncoderLayer", "VitaClipForVideoClassification"}
    assert layers <= {unit.removeprefix("FSDP") for unit in facts["units"]}
    # Two ranks: every tensor with an even first dimension is halved.
    assert facts["shares"].count(0.5) > 0.9 * len(facts["shares"])
    assert_near(trained, plain_training()[0], atol=2e-6, rtol=1e-4)
