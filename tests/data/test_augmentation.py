"""One draw for all frames of a clip, from the given generator alone; mixing with soft labels."""

import random

import numpy as np
import pytest
import torch
from drawn_clips import smooth_pictures as pictures
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vitaclip_hf import VitaClipVideoProcessor
from vitaclip_hf.data import augmentation
from vitaclip_hf.data.augmentation import ClipAugmentation, ClipMixer, draw_crop


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(size: int = 32, **settings) -> ClipAugmentation:
    """Nothing but the resizing of the whole of a square frame, unless told otherwise."""
    return ClipAugmentation(size, **{"rand_augment": None, "scale": (1, 1), "ratio": (1, 1), "flip": 0.0} | settings)


def to_bytes(pixels: torch.Tensor) -> torch.Tensor:
    """Normalised pixels back to 0 … 255."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (pixels * std + mean) * 255


# Clips


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_without_augmentation_it_is_the_video_processor(resample, antialias):
    frames = pictures(height=48, width=48)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "antialias": antialias}
    processor = VitaClipVideoProcessor(resample=Image.Resampling[resample.upper()], **size)
    expected = processor(frames, do_sample_frames=False, return_tensors="pt")["pixel_values_videos"][0]
    pixels = plain(resample=resample, antialias=antialias)(frames, seeded())
    assert pixels.is_contiguous()
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


def test_rand_augment_comes_first_as_in_the_released_code():
    """So the statistics and the warps are those of the whole frame."""
    frames = pictures()
    for seed in range(10):
        pixels = ClipAugmentation(32, rand_augment="rand-m7-n4-inc1", flip=0.0)(frames, seeded(seed))
        generator = seeded(seed)
        steps = augmentation.RandAugment.from_notation("rand-m7-n4-inc1").draw(generator)
        top, left, height, width = draw_crop(48, 64, (0.08, 1.0), (3 / 4, 4 / 3), generator)
        crop = augmentation.apply_steps(frames, steps)[..., top : top + height, left : left + width]
        square = v2.functional.resize(crop, [32, 32], interpolation=InterpolationMode.BICUBIC)
        assert (to_bytes(pixels) - square).abs().max() < 1.01


def test_larger_frames_are_resized_first():
    frames = pictures(height=96, width=128)
    smaller = v2.functional.resize(frames, [48, 64], interpolation=InterpolationMode.BICUBIC)
    augment = ClipAugmentation(32, shorter_side=48)
    assert augment(frames, seeded(1)).equal(ClipAugmentation(32)(smaller, seeded(1)))
    assert augment(smaller, seeded(1)).equal(ClipAugmentation(32)(smaller, seeded(1)))
    assert not augment(frames, seeded(1)).equal(ClipAugmentation(32)(frames, seeded(1)))


@pytest.mark.parametrize("seed", range(8))
def test_same_draw_for_all_frames_and_any_number_of_them(seed):
    augment, frames = ClipAugmentation(32, flip=0.5), pictures()
    still = augment(frames[:1].expand(5, -1, -1, -1), seeded(seed))
    assert still.equal(still[:1].expand_as(still))
    assert augment(frames[:1], seeded(seed)).equal(still[:1])
    assert augment(frames, seeded(seed))[:1].equal(still[:1])


def test_global_random_states_stay_and_do_not_matter():
    augment, mixer, frames = ClipAugmentation(32, flip=0.5), ClipMixer(3, mixup=0.8, cutmix=1.0), pictures()
    before = frames.clone()
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        generator = seeded()
        clips = torch.stack([augment(frames, generator) for _ in range(6)])
        results.append((clips, *mixer(clips, torch.arange(6) % 3, generator)))
        assert torch.get_rng_state().equal(states[0])
        assert np.array_equal(np.random.get_state()[1], states[1])
        assert random.getstate() == states[2]
    assert all(a.equal(b) for a, b in zip(*results, strict=True))
    assert frames.equal(before)


def test_flip():
    frames = pictures(height=32, width=32)
    assert plain(flip=1.0)(frames, seeded()).equal(plain()(frames, seeded()).flip(-1))
    unflipped = plain()(frames, seeded())
    flipped = [not plain(flip=0.5)(frames, seeded(seed)).equal(unflipped) for seed in range(200)]
    assert sum(flipped) == pytest.approx(100, abs=25)
    assert all(plain(flip=0.0)(frames, seeded(seed)).equal(unflipped) for seed in range(20))


@pytest.mark.parametrize(("height", "width"), [(48, 48), (10, 100), (100, 10), (1, 1), (3, 2)])
def test_crop_boxes_have_torchvisions_sizes(height, width):
    """For one area and one shape, fitting or not, where only the place is random."""
    for scale, ratio in (((0.25, 0.25), (1, 1)), ((1, 1), (0.75, 0.75)), ((1, 1), (2, 2)), ((0.5, 0.5), (3, 4))):
        ours = draw_crop(height, width, scale, ratio, seeded())
        theirs = v2.RandomResizedCrop(8, scale=scale, ratio=ratio).make_params([torch.zeros(3, height, width)])
        if ratio[0] == ratio[1]:
            # torchvision's box may come out without height; ours has at least a pixel.
            assert ours[2:] == (max(1, theirs["height"]), max(1, theirs["width"]))
        assert 0 <= ours[0] <= height - ours[2] and 0 <= ours[1] <= width - ours[3]


def test_crop_boxes_are_spread_like_torchvisions():
    theirs = v2.RandomResizedCrop(8)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    boxes = [theirs.make_params([torch.zeros(3, 48, 64)]) for _ in range(2000)]
    torch.set_rng_state(state)
    expected = np.array([[box[name] for name in ("top", "left", "height", "width")] for box in boxes])
    generator = seeded()
    ours = np.array([draw_crop(48, 64, (0.08, 1.0), (3 / 4, 4 / 3), generator) for _ in range(2000)])
    assert ours.mean(0) == pytest.approx(expected.mean(0), abs=1.2)
    assert ours.std(0) == pytest.approx(expected.std(0), abs=0.8)
    assert (ours[:, 0] + ours[:, 2]).max() == 48 and (ours[:, 1] + ours[:, 3]).max() == 64
    assert draw_crop(100, 10, (1, 1), (1, 1), seeded()) == (45, 0, 10, 10)  # none fits: the middle


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (300, 7)])
def test_odd_frames(shape):
    frames = torch.full((2, 3, *shape), 200, dtype=torch.uint8)
    for seed in range(20):
        pixels = ClipAugmentation(16, flip=0.5)(frames, seeded(seed))
        assert pixels.shape == (2, 3, 16, 16) and pixels.isfinite().all()


@pytest.mark.parametrize(
    "settings",
    [
        *({"size": 0}, {"shorter_side": 0}, {"scale": (0.5, 0.1)}, {"scale": (0.5, 1.5)}, {"scale": (0, 1)}),
        *({"ratio": (2, 1)}, {"flip": 1.2}, {"flip": -0.1}),
        *({"scale": (0.5, float("nan"))}, {"flip": float("nan")}, {"resample": "nearest"}),
    ],
)
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}`"):
        ClipAugmentation(**{"size": 8} | settings)


# Mixing


def batch(size: int = 2, classes: int = 4, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(size) % classes
    return torch.rand(size, 3, 3, side, side, generator=seeded(5)), labels


def test_soft_labels_by_hand():
    expected = torch.tensor([[0.925, 0.025, 0.025, 0.025], [0.025, 0.025, 0.025, 0.925]])
    labels = torch.tensor([0, 3])
    pixels = batch()[0]
    torch.testing.assert_close(ClipMixer(4, label_smoothing=0.1)(pixels, labels, seeded())[1], expected)
    assert ClipMixer(4)(pixels, labels, seeded())[1].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("kind", "share", "corner", "rest"),  # a quarter of the one before in each pixel, or in a quarter of the pixels
    [("MixUp", {"lam": 0.75}, [2, 3, 7], [2, 3, 7]), ("CutMix", {"lam_adjusted": 0.75}, [8, 0, 4], [0, 4, 8])],
)
def test_mixing_by_hand(monkeypatch, kind, share, corner, rest):
    monkeypatch.setattr(getattr(v2, kind), "make_params", lambda *arguments: share | {"box": (0, 0, 1, 1)})
    pixels = torch.tensor([0.0, 4.0, 8.0]).view(3, 1, 1, 1, 1).expand(3, 2, 3, 2, 2)
    mixed, labels = ClipMixer(3, **{kind.lower(): 1.0})(pixels, torch.tensor([0, 1, 2]), seeded())
    expected = torch.tensor(rest).view(3, 1, 1, 1, 1).repeat(1, 2, 3, 2, 2)
    expected[..., 0, 0] = torch.tensor(corner).view(3, 1, 1)
    assert mixed.tolist() == expected.tolist()
    assert labels.tolist() == [[0.75, 0, 0.25], [0.25, 0.75, 0], [0, 0.25, 0.75]]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_soft_labels_add_up_to_one(size, settings):
    pixels, labels = batch(size)
    before = pixels.clone()
    for smoothing in (0.0, 0.1, 1.0):
        mixer = ClipMixer(4, label_smoothing=smoothing, **settings)
        for seed in range(5):
            mixed, soft = mixer(pixels, labels, seeded(seed))
            assert mixed.shape == pixels.shape and soft.shape == (size, 4)
            torch.testing.assert_close(soft.sum(1), torch.ones(size))
            assert (soft >= 0).all()
            if size == 1 or not settings:
                torch.testing.assert_close(mixed, pixels)
    assert pixels.equal(before)


def test_how_often_and_how_much_is_mixed():
    pixels, labels = batch(classes=2, side=64)
    mixer, generator = ClipMixer(2, mixup=0.2, cutmix=1.0, probability=0.8), seeded()
    kinds, shares = [], []
    for _ in range(600):
        mixed, soft = mixer(pixels, labels, generator)
        changed = (mixed != pixels).float().mean().item()
        kinds.append("none" if mixed is pixels else "cutmix" if 0 < changed < 0.99 else "other")
        if kinds[-1] == "other":
            shares.append(soft[0, 0].item())
    assert kinds.count("none") / 600 == pytest.approx(0.2, abs=0.06)
    assert kinds.count("cutmix") / 600 == pytest.approx(0.4, abs=0.08)
    # Beta(0.2, 0.2): mean 1/2, variance 1 / (4 (2 * 0.2 + 1))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.var(shares) == pytest.approx(1 / 5.6, abs=0.04)


@pytest.mark.parametrize("settings", [{"mixup": float("nan")}, {"probability": 1.1}, {"label_smoothing": -0.1}])
def test_mixer_settings_out_of_range(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}`"):
        ClipMixer(4, **settings)
