"""Common part of the data set and the stream of clips: a sample's pixels, and unreadable files."""

from collections.abc import Callable
from typing import Any

import torch

from ..model.sources import VideoDecodingError
from ..model.video_inputs import VideoReader
from .seeds import derive_seed


ON_ERROR = ("error", "skip")
NO_LABEL = -100  # cross-entropy ignores it


class ClipReading:
    """
    Args:
        reader ([`VideoReader`]): reads the videos; resizes, crops and normalises if there is no augmentation.
        augmentation (`Callable`, *optional*): [`ClipAugmentation`] or another function of frames (uint8, shape
            `(num_frames, 3, height, width)`) and generator, for training.
        seed (`int`, defaults to 0): seed of all draws.
        on_error (`str`, defaults to `"error"`): what to do with a file that cannot be read, `"error"` or `"skip"`.
        max_retries (`int`, defaults to 10): how many other videos are tried.

    Raises:
        ValueError: an unknown choice, or several views in training.
    """

    def __init__(
        self,
        reader: VideoReader,
        augmentation: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
        seed: int = 0,
        on_error: str = "error",
        max_retries: int = 10,
    ):
        if on_error not in ON_ERROR:
            raise ValueError(f"`on_error` must be {' or '.join(ON_ERROR)}, got {on_error!r:.100}.")
        self.training = augmentation is not None  # samples are then single clips, which may be replaced
        views = (reader.specification.num_views, reader.specification.num_spatial_views)
        if self.training and views != (1, 1):
            raise ValueError(
                f"Training takes one view of a video, got num_views={views[0]}, num_spatial_views={views[1]}."
            )
        self.reader, self.augmentation = reader, augmentation
        self.seed, self.on_error, self.max_retries = seed, on_error, max_retries

    def pixels(self, video: Any, seed: int) -> torch.Tensor:
        """
        Model input of one video.

        Args:
            video: what [`VideoReader`] can read.
            seed (`int`): seed of all draws.

        Returns:
            `torch.Tensor` of shape `(num_frames, 3, height, width)` in training, else
            `(num_views, num_frames, 3, height, width)`; the spatial views of one temporal view follow each other.
        """
        frames_seed = derive_seed(seed, "frames")
        if self.augmentation is None:
            return self.reader.read(video, frames_seed)[0]
        generator = torch.Generator().manual_seed(derive_seed(seed, "augmentation"))
        frames = self.reader.open(video).read_clips(self.reader.specification, frames_seed)[0]
        return self.augmentation(frames, generator)

    def blank(self) -> torch.Tensor:
        """Zeros of the shape of `pixels` in evaluation."""
        specification = self.reader.specification
        views = self.reader.process(torch.zeros(specification.num_frames, 3, 8, 8, dtype=torch.uint8))
        return torch.zeros(specification.num_views * len(views), *views.shape[1:])

    def sample(
        self, open_video: Callable[[], Any], name: str, label: int | None, index: int, seed: int, failures: list
    ) -> dict[str, Any] | None:
        """
        A sample of one video.

        Args:
            open_video (`Callable`): opens the video.
            name (`str`): its name.
            label (`int`, *optional*): its class.
            index (`int`): its number.
            seed (`int`): seed of all draws.
            failures (`list[tuple[str, str]]`): name and reason of the videos that were tried in its place before; this
                one is added if it cannot be read.

        Returns:
            `dict`, or `None` if the video cannot be read and training has to try another one.

        Raises:
            VideoDecodingError: the video cannot be read, and no other one is tried.
        """
        try:
            pixels = self.pixels(open_video(), seed)
        except VideoDecodingError as error:
            if self.on_error == "error":
                raise
            failures.append((name, " ".join(f"{type(error).__name__}: {error}".split())))
            if self.training and len(failures) <= self.max_retries:
                return None
            if self.training:
                raise VideoDecodingError(
                    f"{len(failures)} videos in a row could not be read, the last {name} ({failures[-1][1]}); check "
                    "the data."
                ) from error
            pixels, label = self.blank(), None
        sample = {"pixel_values_videos": pixels, "labels": NO_LABEL if label is None else label, "index": index}
        return sample | {"seed": seed} | ({"failures": failures} if failures else {})
