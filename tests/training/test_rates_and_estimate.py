"""What a training says about time and disk, against numbers computed by hand."""

import os
from types import SimpleNamespace

import pytest
import torch
from tiny_models import tiny_model
from transformers import Trainer
from transformers.trainer_callback import TrainerState

from vitaclip_hf.model import machine
from vitaclip_hf.training import arguments
from vitaclip_hf.training import trainer as trainer_module
from vitaclip_hf.training.arguments import VitaClipTrainingArguments, loader_workers
from vitaclip_hf.training.estimate import most_disk, needed_disk, start_summary
from vitaclip_hf.training.trainer import VitaClipTrainer


def test_rates_by_hand(monkeypatch):
    """Of two ranks: videos a second and waiting, not in the first log, and without an evaluation."""
    clock, logged = SimpleNamespace(now=100.0), []
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(Trainer, "log", lambda self, logs, start_time: logged.append(logs))
    monkeypatch.setattr(Trainer, "evaluate", lambda self: setattr(clock, "now", clock.now + 50))
    trainer = object.__new__(VitaClipTrainer)
    trainer.accelerator = SimpleNamespace(gather=lambda counts: torch.cat([counts, counts]))
    trainer.args = SimpleNamespace(device="cpu")
    trainer._counted_from, trainer._videos, trainer._waited, trainer._failures = None, 0, 0.0, 0

    def step(waited: float, computing: float) -> dict[str, float]:
        def batches():
            clock.now += waited
            yield {"labels": torch.zeros(4)}

        for _ in trainer._watched(batches()):
            clock.now += computing
        trainer.log({"loss": 1.0})
        return logged[-1]

    assert step(waited=6, computing=30) == {"loss": 1.0, "unreadable_videos": 0}
    rates = step(waited=2, computing=1)
    assert rates["videos_per_second"] == pytest.approx(2 * 4 / 3) and rates["waiting_for_data"] == pytest.approx(2 / 3)
    trainer.evaluate()
    rates = step(waited=0.5, computing=1)
    assert rates["videos_per_second"] == pytest.approx(2 * 4 / 1.5)
    assert rates["waiting_for_data"] == pytest.approx(0.5 / 1.5)


def test_disk_by_hand():
    """A checkpoint of 10, a model of 7: an old checkpoint goes when the next one is complete, the model comes last."""
    for saves, expected in {0: 7, 1: 17, 2: 27, 5: 30, float("inf"): 30}.items():
        assert most_disk(10, 7, saves, limit=2) == expected
    assert most_disk(10, 17, saves=5, limit=2) == 37


def training(tmp_path, **given) -> VitaClipTrainingArguments:
    given = {"use_cpu": True, "dataloader_num_workers": 0, "per_device_train_batch_size": 3} | given
    return VitaClipTrainingArguments(output_dir=str(tmp_path / "run"), **given)


def test_estimate_by_hand(tmp_path, tokenizer):
    model = tiny_model(tokenizer=tokenizer)
    model.freeze_backbone()
    every, trained = (model.num_parameters(only_trainable=only) for only in (False, True))
    state = TrainerState(max_steps=100, global_step=10, save_steps=20, num_train_epochs=1)
    args = training(tmp_path, save_strategy="steps", gradient_accumulation_steps=2, save_total_limit=2)
    assert needed_disk(args, state, model) == 3 * 4 * (every + 2 * trained)  # 5 saves, 2 kept, a third while written
    args.save_total_limit = 0  # keeps all
    assert needed_disk(args, state, model) == 5 * 4 * (every + 2 * trained) + 4 * every
    line = start_summary(args, state, model, disk=7 * 10**9)
    assert line.startswith(f"90 steps of 6 videos; {trained:,} of {every:,} parameters train; disk up to 7.00 GB of ")
    assert needed_disk(training(tmp_path, save_strategy="no", prompts_only=True), state, model) == 4 * trained


@pytest.mark.parametrize(("total", "at_once", "micro"), [(8, 32, 8), (12, 8, 6), (7, 2, 1), (64, 8, 8)])
def test_a_batch_of_a_device_divides_the_step(tmp_path, total, at_once, micro, monkeypatch):
    args = training(tmp_path, total_batch_size=total, per_device_train_batch_size=at_once)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (micro, total // micro)
    monkeypatch.setattr(VitaClipTrainingArguments, "world_size", 2)
    args = training(tmp_path, total_batch_size=2 * total, per_device_train_batch_size=at_once)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (micro, total // micro)


@pytest.mark.parametrize(
    ("asked", "cores", "ranks", "device", "expected"),
    [
        *((None, 2, 1, "cpu", 1), (None, 8, 1, "cpu", 6)),  # torch's threads take both, or 2
        *((None, 64, 1, "cuda", 16), (None, 64, 8, "cuda", 7), (None, 1, 1, "cuda", 1)),
        *((0, 8, 1, "cpu", 0), (3, 8, 1, "cpu", 3), (4, 2, 1, "cpu", 2), (6, 8, 4, "cuda", 2)),
    ],
)
def test_workers_never_above_the_cores(monkeypatch, asked, cores, ranks, device, expected):
    monkeypatch.setattr(arguments, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", str(ranks))
    assert loader_workers(asked, torch.device(device)) == expected


@pytest.mark.parametrize(
    ("content", "expected"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 7), ("", 7), (None, 7)]
)
def test_a_container_with_a_share_of_the_processor_has_fewer_cores(tmp_path, monkeypatch, content, expected):
    quota = tmp_path / "cpu.max"
    if content is not None:
        quota.write_text(content)
    monkeypatch.setattr(machine, "CPU_QUOTA", quota)
    monkeypatch.setattr(machine, "os", SimpleNamespace(sched_getaffinity=lambda process: range(7)))
    assert machine.usable_cores() == expected
