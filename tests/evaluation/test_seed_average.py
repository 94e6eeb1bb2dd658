"""Averages over seeds by hand, and what is no repetition."""

import pytest
from written_results import write_seed

from vitaclip_hf.evaluation.average import average_over_seeds, seeds_table
from vitaclip_hf.evaluation.protocols import EvaluationError


def test_by_hand(tmp_path):
    """Harmonic means 2/3, 2/3 · … within each seed: of (1, 0.5), (0.5, 1) and (0.75, 0.75)."""
    seeds = [(1.0, 0.5), (0.5, 1.0), (0.75, 0.75)]
    files = [write_seed(tmp_path / f"{i}.json", *figures, f"model{i}") for i, figures in enumerate(seeds)]
    average = average_over_seeds(files)
    top1 = {column: figures["top1"] for column, figures in average["figures"]["vita_clip"].items()}
    assert top1["base"] == {"mean": pytest.approx(0.75), "std": pytest.approx(0.25)}
    assert top1["harmonic mean"]["mean"] == pytest.approx((2 / 3 + 2 / 3 + 3 / 4) / 3)
    assert "| mini-base-to-novel, 3 seeds |" in seeds_table(average)
    assert "| base | 75.0 ± 25.0 | 100.0 ± 0.0 | 75.0 ± 25.0 |" in seeds_table(average)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"name": "b", "sha256": "model0", "dtype": "float32"}}, "the same model as .*0.json"),
        ({"protocol": {"name": "mini-base-to-novel", "num_views": 4}}, "another protocol or other lists"),
        ({"splits": {"base": {"list_sha256": "x"}}}, "another protocol or other lists"),
        ({"limited": "limited to 3 videos"}, "limited to 3 videos"),
        ({"rows": None, "model": {}}, "not the results.json"),
    ],
)
def test_what_is_no_repetition(tmp_path, changes, message):
    first = write_seed(tmp_path / "0.json", 1.0, 0.5, "model0")
    second = write_seed(tmp_path / "1.json", 1.0, 0.5, "model1", **changes)
    with pytest.raises(EvaluationError, match=message):
        average_over_seeds([first, second])
    with pytest.raises(EvaluationError, match="two or more"):
        average_over_seeds([first])
