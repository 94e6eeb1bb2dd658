"""The text tower once an optimizer step: class embeddings that all micro-batches of the step share."""

import torch

from ..model.modeling_vita_clip import VitaClipModel


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


class SharedClassEmbeds:
    """
    Class embeddings for the micro-batches of one optimizer step, computed at the first of them.

    All micro-batches but the last get a detached copy, on which their gradients add up. The last one gets the
    embeddings themselves and carries the sum with it, so that one backward pass goes through the text tower. The
    gradients are those of the plain way, where each micro-batch computes the embeddings anew, because the weights do
    not change within a step. Everything reaches the parameters in the last backward pass: that is the one which
    DistributedDataParallel averages over ranks, and a loss scaler sees one scale.

    Make a new one for each step.

    Args:
        model ([`VitaClipModel`]): the model itself, not wrapped.
    """

    def __init__(self, model: VitaClipModel) -> None:
        self.model = model
        self._embeds: torch.Tensor | None = None
        self._copy: torch.Tensor | None = None

    def for_micro_batch(self, is_last: bool) -> torch.Tensor:
        """
        The class embeddings for the forward pass of the next micro-batch.

        Args:
            is_last (`bool`): whether it is the last micro-batch of the step.

        Returns:
            `torch.Tensor` of shape `(num_classes, projection_dim)`, for `class_embeds` of
            [`VitaClipForVideoClassification`].
        """
        if self._embeds is None:
            self._embeds = self.model.get_class_embeds()
        if not is_last:
            if self._copy is None:
                # Gradients of many micro-batches are added in float32 at least, whatever the towers compute in.
                precision = torch.promote_types(self._embeds.dtype, torch.float32)
                self._copy = self._embeds.detach().to(precision, copy=True).requires_grad_()
            return self._copy
        embeds, gathered = self._embeds, None if self._copy is None else self._copy.grad
        self._embeds = self._copy = None
        return embeds if gathered is None else _WithGathered.apply(embeds, gathered)
