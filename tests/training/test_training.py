"""Training from class folders to a model: the script, the trainer, what a run leaves and says."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from packaging.version import Version
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_models import tiny_model
from tiny_training import NAMES, arguments, assert_bit_equal, weights
from torch._dynamo.utils import counters
from transformers import AutoModelForVideoClassification, CLIPConfig, CLIPModel, EvalPrediction

from vitaclip_hf import VitaClipForVideoClassification, VitaClipModel
from vitaclip_hf.data.annotations import read_annotations
from vitaclip_hf.training import run as train_script
from vitaclip_hf.training.arguments import DataArguments, ModelArguments, VitaClipTrainingArguments, field_names
from vitaclip_hf.training.progress import evaluation_summary, plot_curves, step_summary
from vitaclip_hf.training.recipes import RecipeError, read_recipe
from vitaclip_hf.training.starting_point import load_starting_point
from vitaclip_hf.training.trainer import LostSampleError, TrainingError, VitaClipTrainer
from vitaclip_hf.training.training_data import read_training_data


pytest_plugins = ["tiny_training_fixtures"]
ROOT = Path(__file__).parents[2]


def test_a_run_leaves_model_checkpoints_recipe_record_and_curves(whole_run, videos, start):
    model = AutoModelForVideoClassification.from_pretrained(whole_run)
    assert isinstance(model, VitaClipForVideoClassification)
    assert list(model.config.id2label.values()) == sorted(NAMES)
    assert (model.config.num_frames, model.config.text_config.num_context_tokens) == (4, 4)
    frozen = VitaClipModel.from_pretrained(start).state_dict()
    for name, tensor in model.state_dict().items():
        if not any(part in name for part in ("prompts", "time_embedding", "logit_scale")):
            assert torch.equal(tensor, frozen[name]), name
    record = json.loads((whole_run / "run.json").read_text())
    assert record["data"]["classes"] == 3
    assert (record["data"]["train"]["videos"], record["data"]["validation"]["videos"]) == (9, 3)
    assert len(record["data"]["train"]["sha256"]) == 64
    assert record["trainable_parameters"] == model_trainable(model)
    assert record["environment"]["torch"] == torch.__version__.split("+")[0]
    held = read_annotations(videos, whole_run / "held_back.csv")
    assert held.class_names == tuple(sorted(NAMES))
    assert [held.counts(), len(held)] == [[1, 1, 1], 3]
    assert (whole_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(whole_run.rglob("*.bin"))
    assert not (whole_run / "incomplete").exists()
    assert {path.name for path in whole_run.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}


def model_trainable(model) -> int:
    model.freeze_backbone()
    return model.get_nb_trainable_parameters()[0]


def test_log_has_what_people_watch(whole_run):
    history = json.loads((whole_run / "trainer_state.json").read_text())["log_history"]
    steps = [entry for entry in history if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4]
    for entry in steps:
        assert entry["unreadable_videos"] == 0
    # Two workers hold four micro-batches ready, which last to the end of the epoch of three steps.
    assert [entry["step"] for entry in steps if "videos_per_second" in entry] == [4]
    assert steps[3]["videos_per_second"] > 0
    assert 0 <= steps[3]["waiting_for_data"] <= 1
    evaluations = [entry for entry in history if "eval_top1" in entry]
    assert [entry["step"] for entry in evaluations] == [2, 4]
    assert [entry["step"] for entry in history if "final_top1" in entry] == [4]
    assert evaluations[0]["eval_top5"] == 1.0  # three classes


def test_best_model_is_the_one_saved(whole_run):
    state = json.loads((whole_run / "trainer_state.json").read_text())
    scores = {entry["step"]: entry for entry in state["log_history"] if "eval_top1" in entry}
    assert state["best_metric"] == max(entry["eval_top1"] for entry in scores.values())
    # Of equal accuracies, the lower loss.
    best = max(scores, key=lambda step: (scores[step]["eval_top1"], -scores[step]["eval_loss"]))
    assert state["best_model_checkpoint"].endswith(f"-{best}")
    final = next(entry for entry in state["log_history"] if "final_top1" in entry)
    assert final["final_loss"] == pytest.approx(scores[best]["eval_loss"])
    assert_bit_equal(weights(whole_run), weights(Path(state["best_model_checkpoint"])))


def test_a_loss_that_is_no_number_stops(start, videos, tmp_path):
    more = ["--optim", "sgd", "--learning_rate", "1e30", "--max_grad_norm", "0", "--eval_strategy", "no"]
    with pytest.raises(train_script.StoppedError, match="the loss is nan at step .; lower --learning_rate"):
        train_script.train(arguments(start, videos, tmp_path, *more))
    assert not (tmp_path / "model.safetensors").exists()


def test_bfloat16_trains_near_float32(whole_run, start, videos, tmp_path):
    """Through the trainer's own autocast: the losses differ, by what bfloat16 rounds."""
    assert train_script.train(arguments(start, videos, tmp_path, "--bf16")) == 0
    single, half = (
        [entry for entry in json.loads((run / "trainer_state.json").read_text())["log_history"] if "loss" in entry]
        for run in (whole_run, tmp_path)
    )
    assert half[0]["loss"] != single[0]["loss"]
    assert half[0]["loss"] == pytest.approx(single[0]["loss"], rel=0.02)
    assert [entry["loss"] for entry in half] == pytest.approx([entry["loss"] for entry in single], rel=0.2)
    trained = weights(tmp_path)
    assert {name: tensor.dtype for name, tensor in trained.items()} == {
        name: tensor.dtype for name, tensor in weights(whole_run).items()
    }


