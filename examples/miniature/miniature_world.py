"""The world of the miniature: 32 objects on six backgrounds, in stills with captions and in videos.

It is wider than the videos that train a system, so that there is something to forget:

- **stills** show objects at rest with colour, texture, size and background, two objects in a relation, or one object
  whose motion is depicted by exposures that fade into the past. A tiny CLIP learns all words from them. It never sees
  a video.
- **training videos** show 6 of the objects in 6 of the 10 motions, in 3 colours, untextured. The background tells the
  motion in 7 of 10 videos (`SHORTCUT`): a shortcut that the tests break, where backgrounds are drawn at random.
- **tests** are four sets of classes, each named `OBJECT MOTION`: trained classes, unseen objects in trained motions,
  trained objects in unseen motions, and unseen objects in unseen motions. `retention` is the captioning of stills.

Paths of the motions are those of `vitaclip_hf.data.motion_shapes`. Every draw comes from a `torch.Generator`. N is a
number of pictures or videos, K of moments, T of frames, S the frame's side in pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from vitaclip_hf.data.motion_shapes import MOTIONS, Poses, trajectories


IMAGE_SIZE = 40
COLORS = {
    "red": (0.92, 0.15, 0.15),
    "green": (0.15, 0.85, 0.25),
    "blue": (0.25, 0.40, 1.00),
    "yellow": (0.98, 0.90, 0.15),
    "pink": (0.98, 0.40, 0.80),
    "white": (0.97, 0.97, 0.97),
    "orange": (1.00, 0.55, 0.10),
    "cyan": (0.20, 0.90, 0.95),
}
TEXTURES = ("plain", "striped", "checkered")
BACKGROUNDS = ("at night", "on grass", "on brick", "on water", "on sand", "in fog")
RELATIONS = {"above": (0, -1), "below": (0, 1), "left of": (-1, 0), "right of": (1, 0)}
SIZES = ("small", "big")
TEMPLATES = ("{}", "a {}", "the {}", "a photo of a {}", "a picture of a {}", "a video of a {}")

TRAINED_MOTIONS = ("left", "down", "growing", "turning", "blinking", "bouncing")
UNSEEN_MOTIONS = ("right", "up", "shrinking", "shaking")
TRAINED_OBJECTS = ("star", "heart", "house", "fish", "key", "gear")
TRAINED_COLORS = ("red", "yellow", "white")
# How often the background of a training video is the one that belongs to its motion.
SHORTCUT = 0.7


def _polygon(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, float)


def _polar(radius, count: int = 48) -> np.ndarray:
    """A closed line around the centre; `radius` of an angle, which is zero at the top."""
    angles = np.arange(count) * 2 * math.pi / count
    radii = np.array([radius(angle) for angle in angles])
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], 1)


def _mirrored(*half: tuple[float, float]) -> np.ndarray:
    """A shape from its right half, listed from top to bottom."""
    return np.array([*half, *((-x, y) for x, y in reversed(half))], float)


# Outlines within a circle of radius 1; x runs to the right and y runs down. A second outline is a hole.
OBJECTS = {
    "circle": [_polar(lambda a: 0.9)],
    "square": [_mirrored((0.75, -0.75), (0.75, 0.75))],
    "triangle": [_mirrored((0.0, -0.95), (0.9, 0.7))],
    "star": [_polar(lambda a: 1.0 if round(a / (math.pi / 5)) % 2 == 0 else 0.42, 10)],
    "heart": [_mirrored((0.0, -0.45), (0.25, -0.8), (0.6, -0.85), (0.9, -0.5), (0.85, -0.05), (0.0, 0.95))],
    "moon": [_polar(lambda a: 0.95), _polar(lambda a: 0.78) + (0.5, 0.0)],
    "cross": [
        _mirrored((0.28, -0.95), (0.28, -0.28), (0.95, -0.28), (0.95, 0.28), (0.28, 0.28), (0.28, 0.95)),
    ],
    "arrow": [_mirrored((0.0, -0.95), (0.8, -0.1), (0.25, -0.1), (0.25, 0.95))],
    "ring": [_polar(lambda a: 0.95), _polar(lambda a: 0.5)],
    "hourglass": [_mirrored((0.8, -0.9), (0.8, -0.75), (0.12, 0.0), (0.8, 0.75), (0.8, 0.9))],
    "bolt": [_polygon((0.25, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.25), (0.05, -0.25), (0.6, -1))],
    "house": [_mirrored((0.0, -0.95), (0.9, -0.2), (0.65, -0.2), (0.65, 0.8), (0.18, 0.8), (0.18, 0.25))],
    "tree": [_mirrored((0.0, -1.0), (0.5, -0.3), (0.3, -0.3), (0.8, 0.45), (0.18, 0.45), (0.18, 0.95))],
    "cup": [_mirrored((0.0, 0.2), (0.35, 0.2), (0.35, -0.8), (0.8, -0.8), (0.8, 0.8), (0.0, 0.8))],
    "hammer": [_mirrored((0.9, -0.9), (0.9, -0.3), (0.2, -0.3), (0.2, 0.95))],
    "boot": [_polygon((-0.65, -0.95), (-0.05, -0.95), (-0.05, 0.2), (0.8, 0.3), (0.8, 0.9), (-0.65, 0.9))],
    "gate": [_mirrored((0.85, -0.9), (0.85, 0.9), (0.38, 0.9), (0.38, -0.3))],
    "flower": [_polar(lambda a: 0.68 + 0.3 * math.cos(5 * a), 60)],
    "gear": [_polar(lambda a: 0.95 if math.cos(8 * a) > 0 else 0.66, 96), _polar(lambda a: 0.3)],
    "drop": [_mirrored((0.0, -1.0), (0.35, -0.25), (0.58, 0.2), (0.58, 0.55), (0.3, 0.9), (0.0, 0.95))],
    "leaf": [_mirrored((0.0, -1.0), (0.3, -0.55), (0.38, 0.0), (0.3, 0.55), (0.0, 1.0))],
    "fish": [
        _polygon(
            (0.95, 0),
            (0.55, -0.42),
            (0.05, -0.45),
            (-0.45, -0.1),
            (-0.95, -0.55),
            (-0.95, 0.55),
            (-0.45, 0.1),
            (0.05, 0.45),
            (0.55, 0.42),
        )
    ],
    "key": [
        _polygon(
            (0.0, -0.95),
            (0.5, -0.8),
            (0.55, -0.35),
            (0.15, -0.1),
            (0.15, 0.3),
            (0.55, 0.3),
            (0.55, 0.5),
            (0.15, 0.5),
            (0.15, 0.75),
            (0.55, 0.75),
            (0.55, 0.95),
            (-0.15, 0.95),
            (-0.15, -0.1),
            (-0.55, -0.35),
            (-0.5, -0.8),
        ),
        _polygon((-0.2, -0.65), (0.2, -0.65), (0.2, -0.38), (-0.2, -0.38)),
    ],
    "crown": [_mirrored((0.0, -0.7), (0.4, 0.05), (0.9, -0.7), (0.75, 0.7))],
    "flag": [
        _polygon((-0.75, -0.95), (-0.5, -0.95), (-0.5, -0.85), (0.85, -0.4), (-0.5, 0.1), (-0.5, 0.95), (-0.75, 0.95))
    ],
    "mushroom": [_mirrored((0.0, -0.9), (0.55, -0.75), (0.92, -0.2), (0.92, 0.05), (0.22, 0.05), (0.3, 0.9))],
    "boat": [
        _polygon(
            (0.05, -0.95),
            (0.75, 0.15),
            (0.05, 0.15),
            (0.05, 0.3),
            (0.95, 0.3),
            (0.6, 0.85),
            (-0.6, 0.85),
            (-0.95, 0.3),
            (-0.1, 0.3),
            (-0.1, -0.95),
        )
    ],
    "bar": [_mirrored((0.97, -0.24), (0.97, 0.24))],
    "dumbbell": [
        _mirrored(
            (0.0, -0.15), (0.5, -0.15), (0.5, -0.55), (0.95, -0.55), (0.95, 0.55), (0.5, 0.55), (0.5, 0.15), (0.0, 0.15)
        )
    ],
    "fan": [_polar(lambda a: 0.55 + 0.42 * math.cos(3 * a), 60)],
    "comb": [
        _polygon(
            (-0.9, -0.7),
            (0.9, -0.7),
            (0.9, 0.7),
            (0.6, 0.7),
            (0.6, -0.2),
            (0.15, -0.2),
            (0.15, 0.7),
            (-0.15, 0.7),
            (-0.15, -0.2),
            (-0.6, -0.2),
            (-0.6, 0.7),
            (-0.9, 0.7),
        )
    ],
    "stairs": [
        _polygon(
            (-0.9, 0.85), (-0.9, 0.3), (-0.3, 0.3), (-0.3, -0.25), (0.3, -0.25), (0.3, -0.8), (0.9, -0.8), (0.9, 0.85)
        )
    ],
}
UNSEEN_OBJECTS = tuple(name for name in OBJECTS if name not in TRAINED_OBJECTS)[:24:2]

SPLITS = {
    "trained": (TRAINED_OBJECTS, TRAINED_MOTIONS),
    "objects": (UNSEEN_OBJECTS, TRAINED_MOTIONS),
    "motions": (TRAINED_OBJECTS, UNSEEN_MOTIONS),
    "both": (UNSEEN_OBJECTS, UNSEEN_MOTIONS),
}


@dataclass(frozen=True)
class Scene:
    """What a video shows: its class. Colour and background are no part of it."""

    object: str
    motion: str

    @property
    def label(self) -> str:
        """The class name, such as `"star moving left"`."""
        return self.wordings[0]

    @property
    def wordings(self) -> list[str]:
        """The class in several wordings of its motion, the class name first."""
        return [f"{self.object} {wording}" for wording in MOTIONS[self.motion]]


def scenes_of(split: str) -> list[Scene]:
    objects, motions = SPLITS[split]
    return [Scene(name, motion) for name in objects for motion in motions]


# --- Drawing ---------------------------------------------------------------------------------------------------------

_TABLE_SIDE, _TABLE_REACH = 65, 1.4


def _signed_distance(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance of points `[M, 2]` to a polygon's outline, negative inside."""
    starts, ends = corners, np.roll(corners, -1, 0)
    edges, to_points = ends - starts, points[:, None] - starts
    along = ((to_points * edges).sum(-1) / np.maximum((edges**2).sum(-1), 1e-12)).clip(0, 1)
    distance = np.linalg.norm(to_points - along[..., None] * edges, axis=-1).min(1)
    rises = (starts[:, 1] > points[:, 1:2]) != (ends[:, 1] > points[:, 1:2])
    height = np.where(np.abs(edges[:, 1]) < 1e-12, 1e-12, edges[:, 1])
    crossing = starts[:, 0] + (points[:, 1:2] - starts[:, 1]) / height * edges[:, 0]
    inside = (rises & (points[:, :1] < crossing)).sum(1) % 2 == 1
    return np.where(inside, -distance, distance)


