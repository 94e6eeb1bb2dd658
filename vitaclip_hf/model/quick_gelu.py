"""CLIP's activation with the memory of one buffer, in training too."""

import torch
from torch import nn


SLOPE = 1.702


def _quick_gelu(values: torch.Tensor) -> torch.Tensor:
    return (SLOPE * values).sigmoid_().mul_(values)


class _QuickGELUFunction(torch.autograd.Function):
    """Keeps its input alone for the backward pass, where autograd would keep the sigmoid too."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(values)
        return _quick_gelu(values)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        (values,) = ctx.saved_tensors
        # x * sigmoid(a x) is silu(a x) / a, so that its derivative is silu's at a x, which torch has as one kernel.
        scaled = SLOPE * values
        if torch.is_grad_enabled():  # `create_graph`: that kernel has no derivative of its own
            sigmoid = scaled.sigmoid()
            return gradient * sigmoid * (1 + scaled * (1 - sigmoid))
        return torch.ops.aten.silu_backward(gradient, scaled)


class QuickGELU(nn.Module):
    """transformers' `quick_gelu` to the bit, within one buffer: fresh memory costs a CPU more than the arithmetic."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and hidden_states.requires_grad:
            return _QuickGELUFunction.apply(hidden_states)
        return _quick_gelu(hidden_states)
