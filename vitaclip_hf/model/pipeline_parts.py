"""What both pipelines share: inputs, the pixels of a video's views, and the folder that holds all they need."""

from collections.abc import Iterable, Iterator, Sized
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, Pipeline
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME, logging

from .configuration_vita_clip import VitaClipConfig
from .precision import fast_dtype
from .processing_vita_clip import VitaClipProcessor
from .reading_ahead import ListAhead, VideosAhead, reading_threads
from .sources import VideoDecodingError
from .video_inputs import batch_of_videos, is_single_video
from .zero_shot_classifier import ScoreError, check_scores


ON_ERROR = ("error", "skip")
logger = logging.get_logger(__name__)


class VideoStream(torch.utils.data.IterableDataset):
    """An iterator as a data set, which every version of transformers 5 reads lazily."""

    def __init__(self, videos: Iterator):
        self.videos = videos

    def __iter__(self) -> Iterator:
        return self.videos


class ReadsAhead(Pipeline):
    """What both pipelines add to transformers' `Pipeline`: `precision`, and threads that read the next videos."""

    def __init__(self, *args: Any, precision: str | None = None, **kwargs: Any):
        if precision not in (None, "auto"):
            raise ValueError(f'`precision` must be "auto" or None, got {precision!r:.100}; pass `dtype` for a type.')
        super().__init__(*args, **kwargs)
        if precision == "auto":
            dtype = fast_dtype(self.model.device)
            self.model.to(dtype)
            logger.info(f"The model runs in {dtype} on {self.model.device}.")

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        inputs, single = as_inputs(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        on_error = checked_on_error(kwargs.get("on_error") or self._postprocess_params.get("on_error", "error"))
        given = kwargs.pop("num_workers", None)
        threads = next((n for n in (given, self._num_workers) if n is not None), reading_threads(self.device))
        outputs = counted(super().__call__(inputs, num_workers=threads, **kwargs), on_error)
        return outputs[0] if single else outputs

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, *params):
        """As in `Pipeline`, whose `num_workers` are processes; a fork of a process that uses torch can hang."""
        sized = isinstance(inputs, Sized)
        if num_workers > 0 and not (sized and len(inputs) == 1):
            read = partial(self.preprocess, **preprocess_params)
            inputs = (ListAhead if sized else VideosAhead)(inputs, read, num_workers, batch_size + num_workers)
        return super().get_iterator(inputs, 0, batch_size, preprocess_params, *params)


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
        raise TypeError(f"Each entry of a list of videos must be one video, got a list of {len(videos)} videos.")
    pixels = pipeline.video_processor(videos, return_tensors="pt", **arguments)["pixel_values_videos"]
    return {"pixel_values_videos": (pixels if pixels.ndim == 6 else pixels[:, None]).to(pipeline.dtype)}


def read_views(pipeline: Any, video: Any, arguments: dict[str, Any], on_error: str) -> dict[str, Any]:
    """
    As [`view_pixels`]. With `on_error="skip"`, a video that cannot be read gives a blank one, and `error` says why.
    A video that a thread reads ahead is waited for.

    Raises:
        TypeError, ValueError: arguments that no video can be read with.
    """
    if isinstance(video, Future):
        return video.result()
    if on_error == "error":
        return view_pixels(pipeline, video, arguments)
    try:
        return view_pixels(pipeline, video, arguments) | {"error": None}
    except (VideoDecodingError, OSError, TypeError, ValueError) as error:
        blank = np.zeros((1, 8, 8, 3), np.uint8)  # raises here too if the arguments are wrong
        return view_pixels(pipeline, blank, arguments) | {"error": _one_line(error)}


def error_of(outputs: dict[str, Any], values: torch.Tensor, on_error: str) -> str | None:
    """
    Why a video has no answer; None if it has one.

    Args:
        outputs (`dict`): of the forward pass of one video.
        values (`torch.Tensor`): its scores or logits, on the CPU.
        on_error (`str`): `"error"` or `"skip"`.

    Raises:
        ScoreError: the values are NaN or infinite, and nothing is to be skipped.
    """
    if outputs.get("error") is not None:
        return outputs["error"]
    try:
        check_scores(values)
    except ScoreError as error:
        if on_error == "error":
            raise
        return _one_line(error)
    return None


def checked_on_error(on_error: Any) -> str:
    """
    Raises:
        ValueError: another choice than those of `ON_ERROR`.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"`on_error` must be {' or '.join(ON_ERROR)}, got {on_error!r:.100}.")
    return on_error


def counted(outputs: Any, on_error: str) -> Any:
    """The answers; with `on_error="skip"`, a warning at their end counts those that are errors."""
    if on_error == "error":
        return outputs
    if isinstance(outputs, list):
        return list(_counting(outputs))
    return _counting(outputs)


def _counting(outputs: Iterable) -> Iterator:
    total = failed = 0
    for answer in outputs:
        total += 1
        failed += isinstance(answer, dict) and "error" in answer
        yield answer
    if failed:
        logger.warning(f"{failed} of {total} videos have an error instead of an answer.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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
    tokenizer = pipeline.tokenizer or _tokenizer_beside(pipeline.model)
    if tokenizer is None:
        pipeline.video_processor.save_pretrained(directory)
    else:
        VitaClipProcessor(pipeline.video_processor, tokenizer).save_pretrained(directory)


def _tokenizer_beside(model: Any) -> Any:
    """The tokenizer in the folder that a model was loaded from: the closed set's pipeline needs and loads none."""
    try:
        return AutoTokenizer.from_pretrained(model.config.name_or_path) if model.config.name_or_path else None
    except (OSError, ValueError):  # there is none
        return None
