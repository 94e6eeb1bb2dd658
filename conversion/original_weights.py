"""Reads checkpoints of other formats without executing code in them, and renames their weights without losing one."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn


OPENAI_TOKENIZER = "openai/clip-vit-base-patch16"


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
    if _is_torchscript(path):
        raise ConversionError(
            f"`{argument}` {path}: a TorchScript archive (as OpenAI publishes). It holds code, which is not executed "
            "here. Give the Hub id of the same weights, such as openai/clip-vit-base-patch16. Or, if you trust the "
            "file, save its plain weights: torch.save(torch.jit.load(FILE, 'cpu').state_dict(), 'plain.pt')."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ConversionError(f"`{argument}` {path}: damaged or not safetensors ({error}).") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, zipfile.BadZipFile, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConversionError(
            f"`{argument}` {path}: not a checkpoint of plain tensors, and nothing else is loaded ({reason})."
        ) from error
    for wrapping in ("model", "state_dict"):  # of the released code, of open_clip's and MetaCLIP's trainers
        content = content.get(wrapping, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not content or not all(torch.is_tensor(v) for v in content.values()):
        raise ConversionError(
            f"`{argument}` {path}: expected {{name: tensor}}, or the same within 'model' or 'state_dict', and nothing "
            "else."
        )
    return {key.removeprefix("module."): tensor for key, tensor in content.items()}


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name or name.endswith("constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


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
    if Path(path).is_file():
        raise ConversionError(f"`output` {path}: a file is there; give the name of a folder.")
    if Path(path).is_dir() and any(Path(path).iterdir()):
        raise ConversionError(f"`output` {path}: already there and not empty; give the name of a new folder.")


def require_keys(weights: dict[str, torch.Tensor], needed: list[str], meaning: str) -> None:
    missing = [key for key in needed if key not in weights]
    if missing:
        raise ConversionError(f"the checkpoint lacks {', '.join(missing)}; {meaning}.")


def count_layers(weights: dict[str, torch.Tensor], prefix: str) -> int:
    numbers = {int(key[len(prefix) :].split(".")[0]) for key in weights if key.startswith(prefix)}
    if numbers != set(range(len(numbers))) or not numbers:
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

    def fill(self, model: nn.Module, kept: frozenset[str] | set[str] = frozenset()) -> None:
        """
        Loads the moved tensors into a model.

        Args:
            model (`nn.Module`): the model to fill.
            kept (`set[str]`): names of the model's tensors that the other format does not have.

        Raises:
            ConversionError: a key has no place, or a weight of the model is not filled or has another shape.
        """
        if self.left:
            names = ", ".join(sorted(self.left))
            raise ConversionError(f"these keys of the checkpoint have no place in the model: {names}.")
        expected = {name: tensor.shape for name, tensor in model.state_dict().items() if name not in kept}
        found = self.converted
        wrong = sorted(name for name in expected if name not in found or found[name].shape != expected[name])
        if wrong:
            raise ConversionError(
                f"the checkpoint does not fill these weights, or gives them another shape: {', '.join(wrong)}."
            )
        model.load_state_dict(self.converted, strict=not kept)
