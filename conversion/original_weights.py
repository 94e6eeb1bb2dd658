"""Reads checkpoints of other formats without executing code in them, and renames their weights without losing one."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipProcessor, VitaClipVideoProcessor
from vitaclip_hf.loading.checkpoint import save_checkpoint
from vitaclip_hf.loading.guards import check_complete, check_processor, compare_shapes, prompt_names
from vitaclip_hf.model.shown_names import one_line


OPENAI_TOKENIZER = "openai/clip-vit-base-patch16"
SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
# OpenAI's names of the parts of a block, and ours. Its `in_proj` is queries, keys and values in one tensor.
OPENAI_BLOCK = {
    r"ln_1\.": "layer_norm1.",
    r"ln_2\.": "layer_norm2.",
    r"mlp\.c_fc\.": "mlp.fc1.",
    r"mlp\.c_proj\.": "mlp.fc2.",
    r"attn\.out_proj\.": "self_attn.out_proj.",
    r"attn\.in_proj_": "self_attn.in_proj.",
}
TRANSPOSED = ("visual_projection.weight", "text_projection.weight")


def load_tensors(path: Path, argument: str) -> dict[str, torch.Tensor]:
    """
    Tensors by name, from a `.safetensors` file or from one that `torch.save` wrote. No code in the file is executed.

    Args:
        path (`Path`): the file.
        argument (`str`): the caller's argument that names the file, for messages.

    Returns:
        `dict[str, torch.Tensor]`, without the wrapping that trainers add (`"model"`, `"state_dict"`, `"module."`).

    Raises:
        ValueError: the file is missing, damaged, a TorchScript archive, or holds more than plain tensors.
    """
    where = f"`{argument}` {path}"
    if not path.is_file():
        raise ValueError(f"{where}: no such file.")
    is_safe = path.suffix == ".safetensors"
    try:
        content = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything for a damaged file
        advice = "of OpenAI's .pt files, which hold code, give the Hub id, such as openai/clip-vit-base-patch16"
        kind = "damaged or not safetensors" if is_safe else f"not a checkpoint of plain tensors; {advice}"
        raise ValueError(f"{where}: {kind} ({one_line(error)}).") from error
    for wrapping in ("model", "state_dict"):  # of the released code, of open_clip's and MetaCLIP's trainers
        content = content.get(wrapping, content) if isinstance(content, dict) else content
    plain = isinstance(content, dict) and all(torch.is_tensor(v) and isinstance(k, str) for k, v in content.items())
    if not plain or not content:
        raise ValueError(f"{where}: expected {{name: tensor}}, perhaps within 'model' or 'state_dict', and no more.")
    tensors = {key.removeprefix("module."): tensor for key, tensor in content.items()}
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
        raise ValueError(f"{where}: no plain tensors (empty, sparse, quantized or expanded): {listed(wrong)}.")
    return tensors


def listed(names: Iterable[str]) -> str:
    """Names for a message: the first five in order, and how many more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(f"{name:.100}" for name in ordered[:5]) + more


@contextmanager
def fitting_weights() -> Iterator[None]:
    """Within it, tensors of another shape than the format has are a ValueError, whatever step stumbles."""
    try:
        yield
    except ValueError:
        raise
    except (LookupError, RuntimeError, StrictDataclassError) as error:
        raise ValueError(f"the weights do not have the shapes of this format ({one_line(error)}).") from error


def save_converted(model: VitaClipModel, tokenizer: Any, output: Path, **settings: Any) -> None:
    """Saves a converted model with its processor; `settings` are of the video processor."""
    size = model.config.vision_config.image_size
    sizes: dict[str, Any] = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    video_processor = VitaClipVideoProcessor(num_frames=model.config.num_frames, **sizes | settings)
    processor = VitaClipProcessor(video_processor, tokenizer)
    check_processor(str(output), processor, size)
    save_checkpoint(model, processor, output)


def as_float32(weights: Mapping[str, torch.Tensor], needed: Mapping[str, int], meaning: str) -> dict[str, torch.Tensor]:
    """
    The weights in float32. Checks that each is a finite number, and that those by which the sizes are found are there.

    Args:
        weights: tensors by name.
        needed: their numbers of dimensions by name.
        meaning: what it means that one of them is missing.
    """
    wrong = [name for name, t in weights.items() if not t.is_floating_point() or not t.float().isfinite().all()]
    if wrong:
        raise ValueError(f"these weights are not finite floating-point numbers: {listed(wrong)}.")
    missing = [name for name, dimensions in needed.items() if name not in weights or weights[name].ndim != dimensions]
    if missing:
        raise ValueError(f"the checkpoint lacks {', '.join(missing)}, or it has another shape; {meaning}.")
    return {name: tensor.float() for name, tensor in weights.items()}


def count_layers(weights: Mapping[str, torch.Tensor], prefix: str) -> int:
    numbers = {key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)}
    if numbers != set(map(str, range(len(numbers)))) or not numbers:
        raise ValueError(f"the checkpoint has no complete sequence of layers under {prefix!r}.")
    return len(numbers)


