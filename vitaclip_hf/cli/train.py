"""`vitaclip train`; on several GPUs `accelerate launch -m vitaclip_hf.cli train`."""

from importlib.util import find_spec

import typer

from .libraries import load_libraries


NEEDED = ("accelerate", "datasets", "evaluate", "matplotlib", "pyarrow")  # of the extra `train`


def train(context: typer.Context) -> int:
    """Train the prompts on your videos, from a recipe."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(f'not installed: {", ".join(missing)}; pip install "vitaclip_hf[train]"')
    load_libraries()
    from ..training.run import main

    return main(context.args, prog="vitaclip train")
