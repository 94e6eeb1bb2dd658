"""RandAugment on clips against timm's, which works on Pillow images."""

import random

import numpy as np
import pytest
import torch
from drawn_clips import smooth_pictures as pictures
from PIL import Image
from timm.data import auto_augment as timm_augment

from vitaclip_hf.data.rand_augment import INCREASING, OPERATIONS, PLAIN, RandAugment, Step, apply_steps


PAPER = "rand-m7-n4-mstd0.5-inc1"
WARPS = [name for name, operation in OPERATIONS.items() if operation.kind == "warp"]


def by_timm(frames, name, magnitude, sign, resample, monkeypatch) -> np.ndarray:
    monkeypatch.setattr(timm_augment, "_randomly_negate", lambda value: sign * value)
    settings = {"img_mean": (128, 128, 128), "interpolation": resample}
    operation = timm_augment.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=settings)
    return np.stack([np.asarray(operation(Image.fromarray(frame.permute(1, 2, 0).numpy()))) for frame in frames])


def difference(frames: torch.Tensor, expected: np.ndarray) -> np.ndarray:
    return np.abs(frames.permute(0, 2, 3, 1).numpy().astype(int) - expected.astype(int))


def keeps_bits(name: str, magnitude: float) -> bool:
    """For no bits at all, as timm asks for at an end of Posterize, new Pillows raise an error."""
    return "Posterize" not in name or OPERATIONS[name].argument(magnitude / 10, 1) >= 1


CASES = [(name, magnitude) for name in OPERATIONS for magnitude in (0, 3, 7, 10) if keeps_bits(name, magnitude)]


