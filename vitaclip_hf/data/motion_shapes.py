"""`motion_shapes`: a small generated world of videos. No single frame of a video shows its motion.

One coloured shape on a plain background does one thing: it moves left, grows, blinks, bounces … Positions, sizes and
angles are random, so that one frame alone says nothing about the motion. Only the order of the frames does.

All draws come from a `torch.Generator`, so a seed names a data set. Lengths are fractions of the frame's side; x runs
to the right and y runs down.
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path

import av
import numpy as np
import torch


COLORS = {
    "red": (0.90, 0.15, 0.15),
    "green": (0.15, 0.80, 0.25),
    "blue": (0.20, 0.35, 0.95),
    "yellow": (0.95, 0.85, 0.15),
    "pink": (0.95, 0.35, 0.80),
    "white": (0.95, 0.95, 0.95),
}
SHAPES = ("square", "triangle", "star", "cross", "heart", "moon")
# The wordings of each motion; the first is part of the class name.
MOTIONS = {
    "left": ("moving left", "going to the left", "sliding left"),
    "right": ("moving right", "going to the right", "sliding right"),
    "up": ("moving up", "going up", "rising"),
    "down": ("moving down", "going down", "falling"),
    "growing": ("growing", "getting bigger", "expanding"),
    "shrinking": ("shrinking", "getting smaller", "contracting"),
    "turning": ("turning", "spinning", "rotating"),
    "blinking": ("blinking", "flashing", "flickering"),
    "bouncing": ("bouncing", "jumping", "hopping"),
    "shaking": ("shaking", "trembling", "wobbling"),
}
# One object of every colour and of every shape is kept out of training: its motions are the zero-shot labels.
HELD_OUT_OBJECTS = tuple(zip(COLORS, SHAPES[2:] + SHAPES[:2], strict=True))


@dataclass(frozen=True)
class Scene:
    """
    The content of one video.

    Args:
        color (`str`): a key of `COLORS`.
        shape (`str`): one of `SHAPES`.
        motion (`str`): a key of `MOTIONS`.
    """

    color: str
    shape: str
    motion: str

    @property
    def label(self) -> str:
        """The class name, such as `"red star moving left"`."""
        return self.worded(0)

    @property
    def held_out(self) -> bool:
        return (self.color, self.shape) in HELD_OUT_OBJECTS

    def worded(self, wording: int) -> str:
        """The scene in another wording of its motion; wording 0 is the class name."""
        return f"{self.color} {self.shape} {MOTIONS[self.motion][wording]}"


def all_scenes(held_out: bool | None = None) -> list[Scene]:
    """
    The scenes of the world.

    Args:
        held_out (`bool`, *optional*): `None` for all 360 scenes, `True` for the 60 held-out ones, `False` for the 300
            trained ones.
    """
    scenes = [Scene(color, shape, motion) for color in COLORS for shape in SHAPES for motion in MOTIONS]
    return [scene for scene in scenes if held_out is None or scene.held_out == held_out]


def uniform(generator: torch.Generator, low, high, *shape: int) -> torch.Tensor:
    """Uniform draws between `low` and `high`."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


@dataclass
class Poses:
    """Where and how shapes are drawn; each tensor has the shape `(num_scenes, num_moments)`, angles are radians."""

    x: torch.Tensor
    y: torch.Tensor
    radius: torch.Tensor
    angle: torch.Tensor
    opacity: torch.Tensor

    def at(self, moments: list[int]) -> "Poses":
        """The poses at some of the moments."""
        return Poses(*(getattr(self, field.name)[:, moments] for field in fields(Poses)))


