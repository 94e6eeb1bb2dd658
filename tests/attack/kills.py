"""Runs that are killed at drawn moments and started again: they end with the bytes of a run that was not killed."""

import functools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from attack.outcomes import Outcomes
from safetensors.torch import load_file
from tiny_training import arguments


ROOT = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
TRAIN = ("-m", "vitaclip_hf.cli", "train")
MAX_STARTS = 6


def started(command: list[str]) -> subprocess.Popen:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, start_new_session=True, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(command: list[str]) -> float:
    """Runs a command to its end; returns its seconds."""
    begin = time.monotonic()
    process = started(command)
    errors = process.communicate(timeout=600)[1]
    if process.returncode:
        raise AssertionError(f"exit {process.returncode}: {errors[-1500:]}")
    return time.monotonic() - begin


def killed(command: list[str], seconds: float) -> bool:
    """Runs a command and kills it with all its children; whether it was still running then."""
    process = started(command)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        own = psutil.Process(process.pid)
        for each in (own, *own.children(recursive=True)):  # ranks and workers have sessions of their own
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate()
        return True
    return False


def survive(first: list[str], again: Callable[[], list[str]], usual: float, draw: random.Random) -> str:
    """Kills a run a few times on its way, and lets it end."""
    kills = 0
    command = first
    for _ in range(MAX_STARTS - 1):
        kills += killed(command, usual * draw.uniform(0.3, 1.0))
        command = again()
        if draw.random() < 0.5:
            break
    finished(command)
    return f"killed {kills} times"


# A run without kills: its seconds, and what it leaves. Made once for all rounds.


@functools.cache
def usual_training(start: Path, videos: Path, scratch: Path, kind: str) -> tuple[float, dict[str, np.ndarray]]:
    seconds = finished(training(start, videos, scratch / kind, kind))
    return seconds, weights_in(scratch / kind)


@functools.cache
def usual_run(*command: str) -> float:
    return finished(list(command))


KINDS_OF_TRAINING: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "workers": ((), ("--dataloader_num_workers", "2")),
    "prompts only": ((), ("--prompts_only", "true")),
    "two ranks": (TORCHRUN, ()),
    "one process": ((), ()),
}


def training(start: Path, videos: Path, output: Path, kind: str, *also: str) -> list[str]:
    launcher, more = KINDS_OF_TRAINING[kind]
    return [*launcher, *TRAIN, *arguments(start, videos, output, *more, *also)]


def attack_trainings(start: Path, videos: Path, scratch: Path, seed: int, numbers: Iterable[int]) -> Outcomes:
    """Trainings with loader workers, of prompts alone, on two ranks, and in one process; the number chooses one."""
    outcomes = Outcomes("killed trainings")
    for number in numbers:
        kind = list(KINDS_OF_TRAINING)[number % len(KINDS_OF_TRAINING)]
        output = scratch / f"killed-{number}"

        def again(kind=kind, output=output) -> list[str]:
            names = ("model.safetensors", "prompts.safetensors")
            if any((output / name).exists() for name in names) or any(output.glob("checkpoint-*")):
                return training(start, videos, output, kind, "--resume")
            shutil.rmtree(output, ignore_errors=True)
            return training(start, videos, output, kind)

        def attack(kind=kind, number=number, output=output, again=again) -> str:
            seconds, expected = usual_training(start, videos, scratch, kind)
            outcome = survive(again(), again, seconds, random.Random(f"{seed}-{number}"))
            found = weights_in(output)
            if found.keys() != expected.keys() or any(not np.array_equal(found[n], expected[n]) for n in found):
                raise AssertionError("other weights than without kills")
            if list(output.glob(".vitaclip.lock*")):
                raise AssertionError("a lock is left")
            shutil.rmtree(output)
            return f"{kind} {outcome}"

        outcomes.attack(f"training-{kind}-{seed}-{number}", attack, ())
    return outcomes


def weights_in(folder: Path) -> dict[str, np.ndarray]:
    [file] = [folder / name for name in ("model.safetensors", "prompts.safetensors") if (folder / name).exists()]
    return {name: tensor.numpy() for name, tensor in load_file(file).items()}


def attack_evaluations(checkpoint: Path, videos: Path, scratch: Path, seed: int, numbers: Iterable[int]) -> Outcomes:
    """Evaluations that go on where they were."""
    outcomes = Outcomes("killed evaluations")

    def command(output: Path) -> list[str]:
        return [
            *("-m", "vitaclip_hf.cli", "evaluate", "--model", str(checkpoint), "--protocol", "own-zero-shot", "--cpu"),
            *("--videos", str(videos), "--output", str(output), "--batch-size", "1", "--workers", "1"),
        ]

    def rows(output: Path) -> dict:
        return json.loads((output / "results.json").read_text())["rows"]

    seconds = usual_run(*command(scratch / "evaluation"))
    for number in numbers:
        output = scratch / f"evaluation-{number}"

        def attack(output=output, number=number) -> str:
            outcome = survive(command(output), lambda: command(output), seconds, random.Random(f"{seed}-{number}"))
            if rows(output) != rows(scratch / "evaluation"):
                raise AssertionError("other results than without kills")
            shutil.rmtree(output)
            return outcome

        outcomes.attack(f"evaluation-{seed}-{number}", attack, ())
    return outcomes


def attack_indexes(checkpoint: Path, videos: Path, scratch: Path, seed: int, numbers: Iterable[int]) -> Outcomes:
    """Indexes of a folder that go on where they were."""
    from vitaclip_hf.library.store import read_embeddings

    outcomes = Outcomes("killed indexes")

    def command(place: Path) -> list[str]:
        return ["-m", "vitaclip_hf.cli", "index", str(videos), "--model", str(checkpoint), "--index", str(place)]

    def vectors(place: Path) -> list[tuple]:
        rows = read_embeddings(place).to_pylist()
        return [(row["video"], row["start"], row["content"], row["vector"]) for row in rows]

    seconds = usual_run(*command(scratch / "index"))
    for number in numbers:
        place = scratch / f"index-{number}"

        def attack(place=place, number=number) -> str:
            outcome = survive(command(place), lambda: command(place), seconds, random.Random(f"{seed}-{number}"))
            if vectors(place) != vectors(scratch / "index"):
                raise AssertionError("other vectors than without kills")
            shutil.rmtree(place)
            return outcome

        outcomes.attack(f"index-{seed}-{number}", attack, ())
    return outcomes
