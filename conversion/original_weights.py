"""Reads checkpoints of other formats without executing code in them, and renames their weights without losing one."""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from torch import nn

from vitaclip_hf.model.shown_names import check_utf8


OPENAI_TOKENIZER = "openai/clip-vit-base-patch16"
NOT_PLAIN = "not a checkpoint of plain tensors, and nothing else is loaded"


class ConversionError(ValueError):
    """The checkpoint, the class list or an argument does not fit; the message says what to change."""


def load_tensors(path: Path, argument: str) -> dict[str, torch.Tensor]:
    """
    Tensors by name, from a `.safetensors` file or from one that `torch.save` wrote. No code in the file is executed.

    Args:
        path (`Path`): the file.
        argument (`str`): the caller's argument that names the file, for messages.

    Returns:
        `dict[str, torch.Tensor]`, without the wrapping that trainers add (`"model"`, `"state_dict"`, `"module."`).

    Raises:
        ConversionError: the file is missing, damaged, a TorchScript archive, or holds more than plain tensors.
    """
    if not path.is_file():
        raise ConversionError(f"`{argument}` {path}: no such file.")
    try:
        if path.suffix == ".safetensors":
            return _checked(load_file(path), path, argument)
        content = _read_saved(path, argument)
    except ConversionError:
        raise
    except (
        Exception
    ) as error:  # torch and zipfile raise nearly anything for a damaged file, zlib.error and IndexError too
        kind = "damaged or not safetensors" if path.suffix == ".safetensors" else NOT_PLAIN
        raise ConversionError(f"`{argument}` {path}: {kind} ({reason_of(error)}).") from error
    for wrapping in ("model", "state_dict"):  # of the released code, of open_clip's and MetaCLIP's trainers
        content = content.get(wrapping, content) if isinstance(content, dict) else content
    plain = isinstance(content, dict) and all(torch.is_tensor(v) and isinstance(k, str) for k, v in content.items())
    if not plain or not content:
        raise ConversionError(
            f"`{argument}` {path}: expected {{name: tensor}}, or the same within 'model' or 'state_dict', and nothing "
            "else."
        )
    return _checked({key.removeprefix("module."): tensor for key, tensor in content.items()}, path, argument)


def reason_of(error: Exception) -> str:
    """What a library says, in one line of bounded length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def listed(names: Iterable[str]) -> str:
    """Names for a message: the first five in order, and how many more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(f"{name:.100}" for name in ordered[:5]) + more


def _read_saved(path: Path, argument: str) -> Any:
    """The content of a file of `torch.save`, which stores its parts as they are: no part is larger than the file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if any("/code/" in part.filename or part.filename.endswith("constants.pkl") for part in parts):
                raise ConversionError(
                    f"`{argument}` {path}: a TorchScript archive (as OpenAI publishes). It holds code, which is not "
                    "executed here. Give the Hub id of the same weights, such as openai/clip-vit-base-patch16. Or, if "
                    "you trust the file, save its plain weights: "
                    "torch.save(torch.jit.load(FILE, 'cpu').state_dict(), 'plain.pt')."
                )
            if sum(part.file_size for part in parts) > path.stat().st_size:
                raise ConversionError(f"`{argument}` {path}: {NOT_PLAIN} (its parts are compressed).")
            if damaged := archive.testzip():
                raise ConversionError(
                    f"`{argument}` {path}: damaged, wrong checksum of {damaged:.100}; fetch it again."
                )
    return torch.load(path, map_location="cpu", weights_only=True)


def _checked(tensors: dict[str, torch.Tensor], path: Path, argument: str) -> dict[str, torch.Tensor]:
    """Refuses tensors that are larger in memory than in the file, or that are no plain arrays of numbers."""
    wrong = [
        name
        for name, tensor in tensors.items()
        if tensor.layout != torch.strided
        or tensor.is_quantized
        or tensor.device.type != "cpu"
        or not tensor.numel()  # of any size: [1000000000, 0] takes no byte
        or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
    ]
    if wrong:
        raise ConversionError(
            f"`{argument}` {path}: these are no plain tensors (empty, sparse, quantized or expanded): {listed(wrong)}."
        )
    return tensors


def check_values(weights: dict[str, torch.Tensor]) -> None:
    """Checks that every weight is a finite floating-point number."""
    wrong = [name for name, t in weights.items() if not t.is_floating_point() or not t.float().isfinite().all()]
    if wrong:
        raise ConversionError(f"these weights are no finite floating-point numbers: {listed(wrong)}.")


@contextmanager
def fitting_weights() -> Iterator[None]:
    """Within it, tensors of another shape than the format has are a ConversionError, whatever step stumbles."""
    try:
        yield
    except ConversionError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, RuntimeError, StrictDataclassError) as error:
        raise ConversionError(f"the weights do not have the shapes of this format ({reason_of(error)}).") from error


def read_classes(path: Path) -> list[str]:
    """One class name a line, in the order of the labels."""
    if not path.is_file():
        raise ConversionError(f"`classes` {path}: no such file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConversionError(f"`classes` {path}: not UTF-8 ({error.reason}); save it as UTF-8.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_output(path: Path) -> None:
    check_utf8(path, "safetensors", "output", ConversionError)
    if Path(path).is_file():
        raise ConversionError(f"`output` {path}: a file is there; give the name of a folder.")
    if Path(path).is_dir() and any(Path(path).iterdir()):
        raise ConversionError(f"`output` {path}: already there and not empty; give the name of a new folder.")


def require_keys(weights: dict[str, torch.Tensor], needed: list[str], meaning: str) -> None:
    missing = [key for key in needed if key not in weights]
    if missing:
        raise ConversionError(f"the checkpoint lacks {', '.join(missing)}; {meaning}.")


def count_layers(weights: dict[str, torch.Tensor], prefix: str) -> int:
    numbers = {key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)}
    if numbers != set(map(str, range(len(numbers)))) or not numbers:
        raise ConversionError(f"the checkpoint has no complete sequence of layers under {prefix!r}.")
    return len(numbers)


def heads_for(width: int, given: int | None, argument: str) -> int:
    """The number of attention heads: as given, else by CLIP's rule, width / 64."""
    heads = given or width // 64
    if heads < 1 or width % heads:
        raise ConversionError(f"a width of {width} does not divide into {heads} heads; pass `{argument}`.")
    return heads


