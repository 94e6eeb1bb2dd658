"""The trial, on a small part of the world: every system trains and answers, and a run that was stopped goes on."""

import json
from dataclasses import replace

import numpy as np
import pretrain_clip
import pytest
import systems
import torch
import trial
from world import Scene, World


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two trained things, 30 names, and an untrained CLIP."""
    world = World()
    world.trained = world.trained[:2]
    world.names = [name for name in world.names if name in world.trained or world.number[name] < 28]
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tokenizer = pretrain_clip.build_tokenizer(world)
    pretrain_clip.build_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return world, folder


@pytest.fixture
def run_trial(small, monkeypatch, tmp_path):
    world, clip = small
    monkeypatch.setattr(trial, "World", lambda *files: world)
    monkeypatch.setattr(trial, "TEST_THINGS", 2)
    monkeypatch.setattr(trial, "SAVE_EVERY", 1)
    monkeypatch.setattr(trial, "BATCH", 4)
    for name, spec in systems.SYSTEMS.items():
        monkeypatch.setitem(systems.SYSTEMS, name, replace(spec, rates=spec.rates[:1]))
    return lambda *only, output="trial": trial.main(
        ["--clips", str(clip), "--output", str(tmp_path / output), "--steps=2", "--copies=1", "--only", *only]
    )


@pytest.mark.slow
def test_every_system_trains_and_answers(run_trial, tmp_path, capsys):
    names = systems.SYSTEMS.keys() - {"vision", "global", "local", "summary"}  # `vita` with fewer prompts
    run_trial(*names)
    records = {path.stem.split("-")[0]: json.loads(path.read_text()) for path in (tmp_path / "trial").glob("*.json")}
    assert records.keys() == names
    frozen = records["frozen"]["points"][0]
    for name, record in records.items():
        assert [point["step"] for point in record["points"]] == ([1, 2] if systems.SYSTEMS[name].rates else [0])
        assert record["trained_parameters"] > 0 or not systems.SYSTEMS[name].rates
        last, kept = record["points"][-1], np.load(next((tmp_path / "trial").glob(f"{name}-*.npz")))
        assert len(kept["trained, label"]) == 10 and ("unseen pairs, label" in last) == (name != "linear")
        if name != "linear":
            assert len(kept["unseen things, label"]) == 20 and len(kept["unseen motions, motion, thing given"]) == 8
            assert last["unseen pairs, label"] <= last["unseen pairs, thing"]
        same_towers = last["names of stills, towers"] == frozen["names of stills, towers"]
        assert same_towers or name in ("vifi", "xclip", "actionclip", "ceiling")
    table = capsys.readouterr().out
    assert table.count("| linear |") == 4 and "| unseen motions, motion, thing given | rate |" in table


def test_stopped_run_goes_on(run_trial, tmp_path, monkeypatch):
    run_trial("actionclip", output="whole")
    loss, calls = systems.ActionClip.loss, []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(systems.ActionClip, "loss", stop)
    with pytest.raises(KeyboardInterrupt):
        run_trial("actionclip")
    run_trial("actionclip")
    assert len(calls) == 3 and not list((tmp_path / "trial").glob("*.pt"))
    whole, parts = (
        json.loads((tmp_path / name / "actionclip-3e-05-0.json").read_text()) for name in ("whole", "trial")
    )
    assert whole["points"] == parts["points"]


def test_frozen_towers_stay_as_they_were(small):
    """X-CLIP's towers as a CLIP are the tiny CLIP's before training; its text tower and scale never train."""
    world, clip = small
    start = systems.Start(clip, {"training": [scene.label for scene in world.scenes("trained")]})
    xclip = systems.build("xclip", start, 0)
    plain = systems.CLIPModel.from_pretrained(clip).state_dict()
    assert all(torch.equal(plain[name], weight) for name, weight in xclip.towers().state_dict().items())
    trains = {name for name, parameter in xclip.named_parameters() if parameter.requires_grad}
    assert not [name for name in trains if "text_model" in name or "text_projection" in name or "scale" in name]
    assert any("vision_model" in name for name in trains)


def test_composed_still_shows_the_way():
    scenes = [Scene("rocket", "right")]
    clips = trial.draw_clips(World(), scenes, 0)
    still = trial.compose(clips)
    assert still.shape == clips.shape and torch.equal(still[:, 0], still[:, 7])
    changed = (still[0, 0].float() - clips[0].float().median(0).values).abs().sum((0, 2)) > 100
    left, right = changed.nonzero()[0], changed.nonzero()[-1]
    assert right - left > 20


def test_what_may_be_said_of_two_systems(tmp_path):
    """By hand: gaps of 10, 11 and 12 points have a half width of 4.30 · 1 / √3 = 2.48 points."""

    def write(system, rate, supervised, unseen, rise):
        for number, step in enumerate((0.0, 0.01, 0.02)):
            last = {"step": 2, "trained, label": supervised, "unseen pairs, label": unseen + step}
            first = last | {"step": 1, "unseen pairs, label": unseen + step - rise}
            record = {"system": system, "rate": rate, "replicate": number, "points": [first, last]}
            (tmp_path / f"{system}-{rate}-{number}.json").write_text(json.dumps(record))

    for number in range(3):
        points = [{"step": 1, "trained, label": 0.9, "unseen pairs, label": 0.2}] * 2
        record = {"system": "vifi", "rate": 1e-4, "replicate": number, "points": points}
        (tmp_path / f"vifi-{number}.json").write_text(json.dumps(record))
    write("vita", 1e-3, 0.90, 0.30, 0.005)
    write("vita", 1e-2, 0.80, 0.10, 0.0)  # more than 2 points below its best: not compared
    table = trial.compare_systems(tmp_path, "vita", "vifi").splitlines()
    assert "| unseen pairs, label | 8.5% | 13.5% | vita | True |" in table
    write("vita", 1e-2, 0.89, 0.10, 0.0)
    assert "| unseen pairs, label | -11.5% | 13.5% | not decided | True |" in trial.compare_systems(
        tmp_path, "vita", "vifi"
    )
    write("vita", 1e-2, 0.89, 0.40, 0.05)
    assert "| vita | False |" in trial.compare_systems(tmp_path, "vita", "vifi")
    assert "| vita | 0.001 | 31.0% ± 2.5% | 0.5% ± 0.0% | 3 |" in trial.report(tmp_path)
