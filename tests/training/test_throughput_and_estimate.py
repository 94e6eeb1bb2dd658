"""What a training says about time, memory and disk, against numbers computed by hand."""

import os
from types import SimpleNamespace

import pytest
import torch
from tiny_models import tiny_model
from transformers.trainer_callback import TrainerState

from vitaclip_hf.model import reading_ahead
from vitaclip_hf.training import arguments, estimate
from vitaclip_hf.training.arguments import VitaClipTrainingArguments, loader_workers
from vitaclip_hf.training.estimate import TrainingEstimate, duration, estimate_training, in_units, most_disk
from vitaclip_hf.training.progress import step_summary, time_summary
from vitaclip_hf.training.throughput import Throughput


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def step(throughput: Throughput, clock: Clock, waited: float, computing: float, videos: int = 4) -> None:
    """One batch that is waited for, and the computing after it."""
    throughput.step_begins()
    clock.now += waited
    throughput.took_batch(videos, waited)
    clock.now += computing


def test_the_first_step_and_the_full_queue_after_it_are_not_counted():
    """The reading takes 3 s a batch and the computing 1 s. Two batches lie ready after the slow first step."""
    clock = Clock()
    throughput = Throughput(ready=2, clock=clock)
    step(throughput, clock, waited=6, computing=30)
    assert throughput.next_window() is None
    for _ in range(2):  # from the queue: this once said 0% waiting
        step(throughput, clock, waited=0, computing=1)
        assert throughput.next_window() is None
        assert throughput.seconds_a_step() is None
    step(throughput, clock, waited=2, computing=1)
    assert throughput.seconds_a_step() is None
    step(throughput, clock, waited=2, computing=1)
    assert throughput.seconds_a_step() == 3
    window = throughput.next_window()
    assert (window.seconds, window.videos, window.waited) == (6, 8, 4)
    step(throughput, clock, waited=0.5, computing=1)
    clock.now += 50  # an evaluation
    throughput.leave_out(50)
    window = throughput.next_window()
    assert (window.seconds, window.videos, window.waited) == (1.5, 4, 0.5)
    assert throughput.seconds_a_step() == 2.5  # (3 + 3 + 1.5) / 3
    throughput.restart()
    step(throughput, clock, waited=1, computing=1)
    assert throughput.next_window() is None


def test_without_workers_the_second_step_is_counted():
    clock = Clock()
    throughput = Throughput(ready=0, clock=clock)
    step(throughput, clock, waited=9, computing=9)
    throughput.leave_out(5)  # nothing is measured yet
    step(throughput, clock, waited=1, computing=3)
    window = throughput.next_window()
    assert (window.seconds, window.videos, window.waited) == (4, 4, 1)


def test_a_new_epoch_has_an_empty_queue():
    clock = Clock()
    throughput = Throughput(ready=40, clock=clock)
    step(throughput, clock, waited=9, computing=9)
    step(throughput, clock, waited=0, computing=9)
    throughput.step_begins(new_epoch=True)
    clock.now += 7  # its workers start
    throughput.took_batch(2, waited=6)
    window = throughput.next_window()
    assert (window.seconds, window.videos, window.waited) == (7, 2, 6)


def test_lines():
    logs = {"loss": 4.0, "learning_rate": 4e-4}
    assert step_summary(logs) == "loss 4, lr 4.0e-04, measuring speed"
    assert time_summary(1.9, 1998) == (
        "1.9 s a step: about 63 min for the 1,998 steps left, evaluation and saving not counted"
    )
    assert [duration(s) for s in (40, 720, 12_000, 187_200)] == ["40 s", "12 min", "3 h 20 min", "2 d 4 h"]
    assert [in_units(n) for n in (3 * 2**29, 85 * 2**20, 1536)] == ["1.5 GiB", "85 MiB", "1.5 KiB"]


def test_disk_by_hand():
    """A checkpoint of 10, a model of 7: an old checkpoint goes when the next one is complete, the model comes last."""
    assert most_disk(10, 7, saves=0, kept=2) == 7
    assert most_disk(10, 7, saves=1, kept=2) == 17
    assert most_disk(10, 7, saves=2, kept=2) == 27
    assert most_disk(10, 7, saves=5, kept=2) == 30
    assert most_disk(10, 17, saves=5, kept=2) == 37
    assert most_disk(10, 7, saves=float("inf"), kept=2) == 30


def training(tmp_path, **given) -> VitaClipTrainingArguments:
    given = {"use_cpu": True, "dataloader_num_workers": 0, "per_device_train_batch_size": 3} | given
    return VitaClipTrainingArguments(output_dir=str(tmp_path / "run"), **given)


