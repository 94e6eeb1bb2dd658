"""The paper in miniature: what is drawn, trained and judged is what is said, and an interrupted set continues."""

import json
import math
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import miniature
import miniature_report as report
import pytest
import torch
from miniature import AveragedWeights, Clips, Job, MiniatureError, Results, Setting, Study, accuracy, draw, main
from miniature_systems import REWORDED, SYSTEMS, XCLIP_NEW_PARTS, World, build, count_trained
from miniature_world import (
    BACKGROUNDS,
    OBJECTS,
    SPLITS,
    TRAINED_MOTIONS,
    TRAINED_OBJECTS,
    UNSEEN_MOTIONS,
    UNSEEN_OBJECTS,
    Scene,
    draw_clips,
    draw_stills,
    scenes_of,
)
from transformers import CLIPModel

from vitaclip_hf.data.motion_shapes import MOTIONS


ROOT = Path(__file__).parents[2]
MINIATURE = ROOT / "examples" / "miniature"
TINY = Setting(
    steps=4,
    batch=4,
    points=2,
    precision="float32",
    train_copies=1,
    validation_copies=1,
    trained_copies=1,
    objects_copies=1,
    motions_copies=1,
    both_copies=1,
    stills=1,
)
TINY_FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(TINY).items()]


@pytest.fixture(scope="module")
def world() -> World:
    return World(MINIATURE / "clip")


@pytest.fixture(scope="module")
def study(world) -> Study:
    return Study(world, TINY)


# --- The world -------------------------------------------------------------------------------------------------------


def test_splits_by_hand():
    assert {name: len(scenes_of(name)) for name in SPLITS} == {
        "trained": 6 * 6,
        "objects": 12 * 6,
        "motions": 6 * 4,
        "both": 12 * 4,
    }
    assert sorted(TRAINED_MOTIONS + UNSEEN_MOTIONS) == sorted(MOTIONS)
    assert not set(TRAINED_OBJECTS) & set(UNSEEN_OBJECTS) and set(TRAINED_OBJECTS + UNSEEN_OBJECTS) < set(OBJECTS)
    assert Scene("star", "left").wordings == ["star moving left", "star going to the left", "star sliding left"]


def polygon_area(corners) -> float:
    x, y = corners[:, 0], corners[:, 1]
    return abs(sum(x * y.take(range(1, len(y) + 1), mode="wrap") - y * x.take(range(1, len(x) + 1), mode="wrap"))) / 2


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_objects_cover_the_area_of_their_outline(name):
    """Against the shoelace formula; a hole of the moon reaches out of it, so that one is left to the next test."""
    if name == "moon":
        return
    outline, *holes = OBJECTS[name]
    expected = polygon_area(outline) - sum(polygon_area(hole) for hole in holes)
    size, radius = 96, 0.4
    covered = coverage(name, size, radius)
    assert covered / (radius * size) ** 2 == pytest.approx(expected, rel=0.04)


def test_moon_is_a_disc_without_another():
    """Area of a circle of radius 0.95 less its lens with one of 0.78 whose centre is 0.5 away."""
    r, s, d = 0.95, 0.78, 0.5
    lens = (
        r * r * math.acos((d * d + r * r - s * s) / (2 * d * r))
        + s * s * math.acos((d * d + s * s - r * r) / (2 * d * s))
        - 0.5 * math.sqrt((-d + r + s) * (d + r - s) * (d - r + s) * (d + r + s))
    )
    assert coverage("moon", 96, 0.4) / (0.4 * 96) ** 2 == pytest.approx(math.pi * r * r - lens, rel=0.04)


def coverage(name: str, size: int, radius: float) -> float:
    from miniature_world import Poses, _shades

    one = torch.ones(1, 1)
    covered, _ = _shades([name], ["plain"], Poses(one / 2, one / 2, one * radius, one * 0, one), size)
    return covered.sum().item()


def centres(clip: torch.Tensor) -> torch.Tensor:
    """x and y of the pixels that change in a clip `[T, S, S, 3]`, weighted by how bright they are: `[T, 2]`."""
    bright = (clip.float() - clip.float().amin(0)).sum(-1)  # without what stands still
    axis = torch.arange(clip.shape[1]).float()
    mass = bright.sum((1, 2))
    return torch.stack([(bright.sum(1) * axis).sum(1) / mass, (bright.sum(2) * axis).sum(1) / mass], 1)


@pytest.mark.parametrize("motion, axis, sign", [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)])
def test_objects_move_as_their_class_says(motion, axis, sign):
    clips = draw_clips(
        [Scene("star", motion)] * 6, torch.Generator().manual_seed(0), miniature.even_moments(8), size=48
    )
    for clip in clips:
        way = centres(clip)
        assert sign * (way[-1] - way[0])[axis] > 4 and abs((way[-1] - way[0])[1 - axis]) < 2


def test_background_tells_the_motion_in_training_alone():
    """The median colour of a clip is its background; without the shortcut it is any of the six."""

    def grounds(shortcut: float) -> torch.Tensor:
        scenes = [Scene("star", motion) for motion in TRAINED_MOTIONS] * 30
        clips = draw_clips(scenes, torch.Generator().manual_seed(1), miniature.even_moments(2), shortcut=shortcut)
        return clips.flatten(1, 3).float().median(1).values.unflatten(0, (30, 6))  # [30, motions, 3]

    told, free = grounds(1.0), grounds(0.0)
    # Backgrounds differ by about 10 in a colour for one motion, and by much more over all six.
    assert told.std(0).max() < 15 < free.std(0).max()
    assert len(BACKGROUNDS) == len(TRAINED_MOTIONS)


def test_stills_have_captions_that_differ():
    stills = draw_stills(torch.Generator().manual_seed(5))
    assert {kind: len(part.captions) for kind, part in stills.items()} == {"motion": 120, "rest": 72, "pair": 64}
    for part in stills.values():
        assert len(set(part.captions)) == len(part.captions) == len(part.pictures)
    # Row by row: twelve objects in the order of MOTIONS.
    for row, caption in enumerate(stills["motion"].captions):
        assert any(wording in caption for wording in list(MOTIONS.values())[row % 10])


def test_draws_are_the_same_again_and_other_for_another_seed():
    first, labels = draw("trained", 1, 7)
    assert torch.equal(first, draw("trained", 1, 7)[0]) and not torch.equal(first, draw("trained", 1, 8)[0])
    assert labels.tolist() == list(range(36)) and first.shape == (36, 8, 40, 40, 3)


# --- The systems -----------------------------------------------------------------------------------------------------

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


def test_every_tuned_system_has_four_rates_over_a_decade_and_a_half():
    for spec in SYSTEMS.values():
        if isinstance(spec.lrs, tuple) and spec.trained:
            assert len(spec.lrs) == 4 and spec.lrs[-1] / spec.lrs[0] == pytest.approx(30, rel=0.15)
    assert {spec.lrs for spec in SYSTEMS.values() if isinstance(spec.lrs, str)} == {"all", "vision"}


def clips_of_two(study: Study, on_features: bool = False) -> torch.Tensor:
    return study.draws.train.batch(torch.tensor([3, 25]), on_features)


@torch.no_grad()
@pytest.mark.parametrize("texts", ["trained", "both"])
def test_frozen_and_fine_tuned_clip_start_as_clip_with_averaged_frames(texts, world, study):
    clip, pixels = CLIPModel.from_pretrained(world.clip), clips_of_two(study)
    tokens = world.tokenizer(world.texts[texts], padding=True, return_tensors="pt")
    expected = []
    for video in pixels:
        video = clip.visual_projection(clip.vision_model(video).pooler_output).mean(0)
        text = clip.text_projection(clip.text_model(**tokens).pooler_output)
        expected.append(torch.cosine_similarity(video[None], text) * clip.logit_scale.exp())
    expected = torch.stack(expected)
    torch.testing.assert_close(build("vifi", world, 0)(pixels, texts), expected, atol=2e-4, rtol=1e-5)
    frozen = build("frozen", world, 0)
    torch.testing.assert_close(frozen(clips_of_two(study, True), texts), expected, atol=2e-4, rtol=1e-5)
    # Plain features of Vita-CLIP, which a blend and a teacher use, are the same.
    vita = build("all", world, 0)
    torch.testing.assert_close(
        vita.scores(vita.video_embeds(pixels, plain=True), world.plain(texts)), expected, atol=2e-4, rtol=1e-5
    )


@torch.no_grad()
def test_contexts_only_change_trained_classes_and_a5_serves_new_names(world, study):
    features = clips_of_two(study, True)
    frozen, contexts, a5 = (build(name, world, 0) for name in ("frozen", "contexts", "a5"))
    contexts.model.class_prompts.context.normal_()
    assert torch.equal(contexts(features, "both"), frozen(features, "both"))
    assert not torch.allclose(contexts(features, "trained"), frozen(features, "trained"))
    before = a5(features, "both")
    assert before.shape == (2, 48)
    a5.model.class_prompts.context.normal_()
    assert not torch.allclose(a5(features, "both"), before)


@torch.no_grad()
def test_temporal_systems_see_the_order_of_frames_and_averaging_ones_do_not(world, study):
    pixels = clips_of_two(study)
    positions = {"all": "time_embedding.weight", "xclip": "mit.position_embedding", "actionclip": "temporal.position"}
    for name in ("vifi", *positions):
        system = build(name, world, 0)
        for parameter, values in system.named_parameters():
            if parameter.endswith(positions.get(name, "nothing")):
                values.normal_()  # they start at zero or near it
        same = torch.allclose(system(pixels, "both"), system(pixels.flip(1), "both"), atol=1e-4)
        assert same != (name in positions), name


def test_xclip_takes_all_of_clip_and_starts_its_own_parts_as_its_authors_do(world):
    xclip, clip = build("xclip", world, 0).model, CLIPModel.from_pretrained(world.clip)
    ours = {name.replace("pre_layernorm", "pre_layrnorm"): weight for name, weight in xclip.state_dict().items()}
    assert all(torch.equal(ours[name], weight) for name, weight in clip.state_dict().items())
    assert torch.equal(xclip.prompts_generator.alpha, torch.full((64,), 0.1))
    for parameter in (xclip.mit.position_embedding, xclip.prompts_generator.decoder[0].mlp[0].weight):
        assert 0.015 < parameter.std() < 0.025


def test_xclip_trains_its_new_parts_ten_times_faster(world):
    system = build("xclip", world, 0)
    old, new = system.parameter_groups(0.5)
    assert (old["lr"], new["lr"]) == (0.5, 5.0)
    assert sum(p.numel() for p in new["params"]) == MESSAGE + MULTIFRAME + GENERATOR
    assert len(old["params"]) + len(new["params"]) == len(list(system.parameters()))
    assert XCLIP_NEW_PARTS == ("message_", "mit.", "prompts_")


def test_losses_of_the_options_by_hand(world, study):
    clips, labels = clips_of_two(study), torch.tensor([3, 25])
    plain, distilled, penalised = (build(name, world, 0) for name in ("all", "distilled", "penalised"))
    for system in (plain, distilled, penalised):
        with torch.no_grad():
            system.model.class_prompts.context.add_(0.05)
            system.model.vision_model.encoder.layers[0].prompts.global_prompts.add_(0.3)
    base = torch.nn.functional.cross_entropy(plain(clips, "trained"), labels)
    assert plain.loss(clips, labels).item() == pytest.approx(base.item(), rel=1e-5)
    with torch.no_grad():
        videos, teacher = plain.video_embeds(clips), plain.video_embeds(clips, plain=True)
        classes = torch.nn.functional.normalize(plain.class_embeds("trained"), dim=-1)
        names = world.plain("trained")
    far = ((videos - teacher) ** 2).sum(-1).mean().item()
    strayed = ((classes - names) ** 2).sum(-1).mean().item()
    assert min(far, strayed) > 1e-4
    assert distilled.loss(clips, labels).item() == pytest.approx(base.item() + 2 * far, rel=1e-4)
    assert penalised.loss(clips, labels).item() == pytest.approx(base.item() + 8 * strayed, rel=1e-4)


def test_several_wordings_are_averaged_and_normalised_again(world):
    clip = CLIPModel.from_pretrained(world.clip)
    texts = world.tokenizer(Scene("star", "right").wordings, padding=True, return_tensors="pt")
    with torch.no_grad():
        embeds = clip.get_text_features(**texts).pooler_output
    mean = sum(embed / embed.norm() for embed in embeds)
    row = scenes_of("motions").index(Scene("star", "right"))
    torch.testing.assert_close(world.plain("motions" + REWORDED)[row], mean / mean.norm(), atol=1e-5, rtol=1e-5)