def test_tensorboard_has_the_curves(start, videos, tmp_path, monkeypatch):
    given = arguments(start, videos, tmp_path, "--tensorboard")
    assert train_script.train(given) == 0
    (folder,) = {path.parent for path in tmp_path.rglob("events.out.tfevents.*")}
    curves = EventAccumulator(str(folder))
    curves.Reload()
    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    for name, tag in (("loss", "train/loss"), ("eval_top1", "eval/top1")):
        expected = {entry["step"]: pytest.approx(entry[name]) for entry in history if name in entry}
        assert {event.step: event.value for event in curves.Scalars(tag)} == expected
    monkeypatch.setattr(train_script, "find_spec", lambda name: None)
    shutil.rmtree(tmp_path)
    with pytest.raises(RecipeError, match="pip install tensorboard"):
        train_script.train(given)


@pytest.mark.parametrize("path", sorted((ROOT / "configuration" / "accelerate").glob("*.yaml")), ids=lambda p: p.stem)
def test_accelerate_reads_its_configurations(path):
    config = load_config_from_file(str(path))
    kind = {"single-gpu": "NO", "ddp": "MULTI_GPU", "fsdp": "FSDP"}[path.stem]
    assert (config.distributed_type, config.num_machines) == (kind, 1)
    assert config.num_processes == (1 if kind == "NO" else 2)
    if kind == "FSDP":
        layers = set(config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(","))
        assert layers <= {type(module).__name__ for module in tiny_model().modules()}


def test_a_test_split_chooses_no_model(start, videos, tmp_path):
    for split, numbers in (("train", "012"), ("test", "3")):
        for name in NAMES:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in numbers:
                (tmp_path / "data" / split / name / f"{number}.mp4").symlink_to(videos / name / f"{number}.mp4")
    more = ["--validation_share", "0", "--learning_rate", "0.3"]
    assert train_script.train(arguments(start, tmp_path / "data", tmp_path / "out", *more)) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["data"]["validation_from"] == "test"
    assert_bit_equal(weights(tmp_path / "out"), weights(tmp_path / "out" / "checkpoint-4"))
    # A share of the training videos is another thing.
    held = read_training_data(DataArguments(videos=str(tmp_path / "data"), validation_share=0.3), seed=0)
    assert (held.validation_from, len(held.train), len(held.validation)) == ("held back", 6, 3)


def test_the_last_model_where_that_is_wanted(start, videos, tmp_path):
    training = VitaClipTrainingArguments(
        str(tmp_path), use_cpu=True, eval_strategy="epoch", load_best_model_at_end=False
    )
    assert training.load_best_model_at_end is False
    assert VitaClipTrainingArguments(str(tmp_path), use_cpu=True, eval_strategy="no").load_best_model_at_end is False
    epochs = {"eval_strategy": "epoch", "save_strategy": "epoch"}
    assert VitaClipTrainingArguments(str(tmp_path), use_cpu=True, **epochs).load_best_model_at_end is True