def test_estimate_by_hand(tmp_path, tokenizer):
    model = tiny_model(tokenizer=tokenizer)
    model.freeze_backbone()
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    vision, text = model.config.vision_config, model.config.text_config
    tokens = 3 * vision.num_frames * (1 + (vision.image_size // vision.patch_size) ** 2)
    kept = tokens * vision.num_hidden_layers * vision.hidden_size * 10
    kept += sum(model.class_prompts.lengths) * text.num_hidden_layers * text.hidden_size * 10
    pixels = 3 * vision.num_frames * 3 * vision.image_size**2
    state = TrainerState(max_steps=100, global_step=10, save_steps=20, num_train_epochs=1)
    args = training(tmp_path, save_strategy="steps", gradient_accumulation_steps=2, save_total_limit=2)
    found = estimate_training(args, state, model)
    assert (found.steps, found.videos, found.trained, found.parameters) == (90, 6, trained, every)
    assert found.memory == 4 * (every + 3 * trained + kept + pixels)
    assert found.disk == 3 * 4 * (every + 2 * trained)  # 5 saves, 2 kept, a third while it is written
    alone = estimate_training(training(tmp_path, save_strategy="no", prompts_only=True), state, model)
    assert alone.disk == 4 * trained
    assert found.free_disk > 0 and found.free_memory > 0


def test_what_is_kept_for_the_backward_pass_is_what_autograd_keeps(tokenizer):
    """Within a factor of 1.6 on the tiny model, whose prompts are many beside its tokens; 0.97 on ViT-B/16."""
    model = tiny_model(tokenizer=tokenizer)
    model.freeze_backbone()
    model.train()
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # alive, so that no other gets its place
        return tensor

    vision = model.config.vision_config
    videos = torch.randn(2, vision.num_frames, 3, vision.image_size, vision.image_size)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(pixel_values_videos=videos)
    measured = sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in weights)
    assert measured / 1.6 < estimate.activations(model, 2) < measured * 1.6
    assert estimate.activations(model, 2, checkpointing=True) < estimate.activations(model, 2)


def test_summary_and_warnings():
    known = {"steps": 2000, "videos": 32, "trained": 338881, "parameters": 2_300_000}
    space = {"memory": 2**30, "free_memory": 30 * 2**30, "disk": 85 * 2**20, "free_disk": 200 * 2**30}
    found = TrainingEstimate(**known, **space)
    assert found.summary() == (
        "2,000 steps of 32 videos; 338,881 of 2,300,000 parameters train; memory at least 1 GiB of 30 GiB free; "
        "disk up to 85 MiB of 200 GiB free; time after the first steps"
    )
    assert found.warnings() == []
    short = TrainingEstimate(**known, **(space | {"free_memory": 2**29, "free_disk": 2**20}))
    memory, disk = short.warnings()
    assert "needs about 1 GiB of memory and 512 MiB are free; lower `per_device_train_batch_size`" in memory
    assert "need up to 85 MiB and 1 MiB are free; lower `save_total_limit`" in disk
    assert "not estimated with FSDP" in TrainingEstimate(**known, **(space | {"memory": None})).summary()


@pytest.mark.parametrize(
    ("asked", "cores", "ranks", "device", "expected"),
    [
        (None, 2, 1, "cpu", 1),  # torch's threads take both
        (None, 8, 1, "cpu", 6),  # of which torch has 2
        (None, 8, 1, "cuda", 7),
        (None, 64, 1, "cuda", 16),
        (None, 64, 8, "cuda", 7),
        (None, 1, 1, "cuda", 1),
        (0, 8, 1, "cpu", 0),
        (3, 8, 1, "cpu", 3),
        (4, 2, 1, "cpu", 2),
        (6, 8, 4, "cuda", 2),
    ],
)
def test_workers_never_above_the_cores(monkeypatch, asked, cores, ranks, device, expected):
    warnings = []
    monkeypatch.setattr(arguments, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(arguments.logger, "warning", warnings.append)
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", str(ranks))
    assert loader_workers(asked, torch.device(device)) == expected
    assert len(warnings) == (asked is not None and asked > expected)
    assert all("`dataloader_num_workers`" in text for text in warnings)


def test_arguments_choose_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(arguments, "usable_cores", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    chosen = training(tmp_path, dataloader_num_workers=None, dataloader_prefetch_factor=3)
    assert chosen.dataloader_num_workers == 3
    assert estimate.ready_batches(chosen) == 9
    assert training(tmp_path, dataloader_num_workers=9).dataloader_num_workers == 4


@pytest.mark.parametrize(
    ("content", "expected"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 7), ("", 7), (None, 7)]
)
def test_a_container_with_a_share_of_the_processor_has_fewer_cores(tmp_path, monkeypatch, content, expected):
    quota = tmp_path / "cpu.max"
    if content is not None:
        quota.write_text(content)
    monkeypatch.setattr(reading_ahead, "CPU_QUOTA", quota)
    monkeypatch.setattr(reading_ahead, "os", SimpleNamespace(sched_getaffinity=lambda process: range(7)))
    assert reading_ahead.usable_cores() == expected
