"""Times an optimizer step on Vita-CLIP's prompts beside the released code's arithmetic: `benchmark.py train`.

A step is: for each micro-batch forward and backward, then AdamW on the prompts; CLIP is frozen. Memory is measured in a
process of its own for each contender, started as `python examples/benchmarks/benchmark_training.py SETTINGS CONTENDER`.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch
from benchmark_measurement import (
    OURS,
    PRESETS,
    PROJECTION_DIM,
    RELEASED,
    add_to_vectors,
    describe_machine,
    load_average,
    positive,
    summarize,
    table_with_conditions,
    time_rounds,
)
from released_arithmetic import ReleasedVitaClip
from torch import nn

from vitaclip_hf import VitaClipConfig, VitaClipForVideoClassification
from vitaclip_hf.model.prompts import AFTER_END, CONTEXT_SLOT
from vitaclip_hf.training.shared_class_embeds import SharedClassEmbeds


UNSHARED = "Vita-CLIP (this package), text tower every micro-batch"

# CLIP's text towers beside the presets of the vision towers.
TEXT_TOWERS = {
    "b16": {},  # transformers' default is that of ViT-B/16
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
}
BOS, EOS = 49406, 49407
# How many of the 400 class names of Kinetics-400 are that many tokens long, full stop included.
NAMES_OF_LENGTH = {2: 34, 3: 245, 4: 96, 5: 12, 6: 6, 7: 4, 8: 3}

TOLERANCE = 1e-4
CLASSES_OF_CHECK = 4


def name_lengths(num_classes: int) -> list[int]:
    """Token counts of class names, spread like those of Kinetics-400; the longest is always among them."""
    real = [length for length, count in NAMES_OF_LENGTH.items() for _ in range(count)]
    lengths = [real[(index + 1) * len(real) // num_classes - 1] for index in range(num_classes)]
    random.Random(0).shuffle(lengths)
    return lengths


def class_rows(num_classes: int, context_tokens: int) -> torch.Tensor:
    """Class prompts of random words, `[C, 77]`."""
    words, slots = random.Random(1), [CONTEXT_SLOT] * context_tokens
    rows = [[words.randrange(EOS - 1) for _ in range(length)] for length in name_lengths(num_classes)]
    prompts = [[BOS, *slots, *row, EOS] for row in rows]
    return torch.tensor([prompt + [AFTER_END] * (77 - len(prompt)) for prompt in prompts])


def build_ours(preset: str, frames: int, num_classes: int, context_tokens: int) -> VitaClipForVideoClassification:
    """Vita-CLIP with random weights, in training, CLIP frozen."""
    text = {"num_context_tokens": context_tokens, "bos_token_id": BOS, "eos_token_id": EOS}
    config = VitaClipConfig(
        vision_config=PRESETS[preset] | {"num_frames": frames},
        text_config=TEXT_TOWERS[preset] | text,
        projection_dim=PROJECTION_DIM[preset],
        num_labels=num_classes,
    )
    model = VitaClipForVideoClassification._from_config(config, attn_implementation="sdpa").train()
    add_to_vectors(model)
    nn.init.normal_(model.vision_model.time_embedding.weight, std=0.05)
    model.class_prompts.class_input_ids.copy_(class_rows(num_classes, context_tokens))
    model.freeze_backbone()
    return model


@dataclass
class Trainee:
    """A contender: `loss` takes frames `[b, T, 3, H, W]`, labels `[b]`, the step's B, and whether they are its last.

    It returns the micro-batch's share of the step's mean loss.
    """

    name: str
    model: nn.Module
    loss: Callable[[torch.Tensor, torch.Tensor, int, bool], torch.Tensor]

    def make_optimizer(self) -> torch.optim.Optimizer:
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(trained, lr=4e-4, weight_decay=0.05)


def trainee(name: str, ours: VitaClipForVideoClassification) -> Trainee:
    """The contender of that name, with the weights of `ours` (or `ours` itself)."""
    if name == RELEASED:
        released = ReleasedVitaClip(ours).train()

        def released_loss(pixels, labels, total, is_last):
            return nn.functional.cross_entropy(released(pixels).float(), labels, reduction="sum") / total

        return Trainee(name, released, released_loss)

    shared = SharedClassEmbeds(ours) if name == OURS else None

    def our_loss(pixels, labels, total, is_last):
        embeds = None if shared is None else shared.for_micro_batch(is_last)
        return ours(pixels, labels=labels, num_items_in_batch=total, class_embeds=embeds).loss

    return Trainee(name, ours, our_loss)


def contender_names(micro_batches: int) -> list[str]:
    return [OURS, RELEASED] if micro_batches == 1 else [OURS, UNSHARED, RELEASED]


def draw_batch(preset: str, batch: int, frames: int, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames `[B, T, 3, H, W]` and labels `[B]`."""
    generator, size = torch.Generator().manual_seed(2), PRESETS[preset]["image_size"]
    pixels = torch.randn(batch, frames, 3, size, size, generator=generator)
    return pixels, torch.randint(num_classes, (batch,), generator=generator)


