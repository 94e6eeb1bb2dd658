"""The systems that `miniature.py` compares: each the same tiny CLIP, made to see video in its own way.

A system is a module whose forward takes videos and one of two label sets, "trained" (300 scenes) or "held_out" (60),
and returns logits `[B, C]`. Systems whose image tower stays frozen take its frame features `[B, T, D]` instead of
pixels `[B, T, 3, S, S]` (`on_features`), so that the tower runs only once for each clip.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedModel,
    XCLIPConfig,
    XCLIPModel,
)
from transformers.models.clip.modeling_clip import CLIPEncoder

from vitaclip_hf import VitaClipModel
from vitaclip_hf.data.motion_shapes import all_scenes
from vitaclip_hf.model.prompts import VisionPrompts


NUM_FRAMES = 8
# The tiny CLIP's own, before the demo trained it along with the prompts.
CLIP_LOGIT_SCALE = 4.090639114379883
NO_PROMPTS = {"use_summary_prompt": False, "use_local_prompts": False, "num_global_prompts": 0}
# X-CLIP's training gives its new parts ten times the learning rate of the pretrained ones.
XCLIP_NEW_PARTS, XCLIP_NEW_FACTOR = ("message_", "mit.", "prompts_"), 10


def extract_clip(checkpoint: Path, folder: Path) -> Path:
    """Saves the frozen CLIP inside a Vita-CLIP checkpoint, with its tokenizer, as a stock CLIP folder."""
    vita = VitaClipModel.from_pretrained(checkpoint)
    parts = {}
    for name, stock in (("text_config", CLIPTextConfig()), ("vision_config", CLIPVisionConfig())):
        ours = getattr(vita.config, name).to_dict()
        parts[name] = {key: ours[key] for key in stock.to_dict() if key in ours and key != "model_type"}
    clip = CLIPModel(CLIPConfig(projection_dim=vita.config.projection_dim, **parts))
    weights = vita.state_dict()
    clip.load_state_dict({name: weights[name] for name in clip.state_dict()})
    clip.logit_scale.data.fill_(CLIP_LOGIT_SCALE)
    clip.save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    return folder


@dataclass
class World:
    """What every system starts from: the folder of the tiny CLIP, and the two label sets as words."""

    clip: Path
    device: str = "cpu"
    names: dict[str, list[str]] = field(
        default_factory=lambda: {
            "trained": [scene.label for scene in all_scenes(held_out=False)],
            "held_out": [scene.label for scene in all_scenes(held_out=True)],
        }
    )

    def __post_init__(self):
        self.tokenizer = AutoTokenizer.from_pretrained(self.clip)

    def texts(self, split: str) -> dict[str, torch.Tensor]:
        """The plain class names, tokenized."""
        return dict(self.tokenizer(self.names[split], padding=True, return_tensors="pt").to(self.device))

    @torch.no_grad()
    def text_embeds(self, split: str) -> torch.Tensor:
        """The plain class names through the frozen text tower: `[C, E]`."""
        clip = CLIPModel.from_pretrained(self.clip).to(self.device)
        return clip.get_text_features(**self.texts(split)).pooler_output


def compare(videos: torch.Tensor, classes: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Scaled cosines `[B, C]` of `[B, E]` with `[C, E]` or with classes of each video's own, `[B, C, E]`."""
    with torch.autocast(videos.device.type, enabled=False):  # bfloat16 cannot tell cosines apart that are 0.4% apart
        videos, classes = (nn.functional.normalize(embeds.float(), dim=-1) for embeds in (videos, classes))
        cosines = (classes @ videos[..., None]).squeeze(-1) if classes.ndim == 3 else videos @ classes.T
        return logit_scale.exp() * cosines


class VitaClip(nn.Module):
    """Vita-CLIP with some of its prompts. Without text contexts, the classes are their plain names."""

    on_features = False

    def __init__(self, world: World, *, contexts: bool, summary_init: str = "clip", **vision):
        super().__init__()
        self.model = VitaClipModel.from_pretrained(
            world.clip,
            vision_config=NO_PROMPTS | {"num_frames": NUM_FRAMES} | vision,
            text_config={"num_context_tokens": 4, "context_init": "a video of a"},
        )
        for module in self.model.modules():
            if isinstance(module, VisionPrompts) and module.summary_attention is not None:
                initialize_attention(module.summary_attention, summary_init)
        self.model.set_classes(world.names["trained"], world.tokenizer)
        self.model.freeze_backbone()
        self.model.class_prompts.requires_grad_(contexts)
        self.contexts = contexts
        self.plain = {split: world.text_embeds(split) for split in world.names}

    def forward(self, clips: torch.Tensor, split: str) -> torch.Tensor:
        learned = self.contexts and split == "trained"
        classes = self.model.get_class_embeds() if learned else self.plain[split]
        return compare(self.model.get_video_features(clips).pooler_output, classes, self.model.logit_scale)


