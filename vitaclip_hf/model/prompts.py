"""Vita-CLIP's prompts: modules that turn class tokens into prompt tokens, and class names into text prompts.

They do not depend on the backbone.

Shapes, in the letters of the whole package: B videos, T frames, D vision width, D_t text width, C classes,
M_v global prompts, M_c context tokens, L text positions.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from transformers.models.clip.modeling_clip import CLIPAttention
from transformers.utils import logging

from .configuration_vita_clip import VitaClipTextConfig, VitaClipVisionConfig
from .packed_sequences import PackedSequences, Packing


logger = logging.get_logger(__name__)

# In `class_input_ids`: positions that a learned context token fills, and positions behind the end of the text.
CONTEXT_SLOT = -1
AFTER_END = -2


def resize_over_time(vectors: torch.Tensor, num_frames: int) -> torch.Tensor:
    """One vector a frame `[T, D]` for another number of frames, by the nearest frame: `[num_frames, D]`.

    Without a branch on the number of frames: a graph that was traced at one number serves all.
    """
    steps = torch.arange(num_frames, dtype=torch.float32, device=vectors.device)
    nearest = (steps * (vectors.shape[0] / num_frames)).long()  # the rounding of torch's own "nearest"
    return vectors.index_select(0, nearest)


@contextmanager
def prompts_disabled(model: nn.Module) -> Iterator[None]:
    """A context in which no prompt of the model is used: the model is frozen CLIP."""
    modules = [module for module in model.modules() if isinstance(module, (TimeEmbedding, VisionPrompts, ClassPrompts))]
    before = [module.enabled for module in modules]
    for module in modules:
        module.enabled = False
    try:
        yield
    finally:
        for module, enabled in zip(modules, before, strict=True):
            module.enabled = enabled


class TimeEmbedding(nn.Module):
    """A learned vector for each frame, the same for every token of the frame (paper section 3.1)."""

    enabled = True  # see `prompts_disabled`

    def __init__(self, config: VitaClipVisionConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.num_frames, config.hidden_size))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Adds time to tokens `[B, T, 1+N, D]`; T may differ from the trained number of frames."""
        if not self.enabled:
            return embeddings
        return embeddings + resize_over_time(self.weight, embeddings.shape[1])[:, None]


class VisionPrompts(nn.Module):
    """The summary, local and global prompts of one layer (paper section 3.1, equations 2 to 6)."""

    enabled = True  # see `prompts_disabled`

    def __init__(self, config: VitaClipVisionConfig):
        super().__init__()
        width = config.hidden_size
        self.patch_size = config.patch_size
        self.train_cls_projection = config.train_cls_projection
        uses_cls_tokens = config.use_summary_prompt or config.use_local_prompts
        self.cls_projection = nn.Linear(width, width) if uses_cls_tokens else None
        self.summary_norm = self.summary_attention = None
        if config.use_summary_prompt:
            self.summary_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
            self.summary_attention = CLIPAttention(config)
        count = config.num_frames if config.use_local_prompts else None
        self.local_prompts = None if count is None else nn.Parameter(torch.zeros(count, width))
        count = config.num_global_prompts
        self.global_prompts = nn.Parameter(torch.zeros(count, width)) if count else None

    def forward(self, cls_tokens: torch.Tensor) -> list[torch.Tensor]:
        """Prompt tokens for the class tokens `[B, T, D]` that enter the layer.

        Returns:
            Up to three tensors that broadcast to `[B, T, tokens, D]`: summary `[B, T, 1, D]`, local `[B, 1, T, D]`
            (every frame of the clip sees all T) and global `[1, 1, M_v, D]`.
        """
        prompts: list[torch.Tensor] = []
        if not self.enabled:
            return prompts
        if self.cls_projection is not None:
            projected = self.cls_projection(cls_tokens)
        if self.summary_norm is not None and self.summary_attention is not None:
            attended, _ = self.summary_attention(self.summary_norm(projected))
            prompts.append((projected + attended)[:, :, None])
        if self.local_prompts is not None:
            prompts.append((projected + resize_over_time(self.local_prompts, cls_tokens.shape[1]))[:, None])
        if self.global_prompts is not None:
            prompts.append(self.global_prompts[None, None])
        return prompts

    def set_trainable(self) -> None:
        """Makes the prompts trainable, and the projection of the class tokens if the configuration says so."""
        self.requires_grad_(True)
        if self.cls_projection is not None:
            self.cls_projection.requires_grad_(self.train_cls_projection)


