"""Distillation from the frozen CLIP and the penalty on contexts, against the same by hand."""

import pytest
import torch
from tiny_models import set_classes, tiny_model
from tiny_training import arguments, assert_near
from torch.nn.functional import normalize

from vitaclip_hf import VitaClipForVideoClassification
from vitaclip_hf.model.modeling_vita_clip import classification_loss
from vitaclip_hf.training.arguments import VitaClipTrainingArguments
from vitaclip_hf.training.regularization import plain_class_embeds
from vitaclip_hf.training.run import train
from vitaclip_hf.training.trainer import VitaClipTrainer


NAMES = ("left", "growing slowly", "blinking")


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(5)
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification).eval()
    set_classes(model, list(NAMES), tokenizer)
    model.freeze_backbone()
    return model


def pixels() -> torch.Tensor:
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(6))


@pytest.fixture
def loss_of(model, tmp_path):
    """The trainer's loss of a micro-batch with these weights of the two additions."""
    model.train()  # there is no dropout

    def loss(videos, labels, trainer=None, **arguments) -> torch.Tensor:
        inputs = {"pixel_values_videos": videos, "labels": labels}
        return (trainer or make(**arguments)).compute_loss(model, inputs)

    def make(**weights) -> VitaClipTrainer:
        return VitaClipTrainer(model, VitaClipTrainingArguments(tmp_path, use_cpu=True, report_to=[], **weights))

    loss.make = make
    return loss


def distance(model) -> torch.Tensor:
    """Mean over videos of |student - teacher|^2, which is 2 - 2 cos for normalised features."""
    student = normalize(model.get_video_features(pixels()).pooler_output, dim=-1)
    with torch.no_grad():
        teacher = normalize(model.get_video_features(pixels(), use_prompts=False).pooler_output, dim=-1)
    return (2 - 2 * (student * teacher).sum(-1)).mean()


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_distillation_by_hand(model, loss_of):
    labels = torch.tensor([2, 0])
    found = loss_of(pixels(), labels, distillation_weight=2.0)
    assert distance(model) > 1e-3
    torch.testing.assert_close(found, model(pixels(), labels=labels).loss + 2 * distance(model))
    expected = classification_loss(model(pixels()).logits, labels) + 2 * distance(model)
    assert_near(gradients(model, found), gradients(model, expected), atol=1e-5, rtol=1e-4)


def test_plain_names_are_the_prompts_without_contexts(model, tokenizer):
    texts = [f"{name}." for name in NAMES]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = normalize(model.get_text_features(**inputs).pooler_output, dim=-1)
    torch.testing.assert_close(plain_class_embeds(model), expected, atol=1e-5, rtol=0)


def test_penalty_by_hand_and_over_micro_batches(model, loss_of):
    labels = torch.tensor([2, 0])
    far = (2 - 2 * (model.get_class_embeds() * plain_class_embeds(model)).sum(-1)).mean()
    whole = loss_of(pixels(), labels, context_penalty=8.0)
    torch.testing.assert_close(whole, model(pixels(), labels=labels).loss + 8 * far)
    weights = {"context_penalty": 8.0, "distillation_weight": 2.0}
    expected = gradients(model, loss_of(pixels(), labels, **weights))
    trainer = loss_of.make(**weights)
    model.zero_grad()
    for place in (0, 1):  # two micro-batches of one video
        trainer.accelerator.gradient_state._set_sync_gradients(place == 1)
        some = {"pixel_values_videos": pixels()[place : place + 1], "labels": labels[place : place + 1]}
        trainer.compute_loss(model, some, num_items_in_batch=2).backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert_near(found, expected, atol=1e-5, rtol=1e-4)


def test_soft_labels_count_as_trainer_counts_them(model, loss_of):
    soft = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    trainer = loss_of.make(context_penalty=8.0, distillation_weight=2.0)
    whole = loss_of(pixels(), soft, trainer)
    inputs = {"pixel_values_videos": pixels(), "labels": soft}
    torch.testing.assert_close(trainer.compute_loss(model, inputs, num_items_in_batch=soft.numel()), whole)


def test_a_training_with_both(whole_run, start, videos, tmp_path):
    """Class features stay nearer to the plain names."""
    assert train(arguments(start, videos, tmp_path, "--distillation_weight", "2", "--context_penalty", "50")) == 0
    far = []
    for run in (whole_run, tmp_path):
        model = VitaClipForVideoClassification.from_pretrained(run / "checkpoint-4").eval()
        far.append((model.get_class_embeds() - plain_class_embeds(model)).square().sum().item())
    assert far[1] < far[0]
