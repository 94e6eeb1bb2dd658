"""Converts a checkpoint of the authors' released code into a folder that `AutoModel` and `AutoProcessor` load.

    python conversion/convert_vita_clip_original.py --checkpoint F.pth --classes classes.txt --output DIR

Everything that can be read from the weights is: sizes, numbers of prompts and frames, which prompts there are. Not in
the weights are the numbers of heads (`--vision-heads`, `--text-heads`; CLIP's rule of width / 64 by default) and where
the class name stands (`--context-position`). Every key of the checkpoint must find its place, or the conversion stops.
"""

import argparse
import pickle
import sys
import zipfile
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.image_utils import PILImageResampling

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipProcessor, VitaClipVideoProcessor
from vitaclip_hf.prompts import AFTER_END, CONTEXT_SLOT, tokenize_class_prompts


class ConversionError(ValueError):
    """The checkpoint, the class list or an option does not fit; the message says what to change."""


def load_original(path: Path) -> dict[str, torch.Tensor]:
    """The released `.pth` as a flat dictionary of tensors, without executing anything in it."""
    if not path.is_file():
        raise ConversionError(f"--checkpoint {path}: no such file.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, zipfile.BadZipFile, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConversionError(
            f"--checkpoint {path}: not a checkpoint of plain tensors, and nothing else is loaded ({reason})."
        ) from error
    weights = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(weights, dict) or not weights or not all(torch.is_tensor(v) for v in weights.values()):
        raise ConversionError(
            f"--checkpoint {path}: expected {{'model': {{name: tensor}}}} as the released code saves."
        )
    return {key.removeprefix("module."): tensor for key, tensor in weights.items()}


def read_classes(path: Path) -> list[str]:
    """One class name a line, in the order of the labels."""
    if not path.is_file():
        raise ConversionError(f"--classes {path}: no such file.")
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def count_layers(weights: dict[str, torch.Tensor], prefix: str) -> int:
    numbers = {int(key[len(prefix) :].split(".")[0]) for key in weights if key.startswith(prefix)}
    if numbers != set(range(len(numbers))) or not numbers:
        raise ConversionError(f"the checkpoint has no complete sequence of layers under {prefix!r}.")
    return len(numbers)


def heads_for(width: int, given: int | None, option: str) -> int:
    heads = given or width // 64
    if heads < 1 or width % heads:
        raise ConversionError(f"a width of {width} does not divide into {heads} heads; give the number by {option}.")
    return heads


