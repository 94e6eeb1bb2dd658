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


__all__ = ["VitaClipProcessor"]
