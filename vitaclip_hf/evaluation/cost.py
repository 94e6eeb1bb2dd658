"""The cost of a model beside plain CLIP's: parameters, multiply-accumulates of a view, time and memory."""

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
from .results_table import ROW_TITLES


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
    """
    The whole cost, for `results.json`. Call it after the evaluation: it reads the peak of its memory.

    Args:
        model ([`VitaClipModel`]): the evaluated model.
        frames (`int`): frames of a clip.
        views (`int`): views of a forward pass of the evaluation. A CPU is timed with one view at a time.
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
    """The number of `all` parameters, and of the `trainable` ones."""
    with torch.device("meta"):
        model = VitaClipModel(config)
    model.freeze_backbone()
    trainable, total = model.get_nb_trainable_parameters()
    return {"all": total, "trainable": trainable}


def gmacs_per_view(config: VitaClipConfig, frames: int) -> dict[str, float]:
    """
    Billions of multiply-accumulates of one view through the video tower, by torch's own counter.

    `plain_clip` is transformers' CLIP of the same size on the same frames. Matrix products and convolutions are
    counted. Nothing is computed: the models are on the meta device.

    Args:
        config ([`VitaClipConfig`]): of the model.
        frames (`int`): frames of a clip.
    """
    vision = config.vision_config
    plain_config = CLIPVisionConfig(
        **{name: getattr(vision, name) for name in _CLIP_FIELDS}, projection_dim=config.projection_dim
    )
    with torch.device("meta"):
        model, plain = VitaClipModel(config), CLIPVisionModelWithProjection(plain_config)
        clip = torch.empty(1, frames, vision.num_channels, vision.image_size, vision.image_size)
    return {
        "vita_clip": _gmacs(model, lambda: model.get_video_features(clip, class_tokens_only=True)),
        "plain_clip": _gmacs(plain, lambda: plain(clip[0])),
    }


def _gmacs(model: torch.nn.Module, forward) -> float:
    model.eval().requires_grad_(False)  # the counter's hooks fail with parameters that need gradients
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return counter.get_total_flops() / 2 / 1e9


@torch.no_grad()
def milliseconds_per_view(model: VitaClipModel, frames: int, size: int, views: int = 1, repeats: int = 5) -> dict:
    """
    Median time of the video tower for one view, with prompts and without, on the model's device.

    Args:
        model ([`VitaClipModel`]): on its device, in its dtype.
        frames (`int`): frames of a clip.
        size (`int`): height and width of a frame, in pixels.
        views (`int`, defaults to 1): views of a forward pass.
        repeats (`int`, defaults to 5): timed passes, after one that is not timed.
    """
    clips = torch.zeros(views, frames, 3, size, size, device=model.device, dtype=model.dtype)
    measured = {}
    for row in ROW_TITLES:
        with nullcontext() if row == "vita_clip" else model.prompts_disabled():
            times = [
                _seconds(lambda: model.get_video_features(clips, class_tokens_only=True), model.device)
                for _ in range(repeats + 1)
            ]
        measured[row] = statistics.median(times[1:]) * 1000 / views
    return measured | {"views_a_pass": views, "passes": repeats}


def _seconds(forward, device: torch.device) -> float:
    started = time.perf_counter()
    forward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def peak_memory(device: torch.device) -> dict:
    """The peak of memory so far, in mebibytes, and what it is of."""
    if device.type == "cuda":
        return {"mebibytes": torch.cuda.max_memory_allocated(device) / 2**20, "of": "CUDA tensors of one process"}
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in kibibytes elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"mebibytes": peak / 2**20, "of": "resident memory of one whole process (ru_maxrss)"}


def machine(device: torch.device) -> dict:
    """The machine, since times depend on it."""
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
