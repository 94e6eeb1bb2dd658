"""Paired differences: by hand and against scipy's bootstrap; averages over seeds by hand; what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path
from statistics import harmonic_mean

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from vitaclip_hf.cli.main import app
from vitaclip_hf.data.metrics import METRICS
from vitaclip_hf.evaluation.accuracies import accuracy_table
from vitaclip_hf.evaluation.average import average_over_seeds, read_results
from vitaclip_hf.evaluation.comparison import PairedSplit, compare, first_rows, pair
from vitaclip_hf.evaluation.protocols import EvaluationError


def write_answers(
    folder, ids, status=None, labels=(0, 1, 2), paths=("a", "b", "c"), row="vita_clip", splits="111", **protocol
) -> Path:
    """A results folder with the answers of one row for each video of some splits; returns its `results.json`."""
    folder.mkdir()
    columns = {"split": list(splits), "path": list(paths), "label": list(labels), f"{row}_ids": ids}
    columns["status"] = status or ["ok"] * len(paths)
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "predictions.parquet")
    classes = protocol.pop("classes", ["x", "y", "z"])
    splits = {"1": {"classes": dict(zip(classes, classes, strict=True))}}
    model = {"name": folder.name, "sha256": folder.name, "dtype": protocol.pop("dtype", "float32")}
    about = {key: protocol.pop(key, None) for key in ("limited", "class_split", "published")}
    about |= {"splits": splits, "model": model, "rows": {row: {}}}
    (folder / "results.json").write_text(json.dumps({"protocol": {"name": "mini", "num_views": 1} | protocol} | about))
    return folder / "results.json"


def write_seed(file, base, novel, name, **changes) -> Path:
    """The `results.json` of a base-to-novel evaluation with these accuracies."""

    def figures(value):
        return {"top1": value, "top5": 1.0, "mean_class": value}

    row = {"splits": {"base": figures(base), "novel": figures(novel)}}
    means = zip(figures(base).items(), figures(novel).values(), strict=True)
    row |= {name: {"harmonic_mean": harmonic_mean([a, b])} for (name, a), b in means}
    splits = {split: {"list_sha256": split, "classes": {"a": "a"}} for split in ("base", "novel")}
    content = {
        "protocol": {"name": "mini-base-to-novel", "num_views": 1}, "limited": None, "rows": {"vita_clip": row},
        "splits": splits, "model": {"name": name, "sha256": name, "dtype": "float32"},
        "video_processor": {"size": {"shortest_edge": 224}, "num_views": 1},
    }  # fmt: skip
    file.write_text(json.dumps(content | changes))
    return file


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
    five = compare([PairedSplit("1", np.arange(3), np.zeros(3, int), np.array([[0, 4, 5], [1, 5, 5]]))], resamples=10)
    assert (five["top5"].a, five["top5"].b) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    one = compare([paired([1], [0])], resamples=20)["top1"]  # every resample of one video is that video
    assert (one.a, one.b, one.difference, one.low, one.high) == (1, 0, -1, -1, -1)


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


def test_a_video_of_several_splits_is_drawn_for_all_at_once():
    """Three copies of one split tell no more than one: the interval must not shrink by √3."""
    split = random_pair()
    copies = [PairedSplit(name, split.videos, split.labels, split.ranks) for name in "123"]
    one, three = (compare(splits, resamples=1000)["top1"] for splits in ([split], copies))
    assert (three.low, three.high) == (pytest.approx(one.low), pytest.approx(one.high))
    assert compare([replace(split, videos=3 * split.videos + 5)], resamples=1000)["top1"] == one  # one of several
    small = compare([random_pair(20), paired([1], [0], name="2", videos=[3])], resamples=50)["top1"]
    assert np.isfinite([small.low, small.high]).all()  # many resamples have no video of the second split


def test_pairing_goes_by_path(tmp_path):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]])
    b = write_answers(tmp_path / "b", [[2, 0], [1, 2], None], ["ok", "ok", "failed"], (2, 1, 0), ("c", "b", "a"))
    splits, left_out = pair(a, b)
    assert left_out == 1 and splits[0].labels.tolist() == [1, 2]  # b and c; a could not be read in B
    assert splits[0].ranks.tolist() == [[1, 0], [0, 0]]
    few = write_answers(tmp_path / "few", [[0, 1], [0, 1], [0]], labels=(0, 1, 0), splits="112")  # 2 has one class
    assert [split.ranks.tolist() for split in pair(few, few)[0]] == [[[0, 1]] * 2, [[0]] * 2]
    shared = write_answers(tmp_path / "shared", [None, [0, 1], [0, 1]], paths=("a", "b", "b"), splits="112")
    splits, left_out = pair(shared, shared)
    assert left_out == 1 and [split.videos.tolist() for split in splits] == [[1], [1]]  # b, one video in both


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


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(EvaluationError, match="none"):
        pair(tmp_path / "none" / "results.json", tmp_path / "none" / "results.json")
    for content in (None, b"\xff\xfe", b"[]", b'{"limited": null, "protocol": {"name": ""}, "model": {"sha256": ""}}'):
        if content is not None:
            (tmp_path / "results.json").write_bytes(content)
        with pytest.raises(EvaluationError, match=r"results\.json"):
            read_results(tmp_path / "results.json")


def test_bad_choices():
    for choices in ({"resamples": 0}, {"confidence": 1.0}):
        with pytest.raises(EvaluationError):
            compare([random_pair(10)], **choices)


# Averages over seeds


def test_averages_over_seeds_by_hand(tmp_path):
    """Harmonic means 2/3, 2/3 · … within each seed: of (1, 0.5), (0.5, 1) and (0.75, 0.75)."""
    seeds = [(1.0, 0.5), (0.5, 1.0), (0.75, 0.75)]
    files = [write_seed(tmp_path / f"{i}.json", *figures, f"model{i}") for i, figures in enumerate(seeds)]
    files[0].rename(tmp_path / "results.json")
    more = json.loads(files[1].read_text())  # a row that the others lack
    files[1].write_text(json.dumps(more | {"rows": {"frozen_clip": more["rows"]["vita_clip"], **more["rows"]}}))
    assert first_rows(files[1]) == ("frozen_clip",)
    average = average_over_seeds([tmp_path, *files[1:]])  # a folder is its results.json
    assert average_over_seeds([files[1], tmp_path, files[2]])["figures"].keys() == {"vita_clip"}
    top1 = {column: figures["top1"] for column, figures in average["figures"]["vita_clip"].items()}
    assert top1["base"] == {"mean": pytest.approx(0.75), "std": pytest.approx(0.25)}
    assert top1["harmonic mean"]["mean"] == pytest.approx((2 / 3 + 2 / 3 + 3 / 4) / 3)
    lines = accuracy_table("mini, 3 seeds", average["figures"])
    assert lines[0].startswith("| mini, 3 seeds ") and len({*map(len, lines)}) == 1
    assert re.sub(" +", " ", lines[2]) == "| base, Vita-CLIP | 75.0 ± 25.0 | 100.0 ± 0.0 | 75.0 ± 25.0 |"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"name": "b", "sha256": "model0", "dtype": "float32"}}, "the same model as .*0.json"),
        ({"protocol": {"name": "mini-base-to-novel", "num_views": 4}}, r"num_views: 1 / 4"),
        ({"splits": {"base": {"list_sha256": "x", "classes": {"a": "a"}}}}, "other lists"),
        ({"splits": {"base": {"list_sha256": "base", "classes": {"a": "an a"}}}}, "classes of split base: .*'an a'"),
        ({"model": {"name": "b", "sha256": "b", "dtype": "bfloat16"}}, r"0.json \(dtype: float32 / bfloat16\)"),
        ({"options": {"on_damage": "skip"}}, "on_damage: None / skip"),
        ({"video_processor": {"size": {"shortest_edge": 48}, "num_views": 2}}, r"\(video_processor.size: .*48}\)"),
        ({"limited": "limited to 3 videos"}, "limited to 3 videos"),
        ({"rows": {"vita_clip": {"splits": {"base": dict.fromkeys(METRICS)}}}}, "no video that could be read"),
    ],
)
def test_what_is_no_repetition(tmp_path, changes, message):
    first = write_seed(tmp_path / "0.json", 1.0, 0.5, "model0")
    second = write_seed(tmp_path / "1.json", 1.0, 0.5, "model1", **changes)
    with pytest.raises(EvaluationError, match=message):
        average_over_seeds([first, second])


# The commands


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_differences_are_printed_and_written(tmp_path):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]], published="98 (a paper)")
    other = {"limited": "a quick look", "classes": ["x", "why", "z", "w"]}
    b = write_answers(tmp_path / "b", [[0, 1], [1, 0], [2, 1]], num_views=4, dtype="bfloat16", **other)
    choices = ["--resamples", "100", "--confidence", "0.995"]
    result = call("compare", a, b, "--output", tmp_path / "difference.json", *choices)
    assert result.exit_code == 0
    printed = result.stdout
    assert "| 99.5% interval" in printed
    assert "| split 1, top-1 | 66.7% | 100.0% | +33.3 |" in re.sub(" +", " ", printed)
    assert max(len(line) for line in printed.splitlines() if line.startswith("|")) <= 80
    assert "not the same setting: num_views: 1 / 4" in printed
    assert "not the same setting: dtype: float32 / bfloat16" in printed
    assert "not the same setting: classes of split 1: 3 / 4, such as 'y' / 'why'" in printed
    assert printed.startswith(f"A: {a}, vita_clip\nB: {b}, vita_clip\n")
    assert "\nPublished: 98 (a paper)\n**B: a quick look**" in printed and "**A: " not in printed
    found = json.loads((tmp_path / "difference.json").read_text())
    assert found["differences"]["split 1"]["top1"]["difference"] == pytest.approx(1 / 3)
    assert (found["rows"], found["resamples"], found["confidence"]) == (["vita_clip", "vita_clip"], 100, 0.995)


def test_rows_of_each_side_are_chosen(tmp_path):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]], row="frozen_clip")
    b = write_answers(tmp_path / "b", [[0, 1], [1, 0], [2, 1]])
    result = call("compare", a, b, "--rows", "frozen_clip", "vita_clip", "--resamples", "10")
    assert result.exit_code == 0 and result.stdout.startswith(f"A: {a}, frozen_clip\nB: {b}, vita_clip\n")


def test_splits_their_mean_and_the_seed(tmp_path):
    a = write_answers(tmp_path / "a", [[0], [1], [1]], labels=(0, 1, 0), splits="112")
    b = write_answers(tmp_path / "b", [[0], [0], [0]], labels=(0, 1, 0), splits="112")
    printed = re.sub(" +", " ", call("compare", a, b, "--resamples", "100").stdout)
    assert "| split 1, top-1 | 100.0% | 50.0% | -50.0 | -100.0 … +0.0 |" in printed
    assert "| mean of the splits, top-1 | 50.0% | 75.0% | +25.0 |" in printed
    drawn = [call("compare", a, b, "--resamples", "1", "--seed", str(seed)).stdout for seed in range(5)]
    assert len({printed.partition(" resamples, seed")[0] for printed in drawn}) > 1


def test_comparison_that_cannot_be_written_or_has_no_such_row(tmp_path, refused):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]])
    assert call("compare", a, a, "--resamples", "10", "--output", tmp_path / "no" / "x.json").exit_code == 2
    assert "has no row 'x', only vita_clip" in refused("compare", a, a, "--rows", "x", "vita_clip")


def test_average_is_written_or_refused(tmp_path, refused):
    files = [write_seed(tmp_path / f"{i}.json", 1.0, 0.5, f"model{i}") for i in range(2)]
    assert call("average", *files, "--output", tmp_path / "no" / "x.json").exit_code == 2
    assert "two or more" in refused("average", files[0])
    assert "no results.json; `vitaclip evaluate` writes it" in refused("average", tmp_path / "none", files[0])
    assert call("average", *files, "--output", tmp_path / "mean.json").exit_code == 0
    written = json.loads((tmp_path / "mean.json").read_text())
    assert written["figures"]["vita_clip"]["base"]["top1"] == {"mean": 1.0, "std": 0.0}


def test_own_split_beside_a_published_one(tmp_path, refused):
    """The two have different base classes; two own splits are compared, with a note."""
    own, published = {"origin": "own split"}, {"origin": "protocol"}
    a = write_answers(tmp_path / "a", [[0], [0], [2]], class_split=own)
    b = write_answers(tmp_path / "b", [[0], [1], [2]], class_split=published)
    for given in ((a, b), (b, a)):
        assert f"{a} is of an own split" in refused("compare", *given)
    both = call("compare", a, a, "--resamples", "10").stdout
    assert "**A: own split, not a published one**" in both
    assert "own split" not in call("compare", b, b, "--resamples", "10").stdout
