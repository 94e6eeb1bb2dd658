"""Training augmentation of clips: one draw for all frames of a clip, and every draw from the generator that is given.

`ClipAugmentation` turns the frames of one clip into a model input. `ClipMixer` mixes the clips of a batch and their
labels (mixup, CutMix). Both leave the global random states of torch, numpy and Python as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch.nn.functional import one_hot
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import Video
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from .rand_augment import Box, RandAugment, apply_steps


RESAMPLES = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}
ATTEMPTS = 10  # at a box that fits into the frame

Range = Sequence[float]  # smallest and largest


@dataclass
class ClipAugmentation:
    """
    Turns the frames of a clip into a training input, with the same draw for all of them.

    The order is the released code's: RandAugment on the decoded frames, then a random resized crop. RandAugment comes
    first because its statistics and its warps are those of the whole frame; only what reaches the crop is computed. Its
    warps are bicubic with grey outside the frame, as in the released code. A flip follows, which it has not.

    Args:
        size (`int`): side of the output in pixels.
        rand_augment (`str`, *optional*, defaults to `"rand-m7-n4-mstd0.5-inc1"`): in timm's notation, see
            [`RandAugment.from_notation`]; `None` for no RandAugment.
        scale (`tuple[float, float]`, defaults to `(0.08, 1.0)`): smallest and largest area of the crop, relative to the
            frame's.
        ratio (`tuple[float, float]`, defaults to `(3 / 4, 4 / 3)`): smallest and largest width / height of the crop;
            drawn uniformly on a log scale.
        flip (`float`, defaults to 0.5): probability of a horizontal flip. Take 0 where left and right matter
            (Something-Something). The released code reads such a switch and never flips.
        mean (`tuple[float, ...]`): mean of the three channels, for values in 0 … 1; CLIP's by default.
        std (`tuple[float, ...]`): standard deviation of the three channels; CLIP's by default.
        resample (`str`, defaults to `"bicubic"`): how the crop is resized, `"bicubic"` or `"bilinear"` (the released
            code's).
        antialias (`bool`, defaults to `True`): low-pass before downsizing (the released code does not).
        shorter_side (`int`, *optional*): larger frames are first resized to this shorter side in pixels. The published
            data sets are stored at 256 to 340 pixels, and RandAugment's time grows with the area.

    Raises:
        ValueError: a setting out of range, or an invalid RandAugment notation.

    Example:
        >>> augment = ClipAugmentation(32, rand_augment="rand-m7-n4-mstd0.5-inc1")
        >>> frames = torch.zeros(8, 3, 48, 64, dtype=torch.uint8)
        >>> augment(frames, torch.Generator().manual_seed(0)).shape
        torch.Size([8, 3, 32, 32])
    """

    size: int
    _: KW_ONLY
    rand_augment: str | None = "rand-m7-n4-mstd0.5-inc1"
    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    flip: float = 0.5
    mean: tuple[float, ...] = tuple(OPENAI_CLIP_MEAN)
    std: tuple[float, ...] = tuple(OPENAI_CLIP_STD)
    resample: str = "bicubic"
    antialias: bool = True
    shorter_side: int | None = None

    def __post_init__(self):
        for name in ("size", "shorter_side"):
            if (pixels := getattr(self, name)) is not None and pixels < 1:
                raise ValueError(f"`{name}` must be at least 1 pixel, got {pixels}.")
        _check_share("flip", self.flip)
        for name in ("scale", "ratio"):
            values = tuple(getattr(self, name))
            if len(values) != 2 or not 0 < values[0] <= values[1] or name == "scale" and values[1] > 1:
                raise ValueError(f"`{name}` must be two positive numbers, the smaller one first, got {values}.")
        if self.resample not in RESAMPLES:
            raise ValueError(f"`resample` is one of {', '.join(RESAMPLES)}, got {self.resample!r:.100}.")
        self._rand_augment = None if self.rand_augment is None else RandAugment.from_notation(self.rand_augment)

    def __call__(self, frames: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """
        Args:
            frames (`torch.Tensor` of shape `(num_frames, 3, height, width)`): uint8, on the CPU; fastest as decoders
                give them, channels last in memory.
            generator (`torch.Generator`): source of all draws, on the CPU. The same state gives the same draw for any
                number of frames.

        Returns:
            `torch.Tensor` of shape `(num_frames, 3, size, size)`, float32, normalised.
        """
        frames = frames.contiguous(memory_format=torch.channels_last)  # resizing planar frames takes 4 times as long
        if self.shorter_side is not None and min(frames.shape[-2:]) > self.shorter_side:
            frames = functional.resize(frames, [self.shorter_side], interpolation=RESAMPLES[self.resample])
        steps = [] if self._rand_augment is None else self._rand_augment.draw(generator)
        box = draw_crop(*frames.shape[-2:], self.scale, self.ratio, generator)
        frames = apply_steps(frames, steps, box)
        resize = {"interpolation": RESAMPLES[self.resample], "antialias": self.antialias}
        frames = functional.resize(frames, [self.size, self.size], **resize)
        if _draw_uniform(generator) < self.flip:
            frames = functional.horizontal_flip(frames)
        mean, std = torch.tensor(self.mean)[:, None, None], torch.tensor(self.std)[:, None, None]
        return frames.contiguous().to(torch.float32).sub_(mean * 255).div_(std * 255)  # uint8 to float32, in place


@dataclass
class ClipMixer:
    """
    Mixup or CutMix of the clips of a batch, with soft labels, by torchvision's `v2.MixUp` and `v2.CutMix`.

    There is one draw for the batch: whether to mix, by which of the two (evenly, if both are on), and the share. Each
    clip is mixed with its neighbour in the batch (the first with the last), so odd batches work too. A batch of one
    clip is mixed with itself and stays as it is. CutMix puts the same box into all frames; the share is that of the
    box's real area.

    Args:
        num_classes (`int`): number of classes.
        mixup (`float`, defaults to 0.0): both parameters of the Beta distribution of mixup's share; 0 turns it off.
        cutmix (`float`, defaults to 0.0): both parameters of the Beta distribution of CutMix's share; 0 turns it off.
        probability (`float`, defaults to 1.0): that a batch is mixed at all.
        label_smoothing (`float`, defaults to 0.0): part of every label that is spread evenly over all classes.

    Raises:
        ValueError: a setting out of range.

    Example:
        >>> mixer = ClipMixer(num_classes=4, mixup=0.8, cutmix=1.0)
        >>> batch = torch.rand(2, 8, 3, 32, 32), torch.tensor([0, 3])
        >>> pixels, labels = mixer(*batch, torch.Generator().manual_seed(0))
        >>> labels.sum(dim=1)
        tensor([1., 1.])
    """

    num_classes: int
    _: KW_ONLY
    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0
    label_smoothing: float = 0.0

    def __post_init__(self):
        if not all(0 <= alpha < math.inf for alpha in (self.mixup, self.cutmix)):
            raise ValueError(f"`mixup` and `cutmix` must be numbers from 0 on, got {self.mixup} and {self.cutmix}.")
        for name in ("probability", "label_smoothing"):
            _check_share(name, getattr(self, name))

    def __call__(
        self, pixel_values_videos: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                floats; not changed in place.
            labels (`torch.Tensor` of shape `(batch_size,)`): class numbers, from 0.
            generator (`torch.Generator`): source of all draws, on the CPU.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: the mixed clips, and their soft labels of shape
            `(batch_size, num_classes)`, float32, where each row adds up to 1.
        """
        mixed, switch = _draw_uniform(generator), _draw_uniform(generator)
        seed = _draw_index(2**63 - 1, generator)
        targets = one_hot(labels.long(), self.num_classes) * (1 - self.label_smoothing)
        targets = targets + self.label_smoothing / self.num_classes
        if mixed >= self.probability or not (self.mixup or self.cutmix):
            return pixel_values_videos, targets
        by_cutmix = self.cutmix and (switch < 0.5 or not self.mixup)
        transform = v2.CutMix(alpha=self.cutmix) if by_cutmix else v2.MixUp(alpha=self.mixup)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global state
            torch.default_generator.manual_seed(seed)
            clips, targets = transform(Video(pixel_values_videos), targets)
        return clips.as_subclass(torch.Tensor), targets


def draw_crop(height: int, width: int, scale: Range, ratio: Range, generator: torch.Generator) -> Box:
    """
    Box of a random resized crop: torchvision's rule, with draws from `generator`.

    Args:
        height (`int`): height of the frame in pixels.
        width (`int`): width of the frame in pixels.
        scale (`tuple[float, float]`): range of the box's area relative to the frame's.
        ratio (`tuple[float, float]`): range of the box's width / height.
        generator (`torch.Generator`): source of the draws.

    Returns:
        `tuple[int, int, int, int]`: top, left, height and width. If ten boxes do not fit, the largest centred one
        within `ratio`.
    """
    for _ in range(ATTEMPTS):
        area = height * width * _draw_uniform(generator, *scale)
        aspect = math.exp(_draw_uniform(generator, math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return _draw_index(height - h + 1, generator), _draw_index(width - w + 1, generator), h, w
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
    return (height - h) // 2, (width - w) // 2, h, w


def _draw_uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * torch.rand(1, generator=generator, dtype=torch.float64).item()


def _draw_index(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator).item())


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be between 0 and 1, got {value}.")
