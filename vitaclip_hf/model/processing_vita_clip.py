"""Processor for Vita-CLIP: a video processor and CLIP's tokenizer."""

from transformers import CLIPTokenizer
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin

from .video_processing_vita_clip import VitaClipVideoProcessor, VitaClipVideoProcessorKwargs


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
    def from_clip(cls, name: str, image_size: int, **kwargs) -> "VitaClipProcessor":
        """
        A processor for a stock CLIP.

        Args:
            name: folder or Hub id of the CLIP, for its tokenizer.
            image_size (`int`): side of its images.
            kwargs: how the tokenizer is found, such as `revision`.
        """
        video_processor = VitaClipVideoProcessor(
            size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
        )
        return cls(video_processor, CLIPTokenizer.from_pretrained(name, **kwargs))

    def __call__(self, images=None, text=None, videos=None, audio=None, **kwargs):
        """
        Args:
            videos: one video or a list of them, see [`VitaClipVideoProcessor`].
            text (`str` or `list[str]`): texts, padded to the longest.

        Returns:
            `pixel_values_videos`, and `input_ids` with `attention_mask`, for what was given.
        """
        if images is not None or audio is not None:
            raise ValueError("VitaClipProcessor takes `videos` and `text`; images of one video go as `videos=images`.")
        return super().__call__(text=text, videos=videos, **kwargs)


__all__ = ["VitaClipProcessor"]
