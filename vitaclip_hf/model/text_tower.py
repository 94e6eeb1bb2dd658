"""CLIP's text tower. Class prompts run without padding; the last layer is computed for their last tokens only.

Shapes: C classes, L positions, D_t text width, N tokens of all sequences together.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoder, CLIPEncoderLayer, eager_attention_forward
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_vita_clip import VitaClipTextConfig
from .packed_sequences import PackedSequences
from .quick_gelu import QuickGELU


# Renamed within transformers 5.
CACHE_ARGUMENT = "cache" if "cache" in inspect.signature(create_causal_mask).parameters else "past_key_values"


class SequencesOfLength(NamedTuple):
    """Neighbours among packed sequences that are equally long."""

    sequences: int
    length: int
    mask: Any  # causal, in the attention implementation's form; None if `is_causal=True` is enough


def causal_groups(packed: PackedSequences, config: VitaClipTextConfig) -> list[SequencesOfLength]:
    """The groups of packed sequences with their causal masks for the configured attention."""
    groups = []
    for sequences, length in packed.groups:
        like = packed.tokens.new_empty(sequences, length, 1)
        cache: dict[str, Any] = {CACHE_ARGUMENT: None}
        mask = create_causal_mask(config=config, inputs_embeds=like, attention_mask=None, **cache)
        groups.append(SequencesOfLength(sequences, length, mask))
    return groups


class VitaClipTextAttention(CLIPAttention):
    """CLIP's self-attention, which can be given packed sequences."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        groups: list[SequencesOfLength] | None = None,
        ends: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            hidden_states: `[C, L, D_t]`, or with `groups` the packed tokens `[N, D_t]`.
            groups: of the packed sequences, each with its own mask.
            ends: attend only for these tokens, the last of each sequence, `[C]`.

        Returns:
            As `hidden_states`, but `[C, D_t]` with `ends`; and the attention weights of sequences that are not packed.
        """
        if groups is None:
            return super().forward(hidden_states, attention_mask, **kwargs)
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        if ends is not None:
            kwargs["is_causal"] = False  # the last token sees all others
        sizes = [group.sequences * (group.length if ends is None else 1) for group in groups]
        queries = self.q_proj(hidden_states if ends is None else hidden_states[ends]).split(sizes)
        sizes = [group.sequences * group.length for group in groups]
        keys, values = (project(hidden_states).split(sizes) for project in (self.k_proj, self.v_proj))
        attended = []
        for group, *tokens in zip(groups, queries, keys, values, strict=True):
            heads = [part.view(group.sequences, -1, self.num_heads, self.head_dim).transpose(1, 2) for part in tokens]
            mask = group.mask if ends is None else None
            dropout = self.dropout if self.training else 0.0
            part, _ = attention(self, *heads, mask, scaling=self.scale, dropout=dropout, **kwargs)
            attended.append(part.reshape(-1, self.embed_dim))
        return self.out_proj(torch.cat(attended)), None


class VitaClipTextLayer(CLIPEncoderLayer):
    """CLIP's layer, which can be given packed sequences."""

    def __init__(self, config: VitaClipTextConfig):
        super().__init__(config)
        if config.hidden_act == "quick_gelu":
            self.mlp.activation_fn = QuickGELU()
        self.self_attn = VitaClipTextAttention(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        groups: list[SequencesOfLength] | None = None,
        ends: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """`[C, L, D_t]` in and out, or with `groups` packed tokens `[N, D_t]`; with `ends` too, `[C, D_t]` out."""
        if groups is None:
            return super().forward(hidden_states, attention_mask, **kwargs)
        attended, _ = self.self_attn(self.layer_norm1(hidden_states), None, groups, ends, **kwargs)
        hidden_states = (hidden_states if ends is None else hidden_states[ends]) + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))


class VitaClipTextEncoder(CLIPEncoder):
    """CLIP's encoder. Packed sequences have no padding, and only their last tokens in the last layer."""

    def __init__(self, config: VitaClipTextConfig):
        nn.Module.__init__(self)  # CLIPEncoder's own would build CLIP's layers first
        self.config = config
        self.layers = nn.ModuleList([VitaClipTextLayer(config) for _ in range(config.num_hidden_layers)])
        self.gradient_checkpointing = False

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        packed: PackedSequences | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """
        Args:
            inputs_embeds (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`):
                Embedded tokens; with `packed`, of shape `(num_tokens, hidden_size)`.
            attention_mask (`torch.Tensor`, *optional*): of padded sequences; unused with `packed`.
            packed ([`PackedSequences`], *optional*):
                How the tokens are packed. The last layer is computed for the ends of the sequences only.

        Returns:
            `last_hidden_state` of shape `(batch_size, sequence_length, hidden_size)`, or with `packed` of shape
            `(num_sequences, 1, hidden_size)`.
        """
        if packed is None:
            return super().forward(inputs_embeds, attention_mask, **kwargs)
        groups = causal_groups(packed, self.config)
        hidden_states = inputs_embeds
        for layer in self.layers[:-1]:
            hidden_states = layer(hidden_states, groups=groups, **kwargs)
        hidden_states = self.layers[-1](hidden_states, groups=groups, ends=packed.ends, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states[packed.places, None])
