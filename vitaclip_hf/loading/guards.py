"""Checks of a checkpoint: what `from_pretrained` takes with a warning, and what would take too much memory."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants, get_session
from huggingface_hub.errors import OfflineModeIsEnabled, StrictDataclassError
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedConfig
from transformers.utils import logging
from transformers.utils.hub import cached_file

from ..data.text_files import MAX_FILE_BYTES, content_errors, read_json
from ..model.prompts import ClassPrompts, TimeEmbedding, VisionPrompts
from ..model.shown_names import one_line, shown
from ..model.sources import httpx


logger = logging.get_logger(__name__)
# What `from_pretrained` takes to find files; the last two are about the folder itself, not about a base model.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
# What the libraries raise for files that do not fit; a missing file is an OSError, which passes.
LOADING_ERRORS = (
    *(ValueError, TypeError, AttributeError, LookupError, RuntimeError, ArithmeticError, ImportError),
    StrictDataclassError,
)
MAX_LAYERS = 200  # of a tower; the largest CLIPs have fewer than 100
MAX_PIXEL_BYTES = 4 << 30  # of one video's clips
MAX_NEW = 1 << 28  # parameters of new prompts, which many classes make
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded; the message is one line that names it and says what to do."""


def number_type(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A type of torch for weights, or its name; None and "auto" are the weights' own. ValueError for anything else."""
    found = None if dtype == "auto" else getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
    if found is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        known = 'a floating-point type of torch or its name, such as "float32"'
        raise ValueError(f"`dtype` must be {known}, got {str(dtype)[:80]!r}.")
    return found


def check_utf8(path: Any, library: str, argument: str = "", error: type[ValueError] = ValueError) -> None:
    """Raises `error` for a path that is not UTF-8, before `library`, which opens no such path, gets it."""
    if re.search("[\ud800-\udfff]", str(path)):
        name = f"`{argument}` " if argument else ""
        raise error(f"{name}{shown(str(path))}: this path is not UTF-8, so {library} cannot open it; rename it.")


def check_output(path: str | Path, library: str = "safetensors", is_replaced: bool = False) -> None:
    """
    Raises ValueError unless this is a new or empty folder whose path `library` opens; one that `is_replaced` by another
    folder must not be the current one, a link or a mounted one.
    """
    check_utf8(path, library, "output")
    path = Path(path)
    in_use = is_replaced and (path.is_symlink() or path.is_mount() or path.exists() and path.samefile("."))
    if in_use or path.exists() and (not path.is_dir() or any(path.iterdir())):
        kinds = "no empty folder, a link, a mounted folder or the current one"
        raise ValueError(f"`output` {path}: {kinds}; give the name of a new folder.")


@contextmanager
def quietly() -> Iterator[None]:
    """Hides transformers' warnings."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def hub_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `from_pretrained` that say how files are found."""
    return {name: arguments[name] for name in HUB_ARGUMENTS if name in arguments}


def hub_answers() -> bool:
    """Whether the Hub can be reached: without it, every file would be asked for six times, over half a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except OfflineModeIsEnabled:
        return False
    except httpx.TransportError as error:
        logger.warning(f"{constants.ENDPOINT} cannot be reached ({one_line(error)}); models come from the cache alone.")
        return False
    return True


def check_files(folder: str) -> None:
    """Raises `CheckpointError` for a pipe, a device or a huge text file, which the libraries would read without end."""
    for path in Path(folder).iterdir():
        is_text = path.suffix.lower() in (".json", ".txt", ".jinja", ".model")
        if not path.is_dir() and (not path.is_file() or is_text and path.stat().st_size > MAX_FILE_BYTES):
            raise CheckpointError(f"{path}: not a file, or larger than {MAX_FILE_BYTES:,} bytes; fetch it again.")


def find_file(source: str, name: str, hub: Mapping[str, Any]) -> str | None:
    """A file of a folder or of the Hub, or None."""
    quiet = {f"_raise_exceptions_for_{case}": False for case in ("missing_entries", "connection_errors", "gated_repo")}
    return cached_file(source, name, **quiet, **hub)


def prompt_names(model: nn.Module) -> set[str]:
    """Names of the parameters and buffers that a stock CLIP does not have."""
    kinds = (ClassPrompts, TimeEmbedding, VisionPrompts)
    parts = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, kinds))
    return {name for name in model.state_dict() if name.startswith(parts)}


def stored_shapes(source: str, hub: Mapping[str, Any]) -> dict[str, list[int]] | None:
    """
    The shapes of all stored tensors by name, from the headers of the weights files; None without safetensors.

    Raises:
        CheckpointError: an index that is damaged or names files outside of the folder.
        SafetensorError: a damaged file.
    """
    files = [find_file(source, WEIGHTS, hub)]
    if files[0] is None:
        index = find_file(source, INDEX, hub)
        if index is None:
            return None
        with content_errors(f"{index}: no index of shards; fetch it again", CheckpointError):
            names = set(read_json(index)["weight_map"].values())
            if not all(Path(name).name == name and "\\" not in name for name in names):
                raise ValueError("it names files that are not beside it")
        files = [find_file(source, name, hub) for name in sorted(names)]
    shapes: dict[str, list[int]] = {}
    for file in files:
        if file is not None:  # a missing shard has transformers' own error
            with safe_open(file, "pt") as tensors:
                shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    return shapes


def check_amount(
    source: str, config: PreTrainedConfig, make: Callable[[Any], nn.Module], hub: Mapping[str, Any], new: int = 0
) -> None:
    """
    Compares how much a configuration asks for with what is stored, before a model that `make` makes takes memory.

    `new` is the most that prompts which start anew may add.

    Raises:
        CheckpointError: it asks for more than twice as much, or for more layers than a tower has.
    """
    parts = [config, *(part for part in vars(config).values() if isinstance(part, PreTrainedConfig))]
    if any(getattr(part, "num_hidden_layers", 0) > MAX_LAYERS for part in parts):  # they take many seconds to make
        raise CheckpointError(f"{source}: its config.json asks for more than {MAX_LAYERS} layers; fetch it again.")
    shapes = stored_shapes(source, hub)
    if shapes is not None:
        with torch.device("meta"):
            asked = sum(tensor.numel() for tensor in make(config).state_dict().values())
        stored = sum(math.prod(shape) for shape in shapes.values())
        if asked > 2 * stored + new:
            raise CheckpointError(
                f"{source}: its config.json asks for {asked:,} parameters, and {stored:,} are stored. Fetch it again."
            )


def compare_shapes(stored: Mapping[str, list[int]], expected: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What `output_loading_info` would say of tensors of these shapes."""
    shapes = {name: list(tensor.shape) for name, tensor in expected.items()}
    both = shapes.keys() & stored
    return {
        "missing_keys": shapes.keys() - stored,
        "unexpected_keys": stored.keys() - shapes,
        "mismatched_keys": [(name, stored[name], shapes[name]) for name in both if stored[name] != shapes[name]],
    }


def check_complete(source: Any, info: Mapping[str, Any], new: Iterable[str] = (), unexpected: bool = True) -> None:
    """
    Raises CheckpointError for weights that are missing (but for the `new` ones), have another shape, or (`unexpected`)
    no place. `info` is `output_loading_info` of `from_pretrained`.
    """
    problems = [
        f"{name} has the shape {list(stored)}, the configuration asks for {list(expected)}"
        for name, stored, expected in sorted(info["mismatched_keys"])
    ]
    problems += [f"{name} is missing" for name in sorted(set(info["missing_keys"]) - set(new))]
    problems += [f"{name} has no place" for name in sorted(info["unexpected_keys"]) if unexpected]
    if problems:
        some = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise CheckpointError(
            f"{source}: not the weights of its configuration: {some}. Fetch or save the folder again."
        )


def check_processor(source: str, processor: Any, side: int | None = None) -> None:
    """
    Tries a tokenizer on a word, and a video processor on a small frame, which must become a square of `side`, if given.

    Raises:
        CheckpointError: a video would take gigabytes of model input, or the processor cannot be used at all.
    """
    try:
        processor.tokenizer("a")
        processor = processor.video_processor
        pixels = getattr(processor, "own", processor)  # of another dual encoder, its own processor makes the pixels
        sizes = [dict(size) for name in ("size", "crop_size") if (size := getattr(pixels, name, None))]
        sides = [side for size in sizes for side in size.values() if side is not None] or [1]
        views = processor.num_views * processor.num_spatial_views
        if not 0 < 12 * views * processor.num_frames * max(sides) ** 2 <= MAX_PIXEL_BYTES:
            raise ValueError(f"views, frames or sizes are wrong: {views}, {processor.num_frames}, {sides}")
        inputs = processor(np.full((1, 8, 16, 3), 127, np.uint8), num_views=1, num_spatial_views=1, return_tensors="pt")
        pixels = inputs["pixel_values_videos"]
        if not pixels.isfinite().all() or side is not None and pixels.shape[-2:] != (side, side):
            raise ValueError(f"its pixels are NaN, infinite or of the shape {tuple(pixels.shape)}")
    except LOADING_ERRORS as error:
        reason = f"its tokenizer or video processor cannot be used ({one_line(error)})"
        raise CheckpointError(f"{source}: {reason}; save it.") from error
