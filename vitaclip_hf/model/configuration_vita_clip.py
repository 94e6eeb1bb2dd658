"""Vita-CLIP configuration: what the model adds to CLIP's."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.models.clip.configuration_clip import CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME


CONTEXT_POSITIONS = ("end", "front", "middle")
REMOTE_CODE_FIELDS = ("auto_map", "custom_pipelines")


def _check_at_least(config, minimum: int, *fields: str) -> None:
    for field in fields:
        if getattr(config, field) < minimum:
            raise ValueError(f"`{field}` must be at least {minimum}, got {getattr(config, field)}.")


@strict
class VitaClipTextConfig(CLIPTextConfig):
    r"""
    Configuration of Vita-CLIP's text tower: CLIP's, with learned context tokens before, behind or around the class
    names (paper section 3.2; CoOp, arXiv 2109.01134).

    Args:
        num_context_tokens (`int`, defaults to 16): learned tokens of a class prompt, 0 for none (prompts of the
            vision tower alone); the released K400 script has 8.
        context_position (`str`, defaults to `"end"`): where the class name stands: at the `"end"` of the context, in
            `"front"` of it, or in its `"middle"`.
        class_specific_context (`bool`, defaults to `True`): one context for each class, or one for all.
        context_init (`str`, *optional*): words whose embeddings new contexts start from, as many tokens as
            `num_context_tokens`; random if `None`.
        pool_first_eos (`bool`, defaults to `False`): take a text's feature at its first `eos_token_id`, as MetaCLIP 2
            does. CLIP does too, unless that is the 2 of OpenAI's published files: then at the largest token id.
    """

    model_type = "vita_clip_text_model"

    num_context_tokens: int = 16
    context_position: str = "end"
    class_specific_context: bool = True
    context_init: str | None = None
    pool_first_eos: bool = False

    def validate_architecture(self):
        super().validate_architecture()
        _check_at_least(self, 0, "num_context_tokens")
        _check_at_least(self, 1, "num_attention_heads")
        if self.context_position not in CONTEXT_POSITIONS:
            positions = ", ".join(CONTEXT_POSITIONS)
            raise ValueError(f"`context_position` must be one of {positions}, got {self.context_position!r:.80}.")
        if not isinstance(self.eos_token_id, int):
            raise ValueError(f"`eos_token_id` must be one number, got {self.eos_token_id!r:.100}.")
        count, positions = self.num_context_tokens, self.max_position_embeddings
        if count > positions - 3:
            raise ValueError(f"`num_context_tokens` {count} leaves no room for a class name in {positions} positions.")


@strict
class VitaClipVisionConfig(CLIPVisionConfig):
    r"""
    Configuration of Vita-CLIP's video tower: CLIP's vision tower (ViT-B/16 by default), with prompts in each layer
    (paper section 3.1).

    Args:
        num_frames (`int`, defaults to 8): frames of a training clip. Time embedding and local prompts have one vector
            for each; they are resized over time (nearest) for clips of another length.
        use_summary_prompt (`bool`, defaults to `True`): one prompt a frame that attends over all frames' class tokens.
        use_local_prompts (`bool`, defaults to `True`): one learned prompt a frame, conditioned on its class token.
        num_global_prompts (`int`, defaults to 8): learned prompts, the same for all frames; 0 for none.
        train_cls_projection (`bool`, defaults to `True`): whether `freeze_backbone` leaves the projection of the class
            tokens trainable, as the paper counts it. The released code freezes it by accident (`False`).
    """

    model_type = "vita_clip_vision_model"

    patch_size: int = 16
    num_frames: int = 8
    use_summary_prompt: bool = True
    use_local_prompts: bool = True
    num_global_prompts: int = 8
    train_cls_projection: bool = True

    def validate_architecture(self):
        super().validate_architecture()
        _check_at_least(self, 1, "num_frames", "num_attention_heads")
        _check_at_least(self, 0, "num_global_prompts")


@strict
class VitaClipConfig(CLIPConfig):
    r"""
    Configuration of [`VitaClipModel`]: a text and a vision configuration, and the classes in `id2label`.

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
        *("logits_per_text", "text_embeds", "video_embeds", "vision_model_output", "text_model_output"),
        *("hidden_states", "attentions"),
    ]

    text_config: Any = None  # a VitaClipTextConfig, made of a dictionary, CLIP's own or nothing
    vision_config: Any = None  # a VitaClipVisionConfig

    def __post_init__(self, **kwargs):
        num_frames = kwargs.pop("num_frames", None)
        for name, part in self.sub_configs.items():
            values, clips = getattr(self, name), part.__mro__[1]
            if isinstance(values, clips) and not isinstance(values, part):
                values = values.to_dict()
            if values is None or isinstance(values, dict):
                setattr(self, name, part(**(values or {})))
            elif not isinstance(values, part):
                raise TypeError(f"`{name}` must be a dictionary or {clips.__name__}, got {type(values).__name__}.")
        parts = self.text_config, self.vision_config
        super().__post_init__(**kwargs)
        self.text_config, self.vision_config = parts  # older CLIPConfigs (5.12) make CLIP's own of them
        attention: Any = self._attn_implementation  # type: ignore[has-type]
        if attention is not None:
            self._attn_implementation = attention  # the setter passes it on to the parts
        if self.label2id is None and self.id2label is not None:  # type: ignore[has-type]
            self.label2id = {label: index for index, label in self.id2label.items()}
        if num_frames is not None:
            self.num_frames = num_frames
        if self.id2label is not None and sorted(self.id2label) != list(range(len(self.id2label))):  # type: ignore[has-type]
            raise ValueError(f"`id2label` must number the classes 0, 1, 2 … without gaps, got {self.id2label!r:.200}.")

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """As for every configuration, without the fields that point to a published folder's own code."""
        # The package goes before that code; because of `custom_pipelines`, `pipeline()` would ask for trust in it.
        if not cls.__module__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
            config_dict = {key: value for key, value in config_dict.items() if key not in REMOTE_CODE_FIELDS}
        return super().from_dict(config_dict, **kwargs)

    @property
    def num_frames(self) -> int:
        """Frames of a clip; transformers' `video-classification` pipeline reads it."""
        return self.vision_config.num_frames

    @num_frames.setter
    def num_frames(self, value: int):
        self.vision_config.num_frames = value


# The settings of prompts: fields that are ours and no fact of the backbone.
PROMPT_FIELDS = {
    name: tuple(field for field in part.__annotations__ if field not in ("patch_size", "pool_first_eos"))
    for name, part in (("vision_config", VitaClipVisionConfig), ("text_config", VitaClipTextConfig))
}


__all__ = ["VitaClipConfig", "VitaClipTextConfig", "VitaClipVisionConfig"]