def read_config(weights: dict[str, torch.Tensor], classes: list[str], options: argparse.Namespace) -> VitaClipConfig:
    """The configuration that the shapes of the weights tell."""
    needed = ["visual.patch_embed.proj.weight", "visual.pos_embed", "visual.time_embed", "visual.proj", "logit_scale"]
    needed += ["textual.token_embedding.weight", "textual.positional_embedding", "textual.text_projection"]
    needed += ["visual.blocks.0.mlp.fc1.weight", "textual.transformer.resblocks.0.mlp.c_fc.weight"]
    needed += ["prompt_learner.ctx", "prompt_learner.token_prefix", "prompt_learner.token_suffix"]
    missing = [key for key in needed if key not in weights]
    if missing:
        raise ConversionError(
            f"the checkpoint lacks {', '.join(missing)}; only checkpoints trained with learned text prompts hold a "
            "whole model."
        )
    width, channels, patch, _ = weights["visual.patch_embed.proj.weight"].shape
    grid = round((len(weights["visual.pos_embed"]) - 1) ** 0.5)
    if grid**2 + 1 != len(weights["visual.pos_embed"]):
        raise ConversionError(f"{len(weights['visual.pos_embed']) - 1} patch positions are no square of patches.")
    vocabulary, text_width = weights["textual.token_embedding.weight"].shape
    context = weights["prompt_learner.ctx"]
    global_prompts = weights.get("visual.global_prompts")
    return VitaClipConfig(
        id2label=dict(enumerate(classes)),
        projection_dim=weights["visual.proj"].shape[1],
        logit_scale_init_value=weights["logit_scale"].item(),
        architectures=["VitaClipModel"],
        vision_config={
            "hidden_size": width,
            "intermediate_size": weights["visual.blocks.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": count_layers(weights, "visual.blocks."),
            "num_attention_heads": heads_for(width, options.vision_heads, "--vision-heads"),
            "num_channels": channels,
            "image_size": grid * patch,
            "patch_size": patch,
            "projection_dim": weights["visual.proj"].shape[1],
            "num_frames": len(weights["visual.time_embed"]),
            "use_summary_prompt": "visual.blocks.0.summary_ln.weight" in weights,
            "use_local_prompts": "visual.blocks.0.local_prompts" in weights,
            "num_global_prompts": 0 if global_prompts is None else global_prompts.shape[1],
        },
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "intermediate_size": weights["textual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": count_layers(weights, "textual.transformer.resblocks."),
            "num_attention_heads": heads_for(text_width, options.text_heads, "--text-heads"),
            "max_position_embeddings": len(weights["textual.positional_embedding"]),
            "projection_dim": weights["visual.proj"].shape[1],
            "num_context_tokens": context.shape[-2],
            "class_specific_context": context.ndim == 3,
            "context_position": options.context_position,
        },
    )


VISION_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    **{f"attn.{name}": f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")},
    "cls_proj": "prompts.cls_projection",
    "summary_ln": "prompts.summary_norm",
    **{
        f"summary_attn_layer.{name}": f"prompts.summary_attention.{name}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj")
    },
}
TEXT_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def convert_weights(weights: dict[str, torch.Tensor], config: VitaClipConfig) -> dict[str, torch.Tensor]:
    """The released names and layouts as ours. Takes every key out of `weights` that it has placed."""
    converted = {}

    def move(old: str, new: str) -> None:
        if old in weights:
            converted[new] = weights.pop(old)

    def move_layer(old: str, new: str) -> None:
        for kind in ("weight", "bias"):
            move(f"{old}.{kind}", f"{new}.{kind}")

    move("logit_scale", "logit_scale")
    move("visual.cls_token", "vision_model.embeddings.class_embedding")
    move("visual.patch_embed.proj.weight", "vision_model.embeddings.patch_embedding.weight")
    positions = weights.pop("visual.pos_embed").clone()
    # CLIP's patches have no bias: the same for every patch, it belongs to their positions.
    positions[1:] += weights.pop("visual.patch_embed.proj.bias", torch.zeros(positions.shape[1]))
    converted["vision_model.embeddings.position_embedding.weight"] = positions
    move("visual.time_embed", "vision_model.time_embedding.weight")
    move_layer("visual.ln_pre", "vision_model.pre_layrnorm")
    move_layer("visual.ln_post", "vision_model.post_layernorm")
    converted["visual_projection.weight"] = weights.pop("visual.proj").T
    global_prompts = weights.pop("visual.global_prompts", None)
    for layer in range(config.vision_config.num_hidden_layers):
        old, new = f"visual.blocks.{layer}", f"vision_model.encoder.layers.{layer}"
        for ours, theirs in VISION_BLOCK.items():
            move_layer(f"{old}.{ours}", f"{new}.{theirs}")
        if f"{old}.local_prompts" in weights:
            converted[f"{new}.prompts.local_prompts"] = weights.pop(f"{old}.local_prompts")[0]
        if global_prompts is not None:
            converted[f"{new}.prompts.global_prompts"] = global_prompts[layer]

    move("textual.token_embedding.weight", "text_model.embeddings.token_embedding.weight")
    move("textual.positional_embedding", "text_model.embeddings.position_embedding.weight")
    move_layer("textual.ln_final", "text_model.final_layer_norm")
    converted["text_projection.weight"] = weights.pop("textual.text_projection").T
    for layer in range(config.text_config.num_hidden_layers):
        old, new = f"textual.transformer.resblocks.{layer}", f"text_model.encoder.layers.{layer}"
        for ours, theirs in TEXT_BLOCK.items():
            move_layer(f"{old}.{ours}", f"{new}.{theirs}")
        for kind in ("weight", "bias"):
            packed = weights.pop(f"{old}.attn.in_proj_{kind}", None)
            if packed is not None:
                for name, part in zip("qkv", packed.chunk(3), strict=True):
                    converted[f"{new}.self_attn.{name}_proj.{kind}"] = part
    move("prompt_learner.ctx", "class_prompts.context")
    return converted


