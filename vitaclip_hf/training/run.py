"""
Trains Vita-CLIP's prompts on a frozen CLIP.

  vitaclip train own-folder --videos my_videos
  vitaclip train own-folder --videos my_videos --resume                   # continue after an interruption
  vitaclip train motion_shapes --model examples/demo/checkpoint           # in a clone: generated videos, no download
  accelerate launch --config_file configuration/accelerate/ddp.yaml -m vitaclip_hf.cli.train vita-clip-k400 \\
      --videos k400/videos --annotations k400/annotations --total_batch_size 256 --bf16

RECIPE is the name of a file in configuration/recipes, or your own YAML file. Every argument below can stand in a
recipe; the command line wins. --no_NAME turns a switch off. The output folder gets the model (the best one where there
is a validation split), the checkpoints, the complete recipe, a record of data and versions (run.json), and the curves.
"""

import json
import os
import re
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PrinterCallback, ProgressCallback, TrainingArguments, set_seed
from transformers.utils import logging

from ..data.annotations import AnnotationError
from ..data.check import check_data
from ..data.configuration_files import configuration_folder
from ..data.folder_lock import FolderLock
from ..model.decoding import VideoDecodingError
from ..model.shown_names import check_utf8, shown
from .arguments import GROUPS, VitaClipTrainingArguments, field_names
from .checkpoints import is_finished, last_checkpoint, step_of
from .clip_datasets import check_batch_memory, make_datasets
from .progress import TrainingProgress, evaluation_summary, plot_curves
from .recipes import RecipeError, RecipeParser, read_recipe
from .run_folder import RunFolder
from .starting_point import load_starting_point, quietly, read_base_config
from .trainer import VitaClipTrainer
from .training_data import TrainingData, read_training_data


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


class StoppedError(RuntimeError):
    """Training has begun and could not continue; the message is for the person who started it."""


def parse_arguments(arguments: list[str]) -> tuple[tuple, dict]:
    """
    Reads the command line and its recipe.

    Returns:
        `tuple`: the arguments in their groups, and the values that the recipe or the command line set.
    """
    name = arguments[0] if arguments and not arguments[0].startswith("-") else None
    path = None if name is None else Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    parser = RecipeParser(
        GROUPS, description=__doc__, prog="vitaclip train", usage="vitaclip train [RECIPE] [--ARGUMENT VALUE ...]"
    )
    recipe = {} if path is None else read_recipe(path, field_names())
    return parser.parse(arguments if name is None else arguments[1:], recipe), parser.chosen


def check_and_report(data: TrainingData) -> int:
    """Decodes every video and prints what is wrong. Returns 0 if nothing is, else 2."""
    if data.arguments.streaming:
        raise RecipeError("`check_data`: a stream may have no end and names no files; drop `streaming` to check it")
    if not data.tables:
        raise RecipeError(
            f"`check_data` reads the videos of a folder, list or data set; {data.arguments.videos} has none"
        )
    reports = [check_data(table, deep=True) for table in data.tables]
    for report in reports:
        print(report.summary(limit=0))
    return 0 if all(report.ok for report in reports) else 2


def settle_evaluation(training: VitaClipTrainingArguments, data: TrainingData) -> None:
    """Turns evaluation off where there are no validation videos, and the choice of the model on test videos."""
    if data.validation is None and training.eval_strategy != "no":
        training.eval_strategy, training.load_best_model_at_end = "no", False
        logger.warning("no validation videos: no evaluation while training; the last model is kept")
    elif data.validation_from == "test" and training.load_best_model_at_end:
        training.load_best_model_at_end = False
        training.metric_for_best_model = None  # type: ignore[assignment]
        logger.warning("validation is the test split: the model is not chosen by it, the last one is kept")


def make_trainer(
    arguments: tuple, data: TrainingData, checkpoint: Path | None
) -> tuple[VitaClipTrainer, TrainingProgress]:
    """Loads the model, and makes datasets and trainer."""
    model_arguments, data_arguments, augmentation, _, training = arguments
    side = read_base_config(model_arguments).vision_config.image_size
    check_batch_memory(model_arguments.num_frames, side, data_arguments, training)
    model, processor = load_starting_point(model_arguments, data.class_names)
    seen = 0 if checkpoint is None else step_of(checkpoint) * training.gradient_accumulation_steps
    if data_arguments.streaming:
        if training.max_steps < 1:
            raise RecipeError("`streaming`: a stream has no end; pass `max_steps`")
        training.ignore_data_skip = True  # the stream skips what was seen, without decoding it
    datasets = make_datasets(data, processor, augmentation, model_arguments.num_frames, training, skip_batches=seen)
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
    progress = TrainingProgress(trainer.throughput)
    trainer.add_callback(progress)
    return trainer, progress


