"""Accuracies against figures worked out by hand and torch's topk; ties, gaps and bad input."""

import numpy as np
import pytest
import torch

from vitaclip_hf.data.metrics import METRICS, accuracies, compute_metrics, per_class_accuracy, ranking, ranks_in_ranking


# Six videos of six classes. By hand: true class first for 0 and 1, second for 2, last (sixth) for 3; 4 and 5 missing.
ROWS = [[9, 1, 2, 3, 4, 5], [1, 9, 2, 3, 4, 5], [1, 9, 2, 3, 4, 8], [1, 9, 2, 3, 4, 0]] + [[1, 9, 2, 3, 4, 5]] * 2
SCORES = np.array(ROWS, dtype=np.float32)
LABELS = np.array([0, 1, 5, 5, -1, -100])
BY_HAND = {"top1": 0.5, "top5": 0.75, "mean_class": pytest.approx(2 / 3), "missing": 2}


def test_by_hand():
    for width in (5, 6):  # the best five are enough
        best = ranking(SCORES, width)
        ranks = ranks_in_ranking(best, LABELS)
        assert ranks.tolist() == [0, 0, 1, 5, -1, -1]
        # top-1: 2 of 4; top-5: 3 of 4; classes 0, 1, 5: 1, 1, 0 of 2
        assert accuracies(best, LABELS) == BY_HAND
    per_class, counts = per_class_accuracy(ranks, LABELS, 6)
    assert counts.tolist() == [1, 1, 0, 0, 0, 2]
    np.testing.assert_array_equal(per_class, [1, 1, np.nan, np.nan, np.nan, 0])


def test_weights_count_a_video_several_times():
    """Ranks 0, 1, 9 of classes 0, 0, 1; the second resample has the first video twice and none of class 1."""
    ranks, labels, weights = np.array([0, 1, 9]), np.array([0, 0, 1]), np.array([[1.0, 1, 1], [2, 1, 0]])
    expected = {"top1": [1 / 3, 2 / 3], "top5": [2 / 3, 1], "mean_class": [1 / 4, 2 / 3]}
    for name, values in expected.items():
        assert METRICS[name].compute(ranks, labels, weights).tolist() == pytest.approx(values)


def test_against_torch_topk_on_random_scores():
    scores = torch.randn(200, 17, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(200) % 17
    result = compute_metrics(scores, labels)
    for k in (1, 5):
        expected = (scores.topk(k).indices == labels[:, None]).any(1).float().mean().item()
        assert result[f"top{k}"] == pytest.approx(expected)
    assert (ranking(scores, 5) == scores.topk(5).indices.numpy()).all()
    matrix = np.zeros((17, 17))
    np.add.at(matrix, (labels.numpy(), scores.argmax(1).numpy()), 1)
    assert result["mean_class"] == pytest.approx((matrix.diagonal() / matrix.sum(1)).mean())


def test_ties_go_to_the_lower_index():
    assert ranking(np.zeros((3, 4)), 2).tolist() == [[0, 1]] * 3
    assert ranking([[1.0, 2.0, 2.0, 0.0]], 3).tolist() == [[1, 2, 0]]


def test_fewer_classes_than_five():
    assert compute_metrics([[0.9, 0.1], [0.9, 0.1]], [0, 1])["top5"] == 1
    # A class that is not in the ranking is not among the best five.
    assert accuracies([[0], [0]], [0, 1])["top5"] == 0.5


@pytest.mark.parametrize("labels", [np.array([-1, -100]), np.zeros(0, dtype=np.int64)])
def test_no_videos_give_no_number(labels):
    result = compute_metrics(SCORES[: len(labels)], labels)
    assert np.isnan([result[name] for name in METRICS]).all() and result["missing"] == len(labels)


@pytest.mark.parametrize(
    ("scores", "labels", "message"), [(SCORES[:1], [6], "label 6"), ([[1.0, 2.0], [float("nan"), 1.0]], [0, 1], "NaN")]
)
def test_bad_input(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics(scores, labels)


def test_nan_of_a_missing_video_does_not_matter():
    assert compute_metrics([[1.0, 2.0], [float("nan"), 1.0]], [1, -1])["top1"] == 1
