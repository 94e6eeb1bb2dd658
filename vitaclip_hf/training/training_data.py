"""From data arguments to the datasets of a training: which videos, what becomes of them, what is recorded of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import psutil
from torch.utils.data import Dataset
from transformers.image_utils import PILImageResampling
from transformers.utils import logging

from ..data.annotation_formats import SPLIT_WORDS, SPLITS
from ..data.annotations import AnnotationTable, read_annotations
from ..data.augmentation import ClipAugmentation, ClipMixer
from ..data.class_names import spell_class_name
from ..data.clip_dataset import ClipCollator, ClipDataset
from ..data.clip_stream import ClipStream
from ..data.video_sources import HubVideos, MotionShapes
from ..model.frame_sampling import ClipSpecification
from ..model.processing_vita_clip import VitaClipProcessor
from .arguments import AugmentationArguments, DataArguments, VitaClipTrainingArguments
from .recipes import GENERATED, RecipeError


logger = logging.get_logger(__name__)

HUB_PREFIX = "hub:"
SUBSETS = ("base", "novel")

# Fields that a source of videos cannot honour, and why.
_FILES_ONLY = ("annotations", "classes", "annotation_format", "eval_videos", "eval_annotations")
_OF_HUB = dict.fromkeys(_FILES_ONLY, "a datasets data set has its own classes, labels and splits")
_OF_HUB |= {"clips_per_class": "only motion_shapes is generated"}
_OF_STREAM = dict.fromkeys(("shots", "class_subset"), "nothing can be selected from a stream (drop --streaming)")
_OF_GENERATED = dict.fromkeys((*_FILES_ONLY, "label_column"), "motion_shapes is generated with its labels")
_OF_GENERATED |= dict.fromkeys(("class_subset", "validation_share"), "motion_shapes has its own classes and validation")
_OF_GENERATED |= {"shots": "motion_shapes has as many videos as --clips_per_class says"}
NOT_HONOURED = {
    "files": {"clips_per_class": "only motion_shapes is generated", "label_column": "it is of datasets data sets"},
    "hub": _OF_HUB,
    "stream": _OF_HUB | _OF_STREAM,
    "generated": _OF_GENERATED,
}


@dataclass
class ClipDatasets:
    """Datasets for the trainer, and the collator of their batches."""

    train: Dataset
    validation: Dataset | None
    collator: ClipCollator


@dataclass
class TrainingData:
    """The videos of a training, before anything is decoded.

    Args:
        train: a table, generated videos, or a data set of the Hub.
        validation: likewise; `None` if there are none.
        class_names: as they enter the class prompts, in the order of the labels.
        arguments: what was asked for.
        validation_from: where the validation videos come from; `"test"` must choose no model.
        seed: of draws and selections.
    """

    train: Any
    validation: Any
    class_names: list[str]
    arguments: DataArguments
    validation_from: str | None
    seed: int

    @property
    def tables(self) -> list[AnnotationTable | HubVideos]:
        """Parts whose videos `check_data` can look at."""
        return [part for part in (self.train, self.validation) if isinstance(part, (AnnotationTable, HubVideos))]

    def record(self) -> dict[str, Any]:
        """What a result must say of its data."""
        parts = {"train": self.train, "validation": self.validation}
        names = hashlib.sha256("\n".join(self.class_names).encode()).hexdigest()
        return {
            "classes": len(self.class_names),
            "validation_from": self.validation_from,
            "class_names_sha256": names,
            **{name: _described(part) for name, part in parts.items() if part is not None},
        }

    def datasets(
        self,
        processor: VitaClipProcessor,
        augmentation: AugmentationArguments,
        num_frames: int,
        training: VitaClipTrainingArguments,
        skip_batches: int = 0,
    ) -> ClipDatasets:
        """Datasets of clips, with augmentation for training."""
        arguments, video_processor = self.arguments, processor.video_processor
        augment = make_augmentation(augmentation, video_processor.crop_size["height"])
        # Everybody who loads the checkpoint samples as its evaluation does and resizes as its training did.
        video_processor.sampling, video_processor.frame_stride = arguments.eval_sampling, arguments.frame_stride
        video_processor.resample = PILImageResampling[augmentation.interpolation.upper()]
        video_processor.antialias = augmentation.antialias
        stride = arguments.frame_stride
        common: dict[str, Any] = {"on_error": arguments.on_unreadable, "max_retries": arguments.max_retries}
        common |= {"seed": self.seed}
        clip = ClipSpecification(num_frames, arguments.sampling, stride)
        views = ClipSpecification(
            num_frames, arguments.eval_sampling, stride, arguments.eval_views, arguments.eval_spatial_views
        )
        train, validation = self.train, self.validation
        if arguments.streaming:
            ranks: dict[str, Any] = {"rank": training.process_index, "world_size": training.world_size}
            ranks |= {"class_names": self.class_names, "label_column": arguments.label_column}
            size = training.per_device_train_batch_size
            train = ClipStream(
                train,
                video_processor,
                clip,
                batch_size=size,
                skip_batches=skip_batches,
                augmentation=augment,
                **common,
                **ranks,
            )
            if validation is not None:
                size = training.per_device_eval_batch_size
                validation = ClipStream(validation, video_processor, views, batch_size=size, **common, **ranks)
        else:
            train = ClipDataset(train, video_processor, clip, augmentation=augment, **common)
            if validation is not None:
                validation = ClipDataset(validation, video_processor, views, **common)
        mixer = make_mixer(augmentation, len(self.class_names))
        if (augmentation.mixup or augmentation.cutmix) and training.per_device_train_batch_size < 2:
            raise RecipeError(
                "mixup and cutmix mix the videos of a batch: per_device_train_batch_size must be 2 or more"
            )
        return ClipDatasets(train, validation, ClipCollator(mixer))


def _described(part: Any) -> dict[str, Any]:
    if isinstance(part, AnnotationTable):
        return {"source": part.source, "videos": len(part), "sha256": part.sha256}
    if isinstance(part, MotionShapes):
        return {"source": GENERATED, "videos": len(part), "seed": part.seed, "clips_per_class": part.clips_per_class}
    dataset = part.dataset if isinstance(part, HubVideos) else part
    described = {"source": "datasets", "fingerprint": getattr(dataset, "_fingerprint", None)}
    return described | ({"videos": len(part), "sha256": part.table.sha256} if isinstance(part, HubVideos) else {})


def make_augmentation(arguments: AugmentationArguments, side: int) -> ClipAugmentation:
    """The clip augmentation that the arguments describe, to frames of `side` pixels."""
    return ClipAugmentation(
        side,
        rand_augment=arguments.rand_augment,
        scale=_pair("crop_scale", arguments.crop_scale),
        ratio=_pair("crop_ratio", arguments.crop_ratio),
        flip=arguments.flip,
        color_jitter=arguments.color_jitter,
        erasing=arguments.erasing,
        resample=arguments.interpolation,
        antialias=arguments.antialias,
        shorter_side=arguments.shorter_side,
    )


def _pair(name: str, values: list[float]) -> tuple[float, float]:
    if len(values) != 2:
        raise RecipeError(f"--{name} takes two numbers, the smallest and the largest, got {values}")
    return values[0], values[1]


def make_mixer(arguments: AugmentationArguments, num_classes: int) -> ClipMixer | None:
    """Mixup, cutmix and label smoothing, or `None` if none is asked for."""
    if not (arguments.mixup or arguments.cutmix or arguments.label_smoothing):
        return None
    return ClipMixer(
        num_classes,
        mixup=arguments.mixup,
        cutmix=arguments.cutmix,
        probability=arguments.mix_probability,
        label_smoothing=arguments.label_smoothing,
    )


def read_training_data(arguments: DataArguments, seed: int) -> TrainingData:
    """Finds the videos and their classes.

    Raises:
        RecipeError: no videos named, an unknown choice, or a field that such videos cannot honour.
        AnnotationError: annotations that cannot be used, or no videos.
    """
    if arguments.streaming and not (arguments.videos or "").startswith(HUB_PREFIX):
        raise RecipeError("--streaming is for data sets of the Hub (--videos hub:ID)")
    if arguments.videos is None:
        raise RecipeError("no videos to train on; pass --videos with a folder (or motion_shapes, or hub:ID)")
    if not 0 <= arguments.validation_share < 1:
        raise RecipeError(f"--validation_share must be in 0 … 1, got {arguments.validation_share}")
    _check_honoured(arguments, arguments.videos)
    validation_from: str | None = "validation"
    if arguments.videos == GENERATED:
        train: Any = MotionShapes(held_out=False, clips_per_class=arguments.clips_per_class, seed=seed)
        validation: Any = MotionShapes(held_out=False, clips_per_class=1, seed=seed + 1)
        names: Sequence[str] = train.class_names
    elif arguments.videos.startswith(HUB_PREFIX):
        train, validation, validation_from, names = _read_hub(arguments, arguments.videos, seed)
    else:
        train, validation, validation_from = read_tables(arguments, arguments.videos, seed)
        names = train.class_names
    if len(names) < 2:
        raise RecipeError(
            f"--videos {arguments.videos}: only one class, {names[0]!r}; if that folder holds the class folders, pass "
            "it as --videos"
        )
    if arguments.split_camel_case:
        names = [spell_class_name(name) for name in names]
    return TrainingData(train, validation, list(names), arguments, validation_from, seed)


def _check_honoured(arguments: DataArguments, videos: str) -> None:
    """A field that would change nothing is an error, whether the command line or the recipe sets it."""
    kind = "generated" if videos == GENERATED else "hub" if videos.startswith(HUB_PREFIX) else "files"
    not_honoured = NOT_HONOURED["stream" if arguments.streaming else kind]
    for item in fields(arguments):
        value = getattr(arguments, item.name)
        if item.name in not_honoured and value != item.default:
            raise _not_honoured(videos, item.name, value, not_honoured[item.name], item.default)


def _not_honoured(videos: str, name: str, value: Any, reason: str, default: Any) -> RecipeError:
    leave = "leave it out, of the recipe too" + ("" if default is None else f", or pass --{name} {default}")
    return RecipeError(f"--{name} {value} does not go with --videos {videos}: {reason}; {leave}")


def read_tables(
    arguments: DataArguments, videos: str, seed: int
) -> tuple[AnnotationTable, AnnotationTable | None, str | None]:
    """Training and validation videos of a folder or of annotation files, and where the latter come from.

    Validation is, in this order: what the arguments name, the `validation` split, a share of the training videos if one
    is asked for, the `test` split, or nothing.
    """
    table = read_annotations(videos, arguments.annotations, arguments.classes, format=arguments.annotation_format)
    _training_classes(arguments, table).require_videos()
    train, validation, source = _selected(arguments, videos, table, seed)
    if validation is not None:
        validation.require_videos()
    return train, validation, source


def _training_classes(arguments: DataArguments, table: AnnotationTable) -> AnnotationTable:
    train = table.split("train")
    return train if arguments.class_subset == "all" else train.base_to_novel()[SUBSETS.index(arguments.class_subset)]


def _selected(
    arguments: DataArguments, videos: str, table: AnnotationTable, seed: int
) -> tuple[AnnotationTable, AnnotationTable | None, str | None]:
    """Training and validation videos of a table with all splits, and where the latter come from."""
    train = _training_classes(arguments, table)
    train, validation, source = _with_validation(arguments, videos, table, train, seed)
    if arguments.shots is not None:
        train = train.few_shot(arguments.shots, seed)
    empty = [name for name, count in zip(train.class_names, train.counts(), strict=True) if not count]
    if empty:
        logger.warning(f"{len(empty)} classes have no training videos: {', '.join(empty[:10])}")
    return train, validation, source


def _with_validation(
    arguments: DataArguments, videos: str, table: AnnotationTable, train: AnnotationTable, seed: int
) -> tuple[AnnotationTable, AnnotationTable | None, str | None]:
    if arguments.eval_annotations is not None or arguments.eval_videos is not None:
        folder = arguments.eval_videos or videos
        named = read_annotations(
            folder, arguments.eval_annotations, table.class_names, format=arguments.annotation_format
        )
        splits = {sample.split for sample in named.samples}
        return train, named.split(*splits).with_classes(train.class_names), "given"
    for split in ("validation", "test"):
        if split == "test" and arguments.validation_share:
            train, held_back = hold_back(train, arguments.validation_share, seed)
            return train, held_back if len(held_back) else None, "held back"
        if any(sample.split == split and sample.label is not None for sample in table.samples):
            return train, table.split(split).with_classes(train.class_names), split
    return train, None, None


def hold_back(table: AnnotationTable, share: float, seed: int) -> tuple[AnnotationTable, AnnotationTable]:
    """A training table without `share` of each class's videos, and those as validation. A class of one video keeps it.

    Which ones is decided by a hash of seed and listed path, not by the order of the list.
    """
    by_class: dict[int | None, list] = {}
    for sample in table.samples:
        by_class.setdefault(sample.label, []).append(sample)
    held = set()
    for samples in by_class.values():
        ranked = sorted(samples, key=lambda sample: hashlib.sha256(f"{seed}/{sample.name}".encode()).hexdigest())
        held.update(ranked[: min(max(1, round(share * len(samples))), len(samples) - 1)])  # one at least stays
    kept = tuple(sample for sample in table.samples if sample not in held)
    validation = tuple(replace(sample, split="validation") for sample in table.samples if sample in held)
    return replace(table, samples=kept), replace(table, samples=validation)


def _read_hub(arguments: DataArguments, videos: str, seed: int) -> tuple[Any, Any, str | None, Sequence[str]]:
    """A `datasets` data set by its id, or by a folder that `datasets` reads."""
    import datasets

    loaded = _by_known_names(datasets.load_dataset(videos.removeprefix(HUB_PREFIX), streaming=arguments.streaming))
    if "train" not in loaded:
        raise RecipeError(f"--videos {videos}: no train split, only {', '.join(loaded)}")
    if arguments.streaming:
        return _streams(arguments, videos, loaded)
    train, validation, source = _select_from_hub(arguments, videos, loaded, seed)
    return train, validation, source, train.class_names


def _by_known_names(splits: Mapping[str, Any]) -> dict[str, Any]:
    """The splits of a data set, `val` and the like under the name `validation`; one that has the name itself wins."""
    return {SPLIT_WORDS.get(name.lower(), name): part for name, part in splits.items()} | dict(splits)


def _streams(arguments: DataArguments, videos: str, loaded: Any) -> tuple[Any, Any, str | None, Sequence[str]]:
    label = (loaded["train"].features or {}).get(arguments.label_column)
    names = list(getattr(label, "names", None) or [])
    if not names:
        raise RecipeError(f"--videos {videos}: a stream needs a ClassLabel column with the class names")
    if arguments.validation_share and "validation" not in loaded:
        reason = "nothing can be held back from a stream (drop --streaming)"
        raise _not_honoured(videos, "validation_share", arguments.validation_share, reason, 0)
    split = next((split for split in ("validation", "test") if split in loaded), None)
    return loaded["train"], None if split is None else loaded[split], split, names


def _select_from_hub(
    arguments: DataArguments, videos: str, loaded: Any, seed: int
) -> tuple[HubVideos, HubVideos | None, str | None]:
    """The rules of `read_tables`, for the splits of a data set."""
    folder = videos.removeprefix(HUB_PREFIX)
    options: dict[str, Any] = {"label_column": arguments.label_column, "source": videos}
    options |= {"root": folder if Path(folder).is_dir() else None}
    parts = {"train": HubVideos(loaded["train"], split="train", **options)}
    for split in SPLITS[1:]:
        if split in loaded:
            names = parts["train"].class_names
            parts[split] = HubVideos(loaded[split], split=split, class_names=names, **options)
    samples = tuple(sample for part in parts.values() for sample in part.table.samples)
    table = replace(parts["train"].table, samples=samples)
    train, validation, source = _selected(arguments, videos, table, seed)
    if validation is None or source is None:
        return parts["train"].select(train), None, source
    held_in = "train" if source == "held back" else source
    return parts["train"].select(train), parts[held_in].select(validation), source


def check_batch_memory(
    num_frames: int, side: int, arguments: DataArguments, training: VitaClipTrainingArguments
) -> None:
    """Batches of pixels alone, those that workers keep ready included, must fit into memory.

    Raises:
        RecipeError: they do not.
    """
    workers = training.dataloader_num_workers
    ready = 1 + workers * (training.dataloader_prefetch_factor or 2)
    views = arguments.eval_views * arguments.eval_spatial_views
    clips = max(training.per_device_train_batch_size, training.per_device_eval_batch_size * views)
    needed, free = clips * num_frames * 3 * side * side * 4 * ready, psutil.virtual_memory().available
    if needed > free:
        raise RecipeError(
            f"batches of {clips} clips of {num_frames} frames of {side} x {side} pixels, {ready} at a time, take "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free; lower "
            "per_device_train_batch_size, num_frames, eval_views or dataloader_num_workers"
        )


__all__ = ["ClipDatasets", "TrainingData", "check_batch_memory", "hold_back", "read_tables", "read_training_data"]
