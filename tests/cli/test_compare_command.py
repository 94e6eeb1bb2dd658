"""`vitaclip compare` and `vitaclip average`: what they print and write, and one line for what cannot be done."""

import json

import pytest
from typer.testing import CliRunner
from written_results import write_answers, write_seed

from vitaclip_hf.cli.main import app


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(*arguments) -> str:
    """The one line of a call that could not start."""
    result = call(*arguments)
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    return result.stderr


def test_differences_are_printed_and_written(tmp_path):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]])
    other = {"limited": "a quick look", "classes": ["x", "why", "z", "w"]}
    b = write_answers(tmp_path / "b", [[0, 1], [1, 0], [2, 1]], num_views=4, dtype="bfloat16", **other)
    result = call("compare", a, b, "--output", tmp_path / "difference.json", "--resamples", "100")
    assert result.exit_code == 0
    printed = result.stdout
    assert "| split 1, top-1 | 66.7% | 100.0% | +33.3 |" in printed
    assert "not the same setting: num_views: 1 / 4" in printed
    assert "not the same setting: dtype: float32 / bfloat16" in printed
    assert "not the same setting: classes of split 1: 3 / 4, such as 'y' / 'why'" in printed
    assert printed.startswith(f"A: {a}, vita_clip\nB: {b}, vita_clip\n")
    assert "**B: a quick look**" in printed and "**A: " not in printed
    found = json.loads((tmp_path / "difference.json").read_text())
    assert found["differences"]["split 1"]["top1"]["difference"] == pytest.approx(1 / 3)


def test_rows_of_each_side_are_chosen(tmp_path):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]], row="frozen_clip")
    b = write_answers(tmp_path / "b", [[0, 1], [1, 0], [2, 1]])
    result = call("compare", a, b, "--rows", "frozen_clip", "vita_clip", "--resamples", "10")
    assert result.exit_code == 0 and result.stdout.startswith(f"A: {a}, frozen_clip\nB: {b}, vita_clip\n")


def test_other_videos_are_refused(tmp_path):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]])
    b = write_answers(tmp_path / "b", [[0, 1], [1, 0], [2, 1]], paths=("a", "b", "d"))
    assert "different videos" in refused("compare", a, b)


def test_comparison_that_cannot_be_written_or_read(tmp_path):
    a = write_answers(tmp_path / "a", [[0, 1], [0, 1], [2, 1]])
    result = call("compare", a, a, "--resamples", "10", "--output", tmp_path / "no" / "x.json")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "x.json" in result.stderr
    a.write_bytes(b"\xff\xfe")
    assert "not the results.json of an evaluation" in refused("compare", a, a)


def test_average_is_printed_and_written(tmp_path):
    seeds = [(1.0, 0.5), (0.5, 1.0), (0.75, 0.75)]
    files = [write_seed(tmp_path / f"{i}.json", *figures, f"model{i}") for i, figures in enumerate(seeds)]
    result = call("average", *files, "--output", tmp_path / "mean.json")
    assert result.exit_code == 0 and "| base | 75.0 ± 25.0 | 100.0 ± 0.0 | 75.0 ± 25.0 |" in result.stdout
    written = json.loads((tmp_path / "mean.json").read_text())
    assert written["figures"]["vita_clip"]["base"]["top1"] == {"mean": 0.75, "std": 0.25}


def test_average_that_cannot_be_written_or_made(tmp_path):
    files = [write_seed(tmp_path / f"{i}.json", 1.0, 0.5, f"model{i}") for i in range(2)]
    result = call("average", *files, "--output", tmp_path / "no" / "x.json")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "x.json" in result.stderr
    assert "two or more" in refused("average", files[0])


def test_own_split_beside_a_published_one(tmp_path):
    """The two have different base classes; two own splits are compared, with a note."""
    own, published = {"origin": "own split"}, {"origin": "protocol"}
    a = write_answers(tmp_path / "a", [[0], [0], [2]], class_split=own)
    b = write_answers(tmp_path / "b", [[0], [1], [2]], class_split=published)
    for pair in ((a, b), (b, a)):
        assert f"{a} is of an own split" in refused("compare", *pair)
    both = call("compare", a, a, "--resamples", "10").stdout
    assert "**A: own split, not a published one**" in both
    assert "own split" not in call("compare", b, b, "--resamples", "10").stdout
