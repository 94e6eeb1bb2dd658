"""How long the zero-shot pipeline waits for its videos: with reading ahead in threads, and with reading in between.

    python examples/benchmarks/benchmark_pipeline.py --rounds 3

The model is a random ViT-B/16 behind the demo's tokenizer; the videos are drawn, 340 x 256, H.264. Both ways run in
each round, in turns. The share of waiting is the time outside the forward passes by the whole time.
"""

import argparse
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np
import torch
from benchmark_measurement import (
    PRESETS,
    PROJECTION_DIM,
    describe_machine,
    load_average,
    order_of_round,
    positive,
    table_with_conditions,
)
from transformers import AutoProcessor, pipeline

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipVideoProcessor, fast_dtype
from vitaclip_hf.data.motion_shapes import write_video


DEMO = Path(__file__).parents[1] / "demo"
LABELS = [line for line in (DEMO / "labels.txt").read_text().splitlines() if line]
READING_AHEAD, IN_BETWEEN = "reading ahead in threads", "reading in between"


def write_videos(folder: Path, count: int, seconds: int) -> list[str]:
    """Coarse noise that drifts to and fro."""
    files = []
    for number in range(count):
        canvas = np.random.default_rng(number).integers(0, 256, (40, 80, 3), dtype=np.uint8)
        canvas = np.kron(canvas, np.ones((8, 8, 1), dtype=np.uint8))  # 320 x 640
        places = 150 - np.abs(np.arange(30 * seconds) % 300 - 150)
        files.append(str(folder / f"{number}.mp4"))
        write_video(files[-1], np.stack([canvas[:256, place : place + 340] for place in places]), fps=30)
    return files


def build_pipeline(preset: str, dtype: torch.dtype):
    tokenizer = AutoProcessor.from_pretrained(DEMO / "checkpoint").tokenizer
    size = PRESETS[preset]["image_size"]
    sides = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    text = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = VitaClipConfig(
        vision_config=PRESETS[preset] | {"num_frames": 8},
        text_config=text | {"vocab_size": len(tokenizer)},
        projection_dim=PROJECTION_DIM[preset],
    )
    model = VitaClipModel(config).eval().to(dtype)
    parts = {"tokenizer": tokenizer, "video_processor": VitaClipVideoProcessor(num_frames=8, **sides)}
    return pipeline("zero-shot-video-classification", model=model, device="cpu", **parts)


def measure(classifier, videos: list[str], batch_size: int, num_workers: int | None) -> tuple[float, float]:
    """Seconds of the whole run, and of its forward passes."""
    forward, computed = classifier.forward, []

    def timed(*args, **kwargs):
        started = time.perf_counter()
        outputs = forward(*args, **kwargs)
        computed.append(time.perf_counter() - started)
        return outputs

    classifier.forward = timed
    started = time.perf_counter()
    classifier(videos, candidate_labels=LABELS, batch_size=batch_size, num_workers=num_workers)
    seconds = time.perf_counter() - started
    classifier.forward = forward
    return seconds, sum(computed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=positive, default=16)
    parser.add_argument("--seconds", type=positive, default=10, help="length of a video")
    parser.add_argument("--batch-size", type=positive, default=1)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--preset", choices=list(PRESETS), default="b16")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    options = parser.parse_args()
    load, dtype = load_average(), fast_dtype() if options.dtype == "auto" else getattr(torch, options.dtype)
    ways = {READING_AHEAD: None, IN_BETWEEN: 0}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        videos = write_videos(Path(folder), options.videos, options.seconds)
        classifier = build_pipeline(options.preset, dtype)
        measure(classifier, videos[:2], options.batch_size, None)  # warms up; the labels are encoded
        for number in range(options.rounds):
            for way in order_of_round(list(ways), number):
                found[way].append(measure(classifier, videos, options.batch_size, ways[way]))
    rows = [[f"{options.videos} videos, {dtype}".replace("torch.", ""), "seconds", "share of waiting", "÷ in between"]]
    rows.append(["---", "---:", "---:", "---:"])
    for way, runs in found.items():
        share = median(1 - computed / whole for whole, computed in runs)
        ratio = median(own[0] / other[0] for own, other in zip(runs, found[IN_BETWEEN], strict=True))
        rows.append([way, f"{median(whole for whole, _ in runs):.1f}", f"{share:.1%}", f"{ratio:.2f}"])
    command = (
        f"benchmark_pipeline.py --videos {options.videos} --seconds {options.seconds} --batch-size {options.batch_size}"
    )
    results = {
        "command": f"{command} --rounds {options.rounds} --preset {options.preset} --dtype {options.dtype}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": describe_machine("cpu", load),
        "settings": {"device": "cpu"},
    }
    print(table_with_conditions(rows, results))


if __name__ == "__main__":
    main()
