"""Makes a Vita-CLIP folder of a stock CLIP: the CLIP's weights to the bit, new prompts, processor and tokenizer."""

import pickle
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.image_utils import PILImageResampling
from transformers.utils.hub import cached_file

from vitaclip_hf import VitaClipConfig, VitaClipModel
from vitaclip_hf.data.class_names import read_class_names
from vitaclip_hf.data.text_files import read_json
from vitaclip_hf.loading.clip_backbones import BACKBONES, IMAGE_FIELDS, add_prompts, clip_processor
from vitaclip_hf.loading.guards import check_complete, check_output, prompt_names
from vitaclip_hf.model.processing_vita_clip import tokenize_classes
from vitaclip_hf.model.shown_names import one_line

from . import original_weights as original


STATE_DICTS = (".pt", ".pth", ".bin", ".safetensors")
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# open_clip's settings that the weights show as well, or that change nothing once it is trained.
OPEN_CLIP_NEUTRAL = {
    "model_cfg": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "patch_dropout"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
    "preprocess_cfg": {"mean", "std", "size", "mode", "fill_color"},
}
# Those that make another model, and what they are in a CLIP.
OPEN_CLIP_PLAIN = {
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
    "resize_mode": ("shortest",),
    "interpolation": ("bicubic", "bilinear"),
}
# Only OpenAI's own state dicts have these three numbers among the weights.
OPENAI_NUMBERS = {"input_resolution", "context_length", "vocab_size"}
# The weights by which sizes are found, with their numbers of dimensions.
MATRICES = (
    *("visual.positional_embedding", "visual.proj", "visual.transformer.resblocks.0.mlp.c_fc.weight"),
    *("token_embedding.weight", "positional_embedding", "text_projection", "transformer.resblocks.0.mlp.c_fc.weight"),
)
NEEDED = {"visual.conv1.weight": 4, "logit_scale": 0, **dict.fromkeys(MATRICES, 2)}
RULES = {
    r"logit_scale": "logit_scale",
    r"visual\.class_embedding": "vision_model.embeddings.class_embedding",
    r"visual\.conv1\.weight": "vision_model.embeddings.patch_embedding.weight",
    r"visual\.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    r"visual\.ln_pre\.(.*)": r"vision_model.pre_layrnorm.\1",
    r"visual\.ln_post\.(.*)": r"vision_model.post_layernorm.\1",
    r"visual\.proj": "visual_projection.weight",
    **original.block_rules(r"visual\.transformer\.resblocks\.", "vision_model", original.OPENAI_BLOCK),
    **original.text_rules(""),
}


def find_file(source: str, name: str, revision: str | None) -> Path | None:
    """A file of a folder or of a Hub repository, or None."""
    path = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return None if path is None else Path(path)


def from_transformers(source: str, revision: str | None) -> VitaClipModel:
    """Loads a CLIP in the Hugging Face format, in float32. Its own weights must be complete."""
    model_type = PreTrainedConfig.get_config_dict(source, revision=revision)[0].get("model_type")
    if model_type not in BACKBONES:
        raise ValueError(f"`source` {source}: a model of type {model_type!r:.100}, not a CLIP.")
    safe = any(find_file(source, name, revision) for name in ("model.safetensors", "model.safetensors.index.json"))
    try:
        backbone = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        model, info = VitaClipModel.from_pretrained(
            source,
            config=add_prompts(backbone),
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # check_complete names them
            use_safetensors=safe or not find_file(source, "pytorch_model.bin", revision),  # a pickle gives tensors only
        )
    except (pickle.UnpicklingError, SafetensorError, StrictDataclassError) as error:
        reason = f"damaged, no plain tensors, or wrong settings ({one_line(error)})"
        raise ValueError(f"`source` {source}: {reason}.") from error
    check_complete(source, info, prompt_names(model))
    original.as_float32({name: t for name, t in model.state_dict().items() if name not in prompt_names(model)}, {}, "")
    model.config.name_or_path = ""
    return model


