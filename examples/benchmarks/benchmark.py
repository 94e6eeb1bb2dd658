"""One command for each table of docs/benchmarks.md: Vita-CLIP beside the released code, X-CLIP, plain CLIP and others.

    python examples/benchmarks/benchmark.py vision     the video tower
    python examples/benchmarks/benchmark.py text       class prompts and labels
    python examples/benchmarks/benchmark.py train      an optimizer step
    python examples/benchmarks/benchmark.py pipeline   from files to scores of labels
    python examples/benchmarks/benchmark.py encoders   other dual encoders, beside their documented use
    python examples/benchmarks/benchmark.py loader     from files to model input
    python examples/benchmarks/benchmark.py decode     8 frames of a file
    python examples/benchmarks/benchmark.py load       from_pretrained, and the start of a process

Each takes --rounds and --output FILE.json, and lists its other options with --help. Weights are random (no download):
time does not depend on them. Everything is timed in one process; each round times every contender once, starting from
another one each time, after one warm-up of each. The ratios are taken within each round, so that a machine that slows
down slows both sides, and their median is printed.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import benchmark_decode
import benchmark_encoders
import benchmark_load
import benchmark_loader
import benchmark_pipeline
import benchmark_text
import benchmark_training
import torch
from benchmark_measurement import (
    OURS,
    PRESETS,
    PROJECTION_DIM,
    RELEASED,
    add_to_vectors,
    check_close,
    describe_machine,
    load_average,
    positive,
    summarize,
    table_with_conditions,
    time_rounds,
)
from released_arithmetic import ReleasedArithmetic
from torch import nn
from transformers import CLIPConfig, CLIPModel, XCLIPConfig, XCLIPModel

from vitaclip_hf import VitaClipConfig, VitaClipModel


HEADS_FIRST = "released arithmetic, heads first"
XCLIP = "X-CLIP (transformers)"
CLIP = "plain CLIP, mean of frames"
PRODUCTS = "the matrix products of this package alone"
REFERENCES = {"released": RELEASED, "clip": CLIP}

# No contender's text tower runs: one layer is enough to have one.
TEXT_TOWER = {"num_hidden_layers": 1, "eos_token_id": 49407}

TOLERANCE = 1e-5


@dataclass
class Contender:
    """A video tower to time: `features` takes frames `[B, T, 3, H, W]` to `[B, E]`."""

    name: str
    model: nn.Module
    video_side: list[nn.Module]
    features: Callable[[torch.Tensor], torch.Tensor]

    @property
    def parameters(self) -> int:
        """Of the video side alone."""
        return sum(p.numel() for module in self.video_side for p in module.parameters())


def build_vita_clip(preset: str, frames: int) -> VitaClipModel:
    """Vita-CLIP with all three prompts, random, and no vector or bias left at the zeros and ones it starts from.

    The comparison with the released arithmetic then sees every one of them.
    """
    config = VitaClipConfig(
        vision_config=PRESETS[preset] | {"num_frames": frames},
        text_config=TEXT_TOWER,
        projection_dim=PROJECTION_DIM[preset],
    )
    model = VitaClipModel._from_config(config, attn_implementation="sdpa").eval()
    add_to_vectors(model.vision_model)
    torch.nn.init.normal_(model.vision_model.time_embedding.weight, std=0.05)
    return model


def build_contenders(preset: str, frames: int) -> list[Contender]:
    """All five, on the CPU in float32, in evaluation; transformers' own with the attention sdpa like ours."""
    vision, projection_dim = PRESETS[preset], PROJECTION_DIM[preset]
    ours = build_vita_clip(preset, frames)
    released = ReleasedArithmetic(ours).eval()
    heads_first = ReleasedArithmetic(ours, heads_last=False).eval()
    xclip_vision = vision | {"num_frames": frames, "mit_hidden_size": projection_dim}
    xclip_config = XCLIPConfig(vision_config=xclip_vision, text_config=TEXT_TOWER, projection_dim=projection_dim)
    xclip = XCLIPModel._from_config(xclip_config, attn_implementation="sdpa").eval()
    clip_config = CLIPConfig(vision_config=vision, text_config=TEXT_TOWER, projection_dim=projection_dim)
    clip = CLIPModel._from_config(clip_config, attn_implementation="sdpa").eval()

    def mean_of_frames(videos: torch.Tensor) -> torch.Tensor:
        embeds = clip.get_image_features(videos.flatten(0, 1)).pooler_output
        return embeds.unflatten(0, videos.shape[:2]).mean(1)

    def contender(name: str, model: nn.Module, features: Callable, *video_side: str) -> Contender:
        parts = [model.get_submodule(part) for part in video_side] or [model]
        return Contender(name, model, parts, features)

    sides = ("vision_model", "visual_projection")
    return [
        contender(
            OURS, ours, lambda videos: ours.get_video_features(videos, class_tokens_only=True).pooler_output, *sides
        ),
        contender(RELEASED, released, released),
        contender(HEADS_FIRST, heads_first, heads_first),
        contender(XCLIP, xclip, lambda videos: xclip.get_video_features(videos).pooler_output, *sides, "mit"),
        contender(CLIP, clip, mean_of_frames, *sides),
    ]


