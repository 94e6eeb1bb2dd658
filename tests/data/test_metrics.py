"""Accuracies against figures worked out by hand and torch's topk; ties, gaps and bad input."""

import doctest
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from vitaclip_hf.data import metrics
from vitaclip_hf.data.metrics import (
    MetricError,
    VideoAccuracy,
    accuracies,
    compute_metrics,
    mean_class_accuracy,
    per_class_accuracy,
    ranking,
    ranks_in_ranking,
    top_k_accuracy,
    true_class_ranks,
)


# Six videos of six classes. By hand: true class first for 0 and 1, second for 2, last (sixth) for 3; 4 and 5 missing.
SCORES = np.array(
    [
        [9, 1, 2, 3, 4, 5],
        [1, 9, 2, 3, 4, 5],
        [1, 9, 2, 3, 4, 8],
        [1, 9, 2, 3, 4, 0],
        [1, 9, 2, 3, 4, 5],
        [1, 9, 2, 3, 4, 5],
    ],
    dtype=np.float32,
)
LABELS = np.array([0, 1, 5, 5, -1, -100])
BY_HAND = {"top1": 0.5, "top5": 0.75, "mean_class": pytest.approx(2 / 3), "missing": 2}


def test_by_hand():
    ranks = true_class_ranks(SCORES, LABELS)
    assert ranks.tolist() == [0, 0, 1, 5, -1, -1]
    # top-1: 2 of 4; top-5: 3 of 4; classes 0, 1, 5: 1, 1, 0 of 2
    assert accuracies(ranking(SCORES, 6), LABELS) == BY_HAND
    per_class, counts = per_class_accuracy(ranks, LABELS, 6)
    assert counts.tolist() == [1, 1, 0, 0, 0, 2]
    np.testing.assert_array_equal(per_class, [1, 1, np.nan, np.nan, np.nan, 0])


def test_mean_per_class_is_not_top1_on_unequal_classes():
    """Nine videos of class 0, all right; one of class 1, wrong: 90% of videos, 50% of classes."""
    scores = np.tile([0.9, 0.1], (10, 1))
    labels = [0] * 9 + [1]
    result = compute_metrics((scores, np.array(labels)))
    assert (result["top1"], result["mean_class"]) == (0.9, 0.5)


def test_against_torch_topk_on_random_scores():
    scores = torch.randn(200, 17, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(200) % 17
    ranks = true_class_ranks(scores, labels)
    for k in (1, 3, 5):
        expected = (scores.topk(k).indices == labels[:, None]).any(1).float().mean().item()
        assert top_k_accuracy(ranks, k) == pytest.approx(expected)
    assert (ranking(scores, 5) == scores.topk(5).indices.numpy()).all()
    matrix = np.zeros((17, 17))
    np.add.at(matrix, (labels.numpy(), scores.argmax(1).numpy()), 1)
    assert mean_class_accuracy(ranks, labels) == pytest.approx((matrix.diagonal() / matrix.sum(1)).mean())


def test_ties_go_to_the_lower_index():
    scores = np.zeros((3, 4))
    assert true_class_ranks(scores, [0, 1, 3]).tolist() == [0, 1, 3]
    assert ranking(scores, 2).tolist() == [[0, 1]] * 3
    assert ranking([[1.0, 2.0, 2.0, 0.0]], 3).tolist() == [[1, 2, 0]]


def test_ranks_from_a_stored_ranking_are_those_of_the_scores():
    ranks = ranks_in_ranking(ranking(SCORES, 5), LABELS)
    assert ranks.tolist() == [0, 0, 1, 5, -1, -1]
    assert [top_k_accuracy(ranks, k) for k in (1, 2, 5)] == [0.5, 0.75, 0.75]
    assert mean_class_accuracy(ranks, LABELS) == pytest.approx(2 / 3)


def test_fewer_classes_than_k():
    scores, labels = [[0.9, 0.1], [0.9, 0.1]], [0, 1]
    assert compute_metrics((scores, labels))["top5"] == 1
    assert ranking(scores, 5).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    "predictions", [SCORES, (SCORES, np.zeros(3)), ((SCORES,),), {"logits": SCORES, "other": np.zeros(3)}]
)
def test_as_compute_metrics_of_trainer(predictions):
    result = compute_metrics(EvalPrediction(predictions=predictions, label_ids=LABELS))
    assert result == BY_HAND
    assert compute_metrics(EvalPrediction(predictions=predictions, label_ids=(LABELS,))) == result


