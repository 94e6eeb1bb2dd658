"""Evaluation from mp4 files to the results folder, on the demo checkpoint and generated videos."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from evaluation_runs import CHECKPOINT, SCENES, run_all, start
from transformers import CLIPModel, pipeline

from vitaclip_hf import VitaClipConfig, load_checkpoint
from vitaclip_hf.evaluation.accuracies import SplitOutcome, accuracy_table, outcomes, summarize
from vitaclip_hf.evaluation.cost import gmacs_per_view
from vitaclip_hf.evaluation.evaluator import Evaluator
from vitaclip_hf.evaluation.plan import plan_evaluation
from vitaclip_hf.evaluation.progress_log import EvaluationLog, VideoResult
from vitaclip_hf.evaluation.protocols import EvaluationError, load_protocol
from vitaclip_hf.evaluation.report import write_report


pytestmark = pytest.mark.usefixtures("one_thread")
LABELS = [scene.label for scene in SCENES]


# Scores


def test_scores_are_those_of_the_pipeline(videos, finished):
    """An independent way through the package: the zero-shot pipeline on single videos."""
    classifier = pipeline("zero-shot-video-classification", model=str(CHECKPOINT))
    for index in (0, 7):
        expected = classifier(str(videos / f"{index}.mp4"), candidate_labels=LABELS, num_views=2, top_k=5)
        by_split = finished.videos[f"{index}.mp4"].scores["vita_clip"]
        ids, scores = by_split["1"]
        assert [LABELS[i] for i in ids] == [row["label"] for row in expected]
        assert scores == pytest.approx([row["score"] for row in expected], abs=1e-5)
        assert by_split.get("2", by_split["1"]) == by_split["1"]


def test_frozen_clip_is_plain_clip_with_the_frames_averaged(videos, finished, checkpoint):
    """transformers' own CLIP with the same weights, on frames that the processor gives."""
    clip = CLIPModel.from_pretrained(CHECKPOINT).eval()
    inputs = checkpoint.processor.video_processor([str(videos / "2.mp4")], num_views=2, return_tensors="pt")
    pixels = inputs["pixel_values_videos"][0]  # [2, T, 3, S, S]
    texts = checkpoint.processor.tokenizer(LABELS, padding=True, return_tensors="pt")
    with torch.no_grad():
        frames = clip.get_image_features(pixel_values=pixels.flatten(0, 1)).pooler_output.unflatten(0, (2, 8)).mean(1)
        words = clip.get_text_features(**texts).pooler_output
        cosines = torch.nn.functional.normalize(frames, dim=-1) @ torch.nn.functional.normalize(words, dim=-1).T
        expected = (cosines * clip.logit_scale.exp()).softmax(-1).mean(0)
    ids, scores = finished.videos["2.mp4"].scores["frozen_clip"]["1"]
    assert ids == expected.topk(5).indices.tolist()
    assert scores == pytest.approx(expected.topk(5).values.tolist(), abs=1e-5)


def test_supervised_uses_learned_contexts_in_the_order_of_the_list(videos, checkpoint, tmp_path):
    """The checkpoint's own 400 classes, listed in another order and spelling."""
    names = [checkpoint.model.config.id2label[index] for index in range(400)]
    shuffled = [names[index].replace(" ", "_").title() for index in np.random.default_rng(0).permutation(400)]
    (tmp_path / "classes.txt").write_text("\n".join(shuffled))
    (tmp_path / "list.txt").write_text("0.mp4 0\n1.mp4 1\n")
    protocol = load_protocol("own-supervised")
    plan = plan_evaluation(protocol, videos, tmp_path / "list.txt", tmp_path / "classes.txt")
    results = run_all(Evaluator(checkpoint, plan, batch_size=2), tmp_path / "r")
    classifier = pipeline("video-classification", model=str(CHECKPOINT))
    for name in ("0.mp4", "1.mp4"):
        ids, scores = results[name].scores["vita_clip"]["test"]
        expected = classifier(str(videos / name), top_k=5)
        assert [shuffled[i].replace("_", " ").lower() for i in ids] == [row["label"] for row in expected]
        assert scores == pytest.approx([row["score"] for row in expected], abs=1e-5)
    (tmp_path / "classes.txt").write_text("\n".join(f"sport {index}" for index in range(400)))
    other = plan_evaluation(protocol, videos, tmp_path / "list.txt", tmp_path / "classes.txt")
    with pytest.raises(EvaluationError, match="sport 0"):
        Evaluator(checkpoint, other)
    with pytest.raises(EvaluationError, match="`descriptions` change nothing"):
        Evaluator(checkpoint, plan, frozen_clip=False, descriptions={names[0]: ("a text",)})


