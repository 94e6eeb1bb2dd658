"""The pipeline on one folder, against the model and the processor called by hand."""

import importlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny_models import tiny_clip, tiny_model, tiny_processor
from torch.utils.data import IterableDataset
from transformers import AutoModel, AutoProcessor, CLIPImageProcessor, VideoClassificationPipeline, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

import vitaclip_hf
from vitaclip_hf import CheckpointError, VideoDecodingError, VitaClipProcessor, fast_dtype, load_checkpoint
from vitaclip_hf.data.video_writing import write_video
from vitaclip_hf.model import machine, pipeline_zero_shot_video_classification
from vitaclip_hf.model.scorer import ScoreError, Scorer


LABELS = ["riding a bike", "tai_chi", "archery", "high jump"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    tiny_model(tokenizer=tokenizer).save_pretrained(path)
    tiny_processor(tokenizer).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    path, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for index in range(5):
        coarse = rng.integers(0, 256, (6 + 7 * index, 3, 4, 3), dtype=np.uint8)
        write_video(path / f"{index}.mp4", coarse.repeat(32, 1).repeat(32, 2))
    return sorted(map(str, path.iterdir()))


@pytest.fixture(scope="module")
def classifier(folder):
    return pipeline("zero-shot-video-classification", model=str(folder), device="cpu")


@pytest.fixture(scope="module")
def parts(folder):
    """The model and the processor of the folder."""
    return AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


@torch.no_grad()
def scores_by_hand(parts, video, templates=("{}",), **views) -> dict[str, float]:
    """The class matrix and the scores, step by step."""
    model, processor = parts
    total = 0
    for template in templates:
        texts = [template.format(label.replace("_", " ")) for label in LABELS]
        inputs = processor.tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt")
        features = model.get_text_features(**inputs).pooler_output
        total = total + features / features.norm(dim=-1, keepdim=True) / len(templates)
    texts = total / total.norm(dim=-1, keepdim=True)
    pixels = processor.video_processor(video, return_tensors="pt", **views)["pixel_values_videos"]
    scores = []
    for clip in pixels.flatten(0, -5):  # the views of the one video
        features = model.get_video_features(clip[None]).pooler_output[0]
        scores.append((model.logit_scale.exp() * texts @ features / features.norm()).softmax(0))
    return dict(zip(LABELS, torch.stack(scores).mean(0).tolist(), strict=True))


def check(result: list[dict], expected: dict[str, float]) -> None:
    assert {row["label"]: row["score"] for row in result} == pytest.approx(expected, abs=1e-5)
    assert result == sorted(result, key=lambda row: -row["score"])


def test_one_video(classifier, parts, files):
    result = classifier(files[0], candidate_labels=LABELS)
    check(result, scores_by_hand(parts, files[0]))
    assert classifier(Path(files[0]), candidate_labels=LABELS) == result
    assert classifier(files[0], candidate_labels=LABELS, top_k=2) == result[:2]
    assert classifier(files[0], candidate_labels=LABELS, top_k=9) == result


def test_arrays_and_frames(classifier, tmp_path):
    video = np.random.default_rng(1).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    result = classifier(video, candidate_labels=LABELS)
    assert classifier([Image.fromarray(frame) for frame in video], candidate_labels=LABELS) == result
    (tmp_path / "clip #1?").mkdir()
    images = [tmp_path / "clip #1?" / f"{number}.png" for number in range(len(video))]
    for frame, file in zip(video, images, strict=True):
        Image.fromarray(frame).save(file)
    assert classifier([images], candidate_labels=LABELS) == [result]
    assert classifier(torch.from_numpy(video), candidate_labels=LABELS) == result
    assert classifier([video, video], candidate_labels=LABELS) == [result, result]


def test_columns_arrays_and_data_sets(classifier, files):
    paths = [str(file) for file in files[:2]]
    expected = classifier(paths, candidate_labels=LABELS)
    data = Dataset.from_dict({"video": paths, "label": [0, 1]})
    for videos in (data["video"], np.array(paths), tuple(paths), dict(enumerate(paths)).values()):
        assert classifier(videos, candidate_labels=LABELS) == expected
    stream = data.to_iterable_dataset()
    for videos in (data, stream, stream.map(dict)):  # the last one does not know its columns
        assert list(classifier(videos, candidate_labels=LABELS)) == expected

    class Counted(IterableDataset):  # torch gives it a `__getitem__` that only raises
        def __iter__(self):
            return iter(paths)

        def __len__(self):
            return len(paths)

    assert list(classifier(Counted(), candidate_labels=LABELS)) == expected
    read: list = []
    columns = (
        Dataset.from_list([{"video": path} for path in paths * 9])
        .to_iterable_dataset()
        .map(lambda row: read.append(1) or row)["video"]
    )
    first = next(iter(classifier(columns, candidate_labels=LABELS, num_workers=1)))
    assert first == expected[0] and len(read) < 9
    with pytest.raises(ValueError, match="column `video`"):
        classifier(data.rename_column("video", "clip"), candidate_labels=LABELS)
    frames = np.random.default_rng(0).random((4, 32, 32, 3), dtype=np.float32)
    above = np.where(frames > 0.9, np.float32(1.000001), frames)
    assert classifier(above, candidate_labels=LABELS) == classifier(above.clip(0, 1), candidate_labels=LABELS)


def test_several_videos_are_never_taken_for_views(classifier, tmp_path):
    rng = np.random.default_rng(2)
    one, other = rng.integers(0, 256, (2, 6, 40, 40, 3), dtype=np.uint8)
    apart = [classifier(video, candidate_labels=LABELS) for video in (one, other)]
    for batch in (np.stack([one, other]), torch.from_numpy(np.stack([one, other])), (one, other)):
        assert classifier(batch, candidate_labels=LABELS) == apart
    with pytest.raises(TypeError, match="one video, got a list of 2"):
        classifier([[one, other], one], candidate_labels=LABELS)
    paths = [str(tmp_path / f"{index}.png") for index in range(6)]
    for path, frame in zip(paths, one, strict=True):
        Image.fromarray(frame).save(path)
    assert classifier([paths], candidate_labels=LABELS) == apart[:1] and classifier([], candidate_labels=LABELS) == []


@pytest.mark.parametrize("templates", ["a video of {}.", ["a video of {}.", "{} in a film", "{}"]])
def test_templates(classifier, parts, files, templates):
    result = classifier(files[1], candidate_labels=LABELS, hypothesis_template=templates)
    expected = scores_by_hand(parts, files[1], templates=[templates] if isinstance(templates, str) else templates)
    check(result, expected)


@pytest.mark.parametrize(
    "views", [{}, {"sampling": "dense", "frame_stride": 2, "num_views": 3, "num_spatial_views": 3}]
)
@pytest.mark.parametrize("batch_size", [2, 8])
def test_batches_of_videos_of_any_length(classifier, parts, files, batch_size, views):
    """The views of a video are averaged after the softmax."""
    results = classifier(files, candidate_labels=LABELS, batch_size=batch_size, **views)
    for result, file in zip(results, files, strict=True):
        check(result, scores_by_hand(parts, file, **views))


def test_threads_change_nothing_but_who_reads(classifier, files, monkeypatch):
    import threading

    readers = []
    preprocess = classifier.preprocess

    def watched(video, **arguments):
        if isinstance(video, str):
            readers.append(threading.current_thread())
        return preprocess(video, **arguments)

    monkeypatch.setattr(classifier, "preprocess", watched)
    expected = [classifier(file, candidate_labels=LABELS) for file in files * 2]
    for threads in (0, 1, 3):
        readers.clear()
        assert classifier(files * 2, candidate_labels=LABELS, num_workers=threads) == expected
        assert threading.main_thread() not in readers and len(readers) == 10
        assert 1 <= len(set(readers)) <= max(threads, 1)


def test_errors_of_threads_are_in_their_place(classifier, files, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    videos = [*files[:3], str(broken), files[3]]
    answers = iter(classifier((video for video in videos), candidate_labels=LABELS, num_workers=2))
    assert [next(answers) for _ in range(3)] == classifier(files[:3], candidate_labels=LABELS, num_workers=0)
    with pytest.raises(VideoDecodingError, match="broken.mp4"):
        next(answers)
    for wrong, found in ((5, "got int"), ({"clip": files[0]}, "got dict")):
        assert found in classifier(wrong, candidate_labels=LABELS, on_error="skip")["error"]
    skipped = classifier(videos, candidate_labels=LABELS, num_workers=2, on_error="skip")
    assert "broken.mp4" in skipped[3]["error"] and [isinstance(answer, list) for answer in skipped].count(True) == 4


def test_an_error_of_a_generator_comes_after_the_answers_before_it(classifier, files):
    def source():
        yield from files[:2]
        raise RuntimeError("the list ends here")

    answers = iter(classifier(source(), candidate_labels=LABELS, num_workers=4, batch_size=3))  # an unfinished batch
    assert len([next(answers), next(answers)]) == 2
    with pytest.raises(RuntimeError, match="the list ends here"):
        next(answers)


def test_an_endless_generator_is_read_no_further_than_the_bound(classifier, files):
    taken = []

    def source():
        while True:
            taken.append(1)
            yield files[0]

    answers = iter(classifier(source(), candidate_labels=LABELS, batch_size=2, num_workers=3))
    next(answers)
    assert len(taken) == 2 + 2 + 3
    next(answers), next(answers)
    assert len(taken) == 4 + 2 + 3


@pytest.mark.parametrize(
    ("device", "cores", "torch_threads", "expected"),
    [("cpu", 2, 2, 1), ("cpu", 8, 4, 4), ("cpu", 4, 16, 1), ("cuda", 4, 4, 3), ("cuda", 64, 1, 8)],
)
def test_threads_are_as_many_as_free_cores(monkeypatch, device, cores, torch_threads, expected):
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: torch_threads)
    assert machine.reading_threads(device) == expected


def test_readers_end_with_their_iterator(classifier, files):
    import gc
    import threading
    import time

    def readers():
        return [thread for thread in threading.enumerate() if thread.name.startswith("video-reader")]

    answers = iter(classifier((files[0] for _ in range(50)), candidate_labels=LABELS, num_workers=2))
    next(answers)
    assert readers()
    del answers
    gc.collect()
    until = time.monotonic() + 10
    while readers() and time.monotonic() < until:
        time.sleep(0.05)
    assert not readers()


def test_precision_auto_is_the_fast_type(folder, monkeypatch):
    task = {"task": "zero-shot-video-classification", "model": str(folder), "device": "cpu"}
    monkeypatch.setattr(pipeline_zero_shot_video_classification, "fast_dtype", lambda device: torch.bfloat16)
    assert pipeline(**task, precision="auto").dtype == torch.bfloat16
    assert pipeline(**task, dtype="auto").dtype == torch.float32  # transformers' meaning
    with pytest.raises(ValueError, match="`precision` must be"):
        pipeline(**task, precision="bfloat16")


def test_number_types_and_devices_of_a_loaded_checkpoint(folder, tmp_path):
    expected = {"bfloat16": torch.bfloat16, torch.float16: torch.float16, "auto": torch.float32, None: torch.float32}
    assert {dtype: load_checkpoint(folder, dtype=dtype).model.dtype for dtype in expected} == expected
    assert load_checkpoint(folder, torch_dtype="float16").classifier(device="cpu").dtype == torch.float16
    for wrong in ("float31", "nn", "int8", 16):
        with pytest.raises(ValueError, match="`dtype` must be a floating-point type"):
            load_checkpoint(folder, dtype=wrong)
    spread = load_checkpoint(folder, device_map={"": "disk"}, offload_folder=tmp_path)  # cannot be moved
    assert spread.model.hf_device_map == {"": "disk"}
    spread = load_checkpoint(folder, device_map={"": "disk"}, offload_folder=tmp_path / "half", dtype="bfloat16")
    assert spread.model.dtype == torch.bfloat16
    places = dict.fromkeys(("logit_scale", "text_model", "visual_projection"), "cpu")
    places |= dict.fromkeys(("vision_model", "text_projection", "class_prompts"), "disk")
    video = np.zeros((4, 32, 32, 3), np.uint8)
    spread = load_checkpoint(folder, device_map=places, offload_folder=tmp_path).classifier()
    assert spread(video) == load_checkpoint(folder).classifier()(video)
    with pytest.raises(CheckpointError, match='an argument that does not fit .*"flash"'):
        load_checkpoint(folder, attn_implementation="flash")


def test_classes_in_another_order_of_their_numbers(folder, files, tmp_path):
    """JSON that was written with sorted keys has "10" before "2"."""
    copied = Path(shutil.copytree(folder, tmp_path / "model"), "config.json")
    config = json.loads(copied.read_text())
    config["id2label"] = dict(reversed(config["id2label"].items()))
    copied.write_text(json.dumps(config))
    assert load_checkpoint(copied.parent).classifier()(files[0]) == load_checkpoint(folder).classifier()(files[0])


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, torch.float32),
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
    ],
)
def test_the_fast_type_is_that_of_what_the_cpu_can(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fast_dtype() == fast_dtype(torch.device("cpu")) == expected


def test_the_fast_type_of_other_devices_and_torches(monkeypatch):
    assert fast_dtype("meta") == torch.float32
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert fast_dtype() == torch.float32


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"candidate_labels": []}, ValueError, "non-empty strings"),
        ({"candidate_labels": "a, b"}, ValueError, "a list of non-empty strings"),
        ({"candidate_labels": ["a", " "]}, ValueError, "non-empty strings"),
        ({"candidate_labels": ["a", "b", "a"]}, ValueError, "repeated: 'a'"),
        *(({"candidate_labels": ["a"], "hypothesis_template": it}, ValueError, "needs `{}`") for it in ("a video", 5)),
        *(({"candidate_labels": ["a"], "top_k": it}, ValueError, "`top_k` must be") for it in (0, -1, "x", True)),
        ({"candidate_labels": ["a"], "min_score": "0.5"}, ValueError, "`min_score`"),
        ({"candidate_labels": ["a"], "on_error": "ignore"}, ValueError, "`on_error` must be"),
        ({"candidate_labels": ["a"], "view": 3}, TypeError, "unknown setting `view`; known are num_frames"),
        ({"candidate_labels": ["word " * 90]}, ValueError, "takes 9[0-9] tokens.*77 positions"),
    ],
)
def test_bad_arguments(classifier, files, arguments, error, message):
    with pytest.raises(error, match=message):
        classifier(files[0], **arguments)


