"""The shipped FSDP file: accelerate launches it, prepares the model by it, and the shards are shards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from test_distributed_training import assert_same_training, plain_training


TESTS = Path(__file__).parent
SHIPPED = TESTS.parents[1] / "configuration" / "accelerate" / "fsdp.yaml"


@pytest.mark.skipif(not hasattr(torch.cpu.Stream, "record_event"), reason="this torch does not shard on CPUs")
@pytest.mark.parametrize("wrapping", ["as shipped", "by the model's own names"])
def test_the_shipped_file_shards_and_trains_as_plain_gradient_descent(tokenizer, tmp_path, wrapping):
    settings = yaml.safe_load(SHIPPED.read_text())
    if wrapping != "as shipped":
        del settings["fsdp_config"]["fsdp_transformer_layer_cls_to_wrap"]  # accelerate asks `_no_split_modules`
    file = tmp_path / "fsdp.yaml"
    file.write_text(yaml.safe_dump(settings) if wrapping != "as shipped" else SHIPPED.read_text())
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(file),
        "--main_process_port",
        "0",
    ]
    command += [str(TESTS / "launched_fsdp.py"), str(tmp_path / "run")]
    paths = os.pathsep.join([str(TESTS.parents[1]), str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert finished.returncode == 0, finished.stderr[-3000:]
    about = json.loads((tmp_path / "run" / "shards.json").read_text())
    assert about["version"] is True
    assert {"VitaClipVisionLayer", "VitaClipTextLayer", "VitaClipForVideoClassification"} <= {
        unit.removeprefix("FSDP") for unit in about["units"]
    }
    assert len(about["shares"]) == about["parameters"]
    # Two ranks: every tensor with an even first dimension is halved.
    halves = [share for share in about["shares"].values() if share == 0.5]
    assert len(halves) > 0.9 * about["parameters"]
    assert_same_training(load_file(tmp_path / "run" / "trained.safetensors"), plain_training(tokenizer)[0])
