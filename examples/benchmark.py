"""Times Vita-CLIP's video tower beside the released code's arithmetic, X-CLIP and plain CLIP, on the same frames.

    python examples/benchmark.py vision --frames 8 --batch 1 --rounds 5 --output results.json

Weights are random (no download): time does not depend on them. Everything is inference, without gradients, in one
process; each round times every contender once, starting from another one each time, after one warm-up of each. The
ratios are taken within each round, so that a machine that slows down slows both sides, and their median is printed.
"""

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import torch
import transformers
from torch import nn
from transformers import CLIPConfig, CLIPModel, XCLIPConfig, XCLIPModel

from vitaclip_hf import VitaClipConfig, VitaClipModel, __version__


OURS = "Vita-CLIP (this package)"
RELEASED = "released arithmetic"
HEADS_FIRST = "released arithmetic, heads first"
XCLIP = "X-CLIP (transformers)"
CLIP = "plain CLIP, mean of frames"
REFERENCES = {"released": RELEASED, "clip": CLIP}

# Vision towers, in the names of CLIP's configuration; "tiny" is for trying the script out.
PRESETS = {
    "b16": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "patch_size": 16,
        "image_size": 224,
    },
    "tiny": {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 8,
        "image_size": 32,
    },
}
PROJECTION_DIM = {"b16": 512, "tiny": 24}
# No contender's text tower runs: one layer is enough to have one.
TEXT_TOWER = {"num_hidden_layers": 1, "eos_token_id": 49407}

TOLERANCE = 1e-5
# Load average per core above which the figures are not to be trusted.
BUSY_LOAD = 0.25


class DifferentFeaturesError(RuntimeError):
    """The two ways to compute Vita-CLIP disagree, so that comparing their times would mean nothing."""


