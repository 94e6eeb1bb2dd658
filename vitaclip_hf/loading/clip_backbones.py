"""A stock CLIP as the beginning of a Vita-CLIP: its configuration with prompts, and its processor."""

from collections.abc import Mapping
from typing import Any

from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, MetaClip2Config

from ..model.configuration_vita_clip import VitaClipConfig
from ..model.processing_vita_clip import VitaClipProcessor
from ..model.video_processing_vita_clip import VitaClipVideoProcessor


BACKBONES = {CLIPConfig.model_type: CLIPConfig, MetaClip2Config.model_type: MetaClip2Config}
# What a video processor takes over from CLIP's image processor.
IMAGE_FIELDS = (
    *("size", "crop_size", "image_mean", "image_std", "resample", "rescale_factor"),
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"),
)


def add_prompts(backbone: Any, settings: Mapping[str, Any] | None = None) -> VitaClipConfig:
    """
    The configuration of a Vita-CLIP on the [`CLIPConfig`] or [`MetaClip2Config`] of a backbone.

    `settings` are values for `vision_config` and `text_config`, and other fields.
    """
    settings = dict(settings or {})
    values = backbone.to_dict()
    values["text_config"]["pool_first_eos"] = backbone.model_type == MetaClip2Config.model_type
    for part in ("text_config", "vision_config"):
        values[part] |= settings.pop(part, {})
        del values[part]["model_type"]
    for field in ("model_type", "architectures", "transformers_version", *(("id2label",) * ("num_labels" in settings))):
        values.pop(field, None)
    return VitaClipConfig(**values | settings)


def clip_processor(name: str, config: VitaClipConfig, hub: Mapping[str, Any]) -> VitaClipProcessor:
    """A processor with the pixels of CLIP's image processor, the number of frames of the prompts, and its tokenizer."""
    try:
        image = CLIPImageProcessor.get_image_processor_dict(name, **hub)[0]
    except OSError:  # the model's own image size
        side = config.vision_config.image_size
        image = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    shared = {field: image[field] for field in IMAGE_FIELDS if image.get(field) is not None}
    shared["num_frames"] = config.num_frames
    return VitaClipProcessor(VitaClipVideoProcessor(**shared), AutoTokenizer.from_pretrained(name, **hub))