def test_registering_again_is_quiet(caplog):
    with caplog.at_level(logging.WARNING):
        importlib.reload(vitaclip_hf.registration)
    assert not caplog.records and "zero-shot-video-classification" in PIPELINE_REGISTRY.get_supported_tasks()


# The classes of a training


@torch.no_grad()
def class_scores_by_hand(parts, video, **views) -> dict[str, float]:
    model, processor = parts
    pixels = processor(videos=video, return_tensors="pt", **views)["pixel_values_videos"]
    scores = model(pixels.flatten(0, -5)).logits_per_video.softmax(-1).mean(0)  # of the views of the one video
    return dict(zip(model.config.id2label.values(), scores.tolist(), strict=True))


def test_classes_without_labels(classifier, parts, files):
    for result, file in zip(classifier(files, batch_size=2), files, strict=True):
        check(result, class_scores_by_hand(parts, file))
    assert classifier(files[0], top_k=1) == classifier(files[0])[:1]
    views = {"sampling": "dense", "frame_stride": 3, "num_views": 2}  # averaged after the softmax
    check(classifier([files[4]] * 3, **views, batch_size=2)[1], class_scores_by_hand(parts, files[4], **views))


def test_saved_as_one_folder(classifier, parts, files, tmp_path):
    """Which transformers' own pipeline of the classes takes too."""
    classifier.save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is VitaClipProcessor and not list(tmp_path.glob("*.py"))
    again = pipeline("zero-shot-video-classification", model=str(tmp_path), device="cpu")
    assert again(files[0], candidate_labels=LABELS) == classifier(files[0], candidate_labels=LABELS)
    closed = pipeline("video-classification", model=str(tmp_path), device="cpu")
    assert type(closed) is VideoClassificationPipeline and closed.image_processor is None
    for file in files:
        check(closed(file), class_scores_by_hand(parts, file))


