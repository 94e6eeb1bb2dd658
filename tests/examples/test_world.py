"""The world of drawn things: splits, pictures, stills, videos; and a pretraining that goes on where it stopped."""

import json
import re
import zipfile

import pretrain_clip
import pytest
import torch
from make_world_videos import SAMPLES, write_videos
from world import DEMO_THINGS, MOTIONS, PICTURES, PLACES, Scene, darken_edges, draw_batch, draw_videos, letterboxed

from vitaclip_hf import decode_video


def test_parts_do_not_overlap(world):
    counts = {"trained": 400, "unseen pairs": 400, "unseen motions": 160, "unseen things": 329, "demo": 100}
    scenes = {part: world.scenes(part) for part in counts}
    assert {part: len(set(own)) for part, own in scenes.items()} == counts
    assert len({scene for own in scenes.values() for scene in own}) == sum(counts.values())
    trained = {scene.thing for scene in scenes["trained"]}
    assert len(trained) == 80 and not trained & {scene.thing for scene in scenes["unseen things"] + scenes["demo"]}
    assert {scene.motion for scene in scenes["trained"]}.isdisjoint({s.motion for s in scenes["unseen motions"]})
    assert set(SAMPLES) < set(scenes["demo"])
    with pytest.raises(ValueError, match="unknown part 'test'"):
        world.scenes("test")


def test_shipped_pictures_have_their_sources(world):
    with zipfile.ZipFile(PICTURES) as file:
        notice = file.read("NOTICE.txt").decode()
    assert "openmoji" not in world.styles and "SA" not in notice
    for style, licence in zip(world.styles, ("Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-4.0", "Apache-2.0"), strict=True):
        [line] = [line for line in notice.splitlines() if line.startswith(f"{style}:") and "github.com" in line]
        assert licence in line and f"@iconify-json/{style}" in line
    assert (world.drawn.sum(1) >= 2).all() and world.drawn[[world.number[name] for name in DEMO_THINGS], :3].all()


def test_batch_of_stills(world):
    pictures, captions, things, shown = draw_batch(world, torch.Generator().manual_seed(3))
    again, same, *_ = draw_batch(world, torch.Generator().manual_seed(3))
    assert torch.equal(pictures, again) and captions == same
    assert len(pictures) == len(captions) == len(set(captions)) == len(things) == 126
    words = {name: {name, *world.words[name]} for name in things}
    assert all(any(word in caption for word in words[thing]) for caption, thing in zip(captions, things, strict=True))
    wordings = [wording for motion in MOTIONS.values() for wording in motion]
    moving = [text for text in captions if any(wording in text for wording in wordings)]
    assert len(moving) == 72 and not [text for text in moving if any(f"{name} " in text for name in DEMO_THINGS)]
    assert all(text.rstrip(".").endswith(MOTIONS[motion]) for motion, text in zip(shown, moving, strict=False))
    placed = [(place, text) for place, text in zip(shown, captions, strict=True) if re.search("(at|on|in) the ", text)]
    assert len(placed) >= 18 and all(place in PLACES and text.rstrip(".").endswith(place) for place, text in placed)
    pictures, captions, things, _ = draw_batch(world, torch.Generator().manual_seed(3), ease=1.0)
    assert len(pictures) == len(set(things)) == 126
    assert not [text for text in captions if re.search("big |small | (at|on|in) the ", text)]
    border = pictures[:, 2, 3:-3].float()  # a thing upright in the middle leaves it plain
    assert (border.amax(1) - border.amin(1)).max() < 50


def test_bars_and_dark_edges():
    white = torch.full((200, 2, 40, 40, 3), 255, dtype=torch.uint8)
    boxed = letterboxed(white[:1])
    assert boxed.shape == (1, 2, 360, 640, 3) and (boxed[..., 140:500, :] == 255).all()
    assert not boxed[..., :140, :].any() and not boxed[..., 500:, :].any()
    videos = darken_edges(white, torch.Generator().manual_seed(0))
    dark = videos < 255
    assert not dark[:, :, 3:37, 3:37].any() and (dark[:, 0] == dark[:, 1]).all()  # a twentieth of 40 is 2
    columns, rows = dark[:, 0, 20, :, 0].any(1), dark[:, 0, :, 20, 0].any(1)
    assert not (columns & rows).any() and 30 < columns.sum() < 70 and 30 < rows.sum() < 70


def centres(frames: torch.Tensor) -> torch.Tensor:
    """Where the frames differ from their corner-to-corner background, `(num_frames, 2)`: x and y in 0 … 1."""
    plain = frames.float().median(0).values
    changed = (frames.float() - plain).abs().sum(-1) > 60
    grid = torch.arange(frames.shape[1]) / frames.shape[1]
    mass = changed.sum((1, 2)).clamp(min=1)
    return torch.stack([(changed.sum(1) * grid).sum(1) / mass, (changed.sum(2) * grid).sum(1) / mass], 1)


def test_things_move_as_labels_say(world, tmp_path):
    scenes = [Scene("rocket", motion) for motion in ("left", "right", "up", "down", "blinking")]
    drawn = draw_videos(world, scenes, torch.Generator().manual_seed(0))
    way = torch.stack([centres(video)[-4:].mean(0) - centres(video)[:4].mean(0) for video in drawn[:4]])
    assert way[0, 0] < -0.1 and way[1, 0] > 0.1 and way[2, 1] < -0.1 and way[3, 1] > 0.1
    assert way[:2, 1].abs().max() < 0.1 and way[2:, 0].abs().max() < 0.1
    steps = (drawn[4, 1:].int() - drawn[4, :-1].int()).abs().amax((1, 2, 3))
    assert 1 <= (steps > 60).sum() <= 8 and (steps == 0).sum() >= 20
    files = write_videos(world, scenes[:1], tmp_path, copies=1, seed=0)
    assert [(path.parent.name, label) for path, label in files] == [("rocket moving left", "rocket moving left")]
    stored, metadata = decode_video(files[0][0], range(32))
    expected = draw_videos(world, scenes[:1], torch.Generator().manual_seed(0))[0]
    assert (metadata.total_num_frames, metadata.fps, metadata.height, metadata.width) == (32, 16, 160, 160)
    assert (torch.from_numpy(stored).float() - expected.float()).abs().mean() < 4
    assert files[0][0].stat().st_size < 20_000


def test_pretraining_goes_on_where_it_stopped(world, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_clip, "World", lambda *files: world)
    monkeypatch.setattr(pretrain_clip, "evaluate", lambda *_: {"name, noto": 0.5})
    batches, calls = {}, []

    def some_stills(world, generator, size, ease):
        """The same ones for the same seed, drawn once."""
        calls.append(seed := generator.initial_seed())
        if len(calls) == 2:
            raise KeyboardInterrupt
        if seed not in batches:
            batches[seed] = [part[::10] for part in draw_batch(world, generator, size, ease)]
        return batches[seed]

    monkeypatch.setattr(pretrain_clip, "draw_batch", some_stills)

    def train(folder):
        pretrain_clip.main(
            ["--output", str(tmp_path / folder), "--steps=3", "--cool-down=1", "--alone=1", "--save-every=1"]
        )
        return torch.load(tmp_path / folder / "state.pt", weights_only=True)["model"]

    with pytest.raises(KeyboardInterrupt):
        train("parts")
    parts = train("parts")
    log = json.loads((tmp_path / "parts" / "pretraining_log.json").read_text())
    assert [entry["step"] for entry in log] == [1, 2, 3] and log[2]["name, noto"] == 0.5 and len(calls) == 4
    whole = train("whole")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
