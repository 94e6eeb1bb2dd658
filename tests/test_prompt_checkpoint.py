"""Prompts by themselves: switched off, saved alone, and put back on their base."""

import pytest
import torch
from conftest import tiny_model
from transformers import CLIPConfig, CLIPModel

from vitaclip_hf import VitaClipForVideoClassification, VitaClipModel


IDS = torch.tensor([[49406, 320, 1000, 49407], [49406, 7, 49407, 49407]])


def stock_clip(patch: int = 8, activation: str = "quick_gelu", seed: int = 3) -> CLIPModel:
    torch.manual_seed(seed)
    size = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": activation}
    vision = size | {"hidden_size": 48, "image_size": 32, "patch_size": patch}
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=size | {"hidden_size": 32}, projection_dim=24)).eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    stock_clip().save_pretrained(folder)
    return folder


def videos(batch: int = 2, frames: int = 5) -> torch.Tensor:
    return torch.randn(batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def scrambled(model):
    """A model whose prompts all do something, as after a training; the backbone stays."""
    generator = torch.Generator().manual_seed(7)
    clip = set(stock_clip().state_dict()) - {"logit_scale"}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in clip:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_prompts_off_is_clip_to_the_bit(tmp_path, attention, activation):
    stock_clip(activation=activation).save_pretrained(tmp_path)
    clip = CLIPModel.from_pretrained(tmp_path, attn_implementation=attention).eval()
    model = scrambled(VitaClipModel.from_pretrained(tmp_path, attn_implementation=attention).eval())
    pixels = videos()
    with torch.no_grad():
        frames = clip.get_image_features(pixels.flatten(0, 1)).pooler_output.unflatten(0, (2, 5))
        on = model.get_video_features(pixels).pooler_output
        with model.prompts_disabled():
            off = model.get_video_features(pixels).pooler_output
            texts = model(pixels, input_ids=IDS).text_embeds
        assert torch.equal(off, frames.mean(1))
        assert torch.equal(texts, torch.nn.functional.normalize(clip.get_text_features(IDS).pooler_output, dim=-1))
        assert torch.equal(model.get_video_features(pixels).pooler_output, on)
    assert (on - off).abs().max() > 1e-3


def test_prompts_come_back_after_nesting_and_errors(base):
    model = scrambled(VitaClipModel.from_pretrained(base).eval())
    pixels = videos()
    with torch.no_grad():
        on = model.get_video_features(pixels).pooler_output
        with pytest.raises(KeyError), model.prompts_disabled():
            with model.vision_model.prompts_disabled():
                off = model.get_video_features(pixels).pooler_output
            assert torch.equal(model.get_video_features(pixels).pooler_output, off)
            raise KeyError
        assert torch.equal(model.get_video_features(pixels).pooler_output, on)
        assert not torch.equal(on, off)


def test_learned_classes_without_prompts_are_an_error(tokenizer):
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification)
    with torch.no_grad():
        logits = model(videos()).logits  # fills the cache of class features
        with model.prompts_disabled(), pytest.raises(ValueError, match="no learned classes.*input_ids"):
            model(videos())
        assert torch.equal(model(videos()).logits, logits)
