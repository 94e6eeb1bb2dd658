"""One clip, or the views of one video, from a source's frames to model input; and what to do with a file that fails."""

from collections.abc import Callable

import psutil
import torch
from transformers.image_utils import ChannelDimension
from transformers.video_utils import VideoMetadata

from .frame_sampling import sample_clips
from .seeds import derive_seed
from .video_decoding import VideoDecodingError


ON_ERROR = ("error", "skip")
NO_LABEL = -100  # what cross-entropy ignores


class FramesTooLargeError(ValueError):
    """A clip whose frames do not fit into memory."""


# What a single file may do wrong; anything else is a mistake of ours or of the settings, and stops the run.
FILE_FAILURES = (VideoDecodingError, FramesTooLargeError)


class ClipReader:
    """Samples, decodes and preprocesses.

    Args:
        video_processor: a `VitaClipVideoProcessor`; resizes, crops and normalises where there is no augmentation.
        augmentation: `ClipAugmentation` or another function of (uint8 `[T, 3, H, W]`, generator), or `None`.
        num_frames: frames of a clip, T.
        sampling: a rule of `sample_clips`.
        frame_stride: of dense clips.
        num_views: temporal views.
        num_spatial_views: 1 or 3 crops of each.
        training: one clip `[T, 3, S, S]` instead of `[views, T, 3, S, S]`.
    """

    def __init__(
        self,
        video_processor,
        *,
        augmentation: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None,
        num_frames: int,
        sampling: str,
        frame_stride: int,
        num_views: int,
        num_spatial_views: int,
        training: bool,
    ):
        sample_clips(1, num_frames, sampling, frame_stride, num_views)  # complains about unusable values
        if num_spatial_views not in (1, 3):
            raise ValueError(f"`num_spatial_views` must be 1 (centre) or 3, got {num_spatial_views}.")
        if training and (num_views, num_spatial_views) != (1, 1):
            raise ValueError(
                f"Training takes one view of a video, got num_views={num_views}, num_spatial_views={num_spatial_views}."
            )
        if augmentation is not None and not training:
            raise ValueError("Evaluation takes no augmentation.")
        self.video_processor = video_processor
        self.augmentation = augmentation
        self.num_frames = num_frames
        self.sampling = sampling
        self.frame_stride = frame_stride
        self.num_views = num_views
        self.num_spatial_views = num_spatial_views
        self.training = training

    def read(self, load: Callable[[Callable, str], torch.Tensor], seed: int) -> torch.Tensor:
        """Model input of one video.

        Args:
            load: called as `load(choose, decoder)`; returns the frames that `choose(metadata=…)` names.
            seed: of everything random in it.

        Returns:
            `[T, 3, S, S]` in training, else `[views, T, 3, S, S]`, spatial views innermost.
        """
        clips: list[list[int]] = []

        def choose(metadata: VideoMetadata, **kwargs) -> list[int]:
            rule = (self.sampling, self.frame_stride, self.num_views, derive_seed(seed, "frames"))
            clips[:] = sample_clips(metadata.total_num_frames, self.num_frames, *rule)
            wanted = sorted({number for clip in clips for number in clip})
            check_memory(len(wanted), metadata)
            return wanted

        frames = load(choose, self.video_processor.decoder)
        # Views overlap and short videos repeat frames: each is decoded once and looked up here.
        row = {number: place for place, number in enumerate(sorted({number for clip in clips for number in clip}))}
        views = [frames[[row[number] for number in clip]] for clip in clips]
        if self.augmentation is not None:
            return self.augmentation(views[0], torch.Generator().manual_seed(derive_seed(seed, "augmentation")))
        pixels = self._processed(views)
        return pixels[0] if self.training else pixels

    def _processed(self, views: list[torch.Tensor]) -> torch.Tensor:
        return self.video_processor(
            views,
            do_sample_frames=False,
            num_views=1,
            num_spatial_views=self.num_spatial_views,
            input_data_format=ChannelDimension.FIRST,
            return_tensors="pt",
        )["pixel_values_videos"]

    def blank(self) -> torch.Tensor:
        """Zeros of the shape that `read` gives."""
        black = torch.zeros(self.num_frames, 3, 8, 8, dtype=torch.uint8)
        row = self._processed([black])
        shape = row.shape[1:] if self.training else (self.num_views * self.num_spatial_views, *row.shape[1:])
        return torch.zeros(shape)


def check_memory(count: int, metadata: VideoMetadata) -> None:
    """Raises before frames are decoded that cannot fit.

    Raises:
        FramesTooLargeError: `count` RGB frames of the video need more bytes than are free.
    """
    if metadata.width is None or metadata.height is None:  # decord does not say
        return
    needed, free = count * metadata.height * metadata.width * 3, psutil.virtual_memory().available
    if needed > free:
        raise FramesTooLargeError(
            f"{count} frames of {metadata.width} x {metadata.height} need {needed / 2**30:.1f} GiB, but "
            f"{free / 2**30:.1f} GiB are free; make the video smaller, or take fewer frames, views or workers."
        )


def reason_of(error: Exception) -> str:
    """Why a file failed, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def too_many(failures: list[tuple[str, str]]) -> str:
    """The message when no replacement could be read either."""
    path, reason = failures[-1]
    return f"{len(failures)} videos in a row could not be read, the last {path} ({reason}); check the data."


def check_policy(on_error: str, max_retries: int) -> None:
    if on_error not in ON_ERROR:
        raise ValueError(f"`on_error` must be {' or '.join(ON_ERROR)}, got {on_error!r}.")
    if max_retries < 0:
        raise ValueError(f"`max_retries` must not be negative, got {max_retries}.")