def test_of_equal_scores_the_lower_class_comes_first(plan, checkpoint, monkeypatch):
    evaluator = Evaluator(checkpoint, plan)
    scores = torch.tensor([[0.1, 0.1, 0.3, 0.1, 0.1, 0.05, 0.05, 0.05, 0.1, 0.05], [float("nan")] * 10])
    monkeypatch.setattr(evaluator, "score", lambda pixels: {"vita_clip": {"1": scores, "2": scores}})
    tied, broken = evaluator.results_of([(1, torch.zeros(1), ""), (2, torch.zeros(1), "")])
    assert tied.scores["vita_clip"]["1"][0] == [2, 0, 1, 3, 4]
    assert broken.status == "failed" and "NaN" in broken.reason


@torch.no_grad()
def test_blend_and_descriptions(plan, checkpoint, finished):
    """Blend 1 is the frozen CLIP; texts equal to the names change nothing; both are recorded where they are used."""
    pixels = torch.randn(1, 2, 8, 3, 48, 48, generator=torch.Generator().manual_seed(8))
    plain = Evaluator(checkpoint, plan)
    before = plain.score(pixels)
    assert plain.options == {} and "blend" not in plain.setup
    full = Evaluator(checkpoint, plan, frozen_clip=False, blend=1.0)
    assert full.options == {"blend": 1.0} and full.setup["blend"] == 1.0
    reading = {"verify": "full", "on_damage": "skip", "pixel_aspect": "displayed"}
    read = Evaluator(checkpoint, plan, decoder="pyav", **reading)
    assert read.options == reading and read.setup.items() >= reading.items()
    assert Evaluator(checkpoint, plan, decoder="decord").options == {"decoder": "decord"}
    scores = full.score(pixels)
    assert list(scores) == ["vita_clip"]
    torch.testing.assert_close(scores["vita_clip"]["1"], before["frozen_clip"]["1"], atol=1e-5, rtol=0)
    names = [name for split in plan.splits for name in split.table.class_names]
    same = Evaluator(checkpoint, plan, descriptions={name: (name.replace("_", " "),) for name in names})
    torch.testing.assert_close(same.score(pixels)["vita_clip"]["1"], before["vita_clip"]["1"], atol=1e-5, rtol=0)
    other = Evaluator(checkpoint, plan, descriptions={name: (f"red {name}", "a taxi") for name in names})
    assert not torch.allclose(other.score(pixels)["vita_clip"]["1"], before["vita_clip"]["1"], atol=1e-3)
    assert other.options["descriptions"] != same.options["descriptions"]
    names[:2] = ["a_b", "a b"]  # of one spelling
    split = replace(plan.splits[0], table=replace(plan.splits[0].table, class_names=tuple(names[:10])))
    alike = Evaluator(checkpoint, replace(plan, splits=(split,)), descriptions={name: (name,) for name in names})
    assert alike.score(pixels)["vita_clip"]["1"].shape == (1, 10)


def test_text_that_is_too_long(plan, checkpoint, videos):
    long = plan_evaluation(plan.protocol.overridden({"templates": ["{}" + " red" * 100]}), videos, videos / "lists")
    with pytest.raises(EvaluationError, match="mini-zero-shot"):
        Evaluator(checkpoint, long)


# Files of the results folder


def test_results_folder(finished, videos):
    results = json.loads((finished.folder / "results.json").read_text())
    assert results == finished.results
    rows = pyarrow.parquet.read_table(finished.folder / "predictions.parquet").to_pylist()
    assert len(rows) == 12 + 6 and [row["path"] for row in rows[:2]] == ["0.mp4", "1.mp4"]
    damaged, missing = rows[10:12]
    assert (damaged["path"], damaged["status"]) == ("damaged.mp4", "failed") and missing["status"] == "missing"
    assert "damaged.mp4" in damaged["reason"] and str(videos) not in damaged["reason"]
    assert damaged["vita_clip_ids"] is None and len(rows[0]["vita_clip_ids"]) == 5
    for split, listed in (("1", 12), ("2", 6)):
        readable = [row for row in rows if row["split"] == split and row["status"] == "ok"]
        for system in ("vita_clip", "frozen_clip"):
            figures = results["rows"][system]["splits"][split]
            top1 = np.mean([row[f"{system}_ids"][0] == row["label"] for row in readable])
            top5 = np.mean([row["label"] in row[f"{system}_ids"] for row in readable])
            assert (figures["top1"], figures["top5"]) == (pytest.approx(top1), pytest.approx(top5))
        counts = results["splits"][split]["videos"]
        assert counts["listed"] == listed and counts["evaluated"] == len(readable)
        assert counts["missing"] + counts["failed"] == listed - len(readable)
    values = [results["rows"]["vita_clip"]["splits"][split]["top1"] for split in "12"]
    mean = results["rows"]["vita_clip"]["top1"]
    assert mean["mean"] == pytest.approx(np.mean(values)) and mean["std"] == pytest.approx(np.std(values, ddof=1))
    assert mean["mean"] > results["rows"]["frozen_clip"]["top1"]["mean"]
    assert "10 of 12; 1 missing, 1 failed" in (finished.folder / "results.md").read_text()
    assert results["splits"]["1"]["missing"] == ["missing.mp4"]


