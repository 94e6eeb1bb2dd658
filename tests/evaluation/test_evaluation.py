"""Evaluation from mp4 files to the results folder, on the demo checkpoint and generated videos."""

import csv
import hashlib
import json
import os
import runpy
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow.parquet
import pytest
import torch
from accelerate import PartialState
from transformers import pipeline

from vitaclip_hf.data.motion_shapes import all_scenes, draw_videos, write_video
from vitaclip_hf.evaluation import run
from vitaclip_hf.evaluation.cost import gmacs_per_view, parameters
from vitaclip_hf.evaluation.evaluator import EvaluationError, Evaluator, recipe_beside
from vitaclip_hf.evaluation.per_class import confusion_matrix
from vitaclip_hf.evaluation.plan import plan_evaluation
from vitaclip_hf.evaluation.progress_log import EvaluationLog, SetupMismatchError, VideoResult
from vitaclip_hf.evaluation.protocols import load_protocol
from vitaclip_hf.evaluation.report import write_report
from vitaclip_hf.evaluation.split_outcome import SplitOutcome, outcomes
from vitaclip_hf.evaluation.summary import mean_and_std, summarize
from vitaclip_hf.loading.checkpoint import CheckpointError, load_checkpoint


ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "examples" / "demo" / "checkpoint"
SCENES = all_scenes(held_out=True)[:10]  # one object, ten motions


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Ten readable videos, one damaged and one missing, with a list of them and of half of them."""
    folder = tmp_path_factory.mktemp("videos")
    drawn = draw_videos(SCENES, torch.Generator().manual_seed(5))
    for index, frames in enumerate(drawn):
        write_video(folder / f"{index}.mp4", frames.numpy())
    content = (folder / "3.mp4").read_bytes()
    (folder / "damaged.mp4").write_bytes(content[: len(content) // 2])
    names = [*(f"{index}.mp4 {index}" for index in range(10)), "damaged.mp4 3", "missing.mp4 4"]
    lists = folder / "lists"
    lists.mkdir()
    (lists / "all.txt").write_text("\n".join(names) + "\n")
    (lists / "mini_val1.txt").write_text("\n".join(names) + "\n")
    (lists / "mini_val2.txt").write_text("\n".join(names[::2]) + "\n")
    (lists / "classes.txt").write_text("".join(f"{scene.label.replace(' ', '_')}\n" for scene in SCENES))
    (lists / "mini.yaml").write_text(
        'lists: ["mini_val{split}.txt"]\nclasses: [classes.txt]\nframes: 8\nsampling: uniform\nstride: 16\nviews: 2\n'
        'templates: ["{}"]\nexpected_videos: {1: 12, 2: 6}\ntasks:\n  zero-shot:\n    splits: [1, 2]\n'
    )
    return folder


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(str(CHECKPOINT))


@pytest.fixture
def plan(videos):
    return plan_evaluation(load_protocol(str(videos / "lists" / "mini.yaml")), videos, videos / "lists")


def start(evaluator, folder, **options):
    log = EvaluationLog(folder, evaluator.setup())
    log.write_setup()
    return log, evaluator.pending_batches(log, **options)


def run_all(evaluator, folder) -> dict[str, VideoResult]:
    log, batches = start(evaluator, folder)
    for _ in evaluator.run(batches, log):
        pass
    log.read()
    return log.finished


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the ranks of the tests have: bytes are compared, and the last digits of sums depend on the threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(videos, checkpoint, tmp_path_factory):
    """One uninterrupted run with batches of 5 (the last one not full), and its folder."""
    plan = plan_evaluation(load_protocol(str(videos / "lists" / "mini.yaml")), videos, videos / "lists")
    folder = tmp_path_factory.mktemp("finished") / "results"
    evaluator = Evaluator(checkpoint, plan, batch_size=5)
    results = run_all(evaluator, folder)
    table = write_report(folder, evaluator, results, "the command")
    return folder, results, table


def test_scores_are_those_of_the_pipeline(videos, finished):
    """An independent way through the package: the zero-shot pipeline on single videos."""
    _, results, _ = finished
    classifier = pipeline("zero-shot-video-classification", model=str(CHECKPOINT))
    labels = [scene.label for scene in SCENES]
    for index in (0, 7):
        expected = classifier(str(videos / f"{index}.mp4"), candidate_labels=labels, num_views=2, top_k=5)
        ids, scores = results[f"{index}.mp4"].scores["vita_clip"]["1"]
        assert [labels[i] for i in ids] == [row["label"] for row in expected]
        assert scores == pytest.approx([row["score"] for row in expected], abs=1e-5)
        assert results[f"{index}.mp4"].scores["vita_clip"].get("2", [ids, scores]) == [ids, scores]


def test_frozen_clip_is_plain_clip_with_the_frames_averaged(videos, finished, checkpoint):
    """transformers' own CLIP with the same weights, on frames that the processor gives."""
    from transformers import CLIPModel

    clip = CLIPModel.from_pretrained(CHECKPOINT).eval()
    _, results, _ = finished
    inputs = checkpoint.processor.video_processor([str(videos / "2.mp4")], num_views=2, return_tensors="pt")
    pixels = inputs["pixel_values_videos"][0]  # [2, T, 3, S, S]
    texts = checkpoint.processor.tokenizer([scene.label for scene in SCENES], padding=True, return_tensors="pt")
    with torch.no_grad():
        frames = clip.get_image_features(pixel_values=pixels.flatten(0, 1)).pooler_output.unflatten(0, (2, 8)).mean(1)
        words = clip.get_text_features(**texts).pooler_output
        cosines = torch.nn.functional.normalize(frames, dim=-1) @ torch.nn.functional.normalize(words, dim=-1).T
        expected = (cosines * clip.logit_scale.exp()).softmax(-1).mean(0)
    ids, scores = results["2.mp4"].scores["frozen_clip"]["1"]
    assert ids == expected.topk(5).indices.tolist()
    assert scores == pytest.approx(expected.topk(5).values.tolist(), abs=1e-5)