# --- Training and testing --------------------------------------------------------------------------------------------


def test_order_goes_through_all_clips_before_it_repeats_any():
    order = miniature.draw_order(5, 12, seed=3)
    assert sorted(order[:5].tolist()) == sorted(order[5:10].tolist()) == [0, 1, 2, 3, 4] and len(order) == 12
    assert not torch.equal(order[:5], order[5:10])


def test_curve_doubles_its_steps():
    assert Setting(steps=2400, points=5).curve == [150, 300, 600, 1200, 2400]


class Guesses(torch.nn.Module):
    """Says 0 to the first 15 of 48 clips and the truth to the others."""

    on_features = False

    def forward(self, clips, texts):
        return torch.nn.functional.one_hot(torch.tensor([0] * 15 + list(range(15, 48))), 48).float()


def test_accuracy_counts_every_clip(world):
    clips = Clips(world, "both", torch.zeros(96, 1, 4, 4, 3, dtype=torch.uint8), torch.arange(96) % 48)
    assert accuracy(Guesses(), [clips, clips], TINY) == pytest.approx(34 / 48)  # the first clip shows class 0


def test_averaged_weights_by_hand():
    line = torch.nn.Linear(1, 1, bias=False)
    line.world = None
    average = AveragedWeights(line)
    for value in range(1, 17):
        line.weight.data.fill_(float(value))
        average.update()
    # The first eight steps are taken whole; then each new weight counts 8 / n.
    expected = 8.0
    for n in range(9, 17):
        expected += 8 / n * (n - expected)
    assert average.averaged().weight.item() == pytest.approx(expected)
    assert line.weight.item() == 16


def test_training_leaves_the_frozen_part_alone_and_lowers_the_loss(world):
    study = Study(world, replace(TINY, steps=24, points=1))
    before = {name: value.clone() for name, value in CLIPModel.from_pretrained(world.clip).state_dict().items()}
    record = study.train("global", 1e-2, 0, tested=True)
    start = build("global", world, 0).loss(study.draws.train.batch(torch.arange(36), False), study.draws.train.labels)
    assert record["loss"] < start.item()
    assert [point["step"] for point in record["curve"]] == [24]
    after = CLIPModel.from_pretrained(world.clip).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_frozen_clip_knows_the_words_of_unseen_motions_but_not_the_videos(study):
    """The two checks that the world needs before anything is trained."""
    record = study.frozen()
    assert record["motion_words_of_stills"]["unseen"] > 0.8
    assert record["motions_of_videos"]["motions"] < 0.6
    assert record["curve"][0]["retention"] > 0.8
    assert record["curve"][0]["trained"] < 0.6


def test_a_blend_of_zero_is_the_model_and_of_one_the_frozen_clip(study, monkeypatch):
    monkeypatch.setattr(miniature, "TEST_FRAMES", (8, 16))
    system = build("vision", study.world, 0)
    with torch.no_grad():
        system.model.vision_model.encoder.layers[0].prompts.global_prompts.normal_(std=0.5)
    details = study.details(system)
    blends, tested = details["blends"], study.test(system)
    assert blends["0"] == pytest.approx(tested)
    assert details["frames"]["8"] == pytest.approx({split: tested[split] for split in SPLITS})
    frozen = study.frozen()["curve"][0]
    assert blends["1"] == pytest.approx({name: frozen[name] for name in blends["1"]}, abs=0.02)


# --- Jobs ------------------------------------------------------------------------------------------------------------


def searched(name: str, found: dict[float, float]) -> list[dict]:
    return [
        {"phase": "search", "system": name, "lr": lr, "seed": 99, "curve": [{"validation": value}]}
        for lr, value in found.items()
    ]


