"""From the videos of a training to batches: datasets of clips, augmentation, mixing, and their memory."""

from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset
from transformers.image_utils import PILImageResampling

from ..data.augmentation import ClipAugmentation, ClipMixer
from ..data.clip_dataset import ClipCollator, ClipDataset
from ..data.clip_stream import ClipStream
from ..model.frame_sampling import ClipSpecification
from ..model.processing_vita_clip import VitaClipProcessor
from .arguments import AugmentationArguments, DataArguments, VitaClipTrainingArguments
from .estimate import ready_batches
from .recipes import RecipeError
from .training_data import TrainingData


@dataclass
class ClipDatasets:
    """Datasets for the trainer, and the collator of their batches."""

    train: Dataset
    validation: Dataset | None
    collator: ClipCollator


def make_datasets(
    data: TrainingData,
    processor: VitaClipProcessor,
    augmentation: AugmentationArguments,
    num_frames: int,
    training: VitaClipTrainingArguments,
    skip_batches: int = 0,
) -> ClipDatasets:
    """
    Makes datasets of clips, with augmentation for training.

    The video processor gets the sampling of the evaluation and the resizing of the training, so that whoever loads the
    checkpoint has the same.

    Args:
        data ([`TrainingData`]): the videos.
        processor ([`VitaClipProcessor`]): of the model.
        augmentation (`AugmentationArguments`): of training clips.
        num_frames (`int`): frames of a clip.
        training ([`VitaClipTrainingArguments`]): batch sizes and ranks.
        skip_batches (`int`, *optional*, defaults to 0): batches of a stream that a resumed run has seen.

    Returns:
        `ClipDatasets`

    Raises:
        RecipeError: mixing of single videos, or an augmentation that does not fit.
    """
    if (augmentation.mixup or augmentation.cutmix) and training.per_device_train_batch_size < 2:
        raise RecipeError(
            "`mixup` and `cutmix` mix the videos of a batch: `per_device_train_batch_size` must be 2 or more"
        )
    arguments, video_processor = data.arguments, processor.video_processor
    augment = make_augmentation(augmentation, video_processor.crop_size["height"])
    video_processor.sampling, video_processor.frame_stride = arguments.eval_sampling, arguments.frame_stride
    video_processor.resample = PILImageResampling[augmentation.interpolation.upper()]
    video_processor.antialias = augmentation.antialias
    stride = arguments.frame_stride
    clip = ClipSpecification(num_frames, arguments.sampling, stride)
    views = ClipSpecification(
        num_frames, arguments.eval_sampling, stride, arguments.eval_views, arguments.eval_spatial_views
    )
    common: dict[str, Any] = {
        "seed": data.seed, "on_error": arguments.on_unreadable, "max_retries": arguments.max_retries,
        "max_seconds": arguments.max_seconds,
    }  # fmt: skip
    train: dict[str, Any] = {"augmentation": augment}
    validation: dict[str, Any] = {}
    kind: Any = ClipDataset
    if arguments.streaming:
        kind = ClipStream
        common |= {"rank": training.process_index, "world_size": training.world_size}
        common |= {"class_names": data.class_names, "label_column": arguments.label_column}
        train |= {"batch_size": training.per_device_train_batch_size, "skip_batches": skip_batches}
        validation |= {"batch_size": training.per_device_eval_batch_size}
    return ClipDatasets(
        kind(data.train, video_processor, clip, **train, **common),
        None if data.validation is None else kind(data.validation, video_processor, views, **validation, **common),
        ClipCollator(make_mixer(augmentation, len(data.class_names))),
    )


def make_augmentation(arguments: AugmentationArguments, side: int) -> ClipAugmentation:
    """The augmentation of clips that the arguments describe. The frames become `side` pixels wide and high."""
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
        raise RecipeError(f"`{name}` takes two numbers, the smallest and the largest, got {values}")
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


def check_batch_memory(
    num_frames: int, side: int, arguments: DataArguments, training: VitaClipTrainingArguments
) -> None:
    """
    Checks that the batches fit into memory, with those that workers prepare. Only their pixels are counted.

    Raises:
        RecipeError: they do not fit.
    """
    import psutil  # of the extra `train`

    ready = 1 + ready_batches(training)
    views = arguments.eval_views * arguments.eval_spatial_views
    clips = max(training.per_device_train_batch_size, training.per_device_eval_batch_size * views)
    needed, free = clips * num_frames * 3 * side * side * 4 * ready, psutil.virtual_memory().available
    if needed > free:
        raise RecipeError(
            f"batches of {clips} clips of {num_frames} frames of {side} x {side} pixels, {ready} at a time, take "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free; lower "
            "`per_device_train_batch_size`, `num_frames`, `eval_views` or `dataloader_num_workers`"
        )
