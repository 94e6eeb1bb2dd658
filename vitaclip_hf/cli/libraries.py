"""torch and transformers, which a command loads when it starts to work: help and wrong usage need neither."""

import sys
import time
from typing import Any


def load_libraries(warnings: bool = True) -> None:
    """Registers the model with transformers, and hides progress bars of loading weights and, if asked, warnings."""
    from transformers.utils import logging

    from .. import registration  # noqa: F401

    logging.disable_progress_bar()
    if not warnings:
        logging.set_verbosity_error()


def loaded_checkpoint(
    name: str, device: str | None = None, dtype: str | None = None, warnings: bool = True, **kwargs: Any
) -> Any:
    """
    The checkpoint of a command.

    Args:
        name (`str`): folder or Hub id.
        device (`str`, *optional*): by default a GPU, if there is one.
        dtype (`str`, *optional*): as the option of that name; by default that of the checkpoint.
        warnings (`bool`, defaults to `True`): whether transformers may warn.
        kwargs: for [`load_checkpoint`].
    """
    load_libraries(warnings)
    import torch

    from ..loading.checkpoint import load_checkpoint
    from ..model.precision import fast_dtype

    place: Any = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    if device is not None:
        try:
            place = torch.device(device)
            torch.zeros(1, device=place).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise ValueError(f"`device` {device}: cannot be used here ({reason})") from error
    if dtype is not None:
        kwargs["dtype"] = fast_dtype(place) if dtype == "auto" else getattr(torch, dtype)
    return load_checkpoint(name, device=place, **kwargs)


def print_summary(text: str, started: float, model: Any) -> None:
    """Prints what was done on stderr, with the seconds that it took and where the model ran."""
    seconds = time.perf_counter() - started
    print(f"{text}, {seconds:.1f} s in {dtype_of(model)} on {model.device}", file=sys.stderr)


def dtype_of(model: Any) -> str:
    """The name of the dtype that a model runs in."""
    return str(model.dtype).removeprefix("torch.")
