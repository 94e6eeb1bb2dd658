"""The training benchmark: both ways have the same loss and gradients, and its sums are right. Times are not tested."""

import json
import subprocess

import benchmark
import benchmark_training
import pytest
import torch
from benchmark_training import OURS, RELEASED, UNSHARED, Trainee
from released_arithmetic import ReleasedVitaClip


FRAMES, CLASSES = 3, 5
SETTINGS = {
    "preset": "tiny",
    "frames": FRAMES,
    "batch": 4,
    "micro_batches": 2,
    "classes": CLASSES,
    "context_tokens": 4,
    "rounds": 2,
    "dtype": "float32",
    "device": "cpu",
}


@pytest.fixture
def pair() -> tuple[Trainee, Trainee]:
    torch.manual_seed(0)
    ours = benchmark_training.build_ours("tiny", FRAMES, CLASSES, 4).double()
    released = benchmark_training.trainee(RELEASED, ours)
    released.model.double()
    return benchmark_training.trainee(OURS, ours), released


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = benchmark_training.draw_batch("tiny", 4, FRAMES, CLASSES)
    return pixels.double(), labels


def test_names_are_as_long_as_those_of_kinetics_400():
    lengths = benchmark_training.name_lengths(400)
    assert {length: lengths.count(length) for length in set(lengths)} == benchmark_training.NAMES_OF_LENGTH
    assert sum(lengths) / 400 == pytest.approx(3.3375)
    assert lengths != sorted(lengths)
    assert max(benchmark_training.name_lengths(1)) == max(benchmark_training.name_lengths(7)) == 8


def test_longest_prompt_takes_26_positions():
    rows = benchmark_training.class_rows(400, context_tokens=16)
    assert rows.shape == (400, 77)
    used = rows != -2
    assert used.any(0).sum() == 26
    assert ((rows == -1).sum(1) == 16).all()
    assert (rows[:, 0] == 49406).all() and ((rows == 49407).sum(1) == 1).all()


def test_both_train_the_same_prompts(pair):
    ours, released = (contender.model for contender in pair)
    trained = {ReleasedVitaClip.own_name(name) for name, p in ours.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in released.named_parameters() if p.requires_grad}
    assert {"logit_scale", "text.context", "video.time_embedding.weight"} < trained
    assert not any("token_embedding" in name or ".fc1." in name for name in trained)
    assert sum(p.numel() for p in released.parameters() if p.requires_grad) == ours.get_nb_trainable_parameters()[0]


def test_released_text_tower_runs_at_all_positions_every_micro_batch(pair, batch):
    runs = []
    pair[1].model.text.layers[-1].fc1.register_forward_hook(lambda _, given, __: runs.append(given[0].shape[:2]))
    benchmark_training.compute_gradients(pair[1], *batch, 2, torch.float32)
    assert runs == [(CLASSES, 77)] * 2


def test_loss_and_gradients_agree(pair, batch):
    assert benchmark_training.check_same_training(*pair, *batch) <= 1e-5
    logits = pair[1].model(batch[0])
    expected = torch.nn.functional.cross_entropy(logits, batch[1])
    for contender in pair:
        for micro_batches in (1, 2, 4):
            contender.model.zero_grad()
            loss = benchmark_training.compute_gradients(contender, *batch, micro_batches, torch.float32)
            assert loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    "weight",
    [
        "video.layers.1.global_prompts",
        "video.layers.0.summary_attention.v_proj.weight",
        "text.context",
        "text.layers.0.fc1.bias",
        "text.layers.1.self_attn.v_proj.weight",
        "text.position_embedding.weight",
        "text.final_layer_norm.bias",
        "logit_scale",
    ],
)
def test_check_notices_a_broken_weight(pair, batch, weight):
    with torch.no_grad():
        pair[1].model.get_parameter(weight).view(-1)[0] += 0.5
    with pytest.raises(benchmark_training.DifferentTrainingError, match="'released arithmetic' and 'Vita-CLIP.*differ"):
        benchmark_training.check_same_training(*pair, *batch)


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_check_notices_a_wrong_gradient_alone(pair, batch, factor):
    ours, released = pair
    released.model.text.context.register_hook(lambda gradient: gradient * factor)
    with pytest.raises(benchmark_training.DifferentTrainingError, match="the gradient of class_prompts.context"):
        benchmark_training.check_same_training(ours, released, *batch)


