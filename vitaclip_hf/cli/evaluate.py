"""`vitaclip evaluate`; also `accelerate launch -m vitaclip_hf.cli.evaluate`."""

import sys

import typer

from .errors import needs_extra


def main(arguments: list[str] | None = None) -> int:
    """Evaluates with command-line arguments (those of this process by default); returns the exit code."""
    from ..evaluation.run import main as run

    return run(arguments)


def evaluate(context: typer.Context) -> int:
    """Measure a checkpoint under a protocol."""
    with needs_extra("train"):
        from .. import registration  # noqa: F401
        from ..evaluation.run import main as run
    return run(context.args, prog="vitaclip evaluate")


if __name__ == "__main__":
    sys.exit(main())