def test_what_every_result_must_store(finished, checkpoint, videos):
    results = finished.results
    expected = {"templates": ["{}"], "num_frames": 8, "frame_stride": 16, "num_views": 2, "num_spatial_views": 1}
    assert results["protocol"].items() >= (expected | {"spelling": "as-given", "sampling": "uniform"}).items()
    first, second = results["splits"].values()
    assert first["classes"][LABELS[0].replace(" ", "_")] == LABELS[0]
    assert len(first["list_sha256"]) == 64 and first["list_sha256"] != second["list_sha256"]
    files = {file: (videos / "lists" / file).read_bytes() for file in ("mini_val1.txt", "classes.txt")}
    assert first["files_sha256"] == {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    assert results["model"]["sha256"] == checkpoint.fingerprint()
    assert results["command"] == "it" and results["date"].endswith("+00:00")
    assert results["published"] == "48.6 (a paper)" and "published" not in results["protocol"]
    assert "\n- published: 48.6 (a paper)\n" in (finished.folder / "results.md").read_text()
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert results["machine"]["device"] == "cpu" and results["limited"] is None and results["warnings"] == []
    assert results["cost"]["parameters"] == {"all": 1_991_713, "trainable": 494_081}


def test_per_class_files(finished):
    with open(finished.folder / "per_class_1.csv", newline="") as stream:
        lines = list(csv.reader(stream))
    assert lines[0] == ["class", "videos", "vita_clip", "frozen_clip"] and len(lines) == 11
    assert sum(int(line[1]) for line in lines[1:]) == 10
    with open(finished.folder / "confusion_1.csv", newline="") as stream:
        matrix = np.array([line[1:] for line in csv.reader(stream)][1:], dtype=int)
    assert matrix.sum() == 10 and (matrix.sum(1) == 1).all()
    assert matrix.trace() / 10 == pytest.approx(finished.results["rows"]["vita_clip"]["splits"]["1"]["top1"])
    for name in ("per_class_1.png", "per_class_2.png", "confusion_1.png", "confusion_2.png"):
        assert (finished.folder / name).read_bytes()[:4] == b"\x89PNG"


def test_limit_is_labelled(plan, videos, checkpoint, finished, tmp_path):
    limited = plan_evaluation(plan.protocol.overridden({"num_views": 1}), videos, videos / "lists", limit=2)
    evaluator = Evaluator(checkpoint, limited, frozen_clip=False, on_damage="skip")
    results = write_report(tmp_path / "r", evaluator, run_all(evaluator, tmp_path / "r"))
    table = (tmp_path / "r" / "results.md").read_text()
    assert "a quick look" in results["limited"] and "a quick look" in table and ", on_damage skip" in table
    assert list(results["rows"]) == ["vita_clip"] and results["protocol"]["num_views"] == 1
    assert results["warnings"][0] == "split 1: only 2 of 12 videos (`limit`)"
    assert results["splits"]["1"]["videos"]["asked_for"] == 2 and results["splits"]["1"]["videos"]["listed"] == 12
    whole = Evaluator(checkpoint, plan_evaluation(plan.protocol, videos, videos / "lists", limit=99))
    assert write_report(tmp_path, whole, finished.videos)["limited"] is None  # each list has fewer videos


def test_figures_by_hand(plan):
    """Split 2 of the plan, six videos of classes 0, 2, 4, 6, 8 and 3: two right, one second, one sixth, two gone."""
    rankings = [[0, 1, 2, 3, 5], [2, 1, 0, 3, 5], [1, 4, 0, 3, 5], [1, 2, 0, 3, 5]]
    split = plan.splits[1]
    assert [sample.label for sample in split.table.samples] == [0, 2, 4, 6, 8, 3]
    readable = [VideoResult("", "ok", "", {"vita_clip": {"2": (ids, [])}}) for ids in rankings]
    outcome = SplitOutcome(split, (*readable, VideoResult("", "missing"), VideoResult("", "failed", "broken")))
    figures = summarize([outcome], ["vita_clip"], plan.protocol)["vita_clip"]
    assert figures["splits"]["2"] == {"top1": 0.5, "top5": 0.75, "mean_class": 0.5}
    assert figures["top1"] == {"mean": 0.5, "std": None}
    assert outcome.videos() == {"listed": 6, "asked_for": 6, "evaluated": 4, "missing": 1, "failed": 1}


def test_harmonic_mean_of_base_and_novel(videos, tmp_path):
    (tmp_path / "hmdb51_val1.txt").write_text("0.mp4 run\n1.mp4 run\n2.mp4 walk\n3.mp4 walk\n4.mp4 walk\n")
    protocol = replace(load_protocol("hmdb51-base-to-novel"), base_classes=("run",), novel_classes=("walk",))
    plan = plan_evaluation(protocol, videos, tmp_path)
    results = {
        f"{index}.mp4": VideoResult(
            "", "ok", "", {"vita_clip": {split.name: ([first], [1.0]) for split in plan.splits}}
        )
        for index, first in enumerate([0, 1, 0, 0, 0])
    }
    figures = summarize(outcomes(plan, results), ["vita_clip"], plan.protocol)["vita_clip"]
    assert figures["splits"]["base"]["top1"] == 0.5 and figures["splits"]["novel"]["top1"] == 1
    assert figures["top1"] == {"harmonic_mean": pytest.approx(2 / 3)}
    assert " 66.7 |" in accuracy_table("", {"vita_clip": {"harmonic mean": figures}})[2]


def test_cost_of_the_papers_model():
    """Plain CLIP has 140.5 GMACs."""
    config = VitaClipConfig(id2label={index: str(index) for index in range(400)})
    gmacs = gmacs_per_view(config, 8)
    # By hand: patches, projections and MLP (12 D² a token and layer), attention (2 D a pair of tokens), projection.
    tokens, width = 197, 768
    layer = 12 * width**2 * tokens + 2 * width * tokens**2
    frame = 196 * width * 3 * 16 * 16 + 12 * layer + width * 512
    assert gmacs["plain_clip"] == pytest.approx(8 * frame / 1e9, rel=1e-9)
    assert round(gmacs["plain_clip"], 1) == 140.5
    assert gmacs["vita_clip"] < gmacs["plain_clip"]  # the last layer is computed for the class tokens alone


# Going on


def test_interrupted_between_and_within_lines(plan, checkpoint, finished, tmp_path):
    """Killed after one of three batches, in the middle of writing the next: the predictions come out the same."""
    evaluator = Evaluator(checkpoint, plan, batch_size=5)
    log, batches = start(evaluator, tmp_path / "results")
    next(iter(evaluator.run(batches, log)))
    file = tmp_path / "results" / "progress" / "rank-0.jsonl"
    whole = file.read_bytes()
    with open(file, "ab") as stream:  # one video of the next batch, and a torn line
        stream.write(whole.splitlines(keepends=True)[0].replace(b"0.mp4", b"5.mp4") + b'{"name": "6.mp4", "sta')
    log, batches = start(evaluator, tmp_path / "results")
    assert [len(batch) for batch in batches] == [5, 2]
    for _ in evaluator.run(batches, log):
        pass
    log.read()
    assert file.read_bytes().startswith(whole) and log.finished.keys() == finished.videos.keys()
    write_report(tmp_path / "results", evaluator, log.finished)
    predictions = (tmp_path / "results" / "predictions.parquet").read_bytes()
    assert predictions == (finished.folder / "predictions.parquet").read_bytes()
    assert start(evaluator, tmp_path / "results")[1] == []


def test_missing_and_changed_files_are_evaluated_again(plan, checkpoint, videos, tmp_path):
    """Missing for rank 1, and read by rank 0 later: of their two files the last attempt counts, not the last file."""
    evaluator = Evaluator(checkpoint, plan, frozen_clip=False, batch_size=5)
    log, batches = start(evaluator, tmp_path / "r")
    list(evaluator.run(batches, log, rank=1))
    log.read()
    assert start(evaluator, tmp_path / "r")[1] == []
    assert start(evaluator, tmp_path / "r", retry_failed=True)[1] == [[10, 11]]
    own = (videos / "2.mp4").read_bytes()
    try:
        (videos / "missing.mp4").write_bytes((videos / "4.mp4").read_bytes())
        (videos / "2.mp4").write_bytes((videos / "7.mp4").read_bytes())
        assert start(evaluator, tmp_path / "r")[1] == [[0, 1, 2, 3, 4], [10, 11]]
        results = run_all(evaluator, tmp_path / "r")
        assert start(evaluator, tmp_path / "r")[1] == []
    finally:
        (videos / "missing.mp4").unlink()
        (videos / "2.mp4").write_bytes(own)
    best = {name: result.scores["vita_clip"]["1"][0] for name, result in results.items() if result.scores}
    assert best["missing.mp4"] == best["4.mp4"] and best["2.mp4"] == best["7.mp4"]
    assert best["2.mp4"] != log.finished["2.mp4"].scores["vita_clip"]["1"][0]


def test_one_listed_name_in_two_class_folders_is_two_videos(checkpoint, videos, tmp_path):
    for folder, index in (("red", 1), ("blue", 2)):
        (tmp_path / "v" / folder).mkdir(parents=True)
        (tmp_path / "v" / folder / "v1.mp4").write_bytes((videos / f"{index}.mp4").read_bytes())
    (tmp_path / "list.txt").write_text("v1,red\nv1,blue\n")
    plan = plan_evaluation(load_protocol("own-zero-shot"), tmp_path / "v", tmp_path / "list.txt")
    found = [(video.name, Path(video.path).parent.name) for video in plan.videos]
    assert found == [("red/v1.mp4", "red"), ("blue/v1.mp4", "blue")]
    results = run_all(Evaluator(checkpoint, plan, frozen_clip=False), tmp_path / "r")
    assert results["red/v1.mp4"].scores != results["blue/v1.mp4"].scores


def test_folder_of_another_setup_is_refused(plan, videos, checkpoint, finished, tmp_path):
    changed = plan_evaluation(plan.protocol.overridden({"num_views": 1}), videos, videos / "lists", limit=3)
    with pytest.raises(EvaluationError, match=r"different: protocol.num_views, limit\)"):
        EvaluationLog(finished.folder, Evaluator(checkpoint, changed).setup)
    (tmp_path / ".new-1-setup.json").write_text('{"a')  # a run killed at its very beginning
    assert EvaluationLog(tmp_path, {}).finished == {}
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(EvaluationError, match="`output`"):
        EvaluationLog(tmp_path, {})


def test_another_list_is_another_setup(videos, checkpoint, finished, tmp_path):
    for file in (videos / "lists").iterdir():
        (tmp_path / file.name).write_text(file.read_text().replace("2.mp4 2", "2.mp4 3"))
    changed = plan_evaluation(load_protocol(str(tmp_path / "mini.yaml")), videos, tmp_path)
    with pytest.raises(EvaluationError, match=r"different: list.1, list.2\)"):
        EvaluationLog(finished.folder, Evaluator(checkpoint, changed).setup)


def test_other_tokenizer_configuration_or_number_type_is_another_setup(plan, checkpoint):
    """The same weights in another dtype have the same hash: nothing is rounded before it."""
    other = load_checkpoint(CHECKPOINT)
    setup = Evaluator(other, plan).setup
    assert setup == Evaluator(checkpoint, plan).setup
    other.model.config.id2label = dict(enumerate(reversed(other.model.config.id2label.values())))
    other.processor.video_processor.image_mean = [0.5, 0.5, 0.5]
    tokenizer = other.processor.tokenizer

    def backwards(texts, **options):
        return tokenizer([text[::-1] for text in texts], **options)

    backwards.model_max_length = tokenizer.model_max_length
    other.processor.tokenizer = backwards
    changed = Evaluator(other, plan, dtype=torch.bfloat16).setup
    different = {name for name in setup if changed[name] != setup[name]}
    assert different == {"config", "dtype", "processor", "tokens.1", "tokens.2"} and changed["dtype"] == "bfloat16"


@pytest.mark.parametrize("content", [b"\xff\n", b"{\n", b"\0\0\n", b'{"nam": 3}\n', b"[]\n"])
def test_damaged_files_are_one_line(tmp_path, content):
    log = EvaluationLog(tmp_path, {})
    log.write_setup()
    with log.writer(0):
        pass
    (tmp_path / "progress" / "rank-0.jsonl").write_bytes(content)
    with pytest.raises(EvaluationError, match=r"rank-0\.jsonl"):
        EvaluationLog(tmp_path, {})
    (tmp_path / "setup.json").write_bytes(content[:-1])
    with pytest.raises(EvaluationError, match=r"setup"):
        EvaluationLog(tmp_path, {})
