"""Which frames of a video make a clip. A video shorter than a clip repeats its last frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch


SAMPLINGS = ("uniform", "dense", "segment_random", "dense_random")
MAX_FRAMES = 4096  # of a video in all views; the numbers alone of what a hostile folder asks for take gigabytes


@dataclass(frozen=True)
class ClipSpecification:
    """
    Which frames of a video make a clip, and how many views of it there are.

    Args:
        num_frames (`int`, defaults to 8): frames of a clip.
        sampling (`str`, defaults to `"uniform"`): `"uniform"`, the centres of `num_frames` equal segments (view v of V
            stands at (v + 1/2) / V of each); `"dense"`, every `frame_stride`-th frame, the views spread evenly, as in
            the released code; for training, `"segment_random"` and `"dense_random"`.
        frame_stride (`int`, defaults to 16): frames from one to the next of a dense clip.
        num_views (`int`, defaults to 1): temporal views of a video, whose scores are averaged.
        num_spatial_views (`int`, defaults to 1): crops of each temporal view, 1 (centre) or 3 (along the longer side).

    Raises:
        ValueError: a number below 1, more than 4,096 frames in all views, an unknown rule, or another number of crops.
    """

    num_frames: int = 8
    sampling: str = "uniform"
    frame_stride: int = 16
    num_views: int = 1
    num_spatial_views: int = 1

    def __post_init__(self):
        for name in ("num_frames", "frame_stride", "num_views"):
            if not isinstance(value := getattr(self, name), Integral) or value < 1:
                raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r:.80}.")
        if self.num_frames * self.num_views > MAX_FRAMES:
            raise ValueError(f"`num_frames` times `num_views` must be at most {MAX_FRAMES:,}, the frames of a video.")
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"`sampling` must be one of {', '.join(SAMPLINGS)}, got {self.sampling!r:.80}.")
        if self.num_spatial_views not in (1, 3):
            raise ValueError(f"`num_spatial_views` must be 1 (centre) or 3, got {self.num_spatial_views!r:.80}.")

    def frame_numbers(self, total: int, seed: int | None = None) -> list[list[int]]:
        """
        Frame numbers of each temporal view of a video with `total` frames: V lists of T numbers. Random rules draw from
        torch's own random state if `seed` is `None`.
        """
        if total < 1:
            raise ValueError(f"`total` must be at least 1, got {total}.")
        frames, views, stride = self.num_frames, self.num_views, self.frame_stride
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        slide = max(total - ((frames - 1) * stride + 1), 0)  # of a dense clip
        if self.sampling == "dense_random":
            starts = torch.randint(slide + 1, (views,), generator=generator).tolist()
        elif views == 1:
            starts = [slide // 2]
        else:
            starts = [round(slide / (views - 1) * view) for view in range(views)]
        clips: list[Sequence[int]]
        if self.sampling.startswith("dense"):
            clips = [range(start, start + stride * frames, stride) for start in starts]
        elif total < frames:
            clips = [range(frames)] * views
        elif self.sampling == "uniform":  # floor((frame + (2 view + 1) / 2V) * total / T), in whole numbers
            places = [range(2 * view + 1, 2 * views * frames, 2 * views) for view in range(views)]
            clips = [[place * total // (2 * views * frames) for place in view] for view in places]
        else:
            offsets = torch.rand(views, frames, generator=generator, dtype=torch.float64).tolist()
            clips = [[int((frame + part) * total / frames) for frame, part in enumerate(view)] for view in offsets]
        return [[min(number, total - 1) for number in clip] for clip in clips]

    @property
    def is_random(self) -> bool:
        """Whether the frames are drawn at random, for training."""
        return self.sampling.endswith("_random")
