"""`vitaclip train`; on several GPUs `accelerate launch -m vitaclip_hf.cli train`."""

import sys
from importlib import import_module

import typer

from ..option_names import option
from .libraries import load_libraries


def train(context: typer.Context) -> int:
    """Train the prompts on your videos, from a recipe.

    The first argument is a recipe, such as own-folder, or a YAML file of your own. The output folder gets the model,
    its checkpoints, the recipe, a record of data and versions, and the curves. The arguments that most people use
    (--help-all lists all, those of transformers' TrainingArguments too):

    \b
      --videos DIR              A folder of videos, one folder for each class.
      --annotations FILE        List of the videos, where the folders are not classes.
      --model MODEL             CLIP or Vita-CLIP to start from: a folder or a Hub id.
      --output-dir DIR          Where to. Default: runs/vita-clip.
      --resume                  Go on where a run in the output folder was stopped.
      --check-data              Only read every video once, and name those that cannot be read.
      --max-steps N             Optimizer steps; --num-train-epochs counts passes over the videos.
      --learning-rate X         The highest of the schedule.
      --total-batch-size N      Videos of an optimizer step, on all devices together.
      --per-device-train-batch-size N
      --eval-strategy epoch     Or steps, with --eval-steps N.
      --num-global-prompts N    Learned prompts of the vision tower; 0 for none.
      --num-context-tokens N    Learned tokens of a class's text.
      --dataloader-num-workers N
      --bf16                    Compute in bfloat16, on GPUs that have it.
      --seed N                  Of everything that is drawn.
    """
    for package in ("datasets", "accelerate", "matplotlib", "pyarrow"):  # missing ones are named before any work
        import_module(package)

    load_libraries()
    from ..training import run
    from ..training.arguments import CHECKPOINTING, NAMES

    memory = f"{option('per_device_train_batch_size')}, or pass {option(CHECKPOINTING)}"
    context.obj = {name: option(name) for name in NAMES} | {"batch_size": memory}  # for messages
    context.obj |= {"scale": "--crop-scale", "ratio": "--crop-ratio", "probability": "--mix-probability"}
    try:
        return run.train(context.args)
    except KeyboardInterrupt:
        print("vitaclip train: interrupted; --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
