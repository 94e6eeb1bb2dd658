"""Checkpoint folders in sentence-transformers: vectors are the model's own, with the package and without it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from attack.hostile_folders import set_field
from hub_server import HubServer
from safetensors.torch import load_file
from torch.nn.functional import normalize

from vitaclip_hf import VideoDecodingError, VitaClipModel, VitaClipProcessor, load_checkpoint
from vitaclip_hf.conversion import hub_folder, publish


sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo" / "checkpoint"
VIDEOS = sorted(str(file) for file in (ROOT / "examples" / "demo" / "videos").glob("*.mp4"))[:3]
FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
TEXTS = ["archery", "a much longer sentence about riding a bike"]
# In a process that cannot import the package.
ALONE = """
import json, sys
sys.path.insert(0, {conversion!r})
from folder_outputs import PackageBlocker
sys.meta_path.insert(0, PackageBlocker())
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
torch.set_num_threads({threads})
sources, video, texts, output = json.loads(sys.argv[1])
vectors = {{}}
for number, source in enumerate(sources):
    model = SentenceTransformer(source, device="cpu", trust_remote_code=True)
    vectors[f"videos_{{number}}"] = model.encode([video], convert_to_tensor=True)
    vectors[f"texts_{{number}}"] = model.encode(texts, convert_to_tensor=True)
save_file(vectors, output)
assert not [name for name in sys.modules if name.split(".")[0] == "vitaclip_hf"]
"""


def load(folder) -> "sentence_transformers.SentenceTransformer":
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def read(folder, name):
    return json.loads((Path(folder) / name).read_text())


@torch.no_grad()
def own_videos(folder, videos, **settings) -> torch.Tensor:
    pixels = VitaClipProcessor.from_pretrained(folder)(videos=videos, return_tensors="pt", **settings)
    model = VitaClipModel.from_pretrained(folder).eval()
    return normalize(model.get_video_features(**pixels).pooler_output, dim=-1)


@torch.no_grad()
def own_texts(folder, texts, **settings) -> torch.Tensor:
    inputs = VitaClipProcessor.from_pretrained(folder)(text=texts, return_tensors="pt", **settings)
    model = VitaClipModel.from_pretrained(folder).eval()
    return normalize(model.get_text_features(**inputs).pooler_output, dim=-1)


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
    assert torch.equal(videos, own_videos(DEMO, VIDEOS))
    texts = demo.encode(TEXTS, convert_to_tensor=True)
    assert torch.allclose(texts, own_texts(DEMO, TEXTS), atol=1e-6)
    assert torch.allclose(
        demo.similarity(videos, texts), own_videos(DEMO, VIDEOS) @ own_texts(DEMO, TEXTS).T, atol=1e-5
    )
    assert demo.get_embedding_dimension() == 64


def test_text_is_cut_at_the_towers_length(demo):
    long = "turning " * 100
    own = own_texts(DEMO, [long], truncation=True, max_length=32)
    assert demo.max_seq_length == 32
    assert torch.allclose(demo.encode([long], convert_to_tensor=True), own, atol=1e-6)


def test_length_does_not_depend_on_the_tokenizers_files(tmp_path):
    shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True)
    set_field("tokenizer_config.json", ("model_max_length",), None)(tmp_path)
    assert load(tmp_path).encode(["turning " * 100]).shape == (1, 64)


def test_what_is_a_video_and_what_a_text(demo, tmp_path, monkeypatch):
    """As docs/integrations.md says."""
    monkeypatch.chdir(tmp_path)
    webm = Path("clip.webm")
    shutil.copyfile(VIDEOS[0], webm)
    expected = demo.encode(VIDEOS[:1], convert_to_tensor=True)
    for source in (str(webm), webm, webm.read_bytes()):
        assert torch.equal(demo.encode([{"video": source}], convert_to_tensor=True), expected)
    for string in (str(webm), "missing.mp4"):
        assert torch.allclose(demo.encode([string], convert_to_tensor=True), own_texts(DEMO, [string]), atol=1e-6)
    with pytest.raises(VideoDecodingError, match="missing.mp4: there is no such file"):
        demo.encode([{"video": "missing.mp4"}])
    with pytest.raises(ValueError, match="one call per modality"):
        demo.encode([VIDEOS[0], "archery"])


@pytest.mark.parametrize("which", ["demo", "published"])
def test_files_are_those_that_sentence_transformers_saves(which, request, tmp_path):
    folder = DEMO if which == "demo" else request.getfixturevalue("published")
    load(folder).save(str(tmp_path))
    assert read(folder, "modules.json") == read(tmp_path, "modules.json")
    saved = read(tmp_path, "config_sentence_transformers.json")
    del saved["__version__"]
    assert read(folder, "config_sentence_transformers.json") == saved
    length = {"max_seq_length": read(tmp_path, "tokenizer_config.json")["model_max_length"]}
    assert read(folder, "sentence_bert_config.json") == read(tmp_path, "sentence_bert_config.json") | length
    videos = load(folder).encode(VIDEOS, convert_to_tensor=True)
    assert torch.equal(load(tmp_path).encode(VIDEOS, convert_to_tensor=True), videos)


def test_published_folder_and_hub_id_without_the_package(published, tmp_path):
    video, output = tmp_path / "noise.mp4", tmp_path / "vectors.safetensors"
    publish.write_test_video(video, 12, 32)
    code = ALONE.format(conversion=str(ROOT / "conversion"), threads=torch.get_num_threads())
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    with HubServer() as hub:
        hub.add("ORG/NAME", published)
        environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        task = json.dumps([[str(published), "ORG/NAME"], str(video), TEXTS, str(output)])
        command, quiet = [sys.executable, "-I", "-c", code, task], {"capture_output": True, "text": True}
        result = subprocess.run(command, env=environment, cwd=tmp_path, timeout=300, **quiet)
    assert result.returncode == 0, result.stderr
    found = load_file(output)
    for number in range(2):
        assert torch.equal(found[f"videos_{number}"], own_videos(DEMO, [str(video)], sampling="dense"))
        assert torch.allclose(found[f"texts_{number}"], own_texts(DEMO, TEXTS), atol=1e-6)
