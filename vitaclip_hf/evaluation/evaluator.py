"""Evaluation of a checkpoint under a protocol, on any number of processes, going on where it was interrupted.

Every video is decoded once and scored by the model and, beside it, by its own frozen CLIP (prompts off). Batches are
cut from the whole list before they are dealt to the ranks, and a batch is either finished as a whole or done again:
so the number of ranks and interruptions change no bit of the predictions on one kind of machine. Another batch size
changes the order of float32 sums, and with it scores by some 1e-6.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..data import metrics
from ..data.annotations import AnnotationTable, is_url
from ..data.class_names import ClassIndex
from ..data.clip_dataset import ClipDataset
from ..data.configuration_files import ConfigurationFileError, read_recipe_beside
from ..model.checkpoint import Checkpoint
from ..model.frame_sampling import ClipSpecification
from ..model.modeling_vita_clip import VitaClipModel
from ..model.video_processing_vita_clip import VitaClipVideoProcessor
from ..model.zero_shot_classifier import build_zero_shot_classifier, embed_views, view_scores
from .log import EvaluationLog, VideoResult, fingerprint_of_json
from .plan import EvaluationPlan, EvaluationSplit
from .protocols import Protocol


ROWS = ("vita_clip", "frozen_clip")
TOP = 5
VOLATILE = ("_name_or_path", "transformers_version", "architectures", "dtype")  # of a configuration


class EvaluationError(ValueError):
    """A model and a protocol that do not fit together; the message is one line."""


def resolved(protocol: Protocol, processor: VitaClipVideoProcessor) -> Protocol:
    """The protocol with the processor's frames, stride and sampling where it names none."""
    return replace(
        protocol,
        frames=protocol.frames or processor.num_frames,
        stride=protocol.stride or processor.frame_stride,
        sampling=protocol.sampling or processor.sampling,
    )


def clips_of(plan: EvaluationPlan, protocol: Protocol, processor: VitaClipVideoProcessor) -> ClipDataset:
    """The views of a plan's videos, each video once; one that cannot be read comes with its failure."""
    table = AnnotationTable(plan.videos, plan.splits[0].table.class_names, "all splits")
    return ClipDataset(table, processor, specification_of(protocol), on_error="skip")


def specification_of(protocol: Protocol) -> ClipSpecification:
    """How a resolved protocol's videos are read."""
    return ClipSpecification(
        protocol.frames, protocol.sampling, protocol.stride, protocol.views, protocol.spatial_views
    )


def is_missing(video) -> bool:
    return not is_url(video.path) and not Path(video.path).is_file()


def stamp_of(video) -> str | None:
    """Size and time of change of a video's file; none for an address or a missing file."""
    if is_url(video.path) or is_missing(video):
        return None
    found = Path(video.path).stat()
    return f"{found.st_size}:{found.st_mtime_ns}"


