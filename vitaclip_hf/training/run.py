"""
Trains Vita-CLIP's prompts on a frozen CLIP.

  vitaclip train own-folder --videos my_videos
  vitaclip train own-folder --videos my_videos --resume                   # continue after an interruption
  accelerate launch --config_file configuration/accelerate/ddp.yaml -m vitaclip_hf.cli train vita-clip-k400 \\
      --videos k400/videos --annotations k400/annotations --total-batch-size 256 --bf16

RECIPE is a name, such as own-folder, or your own YAML file. Every argument below can stand in a recipe; the command
line wins. --no-NAME turns a switch off. The output folder gets the model (the best one if load_best_model_at_end), the
checkpoints, the recipe, a record of data and versions (run.json), and the curves.
"""

import json
import shlex
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from transformers import ProgressCallback, set_seed
from transformers.image_utils import PILImageResampling
from transformers.integrations import get_available_reporting_integrations
from transformers.utils import logging

from ..arguments import ArgumentParser
from ..data.check import check_data
from ..data.configuration_files import configuration_folder
from ..data.folder_lock import folder_lock
from ..loading.checksums import write_checksums
from ..loading.guards import check_utf8
from ..model.frame_sampling import ClipSpecification
from .arguments import FOLLOWING, GROUPS, VitaClipTrainingArguments, check_needed
from .checkpoints import FINAL_MODELS, is_finished, step_of, writing
from .clip_datasets import make_datasets
from .progress import TrainingProgress, evaluation_summary, plot_curves
from .recipes import read_recipe
from .run_folder import RunFolder
from .starting_point import load_starting_point
from .trainer import VitaClipTrainer
from .training_data import TrainingData, read_training_data


RECIPES = configuration_folder("recipes")
logger = logging.get_logger(__name__)


