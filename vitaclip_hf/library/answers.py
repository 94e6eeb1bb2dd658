"""Answers that can be checked: scores and cosines of labels, the frames they were read from, and their times."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from ..data.clip_reading import ClipReader
from ..loading.checkpoint import Checkpoint
from ..model.decoding import Video, VideoDecodingError
from ..model.pipeline_parts import checked_on_error, counted
from ..model.read_options import ReadOptions
from ..model.reading_ahead import read_ahead, reading_threads
from ..model.video_inputs import video_from
from ..model.zero_shot_classifier import (
    ScoreError,
    build_zero_shot_classifier,
    check_scores,
    checked_labels,
    checked_templates,
    embed_views,
    label_descriptions,
    view_scores,
)


if TYPE_CHECKING:
    from matplotlib.figure import Figure


SOMETHING_ELSE = "something else"


@dataclass(frozen=True)
class Answer:
    """
    What a video shows, and what this was read from.

    Attributes:
        video: the video as it was given.
        answer (`str`): the best label, or `"something else"` if it passes no threshold.
        scores (`list[dict]`): `{"label": str, "score": float, "cosine": float}` of every label, best first.
        frames (`list[int]`): numbers of the frames that were read, view after view.
        times (`list[float]`, *optional*): when each of them is shown, in seconds; `None` if the frame rate is unknown.
        reason (`str`, *optional*): why the answer is `"something else"`.
    """

    video: Any
    answer: str
    scores: list[dict[str, Any]]
    frames: list[int]
    times: list[float] | None
    reason: str | None = None
    options: ReadOptions | None = field(default=None, repr=False)

    def as_dict(self, top_k: int | None = None) -> dict[str, Any]:
        """All of it for JSON, with the best `top_k` labels."""
        times = None if self.times is None else [round(time, 3) for time in self.times]
        about = {"answer": self.answer, "scores": self.scores[:top_k], "frames": self.frames, "times": times}
        return about if self.reason is None else about | {"reason": self.reason}

    def figure(self, title: str | None = None, top_k: int | None = None) -> "Figure":
        """
        The frames that were read and the scores, as one picture. The frames are read again. Needs matplotlib.

        Args:
            title (`str`, *optional*): a line above the frames.
            top_k (`int`, *optional*): how many labels to draw; all by default.

        Raises:
            VideoDecodingError: the video cannot be read any more.
        """
        from .figure import draw_answer

        numbers = sorted(set(self.frames))
        times = None
        if self.times is not None:
            time_of = dict(zip(self.frames, self.times, strict=True))
            times = [time_of[number] for number in numbers]
        frames = video_from(self.video, self.options).read(numbers)
        return draw_answer(frames, times, self.scores[:top_k], title, self.reason and f"{self.answer}: {self.reason}")


class VideoClassifier:
    """
    Scores labels for videos, with everything that is needed to check an answer.

    A score is the softmax over the labels, averaged over the views. It compares the labels with each other: it says
    nothing about "none of these", and of a single label it is always 1. A cosine compares video and label alone.
    Two thresholds let the classifier answer `"something else"`: `min_score` where the labels are too close to each
    other, `min_cosine` where the video is far from all of them.

    Args:
        checkpoint ([`Checkpoint`]): of [`load_checkpoint`].
        labels (`Sequence[str]` or `dict[str, list[str]]`, *optional*): the labels to score, or several texts for each;
            by default the classes of the checkpoint.
        templates (`str` or `Sequence[str]`, defaults to `"{}"`): sentences with `{}` for the label.
        num_views (`int`, *optional*): temporal views of a video; by default as the video processor says.
        min_score (`float`, defaults to 0): the least score of the best label.
        min_cosine (`float`, defaults to -1): the least cosine of the best label.
        max_seconds (`float`, *optional*): most time for decoding one video; by default the video processor's.

    Raises:
        ValueError: labels or templates that cannot be scored, or a checkpoint without classes of its own.

    Example:

    ```python
    >>> from vitaclip_hf import load_checkpoint
    >>> from vitaclip_hf.library.answers import VideoClassifier

    >>> checkpoint = load_checkpoint("examples/demo/checkpoint")  # doctest: +SKIP
    >>> classifier = VideoClassifier(checkpoint, ["red star turning", "blue heart bouncing"])  # doctest: +SKIP
    >>> [answer] = classifier(["clip.mp4"])  # doctest: +SKIP
    >>> answer.answer, answer.times  # doctest: +SKIP
    >>> answer.figure("clip.mp4").savefig("answer.png")  # doctest: +SKIP

    ```
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        labels: Sequence[str] | None = None,
        templates: str | Sequence[str] = "{}",
        *,
        num_views: int | None = None,
        min_score: float = 0.0,
        min_cosine: float = -1.0,
        max_seconds: float | None = None,
    ):
        self.model, processor = checkpoint.model, checkpoint.processor
        self.labels, self.class_embeds = class_embeds_of(checkpoint, labels, templates)
        specification = processor.video_processor.clip_specification
        if num_views is not None:
            specification = replace(specification, num_views=num_views)
        self.reader = ClipReader(processor.video_processor, specification)
        self.options = processor.video_processor.read_options
        if max_seconds is not None:
            self.options = replace(self.options, max_seconds=max_seconds)
        self.min_score, self.min_cosine = min_score, min_cosine

    @torch.no_grad()
    def __call__(self, videos: Sequence[Any], on_error: str = "error") -> list[Any]:
        """
        Args:
            videos: paths, URLs, bytes, arrays … of single videos, see [`VitaClipVideoProcessor`]. They are one batch.
            on_error (`str`, defaults to `"error"`): or `"skip"`: a video that cannot be read does not end the list;
                `{"error": str}` stands in the place of its answer.

        Returns:
            `list[Answer]`, one for each video.

        Raises:
            VideoDecodingError: a video cannot be read.
            ScoreError: the scores are NaN or infinite.
        """
        on_error = checked_on_error(on_error)
        return list(counted(self._answers([self._read(video, on_error) for video in videos]), on_error))

    def stream(self, videos: Iterable[Any], batch_size: int = 8, on_error: str = "error") -> Iterator[Any]:
        """
        As a call for each batch, answer by answer; threads read the next videos while the model computes.

        Args:
            videos: read lazily, about one batch ahead.
            batch_size (`int`, defaults to 8): videos of a forward pass.
            on_error (`str`, defaults to `"error"`): as of a call; with `"skip"`, a ScoreError too takes the place of
                the answer.
        """
        threads = reading_threads(self.model.device)
        read = partial(self._read, on_error=checked_on_error(on_error))
        ahead = read_ahead(videos, read, threads, batch_size + threads)
        while batch := [future.result() for future in islice(ahead, batch_size)]:
            try:
                yield from self._answers(batch)
            except ScoreError:
                if on_error == "error":
                    raise
                for item in batch:
                    try:
                        yield from self._answers([item])
                    except ScoreError as error:
                        yield {"error": " ".join(str(error).split())}

    @torch.no_grad()
    def _answers(self, read: list[Any]) -> list[Any]:
        """The answers to what `_read` gave; errors stay."""
        answers = iter(self._scored([item for item in read if not isinstance(item, dict)]))
        return [item if isinstance(item, dict) else next(answers) for item in read]

    def _read(self, source: Any, on_error: str) -> tuple[Any, Video, torch.Tensor] | dict[str, str]:
        """The source, its video and its pixels `(num_views, num_frames, 3, height, width)`, or the error."""
        try:
            video = video_from(source, self.options)
            return source, video, self.reader.read(video, seed=0)
        except (VideoDecodingError, OSError, TypeError, ValueError) as error:
            if on_error == "error":
                raise
            return {"error": " ".join(str(error).split()) or type(error).__name__}

    def _scored(self, read: Sequence[tuple[Any, Video, torch.Tensor]]) -> list[Answer]:
        if not read:
            return []
        videos, opened, views = zip(*read, strict=True)
        pixels = torch.stack(views)  # [B, views, T, 3, H, W]
        embeds = embed_views(self.model, pixels)
        scores_on_cpu = view_scores(self.model.compare(embeds, self.class_embeds), pixels.shape[1]).cpu()
        check_scores(scores_on_cpu)
        scores = scores_on_cpu.tolist()
        cosines = (embeds.float() @ self.class_embeds.float().T).unflatten(0, pixels.shape[:2]).mean(1).tolist()
        rows = zip(videos, opened, scores, cosines, strict=True)
        return [self._answer(*row) for row in rows]

    def _answer(self, source: Any, video: Video, scores: list[float], cosines: list[float]) -> Answer:
        ranked = sorted(zip(self.labels, scores, cosines, strict=True), key=lambda row: -row[1])
        best, score, cosine = ranked[0]
        reason = None
        if score < self.min_score:
            reason = f"the best score is {score:.1%}, below {self.min_score:.1%}"
        elif cosine < self.min_cosine:
            reason = f"the cosine of the best label is {cosine:.3f}, below {self.min_cosine:g}"
        about = video.metadata
        return Answer(
            video=source,
            answer=best if reason is None else SOMETHING_ELSE,
            scores=[{"label": label, "score": score, "cosine": cosine} for label, score, cosine in ranked],
            frames=list(about.frames_indices or ()),
            times=about.timestamps if about.fps else None,
            reason=reason,
            options=self.options,
        )


def class_embeds_of(
    checkpoint: Checkpoint, labels: Sequence[str] | None, templates: str | Sequence[str] = "{}"
) -> tuple[tuple[str, ...], torch.Tensor]:
    """
    Labels, and their normalised embeddings of shape `(num_labels, projection_dim)`.

    Args:
        checkpoint ([`Checkpoint`]): model and tokenizer.
        labels (`Sequence[str]`, *optional*): by default the classes of the checkpoint, in its learned contexts.
        templates: sentences with `{}` for the label.

    Raises:
        ValueError: labels or templates that cannot be scored, or a checkpoint without classes of its own.
    """
    model = checkpoint.model
    if labels is not None:
        names = checked_labels(labels, "labels")
        sentences = checked_templates(templates, "templates")
        texts = label_descriptions(labels) or names
        return names, build_zero_shot_classifier(model, checkpoint.processor.tokenizer, texts, sentences)
    if not model.class_prompts.have_names:
        raise ValueError(f"{checkpoint.name}: was not trained on classes; pass `labels`.")
    with torch.no_grad():
        embeds = model.get_class_embeds()
    return tuple(model.config.id2label[index] for index in range(len(embeds))), embeds
