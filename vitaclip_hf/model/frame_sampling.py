"""Which frames of a video make a clip: the sampling rules, as arithmetic on frame numbers.

In the papers' words: a *clip* is T frames, a *view* is one of several clips of a video whose scores are averaged, and
the *stride* is the distance between a dense clip's frames. A video shorter than a clip repeats its last frame.
"""

import numbers
from dataclasses import dataclass

import torch


SAMPLINGS = ("uniform", "dense", "segment_random", "dense_random")
MAX_FRAMES = 4096  # of a video in all views; the numbers alone of what a hostile folder asks for take gigabytes


def sample_clips(
    total: int,
    num_frames: int,
    sampling: str = "uniform",
    stride: int = 16,
    num_views: int = 1,
    seed: int | None = None,
) -> list[list[int]]:
    """Frame numbers of each temporal view of a video.

    Args:
        total: frames of the video.
        num_frames: frames of a clip, T.
        sampling: `"uniform"`, the centre of each of T equal segments (view v of V stands at (v + 1/2) / V of each);
            `"dense"`, every `stride`-th frame, the views spread evenly from the beginning to the end, as the released
            code does; for training, `"segment_random"`, a random frame of each segment, and `"dense_random"`, a dense
            clip from a random start.
        stride: frames from one to the next of a dense clip.
        num_views: temporal views, V.
        seed: of the random rules; torch's own random state if `None`.

    Returns:
        V lists of T frame numbers, each in 0 … `total - 1`.

    Raises:
        ValueError: an argument below 1, more than 4,096 frames in all views, or an unknown rule.
    """
    for name, value in (
        ("total", total),
        ("num_frames", num_frames),
        ("frame_stride", stride),
        ("num_views", num_views),
    ):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    if num_frames * num_views > MAX_FRAMES:
        raise ValueError(
            f"`num_frames` times `num_views` must be at most {MAX_FRAMES:,} frames of a video, got "
            f"{str(num_frames)[:20]} times {str(num_views)[:20]}."
        )
    if sampling not in SAMPLINGS:
        raise ValueError(f"`sampling` must be one of {', '.join(SAMPLINGS)}, got {sampling!r}.")
    if not (seed is None or isinstance(seed, numbers.Integral)) or not -(1 << 63) <= (seed or 0) < 1 << 64:
        raise ValueError(f"`seed` must be a whole number of 64 bits, got {seed!r:.100}.")
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    if sampling in ("uniform", "segment_random"):
        clips = _segment_clips(total, num_frames, num_views, generator if sampling == "segment_random" else "centres")
    else:
        clips = _dense_clips(total, num_frames, num_views, stride, generator if sampling == "dense_random" else "even")
    return [[min(index, total - 1) for index in clip] for clip in clips]


def _segment_clips(total: int, num_frames: int, num_views: int, where) -> list[list[int]]:
    if total < num_frames:
        return [list(range(num_frames))] * num_views
    clips = []
    for view in range(num_views):
        if where == "centres":
            # floor((frame + (2 view + 1) / 2V) * total / T), in whole numbers
            places = [(2 * num_views * frame + 2 * view + 1) * total for frame in range(num_frames)]
            clips.append([place // (2 * num_views * num_frames) for place in places])
        else:
            offsets = torch.rand(num_frames, generator=where, dtype=torch.float64).tolist()
            clips.append([int((frame + offset) * total / num_frames) for frame, offset in enumerate(offsets)])
    return clips


def _dense_clips(total: int, num_frames: int, num_views: int, stride: int, where) -> list[list[int]]:
    slide = max(total - ((num_frames - 1) * stride + 1), 0)
    if where == "even":
        starts = [slide // 2] if num_views == 1 else [round(slide / (num_views - 1) * i) for i in range(num_views)]
    else:
        starts = torch.randint(slide + 1, (num_views,), generator=where).tolist()
    return [[start + stride * frame for frame in range(num_frames)] for start in starts]


@dataclass(frozen=True)
class ClipSpecification:
    """
    How a video is read: which frames make a clip, and how many views of it there are.

    Args:
        num_frames (`int`, defaults to 8): frames of a clip.
        sampling (`str`, defaults to `"uniform"`): a rule of [`sample_clips`].
        frame_stride (`int`, defaults to 16): frames from one to the next of a dense clip.
        num_views (`int`, defaults to 1): temporal views of a video.
        num_spatial_views (`int`, defaults to 1): crops of each temporal view, 1 (centre) or 3 (along the longer side).

    Raises:
        ValueError: a number below 1, an unknown rule, or another number of crops.
    """

    num_frames: int = 8
    sampling: str = "uniform"
    frame_stride: int = 16
    num_views: int = 1
    num_spatial_views: int = 1

    def __post_init__(self):
        self.frame_numbers(1)  # checks the values
        if self.num_spatial_views not in (1, 3):
            raise ValueError(f"`num_spatial_views` must be 1 (centre) or 3, got {self.num_spatial_views!r}.")

    def frame_numbers(self, total: int, seed: int | None = None) -> list[list[int]]:
        """Frame numbers of each temporal view of a video with `total` frames, see [`sample_clips`]."""
        return sample_clips(total, self.num_frames, self.sampling, self.frame_stride, self.num_views, seed)

    @property
    def is_random(self) -> bool:
        """Whether the frames are drawn at random, for training."""
        return self.sampling.endswith("_random")
