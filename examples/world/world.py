"""A world of things that people drew and named: stills with captions, and videos of things that move.

419 things in five styles come from `pictures.zip` (`draw_pictures.py` makes it). A scene is one thing in one motion; no
single frame of its video shows the motion. All draws come from a `torch.Generator`, so a seed names a data set. Lengths
are fractions of the frame's side; x runs to the right and y runs down.

What is held out, by a fixed rule:

- unseen things: all but 80. They appear in stills and never in a training video. The 80 are first by the SHA-256 of
  their names, without the demo's ten things, which stills do not show in motion either.
- unseen motions: `UNSEEN_MOTIONS`. Stills show them, training videos do not.
- unseen pairs: training videos show a trained thing in five of the ten other motions, first by the SHA-256 of labels.
- an unseen style: OpenMoji, which is not in `pictures.zip`. Nothing is trained on it.
"""

import hashlib
import io
import json
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor


PICTURES = Path(__file__).parent / "pictures.zip"
# The icon packs, and the word for each in captions.
STYLES = {
    "noto": "noto",
    "fluent-emoji-flat": "flat",
    "twemoji": "twitter",
    "emojione": "emojione",
    "fxemoji": "firefox",
    "openmoji": "outlined",
}
HELD_BACK = "openmoji"
# The wordings of each motion; the first is part of the class name.
MOTIONS = {
    "left": ("moving left", "going to the left", "sliding left"),
    "right": ("moving right", "going to the right", "sliding right"),
    "up": ("rising", "moving up", "going up"),
    "down": ("falling", "moving down", "going down"),
    "growing": ("growing", "getting bigger", "expanding"),
    "shrinking": ("shrinking", "getting smaller", "contracting"),
    "spinning": ("spinning", "turning", "rotating"),
    "blinking": ("blinking", "flashing", "flickering"),
    "bouncing": ("bouncing", "jumping", "hopping"),
    "shaking": ("shaking", "trembling", "wobbling"),
    "circling": ("circling", "going in a circle", "moving in circles"),
    "swinging": ("swinging", "rocking", "tilting back and forth"),
}
UNSEEN_MOTIONS = ("circling", "swinging")
TRAINED_MOTIONS = tuple(motion for motion in MOTIONS if motion not in UNSEEN_MOTIONS)
DEMO_THINGS = (
    *("rocket", "banana", "snowflake", "airplane", "taxi"),
    *("pizza", "balloon", "star", "basketball", "bell"),
)
TRAINED_THINGS, MOTIONS_OF_A_THING = 80, 5
TEMPLATES = ("{}", "a {}", "the {}", "a photo of a {}", "a picture of a {}", "a drawing of a {}", "a video of a {}")
PLACES = (
    *("at the top left", "at the top", "at the top right"),
    *("on the left", "in the middle", "on the right"),
    *("at the bottom left", "at the bottom", "at the bottom right"),
)
SIZES = ("small", "big")
BACKGROUNDS = {
    "red": (0.62, 0.25, 0.25),
    "green": (0.25, 0.50, 0.30),
    "blue": (0.25, 0.38, 0.65),
    "yellow": (0.85, 0.78, 0.45),
    "purple": (0.45, 0.30, 0.58),
    "gray": (0.50, 0.50, 0.52),
    "black": (0.10, 0.10, 0.12),
    "white": (0.92, 0.92, 0.92),
}


@dataclass(frozen=True)
class Scene:
    """One thing in one motion: its name, and a key of `MOTIONS`."""

    thing: str
    motion: str

    @property
    def label(self) -> str:
        return self.worded(0)

    def worded(self, wording: int) -> str:
        return f"{self.thing} {MOTIONS[self.motion][wording]}"


