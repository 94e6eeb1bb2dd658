"""The arguments of a training, in groups: the model, the videos, the augmentation, the steps, the run."""

import inspect
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from packaging.version import Version
from transformers import TrainingArguments
from transformers.hf_argparser import HfArg
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.utils import logging

from ..model.configuration_vita_clip import CONTEXT_POSITIONS, PROMPT_FIELDS, VitaClipTextConfig, VitaClipVisionConfig
from ..model.machine import usable_cores


logger = logging.get_logger(__name__)

MOST_WORKERS = 16  # by default; each holds batches ready, which takes memory
CHOICES = {"context_position": CONTEXT_POSITIONS}
# Fields of `TrainingArguments` that change nothing in this training, or break it; and what to use instead.
REFUSED = {
    **dict.fromkeys(
        (
            *("accelerator_config", "auto_find_batch_size", "batch_eval_metrics", "bf16_full_eval", "debug"),
            *("dataloader_drop_last", "dataloader_in_order", "ddp_static_graph", "do_eval"),
            *("do_predict", "do_train", "enable_jit_checkpoint", "eval_do_concat_batches", "eval_use_gather_object"),
            *("fp16_full_eval", "hub_always_push", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy"),
            *("hub_token", "include_for_metrics", "include_num_input_tokens_seen", "label_names"),
            *("length_column_name", "liger_kernel_config", "logging_nan_inf_filter", "neftune_noise_alpha"),
            *("optim_args", "optim_target_modules", "parallelism_config", "prediction_loss_only"),
            *("remove_unused_columns", "restore_callback_states_from_checkpoint", "save_on_each_node", "use_cache"),
            *("train_sampling_strategy", "use_liger_kernel"),
        ),
        "the default",
    ),
    "resume_from_checkpoint": "`resume`",
    "push_to_hub": "`vitaclip publish`",
    "deepspeed": "FSDP",
    "label_smoothing_factor": "`label_smoothing`",
}
_CHECKPOINTINGS = ("activation_checkpointing", "gradient_checkpointing")  # the name changed within transformers 5
# Arguments that change nothing unless another one has one of these values.
NEEDED = {
    **{f"{what}_steps": (f"{what}_strategy", ("steps",)) for what in ("eval", "logging", "save")},
    **dict.fromkeys(
        ("eval_delay", "greater_is_better", "metric_for_best_model"), ("eval_strategy", ("epoch", "steps"))
    ),
    **{f"{name}_kwargs": (name, (True,)) for name in _CHECKPOINTINGS},
    "num_train_epochs": ("max_steps", (-1,)),
    "gradient_accumulation_steps": ("total_batch_size", (None,)),
}

# Values that follow the figures of validation videos.
FOLLOWING = {"lr_scheduler_type": ("reduce_lr_on_plateau", "greedy"), "save_strategy": ("best",)}


@dataclass
class _ModelArguments:
    """The model to train."""

    _argument_group_name = "model"

    model: str | None = HfArg(default=None, help="CLIP or Vita-CLIP to start from: a folder or an id on the Hub.")
    revision: str | None = HfArg(default=None, help="Revision of the model on the Hub.")
    fresh_prompts: bool = HfArg(default=False, help="Take only the CLIP of a Vita-CLIP, with new prompts.")
    reset_classes: bool = HfArg(default=False, help="Replace the classes of a Vita-CLIP by the data's.")
    attn_implementation: str | None = HfArg(default=None, help="sdpa, eager, flash_attention_2 …")


def _prompt_fields() -> Iterator[tuple[str, Any, Any]]:
    """The prompt settings of the two configurations, with the help from the docstrings there."""
    for part, config in (("vision_config", VitaClipVisionConfig), ("text_config", VitaClipTextConfig)):
        for item in fields(config):
            if item.name in PROMPT_FIELDS[part]:
                text = re.search(rf"^ *{item.name} \([^:]*\):(.*(?:\n {{8}}.*)*)", inspect.getdoc(config) or "", re.M)
                metadata: dict[str, Any] = {"help": " ".join(text[1].split()).replace("%", "%%") if text else ""}
                if item.name in CHOICES:
                    metadata["choices"] = CHOICES[item.name]
                yield item.name, item.type, HfArg(default=item.default, metadata=metadata)


if TYPE_CHECKING:

    class ModelArguments(_ModelArguments, VitaClipVisionConfig, VitaClipTextConfig):
        """The model to train, and the settings of its prompts."""

else:
    ModelArguments = make_dataclass(
        "ModelArguments",
        _prompt_fields(),
        bases=(_ModelArguments,),
        namespace={"__doc__": "The model to train, and the settings of its prompts.", "__module__": __name__},
    )


@dataclass
class DataArguments:
    """The videos, and the frames that are read of each."""

    _argument_group_name = "videos"

    videos: str | None = HfArg(default=None, help="A folder, or hub:ID of the Hub.")
    annotations: str | None = HfArg(default=None, help="List of videos, or official files. Without it, class folders.")
    classes: str | None = HfArg(default=None, help="File of class names: one a line, or lines of id,name.")
    annotation_format: str = HfArg(default="auto", help="Format of the annotations, where it is not recognised.")
    eval_videos: str | None = HfArg(default=None, help="Folder of the validation videos.")
    eval_annotations: str | None = HfArg(default=None, help="List of the validation videos.")
    split_camel_case: bool = HfArg(default=False, help="Write ApplyEyeMakeup as Apply Eye Makeup.")
    class_subset: Literal["all", "base", "novel"] = HfArg(
        default="all", help="Which classes; without class files, base and novel are halves of the list."
    )
    base_classes: str | None = HfArg(default=None, help="Class file of the base classes, such as hmdb51_base.txt.")
    novel_classes: str | None = HfArg(default=None, help="Class file of the novel classes, such as hmdb51_novel.txt.")
    shots: int | None = HfArg(default=None, help="Number of training videos of each class, drawn by data_seed.")
    validation_share: float = HfArg(default=0.0, help="Share held back where there is no validation split.")
    label_column: str = HfArg(default="label", help="hub:ID: the column with the class.")
    streaming: bool = HfArg(default=False, help="hub:ID: read the data set as a stream.")
    on_unreadable: Literal["error", "skip"] = HfArg(
        default="error", help="Stop at an unreadable video, or take another one (skip)."
    )
    max_retries: int = HfArg(default=10, help="Number of other videos tried in place of an unreadable one.")
    max_seconds: float | None = HfArg(default=None, help="Most time for decoding one video.")
    pixel_aspect: Literal["coded", "displayed"] = HfArg(
        default="coded", help="Pixels that are not square: as the file stores them, or as players show them."
    )
    sampling: Literal["dense_random", "segment_random", "dense", "uniform"] = HfArg(
        default="dense_random", help="Frames of a training clip."
    )
    frame_stride: int = HfArg(default=16, help="Distance between the frames of a dense clip.")
    eval_sampling: Literal["dense", "uniform"] = HfArg(
        default="dense", help="How the frames of a validation clip are chosen."
    )
    num_views: int = HfArg(default=1, help="Temporal views of a validation video.")
    num_spatial_views: int = HfArg(default=1, help="Spatial views of a validation video: 1 or 3.")


@dataclass
class AugmentationArguments:
    """The augmentation of training clips. All frames of a clip are changed in the same way."""

    _argument_group_name = "augmentation of training clips"

    rand_augment: str | None = HfArg(default=None, help="Such as rand-m7-n4-mstd0.5-inc1, timm's notation.")
    crop_scale: list[float] = HfArg(default_factory=lambda: [0.08, 1.0], help="Smallest and largest area of crops.")
    crop_ratio: list[float] = HfArg(default_factory=lambda: [0.75, 4 / 3], help="Least and largest aspect ratio.")
    flip: float = HfArg(default=0.0, help="Probability of a horizontal flip. Use 0 if left and right differ.")
    mixup: float = HfArg(default=0.0, help="Alpha of mixup.")
    cutmix: float = HfArg(default=0.0, help="Alpha of CutMix.")
    mix_probability: float = HfArg(default=1.0, help="Share of the batches that are mixed.")
    label_smoothing: float = HfArg(default=0.0, help="Share of the label spread over all classes.")
    interpolation: Literal["bicubic", "bilinear"] = HfArg(default="bicubic", help="Interpolation of resized frames.")
    antialias: bool = HfArg(default=True, help="Low-pass filter before downsizing. The released code has none.")
    shorter_side: int | None = HfArg(default=None, help="Shorter side that larger frames are resized to first. Faster.")


@dataclass
class VitaClipTrainingArguments(TrainingArguments):
    """
    transformers' `TrainingArguments`, and:

    Args:
        total_batch_size (`int`, *optional*):
            Videos of an optimizer step, over all ranks and micro-batches. `gradient_accumulation_steps` is computed
            from it and the number of ranks; `per_device_train_batch_size` is lowered to a number that divides it.
        decay_all (`bool`, *optional*, defaults to `False`):
            Whether every trained tensor has weight decay, as in the released code. By default only matrices have it.
        distillation_weight (`float`, *optional*, defaults to 0):
            Weight of the distance of the video features from those of the frozen CLIP (FROSTER, arXiv 2402.03241: 2).
        context_penalty (`float`, *optional*, defaults to 0):
            Weight of the distance of the class features from those of the plain names (KgCoOp, arXiv 2303.13283: 8).
        load_best_model_at_end (`bool`, *optional*):
            By default `True` where evaluations and checkpoints have the same strategy.
        dataloader_num_workers (`int`, *optional*):
            Decoding processes of a rank, 0 for none. By default the cores that the model leaves free: one where it
            computes on the CPU, else all of the rank but one, 16 at most. More than the rank has cores are never
            started, because they take the processor from each other and from the model.
        prompts_only (`bool`, *optional*, defaults to `False`):
            Whether checkpoints hold only the prompts and the name of their CLIP, instead of the whole model.
    """

    _argument_group_name = "training (transformers' TrainingArguments; and ours)"

    output_dir: str = HfArg(default="runs/vita-clip", help="Folder of the checkpoints and of the trained model.")
    total_batch_size: int | None = HfArg(default=None, help="Videos of an optimizer step over all ranks.")
    decay_all: bool = HfArg(default=False, help="Weight decay on every trained tensor, as in the released code.")
    distillation_weight: float = HfArg(default=0.0, help="Weight of the video features' distance from CLIP's.")
    context_penalty: float = HfArg(default=0.0, help="Weight of the class features' distance from plain names.")
    load_best_model_at_end: bool | None = HfArg(default=None, help="Keep the best model. Default: if validated.")
    dataloader_num_workers: int | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Decoding processes of a rank; by default the free cores."}
    )
    logging_nan_inf_filter: bool = HfArg(default=False, help="Unused: training stops when the loss is NaN or infinite.")
    save_total_limit: int | None = HfArg(default=2, help="Checkpoints to keep; by default the last and the best one.")
    remove_unused_columns: bool = HfArg(default=False, help="Unused: the data have no other columns.")
    prompts_only: bool = HfArg(default=False, help="Save the prompts alone, without the weights of CLIP.")

    def __post_init__(self):
        self._check_values()
        if self.load_best_model_at_end is None:
            self.load_best_model_at_end = self.eval_strategy == self.save_strategy != "no"
        if self.metric_for_best_model is None and self.eval_strategy != "no":  # type: ignore[has-type]
            self.metric_for_best_model = "top1"
        asked = self.dataloader_num_workers
        self.dataloader_num_workers = 1 if asked is None else asked  # a number, which transformers' own checks need
        super().__post_init__()
        if self.deepspeed_plugin is not None:  # of `accelerate launch --use_deepspeed`
            raise ValueError("`deepspeed` is not used here; use FSDP.")
        if self.n_gpu > 1:
            logger.warning(f"one of {self.n_gpu} GPUs trains; `accelerate launch -m vitaclip_hf.cli train …` uses all")
            self._n_gpu = 1  # DataParallel would divide the class embeddings among the GPUs
        if self.lr_scheduler_type in FOLLOWING["lr_scheduler_type"]:
            mode = {"mode": "max" if self.greater_is_better else "min"}
            self.lr_scheduler_kwargs = mode | (self.lr_scheduler_kwargs or {})  # type: ignore[has-type]
        self.dataloader_num_workers = loader_workers(asked, self.device)
        self.label_names = ["labels"]
        if self.fp16 and self.device.type == "cpu":
            raise ValueError("`fp16` changes nothing on a CPU; use `bf16` with `use_cpu`.")
        if self.ddp_find_unused_parameters is None:  # type: ignore[has-type]
            self.ddp_find_unused_parameters = False  # every synchronised backward pass uses every trained tensor
        if self.total_batch_size is not None:
            share, rest = divmod(self.total_batch_size, self.world_size)
            if share < 1 or rest:
                raise ValueError(
                    f"`total_batch_size` {self.total_batch_size} must be a multiple of {self.world_size} devices."
                )
            sizes = range(self.per_device_train_batch_size, 0, -1)  # type: ignore[has-type]
            self.per_device_train_batch_size = next(size for size in sizes if share % size == 0)
            self.gradient_accumulation_steps = share // self.per_device_train_batch_size

    def _check_values(self) -> None:
        """Refuses values that transformers accepts but does not honour."""
        for name in ("gradient_accumulation_steps", "per_device_train_batch_size", "eval_accumulation_steps"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ValueError(f"`{name}` must be at least 1, got {number}.")
        for name in ("distillation_weight", "context_penalty"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"`{name}` must be 0 or more, got {getattr(self, name)}.")
        if self.max_steps == 0:
            raise ValueError("`max_steps` 0 would train one step; leave it out, or give the number of steps.")
        compiled = self.torch_compile or self.torch_compile_backend or self.torch_compile_mode
        if compiled and Version(torch.__version__) < Version("2.7"):
            raise ValueError(
                f"`torch_compile` needs torch 2.7 or newer, this is {torch.__version__}: older versions lose fields of "
                "transformers' outputs. Leave it out, or upgrade torch."
            )
        # What transformers and we make of the defaults; `dataclasses.replace` gives it again.
        made = {"accelerator_config": AcceleratorConfig(), "debug": [], "label_names": ["labels"]}
        made["do_eval"] = self.eval_strategy != "no"
        for item in fields(self):
            default = item.default_factory() if callable(item.default_factory) else item.default
            if item.name in REFUSED and getattr(self, item.name) not in (default, made.get(item.name, default)):
                raise ValueError(f"`{item.name}` is not used here; use {REFUSED[item.name]}.")


def check_needed(names: Iterable[str], training: VitaClipTrainingArguments) -> None:
    """Raises `ValueError` if one of the named arguments changes nothing, because of the value of another one."""
    for name in NEEDED.keys() & names:
        other, values = NEEDED[name]
        value = getattr(training, other)
        if value not in values:
            text = f"`{name}` changes nothing while `{other}` is {getattr(value, 'value', value)}"
            wanted = "" if values == (None,) else f"pass `{other}` {' or '.join(map(str, values))} too, or "
            raise ValueError(f"{text}; {wanted}leave it out.")


def loader_workers(asked: int | None, device: torch.device) -> int:
    """
    Decoding processes of a rank.

    Args:
        asked (`int`, *optional*): the number in the arguments. More than the rank has cores are reduced to them, with a
            warning. The batches are the same for any number.
        device (`torch.device`): where the model computes. On the CPU it takes torch's own threads.
    """
    cores = max(usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)
    if asked is None:
        taken = torch.get_num_threads() if device.type == "cpu" else 1
        return min(max(cores - taken, 1), MOST_WORKERS)
    if asked > cores:
        logger.warning(f"`dataloader_num_workers` {asked}: a rank has {cores} cores, so {cores} workers are started")
    return min(asked, cores)


@dataclass
class RunArguments:
    """Switches of a run."""

    _argument_group_name = "run"

    resume: bool = HfArg(default=False, help="Continue from the last complete checkpoint in output_dir.")
    check_data: bool = HfArg(default=False, help="Decode every video, list what is wrong, and stop without training.")
    tensorboard: bool = HfArg(default=False, help="Write TensorBoard logs. Needs tensorboard.")


GROUPS = (ModelArguments, DataArguments, AugmentationArguments, RunArguments, VitaClipTrainingArguments)
NAMES = {item.name for group in GROUPS for item in fields(group) if item.init}
CHECKPOINTING = next(name for name in _CHECKPOINTINGS if name in NAMES)
