"""From pixels and labels to scores: the one place that turns video features into answers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .encoder import VideoEncoder


class ScoreError(ValueError):
    """A model's scores are NaN or infinite."""


def checked(scores: torch.Tensor) -> torch.Tensor:
    """The scores on the CPU; a [`ScoreError`] if one is NaN or infinite."""
    if not scores.isfinite().all():
        raise ScoreError(
            "The model's scores are NaN or infinite. Its weights are damaged, or too large for its dtype: fetch or "
            "save the checkpoint again, or load it in float32."
        )
    return scores.cpu()


class Scores(NamedTuple):
    """Probabilities and cosines `(batch_size, num_labels)` of videos, float32, averaged over the views of each."""

    scores: torch.Tensor
    cosines: torch.Tensor


class Scorer:
    """
    Scores labels for videos.

    Args:
        encoder ([`VideoEncoder`]): the model.
        labels, templates: as for [`VideoEncoder.class_features`], whose values `labels` and `class_features` are.
    """

    def __init__(self, encoder: VideoEncoder, labels: Any = None, templates: str | Sequence[str] = "{}"):
        self.encoder = encoder
        self.labels, self.class_features = encoder.class_features(labels, templates)

    def score(self, pixel_values_videos: torch.Tensor) -> Scores:
        """Scores of all views of videos, `(batch_size, num_views, num_frames, 3, height, width)`."""
        return self.compare(self.encoder.video_features(pixel_values_videos))

    @torch.no_grad()
    def compare(self, video_features: torch.Tensor) -> Scores:
        """Scores from the features of videos, of [`VideoEncoder.video_features`]."""
        logits, cosines = self.encoder.compare(video_features, self.class_features.to(video_features.device))
        return Scores(self.encoder.probabilities(logits.float()).mean(1), cosines.float().mean(1))
