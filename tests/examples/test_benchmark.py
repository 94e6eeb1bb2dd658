"""The benchmark script: what it compares is the same arithmetic, and its sums are right. Times are not tested."""

import json

import benchmark
import benchmark_measurement
import benchmark_pipeline
import pytest
import torch

from vitaclip_hf import open_video


FRAMES = 4


@pytest.fixture(scope="module")
def pair() -> tuple[benchmark.Contender, benchmark.Contender]:
    torch.manual_seed(0)
    ours, released, *_ = benchmark.build_contenders("tiny", FRAMES)
    return ours, released


@pytest.fixture(scope="module")
def videos() -> torch.Tensor:
    return torch.randn(2, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_the_model_has_every_kind_of_prompt_and_none_is_zero(pair):
    vision = pair[0].model.vision_model
    assert len(vision.time_embedding.weight) == FRAMES
    assert (vision.time_embedding.weight.std(1) > 0.01).all()
    for layer in vision.encoder.layers:
        assert layer.prompts.summary_attention is not None
        assert (layer.prompts.local_prompts.std(1) > 0.01).all()
        assert (layer.prompts.global_prompts.std(1) > 0.01).all()


def test_released_arithmetic_gives_our_features(pair, videos):
    ours, released = pair
    with torch.no_grad():
        torch.testing.assert_close(released.features(videos), ours.features(videos), atol=1e-5, rtol=0)
    assert benchmark.check_same_features(ours, released, videos) <= 1e-5
    assert ours.parameters == released.parameters
    assert released.model.layers[0].self_attn.heads_last
    heads_first = benchmark.ReleasedArithmetic(ours.model, heads_last=False).eval()
    with torch.no_grad():
        torch.testing.assert_close(heads_first(videos), ours.features(videos), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "weight",
    [
        "time_embedding.weight",
        "layers.0.local_prompts",
        "layers.0.global_prompts",
        "layers.1.local_prompts",
        "layers.1.global_prompts",
        "layers.1.summary_attention.v_proj.weight",
        "layers.1.cls_projection.bias",
        "layers.1.layer_norm1.bias",
    ],
)
def test_check_notices_a_broken_weight(pair, videos, weight):
    ours, _ = pair
    broken = benchmark.ReleasedArithmetic(ours.model).eval()
    with torch.no_grad():
        # One number only: LayerNorm would take a constant over a whole vector away.
        broken.get_parameter(weight).view(-1)[0] += 0.5
    contender = benchmark.Contender("broken", broken, [broken], broken)
    with pytest.raises(benchmark.DifferentFeaturesError, match="'broken' and 'Vita-CLIP.*differ by"):
        benchmark.check_same_features(ours, contender, videos)
    # The module has weights of its own: ours were not touched.
    assert benchmark.check_same_features(*pair, videos) <= 1e-5


def test_check_does_not_let_nan_pass(pair, videos):
    ours, _ = pair
    broken = benchmark.Contender("broken", torch.nn.Identity(), [], lambda v: ours.features(v) * float("nan"))
    with pytest.raises(benchmark.DifferentFeaturesError, match="differ by nan"):
        benchmark.check_same_features(ours, broken, videos)


def test_every_round_starts_from_the_next_contender():
    orders = ["".join(benchmark_measurement.order_of_round(list("abc"), index)) for index in range(4)]
    assert orders == ["abc", "bca", "cab", "abc"]


def test_contenders_run_interleaved_after_one_warm_up_each(videos):
    calls = []
    contenders = [
        benchmark.Contender(name, torch.nn.Identity(), [], lambda v, n=name: calls.append(n)) for name in "ab"
    ]
    seconds, peaks = benchmark.time_interleaved(contenders, videos, rounds=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert peaks == {"a": None, "b": None}


def test_ratios_are_medians_over_rounds():
    seconds = {"ours": [1.0, 4.0, 3.0], "theirs": [2.0, 16.0, 3.0]}
    summary = benchmark_measurement.summarize(seconds, {"theirs": "theirs", "ours": "ours"})
    # Rounds give 1/2, 1/4 and 1; the ratio of the medians would be 3/3.
    assert summary["ours"] == {
        "median_ms": 3000.0,
        "min_ms": 1000.0,
        "max_ms": 4000.0,
        "ratio_to_theirs": 0.5,
        "ratio_to_ours": 1.0,
    }
    assert summary["theirs"]["ratio_to_ours"] == 2.0


def test_rounds_of_unequal_number_are_refused():
    with pytest.raises(ValueError, match="zip"):
        benchmark_measurement.summarize({"a": [1.0], "b": [1.0, 2.0]}, {"b": "b"})


def test_busy_is_a_load_of_a_quarter_of_the_cores():
    assert not benchmark_measurement.is_busy(0.5, cores=2)
    assert benchmark_measurement.is_busy(0.6, cores=2)
    assert not benchmark_measurement.is_busy(0.6, cores=16)
    assert not benchmark_measurement.is_busy(None, cores=2)


def test_script_prints_a_table_and_writes_json(tmp_path, capsys):
    output = tmp_path / "results.json"
    options = ["vision", "--preset", "tiny", "--frames", "2", "--batch", "3", "--rounds", "2", "--output", str(output)]
    benchmark.main(options)
    printed = capsys.readouterr().out.splitlines()
    results = json.loads(output.read_text())

    assert results["benchmark"] == "vision"
    assert results["command"].startswith("python examples/benchmarks/benchmark.py vision --preset tiny --frames 2")
    assert results["settings"] == {
        "preset": "tiny",
        "frames": 2,
        "batch": 3,
        "rounds": 2,
        "dtype": "float32",
        "device": "cpu",
    }
    assert results["machine"]["torch"] == torch.__version__
    assert results["machine"]["threads"] == torch.get_num_threads()
    assert {"processor", "load_average", "busy", "transformers", "cores"} <= results["machine"].keys()
    assert results["largest_relative_difference"] <= 1e-5

    ours, released, _, _, clip = results["contenders"]
    assert [contender["name"] for contender in results["contenders"]] == [
        benchmark.OURS,
        benchmark.RELEASED,
        benchmark.HEADS_FIRST,
        benchmark.XCLIP,
        benchmark.CLIP,
    ]
    assert released["ratio_to_released"] == clip["ratio_to_clip"] == 1.0
    for contender in results["contenders"]:
        assert len(contender["seconds"]) == 2
        assert 0 < contender["min_ms"] <= contender["median_ms"] <= contender["max_ms"]
        assert contender["peak_memory_bytes"] is None
    # The prompts of two layers: summary attention and norm, class projection, local, global; and the time embedding.
    width = 48
    assert ours["parameters"] - clip["parameters"] == (
        2 * (5 * (width**2 + width) + 2 * width + (2 + 8) * width) + 2 * width
    )

    assert [line.split("|")[1].strip() for line in printed[2:7]] == [c["name"] for c in results["contenders"]]
    assert f"{clip['parameters']:,}" in printed[6]
    assert results["command"] in printed[8]
    assert ("Warning" in printed[-1]) == results["machine"]["busy"]


def test_table_gives_peak_memory_on_cuda_and_warns_of_a_busy_machine():
    entry = {"median_ms": 12.34, "min_ms": 10.0, "max_ms": 20.0, "ratio_to_released": 0.5, "ratio_to_clip": 1.25}
    results = {
        "command": "python examples/benchmarks/benchmark.py vision --device cuda",
        "date": "2026-01-01T00:00:00+00:00",
        "settings": {"batch": 1, "frames": 8, "device": "cuda"},
        "machine": {
            "processor": "P",
            "accelerator": "G",
            "threads": 2,
            "torch": "2",
            "transformers": "5",
            "load_average": None,
            "cores": 2,
            "busy": True,
        },
        "contenders": [{"name": "ours", **entry, "parameters": 1234, "peak_memory_bytes": 3 * 2**20}],
    }
    lines = benchmark.vision_to_markdown(results).splitlines()
    assert lines[2] == "| ours | 12.3 | 10.0–20.0 | 0.50 | 1.25 | 1,234 | 3 |"
    assert "P + G; 2 threads; torch 2; transformers 5; load average before the run unknown on 2 cores" in lines[4]
    assert lines[-1].startswith("**Warning: the machine was busy")


@pytest.mark.parametrize("option", ["--frames", "--batch", "--rounds", "--threads"])
def test_numbers_below_one_are_refused(option, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["vision", option, "0"])
    assert f"{option}: must be at least 1, got 0" in capsys.readouterr().err


def test_a_missing_output_folder_is_refused_before_measuring(tmp_path, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["vision", "--output", str(tmp_path / "missing" / "results.json")])
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.gpu
def test_cuda_reports_peak_memory(tmp_path):
    output = tmp_path / "results.json"
    options = ["vision", "--preset", "tiny", "--device", "cuda", "--dtype", "bfloat16", "--output", str(output)]
    benchmark.main(options)
    assert all(c["peak_memory_bytes"] > 0 for c in json.loads(output.read_text())["contenders"])


def test_shares_of_waiting_by_hand(monkeypatch, capsys):
    measured = {None: iter([(1.0, 1.0), (2.0, 1.5), (3.0, 1.5)]), 0: iter([(4.0, 1.0), (4.0, 3.0), (4.0, 3.0)])}
    monkeypatch.setattr(benchmark_pipeline, "measure", lambda *given: next(measured[given[-1]]))
    options = ["--preset", "tiny", "--videos", "2", "--labels", "5", "--seconds", "1", "--rounds", "2"]
    benchmark.main(["pipeline", *options, "--only", "1", "3"])
    table = capsys.readouterr().out
    rows = {line.split(" | ")[0]: line.split(" | ") for line in table.splitlines() if line.startswith("| Vita")}
    assert rows["| Vita-CLIP, our defaults"][3].startswith("37.5%")  # (25% + 50%) / 2, the first run warms up
    assert rows["| Vita-CLIP, reading in between"][3].startswith("25.0%")


def test_forward_passes_are_part_of_the_run(tmp_path):
    files = benchmark_pipeline.write_videos(tmp_path, 2, seconds=1)
    assert open_video(files[0]).metadata.total_num_frames == 30
    classifier = benchmark_pipeline.build_pipeline("tiny", torch.float32)
    forward, labels = classifier.forward, benchmark_pipeline.make_labels(7)
    for num_workers in (None, 0):
        whole, computed = benchmark_pipeline.measure(classifier, files, labels, 1, num_workers)
        assert 0 < computed < whole and classifier.forward == forward