def train_and_save(trainer: VitaClipTrainer, progress: TrainingProgress, checkpoint: Path | None) -> None:
    """Trains to the end, unless that was done before; evaluates, saves and reports."""
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
    # Ends the connections of the ranks. Not after an error: other ranks may wait in them until this one exits.
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


def train(arguments: list[str]) -> int:
    """
    Trains, or checks the data.

    Args:
        arguments (`list[str]`): the command line.

    Returns:
        `int`: 0, or 2 if the data has errors.

    Raises:
        StoppedError: training has begun and could not continue.
        RecipeError: arguments that cannot be used. Other `USER_ERRORS` too, before training begins.
    """
    groups, chosen = parse_arguments(arguments)
    run, training = groups[3:]
    if run.check_data or training.process_index > 0:
        return _train(groups, chosen)
    if Path(training.output_dir).is_file():
        raise RecipeError(f"`output_dir` {training.output_dir} is a file; give the name of a folder")
    check_utf8(training.output_dir, "safetensors", "output_dir")
    with FolderLock(training.output_dir, "training"):
        return _train(groups, chosen)


def _train(groups: tuple, chosen: dict) -> int:
    run, training = groups[3:]
    folder = RunFolder(training.output_dir, field_names())
    checkpoint = folder.resume(chosen) if run.resume else None
    if not run.resume and not run.check_data:
        folder.start()
    if run.tensorboard and find_spec("tensorboard") is None:
        raise RecipeError("`tensorboard` needs a package; install it with: pip install tensorboard")
    training.report_to = ["tensorboard"] if run.tensorboard else []
    training.dataloader_pin_memory = training.dataloader_pin_memory and torch.cuda.is_available()
    logging.disable_progress_bar()  # of loading and writing weights
    set_seed(training.seed)
    data = read_training_data(groups[1], training.seed if training.data_seed is None else training.data_seed)
    if run.check_data:
        return check_and_report(data)
    if checkpoint is not None:
        folder.check_same_run(data.record(), training.world_size)
    settle_evaluation(training, data)
    trainer, progress = make_trainer(groups, data, checkpoint)
    if trainer.is_world_process_zero():
        trainable = trainer.get_num_trainable_parameters()
        about = {"data": data.record(), "ranks": training.world_size, "trainable_parameters": trainable}
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
        # gloo has no exception type.
        if training.world_size > 1 and (isinstance(error, torch.distributed.DistError) or "gloo" in str(error)):
            raise StoppedError("another rank stopped, its message says why") from error
        raise
    return 0


def what_is_kept(folder: RunFolder) -> str:
    return "; complete checkpoints are kept, for --resume" if last_checkpoint(folder.path) else ""


def explain(error: BaseException) -> str:
    """One line for an error. Argument names in backticks become options: `videos` is --videos."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return (
            "out of memory; lower --per_device_train_batch_size (--total_batch_size keeps the step's size), or pass "
            f"--{CHECKPOINTING}"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'writing'}: {error.strerror}"
    text = str(error).strip()
    if "Original Traceback" in text:  # from a worker of the data loader; the last line is the message
        text = text.splitlines()[-1].partition(": ")[2]
    known = field_names()
    text = re.sub(r"`(\w+)`", lambda name: f"--{name[1]}" if name[1] in known else name[0], text)
    return shown(" ".join(text.split()).rstrip("."))


def main(arguments: list[str] | None = None, prog: str = "train") -> int:
    """
    The command `vitaclip train`.

    Args:
        arguments (`list[str]`, *optional*): the command line; by default that of this process.
        prog (`str`, defaults to `"train"`): name of the command in its messages.

    Returns:
        `int`: the exit code. 0, 2 after an error, 130 after an interruption.
    """
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    who = f"{prog} (rank {rank})" if ranks > 1 else prog
    try:
        return train(sys.argv[1:] if arguments is None else arguments)
    except StoppedError as error:
        print(f"{who}: {error}", file=sys.stderr)  # each rank has its own videos
    except USER_ERRORS as error:
        if rank == 0:  # before training begins, all ranks find the same
            print(f"{prog}: {explain(error)}", file=sys.stderr)
    except KeyboardInterrupt as interrupt:
        print(f"{who}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main())
