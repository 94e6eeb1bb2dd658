"""Checkpoints of trainings: interrupted, killed, moved, damaged or on a full disk; resuming is bit-exact."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny_training import arguments, assert_bit_equal, weights
from transformers import CLIPTokenizer
from transformers.trainer_callback import TrainerState

from vitaclip_hf import VitaClipForVideoClassification, load_prompts
from vitaclip_hf.training import checkpoints, run_folder
from vitaclip_hf.training import run as train_script
from vitaclip_hf.training.checkpoints import complete_checkpoints, writing
from vitaclip_hf.training.run_folder import RunFolder
from vitaclip_hf.training.trainer import VitaClipTrainer


def test_resumed_training_is_the_same_to_the_bit(whole_run, start, videos, tmp_path, monkeypatch):
    """Stopped after step 3, in the middle of an epoch; goes on from checkpoint 2, with another number of workers."""
    step = VitaClipTrainer.training_step

    def stop(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(VitaClipTrainer, "training_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train_script.train(arguments(start, videos, tmp_path))
    monkeypatch.undo()
    assert complete_checkpoints(tmp_path) == [tmp_path / "checkpoint-2"]
    (tmp_path / "incomplete" / "checkpoint-3").mkdir(parents=True)  # what was killed, whose step does not come again
    assert train_script.train(arguments(start, videos, tmp_path, "--resume")) == 0
    assert not (tmp_path / "incomplete").exists()
    assert_bit_equal(weights(tmp_path / "checkpoint-4"), weights(whole_run / "checkpoint-4"))
    optimizers = [torch.load(run / "checkpoint-4" / "optimizer.pt", weights_only=True) for run in (tmp_path, whole_run)]
    for ours, theirs in zip(*(state["state"].values() for state in optimizers), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    # And the training did something that could differ.
    before, after = weights(tmp_path / "checkpoint-2"), weights(tmp_path / "checkpoint-4")
    assert (before["class_prompts.context"] - after["class_prompts.context"]).abs().max() > 1e-3


def test_resuming_a_finished_training_trains_no_step_more(start, videos, tmp_path):
    """At a constant rate, where one more step would show."""
    more = ["--lr_scheduler_type", "constant", "--eval_strategy", "no"]
    assert train_script.train(arguments(start, videos, tmp_path, *more)) == 0
    first = weights(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert train_script.train(arguments(start, videos, tmp_path, *more, "--resume")) == 0
    assert_bit_equal(weights(tmp_path), first)
    assert complete_checkpoints(tmp_path)[-1].name == "checkpoint-4"
    record = json.loads((tmp_path / "run.json").read_text())
    assert [session["from"] for session in record["resumed"]] == ["checkpoint-4"]


def test_nothing_is_resumed_on_other_data_or_ranks_or_without_optimizer(start, videos, tmp_path, monkeypatch):
    data = shutil.copytree(videos, tmp_path / "data")
    given = arguments(start, data, tmp_path / "out", "--eval_strategy", "no", "--validation_share", "0")
    assert train_script.train(given) == 0
    shutil.copy(data / "left" / "0.mp4", data / "left" / "9.mp4")
    with pytest.raises(ValueError, match="data has changed .*train"):
        train_script.train([*given, "--resume"])
    (data / "left" / "9.mp4").unlink()
    (data / "left").rename(data / "a left")
    with pytest.raises(ValueError, match="class_names_sha256"):
        train_script.train([*given, "--resume"])
    folder = RunFolder(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    with pytest.raises(ValueError, match="1 ranks .* 2"):
        folder.check_same_run(record["data"], ranks=2)
    with monkeypatch.context() as patch, pytest.raises(UnicodeError):  # writing fails, as on a full disk
        patch.setattr(run_folder, "storable", lambda _: "\ud800")
        folder.record({}, {}, tmp_path / "checkpoint-2")
    folder.check_same_run(record["data"], ranks=1)  # the record is as it was
    for path in (tmp_path / "out").glob("checkpoint-*/optimizer.pt"):
        path.unlink()
    with pytest.raises(ValueError, match="`resume`.*out"):
        train_script.train([*given, "--resume"])
    (tmp_path / "out" / "model.safetensors").unlink()  # checkpoints of weights alone are not overwritten either
    with pytest.raises(ValueError, match="holds a trained model"):
        folder.start()


def test_prompts_alone_resume_and_load_like_the_whole(whole_run, start, videos, tmp_path):
    assert train_script.train(arguments(start, videos, tmp_path, "--prompts_only")) == 0
    shapes = {path.name for path in (tmp_path / "checkpoint-2").iterdir()}
    assert "prompts.safetensors" in shapes
    assert "model.safetensors" not in shapes
    for folder in ("checkpoint-4", "."):
        loaded = load_prompts(tmp_path / folder, model_class=VitaClipForVideoClassification)
        assert_bit_equal(loaded.state_dict(), weights(whole_run / folder))
    whole = weights(whole_run / "checkpoint-4")
    shutil.rmtree(tmp_path / "checkpoint-4")
    assert train_script.train(arguments(start, videos, tmp_path, "--prompts_only", "--resume")) == 0
    loaded = load_prompts(tmp_path / "checkpoint-4", model_class=VitaClipForVideoClassification)
    assert_bit_equal(loaded.state_dict(), whole)


@pytest.fixture
def full_disk(monkeypatch, error_line):
    """Trains while METHOD may write only SIZE bytes to a file of FOLDER; returns the one line that says why it ended.

    A write beyond this limit of the process fails as on a full disk: in the same places, with the same exceptions.
    """
    resource = pytest.importorskip("resource")

    def train(method: tuple[type, str], folder: Path, size: int, given: list[str]) -> str:
        save = getattr(*method)

        def limited(self, output=None, *more, **options):
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            target = Path(output or self.args.output_dir)
            if folder in (target, target.parent):
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            try:
                return save(self, output, *more, **options)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        with monkeypatch.context() as patch:
            patch.setattr(*method, limited)
            return error_line(given)

    return train


FULL = {
    "model.safetensors": (VitaClipTrainer, "_save", 100_000),
    "tokenizer.json": (CLIPTokenizer, "save_pretrained", 1_000),
    "optimizer.pt": (VitaClipTrainer, "_save_optimizer_and_scheduler", 10_000),
    "trainer_state.json": (TrainerState, "save_to_json", 1_000),
}


@pytest.mark.parametrize("file", FULL)
def test_full_disk_leaves_the_previous_checkpoint(file, full_disk, whole_run, start, videos, tmp_path):
    *method, size = FULL[file]
    assert (whole_run / "checkpoint-4" / file).stat().st_size > size
    folder = tmp_path / "incomplete" / "checkpoint-4"
    line = full_disk(method, folder, size, arguments(start, videos, tmp_path))
    assert f"{tmp_path}/checkpoint-4 could not be written" in line
    assert [path.name for path in tmp_path.rglob("*checkpoint-*")] == ["checkpoint-2"]
    if file == "optimizer.pt":
        assert train_script.train(arguments(start, videos, tmp_path, "--resume")) == 0
        assert_bit_equal(weights(tmp_path / "checkpoint-4"), weights(whole_run / "checkpoint-4"))


def test_full_disk_leaves_no_damaged_final_model(full_disk, whole_run, start, videos, tmp_path):
    shutil.copytree(whole_run, tmp_path / "run")
    given = arguments(start, videos, tmp_path / "run", "--resume")
    line = full_disk((VitaClipTrainer, "_save"), tmp_path / "run", 100_000, given)
    assert f"{tmp_path}/run could not be written" in line
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert train_script.train(given) == 0
    assert_bit_equal(weights(tmp_path / "run"), weights(whole_run))


def test_only_errors_of_writing_are_called_so(tmp_path):
    (tmp_path / "half").mkdir()
    with pytest.raises(RuntimeError, match="gloo"), writing(tmp_path / "whole", tmp_path / "half"):
        raise RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    assert (tmp_path / "half").is_dir()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")
    with pytest.raises(OSError, match="whole .*No space"), writing(tmp_path / "whole", tmp_path / "half"):
        raise full
    assert not (tmp_path / "half").exists()


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(start, videos, tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(checkpoints, "sync", lambda path: events.append(path.relative_to(tmp_path).as_posix()))
    replace = os.replace
    monkeypatch.setattr(checkpoints.os, "replace", lambda *paths: (events.append(paths[1].name), replace(*paths)))
    more = ["--save_steps", "4", "--eval_strategy", "no"]
    assert train_script.train(arguments(start, videos, tmp_path, *more)) == 0
    before, after = events[: events.index("checkpoint-4")], events[events.index("checkpoint-4") + 1 :]
    written = {f"incomplete/checkpoint-4/{path.name}" for path in (tmp_path / "checkpoint-4").iterdir()}
    assert written | {"incomplete/checkpoint-4", "run.json"} == set(before)
    assert after == ["."]


def test_each_damaged_file_of_a_checkpoint_is_named(whole_run, start, videos, tmp_path, error_line):
    run = shutil.copytree(whole_run, tmp_path / "run")
    resume = arguments(start, videos, run, "--resume")
    best = json.loads((run / "trainer_state.json").read_text())["best_global_step"]
    other = {2: 4, 4: 2}[best]
    for number, instead in ((4, 2), (best, other)):  # the last one, from which it goes on, and the one that is kept
        for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
            path = run / f"checkpoint-{number}" / name
            whole = path.read_bytes()
            flipped = bytearray(whole)
            flipped[len(flipped) // 2] ^= 1
            for content in (b"", whole[:300], bytes(flipped)):
                path.write_bytes(content)
                line = error_line(resume)
                assert f"{path}: " in line
                assert line.endswith(f"delete {path.parent} to go on from checkpoint-{instead}")
            path.write_bytes(whole)
    shutil.rmtree(run / "checkpoint-2")
    (run / "checkpoint-4" / "scheduler.pt").write_bytes(b"")
    assert error_line(resume).endswith(f"delete {run / 'checkpoint-4'} to start anew, in another --output-dir")


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_resumed_where_it_was_moved(finished, whole_run, start, videos, tmp_path, monkeypatch):
    """Begun by a relative path, moved, and resumed by another one. The best model is that of checkpoint 2."""
    more = ["--learning_rate", "0"]  # of equal models the first is the best
    monkeypatch.chdir(tmp_path)
    assert train_script.train(arguments(start, videos, Path("a"), *more)) == 0
    state = json.loads(Path("a/trainer_state.json").read_text())
    assert (state["best_global_step"], state["best_model_checkpoint"]) == (2, "a/checkpoint-2")
    state = json.loads(Path("a/checkpoint-4/trainer_state.json").read_text())
    assert (state["best_global_step"], state["best_model_checkpoint"]) == (2, None)
    expected = weights(Path("a"))
    Path("b").mkdir()
    Path("a").rename("b/c")
    if not finished:
        shutil.rmtree("b/c/checkpoint-4")
    (tmp_path / "b/c/model.safetensors").unlink()
    monkeypatch.chdir("b")
    assert train_script.train(arguments(start, videos, Path("c"), *more, "--resume")) == 0
    state = json.loads(Path("c/trainer_state.json").read_text())
    assert (state["best_global_step"], state["best_model_checkpoint"]) == (2, "c/checkpoint-2")
    assert_bit_equal(weights(Path("c")), expected)


def test_a_deleted_best_checkpoint_no_longer_competes(start, videos, tmp_path):
    more = ["--learning_rate", "0", "--save_steps", "1", "--eval_steps", "1", "--save_total_limit", "9"]
    assert train_script.train(arguments(start, videos, tmp_path, *more)) == 0
    assert json.loads((tmp_path / "trainer_state.json").read_text())["best_global_step"] == 1
    for number in (1, 3, 4):
        shutil.rmtree(tmp_path / f"checkpoint-{number}")
    assert train_script.train(arguments(start, videos, tmp_path, *more, "--resume")) == 0
    assert json.loads((tmp_path / "trainer_state.json").read_text())["best_global_step"] == 3


def test_only_saved_models_compete_to_be_the_best(start, videos, tmp_path, monkeypatch):
    scores = iter((0.1, 0.2, 0.9, 0.1, 0.2))
    count = VitaClipTrainer.count_videos_once
    monkeypatch.setattr(
        VitaClipTrainer, "count_videos_once", lambda *given: count(*given) | {"top1": next(scores), "loss": 1.0}
    )
    assert train_script.train(arguments(start, videos, tmp_path, "--eval_steps", "1")) == 0
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    assert (state["best_global_step"], state["best_metric"]) == (2, 0.2)
    assert_bit_equal(weights(tmp_path), weights(tmp_path / "checkpoint-2"))


def test_a_run_is_not_overwritten_and_not_resumed_otherwise(whole_run, start, videos):
    with pytest.raises(ValueError, match="checkpoint-4 .*`resume`"):
        train_script.train(arguments(start, videos, whole_run))
    with pytest.raises(ValueError, match="`learning_rate` .*0.01 .*0.5"):
        train_script.train(arguments(start, videos, whole_run, "--resume", "--learning_rate", "0.5"))
