"""What a scorer needs of a model: embeddings of videos and texts, their comparison, and how to read videos for it."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .text_embedding_cache import TextEmbeddingCache
from .video_reader import VideoReader


TEXTS_AT_ONCE = 1024  # of a forward pass of the text tower, whose memory grows with them


@dataclass(frozen=True)
class VideoEncoder(ABC):
    """
    A dual encoder of videos and texts, in evaluation.

    Args:
        model: the model.
        tokenizer: of the model.
        video_processor: of the model.
    """

    model: Any
    tokenizer: Any
    video_processor: Any
    cache: TextEmbeddingCache = field(default_factory=TextEmbeddingCache, repr=False, compare=False, kw_only=True)

    def reader(self, **settings: Any) -> VideoReader:
        """How videos are read for this model; `settings` as for [`VideoReader`]."""
        return VideoReader(self.video_processor, **settings)

    @abstractmethod
    def embed_videos(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """
        Normalised features of every view.

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_views, num_frames, 3, height, width)`):
                All views of each video.

        Returns:
            `torch.Tensor` of shape `(batch_size, num_views, projection_dim)`.
        """

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """
        Normalised features of texts.

        Returns:
            `torch.Tensor` of shape `(num_texts, projection_dim)`.

        Raises:
            ValueError: a text is too long for the text tower.
        """

    @abstractmethod
    def own_classes(self) -> tuple[tuple[str, ...], torch.Tensor]:
        """
        The classes that the model was trained on, and their normalised embeddings.

        Raises:
            ValueError: it was not trained on classes.
        """

    @abstractmethod
    def compare(self, video_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
        """Logits of shape `(…, num_texts)` from normalised embeddings."""

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores of labels from their logits `(…, num_labels)`: the softmax over the labels."""
        return logits.softmax(-1)

    @torch.no_grad()
    def class_embeds(
        self, labels: Any = None, templates: str | Sequence[str] = "{}"
    ) -> tuple[tuple[str, ...], torch.Tensor]:
        """
        Names of labels, and their normalised embeddings of shape `(num_labels, projection_dim)`.

        The embeddings of a label's sentences are averaged over the templates and normalised again. They are kept until
        a text weight changes.

        Args:
            labels (`Sequence[str]` or `Mapping[str, Sequence[str]]`, *optional*): the labels, or several texts for each
                label, whose embeddings are averaged too, as in FROSTER (arXiv 2402.03241) and OST (arXiv 2312.00096);
                by default [`own_classes`].
            templates (`str` or `Sequence[str]`, defaults to `"{}"`): sentences with `{}` for the label or its text.

        Raises:
            ValueError: labels or templates that cannot be scored, a sentence that is too long for the text tower, or a
                model without classes of its own.
        """
        if labels is None:
            return self.own_classes()
        names, templates = check_labels(labels), check_templates(templates)
        texts = label_texts(labels)

        def embed() -> torch.Tensor:
            flat = [text.replace("_", " ") for part in texts for text in part]
            embeds = [self.embed_texts([template.replace("{}", text) for text in flat]) for template in templates]
            parts = torch.stack(embeds).mean(0).split([len(part) for part in texts])
            return nn.functional.normalize(torch.stack([part.mean(0) for part in parts]), dim=-1)

        return names, self.cache.get((names, texts, templates), self.text_modules(), embed)

    def text_modules(self) -> list[nn.Module]:
        """The modules whose weights the embeddings of texts depend on."""
        return [self.model]


@dataclass(frozen=True)
class VitaClipEncoder(VideoEncoder):
    """
    [`VitaClipModel`] with its tokenizer and video processor.

    A blend mixes in the features of the frozen CLIP, at the cost of a second forward pass. Open-VCLIP (arXiv
    2302.00624) and WiSE-FT (arXiv 2109.01903) interpolate weights between a fine-tuned model and CLIP; with a frozen
    CLIP there are only features to interpolate.

    Args:
        model ([`VitaClipModel`]): a model in evaluation.
        tokenizer, video_processor: the model's.
        use_prompts (`bool`, defaults to `True`): `False` for the frozen CLIP.
        blend (`float`, defaults to 0): weight of the frozen CLIP's features, 0 to 1.

    Raises:
        ValueError: a blend outside 0 … 1.
    """

    use_prompts: bool = True
    blend: float = 0.0

    def __post_init__(self):
        if isinstance(self.blend, bool) or not isinstance(self.blend, (int, float)) or not 0 <= self.blend <= 1:
            raise ValueError(f"`blend` must be a number from 0 (prompted) to 1 (plain CLIP), got {self.blend!r:.100}.")

    @torch.no_grad()
    def embed_videos(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        pixels = pixel_values_videos.to(self.model.device, self.model.dtype)
        embeds = self._features(pixels.flatten(0, 1), self.use_prompts)
        if self.blend and self.use_prompts:
            plain = self._features(pixels.flatten(0, 1), use_prompts=False)
            embeds = nn.functional.normalize(torch.lerp(embeds, plain, self.blend), dim=-1)
        return embeds.unflatten(0, pixels.shape[:2])

    def _features(self, pixels: torch.Tensor, use_prompts: bool) -> torch.Tensor:
        outputs = self.model.get_video_features(pixels, class_tokens_only=True, use_prompts=use_prompts)
        return nn.functional.normalize(outputs.pooler_output, dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        inputs = self.tokenizer(list(texts), padding=True, return_tensors="pt", verbose=False)
        longest, positions = inputs["input_ids"].shape[1], self.model.config.text_config.max_position_embeddings
        if longest > positions:
            text = max(texts, key=lambda text: len(self.tokenizer(text, verbose=False).input_ids))
            raise ValueError(
                f"The text {text[:200]!r} takes {longest} tokens, but the text tower has {positions} positions; "
                "shorten the label or the template."
            )
        features = [
            self.model.get_text_features(
                **{name: value[start : start + TEXTS_AT_ONCE].to(self.model.device) for name, value in inputs.items()}
            ).pooler_output
            for start in range(0, len(texts), TEXTS_AT_ONCE)
        ]
        return nn.functional.normalize(torch.cat(features), dim=-1)

    @torch.no_grad()
    def own_classes(self) -> tuple[tuple[str, ...], torch.Tensor]:
        names = self.model.config.id2label
        if not self.model.class_prompts.have_names:
            raise ValueError("The model was not trained on classes; pass `labels`.")

        def embed() -> torch.Tensor:
            return nn.functional.normalize(self.model.get_class_features().pooler_output, dim=-1)

        embeds = self.cache.get("classes", self.text_modules(), embed)
        return tuple(names[index] for index in range(len(embeds))), embeds

    def compare(self, video_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
        return self.model.compare(video_embeds, text_embeds)

    def text_modules(self) -> list[nn.Module]:
        return [self.model.text_model, self.model.text_projection, self.model.class_prompts]


def check_labels(labels: Any, argument: str = "labels") -> tuple[str, ...]:
    """
    Labels to score, as a tuple.

    Raises:
        ValueError: no list of different, non-empty strings. The message names `argument`.
    """
    names = [] if isinstance(labels, str) or not isinstance(labels, Iterable) else list(labels)
    if not names or not all(map(_is_text, names)):
        raise ValueError(f"`{argument}` must be a list of non-empty strings, got {labels!r:.200}.")
    repeated = sorted(label for label, count in Counter(names).items() if count > 1)
    if repeated:
        examples = ", ".join(f"{label!r:.100}" for label in repeated[:5])
        more = f" and {len(repeated) - 5} more" if len(repeated) > 5 else ""
        raise ValueError(f"`{argument}` must differ; these are repeated: {examples}{more}.")
    return tuple(names)


def _is_text(value: Any) -> bool:
    """Whether this is a string that is not empty and that a tokenizer takes: it has no half of a surrogate pair."""
    return isinstance(value, str) and bool(value.strip()) and not re.search("[\ud800-\udfff]", value)


def label_texts(labels: Any) -> tuple[tuple[str, ...], ...]:
    """
    The texts of each label: of a table from label to texts, or the label itself.

    Raises:
        ValueError: a label without texts, or texts that are not non-empty strings.
    """
    if not isinstance(labels, Mapping) or all(texts is None for texts in labels.values()):
        return tuple((label,) for label in labels)
    all_texts = []
    for label, texts in labels.items():
        texts = tuple(texts) if isinstance(texts, Iterable) and not isinstance(texts, str) else (texts,)
        if not texts or not all(map(_is_text, texts)):
            raise ValueError(
                f"The texts of {label!r:.200} must be non-empty strings, at least one, got {texts!r:.200}."
            )
        all_texts.append(texts)
    return tuple(all_texts)


def check_templates(templates: Any, argument: str = "templates") -> tuple[str, ...]:
    """
    One template or several, as a tuple.

    Raises:
        ValueError: a template without `{}`, or none at all. The message names `argument`.
    """
    templates = (templates,) if isinstance(templates, str) else tuple(templates)
    wrong = [template for template in templates if not _is_text(template) or "{}" not in template]
    if wrong or not templates:
        raise ValueError(f"`{argument}` needs `{{}}` where the label goes, got {wrong or templates!r:.200}.")
    return templates


__all__ = ["VideoEncoder", "VitaClipEncoder"]