def uniform(generator: torch.Generator, low, high, *shape: int) -> torch.Tensor:
    """Uniform draws between `low` and `high`."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


@dataclass
class Poses:
    """Where and how things are drawn; each tensor has the shape `(num_videos, num_moments)`, angles are radians."""

    x: torch.Tensor
    y: torch.Tensor
    radius: torch.Tensor
    angle: torch.Tensor
    opacity: torch.Tensor

    def at(self, moments: list[int]) -> "Poses":
        """The poses at some of the moments."""
        return Poses(*(getattr(self, field.name)[:, moments] for field in fields(Poses)))


def ranked(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())


class World:
    """
    The things, their pictures and the splits.

    Args:
        files (`Path`): zip files of pictures; the first names the things.

    Attributes:
        names (`list[str]`): of the things.
        words (`dict[str, list[str]]`): tags of a thing that no other thing has.
        pictures (`torch.ByteTensor` of shape `(num_things, num_styles, 4, 64, 64)`): red, green, blue and opacity; the
            colours are multiplied by the opacity.
        styles (`list[str]`): keys of `STYLES`.
        drawn (`torch.BoolTensor` of shape `(num_things, num_styles)`): whether the style has a picture of the thing.
    """

    def __init__(self, *files: Path):
        sheets = {}
        for path in files or (PICTURES,):
            with zipfile.ZipFile(path) as file:
                if not sheets:
                    things = json.loads(file.read("objects.json"))
                for style in STYLES:
                    if f"{style}.webp" in file.namelist():
                        sheets[style] = pil_to_tensor(Image.open(io.BytesIO(file.read(f"{style}.webp"))))
        self.names = [thing["name"] for thing in things]
        tags = [set(thing["tags"]) - set(self.names) for thing in things]
        counts = Counter(tag for thing in tags for tag in thing)
        self.words = {
            name: sorted(tag for tag in own if counts[tag] == 1) for name, own in zip(self.names, tags, strict=True)
        }
        self.styles = list(sheets)
        tiles = [
            sheet.unflatten(2, (-1, 64)).unflatten(1, (-1, 64)).permute(1, 3, 0, 2, 4) for sheet in sheets.values()
        ]
        self.pictures = torch.stack([tile.flatten(0, 1)[: len(things)] for tile in tiles], 1).clone()
        colors, opacity = self.pictures[:, :, :3], self.pictures[:, :, 3:]
        for part, cover in zip(colors, opacity, strict=True):
            part.copy_((part.float() * cover.float() / 255).round())
        self.drawn = (opacity > 128).flatten(2).any(2)
        self.trained = ranked([name for name in self.names if name not in DEMO_THINGS])[:TRAINED_THINGS]
        self.number = {name: number for number, name in enumerate(self.names)}

    def scenes(self, part: str) -> list[Scene]:
        """
        The scenes of a set of videos.

        Args:
            part (`str`): "trained" (400 scenes), "demo" (100 of unseen things), "unseen pairs" (400), "unseen motions"
                (160, of trained things) or "unseen things" (each of the other 329 in one of the ten trained motions).
        """
        if part == "demo":
            return [Scene(thing, motion) for thing in DEMO_THINGS for motion in TRAINED_MOTIONS]
        if part == "unseen motions":
            return [Scene(thing, motion) for thing in self.trained for motion in UNSEEN_MOTIONS]
        if part == "unseen things":
            things, chosen = [name for name in self.names if name not in (*DEMO_THINGS, *self.trained)], slice(1)
        elif part == "trained":
            things, chosen = self.trained, slice(MOTIONS_OF_A_THING)
        elif part == "unseen pairs":
            things, chosen = self.trained, slice(MOTIONS_OF_A_THING, None)
        else:
            raise ValueError(f"unknown part {part!r:.50}")
        scenes = []
        for thing in things:
            by_label = {(scene := Scene(thing, motion)).label: scene for motion in TRAINED_MOTIONS}
            scenes += [by_label[label] for label in ranked(by_label)[chosen]]
        return scenes

    def sample(self, things: list[str], generator: torch.Generator, styles: list[str | None] | None = None) -> tuple:
        """A picture `[N, 4, 64, 64]` of each thing, in its style or in a random one that is shipped; and the styles."""
        numbers = torch.tensor([self.number[thing] for thing in things])
        chances = self.drawn[numbers].float()
        chances[:, [number for number, name in enumerate(self.styles) if name == HELD_BACK]] = 0
        columns = torch.multinomial(chances, 1, generator=generator)[:, 0].tolist()
        if styles is not None:
            pairs = zip(styles, columns, strict=True)
            columns = [self.styles.index(style) if style else column for style, column in pairs]
        return self.pictures[numbers, torch.tensor(columns)], [self.styles[column] for column in columns]


def trajectories(motions: list[str], times: torch.Tensor, generator: torch.Generator) -> Poses:
    """
    Poses at some moments, with random start, size, speed and phase.

    Args:
        motions (`list[str]`): a key of `MOTIONS` for each video.
        times (`torch.Tensor` of shape `(num_moments,)`): 0 is the beginning of the video and 1 its end.
    """
    count, s = len(motions), times[None]  # [1, K]
    half = uniform(generator, 0.20, 0.28, count, 1)
    tilt = uniform(generator, -0.2, 0.2, count, 1)
    travel = uniform(generator, 0.28, 0.42, count, 1)
    sign = torch.where(torch.rand(count, 1, generator=generator) < 0.5, -1.0, 1.0)
    phase = torch.rand(count, 1, generator=generator)
    cycles = uniform(generator, 1.5, 2.5, count, 1)
    place = torch.rand(count, 2, 1, generator=generator)

    def where(*names: str) -> torch.Tensor:
        return torch.tensor([motion in names for motion in motions])[:, None]

    zero = torch.zeros_like(half * s)
    wave = torch.sin(2 * math.pi * (cycles * s + phase))
    hop = torch.sin(math.pi * (2 * cycles * s + phase)).abs()
    circle = 2 * math.pi * (sign * cycles / 2 * s + phase)
    # Offsets from the start, which is placed so that the whole path fits into the frame.
    dx = zero + where("right") * travel * s - where("left") * travel * s
    dx = dx + where("shaking") * wave * 0.4 * travel + where("bouncing") * sign * 0.3 * travel * s
    dx = dx + where("circling") * circle.cos() * 0.45 * travel
    dy = zero + where("down") * travel * s - where("up") * travel * s - where("bouncing") * hop * 0.8 * travel
    dy = dy + where("circling") * circle.sin() * 0.45 * travel
    halves = half * (1 + where("growing") * (0.9 * s - 0.4) - where("shrinking") * (0.9 * s - 0.5)) + zero
    room = halves.amax(1, keepdim=True) + 0.01

    def start(offset: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        low, high = room - offset.amin(1, keepdim=True), 1 - room - offset.amax(1, keepdim=True)
        return low + (high - low).clamp(min=0) * unit

    angle = tilt + where("spinning") * sign * math.pi * (0.4 + 0.5 * cycles) * s
    angle = angle + where("swinging") * 0.7 * wave + zero
    on = ((1.2 * cycles * s + phase) % 1 < 0.5).float()
    opacity = torch.where(where("blinking"), on, zero + 1)
    return Poses(start(dx, place[:, 0]) + dx, start(dy, place[:, 1]) + dy, halves, angle, opacity)


def project(pictures: torch.Tensor, poses: Poses, size: int) -> torch.Tensor:
    """Pictures `[N, 4, P, P]` (uint8) at their poses on transparent canvases, `[N, K, 4, size, size]` in 0 … 1."""
    source = pictures.float() / 255
    if size < 100 and source.shape[-1] == 64:  # things are a third of the frame
        source = torch.nn.functional.avg_pool2d(source, 2)
    cosine, sine, scale = poses.angle.cos(), poses.angle.sin(), 1 / (2 * poses.radius)
    right, down = 1 - 2 * poses.x, 1 - 2 * poses.y
    rows = [cosine, sine, cosine * right + sine * down, -sine, cosine, cosine * down - sine * right]
    transforms = (torch.stack(rows, -1) * scale[..., None]).flatten(0, 1).unflatten(1, (2, 3))
    moments = poses.x.shape[1]
    grid = torch.nn.functional.affine_grid(transforms, [len(transforms), 4, size, size], align_corners=False)
    source = source.repeat_interleave(moments, 0)
    painted = torch.nn.functional.grid_sample(source, grid, align_corners=False).unflatten(0, (-1, moments))
    return painted * poses.opacity[..., None, None, None]


def draw_backgrounds(colors: list[str], size: int, generator: torch.Generator) -> torch.Tensor:
    """Plain backgrounds with a slight colour cast and gradient, `[N, 3, size, size]`."""
    count, grid = len(colors), torch.linspace(-0.5, 0.5, size)
    slope = uniform(generator, -0.15, 0.15, count, 2, 1, 1, 1)
    shade = slope[:, 0] * grid[None, None, :] + slope[:, 1] * grid[None, :, None]
    base = torch.tensor([BACKGROUNDS[color] for color in colors]) + uniform(generator, -0.06, 0.06, count, 3)
    return (base[..., None, None] + shade).clamp(0, 1)


def pick(options, generator: torch.Generator):
    return options[int(torch.randint(len(options), (1,), generator=generator))]


def to_pixels(pictures: torch.Tensor) -> torch.Tensor:
    """`[…, 3, S, S]` in 0 … 1 to `[…, S, S, 3]`, uint8."""
    return (pictures * 255).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)


def draw_videos(
    world: World,
    scenes: list[Scene],
    generator: torch.Generator,
    size: int = 160,
    times: torch.Tensor | None = None,
    style: str | None = None,
    poses: Poses | None = None,
) -> torch.Tensor:
    """
    Args:
        times (`torch.Tensor` of shape `(num_moments,)`, *optional*): moments in 0 … 1 to draw, by default 32 even ones.
            The path is placed so that it fits into the frame at these moments.
        style (`str`, *optional*): a key of `STYLES` for all videos; random ones of `pictures.zip` by default.
        poses ([`Poses`], *optional*): where things are at each moment; by default random ones of the scenes' motions.

    Returns:
        `torch.ByteTensor` of shape `(num_scenes, num_moments, size, size, 3)`.
    """
    times = (torch.arange(32) + 0.5) / 32 if times is None else times
    pictures, _ = world.sample([scene.thing for scene in scenes], generator, [style] * len(scenes))
    if poses is None:
        poses = trajectories([scene.motion for scene in scenes], times, generator)
    painted = project(pictures, poses, size)
    colors = [pick(list(BACKGROUNDS), generator) for _ in scenes]
    background = draw_backgrounds(colors, size, generator)[:, None]
    return to_pixels(background * (1 - painted[:, :, 3:]) + painted[:, :, :3])


def draw_motion_stills(world: World, scenes: list[Scene], generator: torch.Generator, size: int = 48) -> torch.Tensor:
    """Pictures `[N, size, size, 3]` that depict a motion by 4 to 7 exposures that fade into the past."""
    exposures, motions = int(torch.randint(4, 8, (1,), generator=generator)), [scene.motion for scene in scenes]
    poses = trajectories(motions, torch.linspace(0, 1, exposures), generator)
    poses.opacity = torch.ones_like(poses.opacity)
    painted = project(world.sample([scene.thing for scene in scenes], generator)[0], poses, size)
    # A light that flickers under a shutter leaves bands; other motions leave ghosts.
    stripes = (torch.arange(size) // max(1, size // 16) % 2).float()[:, None]
    blinking = torch.tensor([motion == "blinking" for motion in motions])[:, None, None, None, None]
    painted = torch.where(blinking, painted * (0.1 + 0.9 * stripes), painted)
    # The past is painted first. A growing thing would hide it, so its past is painted on top, darker.
    growing = torch.tensor([motion == "growing" for motion in motions])[:, None, None, None]
    fade = uniform(generator, 0.8, 2.0, len(scenes), 1)
    age = torch.linspace(0, 1, exposures)[None] ** fade  # [N, K]: 1 is now
    rows = torch.arange(len(scenes))
    picture = draw_backgrounds([pick(list(BACKGROUNDS), generator) for _ in scenes], size, generator)
    for step in range(exposures):
        turn = torch.where(growing.flatten(), exposures - 1 - step, step)
        now = age[rows, turn][:, None, None, None]
        strength = torch.where(growing, 0.25 + 0.6 * now, 0.05 + 0.4 * now)
        layer = painted[rows, turn] * torch.where(now == 1, torch.ones(()), strength)
        shade = torch.where(growing, 0.35 + 0.65 * now, torch.ones(()))
        picture = picture * (1 - layer[:, 3:]) + layer[:, :3] * shade
    return to_pixels(picture)


def draw_stills(
    world: World,
    things: list[str],
    spots: list[tuple[str, str]],
    colors: list[str],
    generator: torch.Generator,
    size: int = 48,
    styles: list[str | None] | None = None,
    ease: float = 0,
) -> tuple[torch.Tensor, list[str]]:
    """
    Args:
        spots (`list[tuple[str, str]]`): one of `SIZES` and one of `PLACES` for each thing.
        colors (`list[str]`): keys of `BACKGROUNDS`.
        styles (`list[str]`, *optional*): keys of `STYLES`; `None` is a random one that is shipped.
        ease (`float`, *optional*, defaults to 0): 1 shows things upright, large and in the middle, 0 as described.

    Returns:
        Pictures `[N, size, size, 3]` of things at rest, and their styles.
    """
    pictures, styles = world.sample(things, generator, styles)
    big = torch.tensor([spot[0] == "big" for spot in spots])[:, None]
    place = torch.tensor([divmod(PLACES.index(spot[1]), 3) for spot in spots])[:, [1, 0], None]
    count = len(things)
    half = torch.where(big, uniform(generator, 0.26, 0.40, count, 1), uniform(generator, 0.16, 0.21, count, 1))
    half = half.lerp(torch.tensor(0.42), ease)
    corner = (place / 3 + uniform(generator, 0.05, 0.28, count, 2, 1)).lerp(torch.tensor(0.5), ease)
    corner = corner.clamp(half[:, None], 1 - half[:, None])
    angle = uniform(generator, -0.3, 0.3, count, 1) * (1 - ease)
    painted = project(pictures, Poses(corner[:, 0], corner[:, 1], half, angle, torch.ones(count, 1)), size)[:, 0]
    return to_pixels(draw_backgrounds(colors, size, generator) * (1 - painted[:, 3:]) + painted[:, :3]), styles


def letterboxed(videos: torch.Tensor, height: int = 360, width: int = 640) -> torch.Tensor:
    """Square videos `[N, T, S, S, 3]` (uint8) between black bars: `[N, T, height, width, 3]`."""
    pictures = videos.flatten(0, 1).movedim(-1, 1)
    pictures = torch.nn.functional.interpolate(pictures, (height, height), mode="bilinear", antialias=True)
    bar = (width - height) // 2
    boxed = torch.nn.functional.pad(pictures, (bar, width - height - bar))
    return boxed.movedim(1, -1).unflatten(0, videos.shape[:2])


def darken_edges(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """
    Every other one of pictures or videos `[N, …, S, S, 3]` (uint8) with black at two opposite edges, up to a twentieth
    of the side at each: what a square cut from the middle of a film between black bars may keep of them.
    """
    count, size = len(pictures), pictures.shape[-2]
    first, last = uniform(generator, 0, 0.05, 2, count, 1)
    at = (torch.arange(size) + 0.5) / size
    inside = ((at - first) * size + 0.5).clamp(0, 1) * ((1 - last - at) * size + 0.5).clamp(0, 1)  # [N, S]
    upright, bare = torch.rand(2, count, 1, 1, generator=generator) < 0.5
    light = torch.where(upright, inside[:, :, None], inside[:, None, :]).masked_fill(bare, 1)
    return (pictures * light.reshape(count, *[1] * (pictures.ndim - 4), size, size, 1)).round().to(torch.uint8)


def caption(text: str, generator: torch.Generator) -> str:
    """The text in a template, with "an" where English wants it."""
    whole = pick(TEMPLATES, generator).format(text) + pick(("", "."), generator)
    return re.sub(r"\ba (?=[aeiou])(?!uni)", "an ", whole)


def draw_batch(
    world: World, generator: torch.Generator, size: int = 48, ease: float = 0
) -> tuple[torch.Tensor, list[str], list[str], list[str]]:
    """
    126 stills, captions of which no two mean the same, the name of each still's thing, and its motion or place (a key
    of `MOTIONS` or one of `PLACES`).

    24 show one thing each; others show one thing several times, so that only the motion (6 things), the place and the
    size (1), the background (1) or the style (1) tells them apart. With `ease` above 0 (see `draw_stills`), each of the
    126 shows another thing, and its caption says neither size nor place.
    """
    moving_count, alone_count = (0, 126) if ease else (6, 26)
    order = [world.names[int(number)] for number in torch.randperm(len(world.names), generator=generator)]
    moving = [name for name in order if name not in DEMO_THINGS][:moving_count]
    scenes = [Scene(thing, motion) for thing in moving for motion in MOTIONS]
    captions = [f"{s.thing} {pick(('', 'is '), generator)}{pick(MOTIONS[s.motion], generator)}" for s in scenes]
    order = [name for name in order if name not in moving]
    shipped = torch.tensor([style != HELD_BACK for style in world.styles])
    columns = {name: (world.drawn[world.number[name]] & shipped).nonzero()[:4, 0].tolist() for name in order}
    in_styles = [name for name in order if len(columns[name]) == 4][: 0 if ease else 1]
    alone = [name for name in order if name not in in_styles][:alone_count]
    grid, colors = [(big, place) for big in SIZES for place in PLACES], list(BACKGROUNDS)
    # Thing, size and place, background, style, and caption if it must say what sets the still apart.
    rows = []
    if not ease:
        placed, colored, *alone = alone
        rows += [(placed, spot, None, None, f"{spot[0]} {placed} {spot[1]}") for spot in grid]
        rows += [(colored, None, color, None, f"{colored} on a {color} background") for color in colors]
    for name in in_styles:
        styles = [world.styles[column] for column in columns[name]]
        rows += [(name, None, None, style, f"{STYLES[style]} {name}") for style in styles]
    rows += [(name, None, None, None, None) for name in alone]
    things, spots, backgrounds, styles, texts = map(list, zip(*rows, strict=True))
    spots = [spot or pick(grid, generator) for spot in spots]
    backgrounds = [color or pick(colors, generator) for color in backgrounds]
    pictures, styles = draw_stills(world, things, spots, backgrounds, generator, size, styles, ease)
    for thing, spot, color, style, text in zip(things, spots, backgrounds, styles, texts, strict=True):
        if text is None:
            words = world.words[thing]
            name = pick(words, generator) if words and pick(range(8), generator) == 0 else thing
            # Words that the still does not show would teach the text tower to take left for right.
            extent, place = ("", "") if ease else spot
            before = pick(("", "", extent, STYLES[style]), generator)
            after = pick(("", "", place, f"on a {color} background"), generator)
            text = f"{before} {name} {after}".strip()
        captions.append(text)
    captions = [caption(text, generator) for text in captions]
    if scenes:
        pictures = torch.cat([draw_motion_stills(world, scenes, generator, size), pictures])
    shown = [scene.motion for scene in scenes] + [place for _, place in spots]
    return darken_edges(pictures, generator), captions, [scene.thing for scene in scenes] + things, shown
