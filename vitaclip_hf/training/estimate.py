"""Steps and disk of a training, before its first step."""

import math
import shutil
from pathlib import Path

from transformers.trainer_callback import TrainerState

from ..model.modeling_vita_clip import VitaClipModel
from .arguments import VitaClipTrainingArguments


def start_summary(args: VitaClipTrainingArguments, state: TrainerState, model: VitaClipModel, disk: int) -> str:
    """One line, before the first step; `disk` is of `needed_disk`."""
    videos = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    trained, parameters = model.num_parameters(only_trainable=True), model.num_parameters()
    return (
        f"{state.max_steps - state.global_step:,} steps of {videos:,} videos; {trained:,} of {parameters:,} parameters "
        f"train; disk up to {disk / 1e9:,.2f} GB of {free_disk(args.output_dir) / 1e9:,.0f} GB free"
    )


def free_disk(folder: str | Path) -> int:
    """Bytes free where a folder is or will be."""
    folder = Path(folder).absolute()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def needed_disk(args: VitaClipTrainingArguments, state: TrainerState, model: VitaClipModel) -> int:
    """
    Most bytes that checkpoints and the final model take at a time.

    Args:
        args ([`VitaClipTrainingArguments`]): of the training.
        state (`TrainerState`): gives the number of steps and how often a checkpoint is saved.
        model ([`VitaClipModel`]): frozen as it will be trained.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    final = trained if args.prompts_only else weights
    checkpoint = final + (0 if args.save_only_model else 2 * trained)  # AdamW has two moments of each
    steps = state.max_steps - state.global_step
    saves = {"no": 0, "steps": math.ceil(steps / max(state.save_steps, 1)), "epoch": math.ceil(state.num_train_epochs)}
    limit = max(args.save_total_limit or 0, 0) or steps  # of 0 and below, all are kept
    limit = max(limit, 2 if args.load_best_model_at_end else 1)  # the best one and the last one
    return most_disk(checkpoint, final, saves.get(args.save_strategy.value, steps), limit)


def most_disk(checkpoint: int, final: int, saves: float, limit: int) -> int:
    """Most bytes at a time: an old checkpoint is deleted after the next one is complete, the model is saved last."""
    return max(int(min(saves, limit + 1)) * checkpoint, int(min(saves, limit)) * checkpoint + final)