@pytest.mark.parametrize(
    "found, missing, chosen",
    [
        ({1e-5: 0.1}, [3e-5, 1e-4, 3e-4], None),
        ({1e-5: 0.1, 3e-5: 0.8, 1e-4: 0.8, 3e-4: 0.2}, [], 3e-5),
        ({1e-5: 0.9, 3e-5: 0.8, 1e-4: 0.3, 3e-4: 0.2}, [3e-6], None),
        ({1e-5: 0.1, 3e-5: 0.8, 1e-4: 0.83, 3e-4: 0.92}, [1e-3], None),
        ({1e-5: 0.1, 3e-5: 0.8, 1e-4: 0.83, 3e-4: 0.92, 1e-3: 0.5}, [], 3e-4),
        ({1e-7: 1.0, 3e-7: 0.9, 1e-6: 0.8, 1e-5: 0.1, 3e-5: 0.8, 1e-4: 0.83, 3e-4: 0.92}, [], 1e-7),
    ],
)
def test_grid_grows_at_its_edge(found, missing, chosen):
    assert miniature.search_of("xclip", searched("xclip", found)) == (missing, chosen)


def test_pending_jobs_wait_for_the_search_and_go_seed_by_seed():
    systems = ["frozen", "linear", "vision", "local"]
    jobs = miniature.pending(systems, [0, 1], [])
    assert jobs[0] == Job("run", "frozen", None, 0) and {job.phase for job in jobs[1:]} == {"search"}
    assert len(jobs) == 1 + 4 + 4
    records = searched("linear", {1e-2: 0.1, 3e-2: 0.3, 1e-1: 0.2, 3e-1: 0.1})
    records += searched("vision", {1e-3: 0.1, 3e-3: 0.3, 1e-2: 0.2, 3e-2: 0.1})
    records += [{"phase": "run", "system": "linear", "lr": 3e-2, "seed": 0}]
    assert miniature.pending(systems, [0, 1], records) == [
        Job("run", "frozen", None, 0),
        Job("run", "vision", 3e-3, 0),
        Job("run", "local", 3e-3, 0),
        Job("run", "linear", 3e-2, 1),
        Job("run", "vision", 3e-3, 1),
        Job("run", "local", 3e-3, 1),
    ]


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


