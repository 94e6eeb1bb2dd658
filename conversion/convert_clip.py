"""Makes an initial Vita-CLIP folder of a stock CLIP: its weights bit by bit, new prompts, processor and tokenizer.

    python conversion/convert_clip.py --clip openai/clip-vit-base-patch16 --output DIR [--classes classes.txt]

`--clip` is a folder or Hub id in the Hugging Face format (OpenAI's, MetaCLIP's and others) or in open_clip's
(`open_clip_config.json` and weights), or a file: plain OpenAI or open_clip state dicts (`.pt`, `.pth`, `.bin`,
`.safetensors`). Sizes are read from the weights. A bare state dict does not say which activation the model was trained
with: OpenAI's, MetaCLIP's and DFN's are quick_gelu, LAION's are gelu; `--activation` says it.
"""

import argparse
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.image_utils import PILImageResampling
from transformers.utils import logging
from transformers.utils.hub import cached_file

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipProcessor, VitaClipVideoProcessor
from vitaclip_hf.data.configuration_files import configuration_folder
from vitaclip_hf.model.model_source import require_model_source
from vitaclip_hf.model.prompt_checkpoint import split_tensors

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


PRESETS = configuration_folder("models")
OPENAI_TOKENIZER = "openai/clip-vit-base-patch16"
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

# What a preset may say about prompts; everything else in it must agree with the CLIP.
PROMPT_FIELDS = {
    "vision_config": {
        "num_frames",
        "use_summary_prompt",
        "use_local_prompts",
        "num_global_prompts",
        "train_cls_projection",
    },
    "text_config": {"num_context_tokens", "context_position", "class_specific_context", "context_init"},
}
# open_clip's settings that the weights show as well, or that change nothing once it is trained.
OPEN_CLIP_NEUTRAL = {
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "patch_dropout"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
# Those that make another model, and what they are in a CLIP.
OPEN_CLIP_PLAIN = {"pool_type": ("tok", "argmax"), "pos_embed_type": ("learnable",), "proj_type": ("linear",)}


def read_preset(name: str | None) -> dict[str, Any]:
    """The arguments of `VitaClipConfig` from `configuration/models/NAME.json` or from a file; none without a name."""
    if name is None:
        return {}
    path = Path(name) if name.endswith(".json") else PRESETS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PRESETS.glob("*.json")))
        raise ConversionError(f"--preset {name}: no such file; known presets: {known}.")
    try:
        preset = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConversionError(f"--preset {path}: not JSON ({error}).") from error
    if not isinstance(preset, dict) or not all(isinstance(preset.get(part, {}), dict) for part in PROMPT_FIELDS):
        raise ConversionError(f"--preset {path}: expected an object with the objects {', '.join(PROMPT_FIELDS)}.")
    return preset


def prompt_settings(preset: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        part: {field: value for field, value in preset.get(part, {}).items() if field in fields}
        for part, fields in PROMPT_FIELDS.items()
    }


def check_preset(preset: dict[str, Any], config: VitaClipConfig) -> None:
    """The sizes of a preset must be those of the CLIP."""
    values = {field: value for field, value in preset.items() if field not in PROMPT_FIELDS}
    found = {field: getattr(config, field, None) for field in values}
    for part in PROMPT_FIELDS:
        for field, value in preset.get(part, {}).items():
            values[f"{part}.{field}"], found[f"{part}.{field}"] = value, getattr(getattr(config, part), field, None)
    different = [f"{field} is {found[field]}, not {values[field]}" for field in values if found[field] != values[field]]
    if different:
        raise ConversionError(f"--preset does not fit this CLIP: {'; '.join(different)}.")


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, config: VitaClipConfig) -> None:
    """A folder without tokenizer files still gives a tokenizer, of next to no tokens."""
    if len(tokenizer) != config.text_config.vocab_size:
        raise ConversionError(
            f"the tokenizer has {len(tokenizer):,} tokens, the CLIP {config.text_config.vocab_size:,}; give the folder "
            f"or id of its own tokenizer by --tokenizer (OpenAI's: {OPENAI_TOKENIZER})."
        )


