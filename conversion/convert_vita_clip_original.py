"""Converts a checkpoint of the authors' released code into a folder that `AutoModel` and `AutoProcessor` load."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.image_utils import PILImageResampling

from vitaclip_hf import VitaClipConfig, VitaClipModel
from vitaclip_hf.data.class_names import read_class_names
from vitaclip_hf.loading.guards import check_output
from vitaclip_hf.model.processing_vita_clip import tokenize_classes
from vitaclip_hf.model.prompts import AFTER_END, CONTEXT_SLOT

from . import original_weights as original


# The weights by which sizes are found, with their numbers of dimensions.
MATRICES = (
    *("visual.pos_embed", "visual.time_embed", "visual.proj", "visual.blocks.0.mlp.fc1.weight"),
    *("textual.token_embedding.weight", "textual.positional_embedding", "textual.text_projection"),
    "textual.transformer.resblocks.0.mlp.c_fc.weight",
)
PROMPTS = ("prompt_learner.token_prefix", "prompt_learner.token_suffix")
NEEDED = {
    "visual.patch_embed.proj.weight": 4,
    "logit_scale": 0,
    **dict.fromkeys(MATRICES, 2),
    **dict.fromkeys(PROMPTS, 3),
}
VISION_BLOCK = {
    r"norm1\.": "layer_norm1.",
    r"norm2\.": "layer_norm2.",
    r"mlp\.": "mlp.",
    r"attn\.": "self_attn.",
    r"cls_proj\.": "prompts.cls_projection.",
    r"summary_ln\.": "prompts.summary_norm.",
    r"summary_attn_layer\.": "prompts.summary_attention.",
    r"local_prompts": "prompts.local_prompts",
    r"global_prompts": "prompts.global_prompts",
}
RULES = {
    r"logit_scale": "logit_scale",
    r"visual\.cls_token": "vision_model.embeddings.class_embedding",
    r"visual\.patch_embed\.proj\.weight": "vision_model.embeddings.patch_embedding.weight",
    r"visual\.pos_embed": "vision_model.embeddings.position_embedding.weight",
    r"visual\.time_embed": "vision_model.time_embedding.weight",
    r"visual\.ln_pre\.(.*)": r"vision_model.pre_layrnorm.\1",
    r"visual\.ln_post\.(.*)": r"vision_model.post_layernorm.\1",
    r"visual\.proj": "visual_projection.weight",
    r"prompt_learner\.ctx": "class_prompts.context",
    **original.block_rules(r"visual\.blocks\.", "vision_model", VISION_BLOCK),
    **original.text_rules(r"textual\."),
}


def read_config(
    weights: dict[str, torch.Tensor], classes: list[str], tokenizer: Any, heads: dict[str, int | None], position: str
) -> VitaClipConfig:
    """The configuration, from the shapes of the weights and from what the weights do not show."""
    context, global_prompts = weights["prompt_learner.ctx"], weights.get("visual.global_prompts")
    names = ("visual.patch_embed.proj.weight", "visual.pos_embed", "visual.blocks.", "mlp.fc1.weight")
    vision = original.vision_sizes(weights, *names, heads["vision"])
    return VitaClipConfig(
        id2label=dict(enumerate(classes)),
        projection_dim=vision["projection_dim"],
        logit_scale_init_value=weights["logit_scale"].item(),
        vision_config={
            **vision,
            "num_frames": len(weights["visual.time_embed"]),
            "use_summary_prompt": "visual.blocks.0.summary_ln.weight" in weights,
            "use_local_prompts": "visual.blocks.0.local_prompts" in weights,
            "num_global_prompts": 0 if global_prompts is None else global_prompts.shape[1],
        },
        text_config={
            **original.text_sizes(weights, "textual.", heads["text"], tokenizer),
            "num_context_tokens": context.shape[-2],
            "class_specific_context": context.ndim == 3,
            "context_position": position,
        },
    )


def in_our_layout(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors that we keep in another layout: patch bias, local and global prompts."""
    weights = dict(weights)
    # Our patches have no bias, as in CLIP. The bias is the same for every patch, so it is added to their positions.
    positions = weights["visual.pos_embed"].clone()
    positions[1:] += weights.pop("visual.patch_embed.proj.bias", torch.zeros(positions.shape[1]))
    weights["visual.pos_embed"] = positions
    for layer, prompts in enumerate(weights.pop("visual.global_prompts", ())):
        weights[f"visual.blocks.{layer}.global_prompts"] = prompts
    return {name: t.squeeze(0) if name.endswith("local_prompts") else t for name, t in weights.items()}


