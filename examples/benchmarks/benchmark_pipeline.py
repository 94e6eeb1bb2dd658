"""Times a zero-shot classification from files to scores, beside X-CLIP: `benchmark.py pipeline`.

Every contender opens the files, reads 8 frames of each, encodes the labels and scores. The models are random ViT-B/16
behind the demo's tokenizer; the videos are drawn, H.264, 340 x 256, 30 frames a second.

- This package: the zero-shot pipeline. Its number type is that of `vitaclip classify`, bfloat16 where the machine
  multiplies it fast. Labels are encoded once, in every round anew. "In between" reads without threads.
- X-CLIP in one batch: its best use, with all videos in one forward pass and the labels encoded once.
- X-CLIP as documented in transformers: one video with all labels at a time, in float32.
X-CLIP reads as its documentation does, decoding in order with PyAV.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch
from benchmark_measurement import (
    PRESETS,
    PROJECTION_DIM,
    comparison,
    comparison_to_markdown,
    load_average,
    positive,
    time_rounds,
)
from benchmark_training import TEXT_TOWERS, name_lengths
from scipy.stats import spearmanr
from transformers import (
    AutoProcessor,
    VideoMAEImageProcessor,
    XCLIPConfig,
    XCLIPModel,
    XCLIPProcessor,
    pipeline,
)

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipVideoProcessor, fast_dtype
from vitaclip_hf.data.video_writing import write_video


DEMO = Path(__file__).parents[1] / "demo"
FRAMES = 8
DEFAULTS, FLOAT32, IN_BETWEEN = "Vita-CLIP, our defaults", "Vita-CLIP, float32", "Vita-CLIP, reading in between"
BATCH, HALF_BATCH = "X-CLIP in one batch, float32", "X-CLIP in one batch, bfloat16"
DOCUMENTED = "X-CLIP as documented, float32"
CONTENDERS = (DEFAULTS, FLOAT32, IN_BETWEEN, BATCH, HALF_BATCH, DOCUMENTED)


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


def make_labels(count: int) -> list[str]:
    """Different labels of the demo's words, as long as the names of Kinetics-400."""
    text = (DEMO / "labels.txt").read_text(encoding="utf-8")
    words = sorted(set(text.split()))
    draw = np.random.default_rng(0)
    labels: dict[str, None] = {}
    for length in name_lengths(count):
        label = " ".join(draw.choice(words, max(length - 1, 2)))
        while label in labels:
            label = " ".join(draw.choice(words, max(length - 1, 2)))
        labels[label] = None
    return list(labels)


def tokenizer_and_text(preset: str):
    tokenizer = AutoProcessor.from_pretrained(DEMO / "checkpoint").tokenizer
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return tokenizer, ids | {"vocab_size": len(tokenizer)} | TEXT_TOWERS[preset]


def build_pipeline(preset: str, dtype: torch.dtype):
    torch.manual_seed(0)  # the same weights in every number type
    tokenizer, text = tokenizer_and_text(preset)
    size = PRESETS[preset]["image_size"]
    sides = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    config = VitaClipConfig(
        vision_config=PRESETS[preset] | {"num_frames": FRAMES},
        text_config=text,
        projection_dim=PROJECTION_DIM[preset],
    )
    model = VitaClipModel(config).eval().to(dtype)
    parts = {"tokenizer": tokenizer, "video_processor": VitaClipVideoProcessor(num_frames=FRAMES, **sides)}
    return pipeline("zero-shot-video-classification", model=model, device="cpu", **parts)


class XCLIPFromFiles:
    """X-CLIP with its processor; reads files as its documentation does."""

    def __init__(self, preset: str, dtype: torch.dtype):
        tokenizer, text = tokenizer_and_text(preset)
        vision = PRESETS[preset] | {"num_frames": FRAMES, "mit_hidden_size": PROJECTION_DIM[preset]}
        config = XCLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION_DIM[preset])
        self.model = XCLIPModel._from_config(config, attn_implementation="sdpa").eval().to(dtype)
        size = vision["image_size"]
        images = VideoMAEImageProcessor(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}, do_center_crop=True
        )
        self.processor = XCLIPProcessor(images, tokenizer)

    @staticmethod
    def read(path: str) -> np.ndarray:
        frames = []
        with av.open(path) as container:
            total = container.streams.video[0].frames
            wanted = {(2 * number + 1) * total // (2 * FRAMES) for number in range(FRAMES)}
            for index, frame in enumerate(container.decode(video=0)):
                if index > max(wanted):
                    break
                if index in wanted:
                    frames.append(frame)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])

    @torch.no_grad()
    def scores(self, files: list[str], labels: list[str]) -> torch.Tensor:
        """Of all files in one forward pass."""
        inputs = [
            self.processor(text=labels, videos=list(self.read(path)), return_tensors="pt", padding=True)
            for path in files
        ]
        pixels = torch.cat([item["pixel_values"] for item in inputs]).to(self.model.dtype)
        texts = {name: inputs[0][name] for name in ("input_ids", "attention_mask")}
        return self.model(pixel_values=pixels, **texts).logits_per_video.softmax(dim=1)


