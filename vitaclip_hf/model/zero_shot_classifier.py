"""Class embeddings from labels and templates, and scores from several views: the one way to score in this package."""

import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn


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
    if not given or not all(isinstance(label, str) and label.strip() for label in given):
        raise ValueError(f"`{argument}` must be a list of non-empty strings, got {labels!r:.200}.")
    repeated = sorted(label for label, count in Counter(given).items() if count > 1)
    if repeated:
        raise ValueError(f"`{argument}` must differ; these are repeated: {', '.join(map(repr, repeated))}.")
    return tuple(given)


def checked_templates(templates: Any, argument: str = "hypothesis_template") -> tuple[str, ...]:
    """
    One template or several, as a tuple.

    Raises:
        ValueError: a template without `{}`, or none at all. The message names `argument`.
    """
    templates = (templates,) if isinstance(templates, str) else tuple(templates)
    wrong = [template for template in templates if not isinstance(template, str) or "{}" not in template]
    if wrong or not templates:
        raise ValueError(f"`{argument}` needs `{{}}` where the label goes, got {wrong or templates!r:.200}.")
    return templates


@torch.no_grad()
def build_zero_shot_classifier(
    model: Any, tokenizer: Any, labels: Sequence[str], templates: Sequence[str] = ("{}",)
) -> torch.Tensor:
    """
    The class embeddings of labels, through the plain text tower.

    The normalised embeddings of a label's sentences are averaged over the templates and normalised again. The model
    keeps them until one of its text weights changes.

    Args:
        model ([`VitaClipModel`]): a model in evaluation.
        tokenizer: the model's.
        labels (`Sequence[str]`): the labels to score.
        templates (`Sequence[str]`, defaults to `("{}",)`): sentences with `{}` for the label.

    Returns:
        `torch.Tensor` of shape `(num_labels, projection_dim)`, normalised.

    Raises:
        ValueError: a sentence is too long for the text tower.
    """

    def embed() -> torch.Tensor:
        embeds = []
        for template in templates:
            texts = label_texts(labels, template)
            inputs = tokenizer(texts, padding=True, return_tensors="pt", verbose=False)
            _check_length(model, tokenizer, texts, inputs["input_ids"])
            features = model.get_text_features(**inputs.to(model.device)).pooler_output
            embeds.append(nn.functional.normalize(features, dim=-1))
        return nn.functional.normalize(torch.stack(embeds).mean(0), dim=-1)

    key = ("labels", tuple(labels), tuple(templates), weakref.ref(tokenizer))
    return model.text_embedding_cache.get(key, model.text_side_modules(), embed)


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
def embed_views(model: Any, pixel_values_videos: torch.Tensor) -> torch.Tensor:
    """
    Normalised video features of every view.

    Args:
        model ([`VitaClipModel`]): a model in evaluation.
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_views, num_frames, 3, height, width)`):
            All views of each video.

    Returns:
        `torch.Tensor` of shape `(batch_size * num_views, projection_dim)`.
    """
    pixels = pixel_values_videos.to(model.device, model.dtype).flatten(0, 1)
    features = model.get_video_features(pixels, class_tokens_only=True).pooler_output
    return nn.functional.normalize(features, dim=-1)