def test_results_folder(finished, videos):
    folder, _, table = finished
    results = json.loads((folder / "results.json").read_text())
    rows = pyarrow.parquet.read_table(folder / "predictions.parquet").to_pylist()
    assert len(rows) == 12 + 6 and [row["path"] for row in rows[:2]] == ["0.mp4", "1.mp4"]
    by_status = {row["path"]: row["status"] for row in rows}
    assert by_status["damaged.mp4"] == "failed" and by_status["missing.mp4"] == "missing"
    damaged = next(row for row in rows if row["path"] == "damaged.mp4")
    assert "damaged.mp4" in damaged["reason"] and str(videos) not in damaged["reason"]
    assert damaged["vita_clip_ids"] is None and len(rows[0]["vita_clip_ids"]) == 5
    for split, listed in (("1", 12), ("2", 6)):
        there = [row for row in rows if row["split"] == split and row["status"] == "ok"]
        for system in ("vita_clip", "frozen_clip"):
            top1 = np.mean([row[f"{system}_ids"][0] == row["label"] for row in there])
            top5 = np.mean([row["label"] in row[f"{system}_ids"] for row in there])
            figures = results["rows"][system]["splits"][split]
            assert (figures["top1"], figures["top5"]) == (pytest.approx(top1), pytest.approx(top5))
        counts = results["splits"][split]["videos"]
        assert counts["listed"] == listed and counts["evaluated"] == len(there)
        assert counts["missing"] + counts["failed"] == listed - len(there)
    values = [results["rows"]["vita_clip"]["splits"][split]["top1"] for split in "12"]
    summary = results["rows"]["vita_clip"]["top1"]
    assert summary["mean"] == pytest.approx(np.mean(values)) and summary["std"] == pytest.approx(np.std(values, ddof=1))
    assert results["rows"]["vita_clip"]["top1"]["mean"] > results["rows"]["frozen_clip"]["top1"]["mean"]
    assert "10 of 12; 1 missing, 1 failed" in table and (folder / "results.md").read_text() == table
    assert results["splits"]["1"]["missing"] == ["missing.mp4"]


def test_what_every_result_must_store(finished, checkpoint, videos):
    results = json.loads((finished[0] / "results.json").read_text())
    protocol = results["protocol"]
    assert (protocol["templates"], protocol["frames"], protocol["stride"]) == (["{}"], 8, 16)
    assert (protocol["views"], protocol["spatial_views"], protocol["spelling"]) == (2, 1, "as-given")
    names = results["splits"]["1"]["classes"]
    assert names[SCENES[0].label.replace(" ", "_")] == SCENES[0].label
    assert len(results["splits"]["1"]["list_sha256"]) == 64
    assert results["splits"]["1"]["list_sha256"] != results["splits"]["2"]["list_sha256"]
    files = {file: (videos / "lists" / file).read_bytes() for file in ("mini_val1.txt", "classes.txt")}
    by_hand = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    assert results["splits"]["1"]["files_sha256"] == by_hand
    assert results["model"]["sha256"] == checkpoint.fingerprint()
    assert results["command"] == "the command" and results["date"].endswith("+00:00")
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert results["machine"]["device"] == "cpu" and results["limited"] is None and results["warnings"] == []
    cost = results["cost"]
    assert cost["parameters"] == {"all": 1_180_641, "trainable": 338_881}
    assert cost["milliseconds_per_view"]["vita_clip"] > 0 and cost["peak_memory"]["mebibytes"] > 100
    assert "ru_maxrss" in cost["peak_memory"]["of"]