class ClassPrompts(nn.Module):
    """
    Class names with learned context tokens around them: `[SOS] [context] [class name] [.] [EOS]` (paper section 3.2).

    `class_input_ids` of shape `(num_classes, max_position_embeddings)` holds the token ids of each prompt, with
    `CONTEXT_SLOT` where a context token goes and `AFTER_END` behind the end of the text. The lengths of the prompts are
    facts of the names. They are kept as plain numbers, so that nothing in the forward pass depends on tensor values.
    """

    enabled = True  # see `prompts_disabled`

    def __init__(self, config: VitaClipTextConfig, num_classes: int):
        super().__init__()
        self.config = config
        contexts = (num_classes,) if config.class_specific_context else ()
        self.context = nn.Parameter(torch.zeros(*contexts, config.num_context_tokens, config.hidden_size))
        self.class_input_ids = nn.Buffer(self.nameless_ids(num_classes))
        self._lengths = (config.num_context_tokens + 2,) * num_classes
        self._measured: tuple[int, int] | None = None

    def nameless_ids(self, num_classes: int) -> torch.Tensor:
        """Prompts of classes without names: context tokens between start and end."""
        bos, eos = self.config.bos_token_id, self.config.eos_token_id
        if eos == 2 and not self.config.pool_first_eos:
            # OpenAI's published text configurations carry 0 and 2, which are not the tokens of their vocabulary.
            bos, eos = self.config.vocab_size - 2, self.config.vocab_size - 1
        eos = eos[0] if isinstance(eos, list) else eos
        slots = [CONTEXT_SLOT] * self.config.num_context_tokens
        return pack_rows([[bos, *slots, eos]], self.config.max_position_embeddings).repeat(num_classes, 1)

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self.lengths  # noqa: B018  measured now, since a traced forward pass cannot

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each prompt. Measured again when `class_input_ids` was replaced or written to."""
        ids = self.class_input_ids
        # Tracing and offloading put tensors without values in its place; the names are still the same.
        if torch.compiler.is_compiling() or ids.is_meta or isinstance(ids, FakeTensor):
            return self._lengths
        now = (id(ids), 0 if ids.is_inference() else ids._version)
        if now != self._measured:
            self._lengths = tuple((ids != AFTER_END).sum(-1).tolist())
            self._measured = now
        return self._lengths

    @property
    def have_names(self) -> bool:
        """Whether every class has a name."""
        return min(self.lengths) > self.config.num_context_tokens + 2

    def forward(self, embed: Callable[[torch.Tensor], torch.Tensor]) -> PackedSequences:
        """
        Embeds the tokens of all prompts, without padding.

        Args:
            embed: the text tower's token embedding.

        Returns:
            [`PackedSequences`]: the tokens without position embeddings.

        Raises:
            ValueError: the prompts are disabled, or classes without names share one context.
        """
        if not self.enabled:
            raise ValueError(
                "The prompts are disabled, and CLIP alone has no learned classes: compare with texts (`input_ids`)."
            )
        if not self.have_names and not torch.compiler.is_compiling():
            self._warn_of_missing_names()
        all_ids = self.class_input_ids
        packing = Packing(self.lengths, (all_ids != AFTER_END).sum(-1))
        ids = all_ids[packing.sequences, packing.positions]  # [N]
        is_slot = ids == CONTEXT_SLOT
        slot = (all_ids == CONTEXT_SLOT).cumsum(-1)[packing.sequences, packing.positions] - 1
        slot = slot.clamp(0, self.config.num_context_tokens - 1)
        context = self.context[packing.sequences, slot] if self.context.ndim == 3 else self.context[slot]
        return packing.pack(torch.where(is_slot[:, None], context, embed(ids.clamp(min=0)).to(context.device)))

    def _warn_of_missing_names(self) -> None:
        if not self.config.class_specific_context:
            raise ValueError(
                "The classes have no names yet, and with one shared context they could not differ: "
                "call `model.set_classes(names, tokenizer)` first."
            )
        logger.warning_once(
            "The classes have no names yet: only their learned contexts tell them apart. "
            "Call `model.set_classes(names, tokenizer)` to use the names."
        )

    def set_names(self, names: list[str], known: dict[str, int], tokenizer, token_embedding: nn.Embedding) -> None:
        """
        Replaces the classes.

        A name in `known` (name to old class) keeps its class-specific context. A new name starts from the words of
        `context_init`. Without them it starts from the mean of the learned contexts, or at random if the old prompts
        had no names.

        Raises:
            ValueError: no names, an empty or repeated name, or one too long for the text tower.
        """
        ids = tokenize_class_prompts(names, tokenizer, self.config)
        fresh = not self.have_names
        words = self._context_from_words(tokenizer, token_embedding)
        old = self.context.detach()
        if self.config.class_specific_context:
            new = old.new_empty(len(names), *old.shape[1:])
            for index, name in enumerate(names):
                if not fresh and name in known:
                    new[index] = old[known[name]]
                elif words is not None:
                    new[index] = words
                else:
                    new[index] = torch.randn_like(old[0]) * 0.02 if fresh else old.mean(0)
        else:
            new = words if words is not None and fresh else old
        if new.shape == old.shape:
            with torch.no_grad():  # the same parameter, for an optimizer that has it already
                self.context.copy_(new)
        else:
            self.context = nn.Parameter(new.clone(), requires_grad=self.context.requires_grad)
        self.class_input_ids = nn.Buffer(ids.to(old.device))
        self.lengths  # noqa: B018  measured now, since a traced forward pass cannot

    def _context_from_words(self, tokenizer, token_embedding: nn.Embedding) -> torch.Tensor | None:
        if self.config.context_init is None:
            return None
        ids = tokenizer(self.config.context_init.replace("_", " "), add_special_tokens=False).input_ids
        if len(ids) != self.config.num_context_tokens:
            raise ValueError(
                f"`context_init` {self.config.context_init!r} is {len(ids)} tokens long but `num_context_tokens` is "
                f"{self.config.num_context_tokens}; make them equal in the text configuration."
            )
        return token_embedding.weight.detach()[torch.tensor(ids, device=token_embedding.weight.device)]


def pack_rows(rows: list[list[int]], length: int) -> torch.Tensor:
    """Token ids as one `[C, length]` matrix, filled up with `AFTER_END`."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [AFTER_END] * (longest - len(row)) for row in rows], dtype=torch.long)
    # Tensors, since a list takes memory on the meta device too, where the sizes of a configuration are checked.
    return nn.functional.pad(ids, (0, length - longest), value=AFTER_END)


