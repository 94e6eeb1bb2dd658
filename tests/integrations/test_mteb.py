"""mteb runs a checkpoint by name, and its own loader for sentence-transformers gives the vectors of our encoder."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from vitaclip_hf import open_video


mteb = pytest.importorskip("mteb", reason="needs mteb, Python 3.11 or newer")
pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")

from mteb.mocks import mock_run as mock_module  # noqa: E402
from mteb.models import ModelMeta, SentenceTransformerEncoderWrapper  # noqa: E402
from mteb.models.model_implementations import MODEL_REGISTRY  # noqa: E402

from vitaclip_hf.evaluation.mteb import VitaClipEncoder, register  # noqa: E402


ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / "examples" / "demo" / "checkpoint")
VIDEOS = sorted(str(file) for file in (ROOT / "examples" / "demo" / "videos").glob("*.mp4"))[:3]
TASK = SimpleNamespace(name="none", type="VideoZeroshotClassification")
ABOUT = {"task_metadata": TASK, "hf_split": "test", "hf_subset": "default", "show_progress_bar": False}


@pytest.fixture
def registry(monkeypatch):
    """mteb's registry, put back afterwards; and no need for torchcodec, which only mteb's own loaders use."""
    before = dict(MODEL_REGISTRY)
    monkeypatch.setattr(ModelMeta, "_missing_dependencies", staticmethod(lambda groups: []))
    yield MODEL_REGISTRY
    MODEL_REGISTRY.clear()
    MODEL_REGISTRY.update(before)


class Rows(list):
    """Rows as a data set of mteb: columns are named, and a video has the interface of torchcodec's decoder."""

    def __init__(self, column: str, values: list):
        super().__init__({column: value} for value in values)
        self.features = {column: None}


class Decoder:
    def __init__(self, file: str):
        self.video = open_video(file, decoder="pyav")
        self.metadata = SimpleNamespace(num_frames=self.video.metadata.total_num_frames)

    def get_frames_at(self, indices: list[int]) -> SimpleNamespace:
        return SimpleNamespace(data=torch.as_tensor(self.video.read(indices)))


def with_own_loader(column: str, values: list, **options) -> torch.Tensor:
    wrapper = SentenceTransformerEncoderWrapper(DEMO, device="cpu", **options)
    # As `mteb.get_model` reads it of a folder on the Hub.
    settings = wrapper.model[0].get_config_dict()
    modalities = ModelMeta._detect_modalities_from_sbert_config(settings)
    assert modalities == ["text", "video"]
    wrapper.mteb_model_meta = wrapper.mteb_model_meta.model_copy(update={"modalities": modalities})
    rows = [Decoder(value) for value in values] if column == "video" else values
    return torch.as_tensor(wrapper.encode(DataLoader(Rows(column, rows), batch_size=2, collate_fn=collate), **ABOUT))


def collate(rows: list[dict]) -> dict[str, list]:
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.fixture(scope="module")
def encoder() -> VitaClipEncoder:
    return VitaClipEncoder(DEMO, device="cpu")


def test_own_loader_gives_the_same_video_vectors(encoder):
    pixels = encoder.checkpoint.processor(videos=VIDEOS, return_tensors="pt").pixel_values_videos
    expected = encoder.embed_videos(list(pixels[:, None]))
    assert torch.allclose(with_own_loader("video", VIDEOS), expected, atol=1e-5)


def test_own_loader_gives_the_same_text_vectors(encoder):
    texts = ["a red star turning", "archery", "a long text " * 30]
    assert torch.allclose(with_own_loader("text", texts), encoder.embed_texts(texts), atol=1e-5)


def test_mock_run_finds_the_entry_by_name(registry, tmp_path, monkeypatch, capsys):
    """The command itself, on its tasks with videos."""
    from mteb.cli.build_cli import main

    entry = register(DEMO, name="ORG/NAME")
    assert isinstance(entry, ModelMeta) and registry["ORG/NAME"] is entry
    tasks = [task for task in mock_module.ALL_MOCK_TASK_TEST_GRID if "video" in task.metadata.modalities]
    monkeypatch.setattr(mock_module, "ALL_MOCK_TASK_TEST_GRID", tasks)
    monkeypatch.setattr(sys, "argv", ["mteb", "mock-run", "--model", "ORG/NAME", "--device", "cpu", "-v", "0"])
    monkeypatch.chdir(tmp_path)
    main()
    report = (tmp_path / "mteb_mock_run_results.md").read_text()
    assert "# MTEB Mock-Run Results for `ORG/NAME`" in report and "| ✗" not in report
    assert report.count("| ✓ | - |") == 7 and re.search(r"✓ \(7/7\) *\| video", report)
    assert "passed all expected checks" in capsys.readouterr().out


def test_entry_keeps_its_settings(registry):
    entry = register(DEMO, name="ORG/NAME", num_views=2, sampling="dense")
    assert entry.experiment_kwargs == {"num_views": 2, "sampling": "dense"}
    model = mteb.get_model("ORG/NAME", device="cpu")
    assert isinstance(model, VitaClipEncoder)
    assert (model.reader.specification.num_views, model.reader.specification.sampling) == (2, "dense")
    assert model.mteb_model_meta.model_name_with_experiment == entry.model_name_with_experiment
    assert model.mteb_model_meta.revision == entry.revision