def test_per_class_files(finished):
    folder = finished[0]
    with open(folder / "per_class_1.csv", newline="") as stream:
        lines = list(csv.reader(stream))
    assert lines[0] == ["class", "videos", "vita_clip", "frozen_clip"] and len(lines) == 11
    assert sum(int(line[1]) for line in lines[1:]) == 10
    with open(folder / "confusion_1.csv", newline="") as stream:
        matrix = np.array([line[1:] for line in csv.reader(stream)][1:], dtype=int)
    assert matrix.sum() == 10 and (matrix.sum(1) == 1).all()
    top1 = json.loads((folder / "results.json").read_text())["rows"]["vita_clip"]["splits"]["1"]["top1"]
    assert matrix.trace() / 10 == pytest.approx(top1)
    for name in ("per_class_1.png", "per_class_2.png", "confusion_1.png", "confusion_2.png"):
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"


def test_batch_size_changes_no_prediction(plan, checkpoint, finished, tmp_path):
    for size in (1, 4):
        for name, result in run_all(Evaluator(checkpoint, plan, batch_size=size), tmp_path / str(size)).items():
            expected = finished[1][name]
            assert result.status == expected.status
            for row, splits in result.scores.items():
                for split, (ids, scores) in splits.items():
                    assert ids == expected.scores[row][split][0]
                    assert scores == pytest.approx(expected.scores[row][split][1], abs=1e-5)


def test_interrupted_between_and_within_lines(plan, checkpoint, finished, tmp_path):
    """Killed after one of three batches, in the middle of writing the next: the predictions come out the same."""
    evaluator = Evaluator(checkpoint, plan, batch_size=5)
    log, batches = start(evaluator, tmp_path / "results")
    next(iter(evaluator.run(batches, log)))
    file = tmp_path / "results" / "progress" / "rank-0.jsonl"
    whole = file.read_bytes()
    with open(file, "ab") as stream:  # one video of the next batch, and a torn line
        stream.write(json.dumps({"name": "5.mp4", "status": "ok", "reason": "half a batch", "scores": {}}).encode())
        stream.write(b'\n{"name": "6.mp4", "sta')
    log, batches = start(evaluator, tmp_path / "results")
    assert [len(batch) for batch in batches] == [5, 2]
    for _ in evaluator.run(batches, log):
        pass
    log.read()
    assert file.read_bytes().startswith(whole) and log.finished.keys() == finished[1].keys()
    write_report(tmp_path / "results", evaluator, log.finished)
    predictions = (tmp_path / "results" / "predictions.parquet").read_bytes()
    assert predictions == (finished[0] / "predictions.parquet").read_bytes()
    assert start(evaluator, tmp_path / "results")[1] == []


def test_missing_file_that_turns_up_is_evaluated(plan, checkpoint, videos, tmp_path):
    evaluator = Evaluator(checkpoint, plan, frozen_clip=False, batch_size=12)
    assert run_all(evaluator, tmp_path / "r")["missing.mp4"].status == "missing"
    assert start(evaluator, tmp_path / "r")[1] == []
    assert [len(batch) for batch in start(evaluator, tmp_path / "r", retry_failed=True)[1]] == [12]
    try:
        (videos / "missing.mp4").write_bytes((videos / "4.mp4").read_bytes())
        results = run_all(evaluator, tmp_path / "r")
        assert results["missing.mp4"].status == "ok"
        assert results["missing.mp4"].scores["vita_clip"]["1"][0] == results["4.mp4"].scores["vita_clip"]["1"][0]
    finally:
        (videos / "missing.mp4").unlink()


def test_folder_of_another_setup_is_refused(plan, videos, checkpoint, finished, tmp_path):
    folder = finished[0]
    changed = plan_evaluation(plan.protocol.overridden({"views": 1}), videos, videos / "lists")
    with pytest.raises(SetupMismatchError, match=r"another setup \(different: protocol.views\)"):
        EvaluationLog(folder, Evaluator(checkpoint, changed).setup())
    limited = plan_evaluation(plan.protocol, videos, videos / "lists", limit=3)
    with pytest.raises(SetupMismatchError, match="different: limit"):
        EvaluationLog(folder, Evaluator(checkpoint, limited).setup())
    (tmp_path / "setup.json.partial").write_text('{"a')  # a run killed at its very beginning
    assert EvaluationLog(tmp_path, {}).finished == {}
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(SetupMismatchError, match="holds no evaluation"):
        EvaluationLog(tmp_path, {})