@torch.no_grad()
def initialize_attention(attention: nn.Module, name: str) -> None:
    """Weights as CLIP's own attention starts (`"clip"`), or as the released code's does (`"xavier"`); zero biases."""
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        linear = getattr(attention, part)
        nn.init.zeros_(linear.bias)
        if name == "xavier":
            # torch's MultiheadAttention draws query, key and value as one matrix [3 D, D]; the released code does not.
            nn.init.xavier_uniform_(linear.weight)
        else:
            layers = 1 if part == "out_proj" else 2 * attention.config.num_hidden_layers
            nn.init.normal_(linear.weight, std=(linear.in_features * layers) ** -0.5)


class OnFrozenFrames(nn.Module):
    """Frozen CLIP's frame features, a temporal module or none, the mean over frames, and classes as text.

    Contexts: `None` for plain names, `"own"` for one learned context a class (its held-out classes are plain names),
    `"shared"` for one context that serves new names too.
    """

    on_features = True

    def __init__(self, world: World, *, contexts: str | None = None, temporal: Callable = lambda width: None):
        super().__init__()
        text = {"num_context_tokens": 4, "context_init": "a video of a"}
        if contexts == "shared":  # A5's is random and stands on both sides of the name
            text = {"num_context_tokens": 8, "context_position": "middle", "class_specific_context": False}
        self.model = VitaClipModel.from_pretrained(world.clip, vision_config=NO_PROMPTS, text_config=text)
        self.world, self.contexts, self.split = world, contexts, None
        self.name_classes("trained")
        self.model.requires_grad_(False)
        self.model.class_prompts.requires_grad_(contexts is not None)
        self.model.logit_scale.requires_grad_(True)
        self.temporal = temporal(self.model.config.projection_dim)
        self.plain = {split: world.text_embeds(split) for split in world.names}

    def name_classes(self, split: str) -> None:
        if split != self.split:
            self.model.set_classes(self.world.names[split], self.world.tokenizer)
            self.split = split

    def classes(self, split: str) -> torch.Tensor:
        if self.contexts is None or (self.contexts == "own" and split == "held_out"):
            return self.plain[split]
        self.name_classes(split)
        return self.model.get_class_embeds()

    def forward(self, features: torch.Tensor, split: str) -> torch.Tensor:
        frames = self.model.visual_projection(features)
        if self.temporal is not None:
            frames = self.temporal(frames)
        return compare(frames.mean(1), self.classes(split), self.model.logit_scale)


class TemporalTransformer(nn.Module):
    """Two of CLIP's layers over the frame features `[B, T, E]`, with positions."""

    def __init__(self, width: int):
        super().__init__()
        self.position = nn.Parameter(torch.randn(NUM_FRAMES, width) * 0.02)
        size = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 4}
        self.encoder = CLIPEncoder(CLIPVisionConfig(num_hidden_layers=2, attn_implementation="eager", **size))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.encoder(inputs_embeds=frames + self.position).last_hidden_state


class LinearProbe(nn.Module):
    """A linear layer on the mean of the frozen frame features; it knows the trained classes only."""

    on_features = True

    def __init__(self, world: World):
        super().__init__()
        width = CLIPModel.from_pretrained(world.clip).config.vision_config.hidden_size
        self.linear = nn.Linear(width, len(world.names["trained"])).to(world.device)

    def forward(self, features: torch.Tensor, split: str) -> torch.Tensor | None:
        return self.linear(features.mean(1)) if split == "trained" else None


class ActionClip(nn.Module):
    """CLIP fine-tuned whole, frame features averaged (ActionCLIP, arXiv 2109.08472)."""

    on_features = False

    def __init__(self, world: World):
        super().__init__()
        self.clip = CLIPModel.from_pretrained(world.clip)
        self.texts = {split: world.texts(split) for split in world.names}

    def forward(self, clips: torch.Tensor, split: str) -> torch.Tensor:
        frames = self.clip.get_image_features(clips.flatten(0, 1)).pooler_output.unflatten(0, clips.shape[:2])
        classes = self.clip.get_text_features(**self.texts[split]).pooler_output
        return compare(frames.mean(1), classes, self.clip.logit_scale)


