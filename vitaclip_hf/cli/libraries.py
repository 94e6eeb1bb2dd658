"""torch and transformers, which a command loads when it starts to work: help and wrong usage need neither."""

from typing import Any

from .errors import CommandError, reported
from .options import NumberType


def load_libraries(warnings: bool = True) -> None:
    """Registers the model with transformers, and shows no progress bars of loading weights."""
    from transformers.utils import logging

    from .. import registration  # noqa: F401

    logging.disable_progress_bar()
    if not warnings:
        logging.set_verbosity_error()


def loaded_checkpoint(name: str, device: str | None, dtype: NumberType | None = None) -> Any:
    """
    A checkpoint on the device that was asked for; on a GPU, if there is one, by default. `dtype` as the option of that
    name; by default that of the checkpoint.
    """
    import torch

    load_libraries()
    from ..loading.checkpoint import CheckpointError, load_checkpoint
    from ..model.precision import fast_dtype

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    if device is not None:
        try:
            found = torch.device(device)
            torch.zeros(1, device=found).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise CommandError(f"`device` {device}: cannot be used here ({reason})") from error
    number_type = None
    if dtype is not None:
        number_type = fast_dtype(found or "cpu") if dtype == NumberType.auto else getattr(torch, dtype.value)
    with reported(CheckpointError, OSError, about=name):
        return load_checkpoint(name, device=found, dtype=number_type)


def dtype_of(model: Any) -> str:
    """The name of the number type that a model runs in."""
    return str(model.dtype).removeprefix("torch.")
