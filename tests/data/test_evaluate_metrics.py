"""The accuracies as metrics of the `evaluate` library, by hand, without network."""

import doctest
import importlib
import sys

import numpy as np
import pytest


# Six videos of six classes. By hand: true class first for 0 and 1, second for 2, last (sixth) for 3; 4 and 5 missing.
SCORES = np.array([[9, 1, 2, 3, 4, 5], [1, 9, 2, 3, 4, 5], [1, 9, 2, 3, 4, 8], *[[1, 9, 2, 3, 4, 0]] * 3], dtype=float)
LABELS = np.array([0, 1, 5, 5, -1, -100])


@pytest.fixture(scope="module")
def module():
    """Imported without `examples/` on the path, where our script of the library's name lies."""
    path, sys.path = sys.path, [entry for entry in sys.path if not entry.rstrip("/").endswith("examples")]
    try:
        return importlib.import_module("vitaclip_hf.data.evaluate_metrics")
    finally:
        sys.path = path


def test_by_hand(module, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert module.TopKAccuracy().compute(predictions=SCORES, references=LABELS) == {"top1": 0.5, "missing": 2}
    assert module.Top5Accuracy().compute(predictions=SCORES, references=LABELS) == {"top5": 0.75, "missing": 2}
    on_disk = module.MeanClassAccuracy(keep_in_memory=False, cache_dir=str(tmp_path))
    for start in (0, 4):  # the last batch is not full
        on_disk.add_batch(predictions=SCORES[start : start + 4], references=LABELS[start : start + 4])
    assert on_disk.compute() == {"mean_class": pytest.approx(2 / 3), "missing": 2}
    one_by_one = module.TopKAccuracy()
    for scores, label in zip(SCORES, LABELS, strict=True):
        one_by_one.add(prediction=scores, reference=label)
    assert one_by_one.compute(k=2) == {"top2": 0.75, "missing": 2}


def test_fewer_classes_than_k(module):
    found = module.TopKAccuracy().compute(predictions=[[0.9, 0.1], [0.9, 0.1]], references=[0, 1], k=5)
    assert found == {"top5": 1.0, "missing": 0}


def test_example_of_the_docstring(module):
    results = doctest.testmod(module)
    assert results.attempted > 0 and results.failed == 0
