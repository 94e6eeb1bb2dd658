"""Several texts for a label and blended features, against the same by hand."""

import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny_models import tiny_model
from torch.nn.functional import normalize

from vitaclip_hf import VitaClipVideoProcessor
from vitaclip_hf.model import encoder as module
from vitaclip_hf.model.encoder import VitaClipEncoder, check_labels, check_templates
from vitaclip_hf.model.scorer import Scorer
from vitaclip_hf.model.text_embedding_cache import TextEmbeddingCache


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return VitaClipEncoder(tiny_model(tokenizer=tokenizer).eval(), tokenizer, VitaClipVideoProcessor())


def one_text(encoder, text: str) -> torch.Tensor:
    features = encoder.model.get_text_features(**encoder.tokenizer([text], return_tensors="pt")).pooler_output
    return normalize(features, dim=-1)[0]


@torch.no_grad()
def test_texts_of_a_label_are_averaged(encoder):
    labels = {"run": ["a person runs", "fast legs"], "walk": "slow steps", "clap": ("two hands", "hands meet", "noise")}
    found = encoder.class_embeds(labels, ["{}", "a video of {}."])[1]
    texts = [["a person runs", "fast legs"], ["slow steps"], ["two hands", "hands meet", "noise"]]
    for row, of_label in zip(found, texts, strict=True):
        sentences = [sentence for text in of_label for sentence in (text, f"a video of {text}.")]
        by_hand = torch.stack([one_text(encoder, sentence) for sentence in sentences]).mean(0)
        torch.testing.assert_close(row, normalize(by_hand, dim=-1), atol=1e-5, rtol=0)
    names = encoder.class_embeds(["run", "walk"])[1]
    other = encoder.class_embeds({"run": ["walk"], "walk": ["run"]})[1]
    torch.testing.assert_close(other, names.flip(0))  # the same labels with other texts are not taken from the cache


def test_labels_with_texts_are_checked():
    assert check_labels({"run": ["a", "b"], "walk": "c"}) == {"run": ("a", "b"), "walk": ("c",)}
    assert check_labels(["run"]) == check_labels({"run": None}) == {"run": ("run",)}
    for wrong in ({"run": []}, {"run": [""]}, {"run": [3]}, {"run": ["a\ud800"]}):
        with pytest.raises(ValueError, match="The texts of 'run' must be non-empty strings"):
            check_labels(wrong)
    # Half a surrogate pair: the tokenizer's own error names neither argument nor text.
    with pytest.raises(ValueError, match="`labels` must be a list of non-empty strings"):
        check_labels(["run", "\ud83d"])
    with pytest.raises(ValueError, match="`templates` needs"):
        check_templates("{} \udfff")
    with pytest.raises(ValueError, match="1,000 repeated: 'label 0") as error:
        check_labels([f"label {number:06d}" + "x" * 1000 for number in range(1000)] * 2)
    assert len(str(error.value)) < 1000


def test_many_texts_are_read_in_parts(encoder, monkeypatch):
    labels = [f"label {number}" for number in range(11)]
    expected = encoder.class_embeds(labels)[1]
    sizes = []
    original = encoder.model.get_text_features
    monkeypatch.setattr(
        encoder.model, "get_text_features", lambda **ids: sizes.append(len(ids["input_ids"])) or original(**ids)
    )
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", 4)
    encoder.cache.clear()
    torch.testing.assert_close(encoder.class_embeds(labels)[1], expected)
    assert sizes == [4, 4, 3]


@torch.no_grad()
def test_blend_mixes_normalised_features(encoder):
    pixels = torch.randn(2, 2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(4))  # [B, views, T, 3, H, W]
    features = encoder.model.get_video_features
    prompted = normalize(features(pixels.flatten(0, 1)).pooler_output, dim=-1).unflatten(0, (2, 2))
    plain = normalize(features(pixels.flatten(0, 1), use_prompts=False).pooler_output, dim=-1).unflatten(0, (2, 2))
    assert not torch.allclose(prompted, plain, atol=1e-3)
    mixed = 0.7 * prompted + 0.3 * plain
    expected = mixed / mixed.norm(dim=-1, keepdim=True)
    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(replace(encoder, blend=0.3).video_features(pixels), expected, **close)
    for alone in ({"blend": 1.0}, {"use_prompts": False}):
        torch.testing.assert_close(replace(encoder, **alone).video_features(pixels), plain, **close)
    torch.testing.assert_close(encoder.video_features(pixels), prompted, **close)
    for wrong in (-0.1, 1.1, float("nan"), "half"):
        with pytest.raises(ValueError, match="`blend` must be a number from 0"):
            replace(encoder, blend=wrong)


@torch.no_grad()
def test_cosines_by_hand(encoder):
    pixels = torch.randn(2, 3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    cosines = Scorer(encoder, ["run", "walk"]).score(pixels).cosines
    texts = torch.stack([one_text(encoder, text) for text in ("run", "walk")])
    expected = normalize(encoder.model.get_video_features(pixels.flatten(0, 1)).pooler_output, dim=-1) @ texts.T
    torch.testing.assert_close(cosines, expected.unflatten(0, (2, 3)).mean(1), atol=1e-5, rtol=0)


def test_scores_of_a_bfloat16_model_are_not_rounded_to_ties(encoder):
    half = replace(encoder, model=deepcopy(encoder.model).bfloat16())
    features = half.video_features(torch.randn(1, 1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(6)))
    logits, cosines = half.compare(features, half.class_features([f"label {number}" for number in range(40)])[1])
    torch.testing.assert_close(logits, cosines * half.model.logit_scale.float().exp())


def test_threads_share_kept_embeddings(request):
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    cache, layer = TextEmbeddingCache(), torch.nn.Linear(1, 1)
    with ThreadPoolExecutor(8) as pool:
        numbers = [number % 12 for number in range(20_000)]  # more than are kept
        found = pool.map(lambda number: cache.get(number, [layer], lambda: torch.tensor(number)).item(), numbers)
        assert list(found) == numbers


def test_kept_embeddings_know_the_autocast_type(encoder):
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            kept = encoder.class_embeds(["run", "walk"])[1]
            encoder.cache.clear()
            assert torch.equal(encoder.class_embeds(["run", "walk"])[1], kept)
