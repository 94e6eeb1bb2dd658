"""Makes a Vita-CLIP folder of a stock CLIP: the CLIP's weights to the bit, new prompts, processor and tokenizer."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import HFValidationError, validate_repo_id
from safetensors import SafetensorError
from transformers import AutoTokenizer, CLIPImageProcessor, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.image_utils import PILImageResampling
from transformers.utils.hub import cached_file

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipProcessor, VitaClipVideoProcessor
from vitaclip_hf.data.configuration_files import configuration_folder
from vitaclip_hf.loading.checkpoint import save_checkpoint
from vitaclip_hf.loading.guards import check_complete
from vitaclip_hf.loading.prompts_alone import split_tensors
from vitaclip_hf.model.configuration_vita_clip import BACKBONES, PROMPT_FIELDS

from .original_weights import (
    OPENAI_TOKENIZER,
    ConversionError,
    Renaming,
    check_output,
    check_values,
    count_layers,
    fitting_weights,
    heads_for,
    image_size_of,
    listed,
    load_tensors,
    read_classes,
    require_keys,
)


PRESETS = configuration_folder("models")
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

# open_clip's settings that the weights show as well, or that change nothing once it is trained.
OPEN_CLIP_NEUTRAL = {
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "patch_dropout"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
# Those that make another model, and what they are in a CLIP.
OPEN_CLIP_PLAIN = {"pool_type": ("tok", "argmax"), "pos_embed_type": ("learnable",), "proj_type": ("linear",)}


def read_preset(name: str | None) -> dict[str, Any]:
    """The arguments of `VitaClipConfig` from a preset of the package or from a JSON file; none without a name."""
    if name is None:
        return {}
    path = Path(name) if name.endswith(".json") else PRESETS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PRESETS.glob("*.json")))
        raise ConversionError(f"`preset` {name}: no such file; known presets: {known}.")
    try:
        preset = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConversionError(f"`preset` {path}: not JSON ({error}).") from error
    if not isinstance(preset, dict) or not all(isinstance(preset.get(part, {}), dict) for part in PROMPT_FIELDS):
        raise ConversionError(f"`preset` {path}: expected an object with the objects {', '.join(PROMPT_FIELDS)}.")
    return preset


def prompt_settings(preset: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        part: {field: value for field, value in preset.get(part, {}).items() if field in fields}
        for part, fields in PROMPT_FIELDS.items()
    }


def check_preset(preset: dict[str, Any], config: VitaClipConfig) -> None:
    """Checks that the sizes in a preset are those of the CLIP."""
    values = {field: value for field, value in preset.items() if field not in PROMPT_FIELDS}
    found = {field: getattr(config, field, None) for field in values}
    for part in PROMPT_FIELDS:
        for field, value in preset.get(part, {}).items():
            values[f"{part}.{field}"], found[f"{part}.{field}"] = value, getattr(getattr(config, part), field, None)
    different = [f"{field} is {found[field]}, not {values[field]}" for field in values if found[field] != values[field]]
    if different:
        raise ConversionError(f"`preset` does not fit this CLIP: {'; '.join(different)}.")


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, config: VitaClipConfig) -> None:
    """Checks the number of tokens: transformers makes a tokenizer of a few tokens for a folder that has none."""
    if len(tokenizer) != config.text_config.vocab_size:
        raise ConversionError(
            f"the tokenizer has {len(tokenizer):,} tokens, the CLIP {config.text_config.vocab_size:,}; give the folder "
            f"or id of its own tokenizer as `tokenizer` (OpenAI's: {OPENAI_TOKENIZER})."
        )


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**64:  # torch's range
        raise ConversionError(f"`seed` {seed}: must be from 0 to 2**64 - 1.")


def find_file(source: str, name: str, revision: str | None) -> Path | None:
    """A file of a folder or of a Hub repository, or None."""
    found = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def from_transformers(source: str, revision: str | None, preset: dict[str, Any]) -> VitaClipModel:
    """Loads a CLIP in the Hugging Face format, in float32. Its own weights must be complete."""
    stock = PreTrainedConfig.get_config_dict(source, revision=revision)[0]
    if stock.get("model_type") not in BACKBONES:
        raise ConversionError(f"`source` {source}: a model of type {stock.get('model_type')!r}, not a CLIP.")
    safe = any(find_file(source, f"model.safetensors{index}", revision) for index in ("", ".index.json"))
    pickled = not safe and find_file(source, "pytorch_model.bin", revision) is not None
    try:
        model, info = VitaClipModel.from_pretrained(
            source,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # check_complete names them
            use_safetensors=not pickled,  # from a pickle, only tensors are loaded
            **prompt_settings(preset),
        )
    except pickle.UnpicklingError as error:
        raise ConversionError(
            f"`source` {source}: its weights are not plain tensors, and nothing else is loaded."
        ) from error
    except SafetensorError as error:
        raise ConversionError(f"`source` {source}: a weights file is damaged or incomplete ({error}).") from error
    check_complete(source, model, info, stock=True)
    if info["unexpected_keys"]:
        names = listed(info["unexpected_keys"])
        raise ConversionError(f"`source` {source}: these keys of its weights have no place in the model: {names}.")
    model.config.name_or_path = ""
    return model


def read_config(
    weights: dict[str, torch.Tensor],
    source: str,
    said: dict[str, Any],
    prompts: dict[str, dict[str, Any]],
) -> VitaClipConfig:
    """The configuration of an OpenAI or open_clip state dict, from the shapes of its weights.

    Args:
        weights: tensors by name, the text tower at the top level.
        source: the file or folder, for messages.
        said: what the shapes do not show, each perhaps None: `activation`, `vision_heads`, `text_heads`.
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
    activation = said["activation"]
    if activation is None:
        raise ConversionError(
            f"`source` {source} does not say its activation; pass `activation` quick_gelu (OpenAI, MetaCLIP, DFN) or "
            "gelu (LAION)."
        )
    return VitaClipConfig(
        projection_dim=joint_width,
        logit_scale_init_value=weights["logit_scale"].item(),
        architectures=["VitaClipModel"],
        vision_config={
            "hidden_size": width,
            "intermediate_size": weights[f"{blocks['visual']}0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": count_layers(weights, blocks["visual"]),
            "num_attention_heads": heads_for(width, said["vision_heads"], "vision_heads"),
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
            "num_attention_heads": heads_for(text_width, said["text_heads"], "text_heads"),
            "max_position_embeddings": len(weights["positional_embedding"]),
            "projection_dim": joint_width,
            "hidden_act": activation,
            **prompts["text_config"],
        },
    )


def rename(weights: dict[str, torch.Tensor], config: VitaClipConfig) -> Renaming:
    """Renames the weights of OpenAI's format."""
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
    """What `open_clip_config.json` says beyond the weights. Settings that make another model than CLIP are refused.

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


def find_state_dict(source: str, revision: str | None) -> tuple[Path, Path | None]:
    """The weights file, and open_clip's configuration beside it or None."""
    path = Path(source)
    if path.is_file():
        config = path.parent / OPEN_CLIP_CONFIG
        return path, config if path.name in OPEN_CLIP_WEIGHTS and config.is_file() else None
    config_file = find_file(source, OPEN_CLIP_CONFIG, revision)
    if config_file is None:
        raise ConversionError(f"`source` {source}: neither config.json nor {OPEN_CLIP_CONFIG} is there.")
    for name in OPEN_CLIP_WEIGHTS:
        weights = find_file(source, name, revision)
        if weights is not None:
            return weights, config_file
    raise ConversionError(f"`source` {source}: none of {', '.join(OPEN_CLIP_WEIGHTS)} is there.")


def from_state_dict(
    source: str,
    revision: str | None,
    given: dict[str, Any],
    preset: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[VitaClipModel, dict[str, Any]]:
    """
    Loads a CLIP in OpenAI's or open_clip's format, in float32.

    Args:
        source, revision: file, folder or Hub id, and its revision there.
        given: `activation`, `vision_heads` and `text_heads` as the caller says them, each perhaps None.
        preset: of [`read_preset`].
        tokenizer: its special tokens go into the configuration.

    Returns:
        The model, and the settings of the video processor that its configuration states.
    """
    path, config_file = find_state_dict(source, revision)
    weights = load_tensors(path, "source")
    said: dict[str, Any] = {"activation": None, "vision_heads": None, "text_heads": None}
    if config_file is not None:
        said = read_open_clip_config(config_file)
    # Only OpenAI's own state dicts have these three numbers among the weights.
    if {"input_resolution", "context_length", "vocab_size"} <= weights.keys():
        said["activation"] = "quick_gelu"
        for name in ("input_resolution", "context_length", "vocab_size"):
            del weights[name]
    # open_clip's newer class keeps the text tower in a module called "text".
    weights = {name.removeprefix("text."): tensor for name, tensor in weights.items()}
    said |= {name: value for name, value in given.items() if value is not None}
    with fitting_weights():
        check_values(weights)
        weights = {name: tensor.float() for name, tensor in weights.items()}
        config = read_config(weights, source, said, prompt_settings(preset))
        for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(config.text_config, field, getattr(tokenizer, field))
        names = rename(weights, config)
        with torch.device("meta"):  # before memory is taken for sizes that the weights only claim
            empty = VitaClipModel(config)
        kept = split_tensors(empty)[0].keys() - {"logit_scale"}
        names.check(empty, kept)
    model = VitaClipModel(config)
    names.fill(model, kept)
    pixels: dict[str, Any] = {name: said[name] for name in ("image_mean", "image_std", "resample") if name in said}
    return model, pixels


def pixels_of_transformers(source: str, revision: str | None) -> dict[str, Any]:
    """Normalisation and resampling of a Hugging Face folder; nothing if it has no image processor."""
    if not any(find_file(source, name, revision) for name in ("preprocessor_config.json", "processor_config.json")):
        return {}
    settings, _ = CLIPImageProcessor.get_image_processor_dict(source, revision=revision)
    return {name: settings[name] for name in ("image_mean", "image_std", "resample") if name in settings}


def check_source(source: str) -> None:
    """Raises ConversionError for a name that is no file and no folder and cannot be an id on the Hub."""
    if Path(source).exists():
        return
    if Path(source).suffix in (".pt", ".pth", ".bin", ".safetensors"):
        raise ConversionError(f"`source` {source}: no such file.")
    try:
        validate_repo_id(source)
    except HFValidationError as error:
        raise ConversionError(
            f"`source` {source}: no such folder, and not an id on the Hub (those are ORG/NAME); give one of the two."
        ) from error


def convert_clip(
    source: str | Path,
    output: Path,
    *,
    revision: str | None = None,
    preset: str | None = None,
    classes: Path | None = None,
    tokenizer: str | None = None,
    activation: str | None = None,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    seed: int = 0,
) -> VitaClipModel:
    """
    Makes a Vita-CLIP with untrained prompts of a stock CLIP and saves model, processor and tokenizer as one folder.

    Args:
        source (`str` or `Path`):
            The CLIP: a folder or Hub id in the format of transformers or of open_clip, or a file with a plain state
            dict of OpenAI's or open_clip's (`.pt`, `.pth`, `.bin`, `.safetensors`).
        output (`Path`): new folder to write.
        revision (`str`, *optional*): branch, tag or commit of the Hub id.
        preset (`str`, *optional*):
            Prompts as in a preset of the package (`configuration/models`), by name, or as in a JSON file, by path.
        classes (`Path`, *optional*): text file with class names, one a line, in label order.
        tokenizer (`str`, *optional*):
            Folder or Hub id. By default the CLIP's own; OpenAI's for a CLIP that is not in transformers' format.
        activation (`str`, *optional*):
            For a state dict, which does not say it: `"quick_gelu"` (OpenAI, MetaCLIP, DFN) or `"gelu"` (LAION).
        vision_heads, text_heads (`int`, *optional*): attention heads of a state dict; width / 64 by default.
        seed (`int`, defaults to 0): of the new prompts.

    Returns:
        [`VitaClipModel`]: the model in float32.

    Raises:
        ConversionError: the CLIP, the preset, the class list or an argument does not fit.
        OSError: files cannot be fetched, read or written.
        ValueError: class names that repeat or are too long.

    Example:

    ```python
    >>> from vitaclip_hf.conversion.convert_clip import convert_clip

    >>> model = convert_clip("openai/clip-vit-base-patch16", "untrained", preset="vita-clip-b16")  # doctest: +SKIP

    ```
    """
    source = str(source)
    check_output(output)
    check_seed(seed)
    settings = read_preset(preset)
    names = None if classes is None else read_classes(Path(classes))
    check_source(source)
    in_transformers_format = not Path(source).is_file() and find_file(source, "config.json", revision)
    default_tokenizer = source if in_transformers_format else OPENAI_TOKENIZER
    tokens = AutoTokenizer.from_pretrained(
        tokenizer or default_tokenizer, revision=revision if tokenizer is None and in_transformers_format else None
    )
    torch.manual_seed(seed)  # the new prompts
    if in_transformers_format:
        model = from_transformers(source, revision, settings)
        pixels = pixels_of_transformers(source, revision)
    else:
        given = {"activation": activation, "vision_heads": vision_heads, "text_heads": text_heads}
        model, pixels = from_state_dict(source, revision, given, settings, tokens)
    check_values(split_tensors(model)[1] | {"logit_scale": model.logit_scale})
    check_tokenizer(tokens, model.config)
    check_preset(settings, model.config)
    if names is not None:
        model.set_classes(names, tokens)
    size = model.config.vision_config.image_size
    video_processor = VitaClipVideoProcessor(
        num_frames=model.config.num_frames,
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        **pixels,
    )
    save_checkpoint(model, VitaClipProcessor(video_processor, tokens), output)
    return model
