"""Evaluation of a checkpoint under a protocol, on any number of processes. It goes on where it was interrupted.

Every video is decoded once. It is scored by the model and by the model's own frozen CLIP (prompts off). The whole list
is cut into batches before the ranks share them, and an unfinished batch is done again as a whole. The number of ranks
and interruptions therefore do not change a bit of the predictions on one kind of machine. Another batch size changes
the order of float32 sums, and with it scores by about 1e-6.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..data.annotations import AnnotationTable, VideoSample, is_url
from ..data.class_descriptions import texts_of_classes
from ..data.class_names import ClassIndex
from ..data.clip_dataset import ClipDataset
from ..data.configuration_files import ConfigurationFileError, read_recipe_beside
from ..loading.checkpoint import Checkpoint
from ..model.modeling_vita_clip import VitaClipModel
from ..model.video_reader import VideoReader
from ..model.zero_shot_classifier import (
    blend_features,
    build_zero_shot_classifier,
    checked_blend,
    embed_views,
    view_scores,
)
from .plan import EvaluationPlan, EvaluationSplit
from .progress_log import EvaluationLog, VideoResult
from .result_files import fingerprint_of_json
from .results_table import ROW_TITLES


ROWS = tuple(ROW_TITLES)
TOP = 5  # classes that are kept of each video
VOLATILE = ("_name_or_path", "transformers_version", "architectures", "dtype")  # no predictions depend on these
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class EvaluationError(ValueError):
    """A model and a protocol that do not fit together; the message is one line."""


class Evaluator:
    """
    Scores the videos of a plan with a checkpoint.

    Args:
        checkpoint ([`Checkpoint`]): the model to evaluate.
        plan ([`EvaluationPlan`]): protocol and videos.
        frozen_clip (`bool`, defaults to `True`): also evaluate the same CLIP without prompts.
        batch_size (`int`, defaults to 8): videos of a forward pass, each with all its views.
        max_seconds (`float`, *optional*): most time for decoding one video.
        blend (`float`, defaults to 0): weight of the frozen CLIP's features in the row `vita_clip`, 0 to 1.
        descriptions (`dict[str, tuple[str, ...]]`, *optional*): texts of each class in place of its name, for the plain
            text tower.
        device, dtype (*optional*): where and in which dtype the model runs; the checkpoint's model is moved there. By
            default it runs as it is.

    Raises:
        EvaluationError: a batch size below 1, a text that is too long, or, where the learned contexts classify, classes
            that the checkpoint does not have.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: EvaluationPlan,
        frozen_clip: bool = True,
        batch_size: int = 8,
        *,
        max_seconds: float | None = None,
        blend: float = 0.0,
        descriptions: dict[str, tuple[str, ...]] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if max_seconds is not None and not max_seconds > 0:
            raise EvaluationError(f"`max_seconds` must be positive, got {max_seconds}.")
        if batch_size < 1:
            raise EvaluationError(f"`batch_size` must be at least 1, got {batch_size}.")
        try:
            self.blend = checked_blend(blend)
        except ValueError as error:
            raise EvaluationError(str(error)) from error
        self.descriptions = descriptions
        self.checkpoint, self.plan, self.batch_size = checkpoint, plan, batch_size
        self.sha256 = checkpoint.fingerprint()  # of the weights as loaded, before they are rounded to `dtype`
        checkpoint.model.to(device=device, dtype=dtype)
        self.recipe = recipe_beside(checkpoint)
        video_processor = checkpoint.processor.video_processor
        self.protocol = plan.protocol.resolved(video_processor.clip_specification)
        self.rows = ROWS if frozen_clip else ROWS[:1]
        videos = AnnotationTable(plan.videos, plan.splits[0].table.class_names, "all splits")
        reader = VideoReader(video_processor, max_seconds=max_seconds, **vars(self.protocol.clip_specification))
        self.clips = ClipDataset(videos, reader, on_error="skip")
        self._splits_of: dict[str, list[str]] = {}
        for split in plan.splits:
            for sample in split.table.samples:
                self._splits_of.setdefault(sample.name, []).append(split.name)
        self._class_embeds = {split.name: self._embed_classes(split) for split in plan.splits}

    @property
    def warnings(self) -> list[str]:
        """Notes for the results: on the lists, and on how the checkpoint was trained."""
        shots, recipe = self.protocol.shots, self.recipe
        if shots is None or (recipe or {}).get("shots") == shots:
            return self.plan.warnings
        if recipe is None:
            found = "no recipe beside the checkpoint says how many it was trained on"
        else:
            found = f"the recipe beside the checkpoint says {recipe.get('shots') or 'all videos'}"
        return [*self.plan.warnings, f"the protocol says {shots} shots, but {found}"]

    def setup(self) -> dict:
        """Everything that the predictions depend on, as plain data for [`EvaluationLog`]."""
        return {
            "protocol": self.protocol.to_dict(),
            "limit": self.plan.limit,
            "rows": list(self.rows),
            "lists": {split.name: split.sha256 for split in self.plan.splits},
            "texts": {
                split.name: fingerprint_of_json(split.texts(self.protocol.spelling)) for split in self.plan.splits
            },
            "model": self.sha256,
            "processor": fingerprint_of_json(self.checkpoint.processor.video_processor.to_dict()),
            "config": config_fingerprint(self.checkpoint.model),
            "tokens": {split.name: self._tokens_fingerprint(split) for split in self.plan.splits},
            "dtype": str(self.checkpoint.model.dtype).removeprefix("torch."),
            **self.options(),
        }

    def options(self) -> dict[str, Any]:
        """Blend and the fingerprint of the descriptions, where they are used."""
        found: dict[str, Any] = {"blend": self.blend} if self.blend else {}
        return found | ({"descriptions": fingerprint_of_json(self.descriptions)} if self.descriptions else {})

    def _tokens_fingerprint(self, split: EvaluationSplit) -> str:
        """Of the texts' tokens: another tokenizer can stand beside the same weights."""
        texts = split.texts(self.protocol.spelling)
        tokenizer: Any = self.checkpoint.processor.tokenizer
        sentences = [template.replace("{}", text) for template in self.protocol.templates for text in texts]
        return fingerprint_of_json(tokenizer(sentences, verbose=False)["input_ids"])

    @torch.no_grad()
    def _embed_classes(self, split: EvaluationSplit) -> dict[str, torch.Tensor]:
        """Normalised class embeddings of each row, shape `(num_classes, projection_dim)`."""
        texts = split.texts(self.protocol.spelling)
        repeated = sorted({text for text in texts if texts.count(text) > 1})
        if repeated:
            raise EvaluationError(f"{split.table.source}: two classes are both spelled {repeated[0]!r}.")
        labels: Any = tuple(texts)
        if self.descriptions is not None:
            described = texts_of_classes(self.descriptions, split.table.class_names, "the class descriptions")
            labels = dict(zip(texts, described, strict=True))
        plain = self._embed_texts(labels)
        if split.text == "zero-shot":
            return dict.fromkeys(ROWS, plain)
        order = class_order(self.checkpoint.model, split)
        return {"vita_clip": self.checkpoint.model.get_class_embeds()[order], "frozen_clip": plain}

    def _embed_texts(self, texts: Any) -> torch.Tensor:
        try:
            return build_zero_shot_classifier(
                self.checkpoint.model, self.checkpoint.processor.tokenizer, texts, self.protocol.templates
            )
        except ValueError as error:  # a text longer than the tower takes
            raise EvaluationError(f"{self.protocol.name}: {error}") from error

    @torch.no_grad()
    def score(self, pixels: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
        """
        Softmax scores averaged over the views, by row and split.

        Args:
            pixels (`torch.Tensor` of shape `(batch_size, num_views, num_frames, 3, height, width)`):
                All views of each video.

        Returns:
            For each row and split, a `torch.Tensor` of shape `(batch_size, num_classes)`, float32 on the CPU.
        """
        model, embeds = self.checkpoint.model, {}
        for row in ROWS if self.blend else self.rows:
            with model.prompts_disabled() if row == "frozen_clip" else nullcontext():
                embeds[row] = embed_views(model, pixels)
        if self.blend:
            embeds["vita_clip"] = blend_features(embeds["vita_clip"], embeds["frozen_clip"], self.blend)
        return {
            row: {
                split: view_scores(model.compare(embeds[row], texts[row]), pixels.shape[1]).cpu()
                for split, texts in self._class_embeds.items()
            }
            for row in self.rows
        }

    def results_of(self, batch: Sequence[dict]) -> list[VideoResult]:
        """The results of a batch of [`ClipDataset`]'s samples, in the same order."""
        videos = self.plan.videos
        readable = [sample for sample in batch if "failures" not in sample]
        results = {sample["index"]: self._failure(sample) for sample in batch if "failures" in sample}
        if readable:
            scores = self.score(torch.stack([sample["pixel_values_videos"] for sample in readable]))
            for place, sample in enumerate(readable):
                results[sample["index"]] = self._result(videos[sample["index"]].name, scores, place)
        return [replace(results[sample["index"]], stamp=file_stamp(videos[sample["index"]])) for sample in batch]

    def _failure(self, sample: dict) -> VideoResult:
        video = self.plan.videos[sample["index"]]
        if is_missing(video):
            return VideoResult(video.name, "missing", "no such file")
        path, reason = sample["failures"][0]
        return VideoResult(video.name, "failed", reason.replace(path, video.name))

    def _result(self, name: str, scores: dict[str, dict[str, torch.Tensor]], place: int) -> VideoResult:
        best: dict[str, dict[str, tuple[list[int], list[float]]]] = {row: {} for row in scores}
        for row, by_split in scores.items():
            for split in self._splits_of[name]:
                values = by_split[split][place]
                if not torch.isfinite(values).all():
                    return VideoResult(name, "failed", f"the model's scores are NaN or infinite ({row})")
                ids = (
                    values.sort(descending=True, stable=True).indices[:TOP].tolist()
                )  # of equals the lower index first
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
        videos = self.plan.videos

        def is_finished(index: int) -> bool:
            result = log.finished.get(videos[index].name)
            if result is None:
                return False
            stamp = file_stamp(videos[index])
            if stamp is not None and stamp != result.stamp:
                return False
            return result.status != "failed" or not retry_failed

        indices = range(len(videos))
        batches = [list(indices[start : start + self.batch_size]) for start in indices[:: self.batch_size]]
        return [batch for batch in batches if not all(map(is_finished, batch))]

    def run(
        self, batches: Sequence[Sequence[int]], log: EvaluationLog, rank: int = 0, workers: int = 0
    ) -> Iterator[list[VideoResult]]:
        """Scores batches of video numbers, and appends the results to this rank's file of the log."""
        loader = DataLoader(self.clips, batch_sampler=batches, collate_fn=list, num_workers=workers)  # type: ignore[arg-type]
        with log.writer(rank) as writer:
            for batch in loader:
                results = log.numbered(self.results_of(batch))
                writer.append(results)
                yield results


def is_missing(video: VideoSample) -> bool:
    """Whether the video should be a file but there is none."""
    return not is_url(video.path) and not Path(video.path).is_file()


def file_stamp(video: VideoSample) -> str | None:
    """Size and time of change of a video's file; `None` for an address or a missing file."""
    if is_url(video.path) or is_missing(video):
        return None
    found = Path(video.path).stat()
    return f"{found.st_size}:{found.st_mtime_ns}"


def recipe_beside(checkpoint: Checkpoint) -> dict | None:
    """The recipe beside a checkpoint in a local folder: how it was trained; `None` if there is none.

    Raises:
        EvaluationError: a recipe that cannot be read.
    """
    try:
        return read_recipe_beside(checkpoint.name)
    except ConfigurationFileError as error:
        raise EvaluationError(str(error)) from error


def config_fingerprint(model: VitaClipModel) -> str:
    """Of the configuration: scores depend on its activations, its order of classes and more."""
    content = model.config.to_dict()
    return fingerprint_of_json({name: value for name, value in content.items() if name not in VOLATILE})


def class_order(model: VitaClipModel, split: EvaluationSplit) -> list[int]:
    """
    The checkpoint's class for each class of a list: by name, or by number if the checkpoint has no names.

    Raises:
        EvaluationError: another number of classes, or names that the checkpoint does not have.
    """
    own = [model.config.id2label[index] for index in range(model.config.num_labels)]
    names = split.table.class_names
    where = f"{split.table.source}, split {split.name}"
    advice = "evaluate with `text` zero-shot, or with a checkpoint trained on these classes"
    if len(own) != len(names):
        raise EvaluationError(f"{where}: {len(names)} classes, but the checkpoint was trained on {len(own)}; {advice}.")
    if all(name == f"LABEL_{index}" for index, name in enumerate(own)):
        return list(range(len(own)))
    index = ClassIndex(own, "the checkpoint")
    order = [index.find(name) for name in names]
    unknown = [name for name, found in zip(names, order, strict=True) if found is None]
    if unknown:
        raise EvaluationError(
            f"{where}: the checkpoint does not know {len(unknown)} classes, {unknown[0]!r} …; {advice}."
        )
    known = [found for found in order if found is not None]
    if len(set(known)) < len(known):
        raise EvaluationError(f"{where}: two classes are the same class of the checkpoint; {advice}.")
    return known


__all__ = ["EvaluationError", "Evaluator"]
