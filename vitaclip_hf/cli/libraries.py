"""torch and transformers, which a command loads when it starts to work: help and wrong usage need neither."""

import multiprocessing
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ..model.shown_names import one_line, shown


# The model of a command without `model`: the CLIP that Vita-CLIP, ViFi-CLIP and X-CLIP start from (docs/models.md).
DEFAULT_MODEL = "openai/clip-vit-base-patch16"
DEFAULT_FACTS = "CLIP ViT-B/16, MIT licence, 0.6 GB, once"


def load_libraries(warnings: bool = True) -> None:
    """Registers the model with transformers, and hides progress bars of loading weights and, if asked, warnings."""
    from transformers.utils import logging

    from .. import registration  # noqa: F401

    # From Python 3.14 on, the processes of loaders are forks of a server: it imports torch once for all of them.
    multiprocessing.set_forkserver_preload(["__main__", "vitaclip_hf.training.clip_datasets"])
    logging.disable_progress_bar()
    if not warnings:
        logging.set_verbosity_error()


def loaded_checkpoint(
    name: str | None,
    device: str | None = None,
    dtype: str | None = None,
    warnings: bool = True,
    vita_clip: bool = False,
    embeds: bool = False,
    **kwargs: Any,
) -> Any:
    """
    The checkpoint of a command.

    Args:
        name (`str`, *optional*): folder or Hub id; by default a public CLIP, which is named before its download.
        device (`str`, *optional*): by default a GPU, if there is one.
        dtype (`str`, *optional*): as the option of that name; by default that of the checkpoint.
        warnings (`bool`, defaults to `True`): whether transformers may warn.
        vita_clip (`bool`, defaults to `False`): whether only a Vita-CLIP will do.
        embeds (`bool`, defaults to `False`): whether the command uses embeddings, and no scores.
        kwargs: for [`load_checkpoint`].
    """
    load_libraries(warnings)
    import torch
    from huggingface_hub import constants, try_to_load_from_cache

    from ..loading.checkpoint import load_checkpoint
    from ..model.machine import fast_dtype
    from ..model.modeling_vita_clip import VitaClipModel

    place: Any = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    if device is not None:
        try:
            place = torch.device(device)
            torch.zeros(1, device=place).item()  # RuntimeError: "meta" too, which holds no values
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise ValueError(f"`device` {device}: cannot be used here ({reason})") from error
    if dtype is not None:
        kwargs["dtype"] = fast_dtype(place) if dtype == "auto" else dtype
    if vita_clip:
        kwargs["model_class"] = VitaClipModel
    cached = isinstance(try_to_load_from_cache(DEFAULT_MODEL, "config.json"), str)
    if name is None and not cached and not constants.HF_HUB_OFFLINE:
        print(f"vitaclip: no `--model`, so {DEFAULT_MODEL} is downloaded ({DEFAULT_FACTS})", file=sys.stderr)
    try:
        with redirect_stdout(sys.stderr):  # transformers prints remarks on Perception Encoder there
            checkpoint = load_checkpoint(DEFAULT_MODEL if name is None else name, device=place, **kwargs)
    except (OSError, ValueError) as error:
        if name is not None:
            raise
        reason = f"{DEFAULT_MODEL} cannot be loaded or downloaded ({one_line(str(error.__cause__ or error), 111)} …)"
        raise ValueError(f"{reason}; give `model`{_alternatives()}") from error
    encoder = checkpoint.encoder()
    note = encoder.embedding_note if embeds else encoder.note
    if checkpoint.kind != "encoder" and not checkpoint.model.vision_model.time_embedding.weight.any():
        note = "the prompts of this model are untrained, so its answers mean little; train them (`vitaclip train`)"
    if warnings and note:
        print(f"vitaclip: {note}", file=sys.stderr)
    return checkpoint


def _alternatives() -> str:
    """Models that need no download: the latest of the Hub's cache, and the demo of a clone."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = [repo for repo in scan_cache_dir().repos if repo.repo_type == "model"]
    except CacheNotFound:
        repositories = []
    names = [repo.repo_id for repo in sorted(repositories, key=lambda repo: -repo.last_accessed)[:5]]
    demo = Path(__file__).parents[2] / "examples" / "demo" / "checkpoint"
    names += [f"{demo} (drawn things)"] if demo.is_dir() else []
    return f", one of these on this machine: {', '.join(names)}" if names else ""


def print_summary(text: str, started: float, checkpoint: Any) -> None:
    """Prints what was done on stderr, with the seconds that it took, where the model ran, and its name."""
    seconds, model = time.perf_counter() - started, checkpoint.model
    print(f"{text}, {seconds:.1f} s in {dtype_of(model)} on {model.device}, {shown(checkpoint.name)}", file=sys.stderr)


def dtype_of(model: Any) -> str:
    """The name of the dtype that a model runs in."""
    return str(model.dtype).removeprefix("torch.")
