"""Vita-CLIP's prompts: modules that turn class tokens into prompt tokens, and class names into text prompts.

Shapes: B videos, T frames, D vision width, D_t text width, C classes, M_v global prompts, M_c context tokens, L text
positions.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.models.clip.modeling_clip import CLIPAttention
from transformers.utils import logging

from .configuration_vita_clip import VitaClipTextConfig, VitaClipVisionConfig


logger = logging.get_logger(__name__)

# In `class_input_ids`: positions that a learned context token fills, and positions behind the end of the text.
CONTEXT_SLOT = -1
AFTER_END = -2


def nearest_frames(trained: int, num_frames: int, device: torch.device) -> torch.Tensor:
    """For each of some frames, the number of the trained frame that is nearest: `[num_frames]`."""
    # No branch on the number of frames: a graph that was traced at one number serves all.
    steps = torch.arange(num_frames, dtype=torch.float32, device=device)
    return (steps * (trained / num_frames)).long()  # the rounding of torch's own "nearest"


class TimeEmbedding(nn.Module):
    """A learned vector for each frame, the same for every token of the frame (paper section 3.1)."""

    def __init__(self, config: VitaClipVisionConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.num_frames, config.hidden_size))

    def forward(self, embeddings: torch.Tensor, nearest: torch.Tensor) -> torch.Tensor:
        """Adds time to tokens `[B, T, 1+N, D]`; `nearest` of [`nearest_frames`]."""
        return embeddings + self.weight.index_select(0, nearest)[:, None]


class VisionPrompts(nn.Module):
    """The summary, local and global prompts of one layer (paper section 3.1, equations 2 to 6)."""

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
        counts = (config.num_frames if config.use_local_prompts else 0, config.num_global_prompts)
        self.local_prompts, self.global_prompts = (nn.Parameter(torch.zeros(n, width)) if n else None for n in counts)

    def forward(self, hidden_states: torch.Tensor, nearest: torch.Tensor) -> torch.Tensor:
        """
        The tokens `[B, T, 1+N, D]` that enter the layer, and behind those of each frame its prompts: its own summary,
        all T local prompts, which `nearest` of [`nearest_frames`] resizes over time, and all M_v global ones.
        """
        batch, frames = hidden_states.shape[:2]
        tokens = [hidden_states]
        if self.cls_projection is not None:
            projected = self.cls_projection(hidden_states[:, :, 0].flatten(0, 1)).unflatten(0, (batch, frames))
        if self.summary_norm is not None and self.summary_attention is not None:
            attended, _ = self.summary_attention(self.summary_norm(projected))
            tokens.append((projected + attended)[:, :, None])
        if self.local_prompts is not None:
            local = projected + self.local_prompts.index_select(0, nearest)
            tokens.append(local[:, None].expand(-1, frames, -1, -1))
        if self.global_prompts is not None:
            tokens.append(self.global_prompts.expand(batch, frames, -1, -1))
        return torch.cat(tokens, dim=2)


class ClassPrompts(nn.Module):
    """
    Class names with learned context tokens around them: `[SOS] [context] [class name] [.] [EOS]` (paper section 3.2).
    `class_input_ids` `(num_classes, max_position_embeddings)` holds the token ids of each prompt, with `CONTEXT_SLOT`
    where a context token goes and `AFTER_END` behind the end of the text.
    """

    def __init__(self, config: VitaClipTextConfig, num_classes: int):
        super().__init__()
        self.config = config
        contexts = (num_classes,) if config.class_specific_context else ()
        self.context = nn.Parameter(torch.zeros(*contexts, config.num_context_tokens, config.hidden_size))
        self.class_input_ids = nn.Buffer(self.nameless_ids(num_classes))
        self._lengths = (0, config.max_position_embeddings)
        self._measured: tuple[torch.Tensor, int] | None = None

    def nameless_ids(self, num_classes: int) -> torch.Tensor:
        """Prompts of classes without names: context tokens between start and end."""
        bos, eos = self.config.bos_token_id, self.config.eos_token_id
        if eos == 2 and not self.config.pool_first_eos:
            # OpenAI's published text configurations carry 0 and 2, which are not the tokens of their vocabulary.
            bos, eos = self.config.vocab_size - 2, self.config.vocab_size - 1
        ids = torch.full((num_classes, self.config.max_position_embeddings), AFTER_END)
        ids[:, 0], ids[:, self.config.num_context_tokens + 1] = bos, eos
        ids[:, 1 : self.config.num_context_tokens + 1] = CONTEXT_SLOT
        return ids

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self.lengths  # noqa: B018  measured now, since a traced forward pass cannot

    @property
    def lengths(self) -> tuple[int, int]:
        """
        Tokens of the shortest and of the longest prompt. Measuring waits for the device: it is done when
        `class_input_ids` is new or was written to, and not while tracing, where all positions count until then.
        """
        ids = self.class_input_ids
        if torch.compiler.is_compiling() or ids.is_meta or type(ids) is not torch.Tensor:
            return self._lengths
        version = 0 if ids.is_inference() else ids._version
        if self._measured is None or self._measured[0] is not ids or self._measured[1] != version:
            lengths = (ids != AFTER_END).sum(-1)
            self._lengths = (int(lengths.min()), int(lengths.max()))
            self._measured = ids, version
        return self._lengths

    @property
    def have_names(self) -> bool:
        """Whether every class has a name."""
        return self.lengths[0] > self.config.num_context_tokens + 2

    def forward(self, embed: Callable[[torch.Tensor], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Tokens of all prompts `[C, L, D_t]` without position embeddings, and where each prompt ends, `[C]`. `embed` is
        the token embedding. Behind the end are tokens without meaning, which the causal mask hides.
        """
        if not torch.compiler.is_compiling() and not self.have_names:
            if not self.config.class_specific_context:
                raise ValueError("The classes have no names, and share one context: call `model.set_classes` first.")
            logger.warning_once("The classes have no names yet, only learned contexts: call `model.set_classes`.")
        ids = self.class_input_ids[:, : self.lengths[1]]
        tokens = embed(ids.clamp(min=0)).to(self.context.device)
        if self.config.num_context_tokens:
            is_slot = (ids == CONTEXT_SLOT)[..., None]  # [C, L, 1]
            slots = (is_slot.cumsum(1) - 1).clamp(min=0).expand(-1, -1, self.context.shape[-1])
            tokens = torch.where(is_slot, self.context.expand(len(ids), -1, -1).gather(1, slots), tokens)
        return tokens, (ids != AFTER_END).sum(-1) - 1

    def set_names(
        self, names: list[str], known: dict[str, int], class_input_ids: torch.Tensor, words: torch.Tensor | None
    ) -> None:
        """See [`VitaClipModel.set_classes`]. `known` classes by name; embedded `words` `[M_c, D_t]` of new contexts."""
        expected = (len(names), self.config.max_position_embeddings)
        if class_input_ids.shape != expected:
            raise ValueError(f"`class_input_ids` must have the shape {expected}, got {tuple(class_input_ids.shape)}.")
        fresh, old = not self.have_names, self.context.detach()

        def start(name: str) -> torch.Tensor:
            if not fresh and name in known:
                return old[known[name]]
            if words is not None:
                return words
            return torch.randn_like(old[0]) * 0.02 if fresh else old.mean(0)

        if self.config.class_specific_context:
            new = torch.stack([start(name) for name in names]).to(old.dtype)
        else:
            new = words if words is not None and fresh else old
        if new.shape == old.shape:
            with torch.no_grad():  # the same parameter, for an optimizer that has it already
                self.context.copy_(new)
        else:
            self.context = nn.Parameter(new.clone(), requires_grad=self.context.requires_grad)
        self.class_input_ids = nn.Buffer(class_input_ids.to(old.device))
        self.lengths  # noqa: B018  measured now, since a traced forward pass cannot
