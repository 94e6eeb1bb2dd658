"""The arguments of a training, in groups: what is trained, on which videos, with which augmentation."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from packaging.version import Version
from transformers import TrainingArguments


METRICS = ("top1", "top5", "mean_class", "loss")


@dataclass
class ModelArguments:
    """What is trained."""

    model: str | None = field(default=None, metadata={"help": "CLIP or Vita-CLIP to start from: a folder or a Hub id."})
    revision: str | None = field(default=None, metadata={"help": "Its revision on the Hub."})
    fresh_prompts: bool = field(
        default=False, metadata={"help": "From a Vita-CLIP checkpoint, take only its CLIP; the prompts start anew."}
    )
    reset_classes: bool = field(
        default=False, metadata={"help": "Give a Vita-CLIP checkpoint the data's classes in place of its own."}
    )
    num_frames: int = field(default=8, metadata={"help": "Frames of a clip."})
    use_summary_prompt: bool = field(default=True, metadata={"help": "One prompt a frame that attends over frames."})
    use_local_prompts: bool = field(default=True, metadata={"help": "One learned prompt for each frame."})
    num_global_prompts: int = field(default=8, metadata={"help": "Learned prompts of the whole video."})
    train_cls_projection: bool = field(
        default=True, metadata={"help": "Train the projection of class tokens (paper), or not (released code)."}
    )
    num_context_tokens: int = field(default=16, metadata={"help": "Learned context tokens of a class prompt."})
    context_position: Literal["end", "front", "middle"] = field(
        default="end", metadata={"help": "Where the class name stands, seen from the context."}
    )
    class_specific_context: bool = field(default=True, metadata={"help": "One context a class, or one for all."})
    context_init: str | None = field(default=None, metadata={"help": "Words that contexts start from."})
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa, eager, flash_attention_2 …"})

    def __post_init__(self):
        for name, least in (("num_frames", 1), ("num_context_tokens", 1), ("num_global_prompts", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")


@dataclass
class DataArguments:
    """Which videos, and what is taken of each."""

    videos: str | None = field(
        default=None, metadata={"help": "Folder of videos; motion_shapes; or hub:ID of a datasets video dataset."}
    )
    annotations: str | None = field(
        default=None, metadata={"help": "List or official annotation files; without it, folders are the classes."}
    )
    classes: str | None = field(default=None, metadata={"help": "Class names: one a line, or id,name."})
    annotation_format: str = field(default="auto", metadata={"help": "Format of the annotations, if not recognised."})
    eval_videos: str | None = field(default=None, metadata={"help": "Folder of validation videos, if another one."})
    eval_annotations: str | None = field(default=None, metadata={"help": "List of validation videos, if another one."})
    split_camel_case: bool = field(default=False, metadata={"help": "ApplyEyeMakeup as Apply Eye Makeup."})
    class_subset: Literal["all", "base", "novel"] = field(
        default="all", metadata={"help": "All classes, the base ones (the first half) or the novel ones."}
    )
    shots: int | None = field(default=None, metadata={"help": "Training videos of each class, drawn by data_seed."})
    validation_share: float = field(
        default=0.0, metadata={"help": "Share of the training videos held back for validation where there are none."}
    )
    clips_per_class: int = field(default=64, metadata={"help": "Of motion_shapes: generated videos of each class."})
    label_column: str = field(default="label", metadata={"help": "Of a Hub dataset: the column with the class."})
    streaming: bool = field(default=False, metadata={"help": "Read a Hub dataset as a stream."})
    on_unreadable: Literal["error", "skip"] = field(
        default="error", metadata={"help": "error: stop at an unreadable video; skip: another one in its place."}
    )
    max_retries: int = field(default=10, metadata={"help": "Other videos tried in place of an unreadable one."})
    sampling: Literal["dense_random", "segment_random", "dense", "uniform"] = field(
        default="dense_random", metadata={"help": "Which frames a training clip takes."}
    )
    frame_stride: int = field(default=16, metadata={"help": "Distance of a dense clip's frames."})
    eval_sampling: Literal["dense", "uniform"] = field(
        default="dense", metadata={"help": "Which frames a validation clip takes."}
    )
    eval_views: int = field(default=1, metadata={"help": "Temporal views of a validation video."})
    eval_spatial_views: int = field(default=1, metadata={"help": "Spatial views of a validation video: 1 or 3."})


@dataclass
class AugmentationArguments:
    """What is done to training clips, alike to all frames of a clip."""

    rand_augment: str | None = field(default=None, metadata={"help": "timm's notation: rand-m7-n4-mstd0.5-inc1."})
    crop_scale: list[float] = field(default_factory=lambda: [0.08, 1.0], metadata={"help": "Area of random crops."})
    crop_ratio: list[float] = field(default_factory=lambda: [0.75, 4 / 3], metadata={"help": "Shape of random crops."})
    flip: float = field(default=0.0, metadata={"help": "Probability of a horizontal flip; 0 if left and right differ."})
    color_jitter: float = field(default=0.0, metadata={"help": "Strength of colour jitter."})
    erasing: float = field(default=0.0, metadata={"help": "Probability of random erasing."})
    mixup: float = field(default=0.0, metadata={"help": "Alpha of mixup."})
    cutmix: float = field(default=0.0, metadata={"help": "Alpha of cutmix."})
    mix_probability: float = field(default=1.0, metadata={"help": "Share of batches that are mixed."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Share of the label spread over all classes."})
    interpolation: Literal["bicubic", "bilinear"] = field(
        default="bicubic", metadata={"help": "How frames are resized."}
    )
    antialias: bool = field(default=True, metadata={"help": "Low-pass before downsizing; the released code does not."})
    shorter_side: int | None = field(
        default=None, metadata={"help": "Resize larger frames to this first: large videos augment much faster."}
    )


@dataclass
class VitaClipTrainingArguments(TrainingArguments):
    """
    transformers' `TrainingArguments`, and:

    Args:
        total_batch_size (`int`, *optional*):
            Videos of an optimizer step over all ranks and micro-batches. `gradient_accumulation_steps` follows from it,
            `per_device_train_batch_size` and the number of ranks.
        decay_all (`bool`, *optional*, defaults to `False`):
            Weight decay on every trained tensor, as in the released code, and not only on matrices.
        load_best_model_at_end (`bool`, *optional*):
            By default, wherever the validation follows the same rhythm as the checkpoints.
        prompts_only (`bool`, *optional*, defaults to `False`):
            Checkpoints hold what CLIP has not, and name their CLIP, instead of the whole model.
    """

    output_dir: str = field(default="runs/vita-clip", metadata={"help": "Folder of checkpoints and final model."})
    total_batch_size: int | None = field(
        default=None,
        metadata={"help": "Videos of an optimizer step over all ranks; sets gradient_accumulation_steps."},
    )
    decay_all: bool = field(default=False, metadata={"help": "Weight decay on vectors too, as in the released code."})
    load_best_model_at_end: bool | None = field(
        default=None, metadata={"help": "Keep the best model instead of the last (default: if there is validation)."}
    )
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Not here: a loss that is no number stops."})
    prompts_only: bool = field(default=False, metadata={"help": "Save the prompts alone, without CLIP's weights."})

    def __post_init__(self):
        self._check_values()
        if self.load_best_model_at_end is None:
            self.load_best_model_at_end = strategy_name(self.eval_strategy) == strategy_name(self.save_strategy) != "no"
        if self.metric_for_best_model is None and strategy_name(self.eval_strategy) != "no":  # type: ignore[has-type]
            self.metric_for_best_model = "top1"
        if self.save_total_limit is None:  # type: ignore[has-type]
            self.save_total_limit = 2  # the last one and the best one
        super().__post_init__()
        self.remove_unused_columns = False
        self.label_names = ["labels"]
        if self.ddp_find_unused_parameters is None:  # type: ignore[has-type]
            self.ddp_find_unused_parameters = False  # every trained tensor takes part in every synchronised backward
        if self.total_batch_size is not None:
            at_once = self.per_device_train_batch_size * self.world_size * max(1, self.n_gpu)
            if self.total_batch_size < 1 or self.total_batch_size % at_once:
                raise ValueError(
                    f"`total_batch_size` {self.total_batch_size} is not a multiple of {at_once} videos at once "
                    f"({self.per_device_train_batch_size} on each of {at_once // self.per_device_train_batch_size} "
                    "devices); change `per_device_train_batch_size`."
                )
            self.gradient_accumulation_steps = self.total_batch_size // at_once

    def _check_values(self) -> None:
        """What transformers would take, and then do something else than was meant."""
        if self.gradient_accumulation_steps < 1 or self.per_device_train_batch_size < 1:
            raise ValueError("`gradient_accumulation_steps` and `per_device_train_batch_size` must be at least 1.")
        if self.max_steps == 0:
            raise ValueError("`max_steps` 0 would train one step; leave it out, or give the number of steps.")
        metric = (self.metric_for_best_model or "top1").removeprefix("eval_")
        if metric not in METRICS:
            raise ValueError(f"`metric_for_best_model` must be one of {', '.join(METRICS)}, got {metric!r}.")
        if self.label_smoothing_factor:
            raise ValueError("`label_smoothing_factor` knows nothing of soft labels; use `label_smoothing`.")
        compiled = self.torch_compile or self.torch_compile_backend or self.torch_compile_mode
        if compiled and Version(torch.__version__) < Version("2.7"):
            raise ValueError(
                f"`torch_compile` needs torch 2.7 or newer, this is {torch.__version__}: older ones lose fields of "
                "transformers' outputs. Leave it out, or upgrade torch."
            )
        instead = {"resume_from_checkpoint": "resume", "push_to_hub": "conversion/publish.py", "deepspeed": "FSDP"}
        for name, other in instead.items():
            if getattr(self, name, None):
                raise ValueError(f"`{name}` is not used here; use {other}.")


def strategy_name(strategy: Any) -> str:
    return str(getattr(strategy, "value", strategy))