def read_open_clip_config(path: Path) -> dict[str, Any]:
    """Settings of `open_clip_config.json` that the weights do not show. Raises ValueError for another model than CLIP.

    Returns:
        `activation`, `vision_heads`, `text_heads`, and `pixels`, arguments of the video processor.
    """
    content = read_json(path)
    model = content.get("model_cfg") if isinstance(content, dict) else None
    parts: dict[str, Any] = {"model_cfg": model} | model | content if isinstance(model, dict) else {}
    parts = {name: parts.get(name) or {} for name in OPEN_CLIP_NEUTRAL}
    pixels, vision, text = parts["preprocess_cfg"], parts["vision_cfg"], parts["text_cfg"]
    if not (vision and text and all(isinstance(part, dict) for part in parts.values())):
        raise ValueError(f"{path}: not open_clip's configuration; expected the objects {', '.join(parts)}.")
    refused = [
        f"{part}.{field}={value!r:.100}"
        for part, settings in parts.items()
        for field, value in settings.items()
        if field not in OPEN_CLIP_NEUTRAL[part] and value not in (None, False, *OPEN_CLIP_PLAIN.get(field, ()))
    ]
    if refused:
        raise ValueError(f"{path}: Vita-CLIP has no counterpart for {', '.join(refused)}.")
    width, head_width, text_heads = vision.get("width"), vision.get("head_width", 64), text.get("heads", 8)
    if not all(isinstance(size, int) and size > 0 for size in (width, head_width, text_heads)):
        raise ValueError(f"{path}: vision_cfg.width and head_width and text_cfg.heads must be whole numbers above 0.")
    settings = {f"image_{name}": pixels[name] for name in ("mean", "std") if name in pixels}
    settings["resample"] = PILImageResampling[(pixels.get("interpolation") or "bicubic").upper()]
    activation = "quick_gelu" if parts["model_cfg"].get("quick_gelu") else "gelu"
    return {
        "activation": activation, "vision_heads": width // head_width, "text_heads": text_heads, "pixels": settings
    }  # fmt: skip


def find_state_dict(source: str, revision: str | None) -> tuple[Path, Path | None]:
    """The weights file, and open_clip's configuration beside it or None."""
    path = Path(source)
    if path.suffix in STATE_DICTS:
        config = path.parent / OPEN_CLIP_CONFIG
        return path, config if path.name in OPEN_CLIP_WEIGHTS and config.is_file() else None
    config_file = find_file(source, OPEN_CLIP_CONFIG, revision)
    weights = [file for name in OPEN_CLIP_WEIGHTS if (file := find_file(source, name, revision))]
    if config_file is None or not weights:
        lacking = f"neither config.json nor {OPEN_CLIP_CONFIG}" if config_file is None else "no open_clip weights file"
        raise ValueError(f"`source` {source}: {lacking} is there.")
    return weights[0], config_file