def test_steps_of_all_contenders_change_the_prompts_alike():
    steps = benchmark_training.make_steps([OURS, UNSHARED], SETTINGS)
    other = benchmark_training.make_steps([OURS], SETTINGS)[OURS]
    before = {name: p.detach().clone() for name, p in other.contender.model.named_parameters()}
    other()
    changed = {name for name, p in other.contender.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name, p in other.contender.model.named_parameters() if p.requires_grad}
    assert all(p.grad is None for p in other.contender.model.parameters())
    runs = {name: [] for name in steps}
    for name, step in steps.items():
        step.contender.model.text_model.encoder.register_forward_hook(lambda *_, n=name: runs[n].append(1))
        step()
    assert {name: len(times) for name, times in runs.items()} == {OURS: 1, UNSHARED: 2}


def test_rounds_are_interleaved_after_one_warm_up_each():
    calls = []

    class Recorder:
        def __init__(self, name):
            self.name = name

        def __call__(self):
            calls.append(self.name)

        def seconds(self):
            self()
            return 1.0

    seconds = benchmark_training.time_interleaved({name: Recorder(name) for name in "ab"}, rounds=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert seconds == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_script_prints_a_table_and_writes_json(tmp_path, capsys, monkeypatch):
    memory = {"peak_memory_bytes": 3 * 2**30, "peak_memory_beyond_bytes": 2**29}
    monkeypatch.setattr(benchmark_training, "peak_memory_in_own_process", lambda name, settings: memory)
    output = tmp_path / "results.json"
    options = ["--preset", "tiny", "--frames", "2", "--batch", "2", "--micro-batches", "2", "--classes", "6"]
    benchmark.main(["train", *options, "--context-tokens", "4", "--rounds", "2", "--output", str(output)])
    printed, results = capsys.readouterr().out.splitlines(), json.loads(output.read_text())
    assert results["benchmark"] == "train"
    assert results["settings"] == SETTINGS | {"frames": 2, "batch": 2, "classes": 6}
    assert results["largest_relative_difference"] <= 1e-5
    assert [entry["name"] for entry in results["contenders"]] == [OURS, UNSHARED, RELEASED]
    for entry in results["contenders"]:
        assert entry["videos_per_second"] == pytest.approx(2e3 / entry["median_ms"])
        assert len(entry["seconds"]) == 2 and entry["peak_memory_bytes"] == 3 * 2**30
    assert len({entry["trained_parameters"] for entry in results["contenders"]}) == 1
    assert printed[0].startswith("| training, 2 videos in 2 micro-batches, 6 classes, float32 | videos/s |")
    assert printed[4].startswith(f"| {RELEASED} |") and printed[4].endswith("| 1.000 | 3.00 | 0.50 |")
    assert results["command"] in printed[6]


def test_without_micro_batches_there_is_nothing_to_share():
    assert benchmark_training.contender_names(1) == [OURS, RELEASED]


def test_memory_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = SETTINGS | {"classes": 400}  # some 100 MB more than with 5
    memory = benchmark_training.peak_memory_in_own_process(RELEASED, settings)
    if memory["peak_memory_bytes"] is None:
        pytest.skip("this system does not tell a process's highest memory")
    # At least the weights of two layers' attention over 400 classes, 4 heads and 77 × 77 positions, in float32.
    weights = 2 * 400 * 4 * 77 * 77 * 4
    assert weights < memory["peak_memory_beyond_bytes"] < 30 * weights
    assert memory["peak_memory_beyond_bytes"] < memory["peak_memory_bytes"]


@pytest.mark.parametrize(("stderr", "reason"), [("Traceback\nKeyError: 'huge'\n", "KeyError: 'huge'"), ("", "killed")])
def test_a_failing_measurement_says_why(monkeypatch, stderr, reason):
    failed = subprocess.CompletedProcess([], -9, stdout="", stderr=stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match=f"Measuring the memory of 'Vita-CLIP.*failed with code -9: .*{reason}"):
        benchmark_training.peak_memory_in_own_process(OURS, SETTINGS | {"device": "cuda"})


def test_unequal_micro_batches_are_refused(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["train", "--batch", "3", "--micro-batches", "2"])
    assert "--micro-batches 2: --batch 3 is no multiple of it" in capsys.readouterr().err
