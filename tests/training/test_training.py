"""Training from class folders to a model: the command, the trainer, what a run leaves and says."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from packaging.version import Version
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_models import tiny_clip, tiny_model
from tiny_training import NAMES, arguments, assert_bit_equal, assert_near, history, weights
from torch._dynamo.utils import counters
from transformers import AutoModelForVideoClassification, CLIPModel, EvalPrediction, TrainingArguments
from transformers.image_utils import PILImageResampling
from transformers.utils import logging

from vitaclip_hf import VitaClipForVideoClassification, VitaClipProcessor
from vitaclip_hf.data.annotations import read_annotations
from vitaclip_hf.data.clip_stream import ClipStream
from vitaclip_hf.model.sources import VideoDecodingError
from vitaclip_hf.training import arguments as arguments_module
from vitaclip_hf.training import run as train_script
from vitaclip_hf.training.arguments import NAMES as ARGUMENTS
from vitaclip_hf.training.arguments import (
    REFUSED,
    AugmentationArguments,
    DataArguments,
    ModelArguments,
    VitaClipTrainingArguments,
)
from vitaclip_hf.training.clip_datasets import make_datasets
from vitaclip_hf.training.recipes import read_recipe
from vitaclip_hf.training.starting_point import load_starting_point
from vitaclip_hf.training.trainer import VitaClipTrainer
from vitaclip_hf.training.training_data import read_training_data


ROOT = Path(__file__).parents[2]


def copy_videos(videos: Path, folder: Path, numbers: str = "0123") -> Path:
    """Class folders that hold only the videos of these numbers."""
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        for number in numbers:
            (folder / name / f"{number}.mp4").write_bytes((videos / name / f"{number}.mp4").read_bytes())
    return folder


def test_a_run_leaves_model_checkpoints_recipe_record_and_curves(whole_run, videos, start):
    model = AutoModelForVideoClassification.from_pretrained(whole_run)
    assert isinstance(model, VitaClipForVideoClassification)
    assert list(model.config.id2label.values()) == sorted(NAMES)
    assert (model.config.num_frames, model.config.text_config.num_context_tokens) == (4, 4)
    frozen = CLIPModel.from_pretrained(start).state_dict()
    for name, tensor in model.state_dict().items():
        if not any(part in name for part in ("prompts", "time_embedding", "logit_scale")):
            assert torch.equal(tensor, frozen[name]), name
    processor = VitaClipProcessor.from_pretrained(whole_run).video_processor
    assert (processor.num_frames, processor.sampling, processor.frame_stride) == (4, "dense", 1)
    record = json.loads((whole_run / "run.json").read_text())
    assert record["data"]["classes"] == 3
    assert (record["data"]["train"]["videos"], record["data"]["validation"]["videos"]) == (9, 3)
    model.freeze_backbone()
    assert record["trainable_parameters"] == model.num_parameters(only_trainable=True)
    assert record["environment"]["torch"] == torch.__version__.split("+")[0]
    held = read_annotations(videos, whole_run / "held_back.csv")
    assert (held.class_names, held.counts(), len(held)) == (tuple(sorted(NAMES)), [1, 1, 1], 3)
    assert (whole_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(whole_run.rglob("*.bin"))
    assert not (whole_run / "incomplete").exists()
    assert {path.name for path in whole_run.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}


def test_log_has_what_people_watch(whole_run):
    steps = history(whole_run)
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4]
    assert all(entry["unreadable_videos"] == 0 for entry in steps)
    assert [entry["step"] for entry in steps if "videos_per_second" in entry] == [2, 3, 4]
    assert all(entry["videos_per_second"] > 0 and 0 <= entry["waiting_for_data"] <= 1 for entry in steps[1:])
    assert [entry["step"] for entry in history(whole_run, "eval_top1")] == [2, 4]
    assert [entry["step"] for entry in history(whole_run, "final_top1")] == [4]
    assert history(whole_run, "eval_top1")[0]["eval_top5"] == 1.0  # three classes


def test_best_model_is_the_one_saved(whole_run):
    state = json.loads((whole_run / "trainer_state.json").read_text())
    scores = {entry["step"]: entry for entry in history(whole_run, "eval_top1")}
    assert state["best_metric"] == max(entry["eval_top1"] for entry in scores.values())
    # Of equal accuracies, the lower loss.
    best = max(scores, key=lambda step: (scores[step]["eval_top1"], -scores[step]["eval_loss"]))
    assert state["best_model_checkpoint"].endswith(f"-{best}")
    assert history(whole_run, "final_top1")[0]["final_loss"] == pytest.approx(scores[best]["eval_loss"])
    assert_bit_equal(weights(whole_run), weights(Path(state["best_model_checkpoint"])))


def test_a_loss_that_is_no_number_stops(start, videos, tmp_path, error_line):
    more = ["--optim", "sgd", "--learning_rate", "1e30", "--max_grad_norm", "0", "--eval_strategy", "no"]
    assert re.search("loss is nan .*--learning-rate", error_line(arguments(start, videos, tmp_path, *more)))
    assert not (tmp_path / "model.safetensors").exists()


def test_bfloat16_trains_near_float32(whole_run, start, videos, tmp_path):
    """Through the trainer's own autocast: the losses differ, by what bfloat16 rounds."""
    assert train_script.train(arguments(start, videos, tmp_path, "--bf16")) == 0
    single, half = ([entry["loss"] for entry in history(run)] for run in (whole_run, tmp_path))
    assert half[0] != single[0] and half[0] == pytest.approx(single[0], rel=0.02)
    assert half[1] == pytest.approx(single[1], rel=0.2)
    assert {tensor.dtype for tensor in weights(tmp_path).values() if tensor.is_floating_point()} == {torch.float32}


