"""mteb evaluates a checkpoint as our own evaluation does, and gets the vectors of its own loader for our folders."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from attack.hostile_folders import set_field
from datasets import Dataset, Features, Value, Video
from PIL import Image
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

from vitaclip_hf import VideoDecodingError, decode_video, load_checkpoint
from vitaclip_hf.evaluation.evaluator import Evaluator
from vitaclip_hf.evaluation.plan import plan_evaluation
from vitaclip_hf.evaluation.protocols import load_protocol


mteb = pytest.importorskip("mteb", reason="needs mteb, Python 3.11 or newer")

from mteb.models import ModelMeta, SentenceTransformerEncoderWrapper  # noqa: E402
from mteb.models.modality_collators import FramesCollator  # noqa: E402
from mteb.models.model_implementations import MODEL_REGISTRY  # noqa: E402
from mteb.models.models_protocols import EncoderProtocol  # noqa: E402
from mteb_encoder import MtebEncoder, read_rows, register  # noqa: E402
from world_tasks import SEED, TEMPLATE, WorldZeroShot  # noqa: E402


ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / "examples" / "demo" / "checkpoint")
TASK = {"task_metadata": WorldZeroShot.metadata, "hf_split": "test", "hf_subset": "default"}
QUIET = {"show_progress_bar": False}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def encoder() -> MtebEncoder:
    return MtebEncoder(DEMO, device="cpu")


def run(encoder, task, folder) -> dict:
    """The scores of a task's test split."""
    options = {"co2_tracker": False, "encode_kwargs": {"batch_size": 16} | QUIET, "prediction_folder": folder} | QUIET
    results = mteb.evaluate(encoder, task, cache=mteb.ResultCache(folder), **options)
    return results.task_results[0].scores["test"][0]


@pytest.fixture(scope="module")
def zero_shot(encoder, videos, tmp_path_factory) -> tuple[dict, np.ndarray]:
    """mteb's scores and its similarities of videos and labels `[100, 100]`."""
    folder = tmp_path_factory.mktemp("zero_shot")
    scores = run(encoder, WorldZeroShot(videos), folder)
    predictions = json.loads((folder / "WorldZeroShot_predictions.json").read_text())
    return scores, np.array(predictions["default"]["test"])


@pytest.fixture(scope="module")
def files(zero_shot, videos) -> list[str]:
    """The videos, in the order of the labels."""
    scenes = WorldZeroShot(videos).scenes
    return [str(videos / f"{SEED}_{scene.label.replace(' ', '_')}.mp4") for scene in scenes]


def encode(encoder, video=None, text=None, batch_size=4, collate_fn=None, workers=0) -> np.ndarray:
    """Of a loader as mteb makes them."""
    columns = {name: values for name, values in (("video", video), ("text", text)) if values is not None}
    features = Features({name: {"video": Video(), "text": Value("string")}[name] for name in columns})
    dataset = Dataset.from_dict(columns, features)
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=collate_fn, num_workers=workers)
    return encoder.encode(loader, **TASK, **QUIET)


def features_of(files, **settings) -> np.ndarray:
    """Normalised video features `[N, E]`, straight from model and processor; of one video, of each view."""
    checkpoint = load_checkpoint(DEMO)
    inputs = checkpoint.processor.video_processor(list(map(str, files)), return_tensors="pt", **settings)
    pixels = inputs["pixel_values_videos"]
    with torch.no_grad():
        features = checkpoint.model.get_video_features(pixels[0] if pixels.ndim == 6 else pixels).pooler_output
    return normalize(features, dim=-1).numpy()


# The same results


def test_zero_shot_is_our_evaluation(zero_shot, files, videos, tmp_path):
    """Every video's five best classes, their scores and the accuracy, from mp4 files on."""
    scores, similarities = zero_shot
    names = [scene.label for scene in WorldZeroShot(videos).scenes]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    (tmp_path / "list.txt").write_text("\n".join(f"{Path(file).name} {i}" for i, file in enumerate(files)))
    protocol = load_protocol("own-zero-shot").overridden({"templates": [TEMPLATE]})
    plan = plan_evaluation(protocol, videos, tmp_path / "list.txt", tmp_path / "classes.txt")
    evaluator = Evaluator(load_checkpoint(DEMO), plan, frozen_clip=False)
    pixels = [evaluator.reader.read(video.path)[0] for video in plan.videos]
    results = evaluator.results_of([(number, views, "") for number, views in enumerate(pixels)])
    logits = torch.tensor(similarities) * evaluator.model.logit_scale.exp().item()
    best = []
    for result, file, expected in zip(results, files, logits.softmax(-1), strict=True):
        ((ids, values),) = result.scores["vita_clip"].values()
        assert result.name == Path(file).name and ids[0] == int(expected.argmax())
        assert values == pytest.approx(expected[ids].tolist(), abs=1e-5)
        best.append(ids[0])
    assert scores["accuracy"] == np.mean(np.array(best) == np.arange(100))
    assert 0.7 < scores["accuracy"] < 1  # some mistakes too, and the same ones