class Evaluator:
    """
    A checkpoint's scores for the videos of a plan.

    Args:
        checkpoint: what is evaluated.
        plan: under which protocol, on which lists.
        frozen_clip: whether the same CLIP without prompts is evaluated beside it.
        batch_size: videos of a forward pass, each with all its views.

    Raises:
        EvaluationError: classes that the checkpoint does not have, where its learned contexts are to classify.
    """

    def __init__(self, checkpoint: Checkpoint, plan: EvaluationPlan, frozen_clip: bool = True, batch_size: int = 8):
        if batch_size < 1:
            raise EvaluationError(f"`batch_size` must be at least 1, got {batch_size}.")
        self.checkpoint, self.plan, self.batch_size = checkpoint, plan, batch_size
        self.sha256 = checkpoint.fingerprint()
        self.recipe = recipe_beside(checkpoint)
        self.protocol = resolved(plan.protocol, checkpoint.processor.video_processor)
        self.frames = self.protocol.frames or checkpoint.processor.video_processor.num_frames
        self.rows = ROWS if frozen_clip else ROWS[:1]
        self.clips = clips_of(plan, self.protocol, checkpoint.processor.video_processor)
        self._splits_of: dict[str, list[str]] = {}
        for split in plan.splits:
            for sample in split.table.samples:
                self._splits_of.setdefault(sample.name, []).append(split.name)
        self._class_embeds = {split.name: self._embed_classes(split) for split in plan.splits}

    @property
    def warnings(self) -> list[str]:
        """What is to be said beside the accuracies: of the lists, and of how the checkpoint was trained."""
        shots, trained = self.protocol.shots, self.recipe
        if shots is None or (trained or {}).get("shots") == shots:
            return self.plan.warnings
        if trained is None:
            told = "no recipe beside the checkpoint says how many it was trained on"
        else:
            told = f"the recipe beside the checkpoint says {trained.get('shots') or 'all videos'}"
        return [*self.plan.warnings, f"{shots} shots is the protocol's word: {told}"]

    def setup(self) -> dict:
        """Everything that the predictions depend on, as plain data."""
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
        }

    def _tokens_fingerprint(self, split: EvaluationSplit) -> str:
        """Of what the tokenizer makes of the texts: the same weights may come with another tokenizer."""
        texts = split.texts(self.protocol.spelling)
        tokenizer: Any = self.checkpoint.processor.tokenizer
        sentences = [template.replace("{}", text) for template in self.protocol.templates for text in texts]
        return fingerprint_of_json(tokenizer(sentences, verbose=False)["input_ids"])

    @torch.no_grad()
    def _embed_classes(self, split: EvaluationSplit) -> dict[str, torch.Tensor]:
        """Normalised class embeddings `[C, E]` of each row, made once."""
        texts = split.texts(self.protocol.spelling)
        repeated = sorted({text for text in texts if texts.count(text) > 1})
        if repeated:
            raise EvaluationError(f"{split.table.source}: two classes are both spelled {repeated[0]!r}.")
        plain = self._embed_texts(tuple(texts))
        if split.text == "zero-shot":
            return dict.fromkeys(ROWS, plain)
        order = class_order(self.checkpoint.model, split)
        return {"vita_clip": self.checkpoint.model.get_class_embeds()[order], "frozen_clip": plain}

    def _embed_texts(self, texts: tuple[str, ...]) -> torch.Tensor:
        try:
            return build_zero_shot_classifier(
                self.checkpoint.model, self.checkpoint.processor.tokenizer, texts, self.protocol.templates
            )
        except ValueError as error:  # a text longer than the tower takes
            raise EvaluationError(f"{self.protocol.name}: {error}") from error

    @torch.no_grad()
    def score(self, pixels: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
        """Softmax scores averaged over the views, by row and split.

        Args:
            pixels: `[B, V, T, 3, S, S]`.

        Returns:
            For each row and split, `[B, C]`, float32 on the CPU.
        """
        model, scores = self.checkpoint.model, {}
        for row in self.rows:
            with model.prompts_disabled() if row == "frozen_clip" else nullcontext():
                embeds = embed_views(model, pixels)
            scores[row] = {
                split: view_scores(model.compare(embeds, texts[row]), pixels.shape[1]).cpu()
                for split, texts in self._class_embeds.items()
            }
        return scores

    def results_of(self, batch: Sequence[dict]) -> list[VideoResult]:
        """What became of each video of a batch of [`ClipDataset`]'s samples, in its order."""
        readable = [sample for sample in batch if "failures" not in sample]
        results = {sample["index"]: self._failure(sample) for sample in batch if "failures" in sample}
        if readable:
            scores = self.score(torch.stack([sample["pixel_values_videos"] for sample in readable]))
            for place, sample in enumerate(readable):
                results[sample["index"]] = self._result(self.plan.videos[sample["index"]].name, scores, place)
        videos = self.plan.videos
        return [replace(results[sample["index"]], stamp=stamp_of(videos[sample["index"]])) for sample in batch]

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
                    return VideoResult(name, "failed", f"the model's scores are not numbers ({row})")
                ids = metrics.ranking(values[None].numpy(), TOP)[0].tolist()
                best[row][split] = (ids, values[ids].tolist())
        return VideoResult(name, "ok", "", best)

    def pending_batches(self, log: EvaluationLog, retry_failed: bool = False) -> list[list[int]]:
        """Batches that are not finished; files that have turned up or changed since count as not finished."""
        videos = self.plan.videos

        def is_finished(index: int) -> bool:
            result = log.finished.get(videos[index].name)
            if result is None:
                return False
            stamp = stamp_of(videos[index])
            if stamp is not None and stamp != result.stamp:
                return False
            return result.status != "failed" or not retry_failed

        indices = range(len(videos))
        batches = [list(indices[start : start + self.batch_size]) for start in indices[:: self.batch_size]]
        return [batch for batch in batches if not all(map(is_finished, batch))]

    def run(
        self, batches: Sequence[Sequence[int]], log: EvaluationLog, rank: int = 0, workers: int = 0
    ) -> Iterator[list[VideoResult]]:
        """Scores batches of video numbers and appends them to this rank's file of the log."""
        loader = DataLoader(self.clips, batch_sampler=batches, collate_fn=list, num_workers=workers)  # type: ignore[arg-type]
        with log.writer(rank) as writer:
            for batch in loader:
                results = log.numbered(self.results_of(batch))
                writer.append(results)
                yield results


def recipe_beside(checkpoint: Checkpoint) -> dict | None:
    """How the checkpoint was trained, if a recipe lies beside it in a folder here.

    Raises:
        EvaluationError: a recipe that cannot be read.
    """
    try:
        return read_recipe_beside(checkpoint.name)
    except ConfigurationFileError as error:
        raise EvaluationError(str(error)) from error


def config_fingerprint(model: VitaClipModel) -> str:
    """Of what the weights do not say and scores depend on: activations, the order of the classes …"""
    content = model.config.to_dict()
    return fingerprint_of_json({name: value for name, value in content.items() if name not in VOLATILE})


def class_order(model: VitaClipModel, split: EvaluationSplit) -> list[int]:
    """The checkpoint's class for each class of a list: by name, or by number where the checkpoint has no names.

    Raises:
        EvaluationError: another number of classes, or names that the checkpoint does not have.
    """
    own = [model.config.id2label[index] for index in range(model.config.num_labels)]
    names = split.table.class_names
    where = f"{split.table.source}, split {split.name}"
    advice = "evaluate with --text zero-shot, or with a checkpoint trained on these classes"
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
        raise EvaluationError(f"{where}: two classes are one and the same of the checkpoint; {advice}.")
    return known


__all__ = ["EvaluationError", "Evaluator"]
