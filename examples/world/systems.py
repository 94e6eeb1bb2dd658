"""The systems that `trial.py` compares: each the same tiny CLIP, made to see video in its own way.

A system is a module whose forward takes videos and the name of a set of texts of the `Start`, and returns logits
`[B, C]`. Systems whose image tower stays frozen take its frame features `[B, T, D]` instead of pixels `[B, T, 3, S, S]`
(`on_features`), so that the tower runs only once for each clip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
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
from world import TEMPLATES

from vitaclip_hf import VitaClipModel
from vitaclip_hf.loading.clip_backbones import add_prompts
from vitaclip_hf.model.processing_vita_clip import tokenize_classes
from vitaclip_hf.training.regularization import squared_distance


NUM_FRAMES = 8
NO_PROMPTS = {"use_summary_prompt": False, "use_local_prompts": False, "num_global_prompts": 0}
XCLIP_NEW_PARTS = ("message_", "mit.", "prompts_")


class Start:
    """What every system starts from: the folder of the tiny CLIP, and sets of texts, each the words of C classes.

    The classes that a system trains on are the set `training`.
    """

    def __init__(self, clip: Path, texts: dict[str, list[str]]):
        self.clip, self.texts = clip, texts
        self.tokenizer = AutoTokenizer.from_pretrained(clip)

    def __deepcopy__(self, memo) -> "Start":
        return self

    def tokens(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        return dict(self.tokenizer(list(texts), padding=True, return_tensors="pt"))

    @cached_property
    def plain(self) -> dict[str, torch.Tensor]:
        """The texts of each set through the frozen text tower, normalised: `[C, E]`."""
        clip = CLIPModel.from_pretrained(self.clip)
        with torch.no_grad():
            embeds = {
                name: clip.get_text_features(**self.tokens(own)).pooler_output for name, own in self.texts.items()
            }
        return {name: nn.functional.normalize(own, dim=-1) for name, own in embeds.items()}


@torch.autocast("cpu", enabled=False)  # scores near each other would be equal in bfloat16
def compare(videos: torch.Tensor, classes: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Scaled cosines `[B, C]` of `[B, E]` with `[C, E]` or with classes of each video's own, `[B, C, E]`."""
    videos, classes = (nn.functional.normalize(embeds.float(), dim=-1) for embeds in (videos, classes))
    cosines = (classes @ videos[..., None]).squeeze(-1) if classes.ndim == 3 else videos @ classes.T
    return logit_scale.exp() * cosines


