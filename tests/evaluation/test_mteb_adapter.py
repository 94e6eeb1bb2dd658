"""mteb evaluates a checkpoint as our own evaluation does: on 60 generated videos, with mteb's own task classes."""

import json
import runpy
import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import CHECKPOINT, run_all
from datasets import Dataset, Features, Value, Video
from PIL import Image
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

from vitaclip_hf import VideoDecodingError, decode_video
from vitaclip_hf.data.motion_shapes import MOTIONS
from vitaclip_hf.evaluation.evaluator import Evaluator
from vitaclip_hf.evaluation.plan import plan_evaluation
from vitaclip_hf.evaluation.protocols import load_protocol
from vitaclip_hf.loading.checkpoint import load_checkpoint


ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "run_mteb.py"

mteb = pytest.importorskip("mteb")

from motion_shapes_tasks import (  # noqa: E402
    SEED,
    TEMPLATE,
    MotionShapesClassification,
    MotionShapesClustering,
    MotionShapesTextToVideo,
    MotionShapesZeroShot,
)
from mteb.models.modality_collators import FramesCollator  # noqa: E402
from mteb.models.models_protocols import EncoderProtocol  # noqa: E402

from vitaclip_hf.evaluation.mteb import VitaClipEncoder, read_rows  # noqa: E402


ABOUT_THE_TASK = {"task_metadata": MotionShapesZeroShot.metadata, "hf_split": "test", "hf_subset": "default"}
QUIET = {"show_progress_bar": False}


@pytest.fixture(scope="module", autouse=True)
def no_network():
    """Whatever asks for an address or a connection fails; processes of this machine may talk to each other."""
    connect = socket.socket.connect

    def refuse(*arguments, **options):
        raise AssertionError(f"something wants the network: {arguments}")

    def connect_here(this, address):
        return connect(this, address) if this.family == socket.AF_UNIX else refuse(this, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", connect_here)
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def encoder() -> VitaClipEncoder:
    return VitaClipEncoder(str(CHECKPOINT), device="cpu")


def run(encoder, task, folder, batch_size=16, **options) -> dict:
    """The scores of a task's test split."""
    results = mteb.evaluate(
        encoder,
        task,
        cache=mteb.ResultCache(folder),
        co2_tracker=False,
        encode_kwargs={"batch_size": batch_size} | QUIET,
        prediction_folder=folder,
        show_progress_bar=False,
        **options,
    )
    return results.task_results[0].scores["test"][0]


@pytest.fixture(scope="module")
def zero_shot(encoder, videos, tmp_path_factory) -> tuple[dict, np.ndarray]:
    """mteb's scores and its similarities of videos and labels `[60, 60]`."""
    folder = tmp_path_factory.mktemp("zero_shot")
    scores = run(encoder, MotionShapesZeroShot(videos), folder)
    predictions = json.loads((folder / "MotionShapesZeroShot_predictions.json").read_text())
    return scores, np.array(predictions["default"]["test"])


@pytest.fixture(scope="module")
def files(zero_shot, videos) -> list[str]:
    """The videos, in the order of the labels."""
    scenes = MotionShapesZeroShot(videos).scenes
    return [str(videos / f"{SEED}_{scene.label.replace(' ', '_')}.mp4") for scene in scenes]


def loader(video=None, text=None, batch_size=4, collate_fn=None, workers=0) -> DataLoader:
    """As mteb makes them."""
    columns = {name: values for name, values in (("video", video), ("text", text)) if values is not None}
    features = Features({name: {"video": Video(), "text": Value("string")}[name] for name in columns})
    dataset = Dataset.from_dict(columns, features)
    return DataLoader(dataset, batch_size=batch_size, collate_fn=collate_fn, num_workers=workers)


def encode(encoder, *arguments, **options) -> np.ndarray:
    return encoder.encode(loader(*arguments, **options), **ABOUT_THE_TASK, **QUIET)


# The same results


def test_zero_shot_is_our_evaluation(zero_shot, files, videos, tmp_path):
    """Every video's five best classes, their scores and the accuracy, from mp4 files on."""
    scores, similarities = zero_shot
    names = [scene.label for scene in MotionShapesZeroShot(videos).scenes]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    (tmp_path / "list.txt").write_text("\n".join(f"{Path(file).name} {i}" for i, file in enumerate(files)))
    protocol = load_protocol("own-zero-shot").overridden({"templates": [TEMPLATE]})
    plan = plan_evaluation(protocol, videos, tmp_path / "list.txt", tmp_path / "classes.txt")
    evaluator = Evaluator(load_checkpoint(str(CHECKPOINT)), plan, frozen_clip=False)
    results = list(run_all(evaluator, tmp_path / "results").values())
    assert len(results) == 60

    logits = torch.tensor(similarities) * evaluator.checkpoint.model.logit_scale.exp().item()
    for index, (result, expected) in enumerate(zip(results, logits.softmax(-1), strict=True)):
        assert result.name == Path(files[index]).name
        ((ids, values),) = result.scores["vita_clip"].values()
        assert ids[0] == similarities[index].argmax()
        assert values == pytest.approx(expected[ids].tolist(), abs=1e-5)
    tops = [next(iter(result.scores["vita_clip"].values()))[0][0] for result in results]
    assert scores["accuracy"] == np.mean([top == label for label, top in enumerate(tops)])
    assert 0.8 < scores["accuracy"] < 1  # some mistakes too, and the same ones


def test_retrieval_ranks_by_the_same_similarities(encoder, zero_shot, videos, tmp_path):
    scores = run(encoder, MotionShapesTextToVideo(videos), tmp_path)
    ranks = (-zero_shot[1].T).argsort(1).argsort(1).diagonal()  # of the right video, for each text
    assert scores["recall_at_1"] == pytest.approx((ranks == 0).mean(), abs=1e-5)
    gains = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0)
    assert scores["ndcg_at_10"] == pytest.approx(gains.mean(), abs=1e-5)


