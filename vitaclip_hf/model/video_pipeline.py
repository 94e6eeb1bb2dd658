"""What both pipelines share: inputs, reading ahead, errors of single videos, saving as one folder."""

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import AutoTokenizer, Pipeline
from transformers.dynamic_module_utils import get_cached_module_file, get_relative_import_files
from transformers.utils import HF_MODULES_CACHE, TRANSFORMERS_DYNAMIC_MODULE_NAME, logging

from .machine import fast_dtype, reading_threads
from .processing_vita_clip import VitaClipProcessor
from .scorer import ScoreError
from .shown_names import one_line
from .sources import NotAVideoError, VideoDecodingError
from .video_inputs import VideoReader, is_single_video


logger = logging.get_logger(__name__)


class VideoPipeline(Pipeline):
    """
    transformers' `Pipeline` with threads that read the next videos, answers that are errors, and `precision`.

    Args:
        precision (`str`, *optional*):
            `"auto"` puts the model into bfloat16 where the machine multiplies it fast, else into float32 (see
            [`fast_dtype`]); `pipeline.dtype` says which. `dtype="auto"` is transformers' own: as the checkpoint is.
        args, kwargs: as for `Pipeline`.
    """

    def __init__(self, *args: Any, precision: str | None = None, **kwargs: Any):
        if precision not in (None, "auto"):
            raise ValueError(f'`precision` must be "auto" or None, got {precision!r:.100}; pass `dtype` for a type.')
        super().__init__(*args, **kwargs)
        self._num_workers: Any = reading_threads(self.device) if self._num_workers is None else self._num_workers
        if precision == "auto":
            dtype = fast_dtype(self.model.device)
            self.model.to(dtype)
            logger.info(f"The model runs in {dtype} on {self.model.device}.")

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        # The base class takes some videos, such as a list of images, for several inputs.
        single = is_single_video(inputs) or isinstance(inputs, dict) or not isinstance(inputs, (Iterable, Dataset))
        if single:
            inputs = [inputs]
        elif hasattr(inputs, "column_names"):  # of `datasets`: rows are read lazily; a stream may not know its columns
            if "video" not in (columns := inputs.column_names or ["video"]):
                raise ValueError(f"Expected a data set with a column `video`, got {str(columns):.200}; pass a column.")
            inputs = (row["video"] for row in inputs)
        elif isinstance(inputs, Iterator) or not (isinstance(inputs, Dataset) or hasattr(inputs, "__len__")):
            inputs = (video for video in inputs)  # such as a column of a stream
        elif not isinstance(inputs, (list, Dataset)):
            return list(super().__call__((video for video in inputs), **kwargs))  # a column opens them one by one
        if isinstance(inputs, list) and not inputs:
            return []
        outputs = super().__call__(inputs, **kwargs)
        return outputs[0] if single else outputs

    def get_iterator(
        self, inputs, num_workers: int, batch_size: int, preprocess_params, forward_params, postprocess_params
    ) -> Iterator[Any]:
        """As in `Pipeline`, whose `num_workers` are processes; a fork of a process that uses torch can hang."""
        on_error = preprocess_params.get("on_error", "error")
        if on_error not in ("error", "skip"):
            raise ValueError(f'`on_error` must be "error" or "skip", got {on_error!r:.100}.')
        answer = partial(self._answers, on_error, forward_params, postprocess_params)
        if hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__"):
            videos = (inputs[index] for index in range(len(inputs)))
        else:
            videos = iter(inputs)
        read = partial(self.preprocess, **preprocess_params)
        return self._batches(read_ahead(videos, read, num_workers, batch_size + num_workers), batch_size, answer)

    def _batches(self, videos: Iterator, batch_size: int, answer: Callable) -> Iterator[Any]:
        batch: list[dict[str, Any]] = []
        total = failed = 0

        def answers() -> Iterator[Any]:
            nonlocal total, failed
            for output in answer(batch):
                total, failed = total + 1, failed + (isinstance(output, dict) and "error" in output)
                yield output
            batch.clear()

        for future in videos:
            try:
                batch.append(future.result())
            except Exception:
                yield from answers()  # those of the videos before it come first
                raise
            if len(batch) == batch_size:
                yield from answers()
        yield from answers()
        if failed:
            logger.warning(f"{failed} of {total} videos have an error instead of an answer.")

    def _answers(
        self, on_error: str, forward_params: dict, postprocess_params: dict, batch: list[dict[str, Any]]
    ) -> Iterator[Any]:
        readable = [inputs["pixel_values_videos"] for inputs in batch if "error" not in inputs]
        if readable:
            outputs = self.forward({"pixel_values_videos": torch.cat(readable)}, **forward_params)
        row = 0
        for inputs in batch:
            if "error" in inputs:
                yield {"error": inputs["error"]}
                continue
            values = {name: value[row : row + 1] for name, value in outputs.items()}
            row += 1
            try:
                answer = self.postprocess(values | {"metadata": inputs["metadata"]}, **postprocess_params)
            except ScoreError as error:
                if on_error == "error":
                    raise
                answer = {"error": str(error)}
            yield answer

    def preprocess(self, video: Any, on_error: str = "error", **settings: Any) -> dict[str, Any]:
        """
        The views of one video, `pixel_values_videos` of shape `(1, num_views, num_frames, 3, height, width)`, and its
        `metadata`; with `on_error="skip"`, `error` in the place of both for a video that cannot be read.
        """
        reader = VideoReader(self.video_processor, **settings)
        try:
            pixels, metadata = reader.read(video, seed=self.video_processor.seed)
        except (VideoDecodingError, OSError, NotAVideoError, ValueError) as error:
            if on_error == "error":
                raise
            return {"error": one_line(error)}
        return {"pixel_values_videos": pixels[None].to(self.dtype), "metadata": metadata}

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Saves model, video processor and tokenizer as one folder that both pipelines load."""
        # `Pipeline.save_pretrained` saves no video processor, and adds the pipeline's file as remote code.
        self.model.save_pretrained(save_directory, **kwargs)
        # transformers copies the code of model, configuration and processor of a published folder, not of pipelines.
        config = self.model.config
        for pipeline in (getattr(config, "custom_pipelines", None) or {}).values():
            file = f"{pipeline['impl'].split('.')[0]}.py"
            cached = get_cached_module_file(config.name_or_path, file, revision=getattr(config, "_commit_hash", None))
            module = Path(HF_MODULES_CACHE, cached)
            for source in (module, *get_relative_import_files(module)):
                shutil.copy(source, save_directory)
        if __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
            VitaClipProcessor.register_for_auto_class()  # as AutoProcessor does: its code goes along
        tokenizer = self.tokenizer
        if tokenizer is None and config.name_or_path:  # the closed set's pipeline needs and loads none
            with suppress(OSError, ValueError):  # there is none
                tokenizer = AutoTokenizer.from_pretrained(config.name_or_path)
        part = self.video_processor if tokenizer is None else VitaClipProcessor(self.video_processor, tokenizer)
        part.save_pretrained(save_directory)


def read_ahead(videos: Iterable[Any], read: Callable[[Any], Any], threads: int, ahead: int) -> Iterator[Future]:
    """
    The results of `read` in the order of the videos, as futures, which raise its errors; `ahead` videos before they are
    asked for, and in so many threads (0: when they are asked for). `videos` is iterated in the caller's thread.
    """
    source, waiting = iter(videos), deque[Future]()
    pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="video-reader")
    try:
        while True:
            try:
                waiting.append(pool.submit(read, next(source)))
            except StopIteration:
                break
            except Exception as error:  # of the source: comes after the answers before it
                waiting.append(Future())
                waiting[-1].set_exception(error)
                break
            if len(waiting) > ahead or not threads:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for future in waiting:  # `cancel_futures` needs what is gone where the program ends
            future.cancel()
        pool.shutdown(wait=False)


def check_top_k(top_k: Any) -> int:
    """A whole number of at least 1; anything else is a `ValueError`."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"`top_k` must be a whole number of at least 1, got {top_k!r:.80}.")
    return top_k