def test_missing_tensorboard_is_an_error(start, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(train_script, "get_available_reporting_integrations", lambda: [])
    with pytest.raises(ValueError, match="pip install tensorboard"):
        train_script.train(arguments(start, videos, tmp_path, "--tensorboard"))


@pytest.mark.parametrize("path", sorted((ROOT / "configuration" / "accelerate").glob("*.yaml")), ids=lambda p: p.stem)
def test_accelerate_reads_its_configurations(path):
    config = load_config_from_file(str(path))
    kind = {"single-gpu": "NO", "ddp": "MULTI_GPU", "fsdp": "FSDP"}[path.stem]
    assert (config.distributed_type, config.num_machines) == (kind, 1)
    assert config.num_processes == (1 if kind == "NO" else 2)


def test_a_test_split_chooses_no_model(start, videos, tmp_path):
    for split, numbers in (("train", "012"), ("test", "3")):
        copy_videos(videos, tmp_path / "data" / split, numbers)
    more = ["--validation_share", "0", "--learning_rate", "0.3"]
    assert train_script.train(arguments(start, tmp_path / "data", tmp_path / "out", *more)) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["data"]["validation_from"] == "test"
    assert_bit_equal(weights(tmp_path / "out"), weights(tmp_path / "out" / "checkpoint-4"))
    # A share of the training videos is another thing.
    held = read_training_data(DataArguments(videos=str(tmp_path / "data"), validation_share=0.3), seed=0)
    assert (held.validation_from, len(held.train), len(held.validation)) == ("held back", 6, 3)


def test_unreadable_videos_stop_a_run_or_are_replaced_and_counted(start, videos, tmp_path):
    (copy_videos(videos, tmp_path / "videos") / "left" / "broken.mp4").write_bytes(b"no video")
    more = [
        "--validation_share",
        "0",
        "--eval_strategy",
        "no",
        "--eval_on_start",
        "true",
        "--num_train_epochs",
        "1",
        "--max_steps",
        "-1",
    ]
    with pytest.raises(VideoDecodingError, match="broken.mp4"):
        train_script.train(arguments(start, tmp_path / "videos", tmp_path / "a", *more))
    skipping = [*more, "--on_unreadable", "skip"]
    assert train_script.train(arguments(start, tmp_path / "videos", tmp_path / "b", *skipping)) == 0
    assert history(tmp_path / "b")[-1]["unreadable_videos"] == 1


def test_reading_options_and_normalisation_reach_both_data_sets(start, videos, tmp_path):
    given = DataArguments(str(videos), validation_share=0.25, max_seconds=5, frame_stride=1)
    data = read_training_data(given, seed=0)
    processor = VitaClipProcessor.from_pretrained(start).video_processor
    processor.image_mean, processor.image_std = [0.1, 0.2, 0.3], [1.0, 2.0, 3.0]
    training = VitaClipTrainingArguments(str(tmp_path), use_cpu=True)
    train_set, validation, _ = make_datasets(data, processor, AugmentationArguments(), training)
    for dataset in (train_set, validation):
        assert dataset.reader.options.max_seconds == 5 and dataset.reader.options.pixel_aspect == "coded"
    augmentation = train_set.augmentation
    assert (augmentation.mean, augmentation.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


def test_datasets_library_trains_and_resumes_as_list_and_as_stream(start, videos, tmp_path):
    """`hub:` reads what `datasets.load_dataset` does; here a folder with train and validation splits."""
    for split, numbers in (("train", "012"), ("validation", "3")):
        copy_videos(videos, tmp_path / "data" / split, numbers)
    more = ["--videos", f"hub:{tmp_path / 'data'}", "--validation_share", "0"]
    for name, extra in (("list", []), ("stream", ["--streaming"])):
        assert train_script.train(arguments(start, videos, tmp_path / name, *more, *extra)) == 0
        assert json.loads((tmp_path / name / "run.json").read_text())["data"]["classes"] == 3
        metrics = history(tmp_path / name, "eval_top1")[0]
        assert metrics["eval_missing"] == 0
        assert metrics["eval_top1"] * 3 == pytest.approx(round(metrics["eval_top1"] * 3))  # three videos
    whole = weights(tmp_path / "stream" / "checkpoint-4")
    (tmp_path / "stream" / "checkpoint-4").rename(tmp_path / "checkpoint-4")
    assert train_script.train(arguments(start, videos, tmp_path / "stream", *more, "--streaming", "--resume")) == 0
    assert_bit_equal(weights(tmp_path / "stream" / "checkpoint-4"), whole)
    with pytest.raises(ValueError, match="`max_steps`"):
        train_script.train(arguments(start, videos, tmp_path / "b", *more, "--streaming", "--max_steps", "-1"))


def test_check_data_lists_what_is_wrong_and_trains_nothing(start, videos, tmp_path, capsys):
    folder = copy_videos(videos, tmp_path / "videos", "0")
    (folder / "left" / "broken.mp4").write_bytes(b"no video")
    given = arguments(start, folder, tmp_path / "out", "--check_data", "--validation_share", "0")
    assert train_script.train(given) == 2
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("4 videos", "3 usable", "broken.mp4"))
    assert not list(tmp_path.glob("out/[!.]*"))
    (folder / "left" / "broken.mp4").unlink()
    assert train_script.train(given) == 0
    assert train_script.train([*given, "--max_seconds", "1e-9"]) == 2


def test_arguments_are_replaced_and_transformers_own_are_refused(tmp_path):
    first = VitaClipTrainingArguments(str(tmp_path), eval_strategy="epoch", save_strategy="epoch", total_batch_size=6)
    second = replace(first, learning_rate=0.5)
    assert {f.name for f in fields(first) if getattr(first, f.name) != getattr(second, f.name)} == {"learning_rate"}
    plateau = VitaClipTrainingArguments(
        str(tmp_path), eval_strategy="epoch", save_strategy="epoch", lr_scheduler_type="reduce_lr_on_plateau"
    )
    assert (plateau.metric_for_best_model, plateau.lr_scheduler_kwargs) == ("top1", {"mode": "max"})
    with pytest.raises(TypeError, match="must be VitaClipTrainingArguments"):
        VitaClipTrainer(tiny_model(cls=VitaClipForVideoClassification), TrainingArguments(str(tmp_path)))


def test_one_of_several_gpus_trains_without_a_launcher(tmp_path, monkeypatch):
    def devices(arguments):
        arguments._n_gpu, arguments.distributed_state = getattr(arguments, "_n_gpu", 2), None
        return torch.device("cpu")

    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(devices))
    warning = Mock()
    monkeypatch.setattr(arguments_module.logger, "warning", warning)
    training = VitaClipTrainingArguments(str(tmp_path), total_batch_size=3)
    assert (training.n_gpu, training.train_batch_size, training.gradient_accumulation_steps) == (1, 3, 1)
    assert "one of 2 GPUs" in warning.call_args.args[0]


