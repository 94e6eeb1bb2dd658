"""Processor for Vita-CLIP: a video processor and CLIP's tokenizer."""

from transformers.processing_utils import ProcessingKwargs, ProcessorMixin

from .video_processing_vita_clip import VitaClipVideoProcessorKwargs


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