class System(nn.Module):
    """What the systems have in common."""

    on_features = False
    blend = 0.0  # weight of the frozen CLIP's video features in a test

    def __init__(self, start: Start):
        super().__init__()
        self.start = start

    def towers(self) -> CLIPModel | None:
        """Its image and text tower as a CLIP; `None` where they are the frozen ones."""
        return None

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy over the trained classes."""
        return nn.functional.cross_entropy(self(inputs, "training"), labels)

    def parameter_groups(self, lr: float) -> list[dict]:
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad], "lr": lr}]


def prompted(start: Start, **settings) -> VitaClipModel:
    """The tiny CLIP with new prompts."""
    return VitaClipModel.from_pretrained(
        start.clip, config=add_prompts(CLIPConfig.from_pretrained(start.clip), settings)
    )


def set_classes(model: VitaClipModel, names: list[str], tokenizer) -> None:
    model.set_classes(names, **tokenize_classes(names, tokenizer, model.config.text_config))


class VitaClip(System):
    """Vita-CLIP with some of its prompts. Only the trained classes have contexts; other texts go in plain.

    Args:
        contexts: whether the trained classes have learned contexts.
        names: weight of a second cross-entropy, over the plain names of the trained classes.
        distillation: weight of the distance of video features from the frozen CLIP's (FROSTER, arXiv 2402.03241).
        vision: the vision configuration's prompts.
    """

    def __init__(self, start: Start, *, contexts: bool, names: float = 0, distillation: float = 0, **vision):
        super().__init__(start)
        self.model = prompted(
            start,
            vision_config=NO_PROMPTS | {"num_frames": NUM_FRAMES} | vision,
            text_config={"num_context_tokens": 4, "context_init": "a video of a"},
        )
        set_classes(self.model, start.texts["training"], start.tokenizer)
        self.model.freeze_backbone()
        self.model.class_prompts.requires_grad_(contexts)
        self.contexts, self.names, self.distillation = contexts, names, distillation

    def video_embeds(self, clips: torch.Tensor, plain: bool = False) -> torch.Tensor:
        """Normalised, `[B, E]`; of the frozen CLIP if `plain`. With a `blend`, on the way to those."""
        features = self.model.get_video_features(clips, use_prompts=not plain).pooler_output
        embeds = nn.functional.normalize(features, dim=-1)
        return embeds.lerp(self.video_embeds(clips, plain=True), self.blend) if self.blend and not plain else embeds

    def forward(self, clips: torch.Tensor, texts: str) -> torch.Tensor:
        learned = self.contexts and texts == "training"
        classes = self.model.get_class_embeds() if learned else self.start.plain[texts]
        return compare(self.video_embeds(clips), classes, self.model.logit_scale)

    def loss(self, clips: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        videos, plain, scale = self.video_embeds(clips), self.start.plain["training"], self.model.logit_scale
        classes = self.model.get_class_embeds() if self.contexts else plain
        loss = nn.functional.cross_entropy(compare(videos, classes, scale), labels)
        if self.names:
            loss = loss + self.names * nn.functional.cross_entropy(compare(videos, plain, scale), labels)
        if self.distillation:
            with torch.no_grad():
                teacher = self.video_embeds(clips, plain=True)
            loss = loss + self.distillation * squared_distance(videos, teacher)
        return loss


class OnFrozenFrames(System):
    """Frozen CLIP's frame features, a temporal module or none, the mean over frames, and classes as text.

    Contexts: `None` for plain names, `"own"` for one learned context a class (its held-out classes are plain names),
    `"shared"` for one context that serves new names too.
    """

    on_features = True

    def __init__(self, start: Start, *, contexts: str | None = None, temporal: Callable = lambda width: None):
        super().__init__(start)
        text = {"num_context_tokens": 4, "context_init": "a video of a"}
        if contexts == "shared":  # A5's is random and stands on both sides of the name
            text = {"num_context_tokens": 8, "context_position": "middle", "class_specific_context": False}
        self.model = prompted(start, vision_config=NO_PROMPTS, text_config=text)
        self.contexts, self.named = contexts, ""
        self.name_classes("training")
        self.model.requires_grad_(False)
        self.model.class_prompts.requires_grad_(contexts is not None)
        self.model.logit_scale.requires_grad_(True)
        self.temporal = temporal(self.model.config.projection_dim)

    def name_classes(self, texts: str) -> None:
        if texts != self.named:
            set_classes(self.model, self.start.texts[texts], self.start.tokenizer)
            self.named = texts

    def classes(self, texts: str) -> torch.Tensor:
        if self.contexts is None or (self.contexts == "own" and texts != "training"):
            return self.start.plain[texts]
        self.name_classes(texts)
        return self.model.get_class_embeds()

    def forward(self, features: torch.Tensor, texts: str) -> torch.Tensor:
        frames = self.model.visual_projection(features)
        if self.temporal is not None:
            frames = self.temporal(frames)
        return compare(frames.mean(1), self.classes(texts), self.model.logit_scale)


class TemporalTransformer(nn.Module):
    """CLIP's layers over the frame features `[B, T, E]`, with positions; `residual` adds what came in."""

    def __init__(self, width: int, layers: int = 2, residual: bool = False):
        super().__init__()
        self.residual = residual
        self.position = nn.Parameter(torch.randn(NUM_FRAMES, width) * 0.02)
        size = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 4}
        self.encoder = CLIPEncoder(CLIPVisionConfig(num_hidden_layers=layers, attn_implementation="eager", **size))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        seen = self.encoder(inputs_embeds=frames + self.position).last_hidden_state
        return frames + seen if self.residual else seen