def test_deepspeed_of_the_launcher_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr("accelerate.utils.DeepSpeedPlugin", Mock())
    with pytest.raises(ValueError, match="`deepspeed` is not used here; use FSDP"):
        VitaClipTrainingArguments(str(tmp_path))


def test_several_validation_sets_and_streams(tmp_path, monkeypatch):
    """A stream deals itself out to the ranks, so accelerate must not do it again."""
    choice = {"eval_strategy": "epoch", "metric_for_best_model": "eval_a_top1"}
    training = VitaClipTrainingArguments(str(tmp_path), use_cpu=True, report_to=[], **choice)
    stream, own = ClipStream.__new__(ClipStream), VitaClipTrainer._stream_loader
    monkeypatch.setattr(VitaClipTrainer, "_stream_loader", lambda trainer, dataset: (own, dataset))
    model = tiny_model(cls=VitaClipForVideoClassification)
    sets: dict = {"a": stream, "b": [{}]}
    with pytest.raises(ValueError, match="must be one of b_top1, .* got 'a_top1'"):
        VitaClipTrainer(model, training, eval_dataset={"b": [{}]})
    trainer = VitaClipTrainer(model, training, eval_dataset=sets)
    assert trainer.get_eval_dataloader("a") == trainer.get_test_dataloader(stream) == (own, stream)
    assert [len(loader.dataset) for loader in (trainer.get_eval_dataloader("b"), trainer.get_test_dataloader([{}]))]
    trainer.state.log_history, trainer.state.best_metric = [{"step": 2, "eval_a_loss": 1.0}], 0.5
    trainer.state.best_global_step, trainer.state.global_step, trainer.control.should_save = 2, 4, True
    for loss, better in ((1.5, False), (0.5, True)):  # of equal accuracies
        assert trainer._determine_best_metric({"eval_a_top1": 0.5, "eval_a_loss": loss}, None) == better


