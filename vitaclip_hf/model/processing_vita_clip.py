"""Processor for Vita-CLIP: a video processor and CLIP's tokenizer."""

from typing import Any

import torch
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin

from .configuration_vita_clip import VitaClipTextConfig
from .prompts import AFTER_END, CONTEXT_SLOT
from .video_processing_vita_clip import VitaClipVideoProcessorKwargs


class VitaClipProcessorKwargs(ProcessingKwargs, total=False):
    videos_kwargs: VitaClipVideoProcessorKwargs
    _defaults = {"text_kwargs": {"padding": True}}


class VitaClipProcessor(ProcessorMixin):
    """One object for both inputs of [`VitaClipModel`]: a [`VitaClipVideoProcessor`] and a tokenizer."""

    valid_processor_kwargs = VitaClipProcessorKwargs

    def __init__(self, video_processor=None, tokenizer=None, **kwargs):
        super().__init__(video_processor, tokenizer, **kwargs)

    def __call__(self, text=None, videos=None, **kwargs):
        """
        Args:
            text (`str` or `list[str]`, *optional*): texts, padded to the longest: `input_ids`, `attention_mask`.
            videos (*optional*): one video or several, see [`VitaClipVideoProcessor`]: `pixel_values_videos`.
        """
        if kwargs.get("images") is not None or kwargs.get("audio") is not None:
            raise ValueError("VitaClipProcessor takes `text` and `videos`; images of a video go as `videos`.")
        return super().__call__(text=text, videos=videos, **kwargs)

    def tokenize_classes(self, names: list[str], text_config: VitaClipTextConfig) -> dict[str, Any]:
        """The arguments of [`VitaClipModel.set_classes`] besides the names: see [`tokenize_classes`]."""
        return tokenize_classes(names, self.tokenizer, text_config)


def tokenize_classes(names: list[str], tokenizer: Any, config: VitaClipTextConfig) -> dict[str, Any]:
    """
    Token ids of class prompts, laid out as `context_position` says; underscores in names count as spaces. As in CoOp,
    the name and the full stop are tokenized together.

    Returns:
        `class_input_ids` `[C, max_position_embeddings]`; and `context_init_ids` `[M_c]` of the words that new contexts
        start from, or `None`.
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"Class names must be a non-empty list of strings, got {names!r:.200}.")
    slots, positions = [CONTEXT_SLOT] * config.num_context_tokens, config.max_position_embeddings
    before = {"end": len(slots), "front": 0, "middle": len(slots) // 2}[config.context_position]
    owners: dict[tuple[int, ...], str] = {}  # the prompts in order, with their classes
    for name in names:
        words = name.replace("_", " ").strip() if isinstance(name, str) else ""
        if not words:
            raise ValueError(f"Class names must be non-empty strings, got {name!r:.200} at position {len(owners)}.")
        name_and_stop = tokenizer(f"{words}.", add_special_tokens=False).input_ids
        length = len(tokenizer(words, add_special_tokens=False).input_ids)
        row: tuple[int, ...] = (*slots[:before], *name_and_stop[:length], *slots[before:], *name_and_stop[length:])
        row = (tokenizer.bos_token_id, *row, tokenizer.eos_token_id)
        if len(row) > positions:
            lengths = f"takes {len(row)} tokens ({len(slots)} of context), the text tower has {positions} positions"
            raise ValueError(f"The prompt of class {name!r:.200} {lengths}; shorten the name.")
        if row in owners:
            raise ValueError(f"Classes {owners[row]!r:.200} and {name!r:.200} have the same prompt; rename one.")
        owners[row] = name
    if (largest := max(map(max, owners))) >= config.vocab_size:
        size = config.vocab_size
        raise ValueError(f"The text tower has {size} tokens, and the tokenizer gives {largest}: use the model's own.")
    context = None
    if slots and config.context_init is not None:
        context = torch.tensor(tokenizer(config.context_init.replace("_", " "), add_special_tokens=False).input_ids)
        if len(context) != len(slots):
            lengths = f"{len(context)} tokens long but `num_context_tokens` is {len(slots)}"
            raise ValueError(f"`context_init` {config.context_init!r:.200} is {lengths}; make them equal.")
    ids = torch.tensor([[*prompt, *[AFTER_END] * (positions - len(prompt))] for prompt in owners])
    return {"class_input_ids": ids, "context_init_ids": context}


__all__ = ["VitaClipProcessor"]