def image_size_of(positions: torch.Tensor, patch_size: int) -> int:
    """Pixels along an image's side from the number of positions, class token included."""
    grid = round((len(positions) - 1) ** 0.5)
    if grid**2 + 1 != len(positions):
        raise ConversionError(f"{len(positions) - 1} patch positions are no square of patches.")
    return grid * patch_size


class Renaming:
    """
    Moves the tensors of another format to our names.

    Args:
        weights (`dict[str, torch.Tensor]`): the tensors by name. Each key that finds its place is taken out.

    Attributes:
        left: the tensors that have no place yet.
        converted: the tensors by our names.
    """

    OPENAI_BLOCK = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }

    def __init__(self, weights: dict[str, torch.Tensor]):
        self.left = weights
        self.converted: dict[str, torch.Tensor] = {}

    def move(
        self, old: str, new: str, change: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.contiguous
    ) -> None:
        """Moves a tensor if it is there; `change` gives it another layout."""
        if old in self.left:
            self.converted[new] = change(self.left.pop(old))

    def move_layer(self, old: str, new: str) -> None:
        """Moves a layer's weight and bias."""
        for kind in ("weight", "bias"):
            self.move(f"{old}.{kind}", f"{new}.{kind}")

    def move_openai_block(self, old: str, new: str) -> None:
        """Moves a block of OpenAI's transformer, which packs queries, keys and values into one matrix."""
        for theirs, ours in self.OPENAI_BLOCK.items():
            self.move_layer(f"{old}.{theirs}", f"{new}.{ours}")
        for kind in ("weight", "bias"):
            packed = self.left.pop(f"{old}.attn.in_proj_{kind}", None)
            if packed is not None:
                for name, part in zip("qkv", packed.chunk(3), strict=True):
                    self.converted[f"{new}.self_attn.{name}_proj.{kind}"] = part

    def move_text_tower(self, prefix: str, num_layers: int) -> None:
        """Moves OpenAI's text tower and its projection."""
        self.move(f"{prefix}token_embedding.weight", "text_model.embeddings.token_embedding.weight")
        self.move(f"{prefix}positional_embedding", "text_model.embeddings.position_embedding.weight")
        self.move_layer(f"{prefix}ln_final", "text_model.final_layer_norm")
        self.move(f"{prefix}text_projection", "text_projection.weight", torch.t)
        for layer in range(num_layers):
            self.move_openai_block(f"{prefix}transformer.resblocks.{layer}", f"text_model.encoder.layers.{layer}")

    def check(self, model: nn.Module, kept: frozenset[str] | set[str] = frozenset()) -> None:
        """
        Checks that the moved tensors are those of a model, which may be on the meta device.

        Args:
            model (`nn.Module`): the model to fill.
            kept (`set[str]`): names of the model's tensors that the other format does not have.

        Raises:
            ConversionError: a key has no place, or a weight of the model is not filled or has another shape.
        """
        if self.left:
            raise ConversionError(f"these keys of the checkpoint have no place in the model: {listed(self.left)}.")
        places = model.state_dict()
        surplus = [name for name in self.converted if name not in places]  # such as a prompt of some layers only
        if surplus:
            raise ConversionError(f"these weights have no place in a model of this kind: {listed(surplus)}.")
        expected = {name: tensor.shape for name, tensor in places.items() if name not in kept}
        found = self.converted
        wrong = [name for name in expected if name not in found or found[name].shape != expected[name]]
        if wrong:
            raise ConversionError(
                f"the checkpoint does not fill these weights, or gives them another shape: {listed(wrong)}."
            )

    def fill(self, model: nn.Module, kept: frozenset[str] | set[str] = frozenset()) -> None:
        """Loads the moved tensors into a model; see [`check`]."""
        self.check(model, kept)
        model.load_state_dict(self.converted, strict=not kept)
