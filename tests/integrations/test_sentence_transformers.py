"""Checkpoint folders in sentence-transformers: vectors are the model's own. Without the package: test_hub.py."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from attack.hostile_folders import set_field
from torch.nn.functional import normalize

from vitaclip_hf import VideoDecodingError, VitaClipModel, VitaClipProcessor, load_checkpoint
from vitaclip_hf.conversion import hub_folder


sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo" / "checkpoint"
VIDEOS = sorted(str(file) for file in (ROOT / "examples" / "demo" / "videos").glob("*.mp4"))[:3]
FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
TEXTS = ["archery", "a much longer sentence about riding a bike"]


def load(folder) -> "sentence_transformers.SentenceTransformer":
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def read(folder, name):
    return json.loads((Path(folder) / name).read_text())


@torch.no_grad()
def own(part: str, **inputs) -> torch.Tensor:
    """The demo's own normalised features; `part` is video or text."""
    inputs = VitaClipProcessor.from_pretrained(DEMO)(**inputs, return_tensors="pt")
    features = getattr(VitaClipModel.from_pretrained(DEMO).eval(), f"get_{part}_features")(**inputs)
    return normalize(features.pooler_output, dim=-1)


@pytest.fixture(scope="module")
def demo():
    return load(DEMO)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    loaded = load_checkpoint(DEMO)
    loaded.processor.video_processor.sampling = "dense"
    hub_folder.build(loaded.model, loaded.processor, folder)
    return folder


def test_vectors_are_the_models_own(demo):
    videos = demo.encode(VIDEOS, convert_to_tensor=True)
    assert torch.equal(videos, own("video", videos=VIDEOS))
    texts = demo.encode(TEXTS, convert_to_tensor=True)
    assert torch.allclose(texts, own("text", text=TEXTS), atol=1e-6)
    assert torch.allclose(
        demo.similarity(videos, texts), own("video", videos=VIDEOS) @ own("text", text=TEXTS).T, atol=1e-5
    )
    assert demo.get_embedding_dimension() == 96


def test_text_is_cut_at_the_towers_length(demo):
    long = "spinning " * 100
    expected = own("text", text=[long], truncation=True, max_length=32)
    assert demo.max_seq_length == 32
    assert torch.allclose(demo.encode([long], convert_to_tensor=True), expected, atol=1e-6)


def test_length_does_not_depend_on_the_tokenizers_files(tmp_path):
    shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True)
    set_field("tokenizer_config.json", ("model_max_length",), None)(tmp_path)
    assert load(tmp_path).encode(["spinning " * 100]).shape == (1, 96)


def test_what_is_a_video_and_what_a_text(demo, tmp_path, monkeypatch):
    """As docs/integrations.md says."""
    monkeypatch.chdir(tmp_path)
    webm = Path("clip.webm")
    shutil.copyfile(VIDEOS[0], webm)
    expected = demo.encode(VIDEOS[:1], convert_to_tensor=True)
    for source in (str(webm), webm, webm.read_bytes()):
        assert torch.equal(demo.encode([{"video": source}], convert_to_tensor=True), expected)
    for string in (str(webm), "missing.mp4"):
        assert torch.allclose(demo.encode([string], convert_to_tensor=True), own("text", text=[string]), atol=1e-6)
    with pytest.raises(VideoDecodingError, match="missing.mp4: there is no such file"):
        demo.encode([{"video": "missing.mp4"}])
    with pytest.raises(ValueError, match="one call per modality"):
        demo.encode([VIDEOS[0], "archery"])


def test_files_are_those_that_sentence_transformers_saves(published, tmp_path):
    load(published).save(str(tmp_path))
    assert read(published, "modules.json") == read(tmp_path, "modules.json")
    saved = read(tmp_path, "config_sentence_transformers.json")
    del saved["__version__"]
    assert read(published, "config_sentence_transformers.json") == saved
    length = {"max_seq_length": read(tmp_path, "tokenizer_config.json")["model_max_length"]}
    assert read(published, "sentence_bert_config.json") == read(tmp_path, "sentence_bert_config.json") | length
    videos = load(published).encode(VIDEOS, convert_to_tensor=True)
    assert torch.equal(load(tmp_path).encode(VIDEOS, convert_to_tensor=True), videos)