def features_of(files) -> np.ndarray:
    """Normalised video features, straight from model and processor."""
    checkpoint = load_checkpoint(str(CHECKPOINT))
    pixels = checkpoint.processor.video_processor(list(map(str, files)), return_tensors="pt")["pixel_values_videos"]
    with torch.no_grad():
        return normalize(checkpoint.model.get_video_features(pixels).pooler_output, dim=-1).numpy()


def test_linear_probe_and_clustering(encoder, files, videos, tmp_path):
    """The same classifier of scikit-learn on features that come another way; and clusters better than chance."""
    from sklearn.linear_model import LogisticRegression

    accuracy = run(encoder, MotionShapesClassification(videos), tmp_path)["accuracy"]
    train = sorted(videos.glob(f"{SEED + 1}_*.mp4"))
    assert len(train) == 60
    motion = {name.replace(" ", "_"): number for number, (name, *_) in enumerate(MOTIONS.values())}

    def labels(paths):
        return [motion[Path(path).stem.split("_", 3)[3]] for path in paths]

    probe = LogisticRegression(max_iter=100).fit(features_of(train), labels(train))
    assert accuracy == pytest.approx(probe.score(features_of(files), labels(files)), abs=1.5 / 60)
    assert run(encoder, MotionShapesClustering(videos), tmp_path)["v_measure"] > 0.3


# Videos, as they may come


class NHWCDecoder:
    """What torchcodec's `VideoDecoder` gives with `dimension_order="NHWC"`."""

    def __init__(self, frames: np.ndarray):
        self.frames = torch.from_numpy(frames)
        self.metadata = SimpleNamespace(average_fps=25.0, width=96, height=96, duration_seconds=1.28, path="own.mp4")

    def __len__(self) -> int:
        return len(self.frames)

    def get_frames_at(self, indices: list[int]) -> SimpleNamespace:
        return SimpleNamespace(data=self.frames[indices])


def test_every_form_of_video_is_read(encoder, files):
    every = decode_video(files[3], range(32))[0]
    content = Path(files[3]).read_bytes()
    forms = [files[3], Path(files[3]), content, {"path": files[3], "bytes": None}, {"path": "gone", "bytes": content}]
    forms += [every, torch.from_numpy(every).permute(0, 3, 1, 2), [Image.fromarray(frame) for frame in every]]
    forms += [torch.from_numpy(every).permute(0, 3, 1, 2) / 255, NHWCDecoder(every)]
    expected, *others = (row["video"] for row in read_rows([{"video": form} for form in forms], encoder.reader))
    for form, pixels in zip(forms[1:], others, strict=True):
        assert (pixels - expected).abs().max() < (0.02 if getattr(form, "dtype", None) == torch.float32 else 1e-6), (
            type(form)
        )


def test_torchcodec_decoder_is_read(encoder, files):
    decoders = pytest.importorskip("torchcodec.decoders", exc_type=(ImportError, RuntimeError))
    videos = [decoders.VideoDecoder(files[3], dimension_order=order) for order in ("NCHW", "NHWC")]
    expected, *others = read_rows([{"video": video} for video in (files[3], *videos)], encoder.reader)
    for row in others:  # another FFmpeg may round colours differently
        assert (row["video"] - expected["video"]).abs().mean() < 0.02