@pytest.mark.slow
def test_two_processes_share_the_jobs(tmp_path, world):
    flags = [*TINY_FLAGS, "--only", "frozen", "linear", "contexts", "--seeds", "0", "1", "--processes", "2"]
    script = [sys.executable, str(MINIATURE / "miniature.py"), *flags, "--output", str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0, done.stderr
    records = Results(tmp_path, TINY).read()
    keys = [(r["phase"], r["system"], r["lr"], r["seed"]) for r in records]
    assert len(set(keys)) == len(keys)
    assert sorted(k[1:2] + k[3:] for k in keys if k[0] == "run") == [
        ("contexts", 0),
        ("contexts", 1),
        ("frozen", 0),
        ("linear", 0),
        ("linear", 1),
    ]


# --- The report ------------------------------------------------------------------------------------------------------


def point(step: int, *values: float, seconds: float = 1.0) -> dict:
    names = ("validation", "trained", "objects", "motions", "both", "retention")
    return {"step": step, "train_cpu_seconds": seconds, **dict(zip(names, values, strict=True))}


def run(system: str, seed: int, *curve: dict, **more) -> dict:
    record = {"phase": "run", "system": system, "seed": seed, "lr": 0.01, "trained_parameters": 1234}
    details = {
        "frames": {str(n): dict.fromkeys(SPLITS, 0.5) for n in (1, 8)},
        "blends": {"0": curve[-1], "0.5": {k: v + 0.01 for k, v in curve[-1].items()}},
        "wordings": {"objects": 0.5, "motions": 0.5, "both": 0.5},
    }
    return record | {"curve": list(curve), "cpu_seconds": 90.0} | details | more


RECORDS = [
    run(
        "frozen",
        0,
        point(0, 0.3, 0.3, 0.3, 0.2, 0.1, 0.9),
        lr=None,
        trained_parameters=0,
        motion_words_of_stills={"unseen": 0.9, "trained": 0.8},
        motions_of_videos={"motions": 0.3, "trained": 0.2},
    ),
    run("all", 0, point(2, 0.50, 0.5, 0.4, 0.3, 0.2, 0.8), point(4, 0.600, 0.60, 0.40, 0.30, 0.20, 0.70)),
    run("all", 1, point(2, 0.60, 0.5, 0.4, 0.3, 0.2, 0.8), point(4, 0.605, 0.64, 0.46, 0.36, 0.26, 0.74)),
    run("vifi", 0, point(2, 0.60, 0.5, 0.4, 0.3, 0.2, 0.8), point(4, 0.604, 0.70, 0.40, 0.30, 0.20, 0.10)),
    run("vifi", 1, point(2, 0.60, 0.5, 0.4, 0.3, 0.2, 0.8), point(4, 0.606, 0.73, 0.46, 0.36, 0.26, 0.15)),
    *searched("all", {4e-3: 0.4, 1e-2: 0.5}),
]
for record in RECORDS[-2:]:
    record["cpu_seconds"] = 90.0


def test_intervals_by_hand():
    # Student's t for one degree of freedom is 12.706; the standard deviation of 0.60 and 0.64 is 0.0283.
    assert report.interval([0.60, 0.64]) == pytest.approx((0.62, 12.706 * 0.02828427 / 2**0.5))
    middle, width = report.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (middle, width) == pytest.approx((3.0, 2.776 * 1.5811388 / 5**0.5))
    low, high = report.fresh_run([0.50, 0.51, 0.52, 0.53, 0.54])
    assert (high - low) / 2 == pytest.approx(2.776 * 0.015811388 * (1.2) ** 0.5)
    assert report.fresh_run([0.5]) is None and math.isnan(report.interval([0.5])[1])


def test_differences_are_seed_by_seed():
    # Retention: 0.60 and 0.59.
    assert report.difference(RECORDS, "all", "vifi", "retention") == pytest.approx(
        (0.595, 12.706 * 0.0070710678 / 2**0.5)
    )
    # The frozen CLIP has one run for all seeds; zero-shot is the mean of three: 0.3 and 0.36 against 0.2.
    assert report.difference(RECORDS, "all", "frozen", "zero_shot")[0] == pytest.approx(0.13)
    assert report.difference(RECORDS, "all", "xclip", "retention") is None


def test_verdicts():
    assert report.judge((0.05, 0.04), above=0.0) == "holds"
    assert report.judge((0.05, 0.06), above=0.0) == "undecided"
    assert report.judge((-0.05, 0.04), above=0.0) == "refuted"
    assert report.judge((-0.005, 0.004), above=-0.01) == "holds"
    assert report.judge(None, above=0.0) == "undecided"
    assert report.all_of(["holds", "holds"]) == "holds"
    assert report.all_of(["holds", "undecided"]) == "undecided"
    assert report.all_of(["undecided", "refuted"]) == "refuted"
    told = {row[1]: row[3] for row in report.verdicts(RECORDS)}
    assert told["Vita-CLIP − ViFi-CLIP, retention > 0"] == "holds"
    assert told["Vita-CLIP − X-CLIP, retention > 0"] == "undecided"
    # -0.10 and -0.09: below -0.03, but with an interval of 0.06.
    assert told["Vita-CLIP − ViFi-CLIP, supervised > -3"] == "refuted"


def test_tables_by_hand():
    rows = report.systems_table(RECORDS, report.COMPARED).splitlines()
    assert rows[2] == "| Frozen CLIP | 0 | 30.0 | 30.0 | 20.0 | 10.0 | 20.0 | 90.0 | – | 1 |"
    assert rows[4].startswith("| Vita-CLIP | 1,234 | 62.0 ± 25.4 | 43.0 ± 38.1 | 33.0 ± 38.1 | 23.0 ± 38.1 | 33.0 ±")
    rows = report.convergence_table(RECORDS).splitlines()
    # From 0.55 to 0.6025, and from 0.600 to 0.605.
    assert "| Vita-CLIP | 55.0 | 60.2 | +5.2 | **no** |" in rows
    assert "| ViFi-CLIP | 60.0 | 60.5 | +0.5 | yes |" in rows
    assert "| Vita-CLIP | 0.004: 40.0 · 0.01: 50.0 |" in report.search_table(RECORDS)
    assert "| Vita-CLIP, blend 0.5 | +1.0 ± 0.0 |" in report.options_table(RECORDS)
    assert "chosen on validation (0.5, 0.5)" in report.blend_line(RECORDS)


def test_chosen_blend_is_the_largest_within_half_a_point():
    blends = {"0": 0.80, "0.2": 0.81, "0.5": 0.806, "1": 0.80}
    assert report.chosen_blend({"blends": {weight: {"validation": v} for weight, v in blends.items()}}) == "0.5"


def test_figures_show_the_same_numbers(tmp_path):
    from matplotlib import pyplot

    figure = pyplot.figure()
    report.plot_trade_off(figure, RECORDS)
    lines = [tuple(map(tuple, line.get_xydata().round(6))) for line in figure.axes[1].lines]
    assert ((50.0, 80.0), (62.0, 72.0)) in lines  # Vita-CLIP's way, supervised against retention
    figure = pyplot.figure()
    report.plot_bars(report.ABLATION)(figure, RECORDS)
    assert [round(bar.get_width(), 6) for bar in figure.axes[0].patches] == [30, 62]
    pyplot.close("all")
    report.write_report(tmp_path, RECORDS, asdict(TINY))
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    assert names == ["ablation.png", "curves.png", "frames.png", "trade_off.png"]
    assert "7 runs,\n0.2 hours of CPU time" in (tmp_path / "tables.md").read_text()


@pytest.mark.parametrize(("folder", "steps"), [(".", 2400), ("longer", 4800)])
def test_kept_figures_and_tables_are_those_of_the_kept_results(folder, steps, tmp_path):
    kept = json.loads((MINIATURE / folder / "results.json").read_text())
    report.write_tables(tmp_path / "tables.md", kept["records"], kept["setting"])
    assert (tmp_path / "tables.md").read_text() == (MINIATURE / folder / "tables.md").read_text()
    assert kept["setting"] == asdict(Setting(steps=steps))
    assert {r["curve"][-1]["step"] for r in kept["records"] if r["phase"] == "run" and r["lr"]} == {steps}


def test_the_figure_of_the_page_is_the_kept_one():
    kept, shown = MINIATURE / "longer" / "trade_off.png", MINIATURE.parents[1] / "docs" / "images" / "miniature.png"
    assert kept.read_bytes() == shown.read_bytes()


@pytest.mark.parametrize(
    "page", ["examples/miniature/README.md", "docs/miniature.md", "docs/evaluation.md", "docs/training.md"]
)
def test_figures_of_the_pages_are_in_the_tables(page):
    tables = "".join((MINIATURE / folder / "tables.md").read_text() for folder in (".", "longer"))
    tables = tables.replace("-", "−").replace("+", "")
    text = (MINIATURE.parents[1] / page).read_text()
    figures = re.findall(r"[−\d.]+ ± \d+\.\d", text)
    assert len(figures) > 3
    for figure in figures:
        assert figure in tables or f"−{figure}" in tables, figure  # "costs 3.3" is a difference of −3.3


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--only vita", "no system 'vita'"),
        ("--steps 0", "--steps must be positive, got 0"),
        ("--both-copies -1", "--both-copies must be positive"),
        ("--processes 0", "--processes must be positive"),
        ("--precision half", "must be bfloat16 or float32, got 'half'"),
        ("--seeds 0 99", "--seeds must be 0 or more and not 99"),
        ("--clip nowhere", "not a checkpoint folder"),
        ("--device nothing", "--device nothing"),
        ("--steps 7 --report", "made with steps 4 \\(now 7\\)"),
    ],
)
def test_bad_input_is_said_in_one_line(flags, message, tmp_path):
    Results(tmp_path, TINY).add({})
    with pytest.raises(MiniatureError, match=message) as raised:
        main([*TINY_FLAGS, "--output", str(tmp_path), *flags.split()])
    assert "\n" not in str(raised.value)


def test_other_files_and_settings_are_refused(tmp_path):
    Results(tmp_path, TINY).add({"phase": "run"})
    with pytest.raises(MiniatureError, match="batch 4 \\(now 5\\)"):
        Results(tmp_path, replace(TINY, batch=5)).add({})
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(MiniatureError, match="not a results file"):
        Results(tmp_path, TINY).read()


def test_script_exits_with_2_and_without_traceback():
    command = [sys.executable, str(MINIATURE / "miniature.py"), "--only", "vita"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("miniature.py: --only: there is no system")
    assert "Traceback" not in done.stderr
