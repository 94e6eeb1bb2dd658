"""What both pipelines share: inputs, the pixels of a video's views, and the folder that holds all they need."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

from .configuration_vita_clip import VitaClipConfig
from .processing_vita_clip import VitaClipProcessor
from .video_inputs import batch_of_videos, is_single_video


class VideoStream(torch.utils.data.IterableDataset):
    """An iterator as a data set, which every version of transformers 5 reads lazily."""

    def __init__(self, videos: Iterator):
        self.videos = videos

    def __iter__(self) -> Iterator:
        return self.videos


def as_inputs(videos: Any) -> tuple[Any, bool]:
    """
    Videos as `Pipeline.__call__` takes them, and whether it was a single one.

    The base class would take some single videos, such as a list of images, for several inputs.
    """
    if is_single_video(videos):
        return [videos], True
    if isinstance(videos, Iterator):
        return VideoStream(videos), False
    if isinstance(videos, tuple) or getattr(videos, "ndim", 0) == 5:
        return list(videos), False
    return videos, False


def view_pixels(pipeline: Any, video: Any, arguments: dict[str, Any]) -> dict[str, torch.Tensor]:
    """
    The views of one video.

    Returns:
        `pixel_values_videos` of shape `(1, num_views, num_frames, 3, height, width)`: one row a video, so that batches
        are collated and taken apart by video.

    Raises:
        TypeError: several videos in the place of one.
    """
    videos = batch_of_videos([video])
    if len(videos) != 1:
        raise TypeError(f"Expected a video within the list of videos, got a list of {len(videos)} videos.")
    pixels = pipeline.video_processor(videos, return_tensors="pt", **arguments)["pixel_values_videos"]
    return {"pixel_values_videos": (pixels if pixels.ndim == 6 else pixels[:, None]).to(pipeline.dtype)}


def require_vita_clip(model: Any, task: str) -> None:
    """
    Raises:
        ValueError: another kind of model, such as a stock CLIP.
    """
    if model.config.model_type != VitaClipConfig.model_type:
        raise ValueError(
            f"The {task} pipeline needs a Vita-CLIP, got a {model.config.model_type!r} model. Pass "
            "`model=VitaClipModel.from_pretrained(name)` with `tokenizer` and `video_processor` of "
            "`VitaClipProcessor.from_pretrained(name)`, or convert it with `vitaclip convert clip`."
        )


def save_folder(pipeline: Any, directory: Any, **kwargs: Any) -> None:
    """
    Saves model, video processor and tokenizer as one folder that both pipelines load.

    `Pipeline.save_pretrained` saves no video processor, and adds the pipeline's file as remote code.
    """
    pipeline.model.save_pretrained(directory, **kwargs)
    if __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
        VitaClipProcessor.register_for_auto_class()  # as AutoProcessor does: its code goes along
    if pipeline.tokenizer is None:
        pipeline.video_processor.save_pretrained(directory)
    else:
        VitaClipProcessor(pipeline.video_processor, pipeline.tokenizer).save_pretrained(directory)