def test_supervised_uses_learned_contexts_in_the_order_of_the_list(videos, checkpoint, tmp_path):
    """The checkpoint's own 300 classes, listed in another order and spelling."""
    names = [checkpoint.model.config.id2label[index] for index in range(300)]
    shuffled = [names[index].replace(" ", "_").title() for index in np.random.default_rng(0).permutation(300)]
    (tmp_path / "classes.txt").write_text("\n".join(shuffled))
    (tmp_path / "list.txt").write_text("0.mp4 0\n1.mp4 1\n")
    protocol = load_protocol("own-supervised")
    plan = plan_evaluation(protocol, videos, tmp_path / "list.txt", tmp_path / "classes.txt")
    evaluator = Evaluator(checkpoint, plan, batch_size=2)
    results = run_all(evaluator, tmp_path / "r")
    classifier = pipeline("video-classification", model=str(CHECKPOINT))
    for name in ("0.mp4", "1.mp4"):
        ids, scores = results[name].scores["vita_clip"]["test"]
        expected = classifier(str(videos / name), top_k=5)
        assert [shuffled[i].replace("_", " ").lower() for i in ids] == [row["label"] for row in expected]
        assert scores == pytest.approx([row["score"] for row in expected], abs=1e-5)


def test_supervised_with_other_classes_is_an_error(plan, videos, checkpoint, tmp_path):
    with pytest.raises(EvaluationError, match="10 classes, but the checkpoint was trained on 300"):
        changed = plan_evaluation(plan.protocol.overridden({"text": "supervised"}), videos, videos / "lists")
        Evaluator(checkpoint, changed)
    (tmp_path / "classes.txt").write_text("\n".join(f"sport {index}" for index in range(300)))
    (tmp_path / "list.txt").write_text("0.mp4 0\n")
    other = plan_evaluation(load_protocol("own-supervised"), videos, tmp_path / "list.txt", tmp_path / "classes.txt")
    with pytest.raises(EvaluationError, match="does not know 300 classes, 'sport 0'"):
        Evaluator(checkpoint, other)


def test_text_is_encoded_once(plan, tmp_path, monkeypatch):
    checkpoint, calls = load_checkpoint(CHECKPOINT), []
    original = type(checkpoint.model).get_text_features
    monkeypatch.setattr(
        type(checkpoint.model), "get_text_features", lambda *a, **k: calls.append(1) or original(*a, **k)
    )
    run_all(Evaluator(checkpoint, plan, batch_size=3), tmp_path / "r")
    assert len(calls) == 1  # one template, and two splits of the same classes


def outcome_by_hand(plan) -> SplitOutcome:
    """Split 2 of the plan, six videos of classes 0, 2, 4, 6, 8 and 3: two right, one second, one sixth, two gone."""
    rankings = [[0, 1, 2, 3, 5], [2, 1, 0, 3, 5], [1, 4, 0, 3, 5], [1, 2, 0, 3, 5]]
    split = plan.splits[1]
    assert [sample.label for sample in split.table.samples] == [0, 2, 4, 6, 8, 3]
    names = [sample.name for sample in split.table.samples]
    scores = [0.5, 0.2, 0.1, 0.05, 0.05]
    there = [
        VideoResult(name, "ok", "", {"vita_clip": {"2": (ids, scores)}})
        for name, ids in zip(names[:4], rankings, strict=True)
    ]
    return SplitOutcome(split, (*there, VideoResult(names[4], "missing"), VideoResult(names[5], "failed", "broken")))


def test_figures_by_hand(plan):
    outcome = outcome_by_hand(plan)
    figures = summarize([outcome], ["vita_clip"], plan.protocol)["vita_clip"]
    assert figures["splits"]["2"] == {"top1": 0.5, "top5": 0.75, "mean_class": 0.5}
    assert figures["top1"] == {"mean": 0.5, "std": None}
    assert mean_and_std([0.5, 0.7, 0.6]) == {"mean": pytest.approx(0.6), "std": pytest.approx(0.1)}  # n - 1
    videos = outcome.videos()
    assert (videos["evaluated"], videos["missing"], videos["failed"], videos["listed"]) == (4, 1, 1, 6)
    matrix = confusion_matrix(outcome, "vita_clip")
    assert matrix.sum() == 4 and matrix[4, 1] == matrix[6, 1] == matrix[0, 0] == matrix[2, 2] == 1