def bare_products(ours: Contender, videos: torch.Tensor) -> Contender:
    """The linear layers of ours on what they get for these videos `[B, T, 3, H, W]`, one after the other."""
    calls: list[tuple[nn.Module, torch.Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, _: calls.append((module, inputs[0].clone())))
        for module in ours.model.modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]
    ours.features(videos)
    for hook in hooks:
        hook.remove()
    return Contender(PRODUCTS, nn.Module(), [], lambda _: torch.stack([module(x).flatten()[0] for module, x in calls]))


@torch.no_grad()
def run_vision(arguments: argparse.Namespace) -> dict:
    """Everything that `vision` measures, as it goes into the JSON."""
    load = load_average()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    contenders = build_contenders(arguments.preset, arguments.frames)
    size = PRESETS[arguments.preset]["image_size"]
    videos = torch.randn(arguments.batch, arguments.frames, 3, size, size)
    # In float32 whatever is timed afterwards: rounding of other types would hide a mistake.
    expected = contenders[0].features(videos[:2])
    difference = max(
        check_close(released.features(videos[:2]), expected, TOLERANCE, f"features of {OURS!r} and {released.name!r}")
        for released in contenders[1:3]
    )
    dtype = getattr(torch, arguments.dtype)
    for contender in contenders:
        contender.model.to(dtype)
    videos = videos.to(dtype)
    contenders.append(bare_products(contenders[0], videos))
    calls = {contender.name: partial(contender.features, videos) for contender in contenders}
    seconds = time_rounds(calls, arguments.rounds)
    summary = summarize(seconds, REFERENCES | {"products": PRODUCTS})
    return {
        "benchmark": "vision",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {name: getattr(arguments, name) for name in ("preset", "frames", "batch", "rounds", "dtype")},
        "machine": describe_machine(load),
        "largest_relative_difference": difference,
        "contenders": [
            {
                "name": contender.name,
                **summary[contender.name],
                "parameters": contender.parameters,
                "seconds": seconds[contender.name],
            }
            for contender in contenders
        ],
    }


def vision_to_markdown(results: dict) -> str:
    """The table, and below it what it was measured with."""
    settings = results["settings"]
    header = [
        "contender",
        f"median ms, {settings['batch']} × {settings['frames']} frames",
        "min–max ms",
        f"time ÷ {RELEASED}",
        "time ÷ plain CLIP",
        "time ÷ products",
        "parameters (video side)",
    ]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for entry in results["contenders"]:
        rows.append(
            [
                entry["name"],
                f"{entry['median_ms']:.1f}",
                f"{entry['min_ms']:.1f}–{entry['max_ms']:.1f}",
                f"{entry['ratio_to_released']:.2f}",
                f"{entry['ratio_to_clip']:.2f}",
                f"{entry['ratio_to_products']:.2f}",
                f"{entry['parameters']:,}",
            ]
        )
    return table_with_conditions(rows, results)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    vision = commands.add_parser("vision", help="inference of the video tower")
    vision.set_defaults(run=run_vision, to_markdown=vision_to_markdown)
    vision.add_argument("--batch", type=positive, default=1, help="clips at once (default: %(default)s)")
    text = commands.add_parser("text", help="class prompts and labels")
    benchmark_text.add_arguments(text)
    train = commands.add_parser("train", help="an optimizer step on the prompts")
    benchmark_training.add_arguments(train)
    for command in (vision, train):
        command.add_argument("--frames", type=positive, default=8, help="frames of a clip (default: %(default)s)")
    pipeline = commands.add_parser("pipeline", help="from files to scores of labels, beside X-CLIP")
    benchmark_pipeline.add_arguments(pipeline)
    loader = commands.add_parser("loader", help="from files to model input, beside the released loader")
    benchmark_loader.add_arguments(loader)
    decode = commands.add_parser("decode", help="some frames of a file, beside other libraries")
    benchmark_decode.add_arguments(decode)
    encoders = commands.add_parser("encoders", help="other dual encoders, beside their documented use")
    benchmark_encoders.add_arguments(encoders)
    load = commands.add_parser("load", help="from_pretrained, and the start of a process")
    benchmark_load.add_arguments(load)
    for command in (vision, text, train):
        command.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    for command in (vision, text, train, pipeline, encoders):
        command.add_argument("--threads", type=positive, help="CPU threads (default: torch's own choice)")
    for command in (vision, text, train, pipeline, load):
        command.add_argument("--preset", choices=list(PRESETS), default="b16", help="size of the towers")
    for command in (vision, text, train, pipeline, encoders, loader, decode, load):
        command.add_argument("--rounds", type=positive, default=5, help="timings of each contender (%(default)s)")
        command.add_argument("--output", type=Path, help="also write the results there, as JSON")
    return parser


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.output is not None and not arguments.output.parent.is_dir():
        # Before the measurement, which takes a while.
        parser.error(f"--output {arguments.output}: there is no folder {arguments.output.parent}; make it first.")
    if arguments.benchmark == "train" and arguments.batch % arguments.micro_batches:
        parser.error(
            f"--micro-batches {arguments.micro_batches}: --batch {arguments.batch} is no multiple of it; change one."
        )
    results = {"command": shlex.join(["python", "examples/benchmarks/benchmark.py", *argv]), **arguments.run(arguments)}
    print(arguments.to_markdown(results))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
