"""Processor for Vita-CLIP: a video processor and CLIP's tokenizer."""

from collections import Counter
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
    r"""
    One object for both inputs of [`VitaClipModel`].

    Args:
        video_processor ([`VitaClipVideoProcessor`]): makes `pixel_values_videos` of videos.
        tokenizer ([`CLIPTokenizer`]): makes `input_ids` and `attention_mask` of texts.

    Example:

    ```python
    >>> processor = VitaClipProcessor(VitaClipVideoProcessor(), tokenizer)  # doctest: +SKIP
    >>> inputs = processor(videos="clip.mp4", text=["yoga", "juggling"], return_tensors="pt")  # doctest: +SKIP

    ```
    """

    valid_processor_kwargs = VitaClipProcessorKwargs

    def __init__(self, video_processor=None, tokenizer=None, **kwargs):
        super().__init__(video_processor, tokenizer, **kwargs)

    def __call__(self, text=None, videos=None, **kwargs):
        """
        Args:
            text (`str` or `list[str]`, *optional*): texts, padded to the longest.
            videos (*optional*): one video or a list of them, see [`VitaClipVideoProcessor`].

        Returns:
            [`~transformers.BatchFeature`] with `pixel_values_videos`, and `input_ids` with `attention_mask`.
        """
        other = [name for name in ("images", "audio") if kwargs.get(name) is not None]
        if other:
            raise ValueError(
                f"VitaClipProcessor takes `text` and `videos`, got `{other[0]}`; images of a video go as `videos`."
            )
        return super().__call__(text=text, videos=videos, **kwargs)

    def tokenize_classes(self, names: list[str], text_config: VitaClipTextConfig) -> dict[str, Any]:
        """
        The arguments of [`VitaClipModel.set_classes`] besides the names: see [`tokenize_classes`].

        Example:

        ```python
        >>> names = ["yoga", "juggling"]
        >>> model.set_classes(names, **processor.tokenize_classes(names, model.config.text_config))  # doctest: +SKIP

        ```
        """
        return tokenize_classes(names, self.tokenizer, text_config)


def tokenize_classes(names: list[str], tokenizer: Any, config: VitaClipTextConfig) -> dict[str, Any]:
    """
    Token ids of class prompts, laid out as `context_position` says; underscores in names count as spaces.

    Args:
        names: class names. As in CoOp, the name and the full stop are tokenized together.
        tokenizer: CLIP's.
        config: gives the number of context tokens and the place of the name.

    Returns:
        `class_input_ids` `[C, max_position_embeddings]`; and `context_init_ids` `[M_c]` of the words that new contexts
        start from, or `None`.

    Raises:
        ValueError: no names, an empty or repeated name, a name too long, a tokenizer larger than the vocabulary, or
            words that do not fill the context.
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"Class names must be a non-empty list of strings, got {names!r}.")
    repeated = sorted(str(name) for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ValueError(f"Class names must differ; these are repeated: {', '.join(map(repr, repeated))}.")
    slots = [CONTEXT_SLOT] * config.num_context_tokens
    before = {"end": len(slots), "front": 0, "middle": len(slots) // 2}[config.context_position]
    owners: dict[tuple[int, ...], str] = {}  # the prompts in order, with their classes
    for name in names:
        words = name.replace("_", " ").strip() if isinstance(name, str) else ""
        if not words:
            raise ValueError(f"Class names must be non-empty strings, got {name!r} at position {len(owners)}.")
        name_and_stop = tokenizer(f"{words}.", add_special_tokens=False).input_ids
        length = len(tokenizer(words, add_special_tokens=False).input_ids)
        row: tuple[int, ...] = (*slots[:before], *name_and_stop[:length], *slots[before:], *name_and_stop[length:])
        row = (tokenizer.bos_token_id, *row, tokenizer.eos_token_id)
        if len(row) > config.max_position_embeddings:
            raise ValueError(
                f"The prompt of class {name!r} takes {len(row)} tokens ({len(slots)} of context), but the text tower "
                f"has {config.max_position_embeddings} positions; shorten the name or use fewer context tokens."
            )
        if owners.setdefault(row, name) != name:
            raise ValueError(f"Classes {owners[row]!r} and {name!r} have the same prompt; rename one of them.")
    largest = max(map(max, owners))
    if largest >= config.vocab_size:
        raise ValueError(
            f"The tokenizer gives token id {largest}, but the text tower knows only {config.vocab_size} tokens; "
            "use the tokenizer that belongs to the model."
        )
    context = None
    if config.context_init is not None:
        context = torch.tensor(tokenizer(config.context_init.replace("_", " "), add_special_tokens=False).input_ids)
        if len(context) != len(slots):
            raise ValueError(
                f"`context_init` {config.context_init!r} is {len(context)} tokens long but `num_context_tokens` is "
                f"{len(slots)}; make them equal in the text configuration."
            )
    ids = torch.full((len(owners), config.max_position_embeddings), AFTER_END)
    for index, prompt in enumerate(owners):
        ids[index, : len(prompt)] = torch.tensor(prompt)
    return {"class_input_ids": ids, "context_init_ids": context}


__all__ = ["VitaClipProcessor"]