def check_values(weights: dict[str, torch.Tensor]) -> None:
    """Every weight is a finite number with a fraction."""
    wrong = [name for name, tensor in weights.items() if not tensor.is_floating_point() or not tensor.isfinite().all()]
    if wrong:
        raise ConversionError(f"these weights are no finite floating-point numbers: {', '.join(sorted(wrong)[:5])}.")


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**64:  # torch's range
        raise ConversionError(f"--seed {seed}: must be from 0 to 2**64 - 1.")


def find_file(source: str, name: str, revision: str | None) -> Path | None:
    """A file of a folder or of a Hub repository; None if it is not there."""
    found = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def from_transformers(options: argparse.Namespace, preset: dict[str, Any]) -> VitaClipModel:
    """A CLIP in the Hugging Face format, in float32; its own weights must be complete."""
    source = str(options.clip)
    stock = PreTrainedConfig.get_config_dict(source, revision=options.revision)[0]
    if stock.get("model_type") != CLIPConfig.model_type:
        raise ConversionError(f"--clip {source}: a model of type {stock.get('model_type')!r}, not a CLIP.")
    safe = any(find_file(source, f"model.safetensors{index}", options.revision) for index in ("", ".index.json"))
    pickled = not safe and find_file(source, "pytorch_model.bin", options.revision) is not None
    try:
        model, info = VitaClipModel.from_pretrained(
            source,
            revision=options.revision,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=not pickled,  # of a pickle, only tensors are taken
            **prompt_settings(preset),
        )
    except pickle.UnpicklingError as error:
        raise ConversionError(
            f"--clip {source}: its weights are not plain tensors, and nothing else is loaded."
        ) from error
    if info["unexpected_keys"]:
        names = ", ".join(sorted(info["unexpected_keys"]))
        raise ConversionError(f"--clip {source}: these keys of its weights have no place in the model: {names}.")
    model.config.name_or_path = ""
    return model