def test_each_video_counts_once(tmp_path):
    training = VitaClipTrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
    trainer = VitaClipTrainer(tiny_model(cls=VitaClipForVideoClassification), training)
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.7, 0.2, 0.1], [0, 0, 1]])
    books = np.array([[0, 1], [0, 2], [2, 0], [0, 1], [-100, -1]])  # label and index; video 1 twice, and none at all
    metrics = trainer.count_videos_once(EvalPrediction(scores, books))
    assert (metrics["top1"], metrics["missing"]) == (pytest.approx(2 / 3), 0)
    assert metrics["mean_class"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["loss"] == pytest.approx(-(np.log(0.7) + np.log(0.1) + np.log(0.4)) / 3)
    books[1, 0] = -100  # could not be read
    metrics = trainer.count_videos_once(EvalPrediction(scores, books))
    assert (metrics["top1"], metrics["missing"]) == (1.0, 1)
    books[:, 0] = -100
    with pytest.raises(ValueError, match="none of the 3"):
        trainer.count_videos_once(EvalPrediction(scores, books))


@pytest.mark.parametrize("decay_all", [False, True])
def test_weight_decay_on_matrices_or_on_everything(tmp_path, decay_all):
    model = tiny_model(cls=VitaClipForVideoClassification)
    model.freeze_backbone()
    training = VitaClipTrainingArguments(
        str(tmp_path), use_cpu=True, report_to=[], weight_decay=0.05, decay_all=decay_all
    )
    optimizer = VitaClipTrainer(model, training).create_optimizer()
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    linear = {name for name in trained if name.endswith("weight") and ("projection" in name or "proj." in name)}
    assert len(linear) == 2 * 5  # of each layer: the projection of class tokens, and four of the summary attention
    assert names == (trained if decay_all else linear)


BAD_ARGUMENTS = {
    "no videos there": (["--videos", "{tmp}/out"], "no"),
    "too many frames": (["--num_frames", "40000000"], "--num-frames"),
    "wrong RandAugment": (["--rand_augment", "rand-q7"], "rand-q7"),
    "less than no context": (["--num_context_tokens", "-1"], "num-context-tokens"),
    "unknown metric": (["--metric_for_best_model", "f1"], "top1, top5"),
    "unused": (["--dataloader_drop_last"], "--dataloader-drop-last"),
    "half precision": (["--fp16"], "--bf16"),
    "no steps between": (["--eval_strategy", "epoch"], "--eval-steps .*--eval-strategy is epoch"),
    "mixing single videos": (["--per_device_train_batch_size", "1"], "--mixup"),
    "one level too deep": (["--videos", "{parent}"], "only one class, 'videos'"),
    "a stream of files": (["--streaming"], "hub:ID"),
    "output is a file": (["--output_dir", "{tmp}/list.txt"], "list.txt"),
    "no steps": (["--max_steps", "0"], "--max-steps"),
    "no model": (["--model", "{tmp}/no-model"], "no-model"),
    "nothing to resume": (["--resume"], "--resume: .*/out "),
    "batch": (["--total_batch_size", "0"], "--total-batch-size 0"),
    "steps of an evaluation": (["--eval_accumulation_steps", "0"], "--eval-accumulation-steps must be at least 1"),
    "one number": (["--crop_scale", "0.5"], "--crop-scale"),
    "a share of a batch": (
        ["--gradient_accumulation_steps", "2", "--total_batch_size", "6"],
        "--total-batch-size is 6; leave it out",
    ),
    "a rate without validation": (
        ["--validation_share", "0", "--lr_scheduler_type", "reduce_lr_on_plateau"],
        "--lr-scheduler-type .*validation",
    ),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_input_is_one_line_that_says_what_to_change(case, start, videos, tmp_path, error_line):
    (tmp_path / "list.txt").touch()
    more, message = BAD_ARGUMENTS[case]
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "videos").symlink_to(videos)
    more = [part.format(tmp=tmp_path, parent=tmp_path / "parent") for part in more]
    assert re.search(message, error_line(arguments(start, videos, tmp_path / "out", *more)))
    assert not (tmp_path / "out" / "run.json").exists()


# Values of all other fields that this training honours, but for those that need several processes, a GPU or a compiler.
HONOURED = {
    "lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": '{"min_lr": 0.005}', "warmup_steps": 1,
    "optim": "sgd", "weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-6,
    "average_tokens_across_devices": False, "max_grad_norm": 2, "bf16": True, "torch_empty_cache_steps": 1,
    "activation_checkpointing": True, "activation_checkpointing_kwargs": '{"use_reentrant": false}',
    "gradient_checkpointing": True, "gradient_checkpointing_kwargs": '{"use_reentrant": false}',
    "logging_strategy": "steps", "logging_first_step": True, "log_on_each_node": False, "log_level": "error",
    "log_level_replica": "error", "disable_tqdm": True, "eval_delay": 3, "eval_on_start": True,
    "eval_accumulation_steps": 1, "save_only_model": True, "save_total_limit": 1, "load_best_model_at_end": True,
    "metric_for_best_model": "loss", "greater_is_better": False, "ignore_data_skip": True, "full_determinism": True,
    "seed": 7, "data_seed": 8, "dataloader_num_workers": 1, "dataloader_pin_memory": False,
    "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 1, "skip_memory_metrics": False,
    "report_to": "tensorboard", "local_rank": 0, "dataloader_multiprocessing_context": "fork",
}  # fmt: skip
ELSEWHERE = {
    *("ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters"),
    *("ddp_timeout", "fsdp", "fsdp_config", "fp16", "tf32", "torch_compile", "torch_compile_backend"),
    *("torch_compile_mode", "num_train_epochs"),  # in the place of max_steps
    *("run_name", "project", "trackio_bucket_id", "trackio_space_id", "trackio_static_space_id"),  # read by trackers
}


@pytest.mark.parametrize("name", [item.name for item in fields(TrainingArguments)])
def test_every_field_of_transformers_is_honoured_or_refused(name, tmp_path):
    """A field of a new version of transformers fails: decide whether this training honours it."""
    if name in REFUSED:
        with pytest.raises(ValueError, match=f"`{name}` is not used here; use "):
            VitaClipTrainingArguments(str(tmp_path), use_cpu=True, **{name: object()})
    elif name == "save_total_limit":
        kept = [
            VitaClipTrainingArguments(str(tmp_path), use_cpu=True, **limit).save_total_limit
            for limit in ({}, {name: None})
        ]
        assert kept == [2, None]
    else:
        assert name in {*HONOURED, *ELSEWHERE} or f"--{name}" in arguments(*map(Path, "abc"))


def test_the_honoured_fields_together(start, videos, tmp_path, monkeypatch, capsys):
    tmp_path = tmp_path / "a run"
    seeds = []  # the switch itself would last for all tests that follow
    monkeypatch.setattr("transformers.trainer.enable_full_determinism", seeds.append)
    read = train_script.read_training_data
    monkeypatch.setattr(train_script, "read_training_data", lambda *given: seeds.append(given[1]) or read(*given))
    more = [part for name, value in HONOURED.items() for part in (f"--{name}", str(value))]
    more += ["--interpolation", "bilinear", "--no-antialias"]
    assert train_script.train(arguments(start, videos, tmp_path, *more, "--tensorboard")) == 0
    assert [entry["step"] for entry in history(tmp_path, "eval_loss")] == [0, 4]  # on the start, and after the delay
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    assert not [*tmp_path.glob("checkpoint-4/optimizer*")]
    first, _ = sorted(tmp_path.rglob("events.out.tfevents.*"))  # of the training, and of the evaluation at its end
    curves = EventAccumulator(str(first.parent))
    curves.Reload()
    for name, tag in (("loss", "train/loss"), ("eval_top1", "eval/top1")):
        expected = {entry["step"]: pytest.approx(entry[name]) for entry in history(tmp_path, name)}
        assert {event.step: event.value for event in curves.Scalars(tag)} == expected
    rates = [entry["learning_rate"] for entry in history(tmp_path, "learning_rate")]
    assert rates[0] == 0 and rates[1] == 0.01 and min(rates[1:]) > 0.005
    printed = capsys.readouterr().out
    assert (
        "{'loss': " in printed and f"--model '{tmp_path}' " in printed
    )  # lines in place of the bar; a command to copy
    assert {7, 8} <= {*seeds} and logging.get_verbosity() == logging.ERROR
    processor = VitaClipProcessor.from_pretrained(tmp_path).video_processor
    assert (processor.resample, processor.antialias) == (PILImageResampling.BILINEAR, False)  # as it was trained
    logging.set_verbosity_warning()


@pytest.mark.slow
def test_the_papers_recipe_runs_as_written(tokenizer, videos, tmp_path):
    """From a stock CLIP; other than in the recipe are only the data, the number of steps and the split of a step."""
    stock_clip = tmp_path / "clip"
    tiny_clip(text={"eos_token_id": 49407, "bos_token_id": 49406}).save_pretrained(stock_clip)
    tokenizer.save_pretrained(stock_clip)
    (tmp_path / "train.csv").write_text("".join(f"{n}/{i}.mp4,{c}\n" for c, n in enumerate(NAMES) for i in range(3)))
    (tmp_path / "val.csv").write_text("".join(f"{n}/3.mp4,{c}\n" for c, n in enumerate(NAMES)))
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    given = {
        "model": stock_clip, "videos": videos, "annotations": tmp_path / "train.csv", "classes": tmp_path / "names.txt",
        "eval-annotations": tmp_path / "val.csv", "max-steps": 1, "total-batch-size": 9, "output-dir": tmp_path / "out",
        "per-device-train-batch-size": 3, "eval-steps": 1, "save-steps": 1, "dataloader-num-workers": 0,
    }  # fmt: skip
    command = ["vita-clip-k400", *(str(part) for name, value in given.items() for part in (f"--{name}", value))]
    assert train_script.train(command) == 0
    model = VitaClipForVideoClassification.from_pretrained(tmp_path / "out")
    assert [model.config.id2label[index] for index in range(3)] == list(NAMES)  # the list's order, not the alphabet's
    assert (model.config.num_frames, model.config.text_config.num_context_tokens) == (8, 16)
    clip, own = CLIPModel.from_pretrained(stock_clip).state_dict(), model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in clip.items() if name != "logit_scale")
    resolved = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert (resolved["learning_rate"], resolved["rand_augment"]) == (4e-4, "rand-m7-n4-mstd0.5-inc1")
    assert resolved["per_device_train_batch_size"] == 3


