"""The GPU benchmark: it says where there is no GPU, needs only what inference needs, and keeps what it measured."""

import json
import subprocess
import sys
import time
from pathlib import Path

import benchmark_gpu
import gpu_parts
import pytest
import torch
from gpu_record import Record, TimeIsUpError, time_limit


ROOT = Path(__file__).parents[2]
ABSENT = ("datasets", "decord", "evaluate", "pyarrow", "torchcodec")


def run_with_the_core(*arguments) -> subprocess.CompletedProcess:
    """The script in a process in which none of `ABSENT` can be imported."""
    code = (
        "import sys, runpy\n"
        f"sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'examples' / 'benchmarks')!r}]\n"
        "runpy.run_module('benchmark_gpu', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark_gpu.main([]) == 2
    assert "There is no GPU here" in capsys.readouterr().err


@pytest.mark.parametrize("parts", [["agreement"], pytest.param(list(benchmark_gpu.PARTS), marks=pytest.mark.slow)])
def test_smoke_needs_no_extra(tmp_path, parts):
    output = tmp_path / "gpu.json"
    result = run_with_the_core("--smoke", "--output", output, "--parts", *parts)
    assert result.returncode == 0, result.stderr[-2000:]
    results = json.loads(output.read_text())
    assert list(results["parts"]) == parts
    assert all(part["error"] is None and part["seconds"] > 0 for part in results["parts"].values())
    checks = {check["name"]: check for check in results["parts"]["agreement"]["checks"]}
    assert (
        checks["ours, float32"]["largest_relative_difference"] < checks["ours, bfloat16"]["largest_relative_difference"]
    )
    assert "| ours, bfloat16 | yes |" in result.stdout


def test_a_part_that_fails_or_takes_too_long_loses_nothing(tmp_path, monkeypatch):
    def fails(scale, record):
        record.check("before", True)
        raise ValueError("broken")

    def hangs(scale, record):
        record.check("before", True)
        time.sleep(30)

    def works(scale, record):
        record.measurement("m", [{"name": "a", "median_ms": 2.0, "min_ms": 1.0, "max_ms": 3.0}], videos=4)

    for name, part in (("agreement", fails), ("synchronization", hangs), ("vision", works)):
        monkeypatch.setattr(gpu_parts, name, part)
    output = tmp_path / "gpu.json"
    results = {"parts": {}, "machine": {}, "command": "c", "date": "d"}
    limits = {"agreement": 9, "synchronization": 0.2, "vision": 9}
    benchmark_gpu.run_parts(limits, None, Record(results, output), seconds=1e9)
    written = json.loads(output.read_text())["parts"]
    assert written == results["parts"]
    assert written["agreement"]["error"] == "ValueError: broken"
    assert written["synchronization"]["error"].startswith("stopped after 0 s")
    assert [len(part["checks"]) for part in written.values()] == [1, 1, 0]
    assert "| m | a | 2.00 | 1.00–3.00 |  |  | 2000 |  |" in benchmark_gpu.to_markdown(results)
    assert not benchmark_gpu.succeeded(results)


def test_an_outer_limit_goes_on_after_an_inner_one():
    start = time.monotonic()
    with pytest.raises(TimeIsUpError), time_limit(0.4):
        with pytest.raises(TimeIsUpError), time_limit(0.1):
            time.sleep(5)
        assert time.monotonic() - start < 0.4
        time.sleep(5)
    assert time.monotonic() - start < 3


def test_agreement_by_hand():
    expected = gpu_parts.Answers(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 2.0, 3.0]]))
    found = gpu_parts.Answers(torch.tensor([[3.0, 2.0]]), torch.tensor([[1.0, 3.5, 3.0]]))
    figures = gpu_parts.compare(found, expected)
    assert figures["largest_relative_difference"] == 0.5
    assert figures["largest_logit_difference"] == 1.5
    assert figures["top1_agreement"] == 0.0
    assert figures["least_spearman"] == pytest.approx(0.5)  # ranks 0 2 1 against 0 1 2
    assert figures["least_cosine"] == pytest.approx(17 / (5 * 13**0.5))
