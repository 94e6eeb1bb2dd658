"""The text tower once an optimizer step: class embeddings that all micro-batches of the step share."""

from collections.abc import Callable

import torch


class _WithGathered(torch.autograd.Function):
    """Identity whose backward adds the gradient that earlier micro-batches have gathered."""

    @staticmethod
    def forward(ctx, embeds: torch.Tensor, gathered: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gathered)
        return embeds.view_as(embeds)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gathered,) = ctx.saved_tensors
        return (gradient + gathered).to(gradient.dtype), None


class ClassEmbedsOfStep:
    """Class embeddings `[C, E]` for the micro-batches of one optimizer step, computed at the first of them.

    All micro-batches but the last see a detached copy, on which their gradients add up; the last one sees the
    embeddings themselves and carries the sum with it, so that one backward pass goes through the text tower. The
    gradients are those of the plain way, where each micro-batch computes the embeddings anew, because the weights do
    not change within a step. Since everything reaches the parameters in the last backward pass, it is the one that
    DistributedDataParallel averages over ranks, and a loss scaler sees one scale.

    Make a new one for each step and pass it to [`VitaClipForVideoClassification`] as `class_embeds`.
    """

    def __init__(self) -> None:
        self.is_last = True
        self._embeds: torch.Tensor | None = None
        self._copy: torch.Tensor | None = None

    def for_micro_batch(self, is_last: bool) -> "ClassEmbedsOfStep":
        """Says whether the next forward pass is that of the step's last micro-batch."""
        self.is_last = is_last
        return self

    @torch.compiler.disable  # what one call keeps, the backward pass of another needs: not for one compiled graph
    def __call__(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The embeddings for this micro-batch; `compute` runs for the first one only."""
        if self._embeds is None:
            self._embeds = compute()
        if not self.is_last:
            if self._copy is None:
                # Gradients of many micro-batches are added in float32 at least, whatever the towers compute in.
                precision = torch.promote_types(self._embeds.dtype, torch.float32)
                self._copy = self._embeds.detach().to(precision, copy=True).requires_grad_()
            return self._copy
        embeds, gathered = self._embeds, None if self._copy is None else self._copy.grad
        self._embeds = self._copy = None
        return embeds if gathered is None else _WithGathered.apply(embeds, gathered)
