"""What a model costs: parameters, multiply-accumulates of a view, time and memory, beside plain CLIP's."""

import os
import platform
import resource
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ..model.configuration_vita_clip import VitaClipConfig
from ..model.modeling_vita_clip import VitaClipModel


_CLIP_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
)


def cost(model: VitaClipModel, frames: int, views: int) -> dict:
    """All of it, as results store it; call it after the evaluation, whose peak of memory it takes.

    Args:
        model: as evaluated.
        frames: T.
        views: views of a forward pass of the evaluation; on a CPU, time is taken one view at a time.
    """
    peak = peak_memory(model.device)  # before the timing adds to it
    size = model.config.vision_config.image_size
    timed = views if model.device.type == "cuda" else 1
    return {
        "parameters": parameters(model.config),
        "gmacs_per_view": gmacs_per_view(model.config, frames),
        "milliseconds_per_view": milliseconds_per_view(model, frames, size, timed),
        "peak_memory": peak,
    }


def parameters(config: VitaClipConfig) -> dict[str, int]:
    """`all` parameters, and those that training changes, `trainable`."""
    with torch.device("meta"):
        model = VitaClipModel(config)
    model.freeze_backbone()
    trainable, total = model.get_nb_trainable_parameters()
    return {"all": total, "trainable": trainable}


def gmacs_per_view(config: VitaClipConfig, frames: int) -> dict[str, float]:
    """Billions of multiply-accumulates of one view's forward pass through the video tower, by torch's own counter.

    `plain_clip` is transformers' CLIP of the same size on the same frames, the mean of their features taken. Counted
    are matrix products and convolutions, as everywhere; nothing is computed (meta device).
    """
    vision = config.vision_config
    plain_config = CLIPVisionConfig(
        **{name: getattr(vision, name) for name in _CLIP_FIELDS}, projection_dim=config.projection_dim
    )
    with torch.device("meta"):
        model, plain = VitaClipModel(config), CLIPVisionModelWithProjection(plain_config)
        clip = torch.empty(1, frames, vision.num_channels, vision.image_size, vision.image_size)
    return {
        "vita_clip": _gmacs(model, lambda: model.get_video_features(clip)),
        "plain_clip": _gmacs(plain, lambda: plain(clip[0])),
    }


def _gmacs(model: torch.nn.Module, forward) -> float:
    model.eval().requires_grad_(False)  # the counter's hooks stumble over parameters that want gradients
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return counter.get_total_flops() / 2 / 1e9


@torch.no_grad()
def milliseconds_per_view(model: VitaClipModel, frames: int, size: int, views: int = 1, repeats: int = 5) -> dict:
    """Median time of the video tower for one view, with prompts and without, on the model's device.

    Args:
        model: on its device, in its type.
        frames: T.
        size: height and width of a frame, in pixels.
        views: views of a forward pass.
        repeats: timed passes after one that warms up.
    """
    clips = torch.zeros(views, frames, 3, size, size, device=model.device, dtype=model.dtype)
    measured = {}
    for row in ("vita_clip", "frozen_clip"):
        with nullcontext() if row == "vita_clip" else model.prompts_disabled():
            times = [_seconds(lambda: model.get_video_features(clips), model.device) for _ in range(repeats + 1)]
        measured[row] = statistics.median(times[1:]) * 1000 / views
    return measured | {"views_a_pass": views, "passes": repeats}


def _seconds(forward, device: torch.device) -> float:
    started = time.perf_counter()
    forward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def peak_memory(device: torch.device) -> dict:
    """Most memory so far, in mebibytes, with what was measured."""
    if device.type == "cuda":
        return {"mebibytes": torch.cuda.max_memory_allocated(device) / 2**20, "of": "CUDA tensors of one process"}
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, kibibytes elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"mebibytes": peak / 2**20, "of": "resident memory of one whole process (ru_maxrss)"}


def machine(device: torch.device) -> dict:
    """What times depend on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
