"""Where a model looks: values against computations by hand, and against objects at known places."""

import json
from pathlib import Path
from unittest.mock import Mock

import evaluate_relevance
import pytest
import torch
from make_world_videos import SAMPLES
from tiny_models import tiny_model
from torch import nn
from world import trajectories

from vitaclip_hf.cli.main import main
from vitaclip_hf.library import relevance as relevance_module
from vitaclip_hf.library.relevance import (
    KINDS_OF_TOKENS,
    attention_of_class_tokens,
    explain,
    integrated_gradients,
    leave_one_out,
)
from vitaclip_hf.library.relevance_picture import BARS_HEIGHT, draw_relevance


DEMO = Path(__file__).parents[2] / "examples" / "demo"
VIDEO = DEMO / "videos" / "rocket_rising.mp4"
LABEL = "rocket rising"


@pytest.fixture(scope="module")
def explained(checkpoint):
    return explain(checkpoint, VIDEO, LABEL)


def random_clip(frames: int = 4, seed: int = 3) -> torch.Tensor:
    return torch.randn(frames, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def random_embed(seed: int = 5) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(24, generator=torch.Generator().manual_seed(seed)), dim=0)


def cosine(model, clip: torch.Tensor, embed: torch.Tensor) -> torch.Tensor:
    feature = model.get_video_features(clip[None]).pooler_output[0]
    return (feature @ embed) / (feature.norm() * embed.norm())


# Frames


@torch.no_grad()
def test_leave_one_out_by_hand():
    model, clip, embed = tiny_model(), random_clip(), random_embed()
    whole = cosine(model, clip, embed)
    instead = [[1, 1, 2, 3], [0, 0, 2, 3], [0, 1, 1, 3], [0, 1, 2, 2]]
    expected = [whole - cosine(model, clip[numbers], embed) for numbers in instead]
    assert torch.allclose(leave_one_out(model, clip, embed), torch.stack(expected), atol=1e-6)


def test_a_single_frame_cannot_be_left_out():
    assert leave_one_out(tiny_model(), random_clip(1), random_embed()).tolist() == [0]


# Patches


def test_integrated_gradients_add_up_to_what_the_cosine_gains(monkeypatch):
    """The axiom of completeness (arXiv 1703.01365): they sum to the difference from the plain frames."""
    model, clip, embed = tiny_model(), random_clip(), random_embed()
    monkeypatch.setattr(relevance_module, "normalised", lambda values: values)
    found = integrated_gradients(model, clip, embed, steps=32)
    plain = torch.stack([torch.stack([channel.median() for channel in frame]) for frame in clip])
    plain = plain[:, :, None, None].expand_as(clip)
    with torch.no_grad():
        gain = cosine(model, clip, embed) - cosine(model, plain, embed)
    patch_pixels = 8 * 8
    assert float(found.sum()) * patch_pixels == pytest.approx(float(gain), rel=0.03) and abs(gain) > 1e-4


def test_maps_are_shares_and_leave_the_model_as_it_was():
    model = tiny_model()
    before = model.vision_model.config._attn_implementation
    found = integrated_gradients(model, random_clip(), random_embed())
    attention_of_class_tokens(model, random_clip())
    assert found.shape == (4, 4, 4) and float(found.min()) >= 0 and float(found.sum()) == pytest.approx(1)
    assert model.vision_model.config._attn_implementation == before
    assert all(parameter.grad is None for parameter in model.parameters())


# Attention


@torch.no_grad()
@pytest.mark.parametrize("vision", [{}, {"use_local_prompts": False}, {"num_global_prompts": 0}])
def test_attention_to_each_kind_of_prompt_by_hand(vision):
    """From the queries and keys of each layer."""
    model, clip = tiny_model(vision), random_clip()
    for layer in model.vision_model.encoder.layers:
        if layer.prompts.global_prompts is not None:
            nn.init.normal_(layer.prompts.global_prompts)
    seen = []
    hooks = [
        layer.self_attn.register_forward_pre_hook(lambda module, inputs: seen.append((module, inputs[0][0])))
        for layer in model.vision_model.encoder.layers
    ]
    model.get_video_features(clip[None])
    for hook in hooks:
        hook.remove()
    config = model.config.vision_config
    sizes = {"class token": 1, "patches": 16, "summary": 1}
    sizes |= {"local": 4 * config.use_local_prompts, "global": config.num_global_prompts}
    expected = {kind: torch.zeros(4) for kind in KINDS_OF_TOKENS}
    of_frames = torch.zeros(4, 4)
    for layer, (module, tokens) in zip(model.vision_model.encoder.layers, seen, strict=True):
        parts = dict(zip(sizes, tokens.split([*sizes.values()], dim=1), strict=True))
        if layer.prompts.global_prompts is not None:
            assert torch.allclose(parts["global"], layer.layer_norm1(layer.prompts.global_prompts), atol=1e-6)
        for frame in range(4):
            query = module.q_proj(tokens[frame, 0]).view(4, 12)
            powers = {}
            for kind, part in parts.items():
                keys = module.k_proj(part[frame]).view(-1, 4, 12)
                powers[kind] = torch.einsum("hd,nhd->hn", query, keys / 12**0.5).exp()
            total = sum(power.sum(-1) for power in powers.values())
            for kind, power in powers.items():
                expected[kind][frame] += (power.sum(-1) / total).mean() / len(seen)
            if sizes["local"]:
                of_frames[frame] += (powers["local"] / total[:, None]).mean(0) / len(seen)
    found = attention_of_class_tokens(model, clip)
    assert found["attention"].keys() == expected.keys()
    for kind, values in expected.items():
        assert torch.allclose(found["attention"][kind], values, atol=1e-5), kind
    if sizes["local"]:
        assert torch.allclose(found["attention_to_frames"], of_frames, atol=1e-5)
    else:
        assert found["attention_to_frames"] is None
    assert torch.allclose(found["patch_attention"].sum((1, 2)), expected["patches"], atol=1e-5)


