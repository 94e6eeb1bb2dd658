"""What a training takes in steps, memory and disk, as far as it is known before its first step."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.trainer_callback import TrainerState

from ..model.modeling_vita_clip import VitaClipModel
from .arguments import VitaClipTrainingArguments, strategy_name


# Values that a layer keeps of each token for the backward pass, as multiples of the width. Counted on ViT-B/16: 9.7 in
# the video tower and 9.5 in the text tower; in bytes about the same with autocast, which keeps some values twice.
KEPT_VALUES = 10


@dataclass(frozen=True)
class TrainingEstimate:
    """
    Args:
        steps (`int`): optimizer steps still to do.
        videos (`int`): videos of a step, over all ranks.
        trained (`int`): parameters that train.
        parameters (`int`): all parameters.
        memory (`int`, *optional*): least bytes on the device of a rank. `None` with FSDP, which divides the weights.
        free_memory (`int`, *optional*): bytes free there.
        disk (`int`): most bytes that checkpoints and the final model take at a time.
        free_disk (`int`): bytes free where they are written.
    """

    steps: int
    videos: int
    trained: int
    parameters: int
    memory: int | None
    free_memory: int | None
    disk: int
    free_disk: int

    def summary(self) -> str:
        """One line, before the first step."""
        memory = "memory not estimated with FSDP"
        if self.memory is not None:
            memory = f"memory at least {in_units(self.memory)}{_of(self.free_memory)}"
        return (
            f"{self.steps:,} steps of {self.videos:,} videos; {self.trained:,} of {self.parameters:,} parameters "
            f"train; {memory}; disk up to {in_units(self.disk)}{_of(self.free_disk)}; time after the first steps"
        )

    def warnings(self) -> list[str]:
        """What will not fit."""
        found = []
        if self.memory is not None and self.free_memory is not None and self.memory > self.free_memory:
            found.append(
                f"the training needs about {in_units(self.memory)} of memory and {in_units(self.free_memory)} are "
                "free; lower `per_device_train_batch_size` (`total_batch_size` keeps the step's size)"
            )
        if self.disk > self.free_disk:
            found.append(
                f"checkpoints and model need up to {in_units(self.disk)} and {in_units(self.free_disk)} are free; "
                "lower `save_total_limit`, pass `prompts_only`, or choose another `output_dir`"
            )
        return found


def estimate_training(
    args: VitaClipTrainingArguments, state: TrainerState, model: VitaClipModel, optimizer_moments: int = 2
) -> TrainingEstimate:
    """
    Args:
        args ([`VitaClipTrainingArguments`]): of the training.
        state (`TrainerState`): gives the number of steps and how often a checkpoint is saved.
        model ([`VitaClipModel`]): frozen as it will be trained.
        optimizer_moments (`int`, defaults to 2): values that the optimizer keeps of a trained parameter; AdamW has 2.
    """
    sizes = [(p.numel(), p.numel() * p.element_size(), p.requires_grad) for p in model.parameters()]
    weights = sum(size for _, size, _ in sizes)
    trained = sum(size for _, size, trains in sizes if trains)
    memory = free_memory = None
    if not args.fsdp:
        batch = args.per_device_train_batch_size
        memory = weights + (1 + optimizer_moments) * trained + activations(model, batch, _checkpointing(args))
        # On the CPU the batches that workers hold ready lie in the same memory.
        batches = 1 + (ready_batches(args) if args.device.type == "cpu" else 0)
        memory += batches * batch * clip_bytes(model)
        free_memory = free_bytes(args.device)
    checkpoint = final = trained if args.prompts_only else weights
    if not args.save_only_model:
        checkpoint += optimizer_moments * trained
    return TrainingEstimate(
        steps=state.max_steps - state.global_step,
        videos=args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        trained=sum(number for number, _, trains in sizes if trains),
        parameters=sum(number for number, _, _ in sizes),
        memory=memory,
        free_memory=free_memory,
        disk=most_disk(checkpoint, final, number_of_saves(args, state), _kept(args)),
        free_disk=shutil.disk_usage(_existing(Path(args.output_dir))).free,
    )


def activations(model: VitaClipModel, batch: int, checkpointing: bool = False) -> int:
    """Bytes that the forward passes of a micro-batch keep for the backward one, about."""
    vision, text = model.config.vision_config, model.config.text_config
    patches = (vision.image_size // vision.patch_size) ** 2
    towers = [
        (batch * vision.num_frames * (patches + 1), vision.num_hidden_layers, vision.hidden_size),
        (sum(model.class_prompts.lengths), text.num_hidden_layers, text.hidden_size),
    ]
    bytes_of_value = next(model.parameters()).element_size()
    if checkpointing:  # the inputs of all layers, and one layer at a time
        return sum(tokens * width * (layers + KEPT_VALUES) for tokens, layers, width in towers) * bytes_of_value
    return sum(tokens * width * layers * KEPT_VALUES for tokens, layers, width in towers) * bytes_of_value


def clip_bytes(model: VitaClipModel) -> int:
    """Bytes of the pixels of a clip."""
    vision = model.config.vision_config
    return vision.num_frames * vision.num_channels * vision.image_size**2 * 4


def ready_batches(args: VitaClipTrainingArguments) -> int:
    """Batches that the loader's workers hold ready."""
    return (args.dataloader_num_workers or 0) * (args.dataloader_prefetch_factor or 2)


def number_of_saves(args: VitaClipTrainingArguments, state: TrainerState) -> float:
    """How many checkpoints are saved from now on; infinite where the metric decides."""
    strategy = strategy_name(args.save_strategy)
    steps = state.max_steps - state.global_step
    if strategy == "steps":
        return math.ceil(steps / max(state.save_steps, 1))
    if strategy == "epoch":
        return math.ceil(state.num_train_epochs)
    return 0 if strategy == "no" else math.inf


def most_disk(checkpoint: int, final: int, saves: float, kept: float) -> int:
    """Most bytes at a time: an old checkpoint is deleted after the next one is complete, the model is saved last."""
    if saves == 0:
        return final
    return max(int(min(saves, kept + 1)) * checkpoint, int(min(saves, kept)) * checkpoint + final)


def _kept(args: VitaClipTrainingArguments) -> int:
    # The best checkpoint stays beside the last one.
    return max(args.save_total_limit or 0, 2 if args.load_best_model_at_end else 1)


def _checkpointing(args: VitaClipTrainingArguments) -> bool:
    return bool(getattr(args, "activation_checkpointing", False) or getattr(args, "gradient_checkpointing", False))


def free_bytes(device: torch.device) -> int | None:
    """Free memory of the device; `None` where it cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu":
        import psutil  # of the extra `train`

        return psutil.virtual_memory().available
    return None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _of(free: int | None) -> str:
    return "" if free is None else f" of {in_units(free)} free"


def in_units(number: float) -> str:
    """`1.5 GiB`, `85 MiB`, `12 KiB`."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 1000 * size else f"{number / size:,.0f} {unit}"
    return f"{number / 2**10:.3g} KiB"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
