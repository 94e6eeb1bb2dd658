"""Paired differences: by hand, against scipy's bootstrap and the closed form; what cannot be compared is refused."""

import numpy as np
import pyarrow
import pytest
from written_results import write_answers

from vitaclip_hf.evaluation.average import read_results
from vitaclip_hf.evaluation.comparison import PairedSplit, accuracy, compare, pair, settings
from vitaclip_hf.evaluation.protocols import EvaluationError


def paired(a_right, b_right, labels=None, name="1", videos=None) -> PairedSplit:
    count = len(a_right)
    ranks = np.where(np.array([a_right, b_right], dtype=bool), 0, 7)
    labels = np.zeros(count, int) if labels is None else np.array(labels)
    return PairedSplit(name, np.arange(count) if videos is None else np.array(videos), labels, ranks)


def random_pair(count: int = 400, seed: int = 3) -> PairedSplit:
    generator = np.random.default_rng(seed)
    easy = generator.random(count)  # both systems find the same videos hard
    return paired(easy > 0.4, easy + 0.2 * generator.standard_normal(count) > 0.3, generator.integers(0, 5, count))


def test_differences_by_hand():
    # A right on 2 of 4, B on 3 of 4; classes 0, 0, 0, 1: A 2/3 and 0, B 2/3 and 1.
    split = paired([1, 1, 0, 0], [1, 0, 1, 1], labels=[0, 0, 0, 1])
    found = compare([split], resamples=50)
    assert (found["top1"].a, found["top1"].b, found["top1"].difference) == (0.5, 0.75, 0.25)
    assert (found["mean_class"].a, found["mean_class"].b) == (pytest.approx(1 / 3), pytest.approx(5 / 6))


def test_weights_count_videos_by_hand():
    """Videos drawn 2, 0, 1, 1 times: A right on 2 of 4; class 0 has three draws, class 1 one."""
    split = paired([1, 1, 0, 0], [1, 0, 1, 1], labels=[0, 0, 0, 1])
    weights = np.array([[2.0, 0, 1, 1], [1, 1, 2, 0]])
    np.testing.assert_allclose(accuracy([split], "top1", weights), [[2 / 4, 4 / 4], [2 / 4, 3 / 4]])
    # In the second resample class 1 has no video and does not count.
    np.testing.assert_allclose(accuracy([split], "mean_class", weights), [[2 / 6, 1], [2 / 4, 3 / 4]])


def test_top5_looks_at_five():
    split = PairedSplit("1", np.arange(3), np.zeros(3, int), np.array([[0, 4, 5], [1, 5, 5]]))
    found = compare([split], resamples=10)
    assert (found["top5"].a, found["top5"].b) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_equal_systems_differ_by_nothing():
    split = random_pair()
    same = PairedSplit("1", split.videos, split.labels, split.ranks[[0, 0]])
    for difference in compare([same], resamples=200).values():
        assert (difference.difference, difference.low, difference.high) == (0, 0, 0)


def test_interval_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    split = random_pair()
    hits = split.ranks == 0
    arguments = {"paired": True, "method": "percentile", "n_resamples": 2000, "vectorized": True}
    expected = stats.bootstrap(
        (hits[1].astype(float), hits[0].astype(float)),
        lambda b, a, axis: b.mean(axis) - a.mean(axis),
        rng=np.random.default_rng(9),
        **arguments,
    )
    found = compare([split], resamples=2000)["top1"]
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.005)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.005)


def test_seeded():
    split = random_pair()
    assert compare([split], resamples=300, seed=1) == compare([split], resamples=300, seed=1)
    assert compare([split], resamples=300, seed=1) != compare([split], resamples=300, seed=2)


def test_a_video_of_several_splits_is_drawn_for_all_at_once():
    """Three copies of one split tell no more than one: the interval must not shrink by √3."""
    split = random_pair()
    copies = [PairedSplit(name, split.videos, split.labels, split.ranks) for name in "123"]
    one, three = (compare(splits, resamples=1000)["top1"] for splits in ([split], copies))
    assert (three.low, three.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_pairing_goes_by_path(tmp_path):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]])
    b = write_answers(tmp_path / "b", [[2, 0], [1, 2], None], ["ok", "ok", "failed"], (2, 1, 0), ("c", "b", "a"))
    splits, left_out = pair(a, b)
    assert left_out == 1 and splits[0].labels.tolist() == [1, 2]  # b and c; a could not be read in B
    assert splits[0].ranks.tolist() == [[1, 0], [0, 0]]


def test_rows_of_one_result(tmp_path):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]])
    with pytest.raises(EvaluationError, match="has no row 'frozen_clip', only vita_clip"):
        pair(a, a, ("frozen_clip", "vita_clip"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paths": ("a", "b", "d")}, r"different videos: 2 are in one only, such as c \(split 1\)"),
        ({"labels": (0, 1, 1)}, "different labels"),
        ({"ids": [None] * 3, "status": ["failed"] * 3}, "no video that both could read"),
    ],
)
def test_what_cannot_be_compared(tmp_path, changes, message):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]])
    ids = pyarrow.array(changes.pop("ids", [[0, 1]] * 3), pyarrow.list_(pyarrow.int32()))
    b = write_answers(tmp_path / "b", ids, **changes)
    with pytest.raises(EvaluationError, match=message):
        pair(a, b)


def test_settings_that_differ(tmp_path):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]])
    other = {"limited": "a quick look", "classes": ["x", "why", "z", "w"]}
    b = write_answers(tmp_path / "b", [[0, 1], [1, 0], [2, 1]], num_views=4, dtype="bfloat16", **other)
    different = ["num_views: 1 / 4", "dtype: float32 / bfloat16", "classes of split 1: 3 / 4, such as 'y' / 'why'"]
    assert settings(a, b) == (different, ["B: a quick look"]) and settings(a, a) == ([], [])
    a.write_text(a.read_text().replace("num_views", "views"))  # of an earlier version
    assert settings(a, b)[0] == different


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(EvaluationError, match="none"):
        pair(tmp_path / "none" / "results.json", tmp_path / "none" / "results.json")
    for content in (None, b"\xff\xfe", b"[]", b'{"limited": null, "protocol": {"name": ""}, "model": {"sha256": ""}}'):
        if content is not None:
            (tmp_path / "results.json").write_bytes(content)
        with pytest.raises(EvaluationError, match=r"results\.json"):
            read_results(tmp_path / "results.json")


def test_one_video():
    """Every resample of one video is that video."""
    found = compare([paired([1], [0])], resamples=20)["top1"]
    assert (found.a, found.b, found.difference, found.low, found.high) == (1, 0, -1, -1, -1)


def test_bad_choices():
    for choices in ({"resamples": 0}, {"confidence": 1.0}):
        with pytest.raises(EvaluationError):
            compare([random_pair(10)], **choices)
