"""`vitaclip train`; also `accelerate launch -m vitaclip_hf.cli.train`."""

import sys
from importlib.util import find_spec

import typer


NEEDED = ("accelerate", "datasets", "evaluate", "matplotlib", "psutil", "pyarrow")  # of the extra `train`


def main(arguments: list[str] | None = None) -> int:
    """Trains with command-line arguments (those of this process by default); returns the exit code."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f'train: not installed: {", ".join(missing)}; pip install "vitaclip_hf[train]"', file=sys.stderr)
        return 2
    from ..training.run import main as run

    return run(arguments)


def train(context: typer.Context) -> int:
    """Train the prompts on your videos, from a recipe."""
    return main(context.args)


if __name__ == "__main__":
    sys.exit(main())