# Everything together


def test_explain_a_video(explained, checkpoint):
    assert (explained.label, explained.frames) == (LABEL, [2, 6, 10, 14, 18, 22, 26, 30])
    assert explained.times == pytest.approx([number / 16 for number in explained.frames])
    assert explained.pictures.shape == (8, 3, 240, 240) and explained.pictures.dtype == torch.uint8
    totals = sum(explained.attention.values())
    assert torch.allclose(totals, torch.ones(8), atol=1e-5)
    inputs = checkpoint.processor(videos=str(VIDEO), text=[LABEL], return_tensors="pt")
    with torch.no_grad():
        outputs = checkpoint.model(**inputs)
    cosine_of_model = (outputs.video_embeds[0] @ outputs.text_embeds[0]).item()  # both are normalised
    assert explained.cosine == pytest.approx(cosine_of_model, abs=1e-4)


def test_without_a_label_the_best_of_its_own_classes(checkpoint):
    found = explain(checkpoint, VIDEO)
    pixels = checkpoint.processor(videos=str(VIDEO), return_tensors="pt")["pixel_values_videos"]
    with torch.no_grad():
        video = checkpoint.model.get_video_features(pixels).pooler_output[0]
        cosines = nn.functional.cosine_similarity(checkpoint.model.get_class_features().pooler_output, video[None])
    assert found.label == checkpoint.model.config.id2label[int(cosines.argmax())]
    assert found.cosine == pytest.approx(float(cosines.max()), abs=1e-4)


def test_picture_shows_what_was_found(explained):
    [axes] = draw_relevance(explained, "clip.mp4").axes
    texts = [text.get_text() for text in axes.texts]
    assert {"clip.mp4", f"Where it looks for “{LABEL}”", "Relevance", "Attention"} <= set(texts)
    assert "0.1 s" in texts and "1.9 s" in texts and len(axes.images) == 24
    bars = {bars.get_label(): [-bar.get_height() for bar in bars] for bars in axes.containers}
    parts = explained.frame_relevance / explained.frame_relevance.abs().max()
    assert bars["part"] == pytest.approx((parts * max(bars["part"]) / parts.max()).tolist(), abs=1e-6)
    for kind in KINDS_OF_TOKENS:
        assert bars[kind] == pytest.approx((BARS_HEIGHT * explained.attention[kind]).tolist(), abs=1e-6)


def test_command_writes_picture_or_numbers(explained, tmp_path, capsys):
    command = ["explain", str(VIDEO), "--model", str(DEMO / "checkpoint"), "--label", LABEL, "--output"]
    assert main([*command, str(tmp_path / "grid.png")]) == main([*command, str(tmp_path / "grid.json")]) == 0
    most = explained.frames[int(explained.frame_relevance.argmax())]
    assert f"{LABEL}: cosine {explained.cosine:.3f}; frame {most} adds most; " in capsys.readouterr().out
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((tmp_path / "grid.json").read_text())
    assert written["frames"] == explained.frames
    assert torch.allclose(torch.tensor(written["patch_relevance"]), explained.patch_relevance, atol=1e-5)
    parts = ["--label", LABEL.split()[0], "--template", "{} " + LABEL.partition(" ")[2]]
    assert main([*command[:4], *parts, "--output", str(tmp_path / "parts.json")]) == 0
    assert json.loads((tmp_path / "parts.json").read_text())["frame_relevance"] == written["frame_relevance"]


def test_a_template_without_a_label_and_a_full_memory(refused, tmp_path, monkeypatch):
    command = ("explain", VIDEO, "--model", DEMO / "checkpoint", "--output", tmp_path / "a.json")
    assert "--template is for --label" in refused(*command, "--template", "a {}")
    monkeypatch.setattr(relevance_module, "explain", Mock(side_effect=torch.OutOfMemoryError("CUDA")))
    assert "out of memory" in (message := refused(*command)) and "batch" not in message


# Objects at known places


def test_relevance_of_a_sample_video_lies_on_its_object(explained, world):
    generator = torch.Generator().manual_seed(2026)  # as they were drawn
    world.sample([scene.thing for scene in SAMPLES], generator)
    poses = trajectories([scene.motion for scene in SAMPLES], evaluate_relevance.TIMES, generator).at(explained.frames)
    box = evaluate_relevance.boxes(poses)[[scene.label for scene in SAMPLES].index(LABEL)]
    inside = evaluate_relevance.in_grid(box, *explained.patch_relevance.shape[1:])
    assert float((explained.patch_relevance * inside).sum()) > 0.6 > 0.31 > float(inside.mean())


@pytest.mark.slow
@pytest.mark.parametrize("question", ["one_object", "two_objects", "frames_of_two_videos"])
def test_measurement_of_few_videos(question):
    judge = evaluate_relevance.Judge(str(DEMO / "checkpoint"))
    values = getattr(evaluate_relevance, question)(judge, count=2, seed=11)
    assert values and all(len(of_videos) == 2 for of_videos in values.values())