def test_unreadable_videos_stop_a_run_or_are_replaced_and_counted(start, videos, tmp_path):
    broken = tmp_path / "videos" / "left" / "broken.mp4"
    for name in NAMES:
        (tmp_path / "videos" / name).mkdir(parents=True)
        for path in (videos / name).iterdir():
            (tmp_path / "videos" / name / path.name).symlink_to(path)
    broken.write_bytes(b"no video")
    more = ["--validation_share", "0", "--eval_strategy", "no", "--num_train_epochs", "1", "--max_steps", "-1"]
    with pytest.raises(train_script.StoppedError, match="Cannot read the video .*broken.mp4"):
        train_script.train(arguments(start, tmp_path / "videos", tmp_path / "a", *more))
    skipping = [*more, "--on_unreadable", "skip"]
    assert train_script.train(arguments(start, tmp_path / "videos", tmp_path / "b", *skipping)) == 0
    state = json.loads((tmp_path / "b" / "trainer_state.json").read_text())
    assert [entry["unreadable_videos"] for entry in state["log_history"] if "loss" in entry][-1] == 1


def test_datasets_library_trains_and_resumes_as_list_and_as_stream(start, videos, tmp_path):
    """`hub:` reads what `datasets.load_dataset` does; here a folder with train and validation splits."""
    for split in ("train", "validation"):
        for name in NAMES:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for path in (videos / name).glob("[0-2].mp4" if split == "train" else "3.mp4"):
                (tmp_path / "data" / split / name / path.name).write_bytes(path.read_bytes())
    more = ["--videos", f"hub:{tmp_path / 'data'}", "--validation_share", "0"]
    for name, extra in (("list", []), ("stream", ["--streaming"])):
        assert train_script.train(arguments(start, videos, tmp_path / name, *more, *extra)) == 0
        record = json.loads((tmp_path / name / "run.json").read_text())
        assert record["data"]["classes"] == 3
        state = json.loads((tmp_path / name / "trainer_state.json").read_text())
        metrics = next(entry for entry in state["log_history"] if "eval_top1" in entry)
        assert metrics["eval_missing"] == 0
        assert metrics["eval_top1"] in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1)
    whole = weights(tmp_path / "stream" / "checkpoint-4")
    shutil.rmtree(tmp_path / "stream" / "checkpoint-4")
    assert train_script.train(arguments(start, videos, tmp_path / "stream", *more, "--streaming", "--resume")) == 0
    assert_bit_equal(weights(tmp_path / "stream" / "checkpoint-4"), whole)
    with pytest.raises(RecipeError, match="pass `max_steps`"):
        train_script.train(arguments(start, videos, tmp_path / "b", *more, "--streaming", "--max_steps", "-1"))


def test_check_data_lists_what_is_wrong_and_trains_nothing(start, videos, tmp_path, capsys):
    folder = tmp_path / "videos"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "0.mp4").symlink_to(videos / name / "0.mp4")
    (folder / "left" / "broken.mp4").write_bytes(b"no video")
    given = arguments(start, folder, tmp_path / "out", "--check_data", "--validation_share", "0")
    assert train_script.train(given) == 2
    printed = capsys.readouterr().out
    assert "4 videos" in printed
    assert "3 usable" in printed
    assert "broken.mp4" in printed
    assert not (tmp_path / "out").exists()
    (folder / "left" / "broken.mp4").unlink()
    assert train_script.train(given) == 0


