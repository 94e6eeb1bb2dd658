"""Vita-CLIP: CLIP whose frozen towers take learned prompts (CVPR 2023, arXiv 2304.03307).

Shapes, in the letters of the whole package: B videos, T frames, N patches of a frame, D vision width, D_t text width,
E joint width, C classes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import (
    CLIPAttention,
    CLIPEncoder,
    CLIPEncoderLayer,
    CLIPModel,
    CLIPPreTrainedModel,
    CLIPVisionModel,
    eager_attention_forward,
)
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, logging
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_vita_clip import VitaClipConfig, VitaClipVisionConfig
from .prompts import ClassPrompts, TimeEmbedding, VisionPrompts, prompts_disabled
from .published_code import copy_pipeline_modules
from .quick_gelu import QuickGELU
from .text_embedding_cache import TextEmbeddingCache
from .text_tower import VitaClipTextEncoder


logger = logging.get_logger(__name__)

VIDEO_SHAPE = "(batch_size, num_frames, num_channels, height, width)"


@dataclass
class VitaClipOutput(ModelOutput):
    """
    Output of [`VitaClipModel`].

    Args:
        loss (`torch.Tensor`, *optional*, returned with `labels`): cross-entropy over the texts or classes.
        logits_per_video (`torch.Tensor` of shape `(batch_size, num_texts)`): scaled cosines of videos and texts.
        logits_per_text (`torch.Tensor` of shape `(num_texts, batch_size)`): the same, transposed.
        video_embeds (`torch.Tensor` of shape `(batch_size, projection_dim)`): normalised video features.
        text_embeds (`torch.Tensor` of shape `(num_texts, projection_dim)`): normalised text or class features.
        vision_model_output (`BaseModelOutputWithPooling`): of [`VitaClipModel.get_video_features`].
        text_model_output (`BaseModelOutputWithPooling`): of the text or class features.
    """

    loss: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None
    text_model_output: BaseModelOutputWithPooling | None = None

    def to_tuple(self) -> tuple:
        return tuple(v.to_tuple() if isinstance(v, ModelOutput) else v for v in self.values())


class VitaClipVisionAttention(CLIPAttention):
    """CLIP's self-attention within each frame. Prompts are keys and values only; no queries are computed for them."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        prompts: list[torch.Tensor],
        num_queries: int | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            hidden_states: tokens of the frames, `[B, T, 1+N, D]`.
            prompts: tensors that broadcast to `[B, T, tokens, D]`; a prompt that frames share is projected once.
            num_queries: attend only for this many first tokens (all by default).

        Returns:
            `[B, T, num_queries, D]`, and the attention weights `[B * T, heads, num_queries, 1+N+prompts]` if eager.
        """
        batch, frames, _, width = hidden_states.shape

        def heads(tokens: torch.Tensor) -> torch.Tensor:
            return tokens.reshape(batch * frames, -1, self.num_heads, self.head_dim).transpose(1, 2)

        def with_prompts(projection: nn.Linear) -> torch.Tensor:
            shared = [projection(tokens).expand(batch, frames, -1, -1) for tokens in prompts]
            return heads(torch.cat([projection(hidden_states), *shared], dim=2))

        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attended, weights = attention(
            self,
            heads(self.q_proj(hidden_states[:, :, :num_queries])),
            with_prompts(self.k_proj),
            with_prompts(self.v_proj),
            attention_mask,
            scaling=self.scale,
            dropout=self.dropout if self.training else 0.0,
            **kwargs,
        )
        return self.out_proj(attended.reshape(batch, frames, -1, width)), weights


class VitaClipVisionLayer(CLIPEncoderLayer):
    """CLIP's layer on the tokens of each frame, beside the layer's own prompts."""

    def __init__(self, config: VitaClipVisionConfig):
        super().__init__(config)
        if config.hidden_act == "quick_gelu":
            self.mlp.activation_fn = QuickGELU()
        self.self_attn = VitaClipVisionAttention(config)
        self.prompts = VisionPrompts(config)

    def forward(
        self, hidden_states: torch.Tensor, num_queries: int | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """`[B, T, 1+N, D]` in, `[B, T, num_queries, D]` out (all tokens by default)."""
        prompts = [self.layer_norm1(tokens) for tokens in self.prompts(hidden_states[:, :, 0])]
        attended, _ = self.self_attn(self.layer_norm1(hidden_states), prompts, num_queries, **kwargs)
        hidden_states = hidden_states[:, :, :num_queries] + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))


class VitaClipVisionEncoder(CLIPEncoder):
    """CLIP's encoder. The last layer can be computed for the class tokens only."""

    def __init__(self, config: VitaClipVisionConfig):
        nn.Module.__init__(self)  # CLIPEncoder's own would build CLIP's layers first
        self.config = config
        self.layers = nn.ModuleList([VitaClipVisionLayer(config) for _ in range(config.num_hidden_layers)])
        self.gradient_checkpointing = False

    def forward(
        self, inputs_embeds: torch.Tensor, all_tokens: bool = True, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutput:
        hidden_states = inputs_embeds
        for layer in self.layers[:-1]:
            hidden_states = layer(hidden_states, **kwargs)
        hidden_states = self.layers[-1](hidden_states, None if all_tokens else 1, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states)


class VitaClipPreTrainedModel(CLIPPreTrainedModel):
    """Weights, loading and saving, as for every transformers model."""

    config: VitaClipConfig
    config_class = VitaClipConfig
    base_model_prefix = "vita_clip"
    main_input_name = "pixel_values_videos"
    input_modalities: tuple[str, ...] = ("video", "text")
    _no_split_modules = ["VitaClipTextLayer", "CLIPVisionEmbeddings", "VitaClipVisionLayer"]
    # The summary prompts attend too; only the frames' own attention is reported.
    _can_record_outputs = {
        "hidden_states": CLIPEncoderLayer,
        "attentions": OutputRecorder(CLIPAttention, index=1, layer_name="self_attn"),
    }

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        for module in (loaded[0] if isinstance(loaded, tuple) else loaded).modules():
            if isinstance(module, ClassPrompts):
                module.lengths  # noqa: B018  measured now, since a traced forward pass cannot
        return loaded

    @classmethod
    def is_custom_code(cls) -> bool:
        """`False`: initialise as transformers' own models do. `_init_weights` never overwrites loaded weights."""
        return False

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """As for every transformers model. The pipelines of a published folder's own code are saved too."""
        super().save_pretrained(save_directory, **kwargs)
        copy_pipeline_modules(self.config, save_directory)

    def prompts_disabled(self) -> AbstractContextManager[None]:
        """
        A context in which the prompts are off: both towers give the features of frozen CLIP, to the bit.

        `get_video_features` is then the mean of CLIP's frame features. The learned contexts cannot be used: compare
        with texts (`input_ids`). `logit_scale` stays the trained one.

        Example:

        ```python
        >>> with model.prompts_disabled():  # doctest: +SKIP
        ...     features = model.get_video_features(pixel_values_videos).pooler_output

        ```
        """
        return prompts_disabled(self)

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, TimeEmbedding):
            init.zeros_(module.weight)
        elif isinstance(module, VisionPrompts):
            if module.cls_projection is not None:
                bound = module.cls_projection.in_features**-0.5  # torch's own for a linear layer
                init.uniform_(module.cls_projection.weight, -bound, bound)
                init.uniform_(module.cls_projection.bias, -bound, bound)
            for prompts in (module.local_prompts, module.global_prompts):
                if prompts is not None:
                    # As visual prompt tuning does (arXiv 2203.12119): Xavier over a patch and the width.
                    bound = (6 / (3 * module.patch_size**2 + prompts.shape[-1])) ** 0.5
                    init.uniform_(prompts, -bound, bound)
        elif isinstance(module, ClassPrompts):
            init.normal_(module.context, std=0.02)
            init.copy_(module.class_input_ids, module.nameless_ids(len(module.class_input_ids)))
        elif isinstance(module, VitaClipModel):
            init.constant_(module.logit_scale, self.config.logit_scale_init_value)


