"""Converts a checkpoint of the authors' released code into a folder that `AutoModel` and `AutoProcessor` load.

    python conversion/convert_vita_clip_original.py --checkpoint F.pth --classes classes.txt --output DIR

Everything that can be read from the weights is: sizes, numbers of prompts and frames, which prompts there are. Not in
the weights are the numbers of heads (`--vision-heads`, `--text-heads`; CLIP's rule of width / 64 by default) and where
the class name stands (`--context-position`). Every key of the checkpoint must find its place, or the conversion stops.
"""

import argparse
import sys
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.image_utils import PILImageResampling

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipProcessor, VitaClipVideoProcessor
from vitaclip_hf.model.prompts import AFTER_END, CONTEXT_SLOT, tokenize_class_prompts

from .original_weights import (
    ConversionError,
    Renaming,
    check_output,
    count_layers,
    heads_for,
    image_size_of,
    load_tensors,
    read_classes,
    require_keys,
)


def read_config(weights: dict[str, torch.Tensor], classes: list[str], options: argparse.Namespace) -> VitaClipConfig:
    """The configuration that the shapes of the weights tell."""
    needed = ["visual.patch_embed.proj.weight", "visual.pos_embed", "visual.time_embed", "visual.proj", "logit_scale"]
    needed += ["textual.token_embedding.weight", "textual.positional_embedding", "textual.text_projection"]
    needed += ["visual.blocks.0.mlp.fc1.weight", "textual.transformer.resblocks.0.mlp.c_fc.weight"]
    needed += ["prompt_learner.ctx", "prompt_learner.token_prefix", "prompt_learner.token_suffix"]
    require_keys(weights, needed, "only checkpoints trained with learned text prompts hold a whole model")
    width, channels, patch, _ = weights["visual.patch_embed.proj.weight"].shape
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
            "image_size": image_size_of(weights["visual.pos_embed"], patch),
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


def rename(weights: dict[str, torch.Tensor], config: VitaClipConfig) -> Renaming:
    """The released names and layouts as ours. Takes every key out of `weights` that it has placed."""
    names = Renaming(weights)
    names.move("logit_scale", "logit_scale")
    names.move("visual.cls_token", "vision_model.embeddings.class_embedding")
    names.move("visual.patch_embed.proj.weight", "vision_model.embeddings.patch_embedding.weight")
    positions = weights.pop("visual.pos_embed").clone()
    # CLIP's patches have no bias: the same for every patch, it belongs to their positions.
    positions[1:] += weights.pop("visual.patch_embed.proj.bias", torch.zeros(positions.shape[1]))
    names.converted["vision_model.embeddings.position_embedding.weight"] = positions
    names.move("visual.time_embed", "vision_model.time_embedding.weight")
    names.move_layer("visual.ln_pre", "vision_model.pre_layrnorm")
    names.move_layer("visual.ln_post", "vision_model.post_layernorm")
    names.move("visual.proj", "visual_projection.weight", torch.t)
    global_prompts = weights.pop("visual.global_prompts", None)
    for layer in range(config.vision_config.num_hidden_layers):
        old, new = f"visual.blocks.{layer}", f"vision_model.encoder.layers.{layer}"
        for ours, theirs in VISION_BLOCK.items():
            names.move_layer(f"{old}.{ours}", f"{new}.{theirs}")
        names.move(f"{old}.local_prompts", f"{new}.prompts.local_prompts", lambda prompts: prompts[0])
        if global_prompts is not None:
            names.converted[f"{new}.prompts.global_prompts"] = global_prompts[layer]
    names.move_text_tower("textual.", config.text_config.num_hidden_layers)
    names.move("prompt_learner.ctx", "class_prompts.context")
    return names


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
    check_output(options.output)
    weights = load_tensors(options.checkpoint, "--checkpoint")
    weights = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    classes = read_classes(options.classes)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(options.tokenizer)
    config = read_config(weights, classes, options)
    context = weights["prompt_learner.ctx"]
    if context.ndim == 3 and len(context) != len(classes):
        raise ConversionError(
            f"--classes names {len(classes)} classes, but the checkpoint was trained on {len(context)}."
        )
    for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config.text_config, field, getattr(tokenizer, field))
    ids = tokenize_class_prompts(classes, tokenizer, config.text_config)
    check_class_names(weights, classes, ids, weights["textual.token_embedding.weight"])
    names = rename(weights, config)
    names.converted["class_prompts.class_input_ids"] = ids
    model = VitaClipModel(config)
    names.fill(model)
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
    except (ConversionError, OSError, ValueError, StrictDataclassError) as error:
        print(f"convert_vita_clip_original: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{options.output}: {model.num_parameters():,} parameters, {model.config.num_labels} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