class EagerAttention(nn.Module):
    """Self-attention as matmul, softmax, matmul, with all weights in memory.

    The released code keeps the heads as the last dimension of the weights, `[S, queries, keys, heads]`, so that its
    softmax runs over strided memory. `heads_last = False` is the usual `[S, heads, queries, keys]`.
    """

    heads_last = True

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[S, tokens, D]` in and out, for S sequences."""

        projections = (self.q_proj, self.k_proj, self.v_proj)
        queries, keys, values = (project(tokens).unflatten(-1, (self.heads, -1)) for project in projections)
        # Scaling the queries and not the larger scores: the cheaper way, and the released code's.
        scores = "sihd,sjhd->sijh" if self.heads_last else "sihd,sjhd->shij"
        weights = torch.einsum(scores, queries * self.scale, keys).softmax(2 if self.heads_last else 3)
        attended = torch.einsum(f"{scores[-4:]},sjhd->sihd", weights, values)
        return self.out_proj(attended.flatten(2))


class ReleasedLayer(nn.Module):
    """A CLIP layer whose prompts go through self-attention like any other token, and are then thrown away."""

    def __init__(self, width: int, inner_width: int, heads: int, num_frames: int, num_global_prompts: int, eps: float):
        super().__init__()
        self.cls_projection = nn.Linear(width, width)
        self.summary_norm = nn.LayerNorm(width, eps=eps)
        self.summary_attention = EagerAttention(width, heads)
        self.local_prompts = nn.Parameter(torch.zeros(num_frames, width))
        self.global_prompts = nn.Parameter(torch.zeros(num_global_prompts, width))
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.self_attn = EagerAttention(width, heads)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.fc1 = nn.Linear(width, inner_width)
        self.fc2 = nn.Linear(inner_width, width)

    def prompts(self, cls_tokens: torch.Tensor) -> torch.Tensor:
        """Class tokens `[B, T, D]` to each frame's 1 summary, T local and M_v global prompts, `[B, T, 1+T+M_v, D]`."""
        frames = cls_tokens.shape[1]
        projected = self.cls_projection(cls_tokens)
        summary = projected + self.summary_attention(self.summary_norm(projected))
        local = (self.local_prompts + projected)[:, None].expand(-1, frames, -1, -1)
        shared = self.global_prompts.expand(len(cls_tokens), frames, -1, -1)
        return torch.cat([summary[:, :, None], local, shared], dim=2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[B, T, 1+N, D]` in and out."""
        batch, _, count, _ = tokens.shape
        sequence = torch.cat([tokens, self.prompts(tokens[:, :, 0])], dim=2).flatten(0, 1)
        sequence = sequence + self.self_attn(self.layer_norm1(sequence))
        tokens = sequence.unflatten(0, (batch, -1))[:, :, :count]
        inner = self.fc1(self.layer_norm2(tokens))
        return tokens + self.fc2(inner * torch.sigmoid(1.702 * inner))  # QuickGELU


class ReleasedArithmetic(nn.Module):
    """Vita-CLIP's video tower as the authors' released code computes it, written anew from the method (section 3.1).

    Every prompt has its queries, output projection and residual computed, attention is eager, and the last layer is
    computed for all tokens. It takes the weights of `model`, which must have all three kinds of prompts.

    Args:
        model: gives the sizes and the weights.
        heads_last: the attention's memory layout, see `EagerAttention`.
    """

    # Of the names in our model, the levels that this flat module has not.
    LEVELS_LEFT_OUT = frozenset({"vision_model", "embeddings", "encoder", "mlp", "prompts"})

    def __init__(self, model: VitaClipModel, heads_last: bool = True):
        super().__init__()
        config = model.config.vision_config
        width, eps, patch = config.hidden_size, config.layer_norm_eps, config.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding((config.image_size // patch) ** 2 + 1, width)
        self.time_embedding = nn.Embedding(config.num_frames, width)
        self.pre_layrnorm = nn.LayerNorm(width, eps=eps)  # CLIP's spelling in transformers
        sizes = (config.intermediate_size, config.num_attention_heads, config.num_frames, config.num_global_prompts)
        self.layers = nn.ModuleList([ReleasedLayer(width, *sizes, eps) for _ in range(config.num_hidden_layers)])
        self.post_layernorm = nn.LayerNorm(width, eps=eps)
        self.visual_projection = nn.Linear(width, model.config.projection_dim, bias=False)
        self.load_state_dict(self.own_names(model))
        for module in self.modules():
            if isinstance(module, EagerAttention):
                module.heads_last = heads_last

    @classmethod
    def own_names(cls, model: VitaClipModel) -> dict[str, torch.Tensor]:
        """The weights of the model's video side under this module's names."""
        video_side = {
            name: tensor
            for name, tensor in model.state_dict().items()
            if name.startswith(("vision_model.", "visual_projection."))
        }
        return {
            ".".join(level for level in name.split(".") if level not in cls.LEVELS_LEFT_OUT): tensor
            for name, tensor in video_side.items()
        }

    def forward(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Frames `[B, T, 3, H, W]` to features `[B, E]`; T must be the trained number of frames."""
        batch = len(pixel_values_videos)
        patches = self.patch_embedding(pixel_values_videos.flatten(0, 1)).flatten(2).transpose(1, 2)
        cls_tokens = self.class_embedding.expand(len(patches), 1, -1)
        frames = torch.cat([cls_tokens, patches], dim=1) + self.position_embedding.weight
        tokens = self.pre_layrnorm(frames.unflatten(0, (batch, -1)) + self.time_embedding.weight[:, None])
        for layer in self.layers:
            tokens = layer(tokens)
        return self.visual_projection(self.post_layernorm(tokens[:, :, 0])).mean(1)


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
    vectors = [p for p in model.vision_model.parameters() if p.ndim == 1]
    with torch.no_grad():
        for parameter in (*vectors, model.vision_model.time_embedding.weight):
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
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
        contender(OURS, ours, lambda videos: ours.get_video_features(videos).pooler_output, *sides),
        contender(RELEASED, released, released),
        contender(HEADS_FIRST, heads_first, heads_first),
        contender(XCLIP, xclip, lambda videos: xclip.get_video_features(videos).pooler_output, *sides, "mit"),
        contender(CLIP, clip, mean_of_frames, *sides),
    ]


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


