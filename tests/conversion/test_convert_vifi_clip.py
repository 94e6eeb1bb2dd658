"""A ViFi-CLIP file as a CLIP folder: features as open_clip computes them from the same weights."""

import pytest
import torch
from test_convert_clip import IDS, letters, open_clip_model, stock_clip  # noqa: F401  a fixture
from transformers import CLIPImageProcessor, CLIPProcessor, CLIPTokenizer

from vitaclip_hf import load_checkpoint
from vitaclip_hf.cli.main import main


@pytest.fixture
def base(tmp_path, letters):  # noqa: F811
    model = stock_clip()
    model.config.text_config.update({"max_position_embeddings": 20, "num_hidden_layers": 3, "eos_token_id": 513})
    model.config.vision_config.update({"intermediate_size": 96})
    model = type(model)(model.config)
    model.save_pretrained(tmp_path / "base")
    CLIPProcessor(CLIPImageProcessor(), CLIPTokenizer.from_pretrained(letters)).save_pretrained(tmp_path / "base")
    return model


def vifi_weights(original) -> dict[str, torch.Tensor]:
    """What the released code saves: no token embedding, and the tokens of its training classes."""
    names = {"visual.": "image_encoder.", "logit_scale": "logit_scale"}
    weights = {"prompt_learner.complete_text_embeddings": torch.zeros(400, 20, 32)}
    for name, tensor in original.state_dict().items():
        start = next((start for start in names if name.startswith(start)), "")
        if name not in ("token_embedding.weight", "attn_mask"):
            weights["module." + names.get(start, "text_encoder.") + name[len(start) :]] = tensor
    return weights


def test_features_are_those_of_the_weights_and_the_base_token_embedding(tmp_path, base, capsys):
    original = open_clip_model()
    torch.save({"model": vifi_weights(original)}, tmp_path / "vifi.pth")
    command = ["convert", "vifi", str(tmp_path / "vifi.pth"), "--output", str(tmp_path / "out")]
    assert main([*command, "--base", str(tmp_path / "base")]) == 0
    loaded = load_checkpoint(tmp_path / "out")
    with torch.no_grad():
        original.token_embedding.weight.copy_(base.text_model.embeddings.token_embedding.weight)
        images = torch.randn(2, 3, 32, 32)
        expected = original.encode_image(images)
        torch.testing.assert_close(
            loaded.model.get_image_features(images).pooler_output, expected, atol=1e-5, rtol=1e-4
        )
        ids = torch.nn.functional.pad(IDS, (0, 20 - IDS.shape[1]))
        expected = original.encode_text(ids)
        torch.testing.assert_close(loaded.model.get_text_features(ids).pooler_output, expected, atol=1e-5, rtol=1e-4)
    assert loaded.encoder().embed_dim == 24
    assert main([*command, "--base", str(tmp_path / "base")]) == 2  # the folder is there


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_other_files_are_refused(tmp_path, base, capsys, change):
    weights = vifi_weights(open_clip_model())
    name = "module.image_encoder.ln_post.weight"
    if change == "missing":
        del weights[name]
    elif change == "unknown":
        weights["module.image_encoder.VPT"] = torch.zeros(10, 48)
    else:
        weights[name] = torch.ones(7)
    torch.save({"model": weights}, tmp_path / "vifi.pth")
    command = ["convert", "vifi", str(tmp_path / "vifi.pth"), "--output", str(tmp_path / "out")]
    assert main([*command, "--base", str(tmp_path / "base")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert ("VPT" if change == "unknown" else "post_layernorm.weight") in error and not (tmp_path / "out").exists()