class LinearProbe(System):
    """A linear layer on the mean of the frozen frame features; it knows the trained classes only."""

    on_features = True

    def __init__(self, start: Start):
        super().__init__(start)
        width = CLIPModel.from_pretrained(start.clip).config.vision_config.hidden_size
        self.linear = nn.Linear(width, len(start.texts["training"]))

    @torch.autocast("cpu", enabled=False)
    def forward(self, features: torch.Tensor, texts: str) -> torch.Tensor | None:
        return self.linear(features.mean(1)) if texts == "training" else None


class FineTunedClip(System):
    """CLIP fine-tuned whole, frame features averaged, as ViFi-CLIP's authors train (arXiv 2212.03640)."""

    def __init__(self, start: Start):
        super().__init__(start)
        self.clip = CLIPModel.from_pretrained(start.clip)
        self.temporal: nn.Module | None = None

    def towers(self) -> CLIPModel:
        return self.clip

    def video_embeds(self, clips: torch.Tensor) -> torch.Tensor:
        frames = self.clip.get_image_features(clips.flatten(0, 1)).pooler_output.unflatten(0, clips.shape[:2])
        if self.temporal is not None:
            frames = self.temporal(frames)
        return frames.mean(1)

    def text_embeds(self, texts: Sequence[str]) -> torch.Tensor:
        return self.clip.get_text_features(**self.start.tokens(texts)).pooler_output

    def forward(self, clips: torch.Tensor, texts: str) -> torch.Tensor:
        return compare(self.video_embeds(clips), self.text_embeds(self.start.texts[texts]), self.clip.logit_scale)