def compute_gradients(
    contender: Trainee, pixels: torch.Tensor, labels: torch.Tensor, micro_batches: int, dtype: torch.dtype
) -> float:
    """Forward and backward of all micro-batches, with autocast if `dtype` is not float32; returns the loss."""
    loss = 0.0
    parts = zip(pixels.chunk(micro_batches), labels.chunk(micro_batches), strict=True)
    for index, (some, truth) in enumerate(parts, start=1):
        with torch.autocast(pixels.device.type, dtype, enabled=dtype != torch.float32):
            share = contender.loss(some, truth, len(labels), index == micro_batches)
        share.backward()
        loss += float(share.detach())
    return loss


def check_same_training(ours: Trainee, released: Trainee, pixels: torch.Tensor, labels: torch.Tensor) -> float:
    """That both have the same loss and the same gradients of every prompt, before anything is timed.

    Args:
        pixels: `[B, T, 3, H, W]`, as two micro-batches.
        labels: `[B]`.

    Returns:
        The largest difference of the loss, or of a gradient as a share of its tensor's largest entry.

    Raises:
        ValueError: it is above `TOLERANCE`, or not a number.
    """
    losses = []
    for contender in (ours, released):
        contender.model.zero_grad()
        losses.append(compute_gradients(contender, pixels, labels, 2, torch.float32))
    differences = {"the loss": abs(losses[0] - losses[1]) / abs(losses[0])}
    theirs = dict(released.model.named_parameters())
    for name, parameter in ours.model.named_parameters():
        if not parameter.requires_grad:
            continue
        # A bias of the keys moves all scores of a query alike: its gradient is zero but for rounding.
        scale = float(ours.model.get_parameter(name.replace("k_proj.bias", "k_proj.weight")).grad.abs().max())
        if name == "logit_scale":  # a single sum, whose terms may cancel
            scale = max(scale, losses[0])
        their_gradient = theirs[ReleasedVitaClip.own_name(name)].grad
        differences[f"the gradient of {name}"] = float((their_gradient - parameter.grad).abs().max()) / scale
    where, largest = max(differences.items(), key=lambda item: float("inf") if item[1] != item[1] else item[1])
    if not largest <= TOLERANCE:
        raise ValueError(
            f"{released.name!r} and {ours.name!r} differ by {largest:.1e} in {where} on the same weights and frames "
            f"(expected at most {TOLERANCE:.0e}): fix the one that is wrong before timing them."
        )
    return largest


def check(settings: dict, device: str = "cpu") -> float:
    """`check_same_training` on towers of the asked size, with few classes, in float64.

    Rounding of other types would hide a mistake, or look like one where large terms cancel.
    """
    preset, frames = settings["preset"], settings["frames"]
    ours = build_ours(preset, frames, CLASSES_OF_CHECK, settings["context_tokens"])
    pixels, labels = draw_batch(preset, 2, frames, CLASSES_OF_CHECK)
    released = trainee(RELEASED, ours)
    ours.to(device).double(), released.model.to(device).double()
    pixels, labels = pixels.to(device).double(), labels.to(device)
    return check_same_training(trainee(OURS, ours), released, pixels, labels)


class Step:
    """One optimizer step of a contender, to be called again and again."""

    def __init__(self, contender: Trainee, pixels: torch.Tensor, labels: torch.Tensor, settings: dict):
        self.contender, self.pixels, self.labels = contender, pixels, labels
        self.micro_batches, self.dtype = settings["micro_batches"], getattr(torch, settings["dtype"])
        self.optimizer = contender.make_optimizer()

    def __call__(self) -> None:
        compute_gradients(self.contender, self.pixels, self.labels, self.micro_batches, self.dtype)
        self.optimizer.step()
        self.optimizer.zero_grad()


def make_steps(names: list[str], settings: dict) -> dict[str, Step]:
    """Each contender's step, with a model of its own."""
    torch.manual_seed(0)
    sizes = [settings[name] for name in ("preset", "frames", "classes", "context_tokens")]
    pixels, labels = draw_batch(settings["preset"], settings["batch"], settings["frames"], settings["classes"])
    return {name: Step(trainee(name, build_ours(*sizes)), pixels, labels, settings) for name in names}