def tokenize_class_prompts(names: list[str], tokenizer, config: VitaClipTextConfig) -> torch.Tensor:
    """Token ids of the class prompts, `[C, max_position_embeddings]`, laid out as `context_position` says.

    Args:
        names: class names; underscores count as spaces. As in CoOp, the name and the full stop are tokenized together.
        tokenizer: CLIP's.
        config: gives the number of context tokens and the place of the name.

    Raises:
        ValueError: no names, an empty or repeated name, a name too long, or a tokenizer larger than the vocabulary.
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"Class names must be a non-empty list of strings, got {names!r}.")
    repeated = sorted(str(name) for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ValueError(f"Class names must differ; these are repeated: {', '.join(map(repr, repeated))}.")
    slots = [CONTEXT_SLOT] * config.num_context_tokens
    rows: list[list[int]] = []
    for name in names:
        words = name.replace("_", " ").strip() if isinstance(name, str) else ""
        if not words:
            raise ValueError(f"Class names must be non-empty strings, got {name!r} at position {len(rows)}.")
        name_and_stop = tokenizer(f"{words}.", add_special_tokens=False).input_ids
        length = len(tokenizer(words, add_special_tokens=False).input_ids)
        before = {"end": len(slots), "front": 0, "middle": len(slots) // 2}[config.context_position]
        head, tail = slots[:before], slots[before:]
        row = [*head, *name_and_stop[:length], *tail, *name_and_stop[length:]]
        row = [tokenizer.bos_token_id, *row, tokenizer.eos_token_id]
        if len(row) > config.max_position_embeddings:
            raise ValueError(
                f"The prompt of class {name!r} takes {len(row)} tokens ({len(slots)} of context), but the text tower "
                f"has {config.max_position_embeddings} positions; shorten the name or use fewer context tokens."
            )
        rows.append(row)
    first: dict[tuple, str] = {}
    for name, row in zip(names, rows, strict=True):
        if first.setdefault(tuple(row), name) != name:
            raise ValueError(f"Classes {first[tuple(row)]!r} and {name!r} have the same prompt; rename one of them.")
    largest = max(max(row) for row in rows)
    if largest >= config.vocab_size:
        raise ValueError(
            f"The tokenizer gives token id {largest}, but the text tower knows only {config.vocab_size} tokens; "
            "use the tokenizer that belongs to the model."
        )
    return pack_rows(rows, config.max_position_embeddings)
