"""From the videos of a training to batches: datasets of clips, augmentation and mixing."""

import re
from typing import Any

from transformers.utils import logging

from ..data.augmentation import ClipAugmentation, ClipMixer
from ..data.class_names import spell_class_name
from ..data.clip_dataset import ClipCollator, ClipDataset
from ..data.clip_stream import ClipStream
from ..model.video_inputs import VideoReader
from ..model.video_processing_vita_clip import VitaClipVideoProcessor
from .arguments import AugmentationArguments, VitaClipTrainingArguments
from .training_data import TrainingData


logger = logging.get_logger(__name__)
SIDED = re.compile(r"\b(left|right|forwards?|backwards?|back)\b", re.IGNORECASE)  # mirrored, they would be wrong


def warn_of_directions(class_names: list[str], flip: float) -> None:
    """Names classes that mirrored clips could belie."""
    sided = [name for name in class_names if flip and SIDED.search(spell_class_name(name))]
    if sided:
        text = f"clips are mirrored (`flip` {flip:g}), but {len(sided)} classes name a direction"
        logger.warning(f"{text}, such as {sided[0]!r:.100}; pass `flip` 0 if left and right differ in them")


def make_datasets(
    data: TrainingData,
    video_processor: VitaClipVideoProcessor,
    augmentation: AugmentationArguments,
    training: VitaClipTrainingArguments,
    skip_batches: int = 0,
) -> tuple[Any, Any, ClipCollator]:
    """
    Makes datasets of clips, with augmentation for training.

    Args:
        data ([`TrainingData`]): the videos.
        video_processor ([`VitaClipVideoProcessor`]): of the model, with the settings of the evaluation.
        augmentation (`AugmentationArguments`): of training clips.
        training ([`VitaClipTrainingArguments`]): batch sizes and ranks.
        skip_batches (`int`, *optional*, defaults to 0): batches of a stream that a resumed run has seen.

    Returns:
        `tuple`: training and validation (perhaps `None`), and the collator of their batches.

    Raises:
        ValueError: mixing of single videos, or an augmentation that does not fit.
    """
    warn_of_directions(data.class_names, augmentation.flip)
    if (augmentation.mixup or augmentation.cutmix) and training.per_device_train_batch_size < 2:
        raise ValueError(
            "`mixup` and `cutmix` mix the videos of a batch: `per_device_train_batch_size` must be 2 or more"
        )
    arguments = data.arguments
    names = ("frame_stride", "max_seconds", "pixel_aspect")
    settings: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    clip = VideoReader(video_processor, sampling=arguments.sampling, num_views=1, num_spatial_views=1, **settings)
    settings |= {"num_views": arguments.num_views, "num_spatial_views": arguments.num_spatial_views}
    views = VideoReader(video_processor, sampling=arguments.eval_sampling, **settings)
    common: dict[str, Any] = {
        "seed": data.seed,
        "on_error": arguments.on_unreadable,
        "max_retries": arguments.max_retries,
    }
    train: dict[str, Any] = {"augmentation": make_augmentation(augmentation, video_processor)}
    validation: dict[str, Any] = {}
    kind: Any = ClipDataset
    if arguments.streaming:
        kind = ClipStream
        common |= {"rank": training.process_index, "world_size": training.world_size}
        common |= {"class_names": data.class_names, "label_column": arguments.label_column}
        train |= {"batch_size": training.per_device_train_batch_size, "skip_batches": skip_batches}
        validation |= {"batch_size": training.per_device_eval_batch_size}
    return (
        kind(data.train, clip, **train, **common),
        None if data.validation is None else kind(data.validation, views, **validation, **common),
        ClipCollator(make_mixer(augmentation, len(data.class_names))),
    )


def make_augmentation(arguments: AugmentationArguments, video_processor: VitaClipVideoProcessor) -> ClipAugmentation:
    """The augmentation of clips that the arguments describe, in the processor's size and normalisation."""
    names = ("rand_augment", "flip", "antialias", "shorter_side")
    return ClipAugmentation(
        video_processor.crop_size["height"],
        mean=tuple(video_processor.image_mean),
        std=tuple(video_processor.image_std),
        scale=arguments.crop_scale,
        ratio=arguments.crop_ratio,
        resample=arguments.interpolation,
        **{name: getattr(arguments, name) for name in names},
    )


def make_mixer(arguments: AugmentationArguments, num_classes: int) -> ClipMixer | None:
    """Mixup, cutmix and label smoothing, or `None` if none is asked for."""
    values = {name: getattr(arguments, name) for name in ("mixup", "cutmix", "label_smoothing")}
    return ClipMixer(num_classes, probability=arguments.mix_probability, **values) if any(values.values()) else None
