"""Several texts for a label and blended features, against the same by hand."""

import pytest
import torch
from tiny_models import tiny_model
from torch.nn.functional import normalize

from vitaclip_hf.model import zero_shot_classifier
from vitaclip_hf.model.zero_shot_classifier import (
    blend_features,
    build_zero_shot_classifier,
    checked_labels,
    checked_templates,
    embed_views,
    label_descriptions,
)


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(tokenizer=tokenizer).eval()


def one_text(model, tokenizer, text: str) -> torch.Tensor:
    features = model.get_text_features(**tokenizer([text], return_tensors="pt")).pooler_output
    return normalize(features, dim=-1)[0]


@torch.no_grad()
def test_texts_of_a_label_are_averaged(model, tokenizer):
    labels = {"run": ["a person runs", "fast legs"], "walk": "slow steps", "clap": ("two hands", "hands meet", "noise")}
    found = build_zero_shot_classifier(model, tokenizer, labels, ["{}", "a video of {}."])
    texts = [["a person runs", "fast legs"], ["slow steps"], ["two hands", "hands meet", "noise"]]
    for row, of_label in zip(found, texts, strict=True):
        sentences = [sentence for text in of_label for sentence in (text, f"a video of {text}.")]
        by_hand = torch.stack([one_text(model, tokenizer, sentence) for sentence in sentences]).mean(0)
        torch.testing.assert_close(row, normalize(by_hand, dim=-1), atol=1e-5, rtol=0)
    names = build_zero_shot_classifier(model, tokenizer, ["run", "walk"])
    same = build_zero_shot_classifier(model, tokenizer, {"run": ["run"], "walk": ["walk"]})
    torch.testing.assert_close(same, names)
    other = build_zero_shot_classifier(model, tokenizer, {"run": ["walk"], "walk": ["run"]})
    torch.testing.assert_close(other, names.flip(0))  # the same labels with other texts are not taken from the cache


def test_labels_with_texts_are_checked():
    assert checked_labels({"run": ["a"], "walk": ["b"]}) == ("run", "walk")
    assert label_descriptions(["run"]) is None
    for wrong in ({"run": []}, {"run": [""]}, {"run": [3]}, {"run": ["a\ud800"]}):
        with pytest.raises(ValueError, match="The texts of 'run' must be non-empty strings"):
            label_descriptions(wrong)


def test_half_a_surrogate_pair_is_no_text():
    """The tokenizer's own error names neither argument nor text."""
    with pytest.raises(ValueError, match="`candidate_labels` must be a list of non-empty strings"):
        checked_labels(["run", "\ud83d"])
    with pytest.raises(ValueError, match="`hypothesis_template` needs"):
        checked_templates("{} \udfff")


def test_many_repeated_labels_make_a_short_message():
    with pytest.raises(ValueError, match="'label 0.*and 995 more") as error:
        checked_labels([f"label {number:06d}" + "x" * 1000 for number in range(1000)] * 2)
    assert len(str(error.value)) < 1000


def test_many_texts_are_read_in_parts(model, tokenizer, monkeypatch):
    labels = [f"label {number}" for number in range(11)]
    expected = build_zero_shot_classifier(model, tokenizer, labels)
    sizes = []
    original = model.get_text_features
    monkeypatch.setattr(
        model, "get_text_features", lambda **ids: sizes.append(len(ids["input_ids"])) or original(**ids)
    )
    monkeypatch.setattr(zero_shot_classifier, "TEXTS_AT_ONCE", 4)
    model.text_embedding_cache.clear()
    torch.testing.assert_close(build_zero_shot_classifier(model, tokenizer, labels), expected)
    assert sizes == [4, 4, 3]


@torch.no_grad()
def test_blend_mixes_normalised_features(model):
    pixels = torch.randn(2, 2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(4))  # [B, views, T, 3, H, W]
    prompted = normalize(model.get_video_features(pixels.flatten(0, 1)).pooler_output, dim=-1)
    with model.prompts_disabled():
        plain = normalize(model.get_video_features(pixels.flatten(0, 1)).pooler_output, dim=-1)
    assert not torch.allclose(prompted, plain, atol=1e-3)
    mixed = 0.7 * prompted + 0.3 * plain
    expected = mixed / mixed.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(embed_views(model, pixels, 0.3), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(embed_views(model, pixels, 1.0), plain, atol=1e-5, rtol=0)
    assert torch.equal(embed_views(model, pixels, 0), embed_views(model, pixels))
    corner = blend_features(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
    torch.testing.assert_close(corner, torch.tensor([[0.5**0.5, 0.5**0.5]]))
    for wrong in (-0.1, 1.1, float("nan"), "half"):
        with pytest.raises(ValueError, match="`blend` must be a number from 0"):
            embed_views(model, pixels, wrong)
