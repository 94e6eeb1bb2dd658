"""Vita-CLIP as the authors' released code computes it, written anew from the method, to compare speed with."""

import torch
from torch import nn

from vitaclip_hf import VitaClipModel
from vitaclip_hf.model.prompts import AFTER_END


def without_levels(name: str, levels: frozenset[str]) -> str:
    return ".".join(level for level in name.split(".") if level not in levels)


def quick_gelu(tokens: torch.Tensor) -> torch.Tensor:
    return tokens * torch.sigmoid(1.702 * tokens)


class EagerAttention(nn.Module):
    """Self-attention as matmul, softmax, matmul, with all weights in memory.

    The released code keeps the heads as the last dimension of the weights, `[S, queries, keys, heads]`, so that its
    softmax runs over strided memory. `heads_last = False` is the usual `[S, heads, queries, keys]`, and must be set
    for `causal` attention.
    """

    heads_last = True

    def __init__(self, width: int, heads: int, causal: bool = False):
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.scale = (width // heads) ** -0.5
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[S, tokens, D]` in and out, for S sequences."""

        projections = (self.q_proj, self.k_proj, self.v_proj)
        queries, keys, values = (project(tokens).unflatten(-1, (self.heads, -1)) for project in projections)
        # Scaling the queries and not the larger scores: the cheaper way, and the released code's.
        scores = "sihd,sjhd->sijh" if self.heads_last else "sihd,sjhd->shij"
        weights = torch.einsum(scores, queries * self.scale, keys)
        if self.causal:
            later = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).triu(1)
            weights = weights.masked_fill_(later, float("-inf"))
        weights = weights.softmax(2 if self.heads_last else 3)
        attended = torch.einsum(f"{scores[-4:]},sjhd->sihd", weights, values)
        return self.out_proj(attended.flatten(2))


class ReleasedLayer(nn.Module):
    """A CLIP layer whose prompts go through self-attention like any other token, and are then thrown away."""

    def __init__(self, width: int, inner_width: int, heads: int, num_frames: int, num_global_prompts: int, eps: float):
        super().__init__()
        self.cls_projection = nn.Linear(width, width)
        self.summary_norm = nn.LayerNorm(width, eps=eps)
        self.summary_attention = EagerAttention(width, heads)
        self.local_prompts = nn.Parameter(torch.zeros(num_frames, width))
        self.global_prompts = nn.Parameter(torch.zeros(num_global_prompts, width))
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.self_attn = EagerAttention(width, heads)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.fc1 = nn.Linear(width, inner_width)
        self.fc2 = nn.Linear(inner_width, width)

    def prompts(self, cls_tokens: torch.Tensor) -> torch.Tensor:
        """Class tokens `[B, T, D]` to each frame's 1 summary, T local and M_v global prompts, `[B, T, 1+T+M_v, D]`."""
        frames = cls_tokens.shape[1]
        projected = self.cls_projection(cls_tokens)
        summary = projected + self.summary_attention(self.summary_norm(projected))
        local = (self.local_prompts + projected)[:, None].expand(-1, frames, -1, -1)
        shared = self.global_prompts.expand(len(cls_tokens), frames, -1, -1)
        return torch.cat([summary[:, :, None], local, shared], dim=2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[B, T, 1+N, D]` in and out."""
        batch, _, count, _ = tokens.shape
        sequence = torch.cat([tokens, self.prompts(tokens[:, :, 0])], dim=2).flatten(0, 1)
        sequence = sequence + self.self_attn(self.layer_norm1(sequence))
        tokens = sequence.unflatten(0, (batch, -1))[:, :, :count]
        return tokens + self.fc2(quick_gelu(self.fc1(self.layer_norm2(tokens))))


class ReleasedArithmetic(nn.Module):
    """Vita-CLIP's video tower as the authors' released code computes it, written anew from the method (section 3.1).

    Every prompt has its queries, output projection and residual computed, attention is eager, and the last layer is
    computed for all tokens. It takes the weights of `model`, which must have all three kinds of prompts.

    Args:
        model: gives the sizes and the weights.
        heads_last: the attention's memory layout, see `EagerAttention`.
    """

    # Of the names in our model, the levels that this flat module has not.
    LEVELS_LEFT_OUT = frozenset({"vision_model", "embeddings", "encoder", "mlp", "prompts"})

    def __init__(self, model: VitaClipModel, heads_last: bool = True):
        super().__init__()
        config = model.config.vision_config
        width, eps, patch = config.hidden_size, config.layer_norm_eps, config.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding((config.image_size // patch) ** 2 + 1, width)
        self.time_embedding = nn.Embedding(config.num_frames, width)
        self.pre_layrnorm = nn.LayerNorm(width, eps=eps)  # CLIP's spelling in transformers
        sizes = (config.intermediate_size, config.num_attention_heads, config.num_frames, config.num_global_prompts)
        self.layers = nn.ModuleList([ReleasedLayer(width, *sizes, eps) for _ in range(config.num_hidden_layers)])
        self.post_layernorm = nn.LayerNorm(width, eps=eps)
        self.visual_projection = nn.Linear(width, model.config.projection_dim, bias=False)
        self.load_state_dict(self.own_names(model))
        for module in self.modules():
            if isinstance(module, EagerAttention):
                module.heads_last = heads_last

    @classmethod
    def own_names(cls, model: VitaClipModel) -> dict[str, torch.Tensor]:
        """The weights of the model's video side under this module's names."""
        video_side = {
            name: tensor
            for name, tensor in model.state_dict().items()
            if name.startswith(("vision_model.", "visual_projection."))
        }
        return {without_levels(name, cls.LEVELS_LEFT_OUT): tensor for name, tensor in video_side.items()}

    def forward(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Frames `[B, T, 3, H, W]` to features `[B, E]`; T must be the trained number of frames."""
        batch = len(pixel_values_videos)
        patches = self.patch_embedding(pixel_values_videos.flatten(0, 1)).flatten(2).transpose(1, 2)
        cls_tokens = self.class_embedding.expand(len(patches), 1, -1)
        frames = torch.cat([cls_tokens, patches], dim=1) + self.position_embedding.weight
        tokens = self.pre_layrnorm(frames.unflatten(0, (batch, -1)) + self.time_embedding.weight[:, None])
        for layer in self.layers:
            tokens = layer(tokens)
        return self.visual_projection(self.post_layernorm(tokens[:, :, 0])).mean(1)


class ReleasedTextLayer(nn.Module):
    """A layer of CLIP's text tower, with eager causal attention."""

    def __init__(self, width: int, inner_width: int, heads: int, eps: float):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.self_attn = EagerAttention(width, heads, causal=True)
        self.self_attn.heads_last = False
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.fc1 = nn.Linear(width, inner_width)
        self.fc2 = nn.Linear(inner_width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[C, L, D_t]` in and out."""
        tokens = tokens + self.self_attn(self.layer_norm1(tokens))
        return tokens + self.fc2(quick_gelu(self.fc1(self.layer_norm2(tokens))))


class ReleasedTextTower(nn.Module):
    """The class prompts through CLIP's text tower at all its positions, whatever the length of the names.

    Args:
        model: gives the sizes, the weights and the class prompts, whose context must be class-specific and before the
            name.
    """

    LEVELS_LEFT_OUT = frozenset({"text_model", "embeddings", "encoder", "mlp", "class_prompts"})

    def __init__(self, model: VitaClipModel):
        super().__init__()
        config = model.config.text_config
        width, eps = config.hidden_size, config.layer_norm_eps
        ids = model.class_prompts.class_input_ids
        self.class_input_ids = nn.Buffer(ids.clone())
        self.context = nn.Parameter(torch.zeros(len(ids), config.num_context_tokens, width))
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, width)
        sizes = (config.intermediate_size, config.num_attention_heads, eps)
        self.layers = nn.ModuleList([ReleasedTextLayer(width, *sizes) for _ in range(config.num_hidden_layers)])
        self.final_layer_norm = nn.LayerNorm(width, eps=eps)
        self.text_projection = nn.Linear(width, model.config.projection_dim, bias=False)
        sides = ("text_model.", "text_projection.", "class_prompts.")
        tensors = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(sides)}
        self.load_state_dict({without_levels(name, self.LEVELS_LEFT_OUT): t for name, t in tensors.items()})

    def forward(self) -> torch.Tensor:
        """Features of the classes, `[C, E]`."""
        ids, slots = self.class_input_ids, self.context.shape[1]
        words = self.token_embedding(ids.clamp(min=0))
        tokens = torch.cat([words[:, :1], self.context, words[:, 1 + slots :]], dim=1)
        tokens = tokens + self.position_embedding.weight
        for layer in self.layers:
            tokens = layer(tokens)
        ends = (ids != AFTER_END).sum(-1) - 1
        return self.text_projection(self.final_layer_norm(tokens)[torch.arange(len(ids), device=ids.device), ends])


class ReleasedVitaClip(nn.Module):
    """Both towers; the prompts of `model`, and nothing else, can be trained as they can there."""

    def __init__(self, model: VitaClipModel):
        super().__init__()
        self.video = ReleasedArithmetic(model)
        self.text = ReleasedTextTower(model)
        self.logit_scale = nn.Parameter(model.logit_scale.detach().clone())
        for name, parameter in model.named_parameters():
            self.get_parameter(self.own_name(name)).requires_grad_(parameter.requires_grad)

    @staticmethod
    def own_name(name: str) -> str:
        """Of a parameter of our model."""
        if name == "logit_scale":
            return name
        side, tower = ("video", ReleasedArithmetic) if name.startswith("vis") else ("text", ReleasedTextTower)
        return f"{side}.{without_levels(name, tower.LEVELS_LEFT_OUT)}"

    def forward(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Frames `[B, T, 3, H, W]` to logits `[B, C]`."""
        videos = nn.functional.normalize(self.video(pixel_values_videos), dim=-1)
        classes = nn.functional.normalize(self.text(), dim=-1)
        return self.logit_scale.exp() * videos @ classes.T
