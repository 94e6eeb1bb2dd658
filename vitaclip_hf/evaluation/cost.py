"""The cost of a model beside plain CLIP's: parameters, multiply-accumulates of a view, time and memory."""

import os
import platform
import resource
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ..model.configuration_vita_clip import VitaClipConfig
from ..model.modeling_vita_clip import VitaClipModel


def cost(model: VitaClipModel, frames: int, views: int) -> dict:
    """
    The whole cost, for `results.json`. Call it after the evaluation: it reads the peak of its memory.

    Args:
        model ([`VitaClipModel`]): the evaluated model. Of another dual encoder, parameters and memory are measured.
        frames (`int`): frames of a clip.
        views (`int`): views of a forward pass of the evaluation. A CPU is timed with one view at a time.
    """
    peak = peak_memory(model.device)  # before the timing adds to it
    if model.config.model_type != "vita_clip":
        return {"parameters": {"all": model.num_parameters()}, "peak_memory": peak}
    return {
        "parameters": parameters(model.config),
        "gmacs_per_view": gmacs_per_view(model.config, frames),
        "milliseconds_per_view": milliseconds_per_view(model, frames, views if model.device.type == "cuda" else 1),
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
    """
    vision = config.vision_config
    plain_config = CLIPVisionConfig.from_dict(vision.to_dict(), projection_dim=config.projection_dim)
    with torch.device("meta"):
        # The counter's hooks fail with parameters that need gradients.
        model = VitaClipModel(config).eval().requires_grad_(False)
        plain = CLIPVisionModelWithProjection(plain_config).eval().requires_grad_(False)
        clip = torch.empty(1, frames, vision.num_channels, vision.image_size, vision.image_size)
    with FlopCounterMode(display=False) as ours, torch.no_grad():
        model.get_video_features(clip, class_tokens_only=True)
    with FlopCounterMode(display=False) as clips, torch.no_grad():
        plain(clip[0])
    return {"vita_clip": ours.get_total_flops() / 2e9, "plain_clip": clips.get_total_flops() / 2e9}


@torch.no_grad()
def milliseconds_per_view(model: VitaClipModel, frames: int, views: int = 1, repeats: int = 5) -> dict:
    """
    Median time of the video tower for one view, with prompts and without, on the model's device.

    Args:
        model ([`VitaClipModel`]): on its device, in its dtype.
        frames (`int`): frames of a clip.
        views (`int`, defaults to 1): views of a forward pass.
        repeats (`int`, defaults to 5): timed passes, after one that is not timed.
    """
    size = model.config.vision_config.image_size
    clips = torch.zeros(views, frames, 3, size, size, device=model.device, dtype=model.dtype)
    measured: dict = {}
    for row, use_prompts in (("vita_clip", True), ("frozen_clip", False)):
        seconds = []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            model.get_video_features(clips, class_tokens_only=True, use_prompts=use_prompts)
            if model.device.type == "cuda":
                torch.cuda.synchronize(model.device)
            seconds.append(time.perf_counter() - started)
        measured[row] = statistics.median(seconds[1:]) * 1000 / views
    return measured | {"views_a_pass": views, "passes": repeats}


def peak_memory(device: torch.device) -> dict:
    """The peak of memory so far, in mebibytes, and what it is of."""
    if device.type == "cuda":
        return {"mebibytes": torch.cuda.max_memory_allocated(device) / 2**20, "of": "CUDA tensors of one process"}
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in kibibytes elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"mebibytes": peak / 2**20, "of": "resident memory of one whole process (ru_maxrss)"}


def machine(device: torch.device) -> dict:
    """The machine, since times depend on it."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(": ")[1] for line in lines if line.startswith("model name")), processor)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": processor.strip(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }
