"""Vita-CLIP configuration: what the model adds to CLIP's."""

from dataclasses import fields
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.models.clip.configuration_clip import CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from transformers.models.metaclip_2.configuration_metaclip_2 import (
    MetaClip2Config,
    MetaClip2TextConfig,
    MetaClip2VisionConfig,
)
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME


CONTEXT_POSITIONS = ("end", "front", "middle")
REMOTE_CODE_FIELDS = ("auto_map", "custom_pipelines")


def _require_positive(config, *fields: str, minimum: int = 1) -> None:
    for field in fields:
        value = getattr(config, field)
        if value < minimum:
            raise ValueError(f"{type(config).__name__}: `{field}` must be at least {minimum}, got {value}.")


# Backbones by model type: the configurations of their text and vision towers.
BACKBONES = {
    CLIPConfig.model_type: (CLIPTextConfig, CLIPVisionConfig),
    MetaClip2Config.model_type: (MetaClip2TextConfig, MetaClip2VisionConfig),
}
# Models without prompts: whole backbones, and their vision towers alone.
STOCK_TYPES = (*BACKBONES, *(vision.model_type for _, vision in BACKBONES.values()))


def _as_ours(given: Any, legacy: dict | None, stock: Any, ours: Any) -> Any:
    """Our configuration of one tower, from a dictionary, a stock CLIP configuration or None.

    CLIP's own defaults (patches of 32) fill what a stock CLIP configuration leaves out.
    """
    if isinstance(given, stock) and (legacy or not isinstance(given, ours)):
        given = given.to_dict()
    if legacy:
        given = (given or {}) | stock(**legacy).to_dict()
    if isinstance(given, dict) and given.get("model_type") == stock.model_type:
        given = stock(**given).to_dict() | {"model_type": ours.model_type}
    return ours(**(given or {})) if given is None or isinstance(given, dict) else given


@strict
class VitaClipTextConfig(CLIPTextConfig):
    r"""
    Configuration of Vita-CLIP's text tower: CLIP's, with learned context tokens before, behind or around the class
    names (paper section 3.2; CoOp, arXiv 2109.01134). The tower is a part of [`VitaClipModel`] and no model of its own.

    Args:
        num_context_tokens (`int`, *optional*, defaults to 16):
            Learned context tokens of a class prompt. The paper uses 16, the released K400 script 8.
        context_position (`str`, *optional*, defaults to `"end"`):
            Where the class name stands: at the `"end"` of the context, in `"front"` of it, or in its `"middle"`.
        class_specific_context (`bool`, *optional*, defaults to `True`):
            One context for each class (`True`) or one shared by all.
        context_init (`str`, *optional*):
            Words whose embeddings new contexts start from, as many tokens as `num_context_tokens`; random if `None`.
        pool_first_eos (`bool`, *optional*, defaults to `False`):
            Take a text's feature at its first `eos_token_id`, as MetaCLIP 2 does. CLIP takes it there too, unless the
            configuration has the `eos_token_id` 2 of OpenAI's published files: then at the largest token id.
    """

    model_type = "vita_clip_text_model"

    num_context_tokens: int = 16
    context_position: str = "end"
    class_specific_context: bool = True
    context_init: str | None = None
    pool_first_eos: bool = False

    def validate_architecture(self):
        """Checks fields that only make sense together; run by `@strict`."""
        super().validate_architecture()
        _require_positive(self, "num_context_tokens")
        if self.context_position not in CONTEXT_POSITIONS:
            raise ValueError(
                f"VitaClipTextConfig: `context_position` must be one of {', '.join(CONTEXT_POSITIONS)}, "
                f"got {self.context_position!r}."
            )
        if self.num_context_tokens > self.max_position_embeddings - 3:
            raise ValueError(
                f"VitaClipTextConfig: `num_context_tokens` ({self.num_context_tokens}) leaves no room for a class name "
                f"within `max_position_embeddings` ({self.max_position_embeddings})."
            )


@strict
class VitaClipVisionConfig(CLIPVisionConfig):
    r"""
    Configuration of Vita-CLIP's video tower: CLIP's vision tower (ViT-B/16 by default), with prompts in each layer
    (paper section 3.1).

    Args:
        num_frames (`int`, *optional*, defaults to 8):
            Frames of a training clip. Time embedding and local prompts have one vector for each; at run time any
            number of frames is accepted and they are resized over time (nearest).
        use_summary_prompt (`bool`, *optional*, defaults to `True`):
            One prompt a frame that attends over the class tokens of all frames.
        use_local_prompts (`bool`, *optional*, defaults to `True`):
            One learned prompt for each frame of the clip, conditioned on that frame's class token.
        num_global_prompts (`int`, *optional*, defaults to 8):
            Learned prompts of the whole video, the same for all frames; 0 for none.
        train_cls_projection (`bool`, *optional*, defaults to `True`):
            Whether `freeze_backbone` leaves the projection of the class tokens trainable, as the paper counts it. The
            released code freezes it by accident (`False`).
    """

    model_type = "vita_clip_vision_model"

    patch_size: int = 16
    num_frames: int = 8
    use_summary_prompt: bool = True
    use_local_prompts: bool = True
    num_global_prompts: int = 8
    train_cls_projection: bool = True

    def validate_architecture(self):
        """Checks fields that only make sense together; run by `@strict`."""
        super().validate_architecture()
        _require_positive(self, "num_frames")
        _require_positive(self, "num_global_prompts", minimum=0)