def check_class_names(
    weights: dict[str, torch.Tensor], names: list[str], ids: torch.Tensor, embedding: torch.Tensor
) -> None:
    """The checkpoint holds the embedded tokens of its class prompts: they must be those of the class list."""
    prefix = weights.pop("prompt_learner.token_prefix")
    suffix = weights.pop("prompt_learner.token_suffix")
    if len(prefix) != len(names):
        raise ConversionError(f"--classes names {len(names)} classes, but the checkpoint was trained on {len(prefix)}.")
    for index, name in enumerate(names):
        row = ids[index]
        tokens = row[(row != CONTEXT_SLOT) & (row != AFTER_END)]
        found = torch.cat([prefix[index], suffix[index, : len(tokens) - 1]])
        if found.shape != embedding[tokens].shape or not torch.equal(found, embedding[tokens]):
            raise ConversionError(
                f"class {index} is {name!r} in --classes, but the checkpoint was trained with another name there; "
                "give the class list of the training, in its order."
            )


def convert(options: argparse.Namespace) -> VitaClipModel:
    """Reads, converts, checks and saves; returns the model."""
    if Path(options.output).is_file():
        raise ConversionError(f"--output {options.output}: a file is there; give the name of a folder.")
    weights = {name: t.float() if t.is_floating_point() else t for name, t in load_original(options.checkpoint).items()}
    names = read_classes(options.classes)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(options.tokenizer)
    config = read_config(weights, names, options)
    context = weights["prompt_learner.ctx"]
    if context.ndim == 3 and len(context) != len(names):
        raise ConversionError(
            f"--classes names {len(names)} classes, but the checkpoint was trained on {len(context)}."
        )
    for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config.text_config, field, getattr(tokenizer, field))
    ids = tokenize_class_prompts(names, tokenizer, config.text_config)
    check_class_names(weights, names, ids, weights["textual.token_embedding.weight"])
    converted = convert_weights(weights, config)
    if weights:
        raise ConversionError(f"these keys of the checkpoint have no place in the model: {', '.join(sorted(weights))}.")
    converted["class_prompts.class_input_ids"] = ids
    model = VitaClipModel(config)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    wrong = sorted(name for name in expected if name not in converted or converted[name].shape != expected[name])
    if wrong:
        raise ConversionError(f"the checkpoint does not fill these weights, or in another shape: {', '.join(wrong)}.")
    model.load_state_dict(converted)
    size = config.vision_config.image_size
    video_processor = VitaClipVideoProcessor(
        num_frames=config.num_frames,
        sampling="dense",
        resample=PILImageResampling.BILINEAR,  # as it was trained: bilinear, no low-pass
        antialias=False,
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
    )
    model.save_pretrained(options.output)
    VitaClipProcessor(video_processor, tokenizer).save_pretrained(options.output)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the released code's .pth")
    parser.add_argument("--classes", type=Path, required=True, help="class names, one a line, in label order")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--tokenizer", default="openai/clip-vit-base-patch16", help="folder or id of CLIP's tokenizer")
    parser.add_argument("--vision-heads", type=int, help="attention heads of the video tower (default: width / 64)")
    parser.add_argument("--text-heads", type=int, help="attention heads of the text tower (default: width / 64)")
    parser.add_argument("--context-position", default="end", choices=("end", "front", "middle"))
    options = parser.parse_args()
    try:
        model = convert(options)
    except (ConversionError, OSError, ValueError) as error:
        print(f"convert_vita_clip_original: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {model.num_parameters():,} parameters, {model.config.num_labels} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
