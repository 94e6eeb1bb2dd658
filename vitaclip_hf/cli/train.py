"""`vitaclip train`; also `accelerate launch -m vitaclip_hf.cli.train`."""

import sys
from importlib.util import find_spec

import typer


NEEDED = ("accelerate", "datasets", "evaluate", "matplotlib", "pyarrow")  # of the extra `train`


def main(arguments: list[str] | None = None, prog: str = "train") -> int:
    """Trains with command-line arguments (those of this process by default); returns the exit code."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f'{prog}: not installed: {", ".join(missing)}; pip install "vitaclip_hf[train]"', file=sys.stderr)
        return 2
    from .. import registration  # noqa: F401
    from ..training.run import main as run

    return run(arguments, prog=prog)


def train(context: typer.Context) -> int:
    """Train the prompts on your videos, from a recipe."""
    return main(context.args, prog="vitaclip train")


if __name__ == "__main__":
    sys.exit(main())
