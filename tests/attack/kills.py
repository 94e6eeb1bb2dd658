"""Runs that are killed at drawn moments and started again: they end with the bytes of a run that was not killed."""

import functools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from attack.outcomes import Attack
from safetensors.torch import load_file
from tiny_training import arguments


ROOT = Path(__file__).parents[2]
MAX_STARTS = 6
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
# What is launched, and the arguments that differ.
TRAININGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "training with workers": ((), ("--dataloader_num_workers", "2")),
    "training of prompts only": ((), ("--prompts_only", "true")),
    "training on two ranks": (TORCHRUN, ()),
    "training in one process": ((), ()),
}
RUNS = (*TRAININGS, "evaluation", "index")


def command_of(run: str, start: Path, videos: Path, output: Path) -> list[str]:
    """The command that starts a run, or goes on with it."""
    vitaclip, given = ("-m", "vitaclip_hf.cli"), ("--model", str(start))
    if run == "evaluation":
        options = ["--protocol", "own-zero-shot", "--cpu", "--batch-size", "1", "--workers", "1"]
        return [*vitaclip, "evaluate", *given, "--videos", str(videos), "--output", str(output), *options]
    if run == "index":
        return [*vitaclip, "index", str(videos), *given, "--index", str(output)]
    launcher, more = TRAININGS[run]
    if any(output.glob("*.safetensors")) or any(output.glob("checkpoint-*")):
        more = (*more, "--resume")
    else:
        shutil.rmtree(output, ignore_errors=True)
    return [*launcher, *vitaclip, "train", *arguments(start, videos, output, *more)]


def result_of(run: str, output: Path) -> Any:
    """What a finished run leaves."""
    if run == "evaluation":
        return json.loads((output / "results.json").read_text())["rows"]
    if run == "index":
        from vitaclip_hf.library.store import read_embeddings

        rows = read_embeddings(output).to_pylist()
        return [(row["video"], row["start"], row["content"], row["vector"]) for row in rows]
    [file] = output.glob("*.safetensors")
    return {name: tensor.tolist() for name, tensor in load_file(file).items()}


def killed(command: list[str], seconds: float) -> bool:
    """Runs a command and kills it with all its children after some seconds; whether it was still running then."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, start_new_session=True, **pipes)
    try:
        errors = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        own = psutil.Process(process.pid)
        for each in (own, *own.children(recursive=True)):  # ranks and workers have sessions of their own
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate()
        return True
    if process.returncode:
        raise AssertionError(f"exit {process.returncode}: {errors[-1500:]}")
    return False


@functools.cache
def without_kills(run: str, start: Path, videos: Path, output: Path) -> tuple[float, Any]:
    """Seconds and result of a run that is left alone; made once for all rounds."""
    begin = time.monotonic()
    if killed(command_of(run, start, videos, output), 600):
        raise AssertionError("not finished after 10 minutes")
    return time.monotonic() - begin, result_of(run, output)


def survive(run: str, start: Path, videos: Path, scratch: Path, draw: random.Random) -> str:
    """Kills a run a few times on its way, and lets it end."""
    seconds, expected = without_kills(run, start, videos, scratch / run)
    output = scratch / f"killed {run}"
    kills = 0
    for _ in range(MAX_STARTS - 1):
        if killed(command_of(run, start, videos, output), seconds * draw.uniform(0.3, 1.0)):
            kills += 1
        elif not kills:  # it was done by then: once more from the start
            shutil.rmtree(output)
        if kills and draw.random() < 0.5:
            break
    if not kills:
        raise AssertionError("it was always done before the kill")
    killed(command_of(run, start, videos, output), 600)
    if result_of(run, output) != expected:
        raise AssertionError("another result than without kills")
    shutil.rmtree(output)
    return f"{run}, killed {kills} times"


def of_round(number: int) -> tuple[str, ...]:
    """The runs of a round: one kind of training, and the others."""
    return (tuple(TRAININGS)[number % len(TRAININGS)], "evaluation", "index")


def attacks(start: Path, videos: Path, scratch: Path, seed: int, runs: Iterable[str]) -> Iterator[Attack]:
    for run in runs:
        draw = random.Random(f"{run}-{seed}")
        yield Attack(f"{run}-{seed}", functools.partial(survive, run, start, videos, scratch, draw))
