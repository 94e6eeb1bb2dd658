"""From pixels and labels to scores: the one place that turns video features into answers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .encoder import VideoEncoder


class ScoreError(ValueError):
    """A model's scores are NaN or infinite."""

    def __init__(self, message: str = ""):
        super().__init__(
            message
            or "The model's scores are NaN or infinite. Its weights are damaged, or too large for its dtype: fetch or "
            "save the checkpoint again, or load it in float32."
        )


class Scores(NamedTuple):
    """
    What a model says of a batch of videos, averaged over the views of each.

    Attributes:
        scores (`torch.Tensor` of shape `(batch_size, num_labels)`): probabilities, float32.
        cosines (`torch.Tensor` of shape `(batch_size, num_labels)`): of each label alone, float32.
    """

    scores: torch.Tensor
    cosines: torch.Tensor

    def check(self) -> "Scores":
        """
        The scores on the CPU.

        Raises:
            ScoreError: some scores are NaN or infinite.
        """
        checked = Scores(self.scores.cpu(), self.cosines.cpu())
        if not checked.scores.isfinite().all():
            raise ScoreError
        return checked


class Scorer:
    """
    Scores labels for videos.

    Args:
        encoder ([`VideoEncoder`]): the model.
        labels (`Sequence[str]` or `Mapping[str, Sequence[str]]`, *optional*): the labels to score, or several texts for
            each; by default the classes that the model was trained on, through their learned contexts.
        templates (`str` or `Sequence[str]`, defaults to `"{}"`): sentences with `{}` for the label.

    Attributes:
        labels (`tuple[str, ...]`): names of the labels.
        class_features (`torch.Tensor` of shape `(num_labels, embed_dim)`): what videos are compared with.

    Raises:
        ValueError: labels or templates that cannot be scored, or a model without classes of its own.

    Example:

    ```python
    >>> from vitaclip_hf import load_checkpoint
    >>> from vitaclip_hf.model.scorer import Scorer

    >>> encoder = load_checkpoint("examples/demo/checkpoint").encoder()  # doctest: +SKIP
    >>> pixels, metadata = encoder.reader().read("clip.mp4")  # doctest: +SKIP
    >>> Scorer(encoder, ["red star turning", "blue heart bouncing"]).score(pixels[None]).scores  # doctest: +SKIP
    tensor([[0.98, 0.02]])

    ```
    """

    def __init__(self, encoder: VideoEncoder, labels: Any = None, templates: str | Sequence[str] = "{}"):
        self.encoder = encoder
        self.labels, self.class_features = encoder.class_features(labels, templates)

    def score(self, pixel_values_videos: torch.Tensor) -> Scores:
        """
        Scores of videos.

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_views, num_frames, 3, height, width)`):
                All views of each video.
        """
        return self.compare(self.encoder.video_features(pixel_values_videos))

    @torch.no_grad()
    def compare(self, video_features: torch.Tensor) -> Scores:
        """
        Scores of videos from their features.

        Args:
            video_features (`torch.Tensor` of shape `(batch_size, num_views, num_features)`): of
                [`VideoEncoder.video_features`].
        """
        texts = self.class_features.to(video_features.device)
        logits, cosines = self.encoder.compare(video_features, texts)
        return Scores(self.encoder.probabilities(logits.float()).mean(1), cosines.float().mean(1))


__all__ = ["ScoreError", "Scorer", "Scores"]