class VitaClipVisionModel(VitaClipPreTrainedModel, CLIPVisionModel):
    """The video tower without the projection to the joint space."""

    config: VitaClipVisionConfig
    config_class = VitaClipVisionConfig
    base_model_prefix = "vision_model"  # loads from a whole model's folder, of which it leaves the rest
    input_modalities = ("video",)
    _no_split_modules = ["CLIPVisionEmbeddings", "VitaClipVisionLayer"]

    def __init__(self, config: VitaClipVisionConfig):
        checkpointing = getattr(config, "gradient_checkpointing", False)
        super().__init__(config)
        self.time_embedding = TimeEmbedding(config)
        self.encoder = VitaClipVisionEncoder(config)
        if checkpointing:  # CLIP's own `__init__` took it for the encoder just replaced
            config.gradient_checkpointing = True
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        class_tokens_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalised frames; any number of frames from 1 up.
            interpolate_pos_encoding (`bool`, defaults to `False`): accept another size than the configuration's.
            class_tokens_only (`bool`, defaults to `False`):
                Compute the last layer for the class tokens only, which saves time. `last_hidden_state` is then `None`.
                Without effect where hidden states or attentions are asked for, and with disabled prompts.

        Returns:
            `pooler_output` of shape `(batch_size, num_frames, hidden_size)`: each frame's class token after the final
            LayerNorm; and `last_hidden_state` of shape `(batch_size, num_frames, sequence_length, hidden_size)`.
        """
        pixel_values_videos = _checked_videos(pixel_values_videos)
        # Without prompts this is CLIP. It is computed as CLIP computes it, so that the result is bit-identical.
        all_tokens = not (class_tokens_only and self.time_embedding.enabled) or any(
            kwargs.get(name, getattr(self.config, name, False))
            for name in ("output_hidden_states", "output_attentions")
        )
        frames = self.embeddings(pixel_values_videos.flatten(0, 1), interpolate_pos_encoding=interpolate_pos_encoding)
        hidden_states = self.time_embedding(frames.unflatten(0, pixel_values_videos.shape[:2]))
        hidden_states = self.encoder(self.pre_layrnorm(hidden_states), all_tokens, **kwargs).last_hidden_state
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_states if all_tokens else None,
            pooler_output=self.post_layernorm(hidden_states[:, :, 0]),
        )


def _check_tensor(name: str, value: Any, shape: str) -> None:
    """Raises a TypeError for what is no tensor. Stand-ins of tracing have the methods of one."""
    if not hasattr(value, "to"):
        raise TypeError(f"`{name}` must be a tensor of shape {shape}, got {type(value).__name__}.")


def _check_texts(input_ids: Any) -> None:
    shape = "(batch_size, sequence_length)"
    _check_tensor("input_ids", input_ids, shape)
    if not isinstance(input_ids, torch.Tensor):
        return
    if input_ids.is_floating_point() or input_ids.is_complex() or input_ids.dtype == torch.bool:
        raise TypeError(f"`input_ids` must hold whole numbers, got a tensor of {input_ids.dtype}.")
    if input_ids.ndim == 0 or 0 in input_ids.shape:
        raise ValueError(f"`input_ids` must have the shape {shape}, got {tuple(input_ids.shape)}.")


def _checked_videos(pixel_values_videos: torch.Tensor | None) -> torch.Tensor:
    if pixel_values_videos is None:
        raise ValueError(f"`pixel_values_videos` is missing; pass videos of shape {VIDEO_SHAPE}.")
    _check_tensor("pixel_values_videos", pixel_values_videos, VIDEO_SHAPE)
    if pixel_values_videos.ndim != 5 or 0 in pixel_values_videos.shape:
        raise ValueError(
            f"`pixel_values_videos` must have the shape {VIDEO_SHAPE} with at least one video and one frame, "
            f"got {tuple(pixel_values_videos.shape)}."
        )
    return pixel_values_videos


class VitaClipModel(VitaClipPreTrainedModel, CLIPModel):
    r"""
    Vita-CLIP: CLIP with learned video prompts and class-specific learned text contexts.

    `VitaClipModel.from_pretrained` also loads a stock CLIP. Its weights are taken as they are; the prompts are new.

    Example:

    ```python
    >>> import torch
    >>> from vitaclip_hf import VitaClipConfig, VitaClipModel

    >>> small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> config = VitaClipConfig(vision_config=small | {"image_size": 32}, text_config=small, projection_dim=16)
    >>> model = VitaClipModel(config).eval()
    >>> videos = torch.randn(2, 8, 3, 32, 32)
    >>> model.get_video_features(videos).pooler_output.shape
    torch.Size([2, 16])

    ```
    """

    config: VitaClipConfig
    # The loss is a mean over the batch unless `num_items_in_batch` is given, which the forward uses.
    accepts_loss_kwargs = True

    def __init__(self, config: VitaClipConfig):
        checkpointing = getattr(config, "gradient_checkpointing", False)
        super().__init__(config)
        if checkpointing:  # CLIP's own `__init__` took it for the towers replaced here
            config.gradient_checkpointing = True
        self.vision_model = VitaClipVisionModel._from_config(config.vision_config)
        self.text_model.encoder = VitaClipTextEncoder(self.text_model.config)
        self.class_prompts = ClassPrompts(config.text_config, config.num_labels)
        self.text_embedding_cache = TextEmbeddingCache()
        self.post_init()
        self.class_prompts.lengths  # noqa: B018  measured now, since a traced forward pass cannot
        # CLIP's own text tower adds its layers, which were replaced, and its embeddings, of which classes use a part.
        replaced = {"CLIPEncoderLayer", "CLIPTextEmbeddings"}
        self._no_split_modules = [name for name in self._no_split_modules or () if name not in replaced]

    def get_input_embeddings(self) -> nn.Embedding:
        """The text tower's token embedding."""
        return self.text_model.embeddings.token_embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replaces the text tower's token embedding."""
        self.text_model.embeddings.token_embedding = value

    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        interpolate_pos_encoding: bool = False,
        class_tokens_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalised frames; any number of frames from 1 up. Of shape
                `(batch_size, num_views, num_frames, num_channels, height, width)` for several views of each video.
            interpolate_pos_encoding (`bool`, defaults to `False`): accept another size than the configuration's.
            class_tokens_only (`bool`, defaults to `False`):
                Compute the last layer for the class tokens only, which saves time: nothing else enters the features.
                `last_hidden_state` is then `None`.

        Returns:
            `pooler_output` of shape `(batch_size, projection_dim)`: the mean over the frames of their projected class
            tokens, before normalising. Of several views, the mean of their normalised features; the other outputs then
            have one row a view.
        """
        if pixel_values_videos is not None and getattr(pixel_values_videos, "ndim", 5) == 6:
            views = pixel_values_videos.shape[1]
            outputs = self.get_video_features(
                pixel_values_videos.flatten(0, 1),
                interpolate_pos_encoding,
                class_tokens_only,
                return_dict=True,
                **kwargs,
            )
            features = nn.functional.normalize(outputs.pooler_output, dim=-1)
            outputs.pooler_output = features.unflatten(0, (-1, views)).mean(1)
            return outputs
        outputs = self.vision_model(
            pixel_values_videos,
            interpolate_pos_encoding=interpolate_pos_encoding,
            class_tokens_only=class_tokens_only,
            return_dict=True,
            **kwargs,
        )
        outputs.pooler_output = self.visual_projection(outputs.pooler_output).mean(1)
        return outputs

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        r"""
        Features of images, each as a video of one frame.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, height, width)`): normalised images.
            kwargs: as for `get_video_features`.

        Returns:
            `pooler_output` of shape `(batch_size, projection_dim)`, before normalising.
        """
        _check_tensor("pixel_values", pixel_values, "(batch_size, num_channels, height, width)")
        return self.get_video_features(pixel_values.unsqueeze(1), **kwargs)

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): the texts.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*): of the texts.
            position_ids (`torch.LongTensor`, *optional*): places of the tokens.

        Returns:
            `pooler_output` of shape `(batch_size, projection_dim)`: features through CLIP's plain text tower, before
            normalising.

        Raises:
            TypeError, ValueError: no tensor of whole numbers, or one without texts.
        """
        _check_texts(input_ids)
        outputs = super().get_text_features(input_ids, attention_mask, position_ids, return_dict=True, **kwargs)
        text = self.config.text_config
        if text.pool_first_eos:  # MetaCLIP 2, whose end token is the 2 that CLIP takes for a mistake
            states = outputs.last_hidden_state
            first = (input_ids.to(states.device) == text.eos_token_id).int().argmax(-1)
            outputs.pooler_output = self.text_projection(states[torch.arange(len(states), device=states.device), first])
        return outputs

    @can_return_tuple
    def get_class_features(self, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        r"""
        Features of the model's own classes, `config.id2label`, through their learned contexts.

        Returns:
            `pooler_output` of shape `(num_classes, projection_dim)`, before normalising, and `last_hidden_state` of
            shape `(num_classes, 1, hidden_size)`, of each prompt's end. Hidden states and attentions are not recorded.

        Raises:
            ValueError: the classes have no names and share one context, or the prompts are disabled.
        """
        text = self.text_model
        # A function, not the module: accelerate's hooks move modules among the arguments, and would move its weights.
        packed = self.class_prompts(lambda ids: text.embeddings.token_embedding(ids))
        positions = text.embeddings.position_embedding(packed.positions)
        hidden_states = text.encoder(
            packed.tokens + positions.to(packed.tokens.device), packed=packed, is_causal=True, **kwargs
        ).last_hidden_state
        hidden_states = text.final_layer_norm(hidden_states)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_states, pooler_output=self.text_projection(hidden_states[:, 0])
        )

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        num_items_in_batch: int | torch.Tensor | None = None,
        class_tokens_only: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VitaClipOutput:
        r"""
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalised frames; any number of frames from 1 up.
            input_ids (`torch.LongTensor` of shape `(num_texts, sequence_length)`, *optional*):
                Texts to compare with, through CLIP's plain text tower. Without them, the model's own classes through
                their learned contexts.
            attention_mask (`torch.Tensor` of shape `(num_texts, sequence_length)`, *optional*): of the texts.
            labels (`torch.Tensor`, *optional*):
                Which text each video shows, of shape `(batch_size,)` and integers, or the probability of each, of shape
                `(batch_size, num_texts)`.
            interpolate_pos_encoding (`bool`, defaults to `False`): accept another size than the configuration's.
            num_items_in_batch (`int`, *optional*):
                Entries of `labels` in the whole optimizer step, as `Trainer` counts and passes them; the loss is then
                this batch's sum divided by that number.
            class_tokens_only (`bool`, defaults to `True`):
                Compute the last layer of the video tower for the class tokens only. With `False` the output's
                `vision_model_output` has `last_hidden_state`.

        Returns:
            [`VitaClipOutput`]
        """
        video_outputs = self.get_video_features(
            pixel_values_videos, interpolate_pos_encoding, class_tokens_only, return_dict=True, **kwargs
        )
        if input_ids is None:
            text_outputs = self.get_class_features(return_dict=True)
        else:
            recorded = ("output_hidden_states", "output_attentions")
            text_outputs = self.get_text_features(
                input_ids=input_ids,
                attention_mask=attention_mask,
                return_dict=True,
                **{name: kwargs[name] for name in recorded if name in kwargs},
            )
        video_embeds = nn.functional.normalize(video_outputs.pooler_output, dim=-1)
        text_embeds = nn.functional.normalize(text_outputs.pooler_output, dim=-1)
        logits = self.compare(video_embeds, text_embeds)
        return VitaClipOutput(
            loss=None if labels is None else classification_loss(logits, labels, num_items_in_batch),
            logits_per_video=logits,
            logits_per_text=logits.T,
            video_embeds=video_embeds,
            text_embeds=text_embeds,
            vision_model_output=video_outputs,
            text_model_output=text_outputs,
        )

    def compare(self, video_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
        """
        Scaled cosines.

        Args:
            video_embeds (`torch.Tensor` of shape `(batch_size, projection_dim)`): normalised.
            text_embeds (`torch.Tensor` of shape `(num_texts, projection_dim)`): normalised.

        Returns:
            `torch.Tensor` of shape `(batch_size, num_texts)`.
        """
        text_embeds = text_embeds.to(video_embeds.device, video_embeds.dtype)
        return video_embeds @ text_embeds.T * self.logit_scale.exp().to(video_embeds.device)

    def text_side_modules(self) -> list[nn.Module]:
        """Everything that text and class features depend on."""
        return [self.text_model, self.text_projection, self.class_prompts]

    def get_class_embeds(self) -> torch.Tensor:
        """
        Normalised class features of shape `(num_classes, projection_dim)`.

        In evaluation without gradients they are made once and kept until a weight changes.
        """

        def embed() -> torch.Tensor:
            return nn.functional.normalize(self.get_class_features(return_dict=True).pooler_output, dim=-1)

        keep = not (self.training or torch.is_grad_enabled() or torch.compiler.is_compiling())
        if not keep or not self.class_prompts.enabled or self.class_prompts.class_input_ids.is_meta:
            return embed()
        return self.text_embedding_cache.get("classes", self.text_side_modules(), embed)

    @torch.no_grad()
    def get_plain_class_embeds(self) -> torch.Tensor:
        """
        Normalised features of the class names without their contexts, `[SOS] [class name] [.] [EOS]`, through the plain
        text tower: shape `(num_classes, projection_dim)`.

        Raises:
            ValueError: the classes have no names.
        """
        if not self.class_prompts.have_names:
            raise ValueError("The classes have no names: call `model.set_classes(names, tokenizer)` first.")
        rows = [row[row >= 0] for row in self.class_prompts.class_input_ids]  # contexts and padding are negative
        longest = max(map(len, rows))
        # Padded by the end token, of which the text tower reads the first.
        ids = torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows])
        return nn.functional.normalize(self.get_text_features(ids, return_dict=True).pooler_output, dim=-1)

    def train(self, mode: bool = True):
        """As for every module; drops the kept text embeddings, whose weights may change now."""
        self.text_embedding_cache.clear()
        return super().train(mode)

    def _apply(self, *args, **kwargs):
        # `to()` and its kin: weights that were rounded and moved back may lie where they were.
        self.text_embedding_cache.clear()
        return super()._apply(*args, **kwargs)

    def load_state_dict(self, *args, **kwargs):
        """As for every module; drops the kept text embeddings."""
        self.text_embedding_cache.clear()
        return super().load_state_dict(*args, **kwargs)

    def set_classes(self, names: list[str], tokenizer) -> None:
        """
        Replaces the model's classes: class prompts, `config.id2label` and `config.label2id`.

        With class-specific contexts, a name that the model already has keeps its learned context. A new name starts
        from the words of `context_init`. Without them it starts from the mean of the learned contexts, or at random if
        the model's classes never had names. A shared context stays as it is.

        Call it before you make an optimizer: another number of classes needs a new parameter. Another `id2label` in
        `from_pretrained` renames the answers only, not the prompts.

        Args:
            names (`list[str]`): class names; underscores become spaces in the prompts.
            tokenizer: the model's.

        Raises:
            ValueError: no names, an empty or repeated name, or one that is too long for the text tower.
        """
        names = list(names) if not isinstance(names, str) else names
        known = {label: int(index) for index, label in self.config.id2label.items()}
        self.text_embedding_cache.clear()
        self.class_prompts.set_names(names, known, tokenizer, self.text_model.embeddings.token_embedding)
        self.config.id2label = dict(enumerate(names))
        self.config.label2id = {name: index for index, name in enumerate(names)}

    def freeze_backbone(self) -> None:
        """Freezes CLIP. The prompts, the time embedding and the logit scale stay trainable."""
        self.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, VisionPrompts):
                module.set_trainable()
            elif isinstance(module, (TimeEmbedding, ClassPrompts)):
                module.requires_grad_(True)
        self.logit_scale.requires_grad_(True)

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Trainable parameters and all of them."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)

    def print_trainable_parameters(self) -> None:
        """Prints how many parameters train, of how many."""
        trainable, total = self.get_nb_trainable_parameters()
        print(f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {trainable / total:.4%}")


class VitaClipForVideoClassification(VitaClipModel):
    """
    A closed-set classifier over `config.id2label`: scaled cosines of videos with the model's own classes.

    In evaluation without gradients the class features are computed once, and again only when a weight has changed.

    It is a [`VitaClipModel`] and does not hold one: the names of the weights are the same, so that one folder serves
    `AutoModel` and `AutoModelForVideoClassification`, and training continues from either.
    """

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        num_items_in_batch: int | torch.Tensor | None = None,
        class_embeds: torch.Tensor | None = None,
        distillation_weight: float = 0.0,
        context_penalty: float = 0.0,
        plain_class_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput:
        r"""
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalised frames, or several views of each video, see `get_video_features`.
            labels (`torch.Tensor`, *optional*):
                Class indices of shape `(batch_size,)`, or probabilities of shape `(batch_size, num_classes)`.
            interpolate_pos_encoding (`bool`, defaults to `False`): accept another size than the configuration's.
            num_items_in_batch (`int`, *optional*): entries of `labels` in the whole optimizer step (set by `Trainer`).
            class_embeds (`torch.Tensor` of shape `(num_classes, projection_dim)`, *optional*):
                Normalised class features, where they are known already.
            distillation_weight (`float`, defaults to 0):
                With `labels`: adds this many times the squared distance of the normalised video features from those of
                the frozen CLIP, mean over the videos. The teacher is this model with its prompts disabled. FROSTER
                (arXiv 2402.03241) distils from a frozen CLIP with ratio 2.
            context_penalty (`float`, defaults to 0):
                With `labels`: adds this many times the squared distance of the class features from
                `plain_class_embeds`, mean over the classes, as KgCoOp (arXiv 2303.13283) keeps learned contexts near
                hand-written prompts.
            plain_class_embeds (`torch.Tensor` of shape `(num_classes, projection_dim)`, *optional*):
                Of `get_plain_class_embeds`, where they are known already.

        Raises:
            ValueError: texts were given; this model scores its own classes.
        """
        texts = [name for name in ("input_ids", "attention_mask") if kwargs.get(name) is not None]
        if texts:
            raise ValueError(
                f"VitaClipForVideoClassification scores its own classes and takes no {' or '.join(texts)}; for other "
                "texts use VitaClipModel (AutoModel) on the same folder."
            )
        outputs = self.get_video_features(
            pixel_values_videos, interpolate_pos_encoding, class_tokens_only=True, return_dict=True, **kwargs
        )
        video_embeds = nn.functional.normalize(outputs.pooler_output, dim=-1)
        if class_embeds is None:
            class_embeds = self.get_class_embeds()
        logits = self.compare(video_embeds, class_embeds)
        loss = None if labels is None else classification_loss(logits, labels, num_items_in_batch)
        if loss is not None and labels is not None:
            # This batch's part of the optimizer step, as in `classification_loss`.
            part = 1 if num_items_in_batch is None else labels.numel() / torch.as_tensor(num_items_in_batch).to(loss)
            if distillation_weight:
                with torch.no_grad(), self.prompts_disabled():
                    teacher = self.get_video_features(
                        pixel_values_videos, interpolate_pos_encoding, class_tokens_only=True, return_dict=True
                    ).pooler_output
                loss = loss + part * distillation_weight * squared_distance(video_embeds, teacher)
            if context_penalty:
                plain = self.get_plain_class_embeds() if plain_class_embeds is None else plain_class_embeds
                loss = loss + part * context_penalty * squared_distance(class_embeds, plain).to(loss.device)
        return ImageClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def squared_distance(embeds: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of normalised vectors `(num_vectors, projection_dim)` from their targets, of any length."""
    targets = nn.functional.normalize(targets.to(embeds.device).float(), dim=-1)
    return (embeds.float() - targets).square().sum(-1).mean()


def classification_loss(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None = None
) -> torch.Tensor:
    """
    Cross-entropy over the classes.

    Args:
        logits (`torch.Tensor` of shape `(batch_size, num_classes)`): scaled cosines.
        labels (`torch.Tensor`): class indices of shape `(batch_size,)`, or probabilities of the shape of `logits`.
        num_items_in_batch (`int`, *optional*): entries of `labels` in the optimizer step; by default of this batch.

    Raises:
        ValueError: labels of another shape or kind.
    """
    soft = labels.is_floating_point()
    expected = logits.shape if soft else logits.shape[:1]
    if labels.shape != expected:
        raise ValueError(
            f"`labels` must be class indices of shape {[len(logits)]} or probabilities of shape {list(logits.shape)}, "
            f"got {labels.dtype} of shape {list(labels.shape)}."
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = labels.to(logits.device, logits.dtype if soft else torch.long)
    if num_items_in_batch is None:
        return nn.functional.cross_entropy(logits, labels)
    total = nn.functional.cross_entropy(logits, labels, reduction="sum")
    # Probabilities have C entries for each video.
    return total * (logits.shape[1] if soft else 1) / torch.as_tensor(num_items_in_batch, device=total.device)


__all__ = [
    "VitaClipForVideoClassification",
    "VitaClipModel",
    "VitaClipOutput",
    "VitaClipPreTrainedModel",
    "VitaClipVisionModel",
]
