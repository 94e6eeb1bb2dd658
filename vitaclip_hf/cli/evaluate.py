"""`vitaclip evaluate`; on several GPUs `accelerate launch -m vitaclip_hf.cli evaluate`."""

import shlex
import sys
from typing import Any

import typer

from ..option_names import option
from .libraries import load_libraries


def parse_arguments(arguments: list[str], context: typer.Context | None = None) -> tuple[Any, dict[str, Any]]:
    """The arguments of a command line, and the fields of protocol and reading that it changes."""
    from ..arguments import ArgumentParser
    from ..evaluation import run

    groups = (run.EvaluationArguments, run.Changes)
    parser = ArgumentParser(groups, prog="vitaclip evaluate", description=run.__doc__)
    if context is not None:
        context.obj = {name: option(name) for name in parser.names}  # for messages
    parsed, changes = parser.parse(arguments)
    return parsed, {name: value for name, value in vars(changes).items() if value is not None}


def evaluate(context: typer.Context) -> int:
    """Measure a checkpoint under a protocol.

    If it is interrupted, the same command goes on where it was. Protocols are in configuration/protocols. Exit code: 0,
    1 if no video of a split could be scored, 2 if nothing could start. The arguments that most people use (--help-all
    lists all):

    \b
      --model MODEL             Folder or Hub id: Vita-CLIP, CLIP, SigLIP, X-CLIP, ...
      --protocol NAME           Or FILE.yaml:TASK.
      --videos DIR              Folder of the videos.
      --annotations DIR         The protocol's lists. Default: a folder of videos is a class.
      --output DIR              Default: evaluations/PROTOCOL-MODEL.
      --limit N                 At most N videos of each split: a quick look.
      --templates 'TEXT {}'     In place of the protocol's; so are --num-views, --num-frames, ...
      --batch-size N            Videos of a forward pass.
      --workers N               Decoding processes of each rank.
      --dtype NAME              float32, bfloat16, float16 or auto.
    """
    import torch

    from ..evaluation import run

    load_libraries()
    arguments, changes = parse_arguments(context.args, context)
    try:
        results = run.evaluate(arguments, command=shlex.join(["vitaclip", "evaluate", *context.args]), **changes)
    except KeyboardInterrupt:
        print("vitaclip evaluate: interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    if torch.distributed.is_initialized():  # not after an error: other ranks may wait in it, and exiting ends the wait
        torch.distributed.destroy_process_group()
    return int(results is not None and not all(part["videos"]["evaluated"] for part in results["splits"].values()))
