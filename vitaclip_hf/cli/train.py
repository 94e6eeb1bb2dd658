"""`vitaclip train`; also `accelerate launch -m vitaclip_hf.cli.train`."""

import sys

import typer

from .errors import needs_extra


def main(arguments: list[str] | None = None) -> int:
    """Trains with command-line arguments (those of this process by default); returns the exit code."""
    from ..training.run import main as run

    return run(arguments)


def train(context: typer.Context) -> int:
    """Train the prompts on your videos, from a recipe."""
    with needs_extra("train"):
        return main(context.args)


if __name__ == "__main__":
    sys.exit(main())
