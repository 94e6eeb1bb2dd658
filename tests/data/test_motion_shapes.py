"""The generated world: what the pixels show, measured from the pixels."""

import numpy as np
import pretrain_tiny_clip
import pytest
import torch
from motion_stills import draw_stills

from vitaclip_hf import decode_video
from vitaclip_hf.data.motion_shapes import (
    COLORS,
    HELD_OUT_OBJECTS,
    MOTIONS,
    SHAPES,
    Scene,
    all_scenes,
    draw_videos,
    write_video,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measure(motion: str, count: int = 10, frames: int = 32, seed: int = 0, size: int = 64) -> dict[str, torch.Tensor]:
    """Centre (x, y), area and spread of the shape in each frame, from the pixels: each `[count, frames]`."""
    videos = draw_videos([Scene("white", "triangle", motion)] * count, generator(seed), num_frames=frames, size=size)
    painted = (videos.float().mean(-1) / 255 - 0.45).clamp(0)  # backgrounds are darker than this
    grid = (torch.arange(size) + 0.5) / size
    area = painted.sum((-1, -2))
    weight = area.clamp(min=1e-6)
    x, y = (painted.sum(-2) * grid).sum(-1) / weight, (painted.sum(-1) * grid).sum(-1) / weight
    return {"x": x, "y": y, "area": area, "edge": (videos.float() - videos.float().roll(1, 1)).abs().sum((-1, -2, -3))}


@pytest.mark.parametrize(
    ("motion", "name", "sign", "still"),
    [
        *(("left", "x", -1, "y"), ("right", "x", 1, "y"), ("up", "y", -1, "x"), ("down", "y", 1, "x")),
        *(("growing", "area", 1, "x"), ("shrinking", "area", -1, "x")),
    ],
)
def test_motions_in_one_direction(motion, name, sign, still):
    path = measure(motion)
    assert (path[name].diff(dim=1) * sign > 0).float().mean() > 0.99
    assert (path[still] - path[still][:, :1]).abs().max() < 0.02
    change = path[name].amax(1) / path[name].amin(1) / 10 if name == "area" else path[name].diff(dim=1).sum(1) * sign
    assert (change > 0.2).all()


def test_motions_that_return_or_stay():
    for path in (measure("shaking")["x"], measure("bouncing")["y"]):
        assert ((path.diff(dim=1).sign().diff(dim=1) != 0).sum(1) >= 2).all()
    path = measure("blinking")
    bright = path["area"] > path["area"].amax(1, keepdim=True) / 2
    assert ((bright.float().mean(1) > 0.2) & (bright.float().mean(1) < 0.8)).all()
    assert (bright.int().diff(dim=1).abs().sum(1) >= 2).all()
    path = measure("turning")
    assert (path["x"] - path["x"][:, :1]).abs().max() < 0.02 and path["edge"][:, 1:].min() > 0
    assert (path["area"] / path["area"][:, :1] - 1).abs().max() < 0.1


def test_one_frame_does_not_tell_the_direction():
    """The places of all frames of many videos are spread alike for left and right, and for up and down."""
    for one, other, axis in (("left", "right", "x"), ("up", "down", "y"), ("growing", "shrinking", "area")):
        first, second = (
            measure(motion, count=120, frames=8, seed=seed, size=32)[axis] for motion, seed in ((one, 1), (other, 2))
        )
        middle = (first[:, 3:5].mean(1), second[:, 3:5].mean(1))
        ends = (first[:, 0], second[:, -1])  # read backwards, one is the other
        for ours, theirs in (middle, ends):
            standard_error = (ours.var() / 120 + theirs.var() / 120).sqrt()
            assert (ours.mean() - theirs.mean()).abs() < 4 * standard_error


def test_shapes_stay_within_the_frame():
    for motion in MOTIONS:
        videos = draw_videos([Scene("white", "square", motion)] * 40, generator(3), num_frames=8, size=64).float() / 255
        border = torch.cat([videos[..., 0, :, :], videos[..., -1, :, :], videos[..., 0, :], videos[..., -1, :]], -2)
        assert border.max() < 0.6, motion


def test_every_shape_and_color_looks_different():
    """One pose and background for all: any two shapes differ in many pixels, and each colour is the one it is named."""

    def picture(color: str, shape: str) -> torch.Tensor:
        scene = Scene(color, shape, "growing")
        return draw_videos([scene], generator(1), times=torch.ones(1), size=64)[0, 0].float() / 255

    shapes = [picture("white", shape) for shape in SHAPES]
    for index, one in enumerate(shapes):
        for other in shapes[:index]:
            assert ((one - other).abs().amax(-1) > 0.3).sum() > 40
    inside = (picture("white", "square") > 0.8).all(-1)
    assert inside.sum() > 100
    strong = {"red": "r", "green": "g", "blue": "b", "yellow": "rg", "pink": "rb", "white": "rgb"}
    for color in COLORS:
        mean = picture(color, "square")[inside].mean(0).tolist()
        assert "".join(name for name, value in zip("rgb", mean, strict=True) if value > 0.6) == strong[color], color


def test_same_seed_same_pixels():
    scenes = all_scenes()[::37]
    for draw in (draw_videos, draw_stills):
        one, same, other = (draw(scenes, generator(seed)) for seed in (5, 5, 6))
        assert torch.equal(one, same) and not torch.equal(one, other)


def test_held_out_scenes():
    trained, held_out = all_scenes(held_out=False), all_scenes(held_out=True)
    assert (len(trained), len(held_out), len(all_scenes())) == (300, 60, 360)
    assert not {(s.color, s.shape, s.motion) for s in trained} & {(s.color, s.shape, s.motion) for s in held_out}
    assert sorted(color for color, _ in HELD_OUT_OBJECTS) == sorted(COLORS)
    assert sorted(shape for _, shape in HELD_OUT_OBJECTS) == sorted(SHAPES)
    for part in ("color", "shape", "motion"):
        assert {getattr(s, part) for s in trained} == {getattr(s, part) for s in held_out}
    assert len({scene.worded(wording) for scene in held_out for wording in range(3)}) == 180


def test_pretraining_never_captions_a_held_out_scene():
    random, words = generator(9), [wording for wordings in MOTIONS.values() for wording in wordings]
    trained, seen = all_scenes(held_out=False), set()
    for _ in range(4):
        pictures, captions = pretrain_tiny_clip.draw_batch(trained, 256, random)
        assert pictures.shape == (256, 48, 48, 3) and len(captions) == 256
        seen.update(captions)
    moving = [caption for caption in seen if any(word in caption for word in words)]
    assert len(moving) > 200
    assert not [c for c in moving if any(f"{color} {shape}" in c for color, shape in HELD_OUT_OBJECTS)]


def test_written_videos_come_back(tmp_path):
    frames = draw_videos([Scene("green", "heart", "turning")], generator())[0].numpy()
    write_video(tmp_path / "clip.mp4", frames, fps=16)
    decoded, metadata = decode_video(tmp_path / "clip.mp4", range(32))
    assert (metadata.total_num_frames, metadata.fps, metadata.height, metadata.width) == (32, 16, 96, 96)
    assert np.abs(decoded.astype(int) - frames).mean() < 4
    assert (tmp_path / "clip.mp4").stat().st_size < 20_000