def test_classes_and_layout_of_another_checkpoint(start):
    model = ModelArguments(model=str(start), num_frames=4, num_context_tokens=4)
    with pytest.raises(ValueError, match="3 classes.* 2;.*`reset_classes`"):
        load_starting_point(model, ["left", "right"])
    with pytest.raises(ValueError, match="class 1 .*'riding a bike'.*'rowing'"):
        load_starting_point(model, ["archery", "rowing", "tai chi"])
    with pytest.raises(ValueError, match="num_frames=4.* 8"):
        load_starting_point(ModelArguments(model=str(start)), ["archery", "riding a bike", "tai chi"])
    model.reset_classes = True
    assert load_starting_point(model, ["left", "right"])[0].config.id2label == {0: "left", 1: "right"}


@pytest.mark.parametrize("fresh", [False, True])
def test_a_model_in_half_precision_is_trained_in_float32(start, tmp_path, fresh):
    VitaClipForVideoClassification.from_pretrained(start, dtype=torch.float16).save_pretrained(tmp_path)
    VitaClipProcessor.from_pretrained(start).save_pretrained(tmp_path)
    given = ModelArguments(model=str(tmp_path), num_frames=4, num_context_tokens=4, fresh_prompts=fresh)
    model, _ = load_starting_point(given, ["archery", "riding a bike", "tai chi"])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory.\nTried"), MemoryError()])
