"""What a scorer needs of a model: embeddings of videos and texts, their comparison, and how to read videos for it."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from .text_embedding_cache import TextEmbeddingCache
from .video_inputs import VideoReader


TEXTS_AT_ONCE = 1024  # of a forward pass of the text tower, whose memory grows with them


@dataclass(frozen=True)
class VideoEncoder(ABC):
    """
    A dual encoder of videos and texts, in evaluation.

    Args:
        model, tokenizer, video_processor: the model, and its own parts.

    Attributes:
        activation (`str`): makes scores of logits: `"softmax"` over the labels, or `"sigmoid"` of each label alone.
        normalized (`bool`): whether the features that are compared are normalised.
        text_padding (`str`): `"longest"` text of a call, or `"max_length"`.
        note, embedding_note (`str`, *optional*): what users of its scores and of its embeddings should know.
        families (`dict[str, Callable]`): make an encoder of a model, a tokenizer and a processor, by `model_type`; the
            entry `"*"` of any other. Code beside a checkpoint knows Vita-CLIP alone; the package adds the others.
    """

    activation: ClassVar[str] = "softmax"
    normalized: ClassVar[bool] = True
    text_padding: ClassVar[str] = "longest"
    note: ClassVar[str | None] = None
    embedding_note: ClassVar[str | None] = None
    families: ClassVar[dict[str, Callable[..., "VideoEncoder"]]] = {}

    model: Any
    tokenizer: Any
    video_processor: Any
    cache: TextEmbeddingCache = field(default_factory=TextEmbeddingCache, repr=False, compare=False, kw_only=True)

    def reader(self, **settings: Any) -> VideoReader:
        """How videos are read for this model; `settings` as for [`VideoReader`]."""
        return VideoReader(self.video_processor, **settings)

    @abstractmethod
    def video_features(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """
        Features `(batch_size, num_views, num_features)` for [`compare`], of all views of each video:
        `pixel_values_videos` of shape `(batch_size, num_views, num_frames, 3, height, width)`.
        """

    @torch.no_grad()
    def text_features(self, texts: Sequence[str], truncation: bool = False) -> torch.Tensor:
        """
        Features `(num_texts, embed_dim)` of texts for [`compare`].

        Raises:
            ValueError: a text is too long for the text tower, and `truncation` is not set.
        """
        options: dict[str, Any] = {"padding": self.text_padding, "truncation": truncation}
        if truncation or self.text_padding == "max_length":
            options["max_length"] = self.max_tokens
        inputs = self.tokenizer(list(texts), return_tensors="pt", verbose=False, **options)
        longest = inputs["input_ids"].shape[1]
        if longest > self.max_tokens:
            text = max(texts, key=lambda text: len(self.tokenizer(text, verbose=False).input_ids))
            raise ValueError(
                f"The text {text[:200]!r} takes {longest} tokens, but the text tower has {self.max_tokens} positions; "
                "shorten the label or the template."
            )
        features = [
            self.text_tower(
                **{name: value[start : start + TEXTS_AT_ONCE].to(self.model.device) for name, value in inputs.items()}
            )
            for start in range(0, len(texts), TEXTS_AT_ONCE)
        ]
        return nn.functional.normalize(torch.cat(features), dim=-1) if self.normalized else torch.cat(features)

    def text_tower(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Features `[N, D]` of tokens."""
        return self.model.get_text_features(**inputs).pooler_output

    @property
    def max_tokens(self) -> int:
        """Most tokens of a text."""
        return min(self.tokenizer.model_max_length, self.model.config.get_text_config().max_position_embeddings)

    def compare(self, video_features: torch.Tensor, text_features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and cosines `(…, num_texts)`, in float32: bfloat16 would make many logits equal."""
        cosines = video_features.float() @ text_features.float().T
        return self.logits(cosines), cosines

    def logits(self, cosines: torch.Tensor) -> torch.Tensor:
        """Logits of cosines."""
        return cosines * self.model.logit_scale.to(cosines).exp()

    def embeds(self, features: torch.Tensor) -> torch.Tensor:
        """
        Normalised embeddings of video or text features, for search: cosines of them rank as the model does, but for a
        family with an `embedding_note`.
        """
        return features if self.normalized else nn.functional.normalize(features, dim=-1)

    @property
    def embed_dim(self) -> int:
        """Length of an embedding."""
        return self.embeds(self.text_features(["a"])).shape[-1]

    def own_classes(self) -> tuple[tuple[str, ...], torch.Tensor]:
        """The classes that the model was trained on, and their features; a `ValueError` if there are none."""
        raise ValueError("The model was not trained on classes; pass `labels`.")

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores of labels from their logits `(…, num_labels)`."""
        return logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(-1)

    def class_features(
        self, labels: Any = None, templates: str | Sequence[str] = "{}"
    ) -> tuple[tuple[str, ...], torch.Tensor]:
        """
        Names of labels, and their features `(num_labels, embed_dim)` for [`compare`]: means over texts and templates,
        normalised if the model compares normalised features. They are kept until a text weight changes.

        Args:
            labels (`Sequence[str]` or `Mapping[str, Sequence[str]]`, *optional*): the labels, or several texts for each
                label, whose features are averaged too, as in FROSTER (arXiv 2402.03241) and OST (arXiv 2312.00096);
                by default [`own_classes`].
            templates (`str` or `Sequence[str]`, defaults to `"{}"`): sentences with `{}` for the label or its text.

        Raises:
            ValueError: labels or templates that cannot be scored, or a sentence that is too long for the text tower.
        """
        if labels is None:
            if check_templates(templates) != ("{}",):
                raise ValueError("A template is for given labels; the classes of a checkpoint need none.")
            return self.own_classes()
        texts_of, templates = check_labels(labels), check_templates(templates)

        def embed() -> torch.Tensor:
            texts = [text.replace("_", " ") for of_label in texts_of.values() for text in of_label]
            features = [self.text_features([template.replace("{}", text) for text in texts]) for template in templates]
            by_label = torch.stack(features).mean(0).split([len(of_label) for of_label in texts_of.values()])
            means = torch.stack([of_label.mean(0) for of_label in by_label])
            return nn.functional.normalize(means, dim=-1) if self.normalized else means

        return tuple(texts_of), self.cache.get((*texts_of.items(), templates), self.text_modules(), embed)

    def class_embeds(self, labels: Any = None, templates: Any = "{}") -> tuple[tuple[str, ...], torch.Tensor]:
        """Names of labels and their normalised embeddings, of arguments as for [`class_features`]."""
        names, features = self.class_features(labels, templates)
        return names, self.embeds(features)

    def text_modules(self) -> list[nn.Module]:
        """The modules whose weights the embeddings of texts depend on."""
        return [self.model]


@dataclass(frozen=True)
class VitaClipEncoder(VideoEncoder):
    """
    [`VitaClipModel`] with its tokenizer and video processor.

    Args:
        model, tokenizer, video_processor: as for [`VideoEncoder`].
        use_prompts (`bool`, defaults to `True`): `False` for the frozen CLIP.
        blend (`float`, defaults to 0): weight of the frozen CLIP's features, 0 to 1, which take a second forward pass.
            Where a backbone is trained, weights are interpolated in their place (Open-VCLIP, arXiv 2302.00624).
    """

    use_prompts: bool = True
    blend: float = 0.0

    def __post_init__(self):
        if isinstance(self.blend, bool) or not isinstance(self.blend, (int, float)) or not 0 <= self.blend <= 1:
            raise ValueError(f"`blend` must be a number from 0 (prompted) to 1 (plain CLIP), got {self.blend!r:.100}.")

    @torch.no_grad()
    def video_features(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        pixels = pixel_values_videos.to(self.model.device, self.model.dtype)
        embeds = self._features(pixels.flatten(0, 1), self.use_prompts)
        if self.blend and self.use_prompts:
            plain = self._features(pixels.flatten(0, 1), use_prompts=False)
            embeds = nn.functional.normalize(torch.lerp(embeds, plain, self.blend), dim=-1)
        return embeds.unflatten(0, pixels.shape[:2])

    def _features(self, pixels: torch.Tensor, use_prompts: bool) -> torch.Tensor:
        outputs = self.model.get_video_features(pixels, class_tokens_only=True, use_prompts=use_prompts)
        return nn.functional.normalize(outputs.pooler_output, dim=-1)

    def own_classes(self) -> tuple[tuple[str, ...], torch.Tensor]:
        names = self.model.config.id2label
        if not self.model.class_prompts.have_names:
            return super().own_classes()
        embeds = self.cache.get("classes", self.text_modules(), self.model.get_class_embeds)
        return tuple(names[index] for index in range(len(embeds))), embeds

    def text_modules(self) -> list[nn.Module]:
        return [self.model.text_model, self.model.text_projection, self.model.class_prompts]


def _is_text(value: Any) -> bool:
    """Whether this is a string that is not empty and that a tokenizer takes: it has no half of a surrogate pair."""
    return isinstance(value, str) and bool(value.strip()) and not re.search("[\ud800-\udfff]", value)


def check_labels(labels: Any, argument: str = "labels") -> dict[str, tuple[str, ...]]:
    """
    The texts of each label: those that a mapping has for it, or the label itself.

    Raises:
        ValueError: labels that are no different, non-empty strings, or texts that are none. It names `argument`.
    """
    names = [] if isinstance(labels, str) or not isinstance(labels, Iterable) else list(labels)
    if not names or not all(map(_is_text, names)):
        raise ValueError(f"`{argument}` must be a list of non-empty strings, got {labels!r:.200}.")
    if repeated := sorted(label for label, count in Counter(names).items() if count > 1):
        examples = ", ".join(f"{label!r:.100}" for label in repeated[:5])
        raise ValueError(f"`{argument}` must differ; {len(repeated):,} repeated: {examples}.")
    have_texts = isinstance(labels, Mapping) and any(texts is not None for texts in labels.values())
    texts_of = {}
    for label in names:
        texts = labels[label] if have_texts else label
        texts = (texts,) if isinstance(texts, str) or not isinstance(texts, Iterable) else tuple(texts)
        if not texts or not all(map(_is_text, texts)):
            raise ValueError(f"The texts of {label!r:.200} must be non-empty strings, got {texts!r:.200}.")
        texts_of[label] = texts
    return texts_of


def check_templates(templates: Any, argument: str = "templates") -> tuple[str, ...]:
    """One template or several, as a tuple; a `ValueError` names `argument` if one lacks `{}`, or if there is none."""
    templates = (templates,) if isinstance(templates, str) or not isinstance(templates, Iterable) else tuple(templates)
    wrong = [template for template in templates if not _is_text(template) or "{}" not in template]
    if wrong or not templates:
        raise ValueError(f"`{argument}` needs `{{}}` where the label goes, got {wrong or templates!r:.200}.")
    return templates


VideoEncoder.families["vita_clip"] = VitaClipEncoder