def measure(
    classifier, videos: list[str], labels: list[str], batch_size: int, num_workers: int | None
) -> tuple[float, float]:
    """Seconds of the whole run, and of its forward passes. The labels are encoded anew."""
    classifier.encoder.cache.clear()
    forward, computed = classifier.forward, []

    def timed(*args, **kwargs):
        started = time.perf_counter()
        outputs = forward(*args, **kwargs)
        computed.append(time.perf_counter() - started)
        return outputs

    classifier.forward = timed
    started = time.perf_counter()
    classifier(videos, candidate_labels=labels, batch_size=batch_size, num_workers=num_workers)
    seconds = time.perf_counter() - started
    classifier.forward = forward
    return seconds, sum(computed)


def agreement(videos: list[str], labels: list[str], classifiers: list) -> str:
    """How the scores of two classifiers agree."""
    tables = []
    for classifier in classifiers:
        answers = classifier(videos, candidate_labels=labels)
        tables.append([{row["label"]: row["score"] for row in answer} for answer in answers])
    pairs = [([a[label] for label in labels], [b[label] for label in labels]) for a, b in zip(*tables, strict=True)]
    same = sum(int(np.argmax(a) == np.argmax(b)) for a, b in pairs)
    ranks = [spearmanr(a, b).statistic for a, b in pairs]
    return f"the same best of {len(labels)} labels for {same} of {len(pairs)} videos, least Spearman {min(ranks):.4f}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run, to_markdown=comparison_to_markdown)
    parser.add_argument("--videos", type=positive, default=16, help="(default: %(default)s)")
    parser.add_argument("--labels", type=positive, default=400, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=positive, default=10, help="length of a video (default: %(default)s)")
    parser.add_argument("--batch-size", type=positive, default=1, help="videos of our forward passes (%(default)s)")
    parser.add_argument("--only", nargs="+", type=int, metavar="N", help="rows to measure, by their number from 1")


def run(arguments: argparse.Namespace) -> dict:
    load, fast = load_average(), fast_dtype()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    labels = make_labels(arguments.labels)
    ours = {torch.float32: build_pipeline(arguments.preset, torch.float32)}
    ours[fast] = ours.get(fast) or build_pipeline(arguments.preset, fast)
    xclip = {dtype: XCLIPFromFiles(arguments.preset, dtype) for dtype in (torch.float32, torch.bfloat16)}
    waiting: dict[str, list[float]] = {}

    with tempfile.TemporaryDirectory() as folder:
        videos = write_videos(Path(folder), arguments.videos, arguments.seconds)

        def our_run(name: str, dtype: torch.dtype, num_workers: int | None) -> None:
            whole, computed = measure(ours[dtype], videos, labels, arguments.batch_size, num_workers)
            waiting.setdefault(name, []).append(1 - computed / whole)

        calls = {
            DEFAULTS: lambda: our_run(DEFAULTS, fast, None),
            FLOAT32: lambda: our_run(FLOAT32, torch.float32, None),
            IN_BETWEEN: lambda: our_run(IN_BETWEEN, fast, 0),
            BATCH: lambda: xclip[torch.float32].scores(videos, labels),
            HALF_BATCH: lambda: xclip[torch.bfloat16].scores(videos, labels),
            DOCUMENTED: lambda: [xclip[torch.float32].scores([path], labels) for path in videos],
        }
        chosen = [CONTENDERS[number - 1] for number in arguments.only or range(1, len(CONTENDERS) + 1)]
        every, videos = videos, videos[:1]  # warms up on one
        for name in chosen:
            calls[name]()
        videos = every
        waiting.clear()
        seconds = time_rounds({name: calls[name] for name in chosen}, arguments.rounds, warm_up=False)
        notes = [
            f"Our defaults here: {str(fast).removeprefix('torch.')}, {arguments.batch_size} video(s) a forward pass."
        ]
        if fast != torch.float32:
            notes.append(f"bfloat16 and float32 give {agreement(videos, labels, list(ours.values()))}.")
    extra = {name: {"share of waiting": f"{median(shares):.1%}"} for name, shares in waiting.items()}
    names = ("preset", "videos", "labels", "seconds", "batch_size", "rounds")
    settings = {name: getattr(arguments, name) for name in names}
    references = {"xclip": BATCH, "xclip_bfloat16": HALF_BATCH, "documented": DOCUMENTED}
    title = f"{arguments.videos} videos × {arguments.labels} labels, {arguments.preset}"
    return comparison(title, seconds, references, settings, load, notes, extra) | {"benchmark": "pipeline"}
