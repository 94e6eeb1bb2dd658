"""Class embeddings from labels and templates, and scores from several views: the one way to score in this package."""

import re
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .text_embedding_cache import TextEmbeddingCache


LABEL_CACHES: weakref.WeakKeyDictionary[nn.Module, TextEmbeddingCache] = weakref.WeakKeyDictionary()
TEXTS_AT_ONCE = 1024  # of a forward pass of the text tower, whose memory grows with them


def label_texts(labels: Sequence[str], template: str) -> list[str]:
    """The sentences of one template; underscores in labels become spaces."""
    return [template.replace("{}", label.replace("_", " ")) for label in labels]


def checked_labels(labels: Any, argument: str = "candidate_labels") -> tuple[str, ...]:
    """
    Labels to score, as a tuple.

    Raises:
        ValueError: no list of different, non-empty strings. The message names `argument`.
    """
    given = [] if isinstance(labels, str) or not isinstance(labels, Iterable) else list(labels)
    if not given or not all(map(_is_text, given)):
        raise ValueError(f"`{argument}` must be a list of non-empty strings, got {labels!r:.200}.")
    repeated = sorted(label for label, count in Counter(given).items() if count > 1)
    if repeated:
        shown = ", ".join(f"{label!r:.100}" for label in repeated[:5])
        more = f" and {len(repeated) - 5} more" if len(repeated) > 5 else ""
        raise ValueError(f"`{argument}` must differ; these are repeated: {shown}{more}.")
    return tuple(given)


def _is_text(value: Any) -> bool:
    """Whether this is a string that is not empty and that a tokenizer takes: it has no half of a surrogate pair."""
    return isinstance(value, str) and bool(value.strip()) and not re.search("[\ud800-\udfff]", value)


def label_descriptions(labels: Any) -> dict[str, tuple[str, ...]] | None:
    """
    Several texts for each label, of a table from label to texts; `None` if labels are names only.

    Raises:
        ValueError: a label without texts, or texts that are no non-empty strings.
    """
    if not isinstance(labels, Mapping) or all(texts is None for texts in labels.values()):
        return None
    found = {
        label: tuple(texts) if isinstance(texts, Iterable) and not isinstance(texts, str) else (texts,)
        for label, texts in labels.items()
    }
    for label, texts in found.items():
        if not texts or not all(map(_is_text, texts)):
            raise ValueError(
                f"The texts of {label!r:.200} must be non-empty strings, at least one, got {texts!r:.200}."
            )
    return found


def checked_templates(templates: Any, argument: str = "hypothesis_template") -> tuple[str, ...]:
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


@torch.no_grad()
def build_zero_shot_classifier(
    model: Any,
    tokenizer: Any,
    labels: Sequence[str] | Mapping[str, Sequence[str]],
    templates: Sequence[str] = ("{}",),
) -> torch.Tensor:
    """
    The class embeddings of labels, through the plain text tower.

    The normalised embeddings of a label's sentences are averaged over the templates and normalised again. The model
    keeps them until one of its text weights changes.

    Args:
        model ([`VitaClipModel`]): a model in evaluation.
        tokenizer: the model's.
        labels (`Sequence[str]` or `Mapping[str, Sequence[str]]`): the labels to score, or several texts for each label.
            The embeddings of a label's texts are averaged too, as class descriptions are in FROSTER (arXiv 2402.03241)
            and OST (arXiv 2312.00096).
        templates (`Sequence[str]`, defaults to `("{}",)`): sentences with `{}` for the label or its text.

    Returns:
        `torch.Tensor` of shape `(num_labels, projection_dim)`, normalised.

    Raises:
        ValueError: a sentence is too long for the text tower, or a label has no texts.
    """
    descriptions = label_descriptions(labels)
    flat = list(labels) if descriptions is None else [text for texts in descriptions.values() for text in texts]

    def embed() -> torch.Tensor:
        embeds = []
        for template in templates:
            texts = label_texts(flat, template)
            inputs = tokenizer(texts, padding=True, return_tensors="pt", verbose=False)
            _check_length(model, tokenizer, texts, inputs["input_ids"])
            features = []
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                part = {name: value[start : start + TEXTS_AT_ONCE].to(model.device) for name, value in inputs.items()}
                features.append(model.get_text_features(**part).pooler_output)
            embeds.append(nn.functional.normalize(torch.cat(features), dim=-1))
        averaged = torch.stack(embeds).mean(0)
        if descriptions is not None:
            of_labels = averaged.split([len(texts) for texts in descriptions.values()])
            averaged = torch.stack([texts.mean(0) for texts in of_labels])
        return nn.functional.normalize(averaged, dim=-1)

    given = tuple(labels) if descriptions is None else tuple(descriptions.items())
    key = ("labels", given, tuple(templates), weakref.ref(tokenizer))
    return LABEL_CACHES.setdefault(model, TextEmbeddingCache()).get(
        key, (model.text_model, model.text_projection), embed
    )


