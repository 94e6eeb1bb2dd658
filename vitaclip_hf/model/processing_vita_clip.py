"""Processor for Vita-CLIP: a video processor and CLIP's tokenizer."""

from typing import Any

from transformers import AutoTokenizer, CLIPImageProcessor, CLIPVisionConfig, PreTrainedConfig
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin

from .configuration_vita_clip import STOCK_TYPES
from .video_processing_vita_clip import VitaClipVideoProcessor, VitaClipVideoProcessorKwargs


HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
# What a video processor takes over from CLIP's image processor.
IMAGE_FIELDS = (
    *("size", "crop_size", "image_mean", "image_std", "resample", "rescale_factor"),
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"),
)


class VitaClipProcessorKwargs(ProcessingKwargs, total=False):
    videos_kwargs: VitaClipVideoProcessorKwargs
    _defaults = {"text_kwargs": {"padding": True}}


class VitaClipProcessor(ProcessorMixin):
    r"""
    One object for both inputs of [`VitaClipModel`].

    Args:
        video_processor ([`VitaClipVideoProcessor`]): makes `pixel_values_videos` of videos.
        tokenizer ([`CLIPTokenizer`]): makes `input_ids` and `attention_mask` of texts.

    Example:

    ```python
    >>> processor = VitaClipProcessor(VitaClipVideoProcessor(), tokenizer)  # doctest: +SKIP
    >>> inputs = processor(videos="clip.mp4", text=["yoga", "juggling"], return_tensors="pt")  # doctest: +SKIP

    ```
    """

    valid_processor_kwargs = VitaClipProcessorKwargs

    def __init__(self, video_processor=None, tokenizer=None, **kwargs):
        super().__init__(video_processor, tokenizer, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs) -> "VitaClipProcessor":
        """As for every processor. For a stock CLIP one is made of CLIP's own files."""
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        try:
            stored = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **hub)[0]
        except OSError:  # a folder of a processor alone
            stored = {}
        if stored.get("model_type") in STOCK_TYPES:
            return cls._from_clip(pretrained_model_name_or_path, stored, hub)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def _from_clip(cls, name, config: dict, hub: dict) -> "VitaClipProcessor":
        """Size, mean and standard deviation of CLIP's image processor, and its tokenizer."""
        try:
            image = CLIPImageProcessor.get_image_processor_dict(name, **hub)[0]
        except OSError:  # the model's own image size
            vision = config.get("vision_config_dict") or config.get("vision_config") or config
            side = vision.get("image_size", CLIPVisionConfig().image_size)
            image = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
        shared = {field: image[field] for field in IMAGE_FIELDS if image.get(field) is not None}
        return cls(VitaClipVideoProcessor(**shared), AutoTokenizer.from_pretrained(name, **hub))

    def __call__(self, text=None, videos=None, **kwargs):
        """
        Args:
            text (`str` or `list[str]`, *optional*): texts, padded to the longest.
            videos (*optional*): one video or a list of them, see [`VitaClipVideoProcessor`].

        Returns:
            [`~transformers.BatchFeature`] with `pixel_values_videos`, and `input_ids` with `attention_mask`, for what
            was given.

        Raises:
            ValueError: `images` or `audio` were given.
        """
        other = [name for name in ("images", "audio") if kwargs.get(name) is not None]
        if other:
            raise ValueError(
                f"VitaClipProcessor takes `text` and `videos`, got `{other[0]}`; images of a video go as `videos`."
            )
        return super().__call__(text=text, videos=videos, **kwargs)


def check_tokenizer(tokenizer: Any, text_config: Any, source: Any) -> None:
    """
    Raises ValueError for a tokenizer that cannot be the model's.

    transformers makes a tokenizer of a few tokens for a folder that has no tokenizer files.
    """
    if not text_config.vocab_size / 2 <= len(tokenizer) <= text_config.vocab_size:
        raise ValueError(
            f"{source}: the tokenizer has {len(tokenizer):,} tokens, the text tower {text_config.vocab_size:,}. "
            "Save the tokenizer that belongs to the model beside it."
        )


__all__ = ["VitaClipProcessor"]
