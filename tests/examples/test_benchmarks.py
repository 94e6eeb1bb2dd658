"""The benchmarks: what they compare computes the same, and each script runs once. Times are not tested."""

import json
import subprocess
import sys
from pathlib import Path

import benchmark
import benchmark_loader
import benchmark_measurement
import benchmark_pipeline
import benchmark_training
import numpy as np
import pytest
import torch
from tiny_encoders import save_tiny_encoder

from vitaclip_hf import VitaClipVideoProcessor, decode_video


ROOT = Path(__file__).parents[2]
FRAMES, CLASSES = 3, 5


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, int]:
    """Videos of 30 frames, so that a dense clip of 8 at stride 16 repeats the last, and of 150."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "long").mkdir()
    short, long = (benchmark_pipeline.write_videos(f, 1, s)[0] for f, s in ((folder, 1), (folder / "long", 5)))
    return {short: 30, long: 150}


def test_released_arithmetic_gives_our_features():
    ours, released, *_ = benchmark.build_contenders("tiny", FRAMES)
    videos = torch.randn(2, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    heads_first = benchmark.ReleasedArithmetic(ours.model, heads_last=False).eval()
    with torch.no_grad():
        expected = ours.features(videos)
        for features in (released.features, heads_first):
            torch.testing.assert_close(features(videos), expected, atol=1e-5, rtol=0)
        released.model.get_parameter("layers.1.global_prompts").view(-1)[0] += 0.5
    with pytest.raises(benchmark.DifferentFeaturesError, match="differ by"):
        benchmark.check_same_features(ours, released, videos)


def test_released_training_has_our_loss_and_gradients():
    torch.manual_seed(0)
    ours = benchmark_training.trainee(
        benchmark_training.OURS, benchmark_training.build_ours("tiny", FRAMES, CLASSES, 4).double()
    )
    released = benchmark_training.trainee(benchmark_training.RELEASED, ours.model)
    released.model.double()
    pixels, labels = benchmark_training.draw_batch("tiny", 4, FRAMES, CLASSES)
    pixels = pixels.double()
    assert benchmark_training.check_same_training(ours, released, pixels, labels) <= 1e-5
    expected = torch.nn.functional.cross_entropy(released.model(pixels), labels).item()
    for micro_batches in (1, 4):
        ours.model.zero_grad()
        loss = benchmark_training.compute_gradients(ours, pixels, labels, micro_batches, torch.float32)
        assert loss == pytest.approx(expected, rel=1e-5)
    released.model.text.context.register_hook(lambda gradient: gradient * 1.01)
    with pytest.raises(benchmark_training.DifferentTrainingError, match="class_prompts.context"):
        benchmark_training.check_same_training(ours, released, pixels, labels)


@pytest.mark.parametrize("views", [1, 3])
def test_the_released_way_reads_the_same_clips(files, views):
    processor = VitaClipVideoProcessor()
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    for video in files:
        released = benchmark_loader.read_as_released(video, views, mean, std)
        ours = benchmark_loader.dataset([video], views, resample=2, antialias=False)[0]["pixel_values_videos"]
        assert released.shape == ours.shape == (views, 8, 3, 224, 224)
        assert (released - ours).abs().mean() < 0.01


def test_x_clip_reads_the_frames_that_we_read(files):
    reader = benchmark_pipeline.XCLIPFromFiles("tiny", torch.float32)
    for video, total in files.items():
        indices = [(2 * number + 1) * total // 16 for number in range(8)]
        assert np.array_equal(reader.read(video), decode_video(video, indices)[0])


def test_ratios_are_medians_over_rounds_that_start_with_another_contender_each():
    orders = ["".join(benchmark_measurement.order_of_round(list("abc"), index)) for index in range(4)]
    assert orders == ["abc", "bca", "cab", "abc"]
    seconds = {"ours": [1.0, 4.0, 3.0], "theirs": [2.0, 16.0, 3.0]}
    summary = benchmark_measurement.summarize(seconds, {"theirs": "theirs"})
    # Rounds give 1/2, 1/4 and 1; the ratio of the medians would be 3/3.
    assert (summary["ours"]["median_ms"], summary["ours"]["ratio_to_theirs"]) == (3000.0, 0.5)


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
def test_script_prints_a_table_and_writes_its_results(options, tmp_path, capsys):
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
def test_gpu_script_smoke_runs_with_the_core_alone(tmp_path):
    code = "import sys, runpy; sys.modules.update(dict.fromkeys(('datasets', 'decord', 'evaluate', 'pyarrow')))\n"
    code += f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'examples' / 'benchmarks')!r}]\n"
    code += "runpy.run_module('benchmark_gpu', run_name='__main__')"
    command = [sys.executable, "-c", code, "--smoke", "--output", str(tmp_path / "gpu.json")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=900)
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert parts and all(part["error"] is None for part in parts.values())