def test_whatever_collator_the_loader_has_the_frames_are_ours(encoder, files):
    plain = encode(encoder, files[:5])
    assert np.array_equal(plain, encode(encoder, files[:5], collate_fn=FramesCollator(num_frames=2)))
    assert np.abs(plain - features_of(files[:5])).max() < 1e-6


def test_a_decoding_data_set_of_another_format(encoder, files):
    """A transform may hand over anything; here, all frames as tensors."""

    def all_frames(batch):
        return {"video": [torch.from_numpy(decode_video(path, range(32))[0]) for path in batch["video"]]}

    dataset = Dataset.from_dict({"video": files[:3]}).with_transform(all_frames)
    embeds = encoder.encode(DataLoader(dataset, batch_size=2), **ABOUT_THE_TASK, **QUIET)
    assert np.array_equal(embeds, encode(encoder, files[:3], batch_size=2))


def test_an_unreadable_video_is_an_error_that_names_it(encoder, files, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(Path(files[0]).read_bytes()[:2000])
    with pytest.raises(VideoDecodingError, match=r"damaged\.mp4"):
        encode(encoder, [files[0], str(damaged)])


# Rows


def test_video_and_text_of_a_row_are_added(encoder, files):
    texts = ["a red star turning", "a blue heart"]
    video, text = encode(encoder, files[:2]), encode(encoder, None, texts)
    both = encode(encoder, files[:2], texts)
    assert both == pytest.approx(normalize(torch.tensor(video + text), dim=-1).numpy(), abs=1e-6)


def test_rows_may_lack_one_of_the_two(encoder, files):
    rows = [{"video": files[0], "text": None}, {"video": None, "text": "a red star"}]
    embeds = encoder.embed_rows(read_rows(rows, encoder.reader))
    assert np.abs(embeds[0].numpy() - encode(encoder, files[:1])[0]).max() < 1e-6
    assert np.abs(embeds[1].numpy() - encode(encoder, None, ["a red star"])[0]).max() < 1e-6
    with pytest.raises(ValueError, match="neither video nor text"):
        read_rows([rows[0], {"video": None, "text": None}], encoder.reader)


def test_data_of_other_kinds_is_refused(encoder):
    loader = DataLoader(Dataset.from_dict({"audio": [1.0]}))
    with pytest.raises(ValueError, match="takes `video` and `text`; the data has audio"):
        encoder.encode(loader, **ABOUT_THE_TASK)
    with pytest.raises(ValueError, match="precision='int8'"):
        encoder.encode(loader, **ABOUT_THE_TASK, precision="int8")


def test_long_texts_are_cut_with_a_warning(encoder, monkeypatch):
    warnings = []
    monkeypatch.setattr("vitaclip_hf.evaluation.mteb.logger.warning", warnings.append)
    longest = encoder.model.config.text_config.max_position_embeddings
    text = " ".join(["red"] * 100)
    embeds = encode(encoder, None, [text, "red"])
    assert warnings == [f"1 of 2 texts are longer than {longest} tokens and were cut."]
    kept = " ".join(["red"] * (longest - 2))  # and the marks of beginning and end
    assert np.abs(embeds[0] - encode(encoder, None, [kept])[0]).max() < 1e-6 and len(warnings) == 1


# Settings


def test_batches_and_processes_change_nothing(encoder, files):
    first = encode(encoder, files[:6], batch_size=3)
    assert first.dtype == np.float32 and np.abs(np.linalg.norm(first, axis=1) - 1).max() < 1e-6
    assert np.array_equal(first, encode(encoder, files[:6], batch_size=3))
    assert np.array_equal(first, encode(encoder, files[:6], batch_size=3, workers=2))
    assert np.abs(first - encode(encoder, files[:6], batch_size=1)).max() < 1e-6


def test_views_are_averaged_and_kept_apart(encoder, files, tmp_path):
    views = {"num_frames": 4, "sampling": "dense", "frame_stride": 3, "num_views": 2, "num_spatial_views": 3}
    other = VitaClipEncoder(str(CHECKPOINT), device="cpu", **views)
    checkpoint = other.checkpoint
    pixels = checkpoint.processor.video_processor([files[8]], return_tensors="pt", **views)["pixel_values_videos"]
    with torch.no_grad():
        features = checkpoint.model.get_video_features(pixels[0]).pooler_output  # [6, E]
    expected = normalize(normalize(features, dim=-1).mean(0), dim=-1)
    assert np.abs(encode(other, files[8:9])[0] - expected.numpy()).max() < 1e-6
    # One side of the checkpoint's own settings is not named.
    assert other.mteb_model_meta.experiment_kwargs == views
    cache = mteb.ResultCache(tmp_path)
    paths = [cache.get_task_result_path("T", model.mteb_model_meta) for model in (encoder, other)]
    assert paths[0].parent in paths[1].parents and "experiments" in paths[1].parts


def test_bfloat16(encoder, files):
    other = VitaClipEncoder(str(CHECKPOINT), device="cpu", dtype="bfloat16")
    assert other.mteb_model_meta.revision == encoder.mteb_model_meta.revision  # of the weights before they are rounded
    assert other.model.dtype == torch.bfloat16 and other.mteb_model_meta.experiment_kwargs == {"dtype": "bfloat16"}
    embeds = encode(other, files[:4])
    assert embeds.dtype == np.float32
    difference = np.abs(embeds - encode(encoder, files[:4])).max()
    assert 0 < difference < 0.05


@pytest.mark.parametrize(
    ("settings", "token"),
    [
        ({"sampling": "dense_random"}, "`sampling`"),
        ({"num_frames": 0}, "`num_frames`"),
        ({"num_spatial_views": 2}, "`num_spatial_views`"),
        ({"max_seconds": -1}, "`max_seconds`"),
        ({"fps": 3}, "fps"),
        ({"dtype": "int8"}, "`dtype`"),
    ],
)
def test_bad_settings(settings, token):
    with pytest.raises((TypeError, ValueError), match=token):
        VitaClipEncoder(str(CHECKPOINT), device="cpu", **settings)


# What mteb records


def test_metadata(encoder, tmp_path):
    """A saved processor's reading options arrive; `on_damage` and `allow_private_addresses` were lost once."""
    meta = encoder.mteb_model_meta
    assert isinstance(encoder, EncoderProtocol)
    assert (meta.name, meta.license, meta.experiment_kwargs, meta.training_datasets) == (
        *("local/checkpoint", None, None, None),
    )
    assert (meta.n_parameters, meta.embed_dim, meta.max_tokens) == (1_180_641, 64, 32)
    assert meta.similarity_fn_name == "cosine" and set(meta.modalities) == {"video", "text"}
    copy = tmp_path / "another"
    shutil.copytree(CHECKPOINT, copy)
    same = VitaClipEncoder(str(copy), device="cpu", license="apache-2.0").mteb_model_meta
    assert (same.name, same.license, same.revision) == ("local/another", "apache-2.0", meta.revision)
    settings = json.loads((copy / "processor_config.json").read_text())
    settings["video_processor"] |= {"num_frames": 4, "on_damage": "skip", "allow_private_addresses": False}
    (copy / "processor_config.json").write_text(json.dumps(settings))
    changed = VitaClipEncoder(str(copy), device="cpu", name="lab/vita")
    assert changed.mteb_model_meta.revision != meta.revision and changed.mteb_model_meta.name == "lab/vita"
    options = changed.reader.options
    assert (options.on_damage, options.allow_private_addresses) == ("skip", False)


# The script


def call_script(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["run_mteb", *map(str, arguments)])
    return runpy.run_path(str(SCRIPT))["main"]()


def test_script_from_end_to_end(monkeypatch, capsys, zero_shot, tmp_path):
    arguments = ("--model", CHECKPOINT, "--tasks", "MotionShapesZeroShot", "--output", tmp_path, "--device", "cpu")
    assert call_script(monkeypatch, *arguments) == 0
    printed = capsys.readouterr().out
    assert f"| MotionShapesZeroShot | accuracy | {zero_shot[0]['accuracy']:.4f} |" in printed
    (result,) = tmp_path.glob("results/local__checkpoint/*/MotionShapesZeroShot.json")
    assert str(result.parent) in printed
    assert json.loads(result.read_text())["scores"]["test"][0]["accuracy"] == round(zero_shot[0]["accuracy"], 6)
    before = result.stat().st_mtime_ns
    assert call_script(monkeypatch, *arguments) == 0
    assert result.stat().st_mtime_ns == before  # a finished task is not run again
    assert f"{zero_shot[0]['accuracy']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "HMDB51ZeroSho"), "Did you mean: 'HMDB51ZeroShot'"),
        (("--tasks", "MotionShapesZeroShot", "--model", "nowhere"), "nowhere"),
        (("--tasks", "MotionShapesZeroShot", "--batch-size", "0"), "at least 1, got 0"),
        (("--tasks", "BeijingOpera"), "supports ['video', 'text'], but none overlap"),
    ],
)
def test_bad_input_of_the_script(monkeypatch, capsys, tmp_path, arguments, message):
    assert call_script(monkeypatch, "--model", CHECKPOINT, "--output", tmp_path, *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("run_mteb: ") and message in error