@pytest.mark.parametrize(("name", "magnitude"), CASES)
def test_operation_is_timms(name, magnitude, monkeypatch):
    """Within 1: Pillow truncates where torchvision rounds. Warps bilinear, where both mean the same by it."""
    noise = torch.randint(0, 256, (2, 3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    exact = OPERATIONS[name].argument(0.5, 1) == 0 or name.startswith(("Posterize", "Solarize", "Brightness"))
    for frames in (pictures(), noise):
        for sign in (1, -1):
            expected = by_timm(frames, name, magnitude, sign, Image.Resampling.BILINEAR, monkeypatch)
            step = Step(name, OPERATIONS[name].argument(magnitude / 10, sign))
            assert difference(apply_steps(frames, [step], resample="bilinear"), expected).max() <= (0 if exact else 1)


@pytest.mark.parametrize("name", WARPS)
def test_bicubic_warp_is_close_to_timms(name, monkeypatch):
    """The cubics differ (slope -0.75 in torch, -1 in Pillow): by 3 of 255 at most on smooth frames."""
    frames = pictures()
    for sign in (1, -1):
        expected = by_timm(frames, name, 7, sign, Image.Resampling.BICUBIC, monkeypatch)
        apart = difference(apply_steps(frames, [Step(name, OPERATIONS[name].argument(0.7, sign))]), expected)
        assert apart.max() <= 3
        assert apart.mean() < 0.7


def test_the_ends_of_posterize_and_solarize():
    frames = pictures()
    assert apply_steps(frames, [Step("PosterizeIncreasing", 0)]).max() == 0
    assert apply_steps(frames, [Step("PosterizeIncreasing", -2)]).max() == 0  # `mmax` above 10
    assert apply_steps(frames, [Step("SolarizeIncreasing", 256)]).equal(frames)
    assert apply_steps(frames, [Step("SolarizeIncreasing", 0)]).equal(255 - frames)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", OPERATIONS)
def test_memory_layout_does_not_matter_and_frames_stay(name, layout):
    frames = pictures().contiguous(memory_format=layout)
    before = frames.clone()
    step = Step(name, OPERATIONS[name].argument(0.7, 1))
    together = apply_steps(frames, [step])
    assert frames.equal(before)
    assert together.dtype == torch.uint8
    alone = torch.cat([apply_steps(frame[None].contiguous(), [step]) for frame in before])
    assert together.equal(alone)


@pytest.mark.parametrize("box", [(0, 0, 48, 64), (5, 9, 20, 31), (47, 63, 1, 1)])
def test_box_equals_a_crop_afterwards(box):
    frames, settings = pictures(), RandAugment.from_notation(PAPER)
    top, left, height, width = box
    drawn = [settings.draw(torch.Generator().manual_seed(seed)) for seed in range(15)]
    for steps in drawn + [[Step(name, OPERATIONS[name].argument(0.7, 1))] for name in OPERATIONS]:
        whole = apply_steps(frames, steps)
        assert apply_steps(frames, steps, box).equal(whole[..., top : top + height, left : left + width])
    assert apply_steps(frames, [], box).equal(frames[..., top : top + height, left : left + width])


def test_steps_apply_in_their_order():
    frames = pictures()
    invert, add = Step("Invert", 0), Step("SolarizeAdd", 77)
    inverted = 255 - frames
    assert apply_steps(frames, [invert, add]).equal(torch.where(inverted < 128, inverted + 77, inverted))
    added = torch.where(frames < 128, frames + 77, frames)
    assert apply_steps(frames, [add, invert]).equal(255 - added)


NOTATIONS = ["rand", PAPER, "rand-m9-n3-mstd0.5", "rand-n1-m5-p0.3-mmax20", "rand-mstd101-inc1", "rand-inc0-p1-m0"]


@pytest.mark.parametrize("notation", NOTATIONS)
def test_notation_is_timms(notation):
    ours = RandAugment.from_notation(notation)
    theirs = timm_augment.rand_augment_transform(notation, {})
    operation = theirs.ops[0]
    assert ours.num_operations == theirs.num_layers
    assert ours.magnitude == operation.magnitude
    assert ours.probability == operation.prob
    assert ours.magnitude_std == operation.magnitude_std
    assert RandAugment.from_notation("rand-mstdinf").magnitude_std == float("inf")
    assert ours.max_magnitude == (operation.magnitude_max or 10)
    assert sorted(INCREASING if ours.increasing else PLAIN) == sorted(op.name for op in theirs.ops)


@pytest.mark.parametrize(
    ("notation", "token"),
    [
        *((notation, "is not RandAugment's notation") for notation in ("augmix-m3", "")),
        ("rand-m7-w0", "'w0' in 'rand-m7-w0'; known are m, n, p, mstd, mmax, inc"),
        *((f"rand-{part}", f"part '{part}'") for part in ("tweights", "m", "", "m7x")),
        ("rand-n-1", "part 'n'"),
        ("rand-m7-m9", "repeated part 'm9'"),
        *((f"rand-{part}", f"'{part}' .* must be a whole number") for part in ("m7.5", "minf", "inc2", "mmax0")),
        *((f"rand-{part}", "from 0 to 1") for part in ("p1.5", "pinf", "inc2")),
    ],
)
def test_invalid_notation(notation, token):
    with pytest.raises(ValueError, match=token) as error:
        RandAugment.from_notation(notation)
    assert "\n" not in str(error.value)


def draws(notation: str, count: int) -> list[list[Step]]:
    generator = torch.Generator().manual_seed(0)
    settings = RandAugment.from_notation(notation)
    return [settings.draw(generator) for _ in range(count)]


def rotations(notation: str, count: int) -> np.ndarray:
    """The angles in degrees of all rotations of some draws."""
    return np.array([step.argument for clip in draws(notation, count) for step in clip if step.name == "Rotate"])


def test_how_often_operations_are_drawn():
    clips = draws(PAPER, 3000)
    steps = [step for clip in clips for step in clip]
    assert len(steps) / 12000 == pytest.approx(0.5, abs=0.02)  # standard error 0.005
    assert max(map(len, clips)) == 4
    assert min(map(len, clips)) == 0
    for name in INCREASING:
        assert sum(step.name == name for step in steps) / len(steps) == pytest.approx(1 / 15, abs=0.015)
    assert any(len({step.name for step in clip}) < len(clip) for clip in clips)  # with replacement


def test_magnitudes_are_noisy_and_signed_as_in_timm():
    """Rotations of 3000 draws against as many of timm's, by their quantiles."""
    degrees = rotations("rand-m7-n15-p1-mstd0.5-inc1", 3000)
    state = random.getstate()
    random.seed(0)
    noise = [max(0.0, min(random.gauss(7, 0.5), 10.0)) for _ in range(3000)]
    theirs = [timm_augment._rotate_level_to_arg(magnitude, {})[0] for magnitude in noise]
    random.setstate(state)
    quantiles = [0.1, 0.25, 0.4, 0.6, 0.75, 0.9]
    assert np.quantile(degrees, quantiles) == pytest.approx(np.quantile(theirs, quantiles), abs=0.4)


def test_uniform_magnitudes_and_clipping():
    degrees = np.abs(rotations("rand-m10-n15-p1-mstdinf", 1000))
    assert np.mean(degrees) == pytest.approx(15, abs=1.5)
    assert np.std(degrees) == pytest.approx(30 / 12**0.5, abs=1)
    for notation, top in (("rand-m10-n15-p1-mstd5", 30), ("rand-m20-n15-p1-mmax20", 60)):
        assert np.abs(rotations(notation, 300)).max() == pytest.approx(top)