def test_harmonic_mean_of_base_and_novel(videos, tmp_path):
    (tmp_path / "hmdb51_val1.txt").write_text("0.mp4 run\n1.mp4 run\n2.mp4 walk\n3.mp4 walk\n4.mp4 walk\n")
    protocol = replace(load_protocol("hmdb51-base-to-novel"), base_classes=("run",), novel_classes=("walk",))
    plan = plan_evaluation(protocol, videos, tmp_path)
    right, wrong = [0], [1]
    answers = {"0.mp4": right, "1.mp4": wrong, "2.mp4": right, "3.mp4": right, "4.mp4": right}
    results = {
        name: VideoResult(name, "ok", "", {"vita_clip": {split.name: (ids, [1.0]) for split in plan.splits}})
        for name, ids in answers.items()
    }
    figures = summarize(outcomes(plan, results), ["vita_clip"], plan.protocol)["vita_clip"]
    assert figures["splits"]["base"]["top1"] == 0.5 and figures["splits"]["novel"]["top1"] == 1
    assert figures["top1"] == {"harmonic_mean": pytest.approx(2 / 3)}


def test_cost_of_the_papers_model():
    """38,884,353 trainable parameters with 400 classes and 16 context tokens; plain CLIP has 140.5 GMACs."""
    from vitaclip_hf import VitaClipConfig

    values = json.loads((ROOT / "configuration" / "models" / "vita-clip-b16.json").read_text())
    config = VitaClipConfig(**values, id2label={index: str(index) for index in range(400)})
    assert parameters(config)["trainable"] == 38_884_353
    gmacs = gmacs_per_view(config, 8)
    # By hand: patches, projections and MLP (12 D² a token and layer), attention (2 D a pair of tokens), projection.
    tokens, width = 197, 768
    layer = 12 * width**2 * tokens + 2 * width * tokens**2
    frame = 196 * width * 3 * 16 * 16 + 12 * layer + width * 512
    assert gmacs["plain_clip"] == pytest.approx(8 * frame / 1e9, rel=1e-9)
    assert round(gmacs["plain_clip"], 1) == 140.5
    assert gmacs["vita_clip"] < gmacs["plain_clip"]  # the last layer is computed for the class tokens alone


# The script


def script(videos, output, *arguments) -> list[str]:
    options = ["--model", CHECKPOINT, "--protocol", videos / "lists" / "mini.yaml", "--videos", videos]
    options += ["--annotations", videos / "lists", "--output", output, "--workers", "0", "--cpu", *arguments]
    return [str(part) for part in (ROOT / "examples" / "evaluate.py", *options)]


@pytest.fixture
def fresh_process_state():
    """accelerate keeps its state in the class; the next test starts without it."""
    yield
    PartialState._reset_state()


@pytest.fixture
def exit_code_of(monkeypatch, fresh_process_state):
    """Runs the script in this process and returns its exit code; by path, since `evaluate` is a library's name."""

    def call(command: list[str]) -> int:
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(command[0], run_name="__main__")
        return stopped.value.code

    return call


