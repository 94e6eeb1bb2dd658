"""Times other dual encoders through this package beside their documented use: `benchmark.py encoders`.

Each model has the size of its published base checkpoint, random weights and the demo's tokenizer. Both sides get the
same frames of the same videos, in memory. Documented use is one video with all labels at a time, through the own
processor and `forward` of the model; where that scores frames, they are averaged.
"""

import argparse
from typing import Any

import numpy as np
import torch
import transformers
from benchmark_measurement import comparison, comparison_to_markdown, load_average, positive, time_rounds
from benchmark_pipeline import DEMO, make_labels
from transformers import AutoConfig, AutoModel, AutoProcessor, BatchFeature

from vitaclip_hf.model.encoder import VideoEncoder
from vitaclip_hf.model.scorer import Scorer


WIDE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
PATCHES = {"patch_size": 16, "image_size": 224}


def image_processor(kind: str) -> Any:
    sides = {"size": {"height": 224, "width": 224}, "crop_size": {"height": 224, "width": 224}}
    return getattr(transformers, kind)(**sides)


# By name in the table: family, number of frames, values of its configuration, its processor.
MODELS: dict[str, tuple[str, int, dict[str, Any], Any]] = {
    "CLIP B/16": ("clip", 8, {"vision_config": WIDE | PATCHES}, "CLIPImageProcessor"),
    "SigLIP B/16": ("siglip", 8, {"vision_config": WIDE | PATCHES}, "SiglipImageProcessor"),
    "X-CLIP B/16, 8 frames": (
        "xclip",
        8,
        {"vision_config": WIDE | PATCHES | {"num_frames": 8, "mit_hidden_size": 512}},
        "VideoMAEImageProcessor",
    ),
    "X-CLIP B/16, 32 frames": (
        "xclip",
        32,
        {"vision_config": WIDE | PATCHES | {"num_frames": 32, "mit_hidden_size": 512}},
        "VideoMAEImageProcessor",
    ),
}


class Documented:
    """A model with its own processor, as transformers' pages use it."""

    def __init__(self, family: str, model: Any, processor: Any, tokenizer: Any):
        self.family, self.model, self.processor, self.tokenizer = family, model, processor, tokenizer
        self.padding = "max_length" if family == "siglip" else True

    @torch.no_grad()
    def scores(self, frames: np.ndarray, labels: list[str]) -> torch.Tensor:
        texts = self.tokenizer(labels, padding=self.padding, max_length=64, truncation=True, return_tensors="pt")
        inputs: BatchFeature = self.processor(list(frames), return_tensors="pt")
        outputs = self.model(**texts, **inputs)
        if self.family == "xclip":
            return outputs.logits_per_video.softmax(-1)
        logits = outputs.logits_per_image.mean(0)
        return logits.sigmoid() if self.family == "siglip" else logits.softmax(-1)


def build(name: str) -> tuple[Documented, VideoEncoder]:
    family, _, values, kind = MODELS[name]
    torch.manual_seed(0)
    tokenizer = AutoProcessor.from_pretrained(DEMO / "checkpoint").tokenizer
    if family == "siglip":
        tokenizer.model_input_names = ["input_ids"]
    text = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = AutoConfig.for_model(family, text_config=text, **values)
    model, processor = AutoModel.from_config(config).eval(), image_processor(kind)
    return Documented(family, model, processor, tokenizer), VideoEncoder.families[family](model, tokenizer, processor)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run, to_markdown=comparison_to_markdown)
    parser.add_argument("--videos", type=positive, default=16, help="(default: %(default)s)")
    parser.add_argument("--labels", type=positive, default=400, help="(default: %(default)s)")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="(default: all)")


def run(arguments: argparse.Namespace) -> dict:
    load = load_average()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    labels = make_labels(arguments.labels)
    draw = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {}
    extra: dict[str, dict[str, Any]] = {}
    for name in arguments.models:
        documented, encoder = build(name)
        videos = [
            draw.integers(0, 256, (MODELS[name][1], 256, 340, 3), dtype=np.uint8) for _ in range(arguments.videos)
        ]
        reader = encoder.reader()

        def ours(encoder: VideoEncoder = encoder, reader: Any = reader, videos: Any = videos) -> None:
            encoder.cache.clear()
            scorer = Scorer(encoder, labels)
            for video in videos:
                scorer.score(reader.read(video)[0][None]).check()

        def own(documented: Documented = documented, videos: Any = videos) -> None:
            for video in videos:
                documented.scores(video, labels)

        measured = time_rounds({f"{name}, this package": ours, f"{name}, documented": own}, arguments.rounds)
        seconds |= measured
        ratios = [b / a for a, b in zip(*measured.values(), strict=True)]
        each = {"ms a video": f"{1000 * np.median(measured[f'{name}, this package']) / arguments.videos:.0f}"}
        extra[f"{name}, this package"] = each | {"documented ÷ ours": f"{np.median(ratios):.2f}"}
    settings = {field: getattr(arguments, field) for field in ("videos", "labels", "rounds")}
    title = f"{arguments.videos} videos × {arguments.labels} labels, float32"
    return comparison(title, seconds, {}, settings, load, None, extra) | {"benchmark": "encoders"}
