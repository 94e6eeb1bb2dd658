"""Times other dual encoders through this package beside their documented use: `benchmark.py encoders`.

A model is a folder or Hub name, or has the size of a published checkpoint, random weights and the demo's tokenizer.
Both sides get the same frames of the same videos, in memory. Documented use is one video with all labels at a time,
through the own processor and `forward` of the model; where that scores frames, they are averaged.
"""

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from benchmark_measurement import comparison, comparison_to_markdown, load_average, positive, time_rounds
from benchmark_pipeline import DEMO, make_labels
from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.video_processing_utils import BaseVideoProcessor

from vitaclip_hf import load_checkpoint
from vitaclip_hf.model.encoder import VideoEncoder
from vitaclip_hf.model.scorer import Scorer, checked


WIDE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
B16 = WIDE | {"patch_size": 16, "image_size": 224}
XCLIP = B16 | {"mit_hidden_size": 512}

# By name in the table: family, values of its configuration, its processor and the sides of its pictures.
MODELS: dict[str, tuple[str, dict[str, Any], str, int]] = {
    "CLIP B/16": ("clip", {"vision_config": B16}, "CLIPImageProcessor", 224),
    "SigLIP B/16": ("siglip", {"vision_config": B16}, "SiglipImageProcessor", 224),
    "SigLIP 2 NaFlex B/16": ("siglip2", {"vision_config": WIDE | {"patch_size": 16}}, "Siglip2ImageProcessor", 224),
    "X-CLIP B/16, 8 frames": ("xclip", {"vision_config": XCLIP | {"num_frames": 8}}, "VideoMAEImageProcessor", 224),
    "X-CLIP B/16, 32 frames": ("xclip", {"vision_config": XCLIP | {"num_frames": 32}}, "VideoMAEImageProcessor", 224),
    "VideoPrism B": ("videoprism", {}, "LlavaOnevisionVideoProcessor", 288),
    "Perception Encoder, video": ("pe_video", {}, "PeVideoVideoProcessor", 336),
}


@dataclass
class Documented:
    """A model with its own processor, as transformers' pages use it."""

    model: Any
    processor: Any
    tokenizer: Any
    encoder: VideoEncoder

    @torch.no_grad()
    def scores(self, frames: np.ndarray, labels: list[str]) -> torch.Tensor:
        padding = {"padding": self.encoder.text_padding, "max_length": self.encoder.max_tokens, "truncation": True}
        texts = self.tokenizer(labels, return_tensors="pt", **padding)
        if isinstance(self.processor, BaseVideoProcessor):
            video = torch.from_numpy(frames).permute(0, 3, 1, 2)
            inputs = self.processor([video], do_sample_frames=False, return_tensors="pt")
        else:
            inputs = self.processor(list(frames), return_tensors="pt")
        outputs = self.model(**texts, **inputs)
        for name in ("logits_per_video", "logits_video_text", "logits_per_image"):
            if getattr(outputs, name, None) is not None:
                logits = getattr(outputs, name).mean(0)
                return logits.sigmoid() if self.encoder.activation == "sigmoid" else logits.softmax(-1)
        raise ValueError(f"{type(outputs).__name__} has no logits.")


def build(name: str) -> Documented:
    if name not in MODELS:
        encoder, parts = load_checkpoint(name).encoder(), AutoProcessor.from_pretrained(name)
        own = getattr(parts, "image_processor", None) or parts.video_processor
        return Documented(AutoModel.from_pretrained(name).eval(), own, parts.tokenizer, encoder)
    family, values, kind, side = MODELS[name]
    torch.manual_seed(0)
    tokenizer = AutoProcessor.from_pretrained(DEMO / "checkpoint").tokenizer
    if family.startswith("siglip"):
        tokenizer.model_input_names = ["input_ids"]
    marks = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"vocab_size": len(tokenizer)} | marks
    if family == "pe_video":
        text |= {"model_type": "modernbert", "bos_token_id": 0, "cls_token_id": 0, "sep_token_id": 0}
    model = AutoModel.from_config(AutoConfig.for_model(family, text_config=text, **values)).eval()
    square = {"height": side, "width": side}
    size = {} if family == "siglip2" else {"size": square, "crop_size": square}
    processor = getattr(transformers, kind)(**size)
    return Documented(model, processor, tokenizer, VideoEncoder.families[family](model, tokenizer, processor))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run, to_markdown=comparison_to_markdown)
    parser.add_argument("--videos", type=positive, default=16, help="(default: %(default)s)")
    parser.add_argument("--labels", type=positive, default=400, help="(default: %(default)s)")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help=f"{', '.join(MODELS)}, folders or Hub names")


def time_model(name: str, labels: list[str], count: int, rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of both sides in every round, and what the table says beside them."""
    documented, draw = build(name), np.random.default_rng(0)
    encoder = documented.encoder
    reader = encoder.reader()
    shape = (encoder.video_processor.num_frames, 256, 340, 3)
    videos = [draw.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]
    cpu_seconds: list[float] = []

    def ours() -> None:
        encoder.cache.clear()
        scorer = Scorer(encoder, labels)
        for video in videos:
            start = time.process_time()
            checked(scorer.score(reader.read(video)[0][None]).scores)
            cpu_seconds.append(time.process_time() - start)

    def own() -> None:
        for video in videos:
            documented.scores(video, labels)

    seconds = time_rounds({f"{name}, this package": ours, f"{name}, documented": own}, rounds)
    ratio = np.median([theirs / mine for mine, theirs in zip(*seconds.values(), strict=True)])
    return seconds, {
        "CPU s a video": f"{np.median(cpu_seconds):.2f}",
        "documented ÷ ours": f"{ratio:.2f}",
    }


def run(arguments: argparse.Namespace) -> dict:
    load = load_average()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    labels = make_labels(arguments.labels)
    seconds: dict[str, list[float]] = {}
    extra: dict[str, dict[str, Any]] = {}
    for name in arguments.models:
        measured, extra[f"{name}, this package"] = time_model(name, labels, arguments.videos, arguments.rounds)
        seconds |= measured
    settings = {field: getattr(arguments, field) for field in ("videos", "labels", "rounds")}
    title = f"{arguments.videos} videos × {arguments.labels} labels, float32"
    return comparison(title, seconds, {}, settings, load, None, extra) | {"benchmark": "encoders"}
