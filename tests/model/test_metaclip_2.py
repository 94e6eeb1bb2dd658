"""MetaCLIP 2, a multilingual CLIP with another tokenizer, as the backbone."""

import pytest
import torch
from tiny_models import SIZE, on_clip, set_classes
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import MetaClip2Config, MetaClip2Model, XLMRobertaTokenizer

from vitaclip_hf import VitaClipForVideoClassification, load_checkpoint
from vitaclip_hf.conversion.convert_clip import convert_clip


TEXTS = ["archery", "tai chi", "Bogenschießen", "太極拳", "tir à l'arc", "jumping jacks", "Hampelmann"]
TEXTS += ["pratiquer le tai-chi"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


@pytest.fixture(scope="module")
def tokenizer():
    """A small XLM-RoBERTa tokenizer: sentence pieces, `</s>` is token 2."""
    pieces = Tokenizer(models.Unigram())
    pieces.normalizer = normalizers.NFKC()
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=SPECIAL, unk_token="<unk>")
    pieces.train_from_iterator([f"{text}." for text in TEXTS], trainer)
    vocabulary = sorted(pieces.get_vocab().items(), key=lambda entry: entry[1])
    return XLMRobertaTokenizer(vocab=[(piece, 0.0 if piece in SPECIAL else -2.0) for piece, _ in vocabulary])


@pytest.fixture(scope="module")
def stock(tokenizer):
    torch.manual_seed(2)
    vision = SIZE | {"hidden_size": 48, "image_size": 32, "patch_size": 8}
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    text = SIZE | {"hidden_size": 32, "vocab_size": len(tokenizer), "max_position_embeddings": 40} | ids
    return MetaClip2Model(MetaClip2Config(vision_config=vision, text_config=text, projection_dim=24)).eval()


@pytest.fixture(scope="module")
def folder(stock, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("metaclip")
    stock.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_frames_are_metaclips_own_when_the_prompts_are_off(stock, folder):
    model = on_clip(folder).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = model.get_image_features(images, use_prompts=False).pooler_output
        assert torch.equal(features, stock.get_image_features(images).pooler_output)


def test_classes_in_several_languages_end_at_their_own_end_token(folder, tokenizer):
    model = on_clip(folder, VitaClipForVideoClassification).eval()
    set_classes(model, TEXTS, tokenizer)
    lengths = [len(tokenizer(f"{name}.", add_special_tokens=False).input_ids) + 2 + 16 for name in TEXTS]
    assert model.class_prompts.lengths == (min(lengths), max(lengths))
    assert (model.class_prompts.class_input_ids == 2).sum(1).tolist() == [1] * len(TEXTS)
    with torch.no_grad():
        scores = model(torch.randn(2, 8, 3, 32, 32)).logits
    assert scores.shape == (2, len(TEXTS)) and torch.isfinite(scores).all()


def test_one_loader_and_a_conversion(folder, stock, tokenizer, tmp_path):
    checkpoint = load_checkpoint(folder, accept_clip=True)
    assert checkpoint.kind == "clip" and checkpoint.model.config.text_config.pool_first_eos
    classes = tmp_path / "classes.txt"
    classes.write_text("archery\n太極拳\n", encoding="utf-8")
    convert_clip(folder, tmp_path / "converted", classes=classes, tokenizer=str(folder))
    converted = load_checkpoint(tmp_path / "converted")
    assert converted.kind == "vita-clip" and type(converted.processor.tokenizer) is type(tokenizer)
    assert converted.model.config.id2label == {0: "archery", 1: "太極拳"}
    texts = converted.processor(text=TEXTS, return_tensors="pt")
    with torch.no_grad():
        expected = stock.get_text_features(**texts).pooler_output
        assert torch.equal(converted.model.get_text_features(**texts).pooler_output, expected)
    theirs, ours = stock.state_dict(), converted.model.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