def test_out_of_memory_names_arguments_that_exist(error, monkeypatch, error_line):
    monkeypatch.setattr(train_script, "train", lambda _: (_ for _ in ()).throw(error))
    message = error_line([])
    named = {name.replace("-", "_") for name in re.findall(r"--([\w-]+)", message)}
    assert len(named) == 2 and named <= ARGUMENTS


@pytest.mark.skipif(Version(torch.__version__) < Version("2.7"), reason="refused, see below")
@pytest.mark.slow
def test_compiled_training_is_the_same_training(whole_run, start, videos, tmp_path):
    """Through the trainer's own switch; the saved names are those of the plain model."""
    counters.clear()
    compiled = ["--torch_compile", "True", "--torch_compile_backend", "aot_eager"]
    assert train_script.train(arguments(start, videos, tmp_path, *compiled)) == 0
    assert counters["stats"]["unique_graphs"] > 0
    plain, ours = ([entry["loss"] for entry in history(run)] for run in (whole_run, tmp_path))
    assert ours == pytest.approx(plain, rel=1e-4)
    assert_near(weights(tmp_path / "checkpoint-4"), weights(whole_run / "checkpoint-4"), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("compiled", [{"torch_compile": True}, {"torch_compile_backend": "aot_eager"}])
def test_a_torch_too_old_to_compile_is_refused(tmp_path, monkeypatch, compiled):
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    with pytest.raises(ValueError, match="`torch_compile`.* 2.7 .*2.6.0"):
        VitaClipTrainingArguments(str(tmp_path), use_cpu=True, **compiled)
