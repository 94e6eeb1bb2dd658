"""What is exported: the video tower and the comparison with class embeddings that are an input."""

from typing import Any

import torch
from torch import nn
from torch.export import Dim


INPUTS = ("pixel_values_videos", "class_embeds")
OUTPUTS = ("logits", "video_embeds")
DYNAMIC_SIZES = {
    "pixel_values_videos": {0: Dim("batch", max=4096), 1: Dim("frames", max=1024)},
    "class_embeds": {0: Dim("classes", max=1 << 20)},
}


class VideoScorer(nn.Module):
    """
    Videos and class embeddings in, scaled cosines and video embeddings out.

    Args:
        model ([`VitaClipModel`]): in evaluation, float32.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(
        self, pixel_values_videos: torch.Tensor, class_embeds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalised frames.
            class_embeds (`torch.Tensor` of shape `(num_classes, projection_dim)`): normalised.

        Returns:
            Logits of shape `(batch_size, num_classes)` and normalised embeddings `(batch_size, projection_dim)`.
        """
        features = self.model.get_video_features(pixel_values_videos, class_tokens_only=True).pooler_output
        video_embeds = nn.functional.normalize(features, dim=-1)
        return self.model.compare(video_embeds, class_embeds), video_embeds


def sample_inputs(model: Any, batch_size: int, num_frames: int, num_classes: int, seed: int = 0) -> tuple[Any, Any]:
    """Random inputs of the scorer: pixels and normalised class embeddings."""
    generator = torch.Generator().manual_seed(seed)
    size = model.config.vision_config.image_size
    pixels = torch.randn(batch_size, num_frames, 3, size, size, generator=generator)
    classes = torch.randn(num_classes, model.config.projection_dim, generator=generator)
    return pixels, nn.functional.normalize(classes, dim=-1)
