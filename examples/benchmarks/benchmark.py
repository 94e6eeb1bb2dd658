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
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
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
    describe_machine,
    load_average,
    order_of_round,
    positive,
    summarize,
    table_with_conditions,
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


class DifferentFeaturesError(RuntimeError):
    """The two ways to compute Vita-CLIP disagree, so that comparing their times would mean nothing."""


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


@torch.no_grad()
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
def check_same_features(ours: Contender, released: Contender, videos: torch.Tensor) -> float:
    """That both compute the same features, before anything is timed.

    Args:
        videos: `[B, T, 3, H, W]`.

    Returns:
        The largest difference, as a share of the largest feature.

    Raises:
        DifferentFeaturesError: it is above `TOLERANCE`, or not a number.
    """
    expected = ours.features(videos)
    difference = float((released.features(videos) - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:
        raise DifferentFeaturesError(
            f"{released.name!r} and {ours.name!r} differ by {difference:.1e} of the largest feature on the same "
            f"weights and frames (expected at most {TOLERANCE:.0e}): fix the one that is wrong before timing them."
        )
    return difference


def time_once(contender: Contender, videos: torch.Tensor) -> tuple[float, int | None]:
    """Seconds of one forward, and on CUDA the peak of memory in bytes beyond what lay there before it."""
    on_cuda = videos.device.type == "cuda"
    if on_cuda:
        torch.cuda.synchronize(videos.device)
        torch.cuda.reset_peak_memory_stats(videos.device)
        before = torch.cuda.memory_allocated(videos.device)
    start = time.perf_counter()
    contender.features(videos)
    if on_cuda:
        torch.cuda.synchronize(videos.device)
    seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated(videos.device) - before if on_cuda else None


@torch.no_grad()
def time_interleaved(
    contenders: list[Contender], videos: torch.Tensor, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int | None]]:
    """Seconds of every round, and peak memory on CUDA, by contender; each warms up once before."""
    by_name = {contender.name: contender for contender in contenders}
    seconds: dict[str, list[float]] = {name: [] for name in by_name}
    peaks: dict[str, int | None] = {}
    for contender in contenders:
        time_once(contender, videos)
    for round_index in range(rounds):
        for name in order_of_round(list(by_name), round_index):
            taken, peaks[name] = time_once(by_name[name], videos)
            seconds[name].append(taken)
    return seconds, peaks


def run_vision(arguments: argparse.Namespace) -> dict:
    """Everything that `vision` measures, as it goes into the JSON."""
    load = load_average()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    contenders = build_contenders(arguments.preset, arguments.frames)
    size = PRESETS[arguments.preset]["image_size"]
    videos = torch.randn(arguments.batch, arguments.frames, 3, size, size)
    # In float32 on the CPU whatever is timed afterwards: rounding of other types would hide a mistake.
    difference = max(check_same_features(contenders[0], released, videos[:2]) for released in contenders[1:3])
    dtype = getattr(torch, arguments.dtype)
    for contender in contenders:
        contender.model.to(arguments.device, dtype)
    videos = videos.to(arguments.device, dtype)
    contenders.append(bare_products(contenders[0], videos))
    seconds, peaks = time_interleaved(contenders, videos, arguments.rounds)
    summary = summarize(seconds, REFERENCES | {"products": PRODUCTS})
    return {
        "benchmark": "vision",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {
            name: getattr(arguments, name) for name in ("preset", "frames", "batch", "rounds", "dtype", "device")
        },
        "machine": describe_machine(arguments.device, load),
        "largest_relative_difference": difference,
        "contenders": [
            {
                "name": contender.name,
                **summary[contender.name],
                "parameters": contender.parameters,
                "peak_memory_bytes": peaks[contender.name],
                "seconds": seconds[contender.name],
            }
            for contender in contenders
        ],
    }


def vision_to_markdown(results: dict) -> str:
    """The table, and below it what it was measured with."""
    settings = results["settings"]
    on_cuda = settings["device"] == "cuda"
    header = [
        "contender",
        f"median ms, {settings['batch']} × {settings['frames']} frames",
        "min–max ms",
        f"time ÷ {RELEASED}",
        "time ÷ plain CLIP",
        "time ÷ products",
        "parameters (video side)",
        *(["peak MiB beyond weights and frames"] if on_cuda else []),
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
                *([f"{entry['peak_memory_bytes'] / 2**20:.0f}"] if on_cuda else []),
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
        command.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
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
    if getattr(arguments, "device", "cpu") == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device here; use --device cpu.")
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
