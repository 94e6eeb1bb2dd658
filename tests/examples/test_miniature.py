"""The paper in miniature: what is compared is what is said, and an interrupted set goes on where it was."""

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import miniature
import miniature_report
import pytest
import torch
from miniature import Clips, Draws, MiniatureError, Results, Setting, Study, accuracy, main
from miniature_systems import SYSTEMS, XCLIP_NEW_PARTS, World, build, count_trained, extract_clip
from transformers import CLIPModel

from vitaclip_hf.data.motion_shapes import all_scenes, draw_videos


ROOT = Path(__file__).parents[2]
TINY = Setting(
    steps=2,
    batch=4,
    precision="float32",
    train_copies=1,
    validation_copies=1,
    supervised_copies=1,
    zero_shot_copies=1,
)
TINY_FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(TINY).items() if name != "weight_decay"]
# Of all weights of the tiny CLIP before the demo trained prompts on it: names and values in the order of names.
TINY_CLIP_SHA256 = "e6fd2d8e81ae6b14bc65e9e98540bd49fd6b41a6e35eb014fcb3da10fb93ebec"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(extract_clip(ROOT / "examples" / "demo" / "checkpoint", tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def draws(world) -> Draws:
    return Draws(world, TINY)


@pytest.fixture
def study(world, draws, tmp_path) -> Study:
    made = Study.__new__(Study)  # with clips that are drawn already
    made.world, made.setting, made.draws, made.origin = world, TINY, draws, {}
    made.results = Results(tmp_path, TINY)
    return made


def digest(weights: dict[str, torch.Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode() + weights[name].numpy().tobytes())
    return total.hexdigest()


def test_clip_inside_the_demo_is_the_pretrained_one_bit_by_bit(world):
    assert digest(CLIPModel.from_pretrained(world.clip).state_dict()) == TINY_CLIP_SHA256


# By hand: width 112, text width 64, joint width 64, 4 layers, 8 frames, 300 classes, 4 context tokens.
TIME, SCALE = 8 * 112, 1
GLOBAL = LOCAL = 4 * 8 * 112
PROJECTION = 4 * (112 * 112 + 112)
SUMMARY = 4 * (4 * (112 * 112 + 112) + 2 * 112)
CONTEXTS = 300 * 4 * 64
TEMPORAL = 8 * 64 + 2 * (4 * (64 * 64 + 64) + (64 * 256 + 256) + (256 * 64 + 64) + 4 * 64)
CLIP_LAYER = {width: 4 * (width * width + width) + 8 * width * width + 5 * width + 4 * width for width in (64, 112)}
CLIP_VISION = 112 + 3 * 8 * 8 * 112 + 37 * 112 + 4 * 112 + 4 * CLIP_LAYER[112]
CLIP_TEXT = 691 * 64 + 32 * 64 + 2 * 64 + 3 * CLIP_LAYER[64]
CLIP = CLIP_VISION + CLIP_TEXT + 112 * 64 + 64 * 64 + 1
MESSAGE = 4 * (5 * (112 * 112 + 112) + 2 * 112)
MULTIFRAME = 8 * 64 + CLIP_LAYER[64]
GENERATOR_LAYER = 4 * 64 * 64 + 64 + 4 * 64 + (64 * 256 + 256) + (256 * 64 + 64)
GENERATOR = 2 * 112 + 112 * 64 + 2 * 64 + 64 + 2 * GENERATOR_LAYER
TRAINED = {
    "frozen": 0,
    "linear": 112 * 300 + 300,
    "contexts": CONTEXTS + SCALE,
    "a5": 8 * 64 + TEMPORAL + SCALE,
    "actionclip": CLIP,
    "xclip": CLIP + MESSAGE + MULTIFRAME + GENERATOR,
    "global": TIME + GLOBAL + SCALE,
    "local": TIME + GLOBAL + LOCAL + PROJECTION + SCALE,
    "local-random": TIME + GLOBAL + LOCAL + SCALE,
    "summary": TIME + GLOBAL + LOCAL + PROJECTION + SUMMARY + SCALE,
    "summary-random": TIME + GLOBAL + LOCAL + SUMMARY + SCALE,
    "all": TIME + GLOBAL + LOCAL + PROJECTION + SUMMARY + CONTEXTS + SCALE,
    "all-random": TIME + GLOBAL + LOCAL + SUMMARY + CONTEXTS + SCALE,
    "all-xavier": TIME + GLOBAL + LOCAL + PROJECTION + SUMMARY + CONTEXTS + SCALE,
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_trained_parameters_by_hand(name, world):
    assert count_trained(build(name, world, seed=0)) == TRAINED[name]


def test_every_tuned_system_has_a_grid_of_the_same_size():
    grids = [spec.lrs for spec in SYSTEMS.values() if spec.trained and not isinstance(spec.lrs, str)]
    assert {len(grid) for grid in grids} == {3}
    assert {spec.lrs for spec in SYSTEMS.values() if isinstance(spec.lrs, str)} == {"all"}


def clips_of_two(draws) -> torch.Tensor:
    return draws.train.batch(torch.tensor([3, 250]), on_features=False)


@torch.no_grad()
@pytest.mark.parametrize("split", ["trained", "held_out"])
def test_frozen_and_fine_tuned_clip_start_as_clip_with_averaged_frames(split, world, draws):
    clip, pixels = CLIPModel.from_pretrained(world.clip), clips_of_two(draws)
    texts = world.tokenizer(world.names[split], padding=True, return_tensors="pt")
    expected = []
    for video in pixels:
        video = clip.visual_projection(clip.vision_model(video).pooler_output).mean(0)
        text = clip.text_projection(clip.text_model(**texts).pooler_output)
        cosine = torch.cosine_similarity(video[None], text)
        expected.append(cosine * math.exp(4.090639114379883))
    expected = torch.stack(expected)
    torch.testing.assert_close(build("actionclip", world, 0)(pixels, split), expected, atol=1e-4, rtol=1e-5)
    features = draws.train.batch(torch.tensor([3, 250]), on_features=True)
    torch.testing.assert_close(build("frozen", world, 0)(features, split), expected, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_contexts_only_change_trained_classes_and_a5_serves_new_names(world, draws):
    features = draws.train.batch(torch.tensor([3, 250]), on_features=True)
    frozen, contexts, a5 = (build(name, world, 0) for name in ("frozen", "contexts", "a5"))
    contexts.model.class_prompts.context.normal_()
    assert torch.equal(contexts(features, "held_out"), frozen(features, "held_out"))
    assert not torch.allclose(contexts(features, "trained"), frozen(features, "trained"))
    before = a5(features, "trained")
    assert a5(features, "held_out").shape == (2, 60)
    a5.model.class_prompts.context.normal_()
    assert a5(features, "held_out").shape == (2, 60)
    assert not torch.allclose(a5(features, "trained"), before)


@torch.no_grad()
def test_temporal_systems_see_the_order_of_frames_and_averaging_ones_do_not(world, draws):
    pixels = clips_of_two(draws)
    for name, sees in (("actionclip", False), ("all", True), ("xclip", True)):
        system = build(name, world, 0)
        if sees:  # their positions start at zero or near it
            position = "time_embedding.weight" if name == "all" else "mit.position_embedding"
            next(p for n, p in system.named_parameters() if n.endswith(position)).normal_()
        same = torch.allclose(system(pixels, "held_out"), system(pixels.flip(1), "held_out"), atol=1e-4)
        assert same != sees, name


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


def test_both_starts_of_the_summary_attention(world):
    for name, expected in (("all", (2 * 4 * 112) ** -0.5), ("all-xavier", (2 / (112 + 112)) ** 0.5)):
        attention = build(name, world, 0).model.vision_model.encoder.layers[1].prompts.summary_attention
        assert attention.k_proj.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert not attention.k_proj.bias.any()
    assert attention.v_proj.weight.abs().max() <= (6 / (112 + 112)) ** 0.5


def test_tests_are_the_frames_of_the_same_videos(draws):
    videos, labels = draws.test_videos["held_out"]
    assert labels.tolist() == list(range(60)) and videos.shape == (60, 32, 48, 48, 3)
    # Centres of equal segments of 32 frames.
    for count, frames in ((1, [16]), (2, [8, 24]), (8, [2, 6, 10, 14, 18, 22, 26, 30])):
        assert torch.equal(draws.test(count)[1].pixels, videos[:, frames])
    drawn = draw_videos(all_scenes(held_out=True), torch.Generator().manual_seed(miniature.TEST_CLIPS), size=48)
    assert torch.equal(videos, drawn)


def test_training_clips_show_a_moment_of_each_eighth():
    moments = miniature.random_moments(torch.Generator().manual_seed(1)) * 8
    assert moments.floor().tolist() == list(range(8))
    fractions = moments - moments.floor()
    assert fractions.min() >= 0.2 and fractions.max() <= 0.8


def test_order_goes_through_all_clips_before_it_repeats_any():
    order = miniature.draw_order(5, 12, seed=3)
    assert sorted(order[:5].tolist()) == sorted(order[5:10].tolist()) == [0, 1, 2, 3, 4] and len(order) == 12
    assert not torch.equal(order[:5], order[5:10])


def test_learning_rate_warms_up_and_falls_to_zero():
    factors = [miniature.learning_rate_factor(step, 20) for step in range(20)]
    assert factors[0] == 0.5 and factors[10] == pytest.approx(0.5)
    assert factors[1:] == sorted(factors[1:], reverse=True) and factors[19] < 0.01


class Guesses(torch.nn.Module):
    """Says 0 to the first `wrong` clips of every 60 and the truth to the others."""

    on_features = False

    def forward(self, clips, split):
        return torch.nn.functional.one_hot(torch.tensor([0] * 15 + list(range(15, 60))), 60).float()


def test_accuracy_counts_every_clip(world):
    clips = Clips(world, "held_out", torch.zeros(120, 1, 4, 4, 3, dtype=torch.uint8), torch.arange(120) % 60)
    assert accuracy(Guesses(), clips, "float32") == 46 / 60  # the first clip shows class 0


def without_times(records: list[dict]) -> list[dict]:
    return [{k: v for k, v in r.items() if k not in ("date", "seconds", "cpu_seconds")} for r in records]


def test_interrupted_set_goes_on_where_it_was_and_ends_the_same(study, tmp_path, monkeypatch):
    for seed in (0, 1):
        study.run("linear", seed)
    whole = study.results.read()
    assert [(r["phase"], r["seed"]) for r in whole] == [("search", 99)] * 3 + [("run", 0), ("run", 1)]
    assert [r["steps"] for r in whole] == [1, 1, 1, 2, 2]

    study.results = Results(tmp_path / "again", TINY)
    trained, train = [], miniature.train

    def killed(*arguments, **keywords):
        trained.append(arguments[-1])
        if len(trained) == 5:
            raise KeyboardInterrupt
        return train(*arguments, **keywords)

    monkeypatch.setattr(miniature, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        for seed in (0, 1):
            study.run("linear", seed)
    assert len(study.results.read()) == 4
    for seed in (0, 1):
        study.run("linear", seed)
    assert len(trained) == 6  # only the run that was killed is done again
    assert without_times(study.results.read()) == without_times(whole)


def test_training_lowers_the_loss_and_leaves_the_frozen_part_alone(world, draws):
    system = build("global", world, 0)
    frozen = {n: p.clone() for n, p in system.named_parameters() if not p.requires_grad}
    first = miniature.train(system, draws.train, TINY, 1, 5e-3, 0, "first")
    last = miniature.train(system, draws.train, TINY, 10, 5e-3, 0, "more")
    assert last < first
    assert all(torch.equal(p, frozen[n]) for n, p in system.named_parameters() if n in frozen)


def test_search_takes_the_best_on_validation_and_the_first_of_equals(study):
    low, middle, high = SYSTEMS["all"].lrs
    for lr, validation in ((low, 0.2), (middle, 0.7), (high, 0.7)):
        study.results.add({"phase": "search", "system": "all", "lr": lr, "validation": validation, "seed": 99})
    assert study.search("all") == study.search("global") == middle


def test_a_run_with_another_rate_takes_the_place_of_the_old_one(study):
    study.run("linear", 0)
    *searched, old = study.results.read()
    worst = min(searched, key=lambda record: record["validation"])
    study.results.path.write_text(
        json.dumps(
            {"setting": asdict(TINY), "records": [r | {"validation": float(r == worst)} for r in searched] + [old]}
        )
    )
    study.run("linear", 0)
    *_, new = study.results.read()
    assert new["lr"] == worst["lr"] != old["lr"]
    assert len(study.results.find(phase="run")) == 1 and len(study.results.read()) == 4


def run(system, seed, supervised, zero_shot, **more) -> dict:
    record = {"phase": "run", "system": system, "seed": seed, "supervised": supervised, "zero_shot": zero_shot}
    return record | {"trained_parameters": 1234, "lr": 0.01, "seconds": 60.0, "cpu_seconds": 90.0} | more


RECORDS = [
    run("frozen", 0, 0.2, 0.25, lr=None, trained_parameters=0),
    run("linear", 1, 0.5, None),
    run("linear", 0, 0.3, None),
    run("all", 0, 0.60, 0.50, frames={"8": {"supervised": 0.6, "zero_shot": 0.5}}),
    run("all", 2, 0.64, 0.54, frames={"8": {"supervised": 0.64, "zero_shot": 0.54}}),
    run("all", 1, 0.62, 0.52),
    run("all-xavier", 1, 0.60, 0.53),
    run("all-xavier", 0, 0.60, 0.51),
    {"phase": "search", "system": "all", "seed": 99, "lr": 4e-3, "validation": 0.4, "cpu_seconds": 60.0},
]


def test_tables_by_hand():
    rows = miniature_report.trade_off_table(RECORDS).splitlines()
    assert rows[2] == "| Frozen CLIP | 0 | 20.0 | 25.0 | – | 1 |"
    assert rows[3] == "| Linear probe | 1,234 | 40.0 ± 14.1 | – | 0.01 | 2 |"
    assert rows[4] == "| Vita-CLIP | 1,234 | 62.0 ± 2.0 | 52.0 ± 2.0 | 0.01 | 3 |"
    rows = miniature_report.initialisation_table(RECORDS).splitlines()
    # Seeds 0 and 1 alone have both: differences 0 and -2, 1 and 1.
    assert rows[4] == "| Xavier minus CLIP, same seed | -1.0 ± 1.4 | 1.0 ± 0.0 | 2 |"
    assert miniature_report.frames_table(RECORDS).splitlines()[2:] == ["| 8 | 62.0 ± 2.8 | 52.0 ± 2.8 |"]
    assert "| Vita-CLIP | – | 0.004: 40.0 | – |" in miniature_report.search_table(RECORDS)
    rows = miniature_report.ablation_table(RECORDS).splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| Frozen CLIP", "| All, vision and text"]


def test_plots_show_the_same_numbers(tmp_path):
    from matplotlib import pyplot

    _, axes = pyplot.subplots()
    miniature_report.plot_ablation(axes, RECORDS)
    assert [round(bar.get_width(), 6) for bar in axes.patches] == [20, 62, 25, 52]
    _, axes = pyplot.subplots()
    miniature_report.plot_trade_off(axes, RECORDS)
    assert [tuple(round(float(v), 6) for v in line.get_xydata()[0]) for line in axes.lines[:1]] == [(20.0, 25.0)]
    pyplot.close("all")
    miniature_report.write_report(tmp_path, RECORDS, asdict(TINY))
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["ablation.png", "frames.png", "trade_off.png"]
    assert "9 finished runs, 13 minutes" in (tmp_path / "tables.md").read_text()


def test_main_runs_and_then_only_reports(draws, tmp_path, monkeypatch):
    monkeypatch.setattr(miniature, "Draws", lambda world, setting: draws)
    flags = ["--output", str(tmp_path), "--only", "frozen", "linear", "--seeds", "0", *TINY_FLAGS]
    main(flags)
    records = json.loads((tmp_path / "results.json").read_text())["records"]
    assert [(r["phase"], r["system"]) for r in records] == [
        ("run", "frozen"),
        *[("search", "linear")] * 3,
        ("run", "linear"),
    ]
    assert records[-1]["zero_shot"] is None and records[-1]["trained_parameters"] == 33900
    assert {"date", "revision", "versions", "machine", "seconds"} <= set(records[-1])
    assert "Linear probe" in (tmp_path / "tables.md").read_text()
    monkeypatch.setattr(miniature, "train", None)
    main([*flags, "--report"])
    assert json.loads((tmp_path / "results.json").read_text())["records"] == records


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--only vita", "no system 'vita'"),
        ("--steps 0", "--steps must be positive, got 0"),
        ("--zero-shot-copies -1", "--zero-shot-copies must be positive"),
        ("--seeds 0 99", "--seeds must be 0 or more and not 99"),
        ("--checkpoint nowhere", "not a checkpoint folder"),
        ("--device nothing", "--device nothing"),
        ("--steps 7 --report", "made with steps 2 \\(now 7\\)"),
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
    command = [sys.executable, str(ROOT / "examples" / "miniature" / "miniature.py"), "--only", "vita"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("miniature.py: --only: there is no system")
    assert "Traceback" not in done.stderr