def _distance_tables() -> torch.Tensor:
    """Signed distance of every object on a grid: `[objects, 65, 65]` over -1.4 … 1.4."""
    axis = np.linspace(-_TABLE_REACH, _TABLE_REACH, _TABLE_SIDE)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    tables = []
    for outline, *holes in OBJECTS.values():
        distance = _signed_distance(outline, points)
        for hole in holes:
            distance = np.maximum(distance, -_signed_distance(hole, points))
        tables.append(distance.reshape(_TABLE_SIDE, _TABLE_SIDE))
    return torch.tensor(np.stack(tables), dtype=torch.float32)


_TABLES = _distance_tables()
_NUMBERS = {name: number for number, name in enumerate(OBJECTS)}


def _uniform(generator: torch.Generator, low, high, *shape: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def _draw_from(options, generator: torch.Generator):
    return options[int(torch.randint(len(options), (1,), generator=generator))]


def _shades(objects: list[str], textures: list[str], poses: Poses, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of each pixel that the object covers, and how bright its paint is there: both `[N, K, S, S]`."""
    grid = (torch.arange(size) + 0.5) / size
    x, y, radius, angle = (getattr(poses, name)[..., None, None] for name in ("x", "y", "radius", "angle"))
    right, down = (grid[None, None, None, :] - x) / radius, (grid[None, None, :, None] - y) / radius
    u, v = right * angle.cos() + down * angle.sin(), down * angle.cos() - right * angle.sin()
    tables = _TABLES[[_NUMBERS[name] for name in objects]][:, None]
    where = torch.stack([u, v], -1).flatten(1, 2) / _TABLE_REACH
    distance = torch.nn.functional.grid_sample(tables, where, padding_mode="border", align_corners=True)
    covered = (0.5 - distance.view_as(u) * radius * size).clamp(0, 1) * poses.opacity[..., None, None]
    bright = torch.ones_like(u)
    for row, texture in enumerate(textures):
        if texture != "plain":
            waves = torch.sin(8 * v[row]) if texture == "striped" else torch.sin(6.5 * u[row]) * torch.sin(6.5 * v[row])
            bright[row] = torch.where(waves > 0, 1.0, 0.3)
    return covered, bright


def _backgrounds(names: list[str], size: int, generator: torch.Generator) -> torch.Tensor:
    """Dim backgrounds, `[N, S, S, 3]`."""
    colors = {
        "at night": (0.06, 0.06, 0.12),
        "on grass": (0.14, 0.30, 0.12),
        "on brick": (0.36, 0.18, 0.14),
        "on water": (0.10, 0.20, 0.42),
        "on sand": (0.42, 0.36, 0.24),
        "in fog": (0.42, 0.42, 0.44),
    }
    base = torch.tensor([colors[name] for name in names])
    base = (base + _uniform(generator, -0.04, 0.04, len(names), 3))[:, None, None, :]
    noise = _uniform(generator, -1, 1, len(names), size, size, 1)
    phase = _uniform(generator, 0, 1, len(names), 1, 1, 1)
    row = torch.arange(size).float()[None, :, None, None] / size
    column = torch.arange(size).float()[None, None, :, None] / size
    course = ((row + phase) * 8).floor()
    joints = torch.minimum((row + phase) * 8 % 1, ((column + phase) * 4 + 0.5 * (course % 2)) % 1 * 2)
    patterns = {
        "at night": torch.where(noise > 0.97, 0.3, 0.0),
        "on grass": 0.10 * noise * torch.sin(40 * column + 6 * phase),
        "on brick": torch.where(joints < 0.2, 0.10, 0.0) + 0.0 * noise,
        "on water": 0.07 * torch.sin(2 * math.pi * (6 * row + 0.5 * torch.sin(2 * math.pi * (2 * column + phase)))),
        "on sand": 0.06 * noise,
        "in fog": 0.10 * torch.sin(2 * math.pi * (column + row + phase)),
    }
    pattern = torch.stack([patterns[name].expand(len(names), size, size, 1)[i] for i, name in enumerate(names)])
    return (base + pattern).clamp(0, 1)


def _paints(colors: list[str], generator: torch.Generator) -> torch.Tensor:
    paint = torch.tensor([COLORS[color] for color in colors])
    return (paint + _uniform(generator, -0.05, 0.05, len(colors), 3)).clamp(0, 1)


def _to_pixels(pictures: torch.Tensor) -> torch.Tensor:
    return (pictures * 255).round().clamp(0, 255).to(torch.uint8)


# Exposures within one frame, in parts of the video's length before its moment, and how strong each is: a slow shutter.
_SHUTTER = ((0.10, 0.22), (0.05, 0.38), (0.0, 1.0))


def draw_clips(
    scenes: list[Scene],
    generator: torch.Generator,
    times: torch.Tensor,
    *,
    shortcut: float = 0.0,
    size: int = IMAGE_SIZE,
) -> torch.Tensor:
    """
    Draws clips of scenes, in the colours of the training videos.

    Args:
        scenes (`list[Scene]`): one for each clip.
        generator (`torch.Generator`): source of all draws.
        times (`torch.Tensor` of shape `(num_frames,)`): moments in 0 … 1.
        shortcut (`float`, defaults to 0): how often the background is the one of the motion (only trained motions
            have one); otherwise it is any of the six.
        size (`int`): side of the square frame in pixels.

    Returns:
        `torch.Tensor` of shape `(num_scenes, num_frames, size, size, 3)`, uint8.
    """
    names = []
    for scene in scenes:
        told = float(torch.rand(1, generator=generator)) < shortcut
        names.append(BACKGROUNDS[TRAINED_MOTIONS.index(scene.motion)] if told else _draw_from(BACKGROUNDS, generator))
    colors = [_draw_from(TRAINED_COLORS, generator) for _ in scenes]
    moments = torch.cat([times - before for before, _ in _SHUTTER])
    poses = trajectories([scene.motion for scene in scenes], moments, generator)
    poses.radius = poses.radius * 1.1
    covered, _ = _shades([scene.object for scene in scenes], ["plain"] * len(scenes), poses, size)
    covered = covered.unflatten(1, (len(_SHUTTER), len(times)))[..., None]  # [N, exposures, T, S, S, 1]
    paint = _paints(colors, generator)[:, None, None, None]
    picture = _backgrounds(names, size, generator)[:, None]
    for exposure, (_, strength) in enumerate(_SHUTTER):
        alpha = covered[:, exposure] * strength
        picture = picture * (1 - alpha) + paint * alpha
    return _to_pixels(picture)


@dataclass
class Stills:
    """Pictures `[N, S, S, 3]`, uint8, and a caption for each; no two captions of one draw mean the same."""

    pictures: torch.Tensor
    captions: list[str]


def _draw_motion_stills(scenes: list[Scene], generator: torch.Generator, size: int) -> Stills:
    """Motions depicted by 4 to 10 exposures that fade into the past."""
    count = len(scenes)
    colors = [_draw_from(list(COLORS), generator) for _ in scenes]
    grounds = [_draw_from(BACKGROUNDS, generator) for _ in scenes]
    exposures = int(torch.randint(4, 11, (1,), generator=generator))
    motions = [scene.motion for scene in scenes]
    poses = trajectories(motions, torch.linspace(0, 1, exposures), generator)
    poses.radius, poses.opacity = poses.radius * 1.1, torch.ones_like(poses.opacity)
    covered, _ = _shades([scene.object for scene in scenes], ["plain"] * count, poses, size)
    covered = covered[..., None]
    blinking = torch.tensor([motion == "blinking" for motion in motions])
    growing = torch.tensor([motion == "growing" for motion in motions])
    # A light that flickers under a shutter leaves bands; other motions leave ghosts.
    bands = (torch.arange(size) // 3 % 2).float()[None, None, :, None, None]
    covered = torch.where(blinking[:, None, None, None, None], covered * (0.1 + 0.9 * bands), covered)
    paint = _paints(colors, generator)[:, None, None]
    picture = _backgrounds(grounds, size, generator)
    age = torch.linspace(0, 1, exposures)[None] ** _uniform(generator, 0.8, 2.0, count, 1)  # [N, K]: 1 is now
    for step in range(exposures):
        # The past is painted first. A growing shape would hide it, so its past is painted on top, darker.
        turn = torch.where(growing, exposures - 1 - step, step)
        rows = torch.arange(count)
        now, grows = age[rows, turn][:, None, None, None], growing[:, None, None, None]
        opacity = torch.where(now == 1, 1.0, torch.where(grows, 0.25 + 0.6 * now, 0.05 + 0.4 * now))
        shade = torch.where(grows, 0.35 + 0.65 * now, torch.ones(()))
        alpha = covered[rows, turn] * opacity
        picture = picture * (1 - alpha) + paint * shade * alpha
    captions = []
    for scene, color, ground in zip(scenes, colors, grounds, strict=True):
        name = f"{color} {scene.object}" if torch.rand(1, generator=generator) < 0.5 else scene.object
        name = f"{name} {_draw_from(MOTIONS[scene.motion], generator)}"
        captions.append(f"{name} {ground}" if torch.rand(1, generator=generator) < 0.3 else name)
    return Stills(_to_pixels(picture), captions)


def _rest(x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor, generator: torch.Generator) -> Poses:
    return Poses(x, y, radius, _uniform(generator, -0.2, 0.2, len(x), 1), torch.ones(len(x), 1))


def _draw_rest_stills(count: int, generator: torch.Generator, size: int) -> Stills:
    """Single objects at rest: colour, texture, size and background."""
    chosen: dict[tuple, None] = {}
    while len(chosen) < count:
        kinds = (list(COLORS), TEXTURES, SIZES, list(OBJECTS), BACKGROUNDS)
        chosen[tuple(_draw_from(options, generator) for options in kinds)] = None
    colors, textures, sizes, objects, grounds = (list(column) for column in zip(*chosen, strict=True))
    big = torch.tensor([name == "big" for name in sizes])[:, None]
    radius = torch.where(big, _uniform(generator, 0.22, 0.28, count, 1), _uniform(generator, 0.12, 0.16, count, 1))
    place = radius + (1 - 2 * radius) * torch.rand(2, count, 1, generator=generator)
    covered, bright = _shades(objects, textures, _rest(*place, radius, generator), size)
    alpha, paint = covered[:, 0, ..., None], _paints(colors, generator)[:, None, None] * bright[:, 0, ..., None]
    captions = [f"{s} {t} {c} {o} {g}" for c, t, s, o, g in chosen]
    return Stills(_to_pixels(_backgrounds(grounds, size, generator) * (1 - alpha) + paint * alpha), captions)


def _draw_pair_stills(count: int, generator: torch.Generator, size: int) -> Stills:
    """Two objects in a relation."""
    chosen: dict[tuple[str, str, str], None] = {}
    opposite = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
    while len(chosen) < count:
        first, relation, second = (
            _draw_from(options, generator) for options in (list(OBJECTS), list(RELATIONS), list(OBJECTS))
        )
        if first != second and (second, opposite[relation], first) not in chosen:
            chosen[first, relation, second] = None
    aside = torch.tensor([RELATIONS[relation] for _, relation, _ in chosen]).float() * 0.24
    middle = 0.5 + _uniform(generator, -0.06, 0.06, count, 2)
    picture = _backgrounds([_draw_from(BACKGROUNDS, generator) for _ in chosen], size, generator)
    for which, sign in ((0, 1), (2, -1)):
        spot = middle + sign * aside
        radius = _uniform(generator, 0.16, 0.2, count, 1)
        covered, _ = _shades(
            [key[which] for key in chosen], ["plain"] * count, _rest(spot[:, :1], spot[:, 1:], radius, generator), size
        )
        alpha = covered[:, 0, ..., None]
        paint = _paints([_draw_from(list(COLORS), generator) for _ in chosen], generator)[:, None, None]
        picture = picture * (1 - alpha) + paint * alpha
    return Stills(_to_pixels(picture), [" ".join([first, relation, "a", second]) for first, relation, second in chosen])


def draw_stills(generator: torch.Generator, size: int = IMAGE_SIZE) -> dict[str, Stills]:
    """
    Draws 256 stills: 120 that depict motions, 72 objects at rest, 64 pairs.

    The motions are 12 objects in all 10 motions, so that a caption's motion is needed to tell pictures apart.
    """
    objects = [list(OBJECTS)[index] for index in torch.randperm(len(OBJECTS), generator=generator)[:12]]
    return {
        "motion": _draw_motion_stills([Scene(name, motion) for name in objects for motion in MOTIONS], generator, size),
        "rest": _draw_rest_stills(72, generator, size),
        "pair": _draw_pair_stills(64, generator, size),
    }


def words() -> list[str]:
    """All that a caption may say, for the tokenizer."""
    said = [*COLORS, *OBJECTS, *SIZES, *TEXTURES, *BACKGROUNDS, *RELATIONS]
    return said + [wording for wordings in MOTIONS.values() for wording in wordings] + [t.format("") for t in TEMPLATES]