def read_config(
    weights: dict[str, torch.Tensor],
    options: argparse.Namespace,
    said: dict[str, Any],
    prompts: dict[str, dict[str, Any]],
) -> VitaClipConfig:
    """The configuration of an OpenAI or open_clip state dict, from the shapes of its weights.

    Args:
        weights: by name, text tower at the top level.
        options: of the command line.
        said: what the file's configuration says beyond the shapes: `activation`, `vision_heads`, `text_heads`.
        prompts: settings of the prompts for `vision_config` and `text_config`.
    """
    needed = ["visual.conv1.weight", "visual.class_embedding", "visual.positional_embedding", "visual.proj"]
    needed += ["token_embedding.weight", "positional_embedding", "text_projection", "logit_scale"]
    blocks = {"visual": "visual.transformer.resblocks.", "text": "transformer.resblocks."}
    needed += [f"{prefix}0.mlp.c_fc.weight" for prefix in blocks.values()]
    require_keys(weights, needed, "it is no CLIP with a vision transformer in OpenAI's or open_clip's format")
    width, channels, patch, _ = weights["visual.conv1.weight"].shape
    vocabulary, text_width = weights["token_embedding.weight"].shape
    joint_width = weights["visual.proj"].shape[1]
    activation = options.activation or said["activation"]
    if activation is None:
        raise ConversionError(
            f"--clip {options.clip} does not say which activation it was trained with; pass --activation quick_gelu "
            "(OpenAI, MetaCLIP, DFN) or --activation gelu (LAION)."
        )
    vision_heads, text_heads = options.vision_heads or said["vision_heads"], options.text_heads or said["text_heads"]
    return VitaClipConfig(
        projection_dim=joint_width,
        logit_scale_init_value=weights["logit_scale"].item(),
        architectures=["VitaClipModel"],
        vision_config={
            "hidden_size": width,
            "intermediate_size": weights[f"{blocks['visual']}0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": count_layers(weights, blocks["visual"]),
            "num_attention_heads": heads_for(width, vision_heads, "--vision-heads"),
            "num_channels": channels,
            "image_size": image_size_of(weights["visual.positional_embedding"], patch),
            "patch_size": patch,
            "projection_dim": joint_width,
            "hidden_act": activation,
            **prompts["vision_config"],
        },
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "intermediate_size": weights[f"{blocks['text']}0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": count_layers(weights, blocks["text"]),
            "num_attention_heads": heads_for(text_width, text_heads, "--text-heads"),
            "max_position_embeddings": len(weights["positional_embedding"]),
            "projection_dim": joint_width,
            "hidden_act": activation,
            **prompts["text_config"],
        },
    )


def rename(weights: dict[str, torch.Tensor], config: VitaClipConfig) -> Renaming:
    """OpenAI's names and layouts as ours."""
    names = Renaming(weights)
    names.move("logit_scale", "logit_scale", lambda scale: scale.reshape(()))
    names.move("visual.class_embedding", "vision_model.embeddings.class_embedding")
    names.move("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight")
    names.move("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight")
    names.move_layer("visual.ln_pre", "vision_model.pre_layrnorm")
    names.move_layer("visual.ln_post", "vision_model.post_layernorm")
    names.move("visual.proj", "visual_projection.weight", torch.t)
    for layer in range(config.vision_config.num_hidden_layers):
        names.move_openai_block(f"visual.transformer.resblocks.{layer}", f"vision_model.encoder.layers.{layer}")
    names.move_text_tower("", config.text_config.num_hidden_layers)
    return names


def read_open_clip_config(path: Path) -> dict[str, Any]:
    """What `open_clip_config.json` says beyond the weights; settings that make another model than CLIP are refused.

    Returns:
        `activation`, `vision_heads`, `text_heads`, and the processor's `image_mean`, `image_std` and `resample`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model, pixels = content["model_cfg"], content.get("preprocess_cfg") or {}
        vision, text = model["vision_cfg"], model["text_cfg"]
        refused = [
            f"{part}.{field}={value!r}"
            for part, neutral in OPEN_CLIP_NEUTRAL.items()
            for field, value in model[part].items()
            if field not in neutral and value not in (None, False) and value not in OPEN_CLIP_PLAIN.get(field, ())
        ]
        refused += [
            f"{field}={model[field]!r}"
            for field in model
            if field not in ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale")
        ]
        if pixels.get("resize_mode", "shortest") != "shortest":
            refused.append(f"preprocess_cfg.resize_mode={pixels['resize_mode']!r}")
        interpolation = pixels.get("interpolation", "bicubic")
        if interpolation not in ("bicubic", "bilinear"):
            refused.append(f"preprocess_cfg.interpolation={interpolation!r}")
        head_width = vision.get("head_width", 64)
        said = {
            "activation": "quick_gelu" if model.get("quick_gelu", False) else "gelu",
            "vision_heads": vision["width"] // head_width,
            "text_heads": text.get("heads", 8),
            "resample": PILImageResampling[interpolation.upper()] if not refused else None,
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"{path}: not open_clip's configuration ({type(error).__name__}: {error}).") from error
    if refused:
        raise ConversionError(f"{path}: Vita-CLIP has no counterpart for {', '.join(refused)}.")
    return said | {f"image_{name}": pixels[name] for name in ("mean", "std") if name in pixels}


def find_state_dict(options: argparse.Namespace) -> tuple[Path, Path | None]:
    """The weights in OpenAI's naming, and open_clip's configuration beside them if there is one."""
    source = str(options.clip)
    path = Path(source)
    if path.is_file():
        config = path.parent / OPEN_CLIP_CONFIG
        return path, config if path.name in OPEN_CLIP_WEIGHTS and config.is_file() else None
    config_file = find_file(source, OPEN_CLIP_CONFIG, options.revision)
    if config_file is None:
        raise ConversionError(f"--clip {source}: neither config.json nor {OPEN_CLIP_CONFIG} is there.")
    for name in OPEN_CLIP_WEIGHTS:
        weights = find_file(source, name, options.revision)
        if weights is not None:
            return weights, config_file
    raise ConversionError(f"--clip {source}: none of {', '.join(OPEN_CLIP_WEIGHTS)} is there.")


def from_state_dict(
    options: argparse.Namespace, preset: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> tuple[VitaClipModel, dict[str, Any]]:
    """A CLIP in OpenAI's or open_clip's format, in float32; and what its configuration says about pixels."""
    path, config_file = find_state_dict(options)
    weights = load_tensors(path, "--clip")
    said: dict[str, Any] = {"activation": None, "vision_heads": None, "text_heads": None}
    if config_file is not None:
        said = read_open_clip_config(config_file)
    # OpenAI's own state dicts have these three numbers among the weights, and only those.
    if {"input_resolution", "context_length", "vocab_size"} <= weights.keys():
        said["activation"] = "quick_gelu"
        for name in ("input_resolution", "context_length", "vocab_size"):
            del weights[name]
    # open_clip's newer class keeps the text tower in a module of its own.
    weights = {name.removeprefix("text."): tensor for name, tensor in weights.items()}
    check_values(weights)
    weights = {name: tensor.float() for name, tensor in weights.items()}
    config = read_config(weights, options, said, prompt_settings(preset))
    for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config.text_config, field, getattr(tokenizer, field))
    names = rename(weights, config)
    model = VitaClipModel(config)
    names.fill(model, kept=split_tensors(model)[0].keys() - {"logit_scale"})
    pixels = {name: said[name] for name in ("image_mean", "image_std", "resample") if name in said}
    return model, pixels


def pixels_of_transformers(source: str, revision: str | None) -> dict[str, Any]:
    """Normalisation and resampling of a Hugging Face folder; CLIP's own where it has no image processor."""
    if not any(find_file(source, name, revision) for name in ("preprocessor_config.json", "processor_config.json")):
        return {}
    settings, _ = CLIPImageProcessor.get_image_processor_dict(source, revision=revision)
    return {name: settings[name] for name in ("image_mean", "image_std", "resample") if name in settings}


def convert(options: argparse.Namespace) -> VitaClipModel:
    """Reads, converts, checks and saves; returns the model."""
    check_output(options.output)
    check_seed(options.seed)
    preset = read_preset(options.preset)
    classes = None if options.classes is None else read_classes(options.classes)
    source = str(options.clip)
    if not Path(source).exists() and Path(source).suffix in (".pt", ".pth", ".bin", ".safetensors"):
        raise ConversionError(f"--clip {source}: no such file.")
    if not Path(source).is_file():
        require_model_source(source)
    in_transformers_format = not Path(source).is_file() and find_file(source, "config.json", options.revision)
    default_tokenizer = source if in_transformers_format else OPENAI_TOKENIZER
    revision = options.revision if options.tokenizer is None and in_transformers_format else None
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer or default_tokenizer, revision=revision)
    torch.manual_seed(options.seed)  # the new prompts
    if in_transformers_format:
        model = from_transformers(options, preset)
        pixels = pixels_of_transformers(source, options.revision)
    else:
        model, pixels = from_state_dict(options, preset, tokenizer)
    check_values(split_tensors(model)[1] | {"logit_scale": model.logit_scale})
    check_tokenizer(tokenizer, model.config)
    check_preset(preset, model.config)
    if classes is not None:
        model.set_classes(classes, tokenizer)
    size = model.config.vision_config.image_size
    video_processor = VitaClipVideoProcessor(
        num_frames=model.config.num_frames,
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        **pixels,
    )
    model.save_pretrained(options.output)
    VitaClipProcessor(video_processor, tokenizer).save_pretrained(options.output)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", required=True, help="folder, file or Hub id of the CLIP")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--revision", help="of a Hub id")
    parser.add_argument("--preset", help="prompts as in configuration/models/NAME.json, or a path to such a file")
    parser.add_argument("--classes", type=Path, help="class names, one a line, in label order")
    parser.add_argument("--tokenizer", help=f"folder or id (default: the CLIP's own, else {OPENAI_TOKENIZER})")
    parser.add_argument("--activation", choices=("quick_gelu", "gelu"), help="for a state dict that does not say it")
    parser.add_argument("--vision-heads", type=int, help="attention heads of the vision tower (default: width / 64)")
    parser.add_argument("--text-heads", type=int, help="attention heads of the text tower (default: width / 64)")
    parser.add_argument("--seed", type=int, default=0, help="of the new prompts")
    options = parser.parse_args()
    logging.set_verbosity_error()  # that the prompts are new is what this script is for
    logging.disable_progress_bar()
    try:
        model = convert(options)
    except (ConversionError, OSError, ValueError, TypeError, StrictDataclassError) as error:
        print(f"convert_clip: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{options.output}: {model.num_parameters():,} parameters, {model.config.num_labels} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
