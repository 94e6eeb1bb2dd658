"""Each benchmark runs once; it checks for itself that what it compares computes the same. Times are not tested."""

import json
import subprocess
import sys
from pathlib import Path

import benchmark
import benchmark_training
import pytest
from tiny_encoders import save_tiny_encoder


ROOT = Path(__file__).parents[2]
TINY = ["--preset", "tiny", "--rounds", "1"]


@pytest.mark.parametrize(
    "options",
    [
        ["vision", *TINY, "--frames", "2", "--batch", "2"],
        ["train", *TINY, "--frames", "2", "--batch", "4", "--classes", "5"],
        ["text", *TINY],
        pytest.param(["pipeline", *TINY, "--videos", "2", "--labels", "5", "--seconds", "1"], marks=pytest.mark.slow),
        pytest.param(["loader", "--videos", "1", "--seconds", "1", "--rounds", "1"], marks=pytest.mark.slow),
        pytest.param(["load", *TINY], marks=pytest.mark.slow),
    ],
    ids=lambda options: options[0],
)
def test_script_prints_a_table_and_writes_its_results(options, tmp_path, capsys, monkeypatch):
    memory = {"peak_memory_bytes": None, "peak_memory_beyond_bytes": None}  # in three processes
    monkeypatch.setattr(benchmark_training, "peak_memory_in_own_process", lambda *_: memory)
    benchmark.main([*options, "--output", str(tmp_path / "results.json")])
    results = json.loads((tmp_path / "results.json").read_text())
    table = capsys.readouterr().out
    assert results["command"].startswith(f"python examples/benchmarks/benchmark.py {options[0]}")
    for contender in results["contenders"]:
        assert f"| {contender['name']} |" in table and contender["median_ms"] > 0


def test_other_encoders_beside_their_documented_use(tmp_path, capsys):
    save_tiny_encoder("siglip", tmp_path / "siglip")
    few = ["--videos", "2", "--labels", "3", "--rounds", "1"]
    benchmark.main(["encoders", *few, "--models", str(tmp_path / "siglip")])
    table = capsys.readouterr().out
    assert "siglip, this package" in table and "siglip, documented" in table


@pytest.mark.slow
def test_frames_of_a_file_are_those_of_decoding_through(tmp_path, capsys):
    options = ["--only", "sparse10s", "--rounds", "1", "--output", str(tmp_path / "results.json")]
    benchmark.main(["decode", *options])
    table, found = capsys.readouterr().out, json.loads((tmp_path / "results.json").read_text())["clips"]["sparse10s"]
    assert found["this package"]["frames_as_decoding_through"]
    for name, row in found.items():
        assert f"| sparse10s | {name} |" in table and row["median_ms"] > 0


@pytest.mark.slow
def test_gpu_script_smoke_runs_with_the_core_alone(tmp_path):
    code = "import sys, runpy; sys.modules.update(dict.fromkeys(('datasets', 'decord', 'evaluate', 'pyarrow')))\n"
    code += f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'examples' / 'benchmarks')!r}]\n"
    code += "runpy.run_module('benchmark_gpu', run_name='__main__')"
    command = [sys.executable, "-c", code, "--smoke", "--output", str(tmp_path / "gpu.json")]
    subprocess.run(command, cwd=ROOT, check=True)
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert parts and all(part["error"] is None for part in parts.values())
