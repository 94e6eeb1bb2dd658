"""The demo checkpoint and its scripts: what they claim is measured again, on new videos."""

import json
from pathlib import Path

import evaluate_zero_shot
import reproduce
import torch
from transformers import AutoModel, AutoModelForVideoClassification, AutoProcessor

from vitaclip_hf.data.motion_shapes import all_scenes, draw_videos


ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "examples" / "demo" / "checkpoint"


def test_files_of_the_checkpoint():
    assert (CHECKPOINT / "model.safetensors").stat().st_size < 5_000_000
    assert not [file.name for file in CHECKPOINT.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".pkl")]
    model = AutoModel.from_pretrained(CHECKPOINT)
    names = [scene.label for scene in all_scenes(held_out=False)]
    assert list(model.config.id2label.values()) == names


def test_zero_shot_accuracy_on_new_videos(tmp_path):
    """A new video of each held-out scene, as files through the pipeline; 60 labels, chance 1.7%."""
    right, count = reproduce.measured(copies=1, seed=123)
    assert count == 60 and right > 51
    files = evaluate_zero_shot.write_videos(tmp_path, copies=1, seed=123)
    ours = evaluate_zero_shot.accuracies(evaluate_zero_shot.load_pipeline(CHECKPOINT, True), files, "ours", [1])
    frozen = evaluate_zero_shot.accuracies(evaluate_zero_shot.load_pipeline(CHECKPOINT, False), files, "CLIP", [0])
    assert ours["wording 1"] > 0.85 and frozen["wording 0"] < 0.4


@torch.no_grad()
def test_supervised_accuracy_on_new_videos():
    """One new video of every fourth trained scene; 300 classes."""
    model = AutoModelForVideoClassification.from_pretrained(CHECKPOINT).eval()
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    videos = draw_videos(all_scenes(held_out=False)[::4], torch.Generator().manual_seed(321))
    found = model(**processor(videos=list(videos), return_tensors="pt")).logits.argmax(-1)
    assert (found == torch.arange(0, 300, 4)).float().mean() > 0.9


def test_documents_state_the_measured_figures_of_this_checkpoint():
    results = json.loads((ROOT / "examples" / "demo" / "results.json").read_text())
    assert results["videos"] == 600 and len(results["checkpoints"]) == 3
    for document, title in (("README.md", ""), ("MODEL_CARD.md", "wording ")):
        text = (ROOT / document).read_text()
        for wording in ("0", "1", "2"):
            name = f"wording {wording}"
            own, mean = results["checkpoints"]["seed 0"][name], results["vita_clip"][name]
            figures = [f"{own:.1%}", f"{mean['mean']:.1%} ± {mean['std']:.1%}", f"{results['frozen_clip'][name]:.1%}"]
            assert f"| {' | '.join([title + wording, *figures])} |" in text


def test_reproduction_states_its_interval():
    """Beside the shipped checkpoint's own figure, not the mean of seeds."""
    stated = json.loads((ROOT / "examples" / "demo" / "results.json").read_text())
    text = reproduce.report(570, 600, stated, seed=5)
    assert "570 of 600 new videos (seed 5): 95.0%" in text and "95.7% of 600 videos, within the interval" in text
    assert "95.7% of 600 videos, OUTSIDE" in reproduce.report(500, 600, stated, seed=5)
