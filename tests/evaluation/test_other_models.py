"""Evaluation of other dual encoders: the same files as of a Vita-CLIP, with the scores of the pipeline."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest
from tiny_encoders import save_tiny_encoder
from transformers import pipeline

from vitaclip_hf.cli.main import main


VIDEOS = Path(__file__).parents[2] / "examples" / "demo" / "videos"


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for video in sorted(VIDEOS.glob("*.mp4"))[:5]:
        folder = root / video.stem.replace("_", " ")
        folder.mkdir()
        shutil.copy(video, folder)
    return root


def test_scores_are_those_of_the_pipeline_and_two_models_compare(class_folders, tmp_path, capsys):
    for family in ("xclip", "siglip"):
        save_tiny_encoder(family, tmp_path / family)
        command = ["evaluate", "--model", tmp_path / family, "--protocol", "own-zero-shot", "--videos", class_folders]
        assert main([str(word) for word in (*command, "--output", tmp_path / f"of {family}", "--num-views", 2)]) == 0
        results = json.loads((tmp_path / f"of {family}" / "results.json").read_text())
        assert list(results["rows"]) == [family] and results["protocol"]["num_views"] == 2
        classifier = pipeline("zero-shot-video-classification", model=str(tmp_path / family))
        rows = pyarrow.parquet.read_table(tmp_path / f"of {family}" / "predictions.parquet").to_pylist()
        labels = sorted(folder.name for folder in class_folders.iterdir())
        for row in rows:
            arguments = {"candidate_labels": labels, "num_views": 2}
            answer = classifier(str(class_folders / row["path"]), hypothesis_template="a video of {}.", **arguments)
            assert [labels[index] for index in row[f"{family}_ids"]] == [best["label"] for best in answer]
            assert row[f"{family}_scores"] == pytest.approx([best["score"] for best in answer], abs=1e-6)
    capsys.readouterr()
    assert main(["compare", *(str(tmp_path / f"of {family}" / "results.json") for family in ("xclip", "siglip"))]) == 0
    assert "results.json, xclip\nB: " in capsys.readouterr().out
    blended = ["--output", str(tmp_path / "blended"), "--blend", "0.5"]
    assert main([*(str(word) for word in command), *blended]) == 2
    assert "siglip" in capsys.readouterr().err
    supervised = [word if word != "own-zero-shot" else "own-supervised" for word in map(str, command)]
    assert main([*supervised, "--output", str(tmp_path / "supervised")]) == 2
    assert "zero-shot" in capsys.readouterr().err
