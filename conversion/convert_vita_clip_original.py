"""Converts a checkpoint of the authors' released code into a folder that `AutoModel` and `AutoProcessor` load."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.image_utils import PILImageResampling

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipProcessor, VitaClipVideoProcessor
from vitaclip_hf.loading.checkpoint import save_checkpoint
from vitaclip_hf.model.prompts import AFTER_END, CONTEXT_SLOT, tokenize_class_prompts

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
    load_tensors,
    read_classes,
    require_keys,
)


def read_config(
    weights: dict[str, torch.Tensor],
    classes: list[str],
    vision_heads: int | None,
    text_heads: int | None,
    context_position: str,
) -> VitaClipConfig:
    """The configuration, from the shapes of the weights and from what the weights do not show."""
    needed = ["visual.patch_embed.proj.weight", "visual.pos_embed", "visual.time_embed", "visual.proj", "logit_scale"]
    needed += ["textual.token_embedding.weight", "textual.positional_embedding", "textual.text_projection"]
    needed += ["visual.blocks.0.mlp.fc1.weight", "textual.transformer.resblocks.0.mlp.c_fc.weight"]
    needed += ["prompt_learner.ctx", "prompt_learner.token_prefix", "prompt_learner.token_suffix"]
    require_keys(weights, needed, "only checkpoints trained with learned text prompts hold a whole model")
    width, channels, patch, _ = weights["visual.patch_embed.proj.weight"].shape
    vocabulary, text_width = weights["textual.token_embedding.weight"].shape
    _, position_width = weights["textual.positional_embedding"].shape
    if position_width != text_width:  # else a narrow one could claim any number of positions
        raise ConversionError(f"textual.positional_embedding has the width {position_width}, tokens have {text_width}.")
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
            "num_attention_heads": heads_for(width, vision_heads, "vision_heads"),
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
            "num_attention_heads": heads_for(text_width, text_heads, "text_heads"),
            "max_position_embeddings": len(weights["textual.positional_embedding"]),
            "projection_dim": weights["visual.proj"].shape[1],
            "num_context_tokens": context.shape[-2],
            "class_specific_context": context.ndim == 3,
            "context_position": context_position,
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
    """Renames the released weights. Every key that finds its place is taken out of `weights`."""
    names = Renaming(weights)
    names.move("logit_scale", "logit_scale")
    names.move("visual.cls_token", "vision_model.embeddings.class_embedding")
    names.move("visual.patch_embed.proj.weight", "vision_model.embeddings.patch_embedding.weight")
    positions = weights.pop("visual.pos_embed").clone()
    # Our patches have no bias, as in CLIP. The bias is the same for every patch, so it is added to their positions.
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
    """Checks the class list against the embedded tokens of the class prompts, which the checkpoint holds."""
    prefix = weights.pop("prompt_learner.token_prefix")
    suffix = weights.pop("prompt_learner.token_suffix")
    if len(prefix) != len(names):
        raise ConversionError(f"`classes` names {len(names)} classes, but the checkpoint was trained on {len(prefix)}.")
    for index, name in enumerate(names):
        row = ids[index]
        tokens = row[(row != CONTEXT_SLOT) & (row != AFTER_END)]
        found = torch.cat([prefix[index], suffix[index, : len(tokens) - 1]])
        if found.shape != embedding[tokens].shape or not torch.equal(found, embedding[tokens]):
            raise ConversionError(
                f"class {index} is {name!r} in `classes`, but the checkpoint was trained with another name there; "
                "give the class list of the training, in its order."
            )


def convert_original(
    checkpoint: Path,
    classes: Path,
    output: Path,
    *,
    tokenizer: str = OPENAI_TOKENIZER,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    context_position: str = "end",
) -> VitaClipModel:
    """
    Converts a checkpoint of the released code and saves model, processor and tokenizer as one folder.

    Sizes, frames and prompts are read from the weights. The arguments after `output` say what the weights do not show.
    Every key of the checkpoint must find its place.

    Args:
        checkpoint (`Path`): the `.pth` file of the released code.
        classes (`Path`): text file with the class names of the training, one a line, in label order.
        output (`Path`): new folder to write.
        tokenizer (`str`): folder or Hub id of CLIP's tokenizer.
        vision_heads (`int`, *optional*): attention heads of the video tower; width / 64 by default.
        text_heads (`int`, *optional*): attention heads of the text tower; width / 64 by default.
        context_position (`str`, defaults to `"end"`):
            Where the class name stands in its prompt: `"end"`, `"front"` or `"middle"`.

    Returns:
        [`VitaClipModel`]: the converted model.

    Raises:
        ConversionError: the checkpoint, the class list or an argument does not fit.
        OSError: the tokenizer cannot be loaded, or the output cannot be written.

    Example:

    ```python
    >>> from vitaclip_hf.conversion.convert_vita_clip_original import convert_original

    >>> model = convert_original("k400.pth", "classes.txt", "vita-clip-k400")  # doctest: +SKIP

    ```
    """
    check_output(output)
    weights = load_tensors(Path(checkpoint), "checkpoint")
    names = read_classes(Path(classes))
    tokens: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tokenizer)
    with fitting_weights():
        check_values(weights)
        weights = {name: tensor.float() for name, tensor in weights.items()}
        config = read_config(weights, names, vision_heads, text_heads, context_position)
        context = weights["prompt_learner.ctx"]
        if context.ndim == 3 and len(context) != len(names):
            raise ConversionError(
                f"`classes` names {len(names)} classes, but the checkpoint was trained on {len(context)}."
            )
    for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config.text_config, field, getattr(tokens, field))
    try:
        ids = tokenize_class_prompts(names, tokens, config.text_config)
    except ValueError as error:  # class names that repeat or are too long, or a text tower of another vocabulary
        raise ConversionError(str(error)) from error
    with fitting_weights():
        check_class_names(weights, names, ids, weights["textual.token_embedding.weight"])
        renamed = rename(weights, config)
        renamed.converted["class_prompts.class_input_ids"] = ids
        with torch.device("meta"):  # before memory is taken for sizes that the weights only claim
            renamed.check(VitaClipModel(config))
    model = VitaClipModel(config)
    renamed.fill(model)
    size = config.vision_config.image_size
    video_processor = VitaClipVideoProcessor(
        num_frames=config.num_frames,
        sampling="dense",
        resample=PILImageResampling.BILINEAR,  # as in its training: bilinear, without antialiasing
        antialias=False,
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
    )
    save_checkpoint(model, VitaClipProcessor(video_processor, tokens), output)
    return model
