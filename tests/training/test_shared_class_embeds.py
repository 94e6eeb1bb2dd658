import torch
from tiny_models import tiny_model
from tiny_training import assert_near

from vitaclip_hf import VitaClipForVideoClassification
from vitaclip_hf.training.shared_class_embeds import SharedClassEmbeds


def batch(size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(size, 4, 3, 32, 32, generator=generator, dtype=torch.float64)
    return pixels, torch.randint(3, (size,), generator=generator)


def double_model(tokenizer) -> VitaClipForVideoClassification:
    """In float64, so that only a different sum and no rounding can make a difference."""
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification).double().train()
    model.freeze_backbone()
    return model


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def count_text_runs(model) -> list:
    runs: list = []
    model.text_model.encoder.register_forward_hook(lambda *_: runs.append(1))
    return runs


def test_gradients_are_those_of_the_plain_way_for_any_split(tokenizer):
    pixels, labels = batch()
    plain = double_model(tokenizer)
    embeds = torch.nn.functional.normalize(plain.get_class_features().pooler_output, dim=-1)
    video = torch.nn.functional.normalize(plain.get_video_features(pixels).pooler_output, dim=-1)
    logits = plain.logit_scale.exp() * video @ embeds.T
    torch.nn.functional.cross_entropy(logits, labels).backward()
    expected = gradients(plain)
    assert expected["class_prompts.context"].abs().max() > 1e-4
    for sizes in ([6], [3, 3], [1, 2, 3], [1] * 6):
        model = double_model(tokenizer)
        runs, step = count_text_runs(model), SharedClassEmbeds(model)
        for index, (some, truth) in enumerate(zip(pixels.split(sizes), labels.split(sizes), strict=True)):
            shared = step.for_micro_batch(is_last=index == len(sizes) - 1)
            model(some, labels=truth, num_items_in_batch=6, class_embeds=shared).loss.backward()
        assert len(runs) == 1
        assert_near(gradients(model), expected, atol=1e-12, rtol=1e-9)


def test_a_loss_scale_passes_through(tokenizer):
    """As a gradient scaler of float16 does: everything is scaled alike, and only once."""
    pixels, labels = batch(4)
    found = []
    for scale in (1.0, 1024.0):
        model = double_model(tokenizer)
        step = SharedClassEmbeds(model)
        for index in range(2):
            some = slice(2 * index, 2 * index + 2)
            shared = step.for_micro_batch(is_last=index == 1)
            loss = model(pixels[some], labels=labels[some], num_items_in_batch=4, class_embeds=shared).loss
            (loss * scale).backward()
        found.append({name: gradient / scale for name, gradient in gradients(model).items()})
    assert_near(found[1], found[0], atol=1e-14, rtol=1e-12)


def test_next_step_computes_anew(tokenizer):
    pixels, labels = batch(2)
    model = double_model(tokenizer)
    first = model(pixels, labels=labels, class_embeds=SharedClassEmbeds(model).for_micro_batch(True)).logits
    with torch.no_grad():
        model.class_prompts.context.normal_()
    second = model(pixels, labels=labels, class_embeds=SharedClassEmbeds(model).for_micro_batch(True)).logits
    torch.testing.assert_close(second, model(pixels).logits)
    assert (first - second).abs().max() > 1e-3


def test_a_step_that_ends_leaves_nothing_behind(tokenizer):
    pixels, labels = batch(2)
    model = double_model(tokenizer)
    step = SharedClassEmbeds(model)
    runs = count_text_runs(model)
    for is_last in (False, True, False, True):  # two steps with one object
        model(pixels, labels=labels, class_embeds=step.for_micro_batch(is_last)).loss.backward()
    assert len(runs) == 2