def order_of_round(names: list[str], round_index: int) -> list[str]:
    """All of them, starting from the next one each round."""
    start = round_index % len(names)
    return names[start:] + names[:start]


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


def summarize(seconds: dict[str, list[float]], references: dict[str, str]) -> dict[str, dict]:
    """Median, least and most milliseconds by contender, and the median over rounds of its time by each reference's.

    Args:
        seconds: of each round, by contender.
        references: the contender behind each `ratio_to_...`.
    """
    summary = {}
    for name, times in seconds.items():
        ratios = {
            f"ratio_to_{key}": median(own / other for own, other in zip(times, seconds[reference], strict=True))
            for key, reference in references.items()
        }
        summary[name] = {
            "median_ms": median(times) * 1e3,
            "min_ms": min(times) * 1e3,
            "max_ms": max(times) * 1e3,
            **ratios,
        }
    return summary


def processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine() or "unknown processor"


def load_average() -> float | None:
    """Of the last minute; `None` where the system keeps none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def is_busy(load: float | None, cores: int) -> bool:
    return load is not None and load > BUSY_LOAD * cores


def describe_machine(device: str, load: float | None) -> dict:
    """What the figures depend on beside the models; `load` is that of before the run."""
    cores = os.cpu_count() or 1
    return {
        "processor": processor_name(),
        "accelerator": torch.cuda.get_device_name() if device == "cuda" else None,
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load_average": load,
        "busy": is_busy(load, cores),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "vitaclip_hf": __version__,
    }


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
    seconds, peaks = time_interleaved(contenders, videos.to(arguments.device, dtype), arguments.rounds)
    summary = summarize(seconds, REFERENCES)
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


def to_markdown(results: dict) -> str:
    """The table, and below it what it was measured with."""
    settings, machine = results["settings"], results["machine"]
    on_cuda = settings["device"] == "cuda"
    header = [
        "contender",
        f"median ms, {settings['batch']} × {settings['frames']} frames",
        "min–max ms",
        f"time ÷ {RELEASED}",
        "time ÷ plain CLIP",
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
                f"{entry['parameters']:,}",
                *([f"{entry['peak_memory_bytes'] / 2**20:.0f}"] if on_cuda else []),
            ]
        )
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    load = "unknown" if machine["load_average"] is None else f"{machine['load_average']:.2f}"
    conditions = [
        f"`{results['command']}`",
        results["date"],
        machine["processor"] + (f" + {machine['accelerator']}" if on_cuda else ""),
        f"{machine['threads']} threads",
        f"torch {machine['torch']}",
        f"transformers {machine['transformers']}",
        f"load average before the run {load} on {machine['cores']} cores",
    ]
    lines = [table, "", "; ".join(conditions)]
    if machine["busy"]:
        lines += ["", "**Warning: the machine was busy before the run; these figures are not to be relied on.**"]
    return "\n".join(lines)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="benchmark", required=True)
    vision = commands.add_parser("vision", help="inference of the video tower")
    vision.set_defaults(run=run_vision)
    vision.add_argument("--frames", type=positive, default=8, help="frames of a clip (default: %(default)s)")
    vision.add_argument("--batch", type=positive, default=1, help="clips at once (default: %(default)s)")
    vision.add_argument("--rounds", type=positive, default=5, help="timings of each contender (default: %(default)s)")
    vision.add_argument("--threads", type=positive, help="CPU threads (default: torch's own choice)")
    vision.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    vision.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    vision.add_argument("--preset", choices=list(PRESETS), default="b16", help="size of the towers")
    vision.add_argument("--output", type=Path, help="also write the results there, as JSON")
    return parser


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device here; use --device cpu.")
    if arguments.output is not None and not arguments.output.parent.is_dir():
        # Before the measurement, which takes a while.
        parser.error(f"--output {arguments.output}: there is no folder {arguments.output.parent}; make it first.")
    results = {"command": shlex.join(["python", "examples/benchmark.py", *argv]), **arguments.run(arguments)}
    print(to_markdown(results))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