def parse_arguments(arguments: list[str]) -> tuple[tuple, dict]:
    """
    Reads the command line and its recipe.

    Returns:
        `tuple`: the arguments in their groups, and the values that the recipe or the command line set.
    """
    parser = ArgumentParser(
        GROUPS, description=__doc__, prog="vitaclip train", usage="vitaclip train [RECIPE] [--ARGUMENT ...]"
    )
    recipe = {}
    if arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        recipe = read_recipe(name if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml")
    groups = parser.parse(arguments, recipe)
    check_needed(parser.typed, groups[-1])
    return groups, parser.chosen


def check_and_report(data: TrainingData) -> int:
    """Decodes every video and prints what is wrong. Returns 0 if nothing is, else 2."""
    if data.arguments.streaming:
        raise ValueError(f"`check_data` reads a folder, list or data set, no stream: `videos` {data.arguments.videos}")
    parts, most = (data.train, data.validation), data.arguments.max_seconds
    reports = [check_data(part, max_seconds=most) for part in parts if part is not None]
    print(*(report.summary() for report in reports), sep="\n")
    return 0 if all(report.ok for report in reports) else 2


def settle_evaluation(training: VitaClipTrainingArguments, data: TrainingData) -> None:
    """Turns evaluation off where there are no validation videos, and the choice of the model on test videos."""
    for name, values in FOLLOWING.items():
        if (value := getattr(training, name)) in values and data.validation_from in (None, "test"):
            raise ValueError(f"`{name}` {value.value} needs validation videos, which are not the test videos")
    if data.validation is None and (training.eval_on_start or training.eval_strategy != "no"):
        training.eval_strategy, training.load_best_model_at_end, training.eval_on_start = "no", False, False
        logger.warning("no validation videos: no evaluation while training; the last model is kept")
    elif data.validation_from == "test" and training.load_best_model_at_end:
        training.load_best_model_at_end = False
        training.metric_for_best_model = None  # type: ignore[assignment]
        logger.warning("validation is the test split: the model is not chosen by it, the last one is kept")


def make_trainer(arguments: tuple, data: TrainingData, checkpoint: Path | None) -> VitaClipTrainer:
    """Loads the model, and makes datasets and trainer."""
    model_arguments, data_arguments, augmentation, _, training = arguments
    ClipSpecification(model_arguments.num_frames)  # too many frames are an error before the model is made
    model, processor = load_starting_point(model_arguments, data.class_names)
    # The saved processor reads as this training evaluates, and resizes as it trains.
    video_processor = processor.video_processor
    video_processor.sampling, video_processor.frame_stride = data_arguments.eval_sampling, data_arguments.frame_stride
    video_processor.resample = PILImageResampling[augmentation.interpolation.upper()]
    video_processor.antialias = augmentation.antialias
    seen = 0 if checkpoint is None else step_of(checkpoint) * training.gradient_accumulation_steps
    if data_arguments.streaming:
        if training.max_steps < 1:
            raise ValueError("`streaming`: a stream has no end; pass `max_steps`")
        training.ignore_data_skip = True  # the stream skips what was seen, without decoding it
    train_set, validation, collator = make_datasets(data, video_processor, augmentation, training, skip_batches=seen)
    base = model_arguments.model
    base = str(Path(base).resolve()) if Path(base).exists() else base
    trainer = VitaClipTrainer(
        model, training, collator, train_set, validation, processing_class=processor,
        base=base, base_revision=model_arguments.revision,
    )  # fmt: skip
    trainer.remove_callback(ProgressCallback)
    return trainer


def train_and_save(trainer: VitaClipTrainer, checkpoint: Path | None) -> None:
    """Trains to the end, unless that was done before; evaluates, saves and reports."""
    folder = Path(trainer.args.output_dir)
    with closing(TrainingProgress()) as progress:
        if not trainer.args.disable_tqdm:
            trainer.add_callback(progress)
        if checkpoint is not None and is_finished(checkpoint):
            trainer.restore(checkpoint)
        else:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    history = list(trainer.state.log_history)
    final = trainer.evaluate(metric_key_prefix="final") if trainer.eval_dataset is not None else None
    with writing(folder, *(folder / name for name in FINAL_MODELS)):
        trainer.save_model()
        if trainer.is_world_process_zero():
            write_checksums(folder)
    if trainer.is_world_process_zero():
        trainer.save_state()
        plot_curves(history, folder / "curves.png")
        if final is not None:
            print(evaluation_summary(final, prefix="final"))
        print(f"Saved {'prompts' if trainer.args.prompts_only else 'model'} and curves.png to {folder}")
        command = f"vitaclip evaluate --model {shlex.quote(str(folder))} --protocol own-supervised --videos DIR"
        print(f"Next: {command}  # videos it has not seen")
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
        ValueError: unusable arguments, or a loss that is NaN or infinite.
        VideoDecodingError, OSError, ImportError: what cannot be read, written or used here.
    """
    groups, chosen = parse_arguments(arguments)
    run, training = groups[3:]
    if Path(training.output_dir).is_file():
        raise ValueError(f"`output_dir` {training.output_dir} is a file; give the name of a folder")
    check_utf8(training.output_dir, "safetensors", "output_dir")
    alone = not run.check_data and training.process_index == 0
    with folder_lock(training.output_dir, "training") if alone else nullcontext():
        return _train(groups, chosen)


def _train(groups: tuple, chosen: dict) -> int:
    run, training = groups[3:]
    folder = RunFolder(training.output_dir)
    checkpoint = folder.resume(chosen) if run.resume else None
    if not run.resume and not run.check_data:
        folder.start()
    training.report_to = sorted({*training.report_to, *(["tensorboard"] if run.tensorboard else [])})
    for name in {*training.report_to} - {*get_available_reporting_integrations()}:
        raise ValueError(f"`report_to` {name:.100}: unknown or not installed; pip install {name:.100}")
    training.dataloader_pin_memory = training.dataloader_pin_memory and torch.cuda.is_available()
    logging.disable_progress_bar()  # of loading and writing weights
    set_seed(training.seed)
    data = read_training_data(groups[1], training.seed if training.data_seed is None else training.data_seed)
    if run.check_data:
        return check_and_report(data)
    if checkpoint is not None:
        folder.check_same_run(data.record(), training.world_size)
    settle_evaluation(training, data)
    trainer = make_trainer(groups, data, checkpoint)
    if trainer.is_world_process_zero():
        record = {
            "data": data.record(),
            "ranks": training.world_size,
            "trainable_parameters": trainer.get_num_trainable_parameters(),
            "base_revision": getattr(trainer.model.config, "_commit_hash", None),
            "training_arguments": json.loads(training.to_json_string()),
        }
        folder.record(chosen, record, checkpoint)
        if data.validation_from == "held back" and data.validation is not None:
            data.validation.write(folder.path / "held_back.csv")
    train_and_save(trainer, checkpoint)
    return 0
