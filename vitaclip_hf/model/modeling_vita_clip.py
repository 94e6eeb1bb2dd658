"""Vita-CLIP: CLIP whose frozen towers take learned prompts (CVPR 2023, arXiv 2304.03307).

Shapes: B videos, T frames, N patches of a frame, D vision width, D_t text width, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import (
    CLIPAttention,
    CLIPEncoderLayer,
    CLIPPreTrainedModel,
    CLIPTextModel,
    CLIPVisionEmbeddings,
    eager_attention_forward,
)
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_vita_clip import VitaClipConfig, VitaClipVisionConfig
from .prompts import ClassPrompts, TimeEmbedding, VisionPrompts, nearest_frames
from .text_embedding_cache import TextEmbeddingCache


RECORDED = ("output_hidden_states", "output_attentions")
NO_CLASSES = "Without prompts there are no learned classes: pass texts (`input_ids`) or their `class_embeds`."


@dataclass
class VitaClipOutput(ModelOutput):
    """
    Output of [`VitaClipModel`]: the cross-entropy if `labels` are given; scaled cosines `(batch_size, num_texts)` and
    transposed; normalised features `(batch_size, projection_dim)` and `(num_texts, projection_dim)`; and both towers'.
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


@dataclass
class VitaClipClassifierOutput(ImageClassifierOutput):
    """Output of [`VitaClipForVideoClassification`]: that of every classifier, and the normalised video features."""

    video_embeds: torch.Tensor | None = None


def _quick_gelu(values: torch.Tensor) -> torch.Tensor:
    return (1.702 * values).sigmoid_().mul_(values)


class _QuickGELUFunction(torch.autograd.Function):
    """Keeps its input alone for the backward pass, where autograd would keep the sigmoid too."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(values)
        return _quick_gelu(values)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        (values,) = ctx.saved_tensors
        # x * sigmoid(a x) is silu(a x) / a, so that its derivative is silu's at a x, which torch has as one kernel.
        scaled = 1.702 * values
        return torch.ops.aten.silu_backward(gradient, scaled)


class QuickGELU(nn.Module):
    """transformers' `quick_gelu` to the bit, within one buffer: fresh memory costs a CPU more than the arithmetic."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and hidden_states.requires_grad:
            return _QuickGELUFunction.apply(hidden_states)
        return _quick_gelu(hidden_states)