def test_a_stock_clip_with_new_prompts_takes_over_its_pixels(tokenizer, tmp_path):
    tiny_clip().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_checkpoint(tmp_path, accept_clip=True).processor.video_processor.crop_size["height"] == 32
    image = {"image_mean": [0.1, 0.2, 0.3], "crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 36}}
    CLIPImageProcessor(**image).save_pretrained(tmp_path)
    own = load_checkpoint(tmp_path, accept_clip=True, prompt_settings={"vision_config": {"num_frames": 3}})
    own = own.processor.video_processor
    assert own.num_frames == 3  # as many as its prompts
    assert list(own.image_mean) == [0.1, 0.2, 0.3] and own.crop_size["width"] == 32 and own.size["shortest_edge"] == 36


def test_a_folder_without_its_tokenizer_is_refused(folder, tmp_path):
    """transformers makes a tokenizer of two tokens for it, with which every label would have one embedding."""
    bare = shutil.copytree(folder, tmp_path / "bare")
    for file in bare.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match="tokenizer has 2 tokens, the text tower 49,408"):
        pipeline("zero-shot-video-classification", model=str(bare))
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_checkpoint(bare)


@torch.no_grad()
def test_texts_of_labels_and_blend(classifier, files):
    """Texts and a blend do what the encoder does."""
    texts = {label: [label, f"a video of {label}"] for label in LABELS}
    templates = classifier(files[0], candidate_labels=LABELS, hypothesis_template=["{}", "a video of {}"])
    check(classifier(files[0], candidate_labels=texts), {row["label"]: row["score"] for row in templates})
    pixels, _ = classifier.encoder.reader().read(files[0])
    scorer = Scorer(replace(classifier.encoder, use_prompts=False), LABELS)
    frozen = dict(zip(LABELS, scorer.score(pixels[None]).scores[0].tolist(), strict=True))
    check(classifier(files[0], candidate_labels=LABELS, blend=1.0), frozen)