@strict
class VitaClipConfig(CLIPConfig):
    r"""
    Configuration of [`VitaClipModel`]: a text and a vision configuration, and the classes in `id2label`.

    A stock CLIP configuration (its folder or dictionary) is accepted too and gains the prompts' defaults.

    Example:

    ```python
    >>> from vitaclip_hf import VitaClipConfig

    >>> config = VitaClipConfig(id2label={0: "abseiling", 1: "yoga"}, vision_config={"num_frames": 16})
    >>> config.num_frames, config.num_labels
    (16, 2)

    ```
    """

    model_type = "vita_clip"
    sub_configs = {"vision_config": VitaClipVisionConfig, "text_config": VitaClipTextConfig}
    # What an evaluation loop must not gather: hidden states, and what has no row for each video.
    keys_to_ignore_at_inference = [
        "logits_per_text",
        "text_embeds",
        "vision_model_output",
        "text_model_output",
        "hidden_states",
        "attentions",
    ]

    text_config: Any = None  # a VitaClipTextConfig, made of a dictionary or of nothing
    vision_config: Any = None  # a VitaClipVisionConfig

    def __post_init__(self, **kwargs):
        num_frames = kwargs.pop("num_frames", None)
        # OpenAI's published configurations have these two fields; their values win, as in CLIPConfig.
        legacy_text, legacy_vision = kwargs.pop("text_config_dict", None), kwargs.pop("vision_config_dict", None)
        self.text_config = _as_ours(self.text_config, legacy_text, CLIPTextConfig, VitaClipTextConfig)
        self.vision_config = _as_ours(self.vision_config, legacy_vision, CLIPVisionConfig, VitaClipVisionConfig)
        ours = self.text_config, self.vision_config
        super().__post_init__(**kwargs)
        self.text_config, self.vision_config = ours  # older CLIPConfigs (5.12) make CLIP's own of them
        attention: Any = self._attn_implementation  # type: ignore[has-type]
        if attention is not None:
            self._attn_implementation = attention  # the setter passes it on to the parts
        if self.label2id is None and self.id2label is not None:  # type: ignore[has-type]
            self.label2id = {label: index for index, label in self.id2label.items()}
        if num_frames is not None:
            self.num_frames = num_frames
        if self.id2label is not None and sorted(self.id2label) != list(range(len(self.id2label))):  # type: ignore[has-type]
            found = ", ".join(map(str, list(self.id2label)[:5]))
            raise ValueError(
                f"VitaClipConfig: `id2label` must number the classes 0, 1, 2 … without gaps, got {found} …"
            )

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """
        Like every configuration's `from_dict`; a stock CLIP's configuration is accepted too.

        The installed package is used instead of the copy of its code in a published folder. So the fields that point to
        that copy are dropped: `pipeline()` would ask for `trust_remote_code` because of `custom_pipelines`, and a
        folder that is saved from here holds no code.
        """
        if not cls.__module__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
            config_dict = {key: value for key, value in config_dict.items() if key not in REMOTE_CODE_FIELDS}
        backbone = config_dict.get("model_type")
        if backbone in BACKBONES:
            config_dict = dict(config_dict) | {"model_type": cls.model_type}
            text, vision = BACKBONES[backbone]
            for part, stock in (("text_config", text), ("vision_config", vision)):
                config_dict[part] = {"model_type": stock.model_type} | (config_dict.get(part) or {})
                if backbone != CLIPConfig.model_type:  # `__post_init__` fills in CLIP's own defaults
                    config_dict[part] = stock(**config_dict[part]).to_dict() | {
                        "model_type": getattr(cls.sub_configs[part], "model_type")  # noqa: B009
                    }
            if backbone == MetaClip2Config.model_type:
                config_dict["text_config"]["pool_first_eos"] = True
        return super().from_dict(config_dict, **kwargs)

    @property
    def num_frames(self) -> int:
        """Frames of a clip, read by the `video-classification` pipeline."""
        return self.vision_config.num_frames

    @num_frames.setter
    def num_frames(self, value: int):
        self.vision_config.num_frames = value


# The settings of prompts: fields that are ours and neither CLIP's nor a fact of the backbone.
PROMPT_FIELDS = {
    part: tuple(
        item.name
        for item in fields(ours)
        if item.name not in {"pool_first_eos", *(theirs.name for theirs in fields(stock))}
    )
    for part, ours, stock in (
        ("vision_config", VitaClipVisionConfig, CLIPVisionConfig),
        ("text_config", VitaClipTextConfig, CLIPTextConfig),
    )
}


__all__ = ["VitaClipConfig", "VitaClipTextConfig", "VitaClipVisionConfig"]