class XClip(nn.Module):
    """transformers' X-CLIP (arXiv 2208.02816) started from the tiny CLIP and fine-tuned whole."""

    on_features = False

    def __init__(self, world: World):
        super().__init__()
        clip = CLIPConfig.from_pretrained(world.clip)
        width, text = clip.projection_dim, clip.text_config.to_dict()
        mit = {"mit_hidden_size": width, "mit_intermediate_size": 4 * width, "mit_num_attention_heads": 4}
        vision = clip.vision_config.to_dict() | mit | {"num_frames": NUM_FRAMES}
        for part in (text, vision):
            part.pop("model_type")
        config = XCLIPConfig(text_config=text, vision_config=vision, projection_dim=width, prompt_num_attention_heads=4)
        # Built, not `from_pretrained`: transformers has no start for the prompt generator's `alpha` there.
        self.model = XCLIPModel(config)
        weights = CLIPModel.from_pretrained(world.clip).state_dict()
        weights = {name.replace("pre_layrnorm", "pre_layernorm"): weight for name, weight in weights.items()}
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        if unexpected or not all(any(part in name for part in XCLIP_NEW_PARTS) for name in missing):
            raise RuntimeError(f"X-CLIP did not take CLIP's weights: unexpected {unexpected}, missing {missing}.")
        self.initialize_new_parts()
        self.texts = {split: world.texts(split) for split in world.names}

    def forward(self, clips: torch.Tensor, split: str) -> torch.Tensor:
        outputs = self.model(pixel_values=clips, **self.texts[split])
        return compare(outputs.video_embeds, outputs.text_embeds, self.model.logit_scale)

    def initialize_new_parts(self) -> None:
        """As the authors' code starts them; transformers' start (layers of std 1) is for loading weights only."""
        for name, parameter in self.model.named_parameters():
            if any(part in name for part in XCLIP_NEW_PARTS) and parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
        width = len(self.model.prompts_visual_projection)
        nn.init.normal_(self.model.prompts_visual_projection, std=width**-0.5)

    def parameter_groups(self, lr: float) -> list[dict]:
        new, old = [], []
        for name, parameter in self.model.named_parameters():
            (new if any(part in name for part in XCLIP_NEW_PARTS) else old).append(parameter)
        return [{"params": old, "lr": lr}, {"params": new, "lr": lr * XCLIP_NEW_FACTOR}]


@dataclass(frozen=True)
class Spec:
    """A row of the tables: how to build the system, and the learning rates to try, or whose choice to take over."""

    title: str
    build: Callable[[World], nn.Module]
    lrs: tuple[float, ...] | str = ()
    trained: bool = True
    frames: bool = False  # also tested with other numbers of frames


GLOBAL = {"num_global_prompts": 8}
LOCAL = GLOBAL | {"use_local_prompts": True}
SUMMARY = LOCAL | {"use_summary_prompt": True}
RANDOM_PROJECTION = {"train_cls_projection": False}

SYSTEMS = {
    "frozen": Spec("Frozen CLIP", OnFrozenFrames, trained=False),
    "linear": Spec("Linear probe", LinearProbe, (1e-2, 3e-2, 1e-1)),
    "contexts": Spec("Text contexts alone", partial(OnFrozenFrames, contexts="own"), (1e-3, 3e-3, 1e-2)),
    "a5": Spec("A5", partial(OnFrozenFrames, contexts="shared", temporal=TemporalTransformer), (1e-3, 3e-3, 1e-2)),
    "all": Spec("Vita-CLIP", partial(VitaClip, contexts=True, **SUMMARY), (2e-3, 4e-3, 8e-3), frames=True),
    "all-xavier": Spec("Vita-CLIP, Xavier", partial(VitaClip, contexts=True, summary_init="xavier", **SUMMARY), "all"),
    "actionclip": Spec("ActionCLIP", ActionClip, (1e-4, 3e-4, 1e-3)),
    "xclip": Spec("X-CLIP", XClip, (1e-4, 3e-4, 1e-3)),
    "global": Spec("Global", partial(VitaClip, contexts=False, **GLOBAL), "all"),
    "local": Spec("Global + local", partial(VitaClip, contexts=False, **LOCAL), "all"),
    "summary": Spec("Global + local + summary", partial(VitaClip, contexts=False, **SUMMARY), "all"),
    "local-random": Spec(
        "Global + local, cls_proj frozen", partial(VitaClip, contexts=False, **LOCAL, **RANDOM_PROJECTION), "all"
    ),
    "summary-random": Spec(
        "Global + local + summary, cls_proj frozen",
        partial(VitaClip, contexts=False, **SUMMARY, **RANDOM_PROJECTION),
        "all",
    ),
    "all-random": Spec(
        "Vita-CLIP, cls_proj frozen", partial(VitaClip, contexts=True, **SUMMARY, **RANDOM_PROJECTION), "all"
    ),
}


def build(name: str, world: World, seed: int) -> nn.Module:
    """A fresh system; the seed decides everything random in it."""
    torch.manual_seed(seed)
    system = SYSTEMS[name].build(world).to(world.device)
    for module in system.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation("eager")  # backward in bfloat16 on a CPU: three times as fast as sdpa's
    return system if SYSTEMS[name].trained else system.requires_grad_(False)


def count_trained(system: nn.Module) -> int:
    return sum(parameter.numel() for parameter in system.parameters() if parameter.requires_grad)