def test_all_missing_gives_no_number():
    result = compute_metrics((SCORES[:2], np.array([-1, -100])))
    assert np.isnan([result["top1"], result["top5"], result["mean_class"]]).all() and result["missing"] == 2


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (SCORES, LABELS[:3], r"got scores \[6, 6\] and 3 labels"),
        (SCORES[0], LABELS[:1], r"shape \[videos, classes\]"),
        (SCORES[:1], [6], "label 6 is outside the 6 classes"),
        (SCORES[:1], [-2], "-2 is neither"),
        (SCORES[:1], [0.5], "class indices"),
        (SCORES[:2], np.zeros((2, 6), int), "class indices"),
        ([[1.0, 2.0], [float("nan"), 1.0]], [0, 1], "video 1 are not numbers"),
        ([[1.0, 2.0], [float("nan"), 1.0], [float("nan"), 1.0]], [0, -1, 0], "video 2 are not numbers"),
    ],
)
def test_bad_input(scores, labels, message):
    for count in (true_class_ranks, lambda *pair: compute_metrics(pair)):
        with pytest.raises(MetricError, match=message):
            count(scores, labels)


def test_bad_k():
    with pytest.raises(MetricError, match="at least 1"):
        top_k_accuracy(np.array([0]), 0)


# As a metric of `evaluate`


def test_a_name_that_another_user_took_in_the_temporary_folder_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "video_accuracy").write_text("")
    found = VideoAccuracy().compute(predictions=[[0, 1]], references=[1])
    assert found == {"top1": 0.0, "top5": 1.0, "mean_class": 0.0, "missing": 0}
    assert [entry.name for entry in tmp_path.iterdir()] == ["video_accuracy"]


def test_metric_of_evaluate(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    best = ranking(SCORES, 5)
    assert VideoAccuracy().compute(predictions=best, references=LABELS) == BY_HAND
    on_disk = VideoAccuracy(keep_in_memory=False, cache_dir=str(tmp_path))
    for start in (0, 4):  # the last batch is not full
        on_disk.add_batch(predictions=best[start : start + 4], references=LABELS[start : start + 4])
    assert on_disk.compute() == BY_HAND
    one_by_one = VideoAccuracy()
    for classes, label in zip(best, LABELS, strict=True):
        one_by_one.add(prediction=classes, reference=label)
    assert one_by_one.compute() == BY_HAND


def test_all_figures_come_from_the_metric_of_evaluate(monkeypatch):
    monkeypatch.setattr(VideoAccuracy, "_compute", lambda *arguments, **inputs: sorted(inputs))
    assert compute_metrics((SCORES, LABELS)) == ["predictions", "references"]
    assert accuracies(ranking(SCORES, 5), LABELS) == ["predictions", "references"]


def test_short_rankings():
    """Fewer classes than five: a class that is not in the ranking is not among the best five."""
    assert accuracies([[0], [0]], [0, 1])["top5"] == 0.5
    with pytest.raises(MetricError, match="different lengths"):
        accuracies([[0, 1], [0]], [0, 1])


def test_no_videos():
    result = accuracies(np.zeros((0, 5), dtype=np.int64), np.zeros(0, dtype=np.int64))
    assert np.isnan([result["top1"], result["top5"], result["mean_class"]]).all() and result["missing"] == 0


def test_example_of_the_docstring():
    results = doctest.testmod(metrics)
    assert results.attempted > 0 and results.failed == 0


def test_a_script_called_evaluate_does_not_hide_the_library(tmp_path):
    """As `examples/evaluate.py` would, from every script beside it."""
    (tmp_path / "evaluate.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "door.py").write_text("from vitaclip_hf.data.metrics import VideoAccuracy\nprint(VideoAccuracy().name)")
    done = subprocess.run([sys.executable, tmp_path / "door.py"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "video_accuracy\n"), done.stderr