def heads_for(width: int, heads: int | None, argument: str) -> int:
    """The number of attention heads: as given, else by CLIP's rule, width / 64."""
    heads = heads or width // 64
    if heads < 1 or width % heads:
        raise ValueError(f"a width of {width} does not divide into {heads} heads; pass `{argument}`.")
    return heads


def vision_sizes(
    weights: Mapping[str, torch.Tensor], patches: str, positions: str, blocks: str, mlp: str, heads: int | None
) -> dict[str, Any]:
    """Sizes of a vision tower, as arguments of its configuration.

    Args:
        weights: tensors by name.
        patches, positions: names of the patch embedding and of the positions.
        blocks, mlp: beginning of the layers' names, and the name of the first MLP weight in one.
        heads (`int`, *optional*): attention heads.
    """
    width, channels, patch, _ = weights[patches].shape
    count = len(weights[positions]) - 1
    grid = round(count**0.5)
    if grid**2 != count:
        raise ValueError(f"{count} patch positions do not form a square.")
    return {
        "hidden_size": width,
        "intermediate_size": len(weights[f"{blocks}0.{mlp}"]),
        "num_hidden_layers": count_layers(weights, blocks),
        "num_attention_heads": heads_for(width, heads, "vision_heads"),
        "num_channels": channels,
        "image_size": grid * patch,
        "patch_size": patch,
        "projection_dim": weights["visual.proj"].shape[1],
    }


def text_sizes(weights: Mapping[str, torch.Tensor], prefix: str, heads: int | None, tokenizer: Any) -> dict[str, Any]:
    """Sizes and special tokens of OpenAI's text tower, whose names begin with `prefix`; like [`vision_sizes`]."""
    vocabulary, width = weights[f"{prefix}token_embedding.weight"].shape
    positions, position_width = weights[f"{prefix}positional_embedding"].shape
    if position_width != width:  # else a narrow one could claim any number of positions
        raise ValueError(f"{prefix}positional_embedding has the width {position_width}, tokens have {width}.")
    blocks = f"{prefix}transformer.resblocks."
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": len(weights[f"{blocks}0.mlp.c_fc.weight"]),
        "num_hidden_layers": count_layers(weights, blocks),
        "num_attention_heads": heads_for(width, heads, "text_heads"),
        "max_position_embeddings": positions,
        "projection_dim": weights["visual.proj"].shape[1],
        **{name: getattr(tokenizer, name) for name in SPECIAL_TOKENS},
    }


def block_rules(old: str, new: str, parts: Mapping[str, str]) -> dict[str, str]:
    """Rules for [`rename`]: the parts of each layer under `old` become those of our tower `new`."""
    return {rf"{old}(\d+)\.{theirs}(.*)": rf"{new}.encoder.layers.\1.{ours}\2" for theirs, ours in parts.items()}


def text_rules(prefix: str) -> dict[str, str]:
    """Rules for [`rename`]: OpenAI's text tower and its projection."""
    return {
        rf"{prefix}token_embedding\.weight": "text_model.embeddings.token_embedding.weight",
        rf"{prefix}positional_embedding": "text_model.embeddings.position_embedding.weight",
        rf"{prefix}ln_final\.(.*)": r"text_model.final_layer_norm.\1",
        rf"{prefix}text_projection": "text_projection.weight",
        **block_rules(rf"{prefix}transformer\.resblocks\.", "text_model", OPENAI_BLOCK),
    }


def rename(weights: Mapping[str, torch.Tensor], rules: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """
    The tensors by our names.

    Args:
        weights: tensors by name.
        rules: patterns of names, and our names for them; `in_proj` is divided into queries, keys and values.

    Raises:
        ValueError: a name without a rule.
    """
    renamed, unknown = {}, []
    for name, tensor in weights.items():
        matches = (match.expand(ours) for theirs, ours in rules.items() if (match := re.fullmatch(theirs, name)))
        ours = next(matches, None)
        if ours is None:
            unknown.append(name)
        elif ".in_proj." in ours:
            for kind, part in zip("qkv", tensor.chunk(3), strict=True):
                renamed[ours.replace(".in_proj.", f".{kind}_proj.")] = part
        else:
            renamed[ours] = tensor.t() if ours in TRANSPOSED else tensor
    if unknown:
        raise ValueError(f"these keys of the checkpoint have no place in the model: {listed(unknown)}.")
    return renamed


def filled_model(config: VitaClipConfig, weights: Mapping[str, torch.Tensor], new_prompts: bool) -> VitaClipModel:
    """
    A model with these weights.

    Args:
        config: of the model.
        weights: tensors by our names.
        new_prompts: whether the prompts start anew, since the weights are those of a stock CLIP.

    Raises:
        ValueError: a weight has no place, is missing or has another shape.
    """
    with torch.device("meta"):  # before memory is taken for sizes that the weights only claim
        empty = VitaClipModel(config)
    new = prompt_names(empty) if new_prompts else set()
    shapes = {name: list(tensor.shape) for name, tensor in weights.items()}
    check_complete("the checkpoint", compare_shapes(shapes, empty.state_dict()), new)
    model = VitaClipModel(config)
    model.load_state_dict(weights, strict=not new)
    return model