# Memory


def resident_bytes(field: str) -> int:
    """Of this process: `VmRSS` now, or `VmHWM` at most since the last reset (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def peak_memory(step: Step) -> dict[str, int]:
    """Peak bytes of a step with AdamW's states: in all, and beyond what lay there without gradients and states."""
    if step.pixels.is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark counts from here
        before = resident_bytes("VmRSS")
    for parameter in step.contender.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    step.optimizer.step()  # makes its states, without a forward pass
    step.optimizer.zero_grad()
    step()
    total = torch.cuda.max_memory_allocated() if step.pixels.is_cuda else resident_bytes("VmHWM")
    return {"peak_memory_bytes": total, "peak_memory_beyond_bytes": total - before}


def peak_memory_in_own_process(name: str, settings: dict) -> dict[str, int | None]:
    """`peak_memory` of the contender, where nothing else has been before; None where the system does not tell."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return {"peak_memory_bytes": None, "peak_memory_beyond_bytes": None}
    command = [sys.executable, __file__, json.dumps(settings), name]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or ["no message: killed, perhaps for want of memory"])[-1]
        raise RuntimeError(f"Measuring the memory of {name!r} failed with code {result.returncode}: {reason}")
    return json.loads(result.stdout.splitlines()[-1])


# The benchmark


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that `train` alone has."""
    parser.set_defaults(run=run, to_markdown=to_markdown)
    parser.add_argument("--batch", type=positive, default=2, help="videos of an optimizer step (default: %(default)s)")
    parser.add_argument("--micro-batches", type=positive, default=1, help="parts of the batch (default: %(default)s)")
    parser.add_argument("--classes", type=positive, default=400, help="(default: %(default)s)")
    parser.add_argument("--context-tokens", type=positive, default=16, help="M_c (default: %(default)s)")


SETTINGS = ("preset", "frames", "batch", "micro_batches", "classes", "context_tokens", "rounds", "dtype")


def run(arguments: argparse.Namespace) -> dict:
    """Everything that `train` measures, as it goes into the JSON."""
    load = load_average()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    settings = {name: getattr(arguments, name) for name in SETTINGS}
    torch.manual_seed(0)
    difference = check(settings)
    names = contender_names(arguments.micro_batches)
    memory = {name: peak_memory_in_own_process(name, settings) for name in names}
    steps = make_steps(names, settings)
    seconds = time_rounds(steps, arguments.rounds)
    summary = summarize(seconds, {"released": RELEASED})
    return {
        "benchmark": "train",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": settings,
        "machine": describe_machine(load),
        "largest_relative_difference": difference,
        "contenders": [
            {
                "name": name,
                "videos_per_second": arguments.batch / summary[name]["median_ms"] * 1e3,
                **summary[name],
                **memory[name],
                "trained_parameters": sum(p.numel() for p in step.contender.model.parameters() if p.requires_grad),
                "seconds": seconds[name],
            }
            for name, step in steps.items()
        ],
    }


def gibibytes(number: int | None) -> str:
    return "unknown" if number is None else f"{number / 2**30:.2f}"


def to_markdown(results: dict) -> str:
    """The table, and below it what it was measured with."""
    settings = results["settings"]
    step = f"{settings['batch']} videos in {settings['micro_batches']} micro-batches"
    header = [
        f"training, {step}, {settings['classes']} classes, {settings['dtype']}",
        "videos/s",
        "median s a step",
        "min–max s",
        f"time ÷ {RELEASED}",
        "peak GiB",
        "of it beyond weights and frames",
    ]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for entry in results["contenders"]:
        rows.append(
            [
                entry["name"],
                f"{entry['videos_per_second']:.3g}",
                f"{entry['median_ms'] / 1e3:.3g}",
                f"{entry['min_ms'] / 1e3:.3g}–{entry['max_ms'] / 1e3:.3g}",
                f"{entry['ratio_to_released']:.3f}",
                gibibytes(entry["peak_memory_bytes"]),
                gibibytes(entry["peak_memory_beyond_bytes"]),
            ]
        )
    return table_with_conditions(rows, results)


def main(settings: str, name: str) -> None:
    """In the process of its own: prints the contender's `peak_memory`."""
    loaded = json.loads(settings)
    print(json.dumps(peak_memory(make_steps([name], loaded)[name])))


if __name__ == "__main__":
    main(*sys.argv[1:])
