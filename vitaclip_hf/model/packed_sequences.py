"""Sequences of different lengths one after the other, without padding."""

from itertools import groupby
from typing import NamedTuple

import torch


class PackedSequences(NamedTuple):
    """
    Token embeddings of all sequences, from the shortest sequence to the longest, without padding.

    Attributes:
        tokens (`torch.Tensor` of shape `(num_tokens, hidden_size)`): the embeddings.
        positions (`torch.Tensor` of shape `(num_tokens,)`): place of each token within its sequence.
        groups (`tuple[tuple[int, int], ...]`): how many sequences follow each other with one length, and that length.
        ends (`torch.Tensor` of shape `(num_sequences,)`): where among the tokens each packed sequence ends.
        places (`torch.Tensor` of shape `(num_sequences,)`): where each of the original sequences was packed.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    groups: tuple[tuple[int, int], ...]
    ends: torch.Tensor
    places: torch.Tensor


class Packing:
    """
    Which token goes where. Sizes come from plain numbers, so that no tensor value decides a shape.

    Args:
        lengths (`tuple[int, ...]`): length of each sequence.
        length_tensor (`torch.Tensor` of shape `(num_sequences,)`): the same numbers on the device of the tokens.
    """

    def __init__(self, lengths: tuple[int, ...], length_tensor: torch.Tensor):
        order = length_tensor.argsort(stable=True)
        by_length = length_tensor[order]
        count = sum(lengths)
        starts = by_length.cumsum(0) - by_length
        self.groups = tuple((len(list(same)), length) for length, same in groupby(sorted(lengths)))
        # [N]: the sequence of each packed token, and the token's place within it.
        self.sequences = order.repeat_interleave(by_length, output_size=count)
        self.positions = torch.arange(count, device=order.device) - starts.repeat_interleave(
            by_length, output_size=count
        )
        self.ends = by_length.cumsum(0) - 1
        self.places = order.argsort()

    def pack(self, tokens: torch.Tensor) -> PackedSequences:
        """The packed token embeddings `[N, D]` with what is known of their places."""
        return PackedSequences(tokens, self.positions, self.groups, self.ends, self.places)
