"""Pictures of the world `motion_shapes`, and boxes around its objects.

Stills depict a motion as photographs and comics do, by multiple exposures that fade into the past. They serve to
pretrain a tiny CLIP, whose text tower learns the words for motions from them.
"""

import torch

from vitaclip_hf.data.motion_shapes import (
    Poses,
    Scene,
    backgrounds,
    coverage,
    paints,
    to_pixels,
    trajectories,
    uniform,
)


STILL_TEMPLATES = ("{}", "a {}", "the {}", "a photo of a {}", "a picture of a {}", "a video of a {}")
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
SIZES = ("small", "big")


def object_boxes(
    scenes: list[Scene],
    generator: torch.Generator,
    num_frames: int = 32,
    size: int = 96,
    frames: list[int] | None = None,
) -> torch.Tensor:
    """
    Where the objects are in the videos that `draw_videos` draws with a generator in the same state.

    Args:
        scenes (`list[Scene]`), generator (`torch.Generator`), num_frames (`int`), size (`int`), frames (`list[int]`):
            as for [`draw_videos`].

    Returns:
        `torch.Tensor` of shape `(num_scenes, num_frames, 4)`: left, top, right and bottom of the smallest box that
        holds every pixel of the object, as fractions of the frame's side; zeros where it cannot be seen.
    """
    poses = trajectories([scene.motion for scene in scenes], (torch.arange(num_frames) + 0.5) / num_frames, generator)
    covered = coverage([scene.shape for scene in scenes], poses, size) > 0  # [N, T, S, S]
    covered = covered if frames is None else covered[:, frames]
    edges = []
    for axis in (2, 3):  # over rows, for the columns that are used; then the other way round
        used = covered.any(axis)  # [N, T, S]
        first, last = used.int().argmax(-1), size - used.flip(-1).int().argmax(-1)
        edges.append((first, torch.where(used.any(-1), last, 0)))
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], -1) / size


def draw_stills(scenes: list[Scene], generator: torch.Generator, size: int = 48) -> torch.Tensor:
    """
    Draws pictures that depict a motion by 4 to 10 exposures that fade into the past.

    Args:
        scenes (`list[Scene]`): one for each picture.
        generator (`torch.Generator`): source of all draws.
        size (`int`, defaults to 48): side of the square picture in pixels.

    Returns:
        `torch.Tensor` of shape `(num_scenes, size, size, 3)`, uint8.
    """
    exposures = int(torch.randint(4, 11, (1,), generator=generator))
    motions = [scene.motion for scene in scenes]
    poses = trajectories(motions, torch.linspace(0, 1, exposures), generator)
    blinking = torch.tensor([motion == "blinking" for motion in motions])[:, None]
    poses.opacity = torch.ones_like(poses.opacity)
    covered = coverage([scene.shape for scene in scenes], poses, size)[..., None]  # [N, K, S, S, 1]
    # A light that flickers under a shutter leaves bands; other motions leave ghosts.
    stripes = (torch.arange(size) // max(1, size // 16) % 2).float()[None, None, :, None, None]
    covered = torch.where(blinking[..., None, None, None], covered * (0.1 + 0.9 * stripes), covered)
    paint = paints([scene.color for scene in scenes], generator)[:, None, None]
    picture = backgrounds(len(scenes), size, generator)
    fade = uniform(generator, 0.8, 2.0, len(scenes), 1)
    age = torch.linspace(0, 1, exposures)[None] ** fade  # [N, K]: 1 is now
    growing = torch.tensor([motion == "growing" for motion in motions])
    for step in range(exposures):
        # The past is painted first. A growing shape would hide it, so its past is painted on top, darker.
        turn = torch.where(growing, exposures - 1 - step, step)
        rows = torch.arange(len(scenes))
        now = age[rows, turn][:, None, None, None]
        faint = torch.where(growing[:, None, None, None], 0.25 + 0.6 * now, 0.05 + 0.4 * now)
        opacity = torch.where(now == 1, torch.ones(()), faint)
        shade = torch.where(growing[:, None, None, None], 0.35 + 0.65 * now, torch.ones(()))
        alpha = covered[rows, turn] * opacity
        picture = picture * (1 - alpha) + paint * shade * alpha
    return to_pixels(picture)


def draw_objects(
    objects: list[tuple[str, str]], places: torch.Tensor, big: torch.Tensor, generator: torch.Generator, size: int = 48
) -> torch.Tensor:
    """
    Draws pictures of objects at rest.

    Args:
        objects (`list[tuple[str, str]]`): colour and shape of each object.
        places (`torch.LongTensor` of shape `(num_objects, 2)`): row and column of `PLACES`.
        big (`torch.BoolTensor` of shape `(num_objects,)`): whether an object is drawn big or small.
        generator (`torch.Generator`): source of all draws.
        size (`int`, defaults to 48): side of the square picture in pixels.

    Returns:
        `torch.Tensor` of shape `(num_objects, size, size, 3)`, uint8.
    """
    count = len(objects)
    large, small = uniform(generator, 0.19, 0.24, count, 1), uniform(generator, 0.10, 0.14, count, 1)
    radius = torch.where(big[:, None], large, small)
    corner = places[:, [1, 0], None] / 3 + uniform(generator, 0.05, 0.28, count, 2, 1)
    spot = corner.clamp(radius[:, None], 1 - radius[:, None])
    poses = Poses(spot[:, 0], spot[:, 1], radius, uniform(generator, -0.2, 0.2, count, 1), torch.ones(count, 1))
    covered = coverage([shape for _, shape in objects], poses, size)[:, 0, ..., None]
    paint = paints([color for color, _ in objects], generator)[:, None, None]
    return to_pixels(backgrounds(count, size, generator) * (1 - covered) + paint * covered)
