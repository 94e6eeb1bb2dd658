"""Exported files against torch; the folder, its README's lines, and what is refused."""

import copy
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vitaclip_hf.cli.main import main
from vitaclip_hf.export.folder import export_checkpoint
from vitaclip_hf.export.verification import VerificationError, verify
from vitaclip_hf.export.video_scorer import VideoScorer


DEMO = Path(__file__).parents[2] / "examples" / "demo" / "checkpoint"


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("export")
    (folder / "labels.txt").write_text("taxi spinning\nbasketball, bouncing\n")
    arguments = ["--output", folder / "onnx", "--labels-file", folder / "labels.txt"]
    assert main(["export", "--model", str(DEMO), *map(str, arguments)]) == 0
    return folder / "onnx"


def run_readme(folder: Path, frames: np.ndarray) -> list[str]:
    """What the lines of an exported folder's page print for these frames."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)[1]
    np.save(folder / "frames.npy", frames)
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_the_lines_of_the_readme(exported, checkpoint):
    about = json.loads((exported / "export.json").read_text())
    assert about["format"] == "onnx" and about["fingerprint"] == checkpoint.fingerprint()
    assert about["verification"]["max_difference"] < 1e-3  # at several numbers of videos, frames and classes
    assert (exported / "labels.txt").read_text() == "taxi spinning\nbasketball, bouncing\n"
    frames = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), dtype=np.uint8)
    place, score = run_readme(exported, frames)
    processor = checkpoint.processor.video_processor
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    pixels = ((torch.from_numpy(frames) / 255 - mean) / std).permute(0, 3, 1, 2)[None]
    classes = torch.from_numpy(np.load(exported / "class_embeds.npy"))
    with torch.no_grad():
        embeds = torch.nn.functional.normalize(checkpoint.model.get_video_features(pixels).pooler_output, dim=-1)
        scores = checkpoint.model.compare(embeds, classes).softmax(-1)[0]
    assert int(place) == int(scores.argmax()) and float(score) == pytest.approx(float(scores.max()), abs=1e-4)


def test_what_is_refused(tmp_path, refused, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert "the current one" in refused("export", "--model", DEMO, "--output", ".")
    pytest.importorskip("onnxruntime")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, message in (
        (["--output", tmp_path / "full"], "--output"),
        (["--output", tmp_path / "new", "--dtype", "bfloat16"], "--dtype"),
    ):
        assert message in refused("export", "--model", DEMO, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "here"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_exported(checkpoint, tmp_path, value):
    model = copy.deepcopy(checkpoint.model)
    model.visual_projection.weight.data[0, 0] = value
    damaged = dataclasses.replace(checkpoint, model=model)
    with pytest.raises(ValueError, match="visual_projection.weight is NaN or infinite"):
        export_checkpoint(damaged, tmp_path / "new", check=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_answers_otherwise_leaves_no_folder(checkpoint, tmp_path, monkeypatch, refused):
    module = pytest.importorskip("vitaclip_hf.export.onnx_file", exc_type=ImportError)
    monkeypatch.setattr(module, "write", lambda model, folder, dtype: folder / "model.onnx")
    monkeypatch.setattr(module, "Runner", lambda path, dtype: wrong(checkpoint.model))
    assert "cosine" in refused("export", "--model", DEMO, "--output", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def wrong(model):
    def run(pixels, classes):
        embeds = np.full((len(pixels), model.config.projection_dim), 0.1, np.float32)
        return [embeds @ classes.T, embeds]

    return run


def specialising(model, number=None):
    """Torch's own answers; after a call with `number` frames, other numbers get those of their first frames."""
    seen = []

    @torch.no_grad()
    def run(pixels, classes):
        frames = number if number in seen else None
        seen.append(pixels.shape[1])
        return [output.numpy() for output in VideoScorer(model)(*map(torch.from_numpy, (pixels[:, :frames], classes)))]

    return run


def test_verification(checkpoint):
    with pytest.raises(VerificationError, match="cosine"):
        verify(checkpoint.model, wrong(checkpoint.model), "int8")
    assert verify(checkpoint.model, specialising(checkpoint.model), "float32").least_cosine > 0.999
    for first in (1, 8):  # a session that stays at the number of frames that came first, as OpenVINO did after one
        with pytest.raises(VerificationError, match="cosine"):
            verify(checkpoint.model, specialising(checkpoint.model, first), "float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "dtype"), [("onnx", "int8"), ("openvino", "float32"), ("openvino", "bfloat16"), ("openvino", "int8")]
)
def test_other_formats(format, dtype, tmp_path):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[format])
    arguments = ["--output", tmp_path / "out", "--format", format, "--dtype", dtype]
    assert main(["export", "--model", str(DEMO), *map(str, arguments)]) == 0
    assert json.loads((tmp_path / "out" / "export.json").read_text())["verification"]["least_cosine"] > 0.98
    assert 0 < float(run_readme(tmp_path / "out", np.zeros((8, 48, 48, 3), np.uint8))[1]) <= 1
