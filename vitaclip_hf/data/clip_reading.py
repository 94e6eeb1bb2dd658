"""From an opened video to model input, and what to do with a file that cannot be read."""

from collections.abc import Callable
from typing import Any

import torch
from transformers.image_utils import ChannelDimension

from ..model.decoding import Video, VideoDecodingError
from ..model.frame_sampling import ClipSpecification
from .seeds import derive_seed


ON_ERROR = ("error", "skip")
NO_LABEL = -100  # cross-entropy ignores it

# Errors of a single file. Any other error is a mistake in the code or the settings and stops the run.
FILE_FAILURES = (VideoDecodingError,)


class ClipReader:
    """
    Reads a video's clips and preprocesses them.

    Args:
        video_processor ([`VitaClipVideoProcessor`]): resizes, crops and normalises if there is no augmentation.
        specification ([`ClipSpecification`]): how a video is read.
        augmentation (`Callable`, *optional*): [`ClipAugmentation`] or another function of frames (uint8, shape
            `(num_frames, 3, height, width)`) and generator.
        training (`bool`, defaults to `False`): one clip instead of all views.
        max_bytes (`int`, *optional*): limit on the decoded frames of one reading; by default the video processor's
            `max_bytes` if it has one, else that of [`open_video`].
        max_seconds (`float`, *optional*): most time for decoding one video, see [`open_video`]; by default the video
            processor's.

    Raises:
        ValueError: several views in training, or augmentation in evaluation.
    """

    def __init__(
        self,
        video_processor,
        specification: ClipSpecification,
        augmentation: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
        training: bool = False,
        max_bytes: int | None = None,
        max_seconds: float | None = None,
    ):
        views = (specification.num_views, specification.num_spatial_views)
        if training and views != (1, 1):
            raise ValueError(
                f"Training takes one view of a video, got num_views={views[0]}, num_spatial_views={views[1]}."
            )
        if augmentation is not None and not training:
            raise ValueError("Evaluation takes no augmentation.")
        self.video_processor = video_processor
        self.specification = specification
        self.augmentation = augmentation
        self.training = training
        self.max_bytes = getattr(video_processor, "max_bytes", None) if max_bytes is None else max_bytes
        self.max_seconds = getattr(video_processor, "max_seconds", None) if max_seconds is None else max_seconds

    @property
    def limits(self) -> dict[str, Any]:
        """The limits for [`open_video`]; those that are not set keep its defaults."""
        found = {"max_bytes": self.max_bytes, "max_seconds": self.max_seconds}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def decoder(self) -> str:
        """The decoder that the video processor names."""
        return self.video_processor.decoder

    def read(self, video: Video, seed: int) -> torch.Tensor:
        """
        Model input of one video.

        Args:
            video ([`Video`]): an opened video.
            seed (`int`): seed of all draws.

        Returns:
            `torch.Tensor` of shape `(num_frames, 3, height, width)` in training, else
            `(num_views, num_frames, 3, height, width)`; the spatial views of one temporal view follow each other.
        """
        views = video.read_clips(self.specification, derive_seed(seed, "frames"))
        if self.augmentation is not None:
            return self.augmentation(views[0], torch.Generator().manual_seed(derive_seed(seed, "augmentation")))
        pixels = self._processed(views)
        return pixels[0] if self.training else pixels

    def _processed(self, views: list[torch.Tensor]) -> torch.Tensor:
        pixels = self.video_processor(
            views,
            do_sample_frames=False,
            num_views=1,
            num_spatial_views=self.specification.num_spatial_views,
            input_data_format=ChannelDimension.FIRST,
            return_tensors="pt",
        )["pixel_values_videos"]
        return pixels.flatten(0, 1) if pixels.ndim == 6 else pixels

    def blank(self) -> torch.Tensor:
        """Zeros of the shape that `read` gives."""
        black = torch.zeros(self.specification.num_frames, 3, 8, 8, dtype=torch.uint8)
        row = self._processed([black])
        rows = self.specification.num_views * self.specification.num_spatial_views
        return torch.zeros(row.shape[1:] if self.training else (rows, *row.shape[1:]))


def reason_of(error: Exception) -> str:
    """Why a file failed, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def too_many(failures: list[tuple[str, str]]) -> str:
    """The message if no replacement could be read."""
    path, reason = failures[-1]
    return f"{len(failures)} videos in a row could not be read, the last {path} ({reason}); check the data."


def check_policy(on_error: str, max_retries: int) -> None:
    """Raises a ValueError for an unknown way to treat files that cannot be read."""
    if on_error not in ON_ERROR:
        raise ValueError(f"`on_error` must be {' or '.join(ON_ERROR)}, got {on_error!r:.100}.")
    if max_retries < 0:
        raise ValueError(f"`max_retries` must not be negative, got {max_retries}.")