def from_state_dict(
    source: str, revision: str | None, known: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> tuple[VitaClipModel, dict[str, Any]]:
    """
    Loads a CLIP in OpenAI's or open_clip's format, in float32.

    Args:
        source, revision: file, folder or Hub id, and its revision there.
        known: `activation`, `vision_heads` and `text_heads` as the caller says them, each perhaps None.
        tokenizer: its special tokens go into the configuration.

    Returns:
        The model, and the settings of the video processor that its configuration states.
    """
    path, config_file = find_state_dict(source, revision)
    weights = original.load_tensors(path, "source")
    stated = {} if config_file is None else read_open_clip_config(config_file)
    if weights.keys() >= OPENAI_NUMBERS:
        stated["activation"] = "quick_gelu"
        weights = {name: tensor for name, tensor in weights.items() if name not in OPENAI_NUMBERS}
    stated |= {name: value for name, value in known.items() if value is not None}
    if "activation" not in stated:
        activations = "quick_gelu (OpenAI, MetaCLIP, DFN) or gelu (LAION)"
        raise ValueError(f"`source` {source} does not say its activation; pass `activation` {activations}.")
    with original.fitting_weights():
        # open_clip's newer class keeps the text tower in a module called "text".
        weights = {name.removeprefix("text."): tensor for name, tensor in weights.items()}
        if "logit_scale" in weights:  # of shape [1] in some files
            weights["logit_scale"] = weights["logit_scale"].reshape(())
        weights = original.as_float32(weights, NEEDED, "it is no CLIP with a vision transformer in OpenAI's format")
        config = state_dict_config(weights, stated, tokenizer)
        model = original.filled_model(config, original.rename(weights, RULES), new_prompts=True)
    return model, stated.get("pixels", {})


def state_dict_config(weights: dict[str, torch.Tensor], stated: dict[str, Any], tokenizer: Any) -> VitaClipConfig:
    """The configuration, from the shapes of the weights; for the arguments see [`from_state_dict`]."""
    names = ("visual.conv1.weight", "visual.positional_embedding", "visual.transformer.resblocks.", "mlp.c_fc.weight")
    vision = original.vision_sizes(weights, *names, stated.get("vision_heads"))
    text = original.text_sizes(weights, "", stated.get("text_heads"), tokenizer)
    activation = {"hidden_act": stated["activation"]}
    return VitaClipConfig(
        projection_dim=vision["projection_dim"],
        logit_scale_init_value=weights["logit_scale"].item(),
        vision_config=vision | activation,
        text_config=text | activation,
    )


def convert_clip(
    source: str | Path,
    output: Path,
    *,
    revision: str | None = None,
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
        classes (`Path`, *optional*): file with class names, in label order.
        tokenizer (`str`, *optional*):
            Folder or Hub id. By default the CLIP's own; OpenAI's for a CLIP that is not in transformers' format.
        activation (`str`, *optional*):
            For a state dict, which does not say it: `"quick_gelu"` (OpenAI, MetaCLIP, DFN) or `"gelu"` (LAION).
        vision_heads, text_heads (`int`, *optional*): attention heads of a state dict; width / 64 by default.
        seed (`int`, defaults to 0): of the new prompts.

    Returns:
        [`VitaClipModel`]: the model in float32.

    Raises:
        ValueError: the CLIP, the settings, the class list or an argument does not fit.
        OSError: files cannot be fetched, read or written.

    Example:

    ```python
    >>> from vitaclip_hf.conversion.convert_clip import convert_clip

    >>> model = convert_clip("openai/clip-vit-base-patch16", "untrained")  # doctest: +SKIP

    ```
    """
    source = str(source)
    check_output(output)
    if not 0 <= seed < 2**64:  # torch's range
        raise ValueError(f"`seed` {seed}: must be from 0 to 2**64 - 1.")
    names = None if classes is None else list(read_class_names(classes))
    in_transformers_format = Path(source).suffix not in STATE_DICTS and find_file(source, "config.json", revision)
    own = tokenizer is None and in_transformers_format
    tokenizer = source if own else tokenizer or original.OPENAI_TOKENIZER
    tokens = AutoTokenizer.from_pretrained(tokenizer, revision=revision if own else None)
    torch.manual_seed(seed)  # the new prompts
    known = {"activation": activation, "vision_heads": vision_heads, "text_heads": text_heads}
    if in_transformers_format:
        for name in (name for name, value in known.items() if value is not None):
            raise ValueError(f"`{name}` is for a state dict or a folder of open_clip; `source` {source} says its own.")
        model = from_transformers(source, revision)
        image = clip_processor(source, model.config, {"revision": revision}).video_processor
        pixels = {name: getattr(image, name) for name in IMAGE_FIELDS}
    else:
        model, pixels = from_state_dict(source, revision, known, tokens)
    if len(tokens) != model.config.text_config.vocab_size:  # transformers makes a small one for a folder without any
        raise ValueError(
            f"the tokenizer has {len(tokens):,} tokens, the CLIP {model.config.text_config.vocab_size:,}; give the "
            f"folder or id of its own tokenizer as `tokenizer` (OpenAI's: {original.OPENAI_TOKENIZER})."
        )
    if names is not None:
        model.set_classes(names, **tokenize_classes(names, tokens, model.config.text_config))
    original.save_converted(model, tokens, output, **pixels)
    return model
