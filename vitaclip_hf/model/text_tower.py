"""CLIP's text tower, which takes the classes' sequences without padding and computes their ends alone at the end.

Shapes: C classes, L positions, D_t text width, N tokens of all sequences together.
"""

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
from .quick_gelu import QuickGELU


class SequencesOfLength(NamedTuple):
    """Neighbours among packed sequences that are equally long."""

    sequences: int
    length: int
    mask: Any  # causal, as the attention implementation wants it; None where `is_causal` says enough


class PackedSequences(NamedTuple):
    """Sequences one after the other, from short to long, without padding."""

    tokens: torch.Tensor  # [N, D_t]
    groups: list[SequencesOfLength]
    ends: torch.Tensor  # where among the tokens each sequence ends, [C]
    places: torch.Tensor  # where each of the original sequences has gone, [C]


def pack_sequences(embeddings: torch.Tensor, ends: torch.Tensor, config: VitaClipTextConfig) -> PackedSequences:
    """Takes the padding out.

    Args:
        embeddings: `[C, L, D_t]`.
        ends: position of the last token of each sequence, `[C]`.
        config: says which attention the masks are for.
    """
    order = ends.argsort(stable=True)
    positions = torch.arange(embeddings.shape[1], device=ends.device)
    is_token = positions <= ends[order, None]
    tokens = (order[:, None] * embeddings.shape[1] + positions)[is_token]
    lengths, counts = torch.unique_consecutive(ends[order] + 1, return_counts=True)
    groups = []
    for count, length in zip(counts.tolist(), lengths.tolist(), strict=True):
        mask = create_causal_mask(
            config=config, inputs_embeds=embeddings[:count, :length], attention_mask=None, past_key_values=None
        )
        groups.append(SequencesOfLength(count, length, mask))
    packed_ends = (ends[order] + 1).cumsum(0) - 1
    return PackedSequences(embeddings.flatten(0, 1).index_select(0, tokens), groups, packed_ends, order.argsort())


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
    """CLIP's encoder; where only the ends of the sequences are wanted, it computes nothing behind or beside them."""

    def __init__(self, config: VitaClipTextConfig):
        nn.Module.__init__(self)  # CLIPEncoder's own would build CLIP's layers first
        self.config = config
        self.layers = nn.ModuleList([VitaClipTextLayer(config) for _ in range(config.num_hidden_layers)])
        self.gradient_checkpointing = False

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        ends: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """
        Args:
            inputs_embeds: `[C, L, D_t]`.
            attention_mask: for the plain way; with `ends` it is not used.
            ends: position of the last token of each sequence, `[C]`: the only one that is wanted.

        Returns:
            `last_hidden_state` `[C, L, D_t]`, or with `ends` `[C, 1, D_t]`.
        """
        if ends is None:
            return super().forward(inputs_embeds, attention_mask, **kwargs)
        hidden_states, groups, packed_ends, places = pack_sequences(inputs_embeds, ends, self.config)
        for layer in self.layers[:-1]:
            hidden_states = layer(hidden_states, groups=groups, **kwargs)
        hidden_states = self.layers[-1](hidden_states, groups=groups, ends=packed_ends, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states[places, None])