def test_two_ranks_killed_half_way(videos, finished, tmp_path):
    """Both ranks killed after their first batch; one process goes on, and two would: the same bytes as in one go."""
    output = tmp_path / "results"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, *script(videos, output, "--batch-size", "5")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if any(file.read_bytes().count(b"\n") > 1 for file in output.glob("progress/*.jsonl")):
            break
        time.sleep(0.02)
    for part in [*psutil.Process(process.pid).children(recursive=True), process]:
        part.kill()
    process.wait()
    assert not (output / "results.json").exists()
    again = [*command, *script(videos, output, "--batch-size", "5")]
    done = subprocess.run(again, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "videos are finished" in done.stdout and done.stdout.count("written to") == 1
    assert "missing: missing.mp4" in done.stderr
    assert {file.name for file in output.glob("progress/*")} == {"rank-0.jsonl", "rank-1.jsonl"}
    assert (output / "predictions.parquet").read_bytes() == (finished[0] / "predictions.parquet").read_bytes()


def test_limit_is_labelled(plan, videos, checkpoint, tmp_path):
    limited = plan_evaluation(plan.protocol.overridden({"views": 1}), videos, videos / "lists", limit=2)
    evaluator = Evaluator(checkpoint, limited, frozen_clip=False)
    table = write_report(tmp_path / "r", evaluator, run_all(evaluator, tmp_path / "r"))
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert "a quick look" in table and "a quick look" in results["limited"]
    assert list(results["rows"]) == ["vita_clip"] and results["protocol"]["views"] == 1
    assert results["warnings"][0] == "split 1: only 2 of 12 videos (`limit`)"
    assert results["splits"]["1"]["videos"]["asked_for"] == 2 and results["splits"]["1"]["videos"]["listed"] == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "hmdb51-zeroshot"], "did you mean 'hmdb51-zero-shot'"),
        (["--annotations", "none.txt"], "none.txt"),
        (["--splits", "4"], "no split '4'; its splits are 1, 2"),
        (["--templates", "no place"], "need {} where the class goes"),
        (["--text", "supervised"], "10 classes, but the checkpoint was trained on 300"),
        (["--model", "no/such/folder"], "no/such/folder: no such folder, and not an id on the Hub"),
        (["--workers", "-1"], "--workers must be 0 or more"),
        (["--shots", "8"], "--shots belongs to few-shot and base-to-novel, not to zero-shot"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--videos", str(ROOT / "tests")], "none of the 12 videos exist"),
    ],
)
def test_script_with_bad_input(videos, tmp_path, monkeypatch, capsys, exit_code_of, arguments, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code = exit_code_of(script(videos, tmp_path / "r", *arguments))
    error = capsys.readouterr().err
    assert code == 2 and not list(tmp_path.glob("r/[!.]*"))
    assert message in error and error.startswith("evaluate: ") and error.count("\n") == 1


def test_evaluate_from_python(videos, tmp_path, finished, fresh_process_state):
    """The same predictions as in one go; called again, nothing is left to do."""
    protocol = str(videos / "lists" / "mini.yaml")
    options = {"output": tmp_path / "r", "batch_size": 5, "workers": 0, "cpu": True, "verbose": False}
    results = run.evaluate(CHECKPOINT, protocol, videos, videos / "lists", **options)
    assert results == json.loads((tmp_path / "r" / "results.json").read_text())
    predictions = (tmp_path / "r" / "predictions.parquet").read_bytes()
    assert predictions == (finished[0] / "predictions.parquet").read_bytes()
    progress = (tmp_path / "r" / "progress" / "rank-0.jsonl").read_bytes()
    again = run.evaluate(CHECKPOINT, protocol, videos, videos / "lists", **options)
    assert again["rows"] == results["rows"]
    assert (tmp_path / "r" / "progress" / "rank-0.jsonl").read_bytes() == progress
    for wrong, message in {"dtype": "`dtype` must be auto or one of float32", "workers": "`workers` must be"}.items():
        with pytest.raises(EvaluationError, match=message):
            run.evaluate(CHECKPOINT, protocol, videos, **{wrong: -1})


def test_missing_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(run, "_is_installed", lambda package: package != "pyarrow")
    assert run.main(["--model", "m", "--protocol", "p", "--videos", "v"], prog="vitaclip evaluate") == 2
    expected = 'vitaclip evaluate: evaluation needs pyarrow: pip install "vitaclip_hf[train]"\n'
    assert capsys.readouterr().err == expected


def test_packages_of_the_extra_are_not_imported_too_early():
    """Else a missing one is a traceback before `main` can say what to install."""
    code = "import sys, vitaclip_hf.evaluation.run; print(*{name.split('.')[0] for name in sys.modules})"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and not {"pyarrow", "matplotlib", "datasets", "evaluate"} & set(done.stdout.split())


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(["--help"], prog="vitaclip evaluate")
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and shown.startswith("usage: vitaclip evaluate [-h] --model MODEL")
    assert (
        "vitaclip evaluate --model M --protocol hmdb51-zero-shot" in shown and "--spatial-views SPATIAL_VIEWS" in shown
    )


def test_hash_is_of_the_weights_as_loaded(plan, checkpoint):
    """The same model in another dtype is the same model: no rounding before the hash."""
    other = load_checkpoint(CHECKPOINT)
    evaluator = Evaluator(other, plan, dtype=torch.bfloat16)
    assert evaluator.sha256 == checkpoint.fingerprint() != other.fingerprint()
    assert evaluator.setup()["dtype"] == "bfloat16"


def test_of_equal_scores_the_lower_class_comes_first(plan, checkpoint):
    evaluator = Evaluator(checkpoint, plan)
    scores = torch.tensor([[0.1, 0.1, 0.3, 0.1, 0.1, 0.05, 0.05, 0.05, 0.1, 0.05]])
    result = evaluator._result("1.mp4", {"vita_clip": {"1": scores}}, 0)
    assert result.scores["vita_clip"]["1"][0] == [2, 0, 1, 3, 4]


def test_model_without_tokenizer(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(CHECKPOINT / name)
    with pytest.raises(CheckpointError, match="no processor beside the model"):
        load_checkpoint(str(tmp_path))


def test_plain_clip_has_no_prompts_to_evaluate(tmp_path, checkpoint):
    from transformers import CLIPModel

    CLIPModel.from_pretrained(CHECKPOINT).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="this is a 'clip' model; give a Vita-CLIP checkpoint"):
        load_checkpoint(str(tmp_path))


def test_last_attempt_counts_whichever_rank_made_it(plan, checkpoint, videos, tmp_path):
    """A video that rank 1 found missing, and rank 0 when it had turned up: the later file is not the later attempt."""
    evaluator = Evaluator(checkpoint, plan, frozen_clip=False, batch_size=12)
    log, batches = start(evaluator, tmp_path / "r")
    list(evaluator.run(batches, log, rank=1))
    try:
        (videos / "missing.mp4").write_bytes((videos / "4.mp4").read_bytes())
        assert run_all(evaluator, tmp_path / "r")["missing.mp4"].status == "ok"  # by rank 0
        assert start(evaluator, tmp_path / "r")[1] == []
    finally:
        (videos / "missing.mp4").unlink()


def test_changed_file_is_evaluated_again(plan, checkpoint, videos, tmp_path):
    evaluator = Evaluator(checkpoint, plan, frozen_clip=False, batch_size=5)
    before = run_all(evaluator, tmp_path / "r")
    assert start(evaluator, tmp_path / "r")[1] == []
    own = (videos / "2.mp4").read_bytes()
    try:
        (videos / "2.mp4").write_bytes((videos / "7.mp4").read_bytes())
        assert start(evaluator, tmp_path / "r")[1] == [[0, 1, 2, 3, 4]]
        after = run_all(evaluator, tmp_path / "r")
    finally:
        (videos / "2.mp4").write_bytes(own)
    assert after["2.mp4"].scores["vita_clip"]["1"][0] == before["7.mp4"].scores["vita_clip"]["1"][0]
    assert after["2.mp4"].scores["vita_clip"]["1"][0] != before["2.mp4"].scores["vita_clip"]["1"][0]


def test_one_listed_name_in_two_class_folders_is_two_videos(checkpoint, videos, tmp_path):
    for folder, index in (("red", 1), ("blue", 2)):
        (tmp_path / "v" / folder).mkdir(parents=True)
        (tmp_path / "v" / folder / "v1.mp4").write_bytes((videos / f"{index}.mp4").read_bytes())
    (tmp_path / "list.txt").write_text("v1,red\nv1,blue\n")
    plan = plan_evaluation(load_protocol("own-zero-shot"), tmp_path / "v", tmp_path / "list.txt")
    assert [(video.name, Path(video.path).parent.name) for video in plan.videos] == [
        ("red/v1.mp4", "red"),
        ("blue/v1.mp4", "blue"),
    ]
    results = run_all(Evaluator(checkpoint, plan, frozen_clip=False), tmp_path / "r")
    assert results["red/v1.mp4"].scores != results["blue/v1.mp4"].scores


def test_other_tokenizer_or_configuration_is_another_setup(plan, tmp_path):
    checkpoint = load_checkpoint(str(CHECKPOINT))
    setup = Evaluator(checkpoint, plan).setup()
    labels = checkpoint.model.config.id2label
    checkpoint.model.config.id2label = {index: labels[len(labels) - 1 - index] for index in labels}
    assert Evaluator(checkpoint, plan).setup()["config"] != setup["config"]
    checkpoint.model.config.id2label = labels
    assert Evaluator(checkpoint, plan).setup() == setup
    tokenizer = checkpoint.processor.tokenizer
    checkpoint.processor = SimpleNamespace(
        tokenizer=lambda texts, **options: tokenizer([text[::-1] for text in texts], **options)
    )
    evaluator = Evaluator.__new__(Evaluator)
    evaluator.checkpoint, evaluator.plan, evaluator.protocol = checkpoint, plan, plan.protocol
    assert evaluator._tokens_fingerprint(plan.splits[0]) != setup["tokens"]["1"]


@pytest.mark.parametrize("content", [b"\xff\n", b"{\n", b"\0\0\n", b'{"nam": 3}\n'])
def test_damaged_progress_is_one_line(tmp_path, content):
    log = EvaluationLog(tmp_path, {})
    log.write_setup()
    with log.writer(0):
        pass
    with open(tmp_path / "progress" / "rank-0.jsonl", "ab") as stream:
        stream.write(content)
    with pytest.raises(SetupMismatchError, match="is damaged"):
        EvaluationLog(tmp_path, {})


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b"\xff\xfe"])
def test_damaged_setup_is_one_line(tmp_path, content):
    (tmp_path / "setup.json").write_bytes(content)
    with pytest.raises(SetupMismatchError, match="is damaged"):
        EvaluationLog(tmp_path, {})


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (None, "the protocol says 8 shots, but no recipe beside the checkpoint says how many"),
        ("seed: 1\n", "the protocol says 8 shots, but the recipe beside the checkpoint says all videos"),
        ("shots: 2\n", "the protocol says 8 shots, but the recipe beside the checkpoint says 2"),
        ("shots: 8\n", None),
        ("shots", "must hold `field: value`"),
    ],
)
def test_shots_are_those_of_the_training(videos, tmp_path, recipe, told):
    for file in CHECKPOINT.iterdir():
        (tmp_path / file.name).symlink_to(file)
    if recipe is not None:
        (tmp_path / "recipe.yaml").write_text(recipe)
    if told == "must hold `field: value`":
        with pytest.raises(EvaluationError, match=told):
            recipe_beside(load_checkpoint(tmp_path))
        return
    (videos / "lists" / "few.yaml").write_text(
        "lists: [all.txt]\nclasses: [classes.txt]\ntasks:\n  few-shot:\n    shots: 8\n    text: zero-shot\n"
    )
    few = plan_evaluation(load_protocol(str(videos / "lists" / "few.yaml")), videos, videos / "lists")
    warnings = Evaluator(load_checkpoint(str(tmp_path)), few).warnings
    assert [warning.partition(" it was")[0] for warning in warnings] == ([told] if told else [])