def _check_length(model: Any, tokenizer: Any, texts: list[str], input_ids: torch.Tensor) -> None:
    longest = model.config.text_config.max_position_embeddings
    if input_ids.shape[1] > longest:
        text = max(texts, key=lambda text: len(tokenizer(text, verbose=False).input_ids))
        raise ValueError(
            f"The text {text[:200]!r} takes {input_ids.shape[1]} tokens, but the text tower has {longest} positions; "
            "shorten the label or the template."
        )


class ScoreError(ValueError):
    """A model's scores are not numbers; the message says what to do."""


def check_scores(scores: torch.Tensor) -> None:
    """
    Checks scores that are on the CPU; elsewhere that would stop the device.

    Raises:
        ScoreError: some are NaN or infinite.
    """
    if scores.device.type == "cpu" and not scores.isfinite().all():
        raise ScoreError(
            "The model's scores are NaN or infinite. Its weights are damaged, or too large for its number type: fetch "
            "or save the checkpoint again, or load it in float32."
        )


def view_scores(logits: torch.Tensor, num_views: int) -> torch.Tensor:
    """
    Scores of videos from the logits of their views: the softmax over the labels, averaged over the views.

    Args:
        logits (`torch.Tensor` of shape `(batch_size * num_views, num_labels)`): the views of a video beside each other.
        num_views (`int`): views of a video.

    Returns:
        `torch.Tensor` of shape `(batch_size, num_labels)`, float32.
    """
    return logits.float().softmax(-1).unflatten(0, (-1, num_views)).mean(1)


@torch.no_grad()
def score_videos(model: Any, pixel_values_videos: torch.Tensor, class_embeds: torch.Tensor) -> torch.Tensor:
    """
    Scores of videos for labels.

    Args:
        model ([`VitaClipModel`]): a model in evaluation.
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_views, num_frames, 3, height, width)`):
            All views of each video.
        class_embeds (`torch.Tensor` of shape `(num_labels, projection_dim)`): of [`build_zero_shot_classifier`].

    Returns:
        `torch.Tensor` of shape `(batch_size, num_labels)`, float32.

    Raises:
        ScoreError: some scores are NaN or infinite (of a model on the CPU; call [`check_scores`] once they are there).
    """
    logits = model.compare(embed_views(model, pixel_values_videos), class_embeds)
    scores = view_scores(logits, pixel_values_videos.shape[1])
    check_scores(scores)
    return scores


@torch.no_grad()
def embed_views(model: Any, pixel_values_videos: torch.Tensor, blend: float = 0.0) -> torch.Tensor:
    """
    Normalised video features of every view.

    A blend mixes in the features of the frozen CLIP. Open-VCLIP (arXiv 2302.00624) and WiSE-FT (arXiv 2109.01903)
    interpolate weights between a fine-tuned model and CLIP; with a frozen CLIP there are only features to interpolate.

    Args:
        model ([`VitaClipModel`]): a model in evaluation.
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_views, num_frames, 3, height, width)`):
            All views of each video.
        blend (`float`, defaults to 0): weight of the frozen CLIP's features, 0 to 1. It costs a second forward pass.

    Returns:
        `torch.Tensor` of shape `(batch_size * num_views, projection_dim)`.

    Raises:
        ValueError: a blend outside 0 … 1.
    """
    checked_blend(blend)
    pixels = pixel_values_videos.to(model.device, model.dtype).flatten(0, 1)
    features = model.get_video_features(pixels, class_tokens_only=True).pooler_output
    features = nn.functional.normalize(features, dim=-1)
    if not blend:
        return features
    plain = model.get_video_features(pixels, use_prompts=False).pooler_output
    return blend_features(features, nn.functional.normalize(plain, dim=-1), blend)


def blend_features(prompted: torch.Tensor, plain: torch.Tensor, blend: float) -> torch.Tensor:
    """`(1 - blend) * prompted + blend * plain`, normalised again; both are normalised, one row a video."""
    return nn.functional.normalize(torch.lerp(prompted, plain, blend), dim=-1)


def checked_blend(blend: float) -> float:
    """
    Raises:
        ValueError: a blend outside 0 … 1.
    """
    if isinstance(blend, bool) or not isinstance(blend, (int, float)) or not 0 <= blend <= 1:
        raise ValueError(f"`blend` must be a number from 0 (prompted) to 1 (plain CLIP), got {blend!r:.100}.")
    return blend
