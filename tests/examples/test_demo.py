"""The demo checkpoint and its scripts: what they claim is measured again, on new videos."""

import json
from pathlib import Path

import evaluate_zero_shot
import reproduce
import torch
from transformers import AutoModel, AutoModelForVideoClassification, AutoProcessor
from world import draw_videos

from vitaclip_hf import load_checkpoint


ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "examples" / "demo" / "checkpoint"
MODELS = ("vita_clip", "frozen_clip")


def test_files_of_the_checkpoint(world):
    assert (CHECKPOINT / "model.safetensors").stat().st_size < 9_000_000
    assert not [file.name for file in CHECKPOINT.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".pkl")]
    model = AutoModel.from_pretrained(CHECKPOINT)
    assert sorted(model.config.id2label.values()) == sorted(scene.label for scene in world.scenes("trained"))


def test_zero_shot_accuracy_on_new_videos(tmp_path, monkeypatch):
    """A new video of each of the demo's scenes, as files through the pipeline; 100 labels, chance 1%."""
    files = evaluate_zero_shot.write_videos(tmp_path, copies=1, seed=123)
    drawn = {(1, 123): files}
    monkeypatch.setattr(reproduce, "write_videos", lambda folder, *settings: drawn[settings])
    right, count = reproduce.measured(copies=1, seed=123)
    assert count == 100 and right > 82
    for blend, wording, least, most in ((0.0, 1, 0.8, 1), (1.0, 0, 0, 0.4)):
        classifier = load_checkpoint(CHECKPOINT).classifier(batch_size=32, blend=blend)
        found = evaluate_zero_shot.answers(classifier, files, "", wording)
        assert least <= evaluate_zero_shot.shares(found, files, "label")["label"] <= most


@torch.no_grad()
def test_supervised_accuracy_on_new_videos(world):
    """The frames that are read of one new video of every eighth trained scene; 400 classes."""
    model = AutoModelForVideoClassification.from_pretrained(CHECKPOINT).eval()
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    scenes, times = world.scenes("trained")[::8], (torch.arange(8) + 0.5) / 8
    videos = draw_videos(world, scenes, torch.Generator().manual_seed(321), times=times)
    found = model(**processor(videos=list(videos), return_tensors="pt")).logits.argmax(-1).tolist()
    right = [model.config.id2label[number] == scene.label for number, scene in zip(found, scenes, strict=True)]
    assert len(right) == 50 and sum(right) > 43


def test_documents_state_the_measured_figures_of_this_checkpoint():
    results = json.loads((ROOT / "examples" / "demo" / "results.json").read_text())
    assert results["videos"] == 600
    for document in ("README.md", "MODEL_CARD.md"):
        for row in ("wording 0", "wording 1", "wording 2", "between black bars", "OpenMoji"):
            figures = [f"{results[model][row.replace('OpenMoji', 'openmoji')]:.1%}" for model in MODELS]
            assert f"| {' | '.join([row, *figures])} |" in (ROOT / document).read_text()


def test_reproduction_states_its_interval():
    stated = {"videos": 600, "vita_clip": {"wording 0": 0.957}}
    text = reproduce.report(570, 600, stated, seed=5)
    assert "570 of 600 new videos (seed 5): 95.0%" in text and "95.7% of 600 videos, within the interval" in text
    assert "95.7% of 600 videos, OUTSIDE" in reproduce.report(500, 600, stated, seed=5)
