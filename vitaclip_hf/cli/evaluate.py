"""`vitaclip evaluate`; also `accelerate launch -m vitaclip_hf.cli.evaluate`."""

import os
import shlex
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import typer

from .errors import CommandError, needs_extra
from .libraries import load_libraries


if TYPE_CHECKING:
    from ..evaluation.run import EvaluationArguments


def main(arguments: list[str] | None = None) -> int:
    """Evaluates with command-line arguments (those of this process by default); returns the exit code."""
    from .main import main as vitaclip

    return vitaclip(["evaluate", *(sys.argv[1:] if arguments is None else arguments)])


def parse_arguments(arguments: list[str]) -> tuple["EvaluationArguments", dict[str, Any]]:
    """The arguments of a command line, and the fields of protocol and reading that it changes."""
    from ..arguments import ArgumentParser
    from ..evaluation import run
    from ..evaluation.protocols import OLD_NAMES

    groups = (run.EvaluationArguments, run.Changes)
    parser = ArgumentParser(groups, renamed=OLD_NAMES, prog="vitaclip evaluate", description=run.__doc__)
    parsed, changes = parser.parse(arguments)
    return parsed, {name: value for name, value in vars(changes).items() if value is not None}


def evaluate(context: typer.Context) -> int:
    """Measure a checkpoint under a protocol."""
    with needs_extra("train"):
        import torch

        from ..arguments import with_options
        from ..evaluation import run
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    rank = f"rank {os.environ.get('RANK', '0')}: " if several else ""
    load_libraries()
    try:
        parsed, changes = parse_arguments(context.args)
        run.evaluate(parsed, command=shlex.join(["vitaclip", "evaluate", *context.args]), **changes)
    except (OSError, ValueError) as error:
        names = [item.name for group in (run.EvaluationArguments, run.Changes) for item in fields(group)]
        raise CommandError(rank + with_options(str(error), names)) from error
    except KeyboardInterrupt:
        print(f"vitaclip evaluate: {rank}interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    if torch.distributed.is_initialized():  # not after an error: other ranks may wait in it, and exiting ends the wait
        torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