def test_each_rank_evaluates_and_nothing_is_lost(start, tmp_path):
    trainer = VitaClipTrainer(
        tiny_model(cls=VitaClipForVideoClassification),
        VitaClipTrainingArguments(str(tmp_path), use_cpu=True, report_to=[]),
    )
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.7, 0.2, 0.1]])
    books = np.array([[0, 1], [0, 2], [2, 0], [0, 1]])  # label and index; video 1 twice, to fill a batch up
    trainer._eval_size = 3
    metrics = trainer.count_videos_once(EvalPrediction(scores, books))
    assert metrics["top1"] == pytest.approx(2 / 3)
    assert metrics["mean_class"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["loss"] == pytest.approx(-(np.log(0.7) + np.log(0.1) + np.log(0.4)) / 3)
    trainer._eval_size = 4
    with pytest.raises(LostSampleError, match="3 of 4 videos"):
        trainer.count_videos_once(EvalPrediction(scores, books))
    with pytest.raises(TrainingError, match="none of the 3 validation videos could be read"):
        trainer._eval_size = 3
        trainer.count_videos_once(EvalPrediction(scores, np.array([[-100, 1], [-100, 2], [-100, 0], [-100, 1]])))
    books[1, 0] = -100  # could not be read
    trainer._eval_size = 3
    metrics = trainer.count_videos_once(EvalPrediction(scores, books))
    assert (metrics["top1"], metrics["missing"]) == (1.0, 1)


def test_weight_decay_on_matrices_or_on_everything(tmp_path):
    model = tiny_model(cls=VitaClipForVideoClassification)
    model.freeze_backbone()
    for decay_all in (False, True):
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
    "no videos there": (["--videos", "{tmp}"], "no"),
    "no folder": (["--videos", "{tmp}/nowhere"], "nowhere"),
    "labels out of range": (["--annotations", "{tmp}/list.txt", "--classes", "{tmp}/names.txt"], "label 7"),
    "too many frames": (["--num_frames", "40000000"], "lower .*num_frames"),
    "unknown argument": (["--learning_rat", "1"], "did you mean 'learning_rate'"),
    "wrong RandAugment": (["--rand_augment", "rand-q7"], "rand-q7"),
    "wrong policy": (["--on_unreadable", "ignore"], "ignore"),
    "wrong subset": (["--class_subset", "half"], "invalid choice: 'half'"),
    "no context": (["--num_context_tokens", "0"], "num_context_tokens"),
    "unknown metric": (["--metric_for_best_model", "f1"], "top1, top5"),
    "other smoothing": (["--label_smoothing_factor", "0.1"], "use --label_smoothing"),
    "other resume": (["--resume_from_checkpoint", "x"], "use --resume"),
    "mixing single videos": (["--per_device_train_batch_size", "1"], "must be 2 or more"),
    "one level too deep": (["--videos", "{parent}"], "--videos .*only one class.*pass it as --videos"),
    "a stream of files": (["--streaming"], "hub:ID"),
    "output is a file": (["--output_dir", "{tmp}/list.txt"], "is a file"),
    "no steps": (["--max_steps", "0"], "max_steps"),
    "no model": (["--model", "{tmp}/no-model"], "no-model"),
    "nothing to resume": (["--resume"], "--resume: .* no complete checkpoint"),
    "batch": (["--total_batch_size", "3"], "total_batch_size"),
    "other classes": (["--fresh_prompts", "false"], "^train: --model .* pass --reset_classes .* with --classes$"),
    "more shots than videos": (["--shots", "50", "--validation_share", "0"], "50 shots"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_input_is_one_line_that_says_what_to_change(case, start, videos, tmp_path, monkeypatch, capsys):
    (tmp_path / "list.txt").write_text("left/0.mp4 7\n")
    (tmp_path / "names.txt").write_text("left\ngrowing\nblinking\n")
    more, message = BAD_ARGUMENTS[case]
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "videos").symlink_to(videos)
    more = [part.format(tmp=tmp_path, parent=tmp_path / "parent") for part in more]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments(start, videos, tmp_path / "out", *more)])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert train_script.main() == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train: ")]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.fixture(scope="module")
def stock_clip(tokenizer, tmp_path_factory) -> Path:
    """A tiny random CLIP, as transformers saves it."""
    torch.manual_seed(0)
    size = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = CLIPConfig(
        vision_config=size | {"hidden_size": 48, "image_size": 32, "patch_size": 8},
        text_config=size | {"hidden_size": 32, "eos_token_id": 49407, "bos_token_id": 49406},
        projection_dim=24,
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_papers_recipe_runs_as_written(stock_clip, videos, tmp_path):
    """From a stock CLIP; other than in the recipe are only the data, the number of steps and the split of a step."""
    (tmp_path / "train.csv").write_text("".join(f"{n}/{i}.mp4,{c}\n" for c, n in enumerate(NAMES) for i in range(3)))
    (tmp_path / "val.csv").write_text("".join(f"{n}/3.mp4,{c}\n" for c, n in enumerate(NAMES)))
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    given = {
        "model": stock_clip, "videos": videos, "annotations": tmp_path / "train.csv", "classes": tmp_path / "names.txt",
        "eval_annotations": tmp_path / "val.csv", "max_steps": 1, "total_batch_size": 9, "output_dir": tmp_path / "out",
        "per_device_train_batch_size": 3, "eval_steps": 1, "save_steps": 1, "dataloader_num_workers": 0,
    }  # fmt: skip
    command = ["vita-clip-k400", *(str(part) for name, value in given.items() for part in (f"--{name}", value))]
    assert train_script.train(command) == 0
    model = VitaClipForVideoClassification.from_pretrained(tmp_path / "out")
    assert [model.config.id2label[index] for index in range(3)] == list(NAMES)  # the list's order, not the alphabet's
    assert (model.config.num_frames, model.config.text_config.num_context_tokens) == (8, 16)
    clip = CLIPModel.from_pretrained(stock_clip).state_dict()
    own = model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in clip.items() if name != "logit_scale")
    resolved = read_recipe(tmp_path / "out" / "recipe.yaml", field_names())
    assert (resolved["learning_rate"], resolved["rand_augment"]) == (4e-4, "rand-m7-n4-mstd0.5-inc1")
    assert resolved["per_device_train_batch_size"] == 3


