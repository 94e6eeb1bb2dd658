"""Checkpoint folders: written completely or not at all, found again, and checked before they are used."""

import json
import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..loading.checksums import check_checksums, write_checksums
from ..loading.guards import CheckpointError
from ..loading.prompts_alone import WEIGHTS_FILE, find_prompts_alone, split_tensors


# Checkpoints are written in this folder of a run and moved out when they are complete.
INCOMPLETE = "incomplete"
FINAL_MODELS = ("model.safetensors", "model.safetensors.index.json", "prompts.safetensors")


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


def check_readable(checkpoint: Path, otherwise: Path | None) -> None:
    """
    Compares every file of a checkpoint with the checksums that were written with it.

    Args:
        checkpoint (`Path`): its folder.
        otherwise (`Path`, *optional*): the checkpoint to use if this one is damaged.

    Raises:
        ValueError: the first damaged file, and what to do.
    """
    try:
        check_checksums(checkpoint, sorted(path for path in checkpoint.iterdir() if path.is_file()))
    except CheckpointError as error:
        instead = f"go on from {otherwise.name}" if otherwise else "start anew, in another `output_dir`"
        raise ValueError(f"`resume`: {error!s:.500} Or delete {checkpoint} to {instead}") from error


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The trainer's state at a checkpoint that `check_readable` has checked."""
    return json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))


def is_finished(checkpoint: Path) -> bool:
    """Whether the checkpoint is of the last step of its training."""
    state = read_state(checkpoint)
    return state["global_step"] >= state["max_steps"]


@contextmanager
def writing(target: Path, *unfinished: Path) -> Iterator[None]:
    """
    Names the place if writing fails, for example because the disk is full.

    Args:
        target (`Path`): what is being written.
        unfinished (`Path`): files and folders to remove if it fails.

    Raises:
        OSError: the content could not be written. Other errors pass unchanged.
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
        raise OSError(
            f"{target} could not be written ({reason}); check the free space and the permissions there"
        ) from error


def _is_of_writing(error: Exception) -> bool:
    """Two writers have no exception type: tokenizers raises `Exception` itself, `torch.save` a plain RuntimeError."""
    if isinstance(error, (OSError, SafetensorError)) or type(error) is Exception:
        return True
    return any(
        frame.f_globals["__name__"] == "torch.serialization" for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def finish_checkpoint(staging: Path, final: Path, state: TrainerState) -> None:
    """
    Gives a checkpoint its name, after its content is on the disk and would survive a power cut.

    Args:
        staging (`Path`): where it was written.
        final (`Path`): its name.
        state (`TrainerState`): the trainer's.
    """
    # Without the path of the best checkpoint, which follows from its step: a run may be moved.
    replace(state, best_model_checkpoint=None).save_to_json(str(staging / TRAINER_STATE_NAME))
    record = find_prompts_alone(str(staging), {})
    if record is not None and (staging / record.base_model).is_dir():  # a local base, relative to the prompts
        base = os.path.relpath((staging / record.base_model).resolve(), final.resolve())
        replace(record, base_model=Path(base).as_posix()).write(staging)
    write_checksums(staging, [path for path in staging.iterdir() if path.is_file()])
    for path in [*staging.rglob("*"), staging]:
        sync(path)
    shutil.rmtree(final, ignore_errors=True)  # left by a run that was resumed from an earlier checkpoint
    os.replace(staging, final)
    sync(final.parent)


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
        ValueError: prompts of another layout.
    """
    path = Path(folder) / WEIGHTS_FILE
    tensors, expected = load_file(path), split_tensors(model)[0]
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in expected.items()}:
        raise ValueError(f"{path} holds prompts of another layout or other classes than this training's.")
    model.load_state_dict(tensors, strict=False)
