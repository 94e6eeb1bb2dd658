"""The systems that `miniature.py` compares: each the same tiny CLIP, made to see video in its own way.

A system is a module whose forward takes videos and the name of a set of texts of the `World`, and returns logits
`[B, C]`. Systems whose image tower stays frozen take its frame features `[B, T, D]` instead of pixels
`[B, T, 3, S, S]` (`on_features`), so that the tower runs only once for each clip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from miniature_world import SPLITS, scenes_of
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    PreTrainedModel,
    XCLIPConfig,
    XCLIPModel,
)
from transformers.models.clip.modeling_clip import CLIPEncoder

from vitaclip_hf import VitaClipModel
from vitaclip_hf.loading.clip_backbones import add_prompts
from vitaclip_hf.model.processing_vita_clip import tokenize_classes
from vitaclip_hf.training.regularization import squared_distance


NUM_FRAMES = 8
NO_PROMPTS = {"use_summary_prompt": False, "use_local_prompts": False, "num_global_prompts": 0}
# X-CLIP's training gives its new parts ten times the learning rate of the pretrained ones.
XCLIP_NEW_PARTS, XCLIP_NEW_FACTOR = ("message_", "mit.", "prompts_"), 10
# A set of texts with this ending has the same classes in all wordings, whose embeddings are averaged.
REWORDED = ", all wordings"


class World:
    """What every system starts from: the folder of the tiny CLIP, and sets of texts, each the words of C classes."""

    def __init__(self, clip: Path, device: str = "cpu"):
        self.clip, self.device = clip, device
        self.tokenizer = AutoTokenizer.from_pretrained(clip)
        self.texts: dict[str, list[str]] = {split: [scene.label for scene in scenes_of(split)] for split in SPLITS}
        self._tokens: dict[str, dict[str, torch.Tensor]] = {}
        self._plain: dict[str, torch.Tensor] = {}

    def tokens(self, name: str) -> dict[str, torch.Tensor]:
        """The texts of a set, tokenized."""
        if name not in self._tokens:
            self._tokens[name] = dict(
                self.tokenizer(self.texts[name], padding=True, return_tensors="pt").to(self.device)
            )
        return self._tokens[name]

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> torch.Tensor:
        clip = CLIPModel.from_pretrained(self.clip).to(self.device)
        tokens = self.tokenizer(list(texts), padding=True, return_tensors="pt").to(self.device)
        return nn.functional.normalize(clip.get_text_features(**tokens).pooler_output, dim=-1)

    def plain(self, name: str) -> torch.Tensor:
        """A set's texts through the frozen text tower, normalised: `[C, E]`."""
        if name not in self._plain:
            if name.endswith(REWORDED):
                scenes = scenes_of(name.removesuffix(REWORDED))
                parts = [self._embed([scene.wordings[number] for scene in scenes]) for number in range(3)]
                self._plain[name] = nn.functional.normalize(torch.stack(parts).mean(0), dim=-1)
            else:
                self._plain[name] = self._embed(self.texts[name])
        return self._plain[name]