class ActionClip(FineTunedClip):
    """ActionCLIP as its authors train it (arXiv 2109.08472).

    Six layers over the frames, trained ten times faster than CLIP; the labels of a batch in random templates, and the
    Kullback-Leibler divergence both ways between its similarities and which of its labels are the same. The templates
    are the world's.
    """

    def __init__(self, start: Start):
        super().__init__(start)
        self.temporal = TemporalTransformer(self.clip.config.projection_dim, layers=6, residual=True)
        for name, parameter in self.temporal.named_parameters():  # as theirs start; torch's would hide the frames
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def loss(self, clips: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        chosen = torch.randint(len(TEMPLATES), (len(labels),)).tolist()
        names = [self.start.texts["training"][label] for label in labels.tolist()]
        texts = [TEMPLATES[number].format(name) for number, name in zip(chosen, names, strict=True)]
        logits = compare(self.video_embeds(clips), self.text_embeds(texts), self.clip.logit_scale)
        same = (10.0 * (labels[:, None] == labels)).softmax(1)
        both = [nn.functional.kl_div(part.log_softmax(1), same, reduction="batchmean") for part in (logits, logits.T)]
        return sum(both) / 2

    def parameter_groups(self, lr: float) -> list[dict]:
        return [{"params": self.clip.parameters(), "lr": lr}, {"params": self.temporal.parameters(), "lr": 10 * lr}]


class XClip(System):
    """transformers' X-CLIP, as its authors train it (arXiv 2208.02816): text tower and scale stay frozen, and the new
    parts train ten times faster than CLIP's image tower.
    """

    def __init__(self, start: Start):
        super().__init__(start)
        clip = CLIPConfig.from_pretrained(start.clip)
        width, text = clip.projection_dim, clip.text_config.to_dict()
        mit = {"mit_hidden_size": width, "mit_intermediate_size": 4 * width, "mit_num_attention_heads": 4}
        vision = clip.vision_config.to_dict() | mit | {"num_frames": NUM_FRAMES}
        for part in (text, vision):
            part.pop("model_type")
        config = XCLIPConfig(text_config=text, vision_config=vision, projection_dim=width, prompt_num_attention_heads=4)
        # Built, not `from_pretrained`: transformers has no start for the prompt generator's `alpha` there.
        self.model = XCLIPModel(config)
        weights = CLIPModel.from_pretrained(start.clip).state_dict()
        weights = {name.replace("pre_layrnorm", "pre_layernorm"): weight for name, weight in weights.items()}
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        if unexpected or not all(any(part in name for part in XCLIP_NEW_PARTS) for name in missing):
            raise RuntimeError(f"X-CLIP did not take CLIP's weights: unexpected {unexpected}, missing {missing}.")
        self.initialize_new_parts()
        frozen = [self.model.text_model, self.model.text_projection]
        for module in frozen:
            module.requires_grad_(False)
        self.model.logit_scale.requires_grad_(False)

    def towers(self) -> CLIPModel:
        clip, weights = CLIPModel.from_pretrained(self.start.clip), self.model.state_dict()
        own = {name: weights[name.replace("pre_layrnorm", "pre_layernorm")] for name in clip.state_dict()}
        clip.load_state_dict(own)
        return clip

    def forward(self, clips: torch.Tensor, texts: str) -> torch.Tensor:
        outputs = self.model(pixel_values=clips, **self.start.tokens(self.start.texts[texts]))
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
            if parameter.requires_grad:
                (new if any(part in name for part in XCLIP_NEW_PARTS) else old).append(parameter)
        return [{"params": old, "lr": lr}, {"params": new, "lr": 10 * lr}]


@dataclass(frozen=True)
class Spec:
    """How to build a system, the learning rates to run, and whether it trains on the tests' kinds too (a ceiling)."""

    build: Callable[[Start], System]
    rates: tuple[float, ...] = ()
    all_kinds: bool = False


GLOBAL, LOCAL, SUMMARY = {"num_global_prompts": 8}, {"use_local_prompts": True}, {"use_summary_prompt": True}
VISION = GLOBAL | LOCAL | SUMMARY
PROMPT_RATES, TOWER_RATES = (1e-3, 3e-3, 1e-2), (3e-5, 1e-4, 3e-4)

SYSTEMS = {
    "frozen": Spec(OnFrozenFrames),
    "still": Spec(OnFrozenFrames),  # sees each video as one composed still
    "linear": Spec(LinearProbe, (1e-2, 3e-2, 1e-1)),
    "contexts": Spec(partial(OnFrozenFrames, contexts="own"), PROMPT_RATES),
    "a5": Spec(partial(OnFrozenFrames, contexts="shared", temporal=TemporalTransformer), (3e-4, 1e-3, 3e-3)),
    "vita": Spec(partial(VitaClip, contexts=True, **VISION), PROMPT_RATES),
    "vision": Spec(partial(VitaClip, contexts=False, **VISION), PROMPT_RATES),
    "vifi": Spec(FineTunedClip, TOWER_RATES),
    "xclip": Spec(XClip, TOWER_RATES),
    "actionclip": Spec(ActionClip, TOWER_RATES),
    "ceiling": Spec(FineTunedClip, TOWER_RATES, all_kinds=True),
    "global": Spec(partial(VitaClip, contexts=False, **GLOBAL), PROMPT_RATES),
    "local": Spec(partial(VitaClip, contexts=False, **LOCAL), PROMPT_RATES),
    "summary": Spec(partial(VitaClip, contexts=False, **SUMMARY), PROMPT_RATES),
    "names": Spec(partial(VitaClip, contexts=True, names=1, **VISION), PROMPT_RATES),
    "distilled": Spec(partial(VitaClip, contexts=True, distillation=2, **VISION), PROMPT_RATES),
}


def build(name: str, start: Start, seed: int) -> System:
    """A fresh system; the seed decides everything random in it."""
    torch.manual_seed(seed)
    system = SYSTEMS[name].build(start)
    for part in system.modules():
        if isinstance(part, PreTrainedModel):  # torch's own takes most of a step going back in bfloat16 on a processor
            part.set_attn_implementation("eager")
    return system if SYSTEMS[name].rates else system.requires_grad_(False)