# Rows, as they may come


class Decoder:
    """What torchcodec's `VideoDecoder` gives."""

    def __init__(self, frames: torch.Tensor):
        self.frames = frames
        facts = {"average_fps": 16.0, "width": 160, "height": 160, "duration_seconds": 2.0, "path": "own.mp4"}
        self.metadata = SimpleNamespace(num_frames=len(frames), **facts)

    def __len__(self) -> int:
        return len(self.frames)

    def get_frames_at(self, indices: list[int]) -> SimpleNamespace:
        return SimpleNamespace(data=self.frames[indices])


def test_every_form_of_video_is_read(encoder, files):
    every, content = decode_video(files[3], range(32))[0], Path(files[3]).read_bytes()
    frames = torch.from_numpy(every).permute(0, 3, 1, 2)
    forms = [files[3], Path(files[3]), content, {"path": files[3], "bytes": None}, {"path": "gone", "bytes": content}]
    pictures = [Image.fromarray(frame) for frame in every]
    forms += [every, frames, pictures, Decoder(torch.from_numpy(every)), frames / 255]
    expected, *others, floats = (row["video"] for row in read_rows([{"video": form} for form in forms], encoder.reader))
    assert all((pixels - expected).abs().max() < 1e-6 for pixels in others)
    assert (floats - expected).abs().mean() < 0.005  # floats are neither rounded nor cut at white when they are resized


def test_loaders_batches_and_processes_change_nothing(encoder, files):
    plain = encode(encoder, files[:5])
    assert plain.dtype == np.float32 and np.abs(plain - features_of(files[:5])).max() < 1e-6
    assert np.array_equal(plain, encode(encoder, files[:5], collate_fn=FramesCollator(num_frames=2)))
    assert np.array_equal(plain, encode(encoder, files[:5], workers=2))
    assert np.abs(plain - encode(encoder, files[:5], batch_size=1)).max() < 1e-6


def test_videos_texts_and_both(encoder, files):
    texts = ["a taxi spinning", "a bell"]
    video, text = encode(encoder, files[:2]), encode(encoder, None, texts)
    both = encode(encoder, files[:2], texts)
    assert both == pytest.approx(normalize(torch.tensor(video + text), dim=-1).numpy(), abs=1e-6)
    rows = [{"video": files[0], "text": None}, {"video": None, "text": texts[1]}]
    embeds = encoder.embed_rows(read_rows(rows, encoder.reader)).numpy()
    assert np.abs(embeds - [video[0], text[1]]).max() < 1e-6


def test_rows_that_cannot_be_embedded(encoder, files, tmp_path):
    with pytest.raises(ValueError, match="neither"):
        read_rows([{"video": None, "text": None}], encoder.reader)
    with pytest.raises(ValueError, match="audio"):
        encoder.encode(DataLoader(Dataset.from_dict({"audio": [1.0]})), **TASK)
    (tmp_path / "damaged.mp4").write_bytes(Path(files[0]).read_bytes()[:2000])
    with pytest.raises(VideoDecodingError, match=r"damaged\.mp4"):
        encode(encoder, [files[0], str(tmp_path / "damaged.mp4")])
    for video in ({"path": Path(files[0]).as_uri(), "bytes": None}, Decoder(torch.zeros(32, 3, 8, 8).byte())):
        with pytest.raises(VideoDecodingError, match="limit is 10|more than 10 bytes"):
            read_rows([{"video": video}], encoder.encoder.reader(max_bytes=10, max_download_bytes=10))


def with_own_loader(column: str, values: list) -> torch.Tensor:
    pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
    wrapper = SentenceTransformerEncoderWrapper(DEMO, device="cpu")
    # As `mteb.get_model` reads it of a folder on the Hub.
    modalities = ModelMeta._detect_modalities_from_sbert_config(wrapper.model[0].get_config_dict())
    assert modalities == ["text", "video"]
    wrapper.mteb_model_meta = wrapper.mteb_model_meta.model_copy(update={"modalities": modalities})
    rows = type("Rows", (list,), {"features": {column: None}})({column: value} for value in values)
    collate = lambda rows: {column: [row[column] for row in rows]}  # noqa: E731
    return torch.as_tensor(wrapper.encode(DataLoader(rows, batch_size=2, collate_fn=collate), **TASK, **QUIET))


def test_own_loader_gives_the_same_vectors(encoder, files, caplog):
    decoders = [Decoder(torch.from_numpy(decode_video(file, range(32))[0]).permute(0, 3, 1, 2)) for file in files[:3]]
    assert np.abs(with_own_loader("video", decoders).numpy() - encode(encoder, files[:3])).max() < 1e-5
    texts = ["a taxi spinning", "archery", "a long text " * 30]  # cut at the same place
    assert torch.allclose(with_own_loader("text", texts), encoder.embed_texts(texts), atol=1e-5)
    assert "1 of 3 texts are longer" in caplog.text