# Details, on the demo checkpoint


TAXI = Path(__file__).parents[2] / "examples" / "demo" / "videos" / "taxi_moving_left.mp4"
WRONG = ["basketball bouncing", "taxi rising"]
RIGHT = ["taxi moving left", *WRONG]


@pytest.fixture(scope="module")
def demo(checkpoint):
    return checkpoint.classifier(return_details=True, num_workers=0)


@pytest.mark.parametrize(
    "views",  # centres of eight equal parts of 32 frames; of two views, at a quarter and three quarters of each
    [[range(2, 32, 4)], [range(1, 32, 4), range(3, 32, 4)]],
)
def test_details_and_plain_scores_are_the_same(demo, views):
    answer, numbers = demo(TAXI, candidate_labels=RIGHT, num_views=len(views)), [n for view in views for n in view]
    assert answer["frames"] == numbers and answer["times"] == [round(number / 16, 3) for number in numbers]
    assert answer["answer"] == answer["scores"][0]["label"] and "reason" not in answer
    plain = demo(TAXI, candidate_labels=RIGHT, num_views=len(views), return_details=False)
    assert [{"score": row["score"], "label": row["label"]} for row in answer["scores"]] == plain


def test_thresholds(demo):
    answer = demo(TAXI, candidate_labels=WRONG)
    assert answer["answer"] == "taxi rising" and answer["scores"][0]["score"] > 0.9
    cosine = answer["scores"][0]["cosine"]
    near, far = (demo(TAXI, candidate_labels=WRONG, min_score=0.9, min_cosine=cosine + more) for more in (-0.01, 0.01))
    assert near["answer"] == "taxi rising" and far["answer"] == "something else" and "cosine" in far["reason"]
    score = demo(TAXI, candidate_labels=["taxi", "a taxi"])["scores"][0]["score"]
    close = demo(TAXI, candidate_labels=["taxi", "a taxi"], min_score=min(score + 0.001, 1))
    assert close["answer"] == "something else" and f"{score:.3g}, below" in close["reason"]


def test_its_own_classes(demo, classifier, files):
    scores = demo(TAXI)["scores"]
    assert len(scores) == 400 and scores[0]["label"].endswith("moving left")
    assert sum(row["score"] for row in scores) == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="A template is for given labels"):
        demo(TAXI, hypothesis_template="a video of {}")
    parts = {"tokenizer": classifier.tokenizer, "video_processor": classifier.video_processor}
    with pytest.raises(ValueError, match="not trained on classes"):
        pipeline("zero-shot-video-classification", model=tiny_model(), device="cpu", **parts)(files[0])


def test_scores_that_are_no_numbers_are_of_their_video(demo, monkeypatch):
    forward = demo._forward

    def nan_for_the_second(inputs, **arguments):
        outputs = forward(inputs, **arguments)
        outputs["scores"][1] = torch.nan
        return outputs

    monkeypatch.setattr(demo, "_forward", nan_for_the_second)
    first, second, third = demo([TAXI] * 3, candidate_labels=RIGHT, batch_size=3, on_error="skip")
    assert "NaN" in second["error"] and first["answer"] == third["answer"] == "taxi moving left"
    with pytest.raises(ScoreError):
        demo([TAXI] * 3, candidate_labels=RIGHT, batch_size=3)
