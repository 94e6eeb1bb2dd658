"""Checkpoint folders: written completely or not at all, found again, and checked before they are used."""

import json
import os
import shutil
import traceback
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..loading.checksums import check_checksums
from ..loading.guards import CheckpointError
from ..loading.prompts_alone import WEIGHTS_FILE, PromptCheckpointError, find_prompts_alone, split_tensors
from .recipes import RecipeError


# Checkpoints are written in this folder of a run and moved out when they are complete.
INCOMPLETE = "incomplete"
FINAL_MODELS = ("model.safetensors", "model.safetensors.index.json", "prompts.safetensors")


class CheckpointWriteError(OSError):
    """A model or a checkpoint could not be written; the message says where and why."""


def checkpoint_folder(run: str | Path, step: int | None) -> Path:
    return Path(run) / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def complete_checkpoints(run: str | Path) -> list[Path]:
    """The checkpoints of a run that training can continue from, the newest last."""
    folders = [path for path in Path(run).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.split("-")[-1].isdigit()]
    # FSDP writes its optimizer as a folder. Checkpoints of weights only have neither optimizer nor scheduler.
    needed = (TRAINER_STATE_NAME, "scheduler.pt", "optimizer*")
    return sorted((path for path in folders if all(any(path.glob(name)) for name in needed)), key=step_of)


def last_checkpoint(run: str | Path) -> Path | None:
    """The newest complete checkpoint of a run, or `None`."""
    return next(reversed(complete_checkpoints(run)), None)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """
    The trainer's state at a checkpoint.

    Raises:
        RecipeError: the file is damaged.
    """
    file = checkpoint / TRAINER_STATE_NAME
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        numbers = [state[name] for name in ("global_step", "max_steps")] + [state.get("best_global_step") or 0]
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise ValueError("a step is no number")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RecipeError(f"`resume`: {file} is damaged ({reason}); delete {checkpoint} to go on without it") from error
    return state


def is_finished(checkpoint: Path) -> bool:
    """Whether the checkpoint is of the last step of its training."""
    state = read_state(checkpoint)
    return state["global_step"] >= state["max_steps"]


def check_readable(checkpoint: Path, otherwise: Path | None) -> None:
    """
    Reads every file of a checkpoint, and compares it with the checksums that were written with it.

    Args:
        checkpoint (`Path`): its folder.
        otherwise (`Path`, *optional*): the checkpoint to use if this one is damaged.

    Raises:
        RecipeError: the first damaged file, and what to do.
    """
    instead = f"go on from {otherwise.name}" if otherwise else "start anew, in another `output_dir`"
    files = sorted(checkpoint.iterdir())
    for path in files:
        try:
            _read_through(path)
        except (SafetensorError, zipfile.BadZipFile, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:300]
            raise RecipeError(f"`resume`: {path} is damaged ({reason}); delete {checkpoint} to {instead}") from error
    try:
        check_checksums(checkpoint, [path for path in files if path.is_file()])
    except CheckpointError as error:
        raise RecipeError(f"`resume`: {error!s:.500} Or delete {checkpoint} to {instead}") from error


def _read_through(path: Path) -> None:
    """Reads a file; raises SafetensorError, BadZipFile or ValueError if it is damaged."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt"):
            pass
    elif path.suffix in (".pt", ".pth"):
        with path.open("rb") as file:
            _read_archive(file)
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))


def _read_archive(file: BinaryIO) -> None:
    """Reads a file of `torch.save`, which is a zip archive with checksums; raises BadZipFile if it is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            changed = archive.testzip()
    except (OSError, EOFError, NotImplementedError) as error:  # from a damaged index
        raise zipfile.BadZipFile(str(error)) from error
    if changed:
        raise zipfile.BadZipFile(f"wrong checksum of {changed}")


@contextmanager
def writing(target: Path, *unfinished: Path) -> Iterator[None]:
    """
    Names the place if writing fails, for example because the disk is full.

    Args:
        target (`Path`): what is being written.
        unfinished (`Path`): files and folders to remove if it fails.

    Raises:
        CheckpointWriteError: the content could not be written. Other errors pass unchanged.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_writing(error):
            raise
        for path in unfinished:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        reason = (getattr(error, "strerror", None) or str(error)).strip().partition("\n")[0]
        raise CheckpointWriteError(
            f"{target} could not be written ({reason}); check the free space and the permissions there"
        ) from error


def _is_of_writing(error: Exception) -> bool:
    """Two writers have no exception type: tokenizers raises `Exception` itself, `torch.save` a plain RuntimeError."""
    if isinstance(error, (OSError, SafetensorError)) or type(error) is Exception:
        return True
    return any(
        frame.f_globals["__name__"] == "torch.serialization" for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def move_to_disk(staging: Path, final: Path) -> None:
    """Gives a checkpoint its name, after its content is on the disk and would survive a power cut."""
    for path in [*staging.rglob("*"), staging]:
        sync(path)
    shutil.rmtree(final, ignore_errors=True)  # left by a run that was resumed from an earlier checkpoint
    os.replace(staging, final)
    sync(final.parent)


def point_to_base_from(final: Path, prompts: Path) -> None:
    """Saved prompts name a local base relative to their folder: makes it relative to the folder that they move to."""
    record = find_prompts_alone(str(prompts), {})
    if record is not None and (prompts / record.base_model).is_dir():
        base = os.path.relpath((prompts / record.base_model).resolve(), final.resolve())
        replace(record, base_model=Path(base).as_posix()).write(prompts)


def sync(path: Path) -> None:
    """Returns when a file, or a folder's list of files, is on the disk itself."""
    if path.is_dir() and os.name != "posix":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_prompts_into(model: nn.Module, folder: str | Path) -> None:
    """
    Loads saved prompts into the model that they were saved from.

    Raises:
        PromptCheckpointError: prompts of another layout.
    """
    path = Path(folder) / WEIGHTS_FILE
    found, expected = load_file(path), split_tensors(model)[0]
    if {name: t.shape for name, t in found.items()} != {name: t.shape for name, t in expected.items()}:
        raise PromptCheckpointError(f"{path} holds prompts of another layout or other classes than this training's.")
    model.load_state_dict(found, strict=False)