def trajectories(motions: list[str], times: torch.Tensor, generator: torch.Generator) -> Poses:
    """
    Poses of scenes at some moments, with random start, size, speed and phase.

    Args:
        motions (`list[str]`): a key of `MOTIONS` for each scene.
        times (`torch.Tensor` of shape `(num_moments,)`): 0 is the beginning of the video and 1 its end.
        generator (`torch.Generator`): source of all draws.

    Returns:
        [`Poses`]
    """
    count, s = len(motions), times[None]  # [1, K]
    radius = uniform(generator, 0.14, 0.21, count, 1)
    tilt = uniform(generator, -0.2, 0.2, count, 1)
    travel = uniform(generator, 0.28, 0.42, count, 1)
    sign = torch.where(torch.rand(count, 1, generator=generator) < 0.5, -1.0, 1.0)
    phase = torch.rand(count, 1, generator=generator)
    cycles = uniform(generator, 1.5, 2.5, count, 1)
    place = torch.rand(count, 2, 1, generator=generator)
    turn = uniform(generator, 0.6, 1.2, count, 1) * math.pi

    def where(*names: str) -> torch.Tensor:
        return torch.tensor([motion in names for motion in motions])[:, None]

    zero = torch.zeros_like(radius * s)
    wave = torch.sin(2 * math.pi * (cycles * s + phase))
    hop = torch.sin(math.pi * (2 * cycles * s + phase)).abs()
    # Offsets from the start, which is placed so that the whole path fits into the frame.
    dx = zero + where("right") * travel * s - where("left") * travel * s
    dx = dx + where("shaking") * wave * 0.3 * travel + where("bouncing") * sign * 0.3 * travel * s
    dy = zero + where("down") * travel * s - where("up") * travel * s - where("bouncing") * hop * 0.8 * travel
    scale = 1 + where("growing") * (0.9 * s - 0.4) - where("shrinking") * (0.9 * s - 0.5)
    radii = radius * scale + zero
    room = radii.amax(1, keepdim=True) + 0.02

    def start(offset: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        low, high = room - offset.amin(1, keepdim=True), 1 - room - offset.amax(1, keepdim=True)
        return low + (high - low).clamp(min=0) * unit

    angle = tilt + where("turning") * sign * turn * s + zero
    on = ((1.2 * cycles * s + phase) % 1 < 0.5).float()
    opacity = torch.where(where("blinking"), on, zero + 1)
    return Poses(start(dx, place[:, 0]) + dx, start(dy, place[:, 1]) + dy, radii, angle, opacity)


def _signed_distance(shape: str, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Approximate distance to the outline of a shape of radius 1; negative inside."""
    if shape == "square":
        return torch.maximum(u.abs(), v.abs()) - 0.78
    if shape == "triangle":
        sides = [u * math.cos(a) + v * math.sin(a) for a in (math.pi / 2, math.pi * 7 / 6, math.pi * 11 / 6)]
        return torch.maximum(torch.maximum(sides[0], sides[1]), sides[2]) - 0.52
    if shape == "cross":
        upright = torch.maximum(u.abs() - 0.3, v.abs() - 0.95)
        return torch.minimum(upright, torch.maximum(u.abs() - 0.95, v.abs() - 0.3))
    if shape == "heart":
        point = ((u.abs() + (v - 0.05).abs()) - 0.85) / math.sqrt(2)
        lobes = torch.hypot(u.abs() - 0.43, v + 0.38) - 0.53
        return torch.minimum(point, lobes)
    if shape == "moon":
        return torch.maximum(torch.hypot(u, v) - 0.95, 0.78 - torch.hypot(u - 0.5, v))
    fifth = 2 * math.pi / 5  # star: the outline of one tenth, repeated
    around = torch.atan2(u, -v)
    folded = (around - fifth * torch.round(around / fifth)).abs()
    length = torch.hypot(u, v)
    tip_x, inner = 1.05, 0.45
    notch_x, notch_y = inner * math.cos(fifth / 2), inner * math.sin(fifth / 2)
    normal = math.hypot(notch_y, tip_x - notch_x)
    return ((length * folded.cos() - tip_x) * notch_y + length * folded.sin() * (tip_x - notch_x)) / normal


def coverage(shapes: list[str], poses: Poses, size: int) -> torch.Tensor:
    """Share of each pixel that the shape covers at each pose, of shape `(num_scenes, num_moments, size, size)`."""
    grid = (torch.arange(size) + 0.5) / size
    covered = torch.zeros(*poses.x.shape, size, size)
    for shape in sorted(set(shapes)):
        rows = torch.tensor([index for index, name in enumerate(shapes) if name == shape])
        x, y, radius, angle = (getattr(poses, name)[rows, :, None, None] for name in ("x", "y", "radius", "angle"))
        right, down = (grid[None, None, None, :] - x) / radius, (grid[None, None, :, None] - y) / radius
        u, v = right * angle.cos() + down * angle.sin(), down * angle.cos() - right * angle.sin()
        covered[rows] = (0.5 - _signed_distance(shape, u, v) * radius * size).clamp(0, 1)
    return covered * poses.opacity[:, :, None, None]


def backgrounds(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Dark plain backgrounds with a slight colour cast and gradient, of shape `(count, size, size, 3)`."""
    grid = torch.linspace(-0.5, 0.5, size)
    slope = uniform(generator, -0.12, 0.12, count, 2, 1, 1)
    shade = slope[:, 0] * grid[None, None, :] + slope[:, 1] * grid[None, :, None]
    base = uniform(generator, 0.10, 0.32, count, 1) + uniform(generator, -0.03, 0.03, count, 3)
    return (base[:, None, None, :] + shade[..., None]).clamp(0, 1)


def paints(colors: list[str], generator: torch.Generator) -> torch.Tensor:
    """The colours with a little noise, of shape `(num_scenes, 3)`."""
    paint = torch.tensor([COLORS[color] for color in colors])
    return (paint + uniform(generator, -0.05, 0.05, len(colors), 3)).clamp(0, 1)


def to_pixels(pictures: torch.Tensor) -> torch.Tensor:
    """Values in 0 … 1 as uint8."""
    return (pictures * 255).round().clamp(0, 255).to(torch.uint8)


def draw_videos(
    scenes: list[Scene],
    generator: torch.Generator,
    num_frames: int = 32,
    size: int = 96,
    times=None,
    frames: list[int] | None = None,
) -> torch.Tensor:
    """
    Draws videos of scenes.

    Args:
        scenes (`list[Scene]`): one for each video.
        generator (`torch.Generator`): source of all draws; one call draws all videos.
        num_frames (`int`, defaults to 32): number of frames of a video.
        size (`int`, defaults to 96): side of the square frame in pixels.
        times (`torch.Tensor` of shape `(num_moments,)`, *optional*): moments in 0 … 1 to draw, by default `num_frames`
            even ones. The path is placed so that it fits into the frame at these moments.
        frames (`list[int]`, *optional*): numbers of the frames to draw, in this order; all by default. They are the
            same pictures as in the whole video.

    Returns:
        `torch.Tensor` of shape `(num_scenes, num_frames, size, size, 3)`, uint8.
    """
    times = (torch.arange(num_frames) + 0.5) / num_frames if times is None else times
    poses = trajectories([scene.motion for scene in scenes], times, generator)
    if frames is not None:
        poses = poses.at(frames)
    covered = coverage([scene.shape for scene in scenes], poses, size)[..., None]
    paint = paints([scene.color for scene in scenes], generator)[:, None, None, None]
    background = backgrounds(len(scenes), size, generator)[:, None]
    return to_pixels(background * (1 - covered) + paint * covered)


def write_video(path: str | Path, frames: np.ndarray, fps: int = 16) -> None:
    """
    Writes frames as H.264 in MP4.

    Args:
        path (`str` or `Path`): the file to write.
        frames (`np.ndarray` of shape `(num_frames, height, width, 3)`): uint8, RGB, with even height and width.
        fps (`int`, defaults to 16): frames per second.

    Raises:
        ValueError: frames of another type or shape.
    """
    frames = np.asarray(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
