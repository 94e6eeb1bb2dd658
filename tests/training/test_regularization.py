"""Distillation from the frozen CLIP and the penalty on contexts, against the same by hand."""

import pytest
import torch
from tiny_models import tiny_model
from torch.nn.functional import normalize

from vitaclip_hf import VitaClipForVideoClassification
from vitaclip_hf.model.modeling_vita_clip import classification_loss
from vitaclip_hf.training.class_embeds_of_step import ClassEmbedsOfStep


NAMES = ("left", "growing slowly", "blinking")


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(5)
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification).eval()
    model.set_classes(list(NAMES), tokenizer)
    model.freeze_backbone()
    return model


def pixels() -> torch.Tensor:
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(6))


def distance(model) -> torch.Tensor:
    """Mean over videos of |student - teacher|^2, which is 2 - 2 cos for normalised features."""
    student = normalize(model.get_video_features(pixels()).pooler_output, dim=-1)
    with torch.no_grad(), model.prompts_disabled():
        teacher = normalize(model.get_video_features(pixels()).pooler_output, dim=-1)
    return (2 - 2 * (student * teacher).sum(-1)).mean()


def test_distillation_by_hand(model):
    labels = torch.tensor([2, 0])
    plain = model(pixels(), labels=labels)
    found = model(pixels(), labels=labels, distillation_weight=2.0)
    assert distance(model) > 1e-3
    torch.testing.assert_close(found.loss, plain.loss + 2 * distance(model))
    assert torch.equal(found.logits, plain.logits)
    found.loss.backward()
    gradients = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    model.zero_grad()
    (classification_loss(model(pixels()).logits, labels) + 2 * distance(model)).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4)
        else:
            assert parameter.grad is None


def test_plain_names_are_the_prompts_without_contexts(model, tokenizer):
    texts = [f"{name}." for name in NAMES]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = normalize(model.get_text_features(**inputs).pooler_output, dim=-1)
    torch.testing.assert_close(model.get_plain_class_embeds(), expected, atol=1e-5, rtol=0)


def test_penalty_by_hand_and_over_micro_batches(model):
    labels = torch.tensor([2, 0])
    with torch.no_grad():
        far = (2 - 2 * (model.get_class_embeds() * model.get_plain_class_embeds()).sum(-1)).mean()
    whole = model(pixels(), labels=labels, context_penalty=8.0)
    torch.testing.assert_close(whole.loss, model(pixels(), labels=labels).loss + 8 * far)
    options = {"context_penalty": 8.0, "distillation_weight": 2.0, "plain_class_embeds": model.get_plain_class_embeds()}
    model(pixels(), labels=labels, **options).loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    step = ClassEmbedsOfStep(model)  # two micro-batches of one video, as the trainer runs them
    for place in (0, 1):
        some = slice(place, place + 1)
        shared = step.for_micro_batch(is_last=place == 1)
        model(pixels()[some], labels=labels[some], num_items_in_batch=2, class_embeds=shared, **options).loss.backward()
    for name, gradient in expected.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient, atol=1e-5, rtol=1e-4)


def test_soft_labels_count_as_trainer_counts_them(model):
    soft = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    options = {"labels": soft, "context_penalty": 8.0, "distillation_weight": 2.0}
    whole = model(pixels(), **options).loss
    torch.testing.assert_close(model(pixels(), num_items_in_batch=soft.numel(), **options).loss, whole)


def test_a_training_with_both(tokenizer, tmp_path):
    """Off, they change nothing; on, class features stay nearer to the plain names."""
    from tiny_training import arguments, save_start, weights, write_videos

    from vitaclip_hf.training.run import main

    start = save_start(tmp_path / "start", tokenizer)
    (tmp_path / "videos").mkdir()
    videos = write_videos(tmp_path / "videos")
    found, far = {}, {}
    for name, more in {
        "plain": [],
        "off": ["--distillation_weight", "0", "--context_penalty", "0"],
        "on": ["--distillation_weight", "2", "--context_penalty", "50"],
    }.items():
        assert main(arguments(start, videos, tmp_path / name, "--load_best_model_at_end", "False", *more)) == 0
        found[name] = weights(tmp_path / name)
        model = VitaClipForVideoClassification.from_pretrained(tmp_path / name).eval()
        far[name] = (model.get_class_embeds() - model.get_plain_class_embeds()).square().sum().item()
    assert all(torch.equal(found["plain"][name], value) for name, value in found["off"].items())
    assert far["on"] < far["plain"]
