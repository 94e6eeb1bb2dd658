"""Checks for weights that transformers loads with only a warning."""

from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import PreTrainedConfig

from .configuration_vita_clip import BACKBONES
from .prompts import AFTER_END, ClassPrompts, TimeEmbedding, VisionPrompts


SHOWN = 3
# What `from_pretrained` takes to find files; the last two are about the folder itself, not about a base model.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
# What the libraries raise for files that do not fit; a missing file is an OSError, which passes.
UNFIT = (
    *(ValueError, TypeError, AttributeError, LookupError, RuntimeError, ArithmeticError, AssertionError),
    *(ImportError, MemoryError, StrictDataclassError),
)
# Models without prompts: whole backbones, and their vision towers alone.
STOCK_TYPES = (*BACKBONES, *(vision.model_type for _, vision in BACKBONES.values()))


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded; the message is one line that names it and says what to do."""


class CheckpointMismatchError(CheckpointError):
    """The weights of a checkpoint do not make up the model that its configuration describes."""


def is_stock_clip(source: Any, arguments: Mapping[str, Any], commit: str | None) -> bool:
    """Whether a folder or Hub id holds a CLIP as it was published, which has no prompts.

    Args:
        source: of `from_pretrained`; None where weights were passed instead.
        arguments: of `from_pretrained`.
        commit: which the weights came from; its files are in the cache already.
    """
    hub = {name: arguments[name] for name in HUB_ARGUMENTS if name in arguments and name != "force_download"}
    try:
        stored = {} if source is None else PreTrainedConfig.get_config_dict(source, _commit_hash=commit, **hub)[0]
    except OSError:  # weights with a configuration that was passed
        return False
    return stored.get("model_type") in STOCK_TYPES


def refuse_missing_prompts(
    source: Any, model: nn.Module, info: Mapping[str, Any], arguments: Mapping[str, Any]
) -> None:
    """
    Raises CheckpointMismatchError for a Vita-CLIP folder that lacks prompts. A stock CLIP has none.

    Args:
        source: folder or Hub id, as given to `from_pretrained`.
        model: as loaded.
        info: `output_loading_info` of `from_pretrained` with `ignore_mismatched_sizes`.
        arguments: of `from_pretrained`; with `ignore_mismatched_sizes` prompts may start anew.
    """
    missing = sorted(set(info["missing_keys"]) & set(prompt_names(model)))
    if not missing or arguments.get("ignore_mismatched_sizes"):
        return
    if not is_stock_clip(source, arguments, getattr(model.config, "_commit_hash", None)):
        raise CheckpointMismatchError(
            f"{source}: {len(missing)} weights of the prompts are missing, such as {missing[0]}. Fetch or save the "
            "folder again."
        )


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


def check_tokenizer(tokenizer: Any, text_config: Any, source: Any) -> None:
    """
    Raises CheckpointError for a tokenizer that cannot be the model's.

    transformers makes a tokenizer of a few tokens for a folder that has no tokenizer files.
    """
    if not text_config.vocab_size / 2 <= len(tokenizer) <= text_config.vocab_size:
        raise CheckpointError(
            f"{source}: the tokenizer has {len(tokenizer):,} tokens, the text tower {text_config.vocab_size:,}. "
            "Save the tokenizer that belongs to the model beside it."
        )


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
