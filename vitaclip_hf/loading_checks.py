"""What is wrong with weights that transformers would load with no more than a warning."""

from collections.abc import Collection, Mapping
from typing import Any


SHOWN = 3


class CheckpointMismatchError(ValueError):
    """The weights of a checkpoint do not make up the model that its configuration describes."""


def check_loaded(source: Any, info: Mapping[str, Any], backbone: Collection[str], any_shape: bool) -> None:
    """Raises CheckpointMismatchError for weights of another shape, or parts of CLIP that would stay random.

    Args:
        source: folder or Hub id, for the message.
        info: `output_loading_info` of `from_pretrained`.
        backbone: names of CLIP's own weights; prompts may be missing, for a stock CLIP has none.
        any_shape: whether weights of another shape may stay as initialised (`ignore_mismatched_sizes`).
    """
    problems = [
        f"{name} has the shape {list(found)}, the configuration asks for {list(expected)}"
        for name, found, expected in sorted(info["mismatched_keys"])
        if not any_shape
    ]
    problems += [f"{name} is missing" for name in sorted(set(info["missing_keys"]) & set(backbone))]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise CheckpointMismatchError(
            f"{source}: the weights are not those of its configuration: {'; '.join(problems[:SHOWN])}{more}. "
            "Fetch or save the folder again."
        )
