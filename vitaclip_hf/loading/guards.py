"""What `from_pretrained` lets pass or takes too much memory for: checked before and after the weights are read."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import safe_open
from torch import nn
from transformers import CLIPConfig
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import cached_file

from ..model.prompts import AFTER_END, ClassPrompts, TimeEmbedding, VisionPrompts
from ..model.video_processing_vita_clip import MAX_ASPECT_RATIO


SHOWN = 3
# What `from_pretrained` takes to find files; the last two are about the folder itself, not about a base model.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
# What the libraries raise for files that do not fit; a missing file is an OSError, which passes.
UNFIT = (
    *(ValueError, TypeError, AttributeError, LookupError, RuntimeError, ArithmeticError, AssertionError),
    *(ImportError, MemoryError, StrictDataclassError),
)
MAX_LAYERS = 1000  # of a tower; the largest CLIPs have fewer than 100
MAX_POSITIONS = 100_000
MAX_CONFIG_BYTES = 32 << 20  # 240,000 classes take 20 MB
MAX_PIXEL_BYTES = 4 << 30  # of one video's clips
LARGE_TENSOR = 1 << 28  # entries
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded; the message is one line that names it and says what to do."""


class CheckpointMismatchError(CheckpointError):
    """The weights of a checkpoint do not make up the model that its configuration describes."""


def check_complete(source: Any, model: Any, info: Mapping[str, Any], stock: bool) -> None:
    """
    Raises CheckpointMismatchError for weights that are missing, have no place or another shape, and for bad token ids.

    Args:
        source: folder or Hub id, for the message.
        model: as loaded.
        info: `output_loading_info` of `from_pretrained`.
        stock: whether it is a stock CLIP, whose prompts start anew.
    """
    missing = set(info["missing_keys"]) - (set(prompt_names(model)) if stock else set())
    problems = [
        f"{name} has the shape {list(found)}, the configuration asks for {list(expected)}"
        for name, found, expected in sorted(info["mismatched_keys"])
    ]
    problems += [f"{name} is missing" for name in sorted(missing)]
    problems += [f"{name} has no place" for name in sorted(info["unexpected_keys"]) if not stock]
    problems = problems or token_problems(model)
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise CheckpointMismatchError(
            f"{source}: the weights are not those of its configuration: {'; '.join(problems[:SHOWN])}{more}. "
            "Fetch or save the folder again."
        )


def prompt_names(model: nn.Module) -> list[str]:
    """Names of the parameters and buffers that a stock CLIP does not have."""
    parts = [
        name for name, part in model.named_modules() if isinstance(part, (ClassPrompts, TimeEmbedding, VisionPrompts))
    ]
    return [name for name in model.state_dict() if name.startswith(tuple(f"{part}." for part in parts))]


def token_problems(model: nn.Module) -> list[str]:
    """Token ids of class prompts that the text tower does not know."""
    return [
        f"{name}.class_input_ids holds ids outside the vocabulary of {module.config.vocab_size} tokens"
        for name, module in model.named_modules()
        # Those without names are only a configuration's start and end, which stock CLIPs often give wrongly.
        if isinstance(module, ClassPrompts) and not module.class_input_ids.is_meta and module.have_names
        for ids in (module.class_input_ids,)
        if ids.min() < AFTER_END or ids.max() >= module.config.vocab_size
    ]


def kind_problems(found: Mapping[str, torch.dtype], expected: Mapping[str, torch.Tensor]) -> list[str]:
    """Stored tensors that are whole numbers or truth values where the model has fractions, or the other way round."""
    return [
        f"{name} is stored as {str(found[name]).removeprefix('torch.')}, the model has {str(model.dtype)[6:]}"
        for name, model in sorted(expected.items())
        if name in found
        and (found[name] != model.dtype if not model.is_floating_point() else not found[name].is_floating_point)
    ]


