"""`vitaclip evaluate`, its script for several ranks, and `evaluate` from Python."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from accelerate import PartialState
from evaluation_runs import CHECKPOINT

from vitaclip_hf.cli.main import main
from vitaclip_hf.evaluation.evaluator import Evaluator
from vitaclip_hf.evaluation.protocols import EvaluationError
from vitaclip_hf.evaluation.run import EvaluationArguments, evaluate


ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("one_thread", "fresh_process_state")


def command(videos, output, *arguments) -> list[str]:
    options = ["--model", CHECKPOINT, "--protocol", videos / "lists" / "mini.yaml", "--videos", videos]
    options += ["--annotations", videos / "lists", "--output", output, "--workers", "0", "--cpu", *arguments]
    return [str(part) for part in options]


@pytest.mark.slow
def test_two_ranks_killed_half_way(videos, finished, tmp_path):
    """Both ranks killed after their first batch; then they go on: the same bytes as in one go."""
    output = tmp_path / "results"
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ranks += [str(ROOT / "examples" / "evaluate.py"), *command(videos, output, "--batch-size", "5")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(ranks, env=environment, **quiet)
    while process.poll() is None:
        if any(b"\n" in file.read_bytes() for file in output.glob("progress/*.jsonl")):
            break
        time.sleep(0.02)
    for part in [*psutil.Process(process.pid).children(recursive=True), process]:
        part.kill()
    process.wait()
    assert not (output / "results.json").exists()
    done = subprocess.run(ranks, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "videos are finished" in done.stdout and done.stdout.count("written to") == 1
    assert "missing: missing.mp4" in done.stderr
    assert {file.name for file in output.glob("progress/*")} == {"rank-0.jsonl", "rank-1.jsonl"}
    assert (output / "predictions.parquet").read_bytes() == (finished.folder / "predictions.parquet").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "token"),
    [
        (["--protocol", "hmdb51-zeroshot"], "'hmdb51-zero-shot'"),
        (["--annotations", "none.txt"], "none.txt"),
        (["--templates", "no place"], "--templates"),
        (["--text", "supervised"], "--text"),
        (["--model", "no/such/folder"], "no/such/folder"),
        (["--workers", "-1"], "--workers"),
        (["--batch_size", "0"], "--batch-size"),
        (["--num-view", "3"], "num_views"),
        (["--blend", "2"], "--blend"),
        (["--videos", str(ROOT / "tests")], "12 videos"),
    ],
)
def test_bad_input_is_one_line(videos, tmp_path, refused, arguments, token):
    error = refused("evaluate", *command(videos, tmp_path / "r", *arguments))
    assert token in error and error.startswith("vitaclip evaluate: ") and not (tmp_path / "r" / "setup.json").exists()


def test_exit_code_where_no_video_was_scored(videos, tmp_path):
    """With names that matplotlib would read as a formula, and that UTF-8 cannot hold."""
    (tmp_path / "list.csv").write_text("damaged.mp4,$_$\n")
    (tmp_path / "$_$\udce9.yaml").write_text("tasks:\n  zero-shot:\n")
    arguments = ["--protocol", tmp_path / "$_$\udce9.yaml", "--annotations", tmp_path / "list.csv", "--no-frozen-clip"]
    assert main(["evaluate", *command(videos, tmp_path / "r", *arguments)]) == 1


def test_evaluate_from_python(videos, tmp_path, finished):
    """The same predictions as in one go; called again, nothing is left to do."""
    protocol, lists = str(videos / "lists" / "mini.yaml"), str(videos / "lists")
    options = {"output": str(tmp_path / "r"), "batch_size": 5, "workers": 0, "cpu": True}
    arguments = EvaluationArguments(str(CHECKPOINT), protocol, str(videos), annotations=lists, **options)
    PartialState(cpu=True).device = torch.device("meta")  # as if an earlier call had used an accelerator
    results = evaluate(arguments, verbose=False)
    assert results == json.loads((tmp_path / "r" / "results.json").read_text())
    predictions = (tmp_path / "r" / "predictions.parquet").read_bytes()
    assert predictions == (finished.folder / "predictions.parquet").read_bytes()
    progress = (tmp_path / "r" / "progress" / "rank-0.jsonl").read_bytes()
    assert evaluate(arguments, verbose=False)["rows"] == results["rows"]
    assert (tmp_path / "r" / "progress" / "rank-0.jsonl").read_bytes() == progress
    with pytest.raises(EvaluationError, match=r"protocol\.num_views"):
        evaluate(arguments, verbose=False, num_views=3, max_seconds=60)
    arguments.dtype = "int8"
    with pytest.raises(ValueError, match="`dtype` must be"):
        evaluate(arguments, verbose=False)


@pytest.mark.parametrize(
    ("stop", "code", "token"),
    [
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), 2, "--batch-size"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_rank_that_stops_says_why(videos, tmp_path, monkeypatch, capsys, stop, code, token):
    monkeypatch.setattr(Evaluator, "score", lambda *_: (_ for _ in ()).throw(stop))
    assert main(["evaluate", *command(videos, tmp_path / "r")]) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("vitaclip evaluate: ") and token in error and "the same command goes on" in error
