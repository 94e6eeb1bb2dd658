"""RandAugment for clips, in timm's notation: the same operations with the same arguments on every frame.

timm draws anew for every picture, from global random states. torchvision's RandAugment has no noise of the magnitude,
no probability of an operation and no "increasing" table. So the draws are made here, by timm's definitions
(`timm.data.auto_augment`), and torchvision's kernels do the work. Only the warps are our own: on tensors torchvision
has no bicubic warp, and it blends the border with the fill colour, which Pillow (timm, the released code) does not.

Source: RandAugment, https://arxiv.org/abs/1909.13719; notation and table of operations as in timm.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn.functional import grid_sample
from torchvision.transforms.v2 import functional


FULL_LEVEL = 10.0  # the magnitude at which an operation's argument reaches the end of its range
FILL = 128  # grey where a warp looks outside the frame: timm's default, and what the released code runs with

Box = tuple[int, int, int, int]  # top, left, height, width


# Arguments that several operations share. `level` is magnitude / 10, `sign` is 1 or -1.
def _no_argument(level: float, sign: int) -> float:
    return 0.0


def _shear(level: float, sign: int) -> float:
    return sign * level * 0.3


def _part_of_side(level: float, sign: int) -> float:
    return sign * level * 0.45


def _factor(level: float, sign: int) -> float:
    return level * 1.8 + 0.1


def _factor_increasing(level: float, sign: int) -> float:
    return max(0.1, 1.0 + sign * level * 0.9)


# Kernels on uint8 frames [T, 3, H, W] on the CPU, where torchvision's are called in another way.
def _autocontrast(frames: torch.Tensor, argument: float) -> torch.Tensor:
    return functional.autocontrast(frames.contiguous())  # 7 times slower on channels-last frames


def _posterize(frames: torch.Tensor, bits: float) -> torch.Tensor:
    return functional.posterize(frames, max(0, int(bits)))


def _solarize(frames: torch.Tensor, threshold: float) -> torch.Tensor:
    return frames if threshold > 255 else functional.solarize(frames, threshold)  # torchvision refuses 256


def _solarize_add(frames: torch.Tensor, addend: float) -> torch.Tensor:
    return frames + (frames < 128).view(torch.uint8) * int(addend)  # 127 + 128 still fits


def _sharpness(frames: torch.Tensor, factor: float) -> torch.Tensor:
    # Its 3 x 3 convolution is 18 times slower on planar frames.
    return functional.adjust_sharpness(frames.contiguous(memory_format=torch.channels_last), factor)


def _rotation(degrees: float, height: int, width: int) -> tuple[float, ...]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return (cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y)


class Operation(NamedTuple):
    """One operation: its argument from level and sign, and its kernel."""

    argument: Callable[[float, int], float]
    # "pixel": each value depends on its own pixel only; "frame": on the frame's statistics or on neighbours, too. Both
    # kernels map frames and argument to frames. "warp": of argument, height and width; the pixel (x, y) comes from
    # (a x + b y + c, d x + e y + f).
    kind: str
    kernel: Callable[..., Any]


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": Operation(_no_argument, "frame", _autocontrast),
    "Equalize": Operation(_no_argument, "frame", lambda frames, _: functional.equalize(frames)),
    "Invert": Operation(_no_argument, "pixel", lambda frames, _: functional.invert(frames)),
    "Rotate": Operation(lambda level, sign: sign * level * 30.0, "warp", _rotation),
    "Posterize": Operation(lambda level, _: int(level * 4), "pixel", _posterize),
    "PosterizeIncreasing": Operation(lambda level, _: 4 - int(level * 4), "pixel", _posterize),
    "Solarize": Operation(lambda level, _: min(256, int(level * 256)), "pixel", _solarize),
    "SolarizeIncreasing": Operation(lambda level, _: 256 - min(256, int(level * 256)), "pixel", _solarize),
    "SolarizeAdd": Operation(lambda level, _: min(128, int(level * 110)), "pixel", _solarize_add),
    "Color": Operation(_factor, "pixel", functional.adjust_saturation),
    "ColorIncreasing": Operation(_factor_increasing, "pixel", functional.adjust_saturation),
    "Contrast": Operation(_factor, "frame", functional.adjust_contrast),
    "ContrastIncreasing": Operation(_factor_increasing, "frame", functional.adjust_contrast),
    "Brightness": Operation(_factor, "pixel", functional.adjust_brightness),
    "BrightnessIncreasing": Operation(_factor_increasing, "pixel", functional.adjust_brightness),
    "Sharpness": Operation(_factor, "frame", _sharpness),
    "SharpnessIncreasing": Operation(_factor_increasing, "frame", _sharpness),
    "ShearX": Operation(_shear, "warp", lambda factor, height, width: (1.0, factor, 0.0, 0.0, 1.0, 0.0)),
    "ShearY": Operation(_shear, "warp", lambda factor, height, width: (1.0, 0.0, 0.0, factor, 1.0, 0.0)),
    "TranslateXRel": Operation(_part_of_side, "warp", lambda part, _, width: (1.0, 0.0, part * width, 0.0, 1.0, 0.0)),
    "TranslateYRel": Operation(_part_of_side, "warp", lambda part, height, _: (1.0, 0.0, 0.0, 0.0, 1.0, part * height)),
}
# `inc1`: 15 operations whose effects grow with the magnitude. `inc0`, timm's default: 15 too, most of them the same.
INCREASING = tuple(name for name in OPERATIONS if f"{name}Increasing" not in OPERATIONS)
PLAIN = tuple(name for name in OPERATIONS if not name.endswith("Increasing"))


class Step(NamedTuple):
    """A drawn operation, by name, with its argument."""

    name: str
    argument: float


# Parts of the notation: a field of `RandAugment`, and its type and range.
_PARTS: dict[str, tuple[str, type, float, float]] = {
    "m": ("magnitude", int, 0, math.inf),
    "n": ("num_operations", int, 0, math.inf),
    "p": ("probability", float, 0, 1),
    "mstd": ("magnitude_std", float, 0, math.inf),
    "mmax": ("max_magnitude", int, 1, math.inf),
    "inc": ("increasing", bool, 0, 1),
}


@dataclass(frozen=True)
class RandAugment:
    """
    RandAugment's settings; `draw` gives the steps for one clip.

    Args:
        magnitude (`int`, defaults to 10): of every operation; 10 is the end of its range (`m` in timm's notation).
        num_operations (`int`, defaults to 2): operations drawn for a clip, with replacement (`n`).
        probability (`float`, defaults to 0.5): that a drawn operation is applied (`p`).
        magnitude_std (`float`, defaults to 0.0): standard deviation of the magnitude's noise; if infinite, the
            magnitude is uniform in 0 … `magnitude` (`mstd`).
        max_magnitude (`int`, defaults to 10): the noisy magnitude is clipped at this (`mmax`).
        increasing (`bool`, defaults to `False`): take the table whose effects all grow with the magnitude (`inc`).
    """

    magnitude: int = 10
    num_operations: int = 2
    probability: float = 0.5
    magnitude_std: float = 0.0
    max_magnitude: int = 10
    increasing: bool = False

    @classmethod
    def from_notation(cls, notation: str) -> "RandAugment":
        """
        Settings from timm's notation, for example `rand-m7-n4-mstd0.5-inc1`.

        Args:
            notation (`str`): `rand`, then parts in any order, separated by dashes: `m`, `n`, `mmax` (whole numbers),
                `p`, `mstd` (`mstdinf` or above 100: uniform magnitudes) and `inc` (0 or 1). timm's `t…` (other sets of
                operations) and SlowFast's `w0` are not supported.

        Returns:
            [`RandAugment`]

        Raises:
            ValueError: an unknown, repeated or malformed part, or a value out of range.

        Example:
            >>> RandAugment.from_notation("rand-m7-n4-mstd0.5-inc1").num_operations
            4
        """
        head, *parts = notation.split("-")
        if head != "rand":
            raise ValueError(
                f"{notation!r:.100} is not RandAugment's notation; expected such as 'rand-m7-n4-mstd0.5-inc1'."
            )
        values: dict[str, Any] = {}
        for part in parts:
            match = re.fullmatch(rf"({'|'.join(_PARTS)})(inf|\d+(?:\.\d+)?)", part)
            if match is None or _PARTS[match[1]][0] in values:
                raise ValueError(
                    f"Unknown or repeated part {part!r:.40} in {notation!r:.100}; known are {', '.join(_PARTS)}, each "
                    "with a number."
                )
            field, kind, lowest, highest = _PARTS[match[1]]
            value = float(match[2])
            if not lowest <= value <= highest or kind is not float and not value.is_integer():
                numbers = "a number" if kind is float else "a whole number"
                raise ValueError(f"{part!r} in {notation!r:.100} must be {numbers} from {lowest:g} to {highest:g}.")
            values[field] = math.inf if field == "magnitude_std" and value > 100 else kind(value)  # timm's rule
        return cls(**values)

    def draw(self, generator: torch.Generator) -> list[Step]:
        """The steps for one clip, at most `num_operations`; all draws come from `generator`."""
        names = INCREASING if self.increasing else PLAIN
        chosen = torch.randint(len(names), (self.num_operations,), generator=generator).tolist()
        steps = []
        for name in (names[index] for index in chosen):
            applied, signed = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
            level = self._draw_magnitude(generator) / FULL_LEVEL
            if applied < self.probability:
                steps.append(Step(name, OPERATIONS[name].argument(level, -1 if signed > 0.5 else 1)))
        return steps

    def _draw_magnitude(self, generator: torch.Generator) -> float:
        magnitude = float(self.magnitude)
        if math.isinf(self.magnitude_std):
            magnitude *= torch.rand(1, generator=generator, dtype=torch.float64).item()
        elif self.magnitude_std > 0:
            magnitude += self.magnitude_std * torch.randn(1, generator=generator, dtype=torch.float64).item()
        return max(0.0, min(magnitude, float(self.max_magnitude)))


def apply_steps(
    frames: torch.Tensor, steps: list[Step], box: Box | None = None, resample: str = "bicubic"
) -> torch.Tensor:
    """
    Applies steps to every frame and cuts out a box.

    The result equals that of whole frames, cropped afterwards, but is cheaper: once no step needs more than single
    pixels any more, only the box is computed. A warp computes only the box if it is the last step that needs more.

    Args:
        frames (`torch.Tensor` of shape `(num_frames, 3, height, width)`): uint8; fastest as decoders give them,
            channels last in memory.
        steps (`list[Step]`): from [`RandAugment.draw`].
        box (`tuple[int, int, int, int]`, *optional*): top, left, height and width in pixels; the whole frame by
            default.
        resample (`str`, defaults to `"bicubic"`): of the warps, `"bicubic"` or `"bilinear"`.

    Returns:
        `torch.Tensor` of shape `(num_frames, 3, box_height, box_width)`, uint8.
    """
    box = (0, 0, *frames.shape[-2:]) if box is None else box
    last_wide = max((index for index, step in enumerate(steps) if OPERATIONS[step.name].kind != "pixel"), default=-1)
    if last_wide == -1:
        frames = functional.crop(frames, *box)
    for index, (name, argument) in enumerate(steps):
        _, kind, kernel = OPERATIONS[name]
        height, width = frames.shape[-2:]
        part = box if index == last_wide else (0, 0, height, width)
        if kind == "warp":
            frames = warp_frames(frames, kernel(argument, height, width), part, resample)
        else:
            frames = functional.crop(kernel(frames, argument), *part)
    return frames


def warp_frames(frames: torch.Tensor, matrix: tuple[float, ...], box: Box, resample: str = "bicubic") -> torch.Tensor:
    """
    Affine warp of all frames, within a box, by Pillow's rules.

    A pixel whose centre comes from outside the frame is grey. Any other pixel is interpolated, with the frame's
    border repeated. Bilinear interpolation is Pillow's. Bicubic differs a little: the cubic's slope is -0.75 in torch
    and -1 in Pillow's warps.

    Args:
        frames (`torch.Tensor` of shape `(num_frames, 3, height, width)`): uint8.
        matrix (`tuple[float, ...]`): a, b, c, d, e, f: the pixel (x, y) comes from (a x + b y + c, d x + e y + f). Both
            are counted in pixels from the frame's top left corner to the pixel's centre.
        box (`tuple[int, int, int, int]`): top, left, height and width of the part that is wanted.
        resample (`str`, defaults to `"bicubic"`): `"bicubic"` or `"bilinear"`.

    Returns:
        `torch.Tensor` of shape `(num_frames, 3, box_height, box_width)`, uint8, channels last in memory.
    """
    top, left, height, width = box
    a, b, c, d, e, f = matrix
    rows = (torch.arange(top, top + height, dtype=torch.float64) + 0.5)[:, None]
    columns = (torch.arange(left, left + width, dtype=torch.float64) + 0.5)[None]
    x, y = a * columns + b * rows + c, d * columns + e * rows + f  # [height, width]
    inside = ((x >= 0) & (x < frames.shape[-1]) & (y >= 0) & (y < frames.shape[-2])).float()
    grid = torch.stack((2 * x / frames.shape[-1] - 1, 2 * y / frames.shape[-2] - 1), dim=-1).float()
    pixels = frames.to(torch.float32, memory_format=torch.contiguous_format)
    grid = grid.expand(len(frames), -1, -1, -1)
    pixels = grid_sample(pixels, grid, mode=resample, padding_mode="border", align_corners=False)
    pixels = pixels.round_().clamp_(0, 255).mul_(inside).add_((1 - inside) * FILL)  # `where` is 8 times slower
    return pixels.to(torch.uint8).contiguous(memory_format=torch.channels_last)