def find_file(source: str, name: str, hub: Mapping[str, Any]) -> str | None:
    """A file of a folder or of the Hub, or None."""
    quiet = {f"_raise_exceptions_for_{case}": False for case in ("missing_entries", "connection_errors", "gated_repo")}
    return cached_file(source, name, **quiet, **hub)


def check_config_file(source: str, hub: Mapping[str, Any]) -> None:
    """
    Raises:
        CheckpointError: the configuration is larger than any that was written in earnest.
    """
    found = find_file(source, CONFIG_NAME, hub)
    if found is not None and (size := os.path.getsize(found)) > MAX_CONFIG_BYTES:
        raise CheckpointError(f"{source}: its {CONFIG_NAME} has {size:,} bytes, more than {MAX_CONFIG_BYTES:,}.")


def check_towers(source: str, config: CLIPConfig) -> None:
    """
    Raises:
        CheckpointError: towers of so many layers that making them alone would take minutes, or values with which a
            model can be made and loaded, but not run.
    """
    for part in ("text_config", "vision_config"):
        tower = getattr(config, part)
        width, heads = tower.hidden_size, tower.num_attention_heads
        problem = None
        if not 1 <= tower.num_hidden_layers <= MAX_LAYERS:
            problem = f"num_hidden_layers {tower.num_hidden_layers}, expected 1 to {MAX_LAYERS}"
        elif min(width, tower.intermediate_size, config.projection_dim) < 1:
            problem = f"a size below 1 (hidden_size {width}, intermediate_size {tower.intermediate_size})"
        elif part == "text_config" and not 1 <= tower.max_position_embeddings <= MAX_POSITIONS:
            problem = f"max_position_embeddings {tower.max_position_embeddings}, expected 1 to {MAX_POSITIONS:,}"
        elif heads < 1 or width % heads:
            problem = f"num_attention_heads {heads}, expected a divisor of the {width} of hidden_size"
        elif part == "text_config" and type(tower.eos_token_id) is not int:
            problem = f"eos_token_id {str(tower.eos_token_id):.60}, expected one number"
        if problem is not None:
            raise CheckpointError(f"{source}: its {CONFIG_NAME} asks for {part}.{problem}.")


def check_layers(source: str, config: CLIPConfig, shapes: Mapping[str, list[int]]) -> None:
    """
    Raises:
        CheckpointMismatchError: far more layers than are stored; making them alone takes many seconds.
    """
    for part in ("text", "vision"):
        start = f"{part}_model.encoder.layers."
        stored = {name.partition(start)[2].partition(".")[0] for name in shapes if start in name}
        asked = getattr(config, f"{part}_config").num_hidden_layers
        if asked > len(stored) + 10:
            raise CheckpointMismatchError(
                f"{source}: the weights are not those of its configuration: it asks for {part}_config."
                f"num_hidden_layers {asked}, and {len(stored)} are stored. Fetch or save the folder again."
            )


def stored_shapes(source: str, hub: Mapping[str, Any]) -> dict[str, list[int]] | None:
    """
    The shapes of all stored tensors by name, from the headers of the weights files; None without safetensors.

    Raises:
        CheckpointError: an index that is damaged or names files outside of the folder.
        SafetensorError: a damaged file.
    """
    files = [find_file(source, WEIGHTS, hub)]
    if files[0] is None:
        index = find_file(source, INDEX, hub)
        if index is None:
            return None
        files = [find_file(source, name, hub) for name in shard_names(index)]
    shapes: dict[str, list[int]] = {}
    for file in files:
        if file is not None:  # a missing shard has transformers' own error
            with safe_open(file, "pt") as tensors:
                shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    return shapes


def shard_names(index: str | os.PathLike) -> list[str]:
    """
    The files that an index of shards names.

    Raises:
        CheckpointError: it is damaged, or a name is a path and not a file beside it.
    """
    try:
        names = set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values())
        wrong = [name for name in names if not isinstance(name, str) or Path(name).name != name or "\\" in name]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(f"{index}: no index of shards ({reason}); fetch it again.") from error
    if wrong:
        raise CheckpointError(f"{index}: names {wrong[0]!r:.100}, which is no file beside it; do not use this folder.")
    return sorted(names)


