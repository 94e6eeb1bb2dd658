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
import shlex
import sys
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import PrinterCallback, ProgressCallback, set_seed
from transformers.utils import logging

from vitaclip_hf.annotations import AnnotationError
from vitaclip_hf.data_check import check_data
from vitaclip_hf.recipes import (
    AugmentationArguments,
    DataArguments,
    ModelArguments,
    RecipeError,
    RecipeParser,
    environment,
    field_names,
    read_recipe,
    write_recipe,
)
from vitaclip_hf.starting_point import load_starting_point, read_base_config
from vitaclip_hf.training import VitaClipTrainer, VitaClipTrainingArguments, last_checkpoint
from vitaclip_hf.training_data import TrainingData, check_batch_memory, read_training_data
from vitaclip_hf.training_progress import TrainingProgress, evaluation_summary, plot_curves
from vitaclip_hf.video_decoding import VideoDecodingError


RECIPES = Path(__file__).parent.parent / "configuration" / "recipes"
# What a resumed run may have otherwise than the run that it resumes, with the same result.
MAY_CHANGE = {
    *("output_dir", "logging_steps", "report_to", "save_total_limit", "prompts_only", "resume", "check_data"),
    *("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory", "disable_tqdm", "use_cpu"),
    *("per_device_eval_batch_size", "tensorboard"),
}


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


def start_or_resume(output_dir: Path, resume: bool, chosen: dict) -> str | None:
    """The checkpoint to go on from, or `None` for a new run.

    Raises:
        RecipeError: nothing to resume, another recipe than the one that is resumed, or a run that is there already.
    """
    checkpoint = last_checkpoint(output_dir)
    if not resume:
        if checkpoint is not None:
            raise RecipeError(f"{output_dir} holds {checkpoint.name} of a run; pass --resume, or another --output_dir")
        return None
    if checkpoint is None:
        raise RecipeError(f"--resume: {output_dir} holds no complete checkpoint")
    before = read_recipe(output_dir / "recipe.yaml", field_names(GROUPS))
    changed = sorted(
        name for name in (before.keys() | chosen.keys()) - MAY_CHANGE if before.get(name) != chosen.get(name)
    )
    if changed:
        name = changed[0]
        raise RecipeError(
            f"--resume: {name} was {before.get(name)!r} and is now {chosen.get(name)!r}; go on with the same values "
            f"({output_dir / 'recipe.yaml'}), or start anew in another --output_dir"
        )
    return str(checkpoint)


def check_and_report(data: TrainingData) -> int:
    """Looks at every file, prints what is wrong; 0 if nothing is."""
    reports = [check_data(table, deep=True) for table in data.tables]
    for report in reports:
        print(report.summary(limit=0))
    return 0 if all(report.ok for report in reports) else 2


def record_run(training: VitaClipTrainingArguments, chosen: dict, data: TrainingData, trainable: int) -> None:
    """What is needed to know, and to do again, what was done here."""
    folder = Path(training.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_recipe(folder / "recipe.yaml", {name: value for name, value in chosen.items() if name not in ("resume",)})
    record = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "environment": environment(),
        "data": data.record(),
        "trainable_parameters": trainable,
        "ranks": training.world_size,
        "training_arguments": json.loads(training.to_json_string()),
    }
    (folder / "run.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def train(arguments: list[str]) -> int:
    (model_arguments, data_arguments, augmentation, training, run), chosen = parse_arguments(arguments)
    checkpoint = start_or_resume(Path(training.output_dir), run.resume, chosen)
    training.report_to = ["tensorboard"] if run.tensorboard else []
    if run.tensorboard and find_spec("tensorboard") is None:
        raise RecipeError("--tensorboard needs the package tensorboard; install it with pip install tensorboard")
    training.dataloader_pin_memory = training.dataloader_pin_memory and torch.cuda.is_available()
    logging.disable_progress_bar()  # of loading and writing weights: there is one bar, the training's
    set_seed(training.seed)
    data = read_training_data(data_arguments, seed=training.data_seed or training.seed)
    if run.check_data:
        return check_and_report(data)
    if data.validation is None and training.eval_strategy != "no":
        training.eval_strategy, training.load_best_model_at_end = "no", False
        logging.get_logger(__name__).warning("no validation videos: no evaluation while training")
    side = data_arguments.image_size or read_base_config(model_arguments).vision_config.image_size
    check_batch_memory(model_arguments.num_frames, side, data_arguments, training)
    model, processor = load_starting_point(model_arguments, data.class_names, data_arguments.image_size)
    done = int(checkpoint.rpartition("-")[2]) * training.gradient_accumulation_steps if checkpoint else 0
    if data_arguments.streaming:
        if training.max_steps < 1:
            raise RecipeError("--streaming: a stream has no end; pass --max_steps")
        training.ignore_data_skip = True  # the stream itself leaves out what was seen, without decoding it
    datasets = data.datasets(processor, augmentation, model_arguments.num_frames, training, skip_batches=done)
    trainer = VitaClipTrainer(
        model,
        training,
        train_dataset=datasets.train,
        eval_dataset=datasets.validation,
        data_collator=datasets.collator,
        processing_class=processor,
        base=model_arguments.model,
        base_revision=model_arguments.revision,
    )
    trainable, _ = model.get_nb_trainable_parameters()
    for stock in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(stock)
    progress = TrainingProgress(trainable)
    trainer.add_callback(progress)
    if trainer.is_world_process_zero():
        record_run(training, chosen, data, trainable)
    with closing(progress):
        trainer.train(resume_from_checkpoint=checkpoint)
    final = trainer.evaluate() if datasets.validation is not None else None
    trainer.save_model()
    if trainer.is_world_process_zero():
        trainer.save_state()
        plot_curves(trainer.state.log_history, Path(training.output_dir) / "curves.png")
        print(f"{training.output_dir}: {'prompts' if training.prompts_only else 'model'} and curves.png")
        if final is not None:
            print(evaluation_summary(final))
    return 0


def explain(error: Exception) -> str:
    """One line for the errors that a run can end with."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return (
            "out of memory; lower --per_device_train_batch_size (--total_batch_size keeps the step's size), or pass "
            "--activation_checkpointing"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'writing'}: {error.strerror}; complete checkpoints are kept, go on with --resume"
    text = str(error).strip()
    if "Original Traceback" in text:  # from a worker of the data loader, whose last line is the message
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())


def main() -> int:
    try:
        return train(sys.argv[1:])
    except (RecipeError, AnnotationError, VideoDecodingError, OSError, MemoryError, ValueError, RuntimeError) as error:
        known = not isinstance(error, RuntimeError) or isinstance(error, (VideoDecodingError, torch.OutOfMemoryError))
        if not known:
            raise
        if os.environ.get("RANK", "0") == "0":
            print(f"train: {explain(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
