"""LoRA of peft on the frozen towers: trains with the prompts, saves, loads, switches off and merges."""

import pytest
import torch
from tiny_models import tiny_model
from transformers import Trainer, TrainingArguments

from vitaclip_hf import VitaClipForVideoClassification, VitaClipVideoProcessor
from vitaclip_hf.model.encoder import VitaClipEncoder


peft = pytest.importorskip("peft", reason="needs peft")
PROMPTS = ["prompts", "time_embedding", "class_prompts"]


def base_model(tokenizer) -> VitaClipForVideoClassification:
    return tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification)


@torch.no_grad()
def logits(model, videos) -> torch.Tensor:
    return model.eval()(pixel_values_videos=videos).logits


@pytest.fixture(scope="module")
def videos() -> torch.Tensor:
    return torch.randn(6, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained(tokenizer, videos, tmp_path_factory):
    """A model trained with transformers' Trainer, its first and last outputs, and the adapter's folder."""
    folder = tmp_path_factory.mktemp("training")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=PROMPTS)
    model = peft.get_peft_model(base_model(tokenizer), config)
    first = logits(model, videos)
    data = [{"pixel_values_videos": video, "labels": index % 3} for index, video in enumerate(videos)]
    settings = {"max_steps": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 3, "report_to": "none"}
    settings |= {"use_cpu": True, "remove_unused_columns": False, "disable_tqdm": True, "save_strategy": "no"}
    trainer = Trainer(model, TrainingArguments(str(folder), **settings), train_dataset=data)
    trainer.train()
    trainer.save_model(str(folder / "adapter"))
    return model, first, logits(model, videos), folder / "adapter"


def test_switched_off_it_is_the_base_model(trained, tokenizer, videos):
    """The class matrix and label matrices that were kept with the adapter must not outlive it."""
    _, first, last, folder = trained
    assert torch.equal(first, logits(base_model(tokenizer), videos))  # LoRA starts at zero
    assert (last - first).abs().max() > 0.1
    again = peft.PeftModel.from_pretrained(base_model(tokenizer), folder)
    encoders: dict[int, VitaClipEncoder] = {}

    @torch.no_grad()
    def matrix(model):
        encoder = encoders.setdefault(
            id(model), VitaClipEncoder(model.get_base_model(), tokenizer, VitaClipVideoProcessor())
        )
        return encoder.class_embeds(["archery", "yoga"], "a video of {}")[1]

    @torch.no_grad()
    def kept_logits():  # `eval` would drop what is kept
        return again(pixel_values_videos=videos).logits

    again.eval()
    assert torch.equal(kept_logits(), last)
    adapted = matrix(again)
    with again.disable_adapter():
        assert torch.equal(kept_logits(), first)
        assert not torch.allclose(matrix(again), adapted, atol=1e-3)
    assert torch.equal(kept_logits(), last)
    assert torch.equal(matrix(again), adapted)


def test_merged_it_is_a_plain_model(trained, tokenizer, videos, tmp_path):
    _, _, last, folder = trained
    merged = peft.PeftModel.from_pretrained(base_model(tokenizer), folder).merge_and_unload()
    merged.save_pretrained(tmp_path)
    again = VitaClipForVideoClassification.from_pretrained(tmp_path)
    assert again.state_dict().keys() == base_model(tokenizer).state_dict().keys()
    assert torch.allclose(logits(again, videos), last, atol=1e-4)
