"""What a training takes in steps and disk, as far as it is known before its first step."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from transformers.trainer_callback import TrainerState

from ..model.modeling_vita_clip import VitaClipModel
from .arguments import VitaClipTrainingArguments


@dataclass(frozen=True)
class TrainingEstimate:
    """
    Args:
        steps (`int`): optimizer steps still to do.
        videos (`int`): videos of a step, over all ranks.
        trained (`int`): parameters that train.
        parameters (`int`): all parameters.
        disk (`int`): most bytes that checkpoints and the final model take at a time.
        free_disk (`int`): bytes free where they are written.
    """

    steps: int
    videos: int
    trained: int
    parameters: int
    disk: int
    free_disk: int

    def summary(self) -> str:
        """One line, before the first step."""
        return (
            f"{self.steps:,} steps of {self.videos:,} videos; {self.trained:,} of {self.parameters:,} parameters "
            f"train; disk up to {self.disk / 1e9:,.2f} GB of {self.free_disk / 1e9:,.0f} GB free; "
            "time after the first steps"
        )


def estimate_training(args: VitaClipTrainingArguments, state: TrainerState, model: VitaClipModel) -> TrainingEstimate:
    """
    Args:
        args ([`VitaClipTrainingArguments`]): of the training.
        state (`TrainerState`): gives the number of steps and how often a checkpoint is saved.
        model ([`VitaClipModel`]): frozen as it will be trained.
    """
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    weights, trained_weights = (sum(p.numel() * p.element_size() for p in some) for some in (parameters, trained))
    final = trained_weights if args.prompts_only else weights
    checkpoint = final + (0 if args.save_only_model else 2 * trained_weights)  # AdamW has two moments of each
    steps = state.max_steps - state.global_step
    saves = {"no": 0, "steps": math.ceil(steps / max(state.save_steps, 1)), "epoch": math.ceil(state.num_train_epochs)}
    kept = max(args.save_total_limit or 0, 2 if args.load_best_model_at_end else 1)  # the best one and the last one
    folder = Path(args.output_dir).absolute()
    return TrainingEstimate(
        steps=steps,
        videos=args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        trained=sum(p.numel() for p in trained),
        parameters=sum(p.numel() for p in parameters),
        disk=most_disk(checkpoint, final, saves.get(args.save_strategy.value, math.inf), kept),
        free_disk=shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free,
    )


def most_disk(checkpoint: int, final: int, saves: float, kept: int) -> int:
    """Most bytes at a time: an old checkpoint is deleted after the next one is complete, the model is saved last."""
    if saves == 0:
        return final
    return max(int(min(saves, kept + 1)) * checkpoint, int(min(saves, kept)) * checkpoint + final)