def check_class_names(
    weights: dict[str, torch.Tensor], names: list[str], ids: torch.Tensor, embedding: torch.Tensor
) -> None:
    """Checks the class list against the embedded tokens of the class prompts, and takes these out of `weights`."""
    prefix, suffix = (weights.pop(name) for name in PROMPTS)
    for index, name in enumerate(names):
        tokens = ids[index][(ids[index] != CONTEXT_SLOT) & (ids[index] != AFTER_END)]
        stored = torch.cat([prefix[index], suffix[index, : len(tokens) - 1]])
        if not torch.equal(stored, embedding[tokens]):
            raise ValueError(
                f"class {index} is {name!r:.200} in `classes`, but the checkpoint was trained with another name there; "
                "give the class list of the training, in its order."
            )


def convert_original(
    checkpoint: Path,
    classes: Path,
    output: Path,
    *,
    tokenizer: str = original.OPENAI_TOKENIZER,
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
        classes (`Path`): file with the class names of the training, in label order.
        output (`Path`): new folder to write.
        tokenizer (`str`): folder or Hub id of CLIP's tokenizer.
        vision_heads (`int`, *optional*): attention heads of the video tower; width / 64 by default.
        text_heads (`int`, *optional*): attention heads of the text tower; width / 64 by default.
        context_position (`str`, defaults to `"end"`):
            Where the class name stands in its prompt: `"end"`, `"front"` or `"middle"`.

    Returns:
        [`VitaClipModel`]: the converted model.

    Raises:
        ValueError: the checkpoint, the class list or an argument does not fit.
        OSError: the tokenizer cannot be loaded, or the output cannot be written.

    Example:

    ```python
    >>> from vitaclip_hf.conversion.convert_vita_clip_original import convert_original

    >>> model = convert_original("k400.pth", "classes.txt", "vita-clip-k400")  # doctest: +SKIP

    ```
    """
    check_output(output)
    weights, names = original.load_tensors(Path(checkpoint), "checkpoint"), list(read_class_names(classes))
    with original.fitting_weights():
        context = weights.get("prompt_learner.ctx", torch.empty(0))  # one for each class, or one for all
        needed = NEEDED | {"prompt_learner.ctx": 3 if context.ndim == 3 else 2}
        weights = original.as_float32(weights, needed, "only checkpoints with learned text prompts hold a whole model")
        trained = {len(weights[name]) for name in PROMPTS}
        trained |= {len(context)} if context.ndim == 3 else set()
        if trained != {len(names)}:
            raise ValueError(f"`classes` names {len(names)} classes, but the checkpoint was trained on {max(trained)}.")
        tokens = AutoTokenizer.from_pretrained(tokenizer)
        config = read_config(weights, names, tokens, {"vision": vision_heads, "text": text_heads}, context_position)
        ids = tokenize_classes(names, tokens, config.text_config)["class_input_ids"]
        check_class_names(weights, names, ids, weights["textual.token_embedding.weight"])
        renamed = original.rename(in_our_layout(weights), RULES) | {"class_prompts.class_input_ids": ids}
        model = original.filled_model(config, renamed, new_prompts=False)
    # As in its training: bilinear, without antialiasing.
    settings = {"sampling": "dense", "resample": PILImageResampling.BILINEAR, "antialias": False}
    original.save_converted(model, tokens, output, **settings)
    return model
