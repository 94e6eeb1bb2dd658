"""The paper in miniature: what is drawn, trained and judged is what is said, and an interrupted set continues."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import miniature
import miniature_report as report
import pytest
import torch
from miniature import Results, Setting, Study, main
from miniature_systems import SYSTEMS, World, build, count_trained
from miniature_world import (
    OBJECTS,
    SPLITS,
    TRAINED_MOTIONS,
    TRAINED_OBJECTS,
    UNSEEN_MOTIONS,
    UNSEEN_OBJECTS,
    Scene,
    scenes_of,
)

from vitaclip_hf.data.motion_shapes import MOTIONS


ROOT = Path(__file__).parents[2]
MINIATURE = ROOT / "examples" / "miniature"
COPIES = ("train", "validation", "trained", "objects", "motions", "both")
TINY = Setting(
    steps=4, batch=4, points=2, precision="float32", stills=1, **dict.fromkeys((f"{kind}_copies" for kind in COPIES), 1)
)
TINY_FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(TINY).items()]


@pytest.fixture(scope="module")
def world() -> World:
    return World(MINIATURE / "clip")


@pytest.fixture(scope="module")
def study(world) -> Study:
    return Study(world, TINY)


def test_splits_by_hand():
    sizes = {name: len(scenes_of(name)) for name in SPLITS}
    assert sizes == {"trained": 6 * 6, "objects": 12 * 6, "motions": 6 * 4, "both": 12 * 4}
    assert sorted(TRAINED_MOTIONS + UNSEEN_MOTIONS) == sorted(MOTIONS)
    assert not set(TRAINED_OBJECTS) & set(UNSEEN_OBJECTS) and set(TRAINED_OBJECTS + UNSEEN_OBJECTS) < set(OBJECTS)
    assert Scene("star", "left").wordings == ["star moving left", "star going to the left", "star sliding left"]


# By hand: vision width 96 and 4 layers, text width 64 and 3 layers, joint width 64, 8 frames, 36 classes, 4 context
# tokens, 5 x 5 patches of 8 pixels.
GLOBAL = LOCAL = 4 * 8 * 96
TIME, SCALE = 8 * 96, 1
PROJECTION = 4 * (96 * 96 + 96)
SUMMARY = 4 * (4 * (96 * 96 + 96) + 2 * 96)
CONTEXTS = 36 * 4 * 64
LAYER = {width: 4 * (width * width + width) + 8 * width * width + 5 * width + 4 * width for width in (64, 96)}
TEMPORAL = 8 * 64 + 2 * LAYER[64]
CLIP_VISION = 96 + 3 * 8 * 8 * 96 + 26 * 96 + 4 * 96 + 4 * LAYER[96] + 96 * 64
CLIP_TEXT = 32 * 64 + 2 * 64 + 3 * LAYER[64] + 64 * 64
MESSAGE = 4 * (5 * (96 * 96 + 96) + 2 * 96)
GENERATOR_LAYER = 4 * 64 * 64 + 64 + 4 * 64 + (64 * 256 + 256) + (256 * 64 + 64)
GENERATOR = 2 * 96 + 96 * 64 + 2 * 64 + 64 + 2 * GENERATOR_LAYER
MULTIFRAME = 8 * 64 + LAYER[64]


def trained_parameters(words: int) -> dict[str, int]:
    clip = CLIP_VISION + CLIP_TEXT + words * 64 + SCALE
    vision = TIME + GLOBAL + LOCAL + PROJECTION + SUMMARY + SCALE
    return {
        "frozen": 0,
        "linear": 96 * 36 + 36,
        "contexts": CONTEXTS + SCALE,
        "a5": 8 * 64 + TEMPORAL + SCALE,
        "vifi": clip,
        "actionclip": clip + TEMPORAL,
        "xclip": clip + MESSAGE + MULTIFRAME + GENERATOR,
        "global": TIME + GLOBAL + SCALE,
        "local": TIME + GLOBAL + LOCAL + PROJECTION + SCALE,
        "vision": vision,
        **dict.fromkeys(("all", "distilled", "penalised"), vision + CONTEXTS),
    }


@pytest.mark.parametrize("name", SYSTEMS)
def test_trained_parameters_by_hand(name, world):
    assert count_trained(build(name, world, seed=0)) == trained_parameters(len(world.tokenizer))[name]


@torch.no_grad()
def test_temporal_systems_see_the_order_of_frames_and_averaging_ones_do_not(world, study):
    pixels = study.draws.train.batch(torch.tensor([3, 25]), False)
    positions = {"all": "time_embedding.weight", "xclip": "mit.position_embedding", "actionclip": "temporal.position"}
    for name in ("vifi", *positions):
        system = build(name, world, 0)
        for parameter, values in system.named_parameters():
            if parameter.endswith(positions.get(name, "nothing")):
                values.normal_()  # they start at zero or near it
        same = torch.allclose(system(pixels, "both"), system(pixels.flip(1), "both"), atol=1e-4)
        assert same != (name in positions), name


def without_times(records: list[dict]) -> list[dict]:
    drop = ("date", "seconds", "cpu_seconds")
    kept = [{k: v for k, v in record.items() if k not in drop} for record in records]
    for record in kept:
        record["curve"] = [{k: v for k, v in p.items() if k != "train_cpu_seconds"} for p in record["curve"]]
    return sorted(kept, key=lambda record: (record["phase"], record["system"], record["seed"], record["lr"] or 0))


def test_interrupted_set_continues_where_it_was_and_ends_the_same(study, tmp_path, monkeypatch):
    monkeypatch.setattr(miniature, "Study", lambda world, setting: study)
    monkeypatch.setattr(miniature, "LARGEST_GRID", 4)
    flags = [*TINY_FLAGS, "--only", "frozen", "linear", "--seeds", "0", "1"]
    main([*flags, "--output", str(tmp_path / "whole")])
    whole = json.loads((tmp_path / "whole" / "results.json").read_text())["records"]
    assert [(r["phase"], r["seed"]) for r in whole] == [("run", 0), *[("search", 99)] * 4, ("run", 0), ("run", 1)]
    assert whole[-1]["curve"][-1]["objects"] is None and whole[-1]["trained_parameters"] == 96 * 36 + 36
    assert [point["step"] for point in whole[-1]["curve"]] == [2, 4]
    assert {"date", "revision", "versions", "machine", "seconds"} <= set(whole[-1])

    trained, train = [], study.train

    def killed(*arguments, **keywords):
        trained.append(arguments)
        if len(trained) == 5:
            raise KeyboardInterrupt
        return train(*arguments, **keywords)

    monkeypatch.setattr(study, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        main([*flags, "--output", str(tmp_path / "again")])
    assert len(Results(tmp_path / "again", TINY).read()) == 5
    main([*flags, "--output", str(tmp_path / "again")])
    assert len(trained) == 7  # only the run that was killed is done again
    assert without_times(Results(tmp_path / "again", TINY).read()) == without_times(whole)
    assert report.systems_table(whole, ["frozen"]).splitlines()[2].startswith("| Frozen CLIP | 0 | ")


def test_intervals_by_hand():
    # Student's t for one degree of freedom is 12.706; the standard deviation of 0.60 and 0.64 is 0.0283.
    assert report.interval([0.60, 0.64]) == pytest.approx((0.62, 12.706 * 0.02828427 / 2**0.5))
    middle, width = report.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (middle, width) == pytest.approx((3.0, 2.776 * 1.5811388 / 5**0.5))
    low, high = report.fresh_run([0.50, 0.51, 0.52, 0.53, 0.54])
    assert (high - low) / 2 == pytest.approx(2.776 * 0.015811388 * (1.2) ** 0.5)
    assert report.fresh_run([0.5]) is None and math.isnan(report.interval([0.5])[1])