def compare(videos: torch.Tensor, classes: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Scaled cosines `[B, C]` of `[B, E]` with `[C, E]` or with classes of each video's own, `[B, C, E]`."""
    with torch.autocast(videos.device.type, enabled=False):  # bfloat16 cannot tell cosines apart that are 0.4% apart
        videos, classes = (nn.functional.normalize(embeds.float(), dim=-1) for embeds in (videos, classes))
        cosines = (classes @ videos[..., None]).squeeze(-1) if classes.ndim == 3 else videos @ classes.T
        return logit_scale.exp() * cosines


class System(nn.Module):
    """What the systems have in common."""

    on_features = False

    def __init__(self, world: World):
        super().__init__()
        self.world = world

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy over the trained classes."""
        return nn.functional.cross_entropy(self(inputs, "trained"), labels)

    def parameter_groups(self, lr: float) -> list[dict]:
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad], "lr": lr}]


def start(world: World, **settings) -> VitaClipModel:
    """The world's CLIP with new prompts."""
    return VitaClipModel.from_pretrained(
        world.clip, config=add_prompts(CLIPConfig.from_pretrained(world.clip), settings)
    )


def set_classes(model: VitaClipModel, names: list[str], tokenizer) -> None:
    model.set_classes(names, **tokenize_classes(names, tokenizer, model.config.text_config))


class VitaClip(System):
    """Vita-CLIP with some of its prompts. Only the trained classes have contexts; other texts go in plain.

    Args:
        contexts: whether the trained classes have learned contexts.
        distillation: weight of the distance of video features from the frozen CLIP's (FROSTER, arXiv 2402.03241).
        penalty: weight of the distance of the class features from the plain names' (KgCoOp, arXiv 2303.13283).
        vision: the vision configuration's prompts.
    """

    def __init__(self, world: World, *, contexts: bool, distillation: float = 0, penalty: float = 0, **vision):
        super().__init__(world)
        self.model = start(
            world,
            vision_config=NO_PROMPTS | {"num_frames": NUM_FRAMES} | vision,
            text_config={"num_context_tokens": 4, "context_init": "a video of a"},
        )
        set_classes(self.model, world.texts["trained"], world.tokenizer)
        self.model.freeze_backbone()
        self.model.class_prompts.requires_grad_(contexts)
        self.contexts, self.distillation, self.penalty = contexts, distillation, penalty

    def video_embeds(self, clips: torch.Tensor, plain: bool = False) -> torch.Tensor:
        """Normalised, `[B, E]`; of the frozen CLIP if `plain`."""
        features = self.model.get_video_features(clips, use_prompts=not plain).pooler_output
        return nn.functional.normalize(features.float(), dim=-1)

    def class_embeds(self, texts: str) -> torch.Tensor:
        return self.model.get_class_embeds() if self.contexts and texts == "trained" else self.world.plain(texts)

    def scores(self, videos: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return compare(videos, classes, self.model.logit_scale)

    def forward(self, clips: torch.Tensor, texts: str) -> torch.Tensor:
        return self.scores(self.video_embeds(clips), self.class_embeds(texts))

    def loss(self, clips: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        videos, classes = self.video_embeds(clips), self.class_embeds("trained")
        loss = nn.functional.cross_entropy(self.scores(videos, classes), labels)
        if self.distillation:
            with torch.no_grad():
                teacher = self.video_embeds(clips, plain=True)
            loss = loss + self.distillation * squared_distance(videos, teacher)
        if self.penalty:
            loss = loss + self.penalty * squared_distance(classes, self.world.plain("trained"))
        return loss


class OnFrozenFrames(System):
    """Frozen CLIP's frame features, a temporal module or none, the mean over frames, and classes as text.

    Contexts: `None` for plain names, `"own"` for one learned context a class (its held-out classes are plain names),
    `"shared"` for one context that serves new names too.
    """

    on_features = True

    def __init__(self, world: World, *, contexts: str | None = None, temporal: Callable = lambda width: None):
        super().__init__(world)
        text = {"num_context_tokens": 4, "context_init": "a video of a"}
        if contexts == "shared":  # A5's is random and stands on both sides of the name
            text = {"num_context_tokens": 8, "context_position": "middle", "class_specific_context": False}
        self.model = start(world, vision_config=NO_PROMPTS, text_config=text)
        self.contexts, self.named = contexts, ""
        self.name_classes("trained")
        self.model.requires_grad_(False)
        self.model.class_prompts.requires_grad_(contexts is not None)
        self.model.logit_scale.requires_grad_(True)
        self.temporal = temporal(self.model.config.projection_dim)

    def name_classes(self, texts: str) -> None:
        if texts != self.named:
            set_classes(self.model, self.world.texts[texts], self.world.tokenizer)
            self.named = texts

    def classes(self, texts: str) -> torch.Tensor:
        if self.contexts is None or (self.contexts == "own" and texts != "trained"):
            return self.world.plain(texts)
        self.name_classes(texts)
        return self.model.get_class_embeds()

    def forward(self, features: torch.Tensor, texts: str) -> torch.Tensor:
        frames = self.model.visual_projection(features)
        if self.temporal is not None:
            frames = self.temporal(frames)
        return compare(frames.mean(1), self.classes(texts), self.model.logit_scale)


class TemporalTransformer(nn.Module):
    """Two of CLIP's layers over the frame features `[B, T, E]`, with positions; `residual` adds what came in."""

    def __init__(self, width: int, residual: bool = False):
        super().__init__()
        self.residual = residual
        self.position = nn.Parameter(torch.randn(NUM_FRAMES, width) * 0.02)
        size = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 4}
        self.encoder = CLIPEncoder(CLIPVisionConfig(num_hidden_layers=2, attn_implementation="eager", **size))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        seen = self.encoder(inputs_embeds=frames + self.position).last_hidden_state
        return frames + seen if self.residual else seen


class LinearProbe(System):
    """A linear layer on the mean of the frozen frame features; it knows the trained classes only."""

    on_features = True

    def __init__(self, world: World):
        super().__init__(world)
        width = CLIPModel.from_pretrained(world.clip).config.vision_config.hidden_size
        self.linear = nn.Linear(width, len(world.texts["trained"])).to(world.device)

    def forward(self, features: torch.Tensor, texts: str) -> torch.Tensor | None:
        return self.linear(features.mean(1)) if texts == "trained" else None


class FineTunedClip(System):
    """CLIP fine-tuned whole, frame features averaged (ViFi-CLIP, arXiv 2212.03640); with `temporal`, two layers over
    the frames on top (ActionCLIP, arXiv 2109.08472).
    """

    def __init__(self, world: World, *, temporal: bool):
        super().__init__(world)
        self.clip = CLIPModel.from_pretrained(world.clip)
        self.temporal = TemporalTransformer(self.clip.config.projection_dim, residual=True) if temporal else None

    def forward(self, clips: torch.Tensor, texts: str) -> torch.Tensor:
        frames = self.clip.get_image_features(clips.flatten(0, 1)).pooler_output.unflatten(0, clips.shape[:2])
        if self.temporal is not None:
            frames = nn.functional.normalize(frames, dim=-1)
            frames = self.temporal(frames)
        classes = self.clip.get_text_features(**self.world.tokens(texts)).pooler_output
        return compare(frames.mean(1), classes, self.clip.logit_scale)


class XClip(System):
    """transformers' X-CLIP (arXiv 2208.02816) started from the tiny CLIP and fine-tuned whole."""

    def __init__(self, world: World):
        super().__init__(world)
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

    def forward(self, clips: torch.Tensor, texts: str) -> torch.Tensor:
        outputs = self.model(pixel_values=clips, **self.world.tokens(texts))
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
    build: Callable[[World], System]
    lrs: tuple[float, ...] | str = ()
    detailed: bool = False  # at its end also tested with other numbers of frames, blends and wordings

    @property
    def trained(self) -> bool:
        return bool(self.lrs)


GLOBAL = {"num_global_prompts": 8}
LOCAL = GLOBAL | {"use_local_prompts": True}
SUMMARY = LOCAL | {"use_summary_prompt": True}

SYSTEMS = {
    "frozen": Spec("Frozen CLIP", OnFrozenFrames),
    "linear": Spec("Linear probe", LinearProbe, (1e-2, 3e-2, 1e-1, 3e-1)),
    "a5": Spec(
        "A5", partial(OnFrozenFrames, contexts="shared", temporal=TemporalTransformer), (3e-4, 1e-3, 3e-3, 1e-2)
    ),
    "actionclip": Spec("ActionCLIP", partial(FineTunedClip, temporal=True), (3e-5, 1e-4, 3e-4, 1e-3)),
    "vifi": Spec("ViFi-CLIP", partial(FineTunedClip, temporal=False), (3e-5, 1e-4, 3e-4, 1e-3)),
    "xclip": Spec("X-CLIP", XClip, (1e-5, 3e-5, 1e-4, 3e-4)),
    "all": Spec("Vita-CLIP", partial(VitaClip, contexts=True, **SUMMARY), (1e-3, 3e-3, 1e-2, 3e-2), detailed=True),
    "vision": Spec(
        "Vita-CLIP, vision prompts alone",
        partial(VitaClip, contexts=False, **SUMMARY),
        (1e-3, 3e-3, 1e-2, 3e-2),
        detailed=True,
    ),
    "local": Spec("Global and local prompts", partial(VitaClip, contexts=False, **LOCAL), "vision"),
    "global": Spec("Global prompts", partial(VitaClip, contexts=False, **GLOBAL), "vision"),
    "contexts": Spec("Text contexts alone", partial(OnFrozenFrames, contexts="own"), (1e-3, 3e-3, 1e-2, 3e-2)),
    "distilled": Spec("Vita-CLIP, distilled", partial(VitaClip, contexts=True, distillation=2, **SUMMARY), "all"),
    "penalised": Spec("Vita-CLIP, contexts kept near", partial(VitaClip, contexts=True, penalty=8, **SUMMARY), "all"),
}


def build(name: str, world: World, seed: int) -> System:
    """A fresh system; the seed decides everything random in it."""
    torch.manual_seed(seed)
    system = SYSTEMS[name].build(world).to(world.device)
    for module in system.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation("eager")  # backward in bfloat16 on a CPU: three times as fast as sdpa's
    return system if SYSTEMS[name].trained else system.requires_grad_(False)


def count_trained(system: nn.Module) -> int:
    return sum(parameter.numel() for parameter in system.parameters() if parameter.requires_grad)
