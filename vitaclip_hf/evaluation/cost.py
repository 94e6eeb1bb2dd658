"""The cost of a model beside plain CLIP's: parameters and multiply-accumulates of a view; the machine."""

import os
import platform
from contextlib import suppress
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, PreTrainedModel

from ..model.configuration_vita_clip import VitaClipConfig
from ..model.modeling_vita_clip import VitaClipModel


def cost(model: PreTrainedModel, frames: int) -> dict:
    """
    The cost of a model, for `results.json`.

    Args:
        model ([`VitaClipModel`]): the evaluated model. Of another dual encoder, only the parameters are counted.
        frames (`int`): frames of a clip.
    """
    if model.config.model_type != "vita_clip":
        return {"parameters": {"all": model.num_parameters()}}
    return {"parameters": parameters(model.config), "gmacs_per_view": gmacs_per_view(model.config, frames)}


def parameters(config: VitaClipConfig) -> dict[str, int]:
    """The number of `all` parameters, and of the `trainable` ones."""
    with torch.device("meta"):
        model = VitaClipModel(config)
    model.freeze_backbone()
    return {"all": model.num_parameters(), "trainable": model.num_parameters(only_trainable=True)}


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


def machine(device: torch.device) -> dict:
    """The machine, since the last digits of scores depend on it."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(": ")[1] for line in lines if line.startswith("model name")), processor)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": processor.strip(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }
