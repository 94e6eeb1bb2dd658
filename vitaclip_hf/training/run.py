"""Trains Vita-CLIP's prompts on a frozen CLIP, from a recipe.

    accelerate launch examples/train.py own-folder --videos my_videos
    accelerate launch --config_file configuration/accelerate/ddp.yaml examples/train.py vita-clip-k400 \\
        --videos k400/videos --annotations k400/annotations --total_batch_size 256 --bf16
    python examples/train.py motion_shapes --output_dir runs/shapes       # generated videos, no download, any machine
    python examples/train.py motion_shapes --output_dir runs/shapes --resume

A recipe is a file of configuration/recipes (its name is enough) or your own YAML; each of its fields, and each of
transformers' TrainingArguments, can be given on the command line and wins there. The output folder gets the model (the
best one, where there is a validation split), its checkpoints, the resolved recipe, versions and hash of the data
(run.json), and the curves.
"""

import json
import os
import sys
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PrinterCallback, ProgressCallback, TrainingArguments, set_seed
from transformers.utils import logging

from ..data.annotations import AnnotationError
from ..data.check import check_data
from ..data.configuration_files import configuration_folder
from ..model.video_decoding import VideoDecodingError
from .arguments import AugmentationArguments, DataArguments, ModelArguments, VitaClipTrainingArguments
from .progress import TrainingProgress, evaluation_summary, plot_curves
from .recipes import RecipeError, RecipeParser, field_names, read_recipe
from .run_folder import RunFolder, is_finished, last_checkpoint
from .starting_point import load_starting_point, quietly, read_base_config
from .trainer import VitaClipTrainer
from .training_data import TrainingData, check_batch_memory, read_training_data


RECIPES = configuration_folder("recipes")
USER_ERRORS = (
    *(RecipeError, AnnotationError, VideoDecodingError, StrictDataclassError, torch.OutOfMemoryError),
    *(ImportError, MemoryError, OSError, ValueError),
)
# Its name changed within transformers 5.
CHECKPOINTING = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if name in field_names([TrainingArguments])
)
logger = logging.get_logger(__name__)


@dataclass
class RunArguments:
    """What this run does beside training."""

    resume: bool = field(default=False, metadata={"help": "Go on from the last complete checkpoint in output_dir."})
    check_data: bool = field(default=False, metadata={"help": "Decode every video, list what is wrong, and stop."})
    tensorboard: bool = field(default=False, metadata={"help": "Write TensorBoard logs (needs tensorboard)."})


GROUPS = (ModelArguments, DataArguments, AugmentationArguments, VitaClipTrainingArguments, RunArguments)


def parse_arguments(arguments: list[str]) -> tuple[tuple, dict]:
    """The arguments in their groups, and those that the recipe or the command line set."""
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    parser = RecipeParser(GROUPS, description=__doc__, prog="train.py RECIPE", allow_abbrev=False)
    path = None if name is None else Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    recipe = {} if path is None else read_recipe(path, field_names(GROUPS))
    return parser.parse(arguments, recipe), parser.chosen


def check_and_report(data: TrainingData) -> int:
    """Looks at every video, prints what is wrong; 0 if nothing is."""
    if data.arguments.streaming:
        raise RecipeError("--check_data: a stream may have no end and names no files; drop --streaming to check it")
    if not data.tables:
        raise RecipeError(
            f"--check_data looks at videos of a folder, list or data set; {data.arguments.videos} has none"
        )
    reports = [check_data(table, deep=True) for table in data.tables]
    for report in reports:
        print(report.summary(limit=0))
    return 0 if all(report.ok for report in reports) else 2


def settle_evaluation(training: VitaClipTrainingArguments, data: TrainingData) -> None:
    """Whether there is anything to evaluate on while training, and whether it may choose the model."""
    if data.validation is None and training.eval_strategy != "no":
        training.eval_strategy, training.load_best_model_at_end = "no", False
        logger.warning("no validation videos: no evaluation while training; the last model is kept")
    elif data.validation_from == "test" and training.load_best_model_at_end:
        training.load_best_model_at_end, training.metric_for_best_model = False, None
        logger.warning("validation is the test split: it chooses no model, the last one is kept")


def make_trainer(
    arguments: tuple, data: TrainingData, checkpoint: Path | None
) -> tuple[VitaClipTrainer, TrainingProgress]:
    """Model, datasets and trainer, ready to start."""
    model_arguments, data_arguments, augmentation, training, _ = arguments
    side = read_base_config(model_arguments).vision_config.image_size
    check_batch_memory(model_arguments.num_frames, side, data_arguments, training)
    model, processor = load_starting_point(model_arguments, data.class_names)
    seen = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]) * training.gradient_accumulation_steps
    if data_arguments.streaming:
        if training.max_steps < 1:
            raise RecipeError("--streaming: a stream has no end; pass --max_steps")
        training.ignore_data_skip = True  # the stream itself leaves out what was seen, without decoding it
    datasets = data.datasets(processor, augmentation, model_arguments.num_frames, training, skip_batches=seen)
    base = model_arguments.model
    with quietly():
        trainer = VitaClipTrainer(
            model,
            training,
            train_dataset=datasets.train,
            eval_dataset=datasets.validation,
            data_collator=datasets.collator,
            processing_class=processor,
            base=str(Path(base).resolve()) if Path(base).exists() else base,
            base_revision=model_arguments.revision,
        )
    for stock in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(stock)
    progress = TrainingProgress(model.get_nb_trainable_parameters()[0])
    trainer.add_callback(progress)
    return trainer, progress


def train_and_save(trainer: VitaClipTrainer, progress: TrainingProgress, checkpoint: Path | None) -> None:
    """Trains to the end, or finds that this was done; evaluates, saves and reports."""
    with closing(progress):
        if checkpoint is not None and is_finished(checkpoint):
            trainer.restore(checkpoint)
        else:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    history = list(trainer.state.log_history)
    final = trainer.evaluate(metric_key_prefix="final") if trainer.eval_dataset is not None else None
    trainer.save_model()
    if trainer.is_world_process_zero():
        folder = Path(trainer.args.output_dir)
        trainer.save_state()
        plot_curves(history, folder / "curves.png")
        print(f"{folder}: {'prompts' if trainer.args.prompts_only else 'model'} and curves.png")
        if final is not None:
            print(evaluation_summary(final, prefix="final"))
    # Ends the ranks' connections. Not after an error: others may wait in them, and exiting ends that.
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


def train(arguments: list[str]) -> int:
    groups, chosen = parse_arguments(arguments)
    training, run = groups[3:]
    folder = RunFolder(training.output_dir, field_names(GROUPS))
    checkpoint = folder.resume(chosen) if run.resume else None
    if not run.resume and not run.check_data:
        folder.start()
    if run.tensorboard and find_spec("tensorboard") is None:
        raise RecipeError("--tensorboard needs the package tensorboard; install it with pip install tensorboard")
    training.report_to = ["tensorboard"] if run.tensorboard else []
    training.dataloader_pin_memory = training.dataloader_pin_memory and torch.cuda.is_available()
    logging.disable_progress_bar()  # of loading and writing weights: there is one bar, the training's
    set_seed(training.seed)
    data = read_training_data(groups[1], training.seed if training.data_seed is None else training.data_seed)
    if run.check_data:
        return check_and_report(data)
    if checkpoint is not None:
        folder.check_same_run(data.record(), training.world_size)
    settle_evaluation(training, data)
    trainer, progress = make_trainer(groups, data, checkpoint)
    if trainer.is_world_process_zero():
        about = {"data": data.record(), "ranks": training.world_size, "trainable_parameters": progress.num_trainable}
        about["base_revision"] = getattr(trainer.model.config, "_commit_hash", None)
        about["training_arguments"] = json.loads(training.to_json_string())
        folder.record(chosen, about, checkpoint)
        if data.validation_from == "held back" and data.validation is not None:
            data.validation.write(folder.path / "held_back.csv")
    try:
        train_and_save(trainer, progress, checkpoint)
    except USER_ERRORS as error:
        raise StoppedError(explain(error) + what_is_kept(folder)) from error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted" + what_is_kept(folder)) from error
    except RuntimeError as error:
        if training.world_size > 1 and any(word in str(error) for word in ("Connection closed", "gloo", "NCCL")):
            raise StoppedError("another rank stopped, its message says why") from error
        raise
    return 0


class StoppedError(RuntimeError):
    """Training has begun and could not go on; the message is for whoever started it."""


def what_is_kept(folder: RunFolder) -> str:
    return "; complete checkpoints are kept, for --resume" if last_checkpoint(folder.path) else ""


def explain(error: BaseException) -> str:
    """One line for the errors that a run can end with."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return (
            "out of memory; lower --per_device_train_batch_size (--total_batch_size keeps the step's size), or pass "
            f"--{CHECKPOINTING}"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'writing'}: {error.strerror}"
    text = str(error).strip()
    if "Original Traceback" in text:  # from a worker of the data loader, whose last line is the message
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.split()).rstrip(".")


def main(arguments: list[str] | None = None) -> int:
    """Trains with command-line arguments (those of this process by default); returns the exit code."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    who = f"train (rank {rank})" if ranks > 1 else "train"
    try:
        return train(sys.argv[1:] if arguments is None else arguments)
    except StoppedError as error:
        print(f"{who}: {error}", file=sys.stderr)  # each rank has its own videos
    except USER_ERRORS as error:
        if rank == 0:  # before training begins, all ranks find the same
            print(f"train: {explain(error)}", file=sys.stderr)
    except KeyboardInterrupt as interrupt:
        print(f"{who}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main())