def test_class_count_of_another_checkpoint(start):
    model = ModelArguments(model=str(start), num_frames=4, num_context_tokens=4)
    with pytest.raises(RecipeError, match="has 3 classes, the data 2; pass `reset_classes`"):
        load_starting_point(model, ["left", "right"])
    with pytest.raises(RecipeError, match="calls class 1 'riding a bike', the data 'rowing'"):
        load_starting_point(model, ["archery", "rowing", "tai chi"])
    with pytest.raises(RecipeError, match="has num_frames=4, the recipe asks for 8"):
        load_starting_point(ModelArguments(model=str(start)), ["archery", "riding a bike", "tai chi"])
    model.reset_classes = True
    found, _ = load_starting_point(model, ["left", "right"])
    assert found.config.id2label == {0: "left", 1: "right"}


def test_script_runs_by_itself(run_script, start, videos, tmp_path):
    finished = run_script("examples/train.py", "own-foldr", "--videos", videos)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith("train: there is no recipe")
    assert "did you mean 'own-folder'" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_lines_and_curves_for_people(tmp_path):
    logs = {"loss": 1.23456, "learning_rate": 4e-4, "videos_per_second": 12.345, "waiting_for_data": 0.05}
    assert step_summary(logs) == "loss 1.235, lr 4.0e-04, 12.3 videos/s, 5% waiting for data"
    assert step_summary(logs | {"unreadable_videos": 3}).endswith(", 3 unreadable")
    metrics = {"eval_top1": 0.712, "eval_top5": 0.9, "eval_loss": 1.0234, "eval_missing": 2}
    assert evaluation_summary(metrics) == "top-1 71.2%, top-5 90.0%, loss 1.02, 2 videos unreadable"
    plot_curves([{"step": 1, "loss": 2.0, "learning_rate": 0.1}, {"step": 1, "eval_top1": 0.5}], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_arguments_in_backticks_become_options():
    error = ValueError("`videos` and `id2label`: pass `fresh_prompts` 1 or `not_there`.")
    assert train_script.explain(error) == "--videos and `id2label`: pass --fresh_prompts 1 or `not_there`"


@pytest.mark.parametrize("package", ["accelerate", "datasets", "evaluate", "matplotlib", "psutil", "pyarrow"])
def test_a_missing_package_is_one_line(package, run_script):
    program = f"import sys; sys.modules[{package!r}] = None; from vitaclip_hf.cli.train import main; sys.exit(main([]))"
    finished = run_script("-c", program)
    assert finished.returncode == 2
    assert finished.stderr == f'train: not installed: {package}; pip install "vitaclip_hf[train]"\n'


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory.\nTried"), MemoryError()])
def test_out_of_memory_names_arguments_that_exist(error):
    message = train_script.explain(error)
    named = set(re.findall(r"--(\w+)", message))
    assert len(named) == 3 and named <= field_names() and "\n" not in message


@pytest.mark.skipif(Version(torch.__version__) < Version("2.7"), reason="refused, see below")
def test_compiled_training_is_the_same_training(whole_run, start, videos, tmp_path):
    """Through the trainer's own switch; the saved names are those of the plain model."""
    counters.clear()
    compiled = ["--torch_compile", "True", "--torch_compile_backend", "aot_eager"]
    assert train_script.train(arguments(start, videos, tmp_path, *compiled)) == 0
    assert counters["stats"]["unique_graphs"] > 0
    plain, ours = (
        [
            entry["loss"]
            for entry in json.loads((run / "trainer_state.json").read_text())["log_history"]
            if "loss" in entry
        ]
        for run in (whole_run, tmp_path)
    )
    assert ours == pytest.approx(plain, rel=1e-4)
    found, expected = weights(tmp_path / "checkpoint-4"), weights(whole_run / "checkpoint-4")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-3, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("compiled", [{"torch_compile": True}, {"torch_compile_backend": "aot_eager"}])
def test_a_torch_too_old_to_compile_is_refused(tmp_path, monkeypatch, compiled):
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    with pytest.raises(ValueError, match="`torch_compile` needs torch 2.7 or newer, this is 2.6.0"):
        VitaClipTrainingArguments(str(tmp_path), use_cpu=True, **compiled)