# Settings, and what mteb records


def test_views_are_averaged_and_kept_apart(encoder, files, tmp_path):
    views = {"num_frames": 4, "sampling": "dense", "frame_stride": 3, "num_views": 2, "num_spatial_views": 3}
    other = MtebEncoder(DEMO, device="cpu", **views)
    expected = normalize(torch.tensor(features_of(files[8:9], **views)).mean(0), dim=-1)
    assert np.abs(encode(other, files[8:9])[0] - expected.numpy()).max() < 1e-6
    assert other.mteb_model_meta.experiment_kwargs == views
    cache = mteb.ResultCache(tmp_path)
    paths = [cache.get_task_result_path("T", model.mteb_model_meta) for model in (encoder, other)]
    assert paths[0].parent in paths[1].parents and "experiments" in paths[1].parts


def test_metadata(encoder, tmp_path):
    """The revision is a hash of weights and processor."""
    meta = encoder.mteb_model_meta
    assert isinstance(encoder, EncoderProtocol)
    assert (meta.name, meta.license, meta.experiment_kwargs) == ("local/checkpoint", None, None)
    assert (meta.n_parameters, meta.embed_dim, meta.max_tokens) == (1_991_713, 96, 32)
    assert meta.similarity_fn_name == "cosine" and set(meta.modalities) == {"video", "text"}
    copy = shutil.copytree(DEMO, tmp_path / "another")
    same = MtebEncoder(str(copy), device="cpu", license="apache-2.0").mteb_model_meta
    assert (same.name, same.license, same.revision) == ("local/another", "apache-2.0", meta.revision)
    set_field("processor_config.json", ("video_processor", "num_frames"), 4)(copy)
    assert MtebEncoder(str(copy), device="cpu").mteb_model_meta.revision != meta.revision


def test_entry_keeps_its_settings(monkeypatch):
    monkeypatch.setitem(MODEL_REGISTRY, "ORG/NAME", None)  # which is put back afterwards
    # torchcodec, which only mteb's own loaders use
    monkeypatch.setattr(ModelMeta, "_missing_dependencies", staticmethod(lambda groups: []))
    entry = register(DEMO, name="ORG/NAME", num_views=2, sampling="dense")
    assert isinstance(entry, ModelMeta) and MODEL_REGISTRY["ORG/NAME"] is entry
    assert entry.experiment_kwargs == {"num_views": 2, "sampling": "dense"}
    model = mteb.get_model("ORG/NAME", device="cpu")
    assert isinstance(model, MtebEncoder)
    assert (model.reader.specification.num_views, model.reader.specification.sampling) == (2, "dense")
    for name in ("model_name_with_experiment", "revision"):
        assert getattr(model.mteb_model_meta, name) == getattr(entry, name)


# The script


def call_script(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["run_mteb", *map(str, arguments)])
    return runpy.run_path(str(ROOT / "examples" / "run_mteb.py"))["main"]()


def test_script_retrieves_by_the_same_similarities(monkeypatch, capsys, zero_shot, tmp_path):
    arguments = ("--model", DEMO, "--tasks", "WorldTextToVideo", "--output", tmp_path, "--device", "cpu")
    assert call_script(monkeypatch, *arguments) == 0
    printed = capsys.readouterr().out
    (result,) = tmp_path.glob("results/local__checkpoint/*/WorldTextToVideo.json")
    assert str(result.parent) in printed
    scores = json.loads(result.read_text())["scores"]["test"][0]
    ranks = (-zero_shot[1].T).argsort(1).argsort(1).diagonal()  # of the right video, for each text
    # The cosines of one text with two videos differ by 2.5e-4: products of less precision may swap them.
    assert scores["recall_at_1"] == pytest.approx((ranks == 0).mean(), abs=0.011)
    gains = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0)
    assert scores["ndcg_at_10"] == pytest.approx(gains.mean(), abs=0.005)
    assert f"| WorldTextToVideo | ndcg_at_10 | {scores['ndcg_at_10']:.4f} |" in printed
    before = result.stat().st_mtime_ns
    assert call_script(monkeypatch, *arguments) == 0
    assert result.stat().st_mtime_ns == before  # a finished task is not run again


@pytest.mark.parametrize(
    ("arguments", "token"),
    [(("--tasks", "HMDB51ZeroSho"), "HMDB51ZeroShot"), (("--tasks", "BeijingOpera"), "['video', 'text']")],
)
def test_bad_input_of_the_script(monkeypatch, capsys, tmp_path, arguments, token):
    assert call_script(monkeypatch, "--model", DEMO, "--output", tmp_path, *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("run_mteb: ") and token in error
