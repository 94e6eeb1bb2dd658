"""Evaluation of a checkpoint under a protocol, on any number of processes. It goes on where it was interrupted.

Every video is decoded once. It is scored by the model and by the model's own frozen CLIP (prompts off). The whole list
is cut into batches before the ranks share them, and an unfinished batch is done again as a whole. The number of ranks
and interruptions therefore do not change a bit of the predictions on one kind of machine. Another batch size changes
the order of float32 sums, and with it scores by about 1e-6.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..data.annotations import AnnotationError, VideoSample, is_url
from ..data.class_descriptions import texts_of_classes
from ..data.class_names import ClassIndex
from ..data.metrics import TOP
from ..loading.checkpoint import Checkpoint
from ..model.encoder import VideoEncoder
from ..model.read_options import CHOICES
from ..model.scorer import Scorer
from ..model.shown_names import one_line
from ..model.sources import VideoDecodingError
from ..model.video_inputs import VideoReader
from .plan import EvaluationPlan, EvaluationSplit
from .progress_log import EvaluationLog, VideoResult, fingerprint_of_json
from .protocols import EvaluationError


USUAL = ("auto", "pyav", "read", "error", "coded")  # ways of reading; others are named in the results
VOLATILE = ("_name_or_path", "transformers_version", "architectures", "dtype")  # no predictions depend on these


class Evaluator:
    """
    Scores the videos of a plan with a checkpoint.

    Args:
        checkpoint ([`Checkpoint`]): the model to evaluate.
        plan ([`EvaluationPlan`]): protocol and videos.
        frozen_clip (`bool`, defaults to `True`): also evaluate the same CLIP without prompts.
        batch_size (`int`, defaults to 8): videos of a forward pass, each with all its views.
        blend (`float`, defaults to 0): weight of the frozen CLIP's features in the row `vita_clip`, 0 to 1.
        descriptions (`dict[str, tuple[str, ...]]`, *optional*): texts of each class in place of its name, for the plain
            text tower.
        device, dtype (*optional*): where and in which dtype the model runs; the checkpoint's model is moved there. By
            default it runs as it is.
        reading: fields of [`ReadOptions`]; by default the video processor's own, but pixels as they are coded.

    Attributes:
        rows (`tuple[str, ...]`): `"vita_clip"`, and `"frozen_clip"` if it is evaluated too.
        setup (`dict`): everything that the predictions depend on, as plain data for [`EvaluationLog`].
        options (`dict`): blend, decoder, verify, on_damage, pixel aspect and the fingerprint of the descriptions, where
            they are not the usual ones.

    Raises:
        EvaluationError: a batch size below 1, a text that is too long, or, where the learned contexts classify, classes
            that the checkpoint does not have.
        ValueError: an unusable blend or field of `reading`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: EvaluationPlan,
        frozen_clip: bool = True,
        batch_size: int = 8,
        *,
        blend: float = 0.0,
        descriptions: dict[str, tuple[str, ...]] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **reading: Any,
    ):
        if batch_size < 1:
            raise EvaluationError(f"`batch_size` must be at least 1, got {batch_size}.")
        self.checkpoint, self.plan, self.batch_size, self.descriptions = checkpoint, plan, batch_size, descriptions
        self.sha256 = checkpoint.fingerprint()  # of the weights as loaded, before they are rounded to `dtype`
        self.model = checkpoint.model.to(device=device, dtype=dtype)
        self.protocol = plan.protocol.resolved(checkpoint.processor.video_processor.clip_specification)
        own: str = self.model.config.model_type  # "vita_clip", or the family of another dual encoder
        if blend and own != "vita_clip":
            raise EvaluationError(f"`blend` mixes a Vita-CLIP with its CLIP; this is a {own!r} model.")
        if own != "vita_clip" and any(split.text == "supervised" for split in plan.splits):
            raise EvaluationError(f"This is a {own!r} model, which learned no classes; take a zero-shot protocol.")
        if descriptions and not frozen_clip and all(split.text == "supervised" for split in plan.splits):
            raise EvaluationError(
                "`descriptions` change nothing here: learned contexts classify. Take `text` zero-shot."
            )
        encoders = {own: checkpoint.encoder(**({"blend": blend} if blend else {}))}
        if frozen_clip and own == "vita_clip":
            encoders["frozen_clip"] = replace(encoders[own], use_prompts=False)
        self.rows = tuple(encoders)
        reading["pixel_aspect"] = reading.get("pixel_aspect") or "coded"  # as papers do
        self.reader = encoders[own].reader(**vars(self.protocol.clip_specification), **reading)
        self.scorers = {
            row: {split.name: self._scorer(encoder, split, row == "vita_clip") for split in plan.splits}
            for row, encoder in encoders.items()
        }
        self.options: dict[str, Any] = {"blend": blend} if blend else {}
        chosen = {name: getattr(self.reader.options, name) for name in CHOICES}
        self.options |= {name: value for name, value in chosen.items() if value not in USUAL}
        self.options |= {"descriptions": fingerprint_of_json(descriptions)} if descriptions else {}
        self.setup = self._setup()

    def _setup(self) -> dict[str, Any]:
        config, splits = self.model.config.to_dict(), self.plan.splits
        return {
            **{f"protocol.{name}": value for name, value in self.protocol.to_dict().items()},
            "limit": self.plan.limit,
            "rows": list(self.rows),
            **{f"list.{split.name}": split.sha256 for split in splits},
            "model": self.sha256,
            "processor": fingerprint_of_json(self.checkpoint.processor.video_processor.to_dict()),
            "config": fingerprint_of_json({name: value for name, value in config.items() if name not in VOLATILE}),
            # Of tokens: another tokenizer can stand beside the same weights.
            **{f"tokens.{split.name}": fingerprint_of_json(self._tokens(split)) for split in splits},
            "dtype": str(self.model.dtype).removeprefix("torch."),
            **self.options,
        }

    def _tokens(self, split: EvaluationSplit) -> list[list[int]]:
        texts, templates = split.texts(self.protocol.spelling), self.protocol.templates
        sentences = [template.replace("{}", text) for template in templates for text in texts]
        tokenizer: Any = self.checkpoint.processor.tokenizer
        return tokenizer(sentences, verbose=False)["input_ids"]

    def _scorer(self, encoder: VideoEncoder, split: EvaluationSplit, has_contexts: bool) -> Scorer:
        if has_contexts and split.text == "supervised":
            scorer = Scorer(encoder)
            scorer.class_features = scorer.class_features[self._class_order(scorer.labels, split)]
            return scorer
        texts: Any = split.texts(self.protocol.spelling)
        if self.descriptions is not None:
            names = split.table.class_names  # which differ where two are spelled alike
            described = texts_of_classes(self.descriptions, names, "the class descriptions")
            texts = dict(zip(names, described, strict=True))
        try:
            return Scorer(encoder, texts, self.protocol.templates)
        except ValueError as error:  # a text longer than the tower takes, or two classes of one spelling
            raise EvaluationError(f"{self.protocol.name}, {split.table.source}: {error}") from error

    def _class_order(self, own: Sequence[str], split: EvaluationSplit) -> list[int]:
        """The checkpoint's class for each class of a list: by name, or by number if the checkpoint has no names."""
        names, where = split.table.class_names, f"{split.table.source}, split {split.name}"
        numbers = list(range(len(own)))
        if len(names) == len(own) and all(name == f"LABEL_{number}" for number, name in enumerate(own)):
            return numbers
        problem = f"{where}: its {len(names)} classes are not the {len(own)} of the checkpoint, one for each."
        try:
            index = ClassIndex(own, "the checkpoint")
            order = [index.label(name, where) for name in names]
        except AnnotationError as error:
            order, problem = [], str(error)
        if sorted(order) != numbers:
            raise EvaluationError(
                f"{problem} If the list merely lacks some, give a file of all class names as `classes`; else evaluate "
                "with `text` zero-shot, or with a checkpoint trained on these classes."
            )
        return order

    def score(self, pixels: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
        """
        Scores averaged over the views, by row and split.

        Args:
            pixels (`torch.Tensor` of shape `(batch_size, num_views, num_frames, 3, height, width)`):
                All views of each video.

        Returns:
            For each row and split, a `torch.Tensor` of shape `(batch_size, num_classes)`, float32 on the CPU.
        """
        scores = {}
        for row, scorers in self.scorers.items():
            features = next(iter(scorers.values())).encoder.video_features(pixels)
            scores[row] = {split: scorer.compare(features).scores.cpu() for split, scorer in scorers.items()}
        return scores

    def results_of(self, batch: Sequence[tuple[int, torch.Tensor | None, str]]) -> list[VideoResult]:
        """The results of a batch of videos: their numbers, pixels, and why they could not be read."""
        readable = [pixels for _, pixels, _ in batch if pixels is not None]
        scores = self.score(torch.stack(readable)) if readable else {}
        results, place = [], 0
        for number, pixels, reason in batch:
            video = self.plan.videos[number]
            stamp = file_stamp(video)
            if pixels is not None:
                result, place = self._result(video.name, scores, place), place + 1
            elif stamp is None and not is_url(video.path):
                result = VideoResult(video.name, "missing", "no such file")
            else:
                result = VideoResult(video.name, "failed", reason.replace(video.path, video.name))
            results.append(replace(result, stamp=stamp))
        return results

    def _result(self, name: str, scores: dict[str, dict[str, torch.Tensor]], place: int) -> VideoResult:
        best: dict[str, dict[str, tuple[list[int], list[float]]]] = {row: {} for row in scores}
        for row, by_split in scores.items():
            for split in (split.name for split in self.plan.splits if name in split.names):
                values = by_split[split][place]
                if not values.isfinite().all():
                    return VideoResult(name, "failed", f"the model's scores are NaN or infinite ({row})")
                ids = values.sort(descending=True, stable=True).indices[:TOP].tolist()  # of equals the lower first
                best[row][split] = (ids, values[ids].tolist())
        return VideoResult(name, "ok", "", best)

    def pending_batches(self, log: EvaluationLog, retry_failed: bool = False) -> list[list[int]]:
        """
        The batches that are still to do, as numbers of videos.

        A batch is finished when all its videos are. A video whose file is new or changed is not finished.

        Args:
            log ([`EvaluationLog`]): the finished videos.
            retry_failed (`bool`, defaults to `False`): videos that could not be read are not finished.
        """

        def is_finished(video: VideoSample) -> bool:
            result = log.finished.get(video.name)
            if result is None or (retry_failed and result.status == "failed"):
                return False
            return file_stamp(video) in (None, result.stamp)

        numbers, size = range(len(self.plan.videos)), self.batch_size
        batches = [list(numbers[start : start + size]) for start in numbers[::size]]
        return [batch for batch in batches if not all(is_finished(self.plan.videos[number]) for number in batch)]

    def run(
        self, batches: Sequence[Sequence[int]], log: EvaluationLog, rank: int = 0, workers: int = 0
    ) -> Iterator[list[VideoResult]]:
        """Scores batches of video numbers, and appends the results to this rank's file of the log."""
        read: Any = partial(read_batch, videos=self.plan.videos, reader=self.reader)
        numbers: Any = range(len(self.plan.videos))
        loader = DataLoader(numbers, batch_sampler=batches, collate_fn=read, num_workers=workers)  # type: ignore[arg-type]
        with log.writer(rank) as append:
            for batch in loader:
                results = self.results_of(batch)
                append(results)
                yield results


def read_batch(
    numbers: Iterable[int], videos: Sequence[VideoSample], reader: VideoReader
) -> list[tuple[int, torch.Tensor | None, str]]:
    """The number of each video, all its views, and why it could not be read."""
    batch: list[tuple[int, torch.Tensor | None, str]] = []
    for number in numbers:
        try:
            batch.append((number, reader.read(videos[number].path)[0], ""))
        except VideoDecodingError as error:
            batch.append((number, None, f"{type(error).__name__}: {one_line(error)}"))
    return batch


def file_stamp(video: VideoSample) -> str | None:
    """Size and time of change of a video's file; `None` for an address or a missing file."""
    if is_url(video.path) or not os.path.isfile(video.path):
        return None
    status = os.stat(video.path)
    return f"{status.st_size}:{status.st_mtime_ns}"