def test_text_that_is_too_long(plan, checkpoint, videos):
    long = plan_evaluation(plan.protocol.overridden({"templates": ["{}" + " red" * 100]}), videos, videos / "lists")
    with pytest.raises(EvaluationError, match="mini-zero-shot: The text"):
        Evaluator(checkpoint, long)


@pytest.mark.parametrize("config", [None, {"model_type": "zzz"}, {}])
def test_folder_that_holds_no_model(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=str(tmp_path)) as raised:
        load_checkpoint(str(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "out of memory; lower --batch-size (--batch-size 8 x 2"),
    ],
)
def test_rank_that_stops_says_why(videos, tmp_path, monkeypatch, capsys, exit_code_of, raised, message):
    def stop(*_):
        raise raised

    monkeypatch.setattr(Evaluator, "run", stop)
    monkeypatch.setattr(PartialState, "is_main_process", False)  # any rank speaks of its own videos
    code = exit_code_of(script(videos, tmp_path / "r"))
    error = capsys.readouterr().err
    assert code == 2 and message in error and "; what is finished is kept, the same command" in error
    assert error.count("\n") == 1


def test_ctrl_c_is_one_line(videos, tmp_path, monkeypatch, capsys, exit_code_of):
    monkeypatch.setattr(Evaluator, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert exit_code_of(script(videos, tmp_path / "r")) == 130
    assert "goes on where it was" in capsys.readouterr().err


@torch.no_grad()
def test_blend_and_descriptions(plan, checkpoint, finished):
    """Blend 1 is the frozen CLIP; texts equal to the names change nothing; both are recorded where they are used."""
    pixels = torch.randn(1, 2, 8, 3, 48, 48, generator=torch.Generator().manual_seed(8))
    plain = Evaluator(checkpoint, plan)
    before = plain.score(pixels)
    assert plain.options() == {} and "blend" not in plain.setup()
    full = Evaluator(checkpoint, plan, frozen_clip=False, blend=1.0)
    assert full.options() == {"blend": 1.0} and full.setup()["blend"] == 1.0
    scores = full.score(pixels)
    assert list(scores) == ["vita_clip"]
    torch.testing.assert_close(scores["vita_clip"]["1"], before["frozen_clip"]["1"], atol=1e-5, rtol=0)
    names = [name for split in plan.splits for name in split.table.class_names]
    same = Evaluator(checkpoint, plan, descriptions={name: (name.replace("_", " "),) for name in names})
    torch.testing.assert_close(same.score(pixels)["vita_clip"]["1"], before["vita_clip"]["1"], atol=1e-5, rtol=0)
    other = Evaluator(checkpoint, plan, descriptions=dict.fromkeys(names, ("a red star",)))
    assert not torch.allclose(other.score(pixels)["vita_clip"]["1"], before["vita_clip"]["1"], atol=1e-3)
    assert other.options()["descriptions"] != same.options()["descriptions"]
    with pytest.raises(EvaluationError, match="`blend` must be a number from 0"):
        Evaluator(checkpoint, plan, blend=2.0)
