"""Losses that keep a model near its frozen CLIP."""

import torch
from torch import nn

from ..model.modeling_vita_clip import VitaClipModel


def squared_distance(embeds: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of normalised vectors `(num_vectors, projection_dim)` from their normalised targets."""
    return (embeds.float() - targets.to(embeds.device).float()).square().sum(-1).mean()


@torch.no_grad()
def plain_class_embeds(model: VitaClipModel) -> torch.Tensor:
    """
    Normalised features of the class names without their contexts, `[SOS] [class name] [.] [EOS]`, through the plain
    text tower: shape `(num_classes, projection_dim)`.

    Raises:
        ValueError: the classes have no names.
    """
    if not model.class_prompts.have_names:
        raise ValueError("The classes have no names: call `model.set_classes` first.")
    rows = [row[row >= 0] for row in model.class_prompts.class_input_ids]  # contexts and padding are negative
    longest = max(map(len, rows))
    # Padded by the end token, of which the text tower reads the first.
    ids = torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows])
    return nn.functional.normalize(model.get_text_features(ids, return_dict=True).pooler_output, dim=-1)