def check_sizes(source: str, config: CLIPConfig, model_class: Any, hub: Mapping[str, Any], stock: bool = False) -> None:
    """
    Compares the sizes in the configuration with the shapes that are stored, before the model takes memory.

    Args:
        source: folder or Hub id.
        config: as it was read.
        model_class: of the model to load.
        hub: how files are found, as for `from_pretrained`.
        stock: whether it is a stock CLIP, whose prompts start anew.

    Raises:
        CheckpointMismatchError: a tensor is missing or has another shape than the configuration asks for.
        CheckpointError: an unusable number of layers, or a damaged index.
    """
    check_towers(source, config)
    shapes = stored_shapes(source, hub)
    if shapes is None:
        return
    check_layers(source, config, shapes)
    with torch.device("meta"):
        model = model_class(config)
    expected = model.state_dict()
    other = [(n, shapes[n], list(t.shape)) for n, t in expected.items() if n in shapes and shapes[n] != list(t.shape)]
    # What a stock CLIP lacks is new, or has an error of its own once it is loaded; so only gigabytes matter here.
    missing = {n for n in expected.keys() - shapes.keys() if not stock or expected[n].numel() > LARGE_TENSOR}
    check_complete(source, model, {"missing_keys": missing, "mismatched_keys": other, "unexpected_keys": ()}, stock)


def check_video_processor(source: str, video_processor: Any) -> None:
    """
    Tries the processor on one small frame, after its sizes were found to be usable.

    Raises:
        CheckpointError: one video would take gigabytes of model input, or the processor cannot be used at all.
    """
    try:
        crop, size = (_sides(video_processor, name) for name in ("crop_size", "size"))
        rows = video_processor.num_views * video_processor.num_spatial_views
        largest = max(math.prod(crop.values()), max(size.values()) ** 2)
        taken = 12 * rows * video_processor.num_frames * largest
        if not 0 < taken <= MAX_PIXEL_BYTES:
            raise CheckpointError(
                f"{source}: its processor asks for {str(taken)[:30]} bytes of pixels a video, expected 1 to "
                f"{MAX_PIXEL_BYTES:,}: views, frames or sizes are wrong."
            )
        if max(crop.values()) > MAX_ASPECT_RATIO * min(crop.values()):
            raise ValueError(f"`crop_size` is {str(crop):.100}, one side more than {MAX_ASPECT_RATIO} times the other")
        for name in ("image_mean", "image_std", "rescale_factor"):
            _check_numbers(video_processor, name)
        frame = np.full((1, *crop.values(), 3), 127, np.uint8)
        video_processor(frame, num_views=1, num_spatial_views=1, return_tensors="pt")
    except CheckpointError:
        raise
    except UNFIT as error:
        reason = " ".join(f"{type(error).__name__}: {error}"[:5000].split())[:200]
        raise CheckpointError(f"{source}: its video processor cannot be used ({reason}); save it again.") from error


def _check_numbers(video_processor: Any, name: str) -> None:
    """Raises a ValueError for a mean, deviation or factor by which no pixel becomes a number."""
    value = getattr(video_processor, name)
    numbers = value if isinstance(value, (list, tuple)) else [value]
    usable = len(numbers) in (1, 3) and all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
    if not usable or name != "image_mean" and not all(numbers):
        raise ValueError(
            f"`{name}` is {str(numbers[:4]):.100}, expected one number or three, finite and (of `image_std`) not 0"
        )


def _sides(video_processor: Any, name: str) -> dict[str, int]:
    """The sides of one of its sizes. Raises a ValueError for one that is no positive whole number."""
    found = {side: value for side, value in dict(getattr(video_processor, name)).items() if value is not None}
    if not found or any(type(value) is not int or value < 1 for value in found.values()):
        raise ValueError(f"`{name}` is {str(found):.100}, expected positive numbers of pixels")
    return found
