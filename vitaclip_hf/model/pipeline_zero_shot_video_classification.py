"""`pipeline("zero-shot-video-classification")`: any labels, any videos."""

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset
from transformers import Pipeline
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME, logging

from .encoder import VideoEncoder, VitaClipEncoder, check_labels, check_templates
from .machine import fast_dtype, reading_threads
from .processing_vita_clip import VitaClipProcessor
from .scorer import ScoreError, Scorer, checked
from .shown_names import one_line
from .sources import NotAVideoError, VideoDecodingError
from .video_inputs import VideoReader, is_single_video
from .video_processing_vita_clip import VitaClipVideoProcessor


logger = logging.get_logger(__name__)
TASK = "zero-shot-video-classification"
DETAILS = ("min_score", "min_cosine", "return_details")


class ZeroShotVideoClassificationPipeline(Pipeline):
    """
    Zero-shot video classification: scores candidate labels for videos, with a [`VitaClipModel`] or, after
    `import vitaclip_hf`, with another dual encoder of transformers, such as CLIP, SigLIP or X-CLIP.

    Args:
        precision (`str`, *optional*):
            `"auto"` puts the model into bfloat16 where the machine multiplies it fast, else into float32 (see
            [`fast_dtype`]); `pipeline.dtype` says which. `dtype="auto"` is transformers' own: as the checkpoint is.
        args, kwargs: as for `Pipeline`.

    Example:

    ```python
    >>> import vitaclip_hf  # registers the task
    >>> from transformers import pipeline

    >>> classifier = pipeline("zero-shot-video-classification", model="examples/demo/checkpoint")  # doctest: +SKIP
    >>> classifier("clip.mp4", candidate_labels=["rocket rising", "rocket spinning"])  # doctest: +SKIP
    [{'score': 0.98, 'label': 'rocket rising'}, {'score': 0.02, 'label': 'rocket spinning'}]

    ```
    """

    _load_processor = False
    _load_feature_extractor = False
    _load_image_processor = None  # `__init__` says what is missing, in one line
    _load_video_processor = None
    _load_tokenizer = None

    def __init__(self, *args: Any, precision: str | None = None, **kwargs: Any):
        if precision not in (None, "auto"):
            raise ValueError(f'`precision` must be "auto" or None, got {precision!r:.100}; pass `dtype` for a type.')
        super().__init__(*args, **kwargs)
        self._num_workers: Any = reading_threads(self.device) if self._num_workers is None else self._num_workers
        if precision == "auto":
            dtype = fast_dtype(self.model.device)
            self.model.to(dtype)
            logger.info(f"The model runs in {dtype} on {self.model.device}.")
        family, families = self.model.config.model_type, VideoEncoder.families
        kind = family if family in families else "*"
        if kind not in families or (kind == "*" and not hasattr(self.model, "get_text_features")):
            raise ValueError(
                f"The {TASK} pipeline needs a Vita-CLIP or, after `import vitaclip_hf`, another model that embeds "
                f"videos and texts; got a {family!r:.100} model."
            )
        processor = vars(self)["video_processor"]
        if family != "vita_clip" and not isinstance(processor, VitaClipVideoProcessor):
            # transformers makes a video processor of an image processor's file, too
            processor = self.image_processor or processor
        for part, value in (("tokenizer", self.tokenizer), ("video_processor", processor)):
            if value is None:
                raise ValueError(f"The {TASK} pipeline needs a {part}; none is beside the model. Pass `{part}=`.")
        if family == "vita_clip":  # transformers makes a tokenizer of a few tokens for a folder without tokenizer files
            tokens, vocabulary = len(self.tokenizer), self.model.config.text_config.vocab_size
            if not vocabulary / 2 <= tokens <= vocabulary:
                raise ValueError(f"The tokenizer has {tokens:,} tokens, the text tower {vocabulary:,}; pass its own.")
        self.encoder = families[kind](self.model.eval(), self.tokenizer, processor)
        self.video_processor = self.encoder.video_processor

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs: a video (a path, a URL, bytes, a file object, an array or tensor `[T, H, W, 3]`), or a list, dataset
                or generator of videos; the last two are read lazily.
            candidate_labels (`list[str]` or `dict[str, list[str]]`, *optional*): the labels to score, or several texts
                for each label, whose embeddings are averaged; by default the classes that the model was trained on.
            hypothesis_template (`str` or `list[str]`, *optional*, defaults to `"{}"`):
                Sentence(s) with `{}` for the label. The embeddings of several are averaged and normalised again.
            blend (`float`, *optional*, defaults to 0): weight of the frozen CLIP's features, 0 to 1; see
                [`VitaClipEncoder`].
            top_k (`int`, *optional*): how many labels to return; all by default.
            min_score, min_cosine (`float`, *optional*): with `return_details`, the least score and the least cosine of
                the best label. Softmax scores compare the labels with each other; sigmoid scores (SigLIP, Perception
                Encoder) and cosines compare video and label alone. `min_score` is 0.5 by default for sigmoid scores.
            return_details (`bool`, *optional*, defaults to `False`): return with the scores what they were read from.
            batch_size (`int`, *optional*, defaults to 1): videos of a forward pass.
            num_workers (`int`, *optional*):
                Threads that read the next videos while the model computes; by default by the cores that are free. A
                generator is read `batch_size + num_workers` videos ahead. 0 reads each video when it is needed.
            on_error (`str`, *optional*, defaults to `"error"`): or `"skip"`: a video that cannot be scored does not
                end the list; `{"error": str}` stands in the place of its answer.
            kwargs (*optional*): fields of [`ClipSpecification`], such as `num_views`, and of [`ReadOptions`], such as
                `max_seconds`, in place of the video processor's own.

        Returns:
            For one video, a list of `{"score": float, "label": str}`, best first; for several, a list of such lists.
            Scores are the softmax over the labels, or the sigmoid of each, as the model was trained, averaged over the
            views. With `return_details`, for each video `answer` (the best label, or `"something else"` with its
            `reason` if a threshold is not reached), `scores` with `cosine` of each label, `activation` (`"softmax"` or
            `"sigmoid"`), and numbers and times in seconds of the `frames` that were read.

        Raises:
            VideoDecodingError: a video cannot be read.
            ScoreError: the scores are NaN or infinite.
        """
        # The base class takes some videos, such as a list of images, for several inputs.
        single = is_single_video(inputs) or isinstance(inputs, dict) or not isinstance(inputs, (Iterable, Dataset))
        if single:
            inputs = [inputs]
        elif hasattr(inputs, "column_names"):  # of `datasets`: rows are read lazily; a stream may not know its columns
            if "video" not in (columns := inputs.column_names or ["video"]):
                raise ValueError(f"Expected a data set with a column `video`, got {str(columns):.200}; pass a column.")
            inputs = (row["video"] for row in inputs)
        elif isinstance(inputs, (Iterator, IterableDataset)) or not (
            isinstance(inputs, Dataset) or hasattr(inputs, "__len__")
        ):
            inputs = (video for video in inputs)  # such as a column of a stream
        elif not isinstance(inputs, (list, Dataset)):
            return list(super().__call__((video for video in inputs), **kwargs))  # a column opens them one by one
        if isinstance(inputs, list) and not inputs:
            return []
        outputs = super().__call__(inputs, **kwargs)
        return outputs[0] if single else outputs

    def _sanitize_parameters(self, candidate_labels=None, hypothesis_template=None, blend=None, top_k=None, **kwargs):
        preprocess = {name: value for name, value in kwargs.items() if value is not None}  # checked where it is used
        postprocess: dict = {name: preprocess.pop(name) for name in DETAILS if name in preprocess}
        forward: dict = {}
        for name in ("min_score", "min_cosine"):
            if not isinstance(postprocess.get(name, 0.0), (int, float)):
                raise ValueError(f"`{name}` must be a number, got {postprocess[name]!r:.100}.")
        if candidate_labels is not None:
            forward["labels"] = check_labels(candidate_labels, "candidate_labels")
            postprocess["labels"] = tuple(forward["labels"])
        if hypothesis_template is not None:
            forward["templates"] = check_templates(hypothesis_template, "hypothesis_template")
        if blend is not None:
            forward["blend"] = VitaClipEncoder(None, None, None, blend=blend).blend  # checks it
        if top_k is not None:
            if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
                raise ValueError(f"`top_k` must be a whole number of at least 1, got {top_k!r:.80}.")
            postprocess["top_k"] = top_k
        return preprocess, forward, postprocess

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

    def scorer(self, labels: Any = None, templates: Any = "{}", blend: float = 0.0) -> Scorer:
        if blend and not isinstance(self.encoder, VitaClipEncoder):
            raise ValueError("`blend` mixes a Vita-CLIP with its CLIP; this model is no Vita-CLIP.")
        return Scorer(replace(self.encoder, blend=blend) if blend else self.encoder, labels, templates)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Saves model, processor and tokenizer as one folder that the pipeline loads."""
        # `Pipeline.save_pretrained` saves no video processor, and adds the pipeline's file as remote code.
        self.model.save_pretrained(save_directory, **kwargs)
        if not isinstance(self.encoder, VitaClipEncoder):
            for part in (self.tokenizer, self.video_processor):
                part.save_pretrained(save_directory, **kwargs)
            return
        if TASK in (getattr(self.model.config, "custom_pipelines", None) or {}):
            # transformers copies the code of a published folder's model and processor, not of pipelines.
            for source in (__file__, *get_relative_import_files(__file__)):
                shutil.copy(source, save_directory)
        if __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
            VitaClipProcessor.register_for_auto_class()  # as AutoProcessor does: its code goes along
        VitaClipProcessor(self.video_processor, self.tokenizer).save_pretrained(save_directory)

    def _forward(self, model_inputs, **scoring):
        return self.scorer(**scoring).score(model_inputs["pixel_values_videos"])._asdict()

    def postprocess(self, model_outputs, labels=None, top_k=None, return_details=False, **least):
        scores, cosines = (checked(model_outputs[name][0]).tolist() for name in ("scores", "cosines"))
        if labels is None:
            labels = [self.model.config.id2label[index] for index in range(len(scores))]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        ranked = [{"score": scores[index], "label": labels[index], "cosine": cosines[index]} for index in order]
        if not return_details:
            return [{"score": row["score"], "label": row["label"]} for row in ranked[:top_k]]
        return details(ranked, model_outputs["metadata"], self.encoder.activation, top_k, **least)


def details(ranked, metadata, activation, top_k=None, min_score=None, min_cosine=-1.0) -> dict[str, Any]:
    """The answer for one video, with its frames and their times; "something else" and a reason below a least score."""
    best, reason = ranked[0], None
    min_score = (0.5 if activation == "sigmoid" else 0.0) if min_score is None else min_score
    if best["score"] < min_score:
        reason = f"the best score is {best['score']:.3g}, below {min_score:g}"
    elif best["cosine"] < min_cosine:
        reason = f"the cosine of the best label is {best['cosine']:.3f}, below {min_cosine:g}"
    times = [round(time, 3) for time in metadata.timestamps] if metadata.fps else None
    answer = {"answer": best["label"], "scores": ranked[:top_k], "activation": activation}
    answer |= {"frames": list(metadata.frames_indices or ()), "times": times}
    return answer if reason is None else answer | {"answer": "something else", "reason": reason}


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