class VitaClipVisionAttention(CLIPAttention):
    """CLIP's self-attention within each frame. Prompts are keys and values only; no queries are computed for them."""

    def forward(
        self, hidden_states: torch.Tensor, num_queries: int, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`[B, T, S, D]` to `[B, T, num_queries, D]`; if eager, the weights `[B * T, heads, num_queries, S]` too."""
        batch, frames, _, width = hidden_states.shape

        def heads(tokens: torch.Tensor) -> torch.Tensor:
            return tokens.reshape(batch * frames, -1, self.num_heads, self.head_dim).transpose(1, 2)

        implementation = self.config._attn_implementation
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        # As rows: torch's product of a part of a tensor with four axes would add the bias in a second kernel, and
        # quantized products take three axes at most.
        query = heads(self.q_proj(hidden_states[:, :, :num_queries].flatten(0, 2)))
        key, value = (heads(project(hidden_states.flatten(0, 1))) for project in (self.k_proj, self.v_proj))
        mask = None
        if implementation == "sdpa" and key.dtype == torch.bfloat16 and key.is_cpu and num_queries < key.shape[2]:
            # torch takes up to twice as long there for some numbers of keys, none of which is a multiple of four.
            missing = -key.shape[2] % 4
            key, value = (nn.functional.pad(part, (0, 0, 0, missing)) for part in (key, value))
            mask = key.new_full((1, 1, 1, key.shape[2]), float("-inf")).triu(key.shape[2] - missing)
        dropout = self.dropout if self.training else 0.0
        attended, weights = attention(self, query, key, value, mask, scaling=self.scale, dropout=dropout, **kwargs)
        return self.out_proj(attended.reshape(batch * frames, -1, width)).unflatten(0, (batch, frames)), weights


class VitaClipVisionLayer(CLIPEncoderLayer):
    """CLIP's layer on the tokens of each frame, with the layer's own prompts."""

    def __init__(self, config: VitaClipVisionConfig):
        super().__init__(config)
        if config.hidden_act == "quick_gelu":
            self.mlp.activation_fn = QuickGELU()
        self.self_attn = VitaClipVisionAttention(config)
        self.prompts = VisionPrompts(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        num_queries: int,
        nearest: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """`[B, T, 1+N, D]` in, `[B, T, num_queries, D]` out; prompts if there is `nearest`, see [`nearest_frames`]."""
        tokens = hidden_states if nearest is None else self.prompts(hidden_states, nearest)
        attended, _ = self.self_attn(self.layer_norm1(tokens), num_queries, **kwargs)
        hidden_states = hidden_states[:, :, :num_queries] + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states).flatten(0, 1)).view_as(hidden_states)


class VitaClipVisionEncoder(nn.Module):
    """CLIP's encoder. The last layer can be computed for the class tokens only."""

    def __init__(self, config: VitaClipVisionConfig):
        super().__init__()
        self.layers = nn.ModuleList([VitaClipVisionLayer(config) for _ in range(config.num_hidden_layers)])

    def forward(
        self, hidden_states: torch.Tensor, num_queries: int, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        for layer in self.layers[:-1]:
            hidden_states = layer(hidden_states, hidden_states.shape[2], **kwargs)
        return self.layers[-1](hidden_states, num_queries, **kwargs)


class VitaClipPreTrainedModel(CLIPPreTrainedModel):
    """Weights, loading and saving, as for every transformers model."""

    config: VitaClipConfig
    config_class = VitaClipConfig
    base_model_prefix = "vita_clip"
    main_input_name = "pixel_values_videos"
    input_modalities: tuple[str, ...] = ("video", "text")
    _no_split_modules = ["CLIPEncoderLayer", "CLIPVisionEmbeddings", "VitaClipVisionLayer"]
    # The summary prompts attend too; only the frames' own attention is reported.
    _can_record_outputs = {
        "hidden_states": CLIPEncoderLayer,
        "attentions": OutputRecorder(CLIPAttention, index=1, layer_name="self_attn"),
    }

    @classmethod
    def is_custom_code(cls) -> bool:
        """`False`, or modules without parameters of their own (`CLIPAttention`) would lose CLIP's initialisation."""
        return False

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
            for projection in (module.text_projection, module.visual_projection):
                init.normal_(projection.weight, std=projection.in_features**-0.5 * self.config.initializer_factor)


class VitaClipVisionModel(VitaClipPreTrainedModel):
    """The video tower without the projection to the joint space."""

    config: VitaClipVisionConfig
    config_class = VitaClipVisionConfig
    base_model_prefix = "vision_model"  # loads from a whole model's folder, of which it leaves the rest
    input_modalities = ("video",)
    _input_embed_layer = "patch_embedding"
    _no_split_modules = ["CLIPVisionEmbeddings", "VitaClipVisionLayer"]

    def __init__(self, config: VitaClipVisionConfig):
        super().__init__(config)
        self.embeddings = CLIPVisionEmbeddings(config)
        self.time_embedding = TimeEmbedding(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = VitaClipVisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        interpolate_pos_encoding: bool = False,
        class_tokens_only: bool = False,
        use_prompts: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalised frames, any number of them.
            interpolate_pos_encoding (`bool`, defaults to `False`): accept another size than the configuration's.
            class_tokens_only (`bool`, defaults to `False`): compute the last layer for the class tokens only;
                `last_hidden_state` is then `None`. Without effect if hidden states or attentions are asked for.
            use_prompts (`bool`, defaults to `True`): `False` for frozen CLIP: each frame's features are CLIP's own.

        Returns:
            `pooler_output` `(batch_size, num_frames, hidden_size)`: each frame's class token after the final LayerNorm;
            and `last_hidden_state` `(batch_size, num_frames, sequence_length, hidden_size)`.
        """
        shape = tuple(pixel_values_videos.shape)
        if len(shape) != 5 or 0 in shape:
            axes = "(batch_size, num_frames, num_channels, height, width)"
            raise ValueError(f"`pixel_values_videos` must have the shape {axes}, got {shape}.")
        # Without prompts this is CLIP. It is computed as CLIP computes it, so that the result is bit-identical.
        recorded = any(kwargs.get(name, getattr(self.config, name, False)) for name in RECORDED)
        all_tokens = recorded or not (class_tokens_only and use_prompts)
        frames = self.embeddings(pixel_values_videos.flatten(0, 1), interpolate_pos_encoding=interpolate_pos_encoding)
        hidden_states = frames.unflatten(0, pixel_values_videos.shape[:2])
        nearest = None
        if use_prompts:
            nearest = nearest_frames(self.config.num_frames, shape[1], hidden_states.device)
            hidden_states = self.time_embedding(hidden_states, nearest)
        hidden_states = self.pre_layrnorm(hidden_states)
        num_queries = hidden_states.shape[2] if all_tokens else 1
        hidden_states = self.encoder(hidden_states, num_queries, nearest=nearest, **kwargs)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_states if all_tokens else None,
            pooler_output=self.post_layernorm(hidden_states[:, :, 0]),
        )


class VitaClipModel(VitaClipPreTrainedModel):
    """
    Vita-CLIP: CLIP with learned video prompts and class-specific learned text contexts.

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
    logit_scale: nn.Parameter
    # The loss is a mean over the batch unless `num_items_in_batch` is given, which the forward uses.
    accepts_loss_kwargs = True

    def __init__(self, config: VitaClipConfig):
        super().__init__(config)
        self.text_model = CLIPTextModel._from_config(config.text_config)
        self.vision_model = VitaClipVisionModel._from_config(config.vision_config)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.class_prompts = ClassPrompts(config.text_config, config.num_labels)
        if config.text_config.hidden_act == "quick_gelu":
            for layer in self.text_model.encoder.layers:
                layer.mlp.activation_fn = QuickGELU()
        self.post_init()
        # The text tower adds its embeddings, of which the classes use a part.
        self._no_split_modules = [name for name in self._no_split_modules or () if name != "CLIPTextEmbeddings"]

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    @can_return_tuple
    def get_video_features(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        """
        Features of videos, `(batch_size, projection_dim)`: the mean over the frames of their projected class tokens,
        before normalising. Arguments as for [`VitaClipVisionModel`].
        """
        outputs = self.vision_model(pixel_values_videos, return_dict=True, **kwargs)
        outputs.pooler_output = self.visual_projection(outputs.pooler_output).mean(1)
        return outputs

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """Features of normalised images `(batch_size, num_channels, height, width)`, each as a video of one frame."""
        return self.get_video_features(pixel_values.unsqueeze(1), **kwargs)

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Features of texts through CLIP's plain text tower, `(batch_size, projection_dim)`, before normalising."""
        outputs = self.text_model(input_ids, attention_mask, position_ids, return_dict=True, **kwargs)
        pooled, text = outputs.pooler_output, self.config.text_config
        if text.pool_first_eos:  # MetaCLIP 2, whose end token is the 2 that CLIP takes for a mistake
            states = outputs.last_hidden_state
            first = (input_ids.to(states.device) == text.eos_token_id).int().argmax(-1)
            pooled = states[torch.arange(len(states), device=states.device), first]
        outputs.pooler_output = self.text_projection(pooled)
        return outputs

    @can_return_tuple
    def get_class_features(self, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        """
        Features of the model's own classes, `config.id2label`, through their learned contexts:
        `(num_classes, projection_dim)`, before normalising. Hidden states and attentions are not recorded.
        """
        text = self.text_model
        # A function, not the module: accelerate's hooks move modules among the arguments, and would move its weights.
        tokens, ends = self.class_prompts(lambda ids: text.embeddings.token_embedding(ids))
        hidden_states = text.embeddings(inputs_embeds=tokens)
        mask = create_causal_mask(text.config, hidden_states, None, None)  # the cache's name differs between versions
        hidden_states = text.encoder(hidden_states, mask, is_causal=True, **kwargs).last_hidden_state
        hidden_states = text.final_layer_norm(hidden_states)
        classes = torch.arange(len(ends), device=hidden_states.device)
        pooled = hidden_states[classes, ends.to(hidden_states.device)]
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=self.text_projection(pooled))

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        class_tokens_only: bool = True,
        use_prompts: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VitaClipOutput:
        r"""
        Args:
            pixel_values_videos, class_tokens_only, kwargs: as for [`VitaClipVisionModel`].
            input_ids, attention_mask (`torch.Tensor` of shape `(num_texts, sequence_length)`, *optional*):
                Texts to compare with, through CLIP's plain text tower. Without them, the model's own classes through
                their learned contexts.
            labels, num_items_in_batch (*optional*): which text each video shows, see [`classification_loss`].
            use_prompts (`bool`, defaults to `True`):
                `False` for frozen CLIP; needs `input_ids`. `logit_scale` stays the trained one.
        """
        if input_ids is None and not use_prompts:
            raise ValueError(NO_CLASSES)
        switches = {"class_tokens_only": class_tokens_only, "use_prompts": use_prompts, "return_dict": True}
        video_outputs = self.get_video_features(pixel_values_videos, **switches, **kwargs)
        if input_ids is None:
            text_outputs = self.get_class_features(return_dict=True)
        else:
            recorded = {name: kwargs[name] for name in RECORDED if name in kwargs}
            text_outputs = self.get_text_features(input_ids, attention_mask, return_dict=True, **recorded)
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
        """Scaled cosines `(batch_size, num_texts)` of normalised embeddings."""
        text_embeds = text_embeds.to(video_embeds.device, video_embeds.dtype)
        return video_embeds @ text_embeds.T * self.logit_scale.exp().to(video_embeds.device)

    def get_class_embeds(self) -> torch.Tensor:
        """Normalised class features of shape `(num_classes, projection_dim)`."""
        return nn.functional.normalize(self.get_class_features(return_dict=True).pooler_output, dim=-1)

    def set_classes(
        self, names: list[str], class_input_ids: torch.Tensor, context_init_ids: torch.Tensor | None = None
    ) -> None:
        """
        Replaces the model's classes: class prompts, `config.id2label` and `config.label2id`.

        A class-specific context stays with its name. A new name starts from the words of `context_init`, or else from
        the mean of the learned contexts, or at random if the classes never had names. A shared context stays. Call it
        before you make an optimizer: another number of classes needs a new parameter. `class_input_ids` and
        `context_init_ids` are of the processor's `tokenize_classes(names, config.text_config)`.
        """
        known = {label: int(index) for index, label in self.config.id2label.items()}
        embedding: Any = self.get_input_embeddings()
        ids = context_init_ids
        words = None if ids is None else embedding(ids.to(embedding.weight.device)).detach()
        self.class_prompts.set_names(names, known, class_input_ids, words)
        self.config.id2label = dict(enumerate(names))
        self.config.label2id = {name: index for index, name in enumerate(names)}

    def freeze_backbone(self) -> None:
        """Freezes CLIP. The prompts, the time embedding and the logit scale stay trainable."""
        self.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, (VisionPrompts, TimeEmbedding, ClassPrompts)):
                module.requires_grad_(True)
            if isinstance(module, VisionPrompts) and module.cls_projection is not None:
                module.cls_projection.requires_grad_(module.train_cls_projection)
        if not self.config.text_config.num_context_tokens:
            self.class_prompts.requires_grad_(False)  # empty: DistributedDataParallel would wait for its gradient
        self.logit_scale.requires_grad_(True)


class VitaClipForVideoClassification(VitaClipModel):
    """
    A closed-set classifier over `config.id2label`: scaled cosines of videos with the model's own classes.

    In evaluation without gradients the class features are computed once, and again only when a weight has changed. It
    is a [`VitaClipModel`] and does not hold one: one folder serves `AutoModel` and `AutoModelForVideoClassification`.
    """

    def __init__(self, config: VitaClipConfig):
        super().__init__(config)
        self.text_embedding_cache = TextEmbeddingCache()

    def get_class_embeds(self) -> torch.Tensor:
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().get_class_embeds()
        modules = (self.text_model, self.text_projection, self.class_prompts)
        return self.text_embedding_cache.get("classes", modules, super().get_class_embeds)

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        class_embeds: torch.Tensor | None = None,
        use_prompts: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VitaClipClassifierOutput:
        r"""
        Args:
            pixel_values_videos, kwargs: as for [`VitaClipVisionModel`].
            labels, num_items_in_batch (*optional*): see [`classification_loss`].
            class_embeds (`torch.Tensor` of shape `(num_classes, projection_dim)`, *optional*): normalised features, if
                they are known already.
            use_prompts (`bool`, defaults to `True`): `False` for frozen CLIP; needs `class_embeds`.
        """
        if kwargs.get("input_ids") is not None:
            raise ValueError("The classifier scores its own classes; for `input_ids` load the folder with AutoModel.")
        if class_embeds is None and not use_prompts:
            raise ValueError(NO_CLASSES)
        switches = {"class_tokens_only": True} | kwargs | {"use_prompts": use_prompts, "return_dict": True}
        outputs = self.get_video_features(pixel_values_videos, **switches)
        video_embeds = nn.functional.normalize(outputs.pooler_output, dim=-1)
        if class_embeds is None:
            # Of the class: training wraps the instance's for calls from outside of `forward`.
            class_embeds = type(self).get_class_embeds(self)
        logits = self.compare(video_embeds, class_embeds)
        return VitaClipClassifierOutput(
            loss=None if labels is None else classification_loss(logits, labels, num_items_in_batch),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            video_embeds=video_embeds,
        )


def classification_loss(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None = None
) -> torch.Tensor:
    """
    Cross-entropy over the classes, of logits `(batch_size, num_classes)`.

    `labels` are class indices `(batch_size,)`, or probabilities of the shape of the logits. With `num_items_in_batch`,
    the number of their entries in the whole optimizer step, the loss is this batch's sum divided by that number.
    """
    soft = labels.is_floating_point()
    if labels.shape != (logits.shape if soft else logits.shape[:1]):
        shapes = f"class indices of shape {[len(logits)]} or probabilities of shape {list(logits.shape)}"
        raise ValueError(f"`labels` must be {shapes}, got {labels.dtype} of shape {list(labels.shape)}.")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = labels.to(logits.device, logits.dtype if soft else torch.long)
    if num_items_in_batch is None:
        return nn.functional.cross_entropy(logits, labels)
    total = nn.functional.cross_entropy(logits, labels, reduction="sum")
    # Probabilities have C entries for each video.
    return total * (logits.shape[1] if soft else 1) / torch.as_tensor(num_items_in_batch, device=total.device)


__all__ = ["VitaClipForVideoClassification", "VitaClipModel", "VitaClipPreTrainedModel", "VitaClipVisionModel"]
