"""Clip data sets: what is decoded, what a sample depends on, what becomes of files that fail."""

import pickle
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader

from vitaclip_hf import VideoDecodingError, VitaClipVideoProcessor
from vitaclip_hf.data import clip_stream
from vitaclip_hf.data.annotations import AnnotationError, AnnotationTable, VideoSample
from vitaclip_hf.data.augmentation import ClipAugmentation, ClipMixer
from vitaclip_hf.data.clip_dataset import ClipCollator, ClipDataset, EpochSampler, SampleKey
from vitaclip_hf.data.clip_stream import ClipStream
from vitaclip_hf.data.video_sources import HubVideos
from vitaclip_hf.model.decoding import PyAVVideo, open_video
from vitaclip_hf.model.sources import VideoTooLargeError
from vitaclip_hf.model.video_inputs import SETTINGS, VideoReader


def table_of(paths, labels=None):
    labels = labels or [number % 3 for number in range(len(paths))]
    return AnnotationTable(tuple(map(VideoSample, paths, labels)), ("a", "b", "c"), "test")


@pytest.fixture
def table(video_files):
    return table_of(video_files[:6])


def processor(size=32):
    return VitaClipVideoProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def noisy(frames, generator):
    """An augmentation: the frames, cut small, plus one draw."""
    return frames[..., :8, :8].float() + torch.rand(1, generator=generator)


def training_set(table, **options):
    return clip_set(table, {"augmentation": noisy, "sampling": "dense_random"} | options)


def evaluation_set(table, **options):
    return clip_set(table, {"sampling": "dense"} | options)


def clip_set(table, options):
    """A data set from the options of the clip specification and its own."""
    options = {"num_frames": 4, "frame_stride": 2} | options
    settings = {name: options.pop(name) for name in SETTINGS if name in options}
    return ClipDataset(table, VideoReader(processor(), **settings), **options)


@pytest.fixture
def decoded(monkeypatch):
    """The frame numbers of each decoding."""
    calls = []
    decode = PyAVVideo._decode
    monkeypatch.setattr(PyAVVideo, "_decode", lambda video, numbers: calls.append(numbers) or decode(video, numbers))
    return calls


# Evaluation


def test_evaluation_equals_the_processor(table):
    sample = evaluation_set(table, num_views=2, num_spatial_views=3)[4]
    expected = processor()(
        table.samples[4].path, num_frames=4, sampling="dense", frame_stride=2, num_views=2, num_spatial_views=3
    )
    assert torch.equal(sample["pixel_values_videos"], torch.as_tensor(np.stack(expected["pixel_values_videos"]))[0])
    assert (sample["labels"], sample["index"]) == (1, 4)


def test_only_the_frames_of_the_views_are_decoded(table, decoded):
    evaluation_set(table, num_views=2)[0]
    assert decoded == [sorted({0, 2, 4, 6} | {5, 7, 9, 11})]
    training_set(table)[0]
    assert len(decoded[1]) == 4
    evaluation_set(table, num_views=3)[0]
    assert decoded[2] == [0, 2, 4, 5, 6, 7, 8, 9, 11]  # from 0, 2 and 5: the views share frames


def test_unlabelled_videos_are_evaluated_but_not_trained_on(video_files):
    table = table_of(video_files[:2], [0, None])
    assert evaluation_set(table)[1]["labels"] == -100
    with pytest.raises(AnnotationError, match="1 of 2 videos have no label, such as .*1.mp4"):
        training_set(table)
    with pytest.raises(TypeError, match=r"HubVideos.*, got datasets.Dataset"):
        evaluation_set(datasets.Dataset.from_dict({"video": video_files[:2], "label": [0, 1]}))


# What a sample depends on


def test_frames_and_augmentation_come_from_seed_epoch_and_index(table, decoded):
    data = training_set(table, seed=3)

    def draws(data, key):
        torch.manual_seed(len(decoded))  # the global state must not matter
        return data[key]["pixel_values_videos"]

    first = draws(data, SampleKey(1, 2))
    assert torch.equal(first, draws(data, SampleKey(1, 2)))
    assert torch.equal(first, draws(pickle.loads(pickle.dumps(data)), SampleKey(1, 2)))
    assert torch.equal(draws(data, SampleKey(0, 2)), draws(data, 2))
    others = [draws(data, SampleKey(epoch, 2)) for epoch in (2, 3, 4)]
    others.append(draws(training_set(table, seed=4), SampleKey(1, 2)))
    assert not any(torch.equal(first, other) for other in others)
    assert len({tuple(asked) for asked in decoded}) > 1


def batches(data, workers, epochs=2, **options):
    sampler, collator = EpochSampler(data, seed=5), ClipCollator(ClipMixer(3, mixup=0.8))
    loader = DataLoader(data, batch_size=2, sampler=sampler, num_workers=workers, collate_fn=collator, **options)
    found = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found += list(loader)
    return found


def test_same_batches_for_any_number_of_workers(table):
    data = training_set(table, augmentation=ClipAugmentation(16))
    expected = batches(data, 0)
    assert len(expected) == 6 and expected[0]["pixel_values_videos"].shape == (2, 4, 3, 16, 16)
    assert any(0 < batch["labels"].max() < 1 for batch in expected)
    torch.manual_seed(99)
    for options in ({"workers": 1}, {"workers": 2, "persistent_workers": True}):
        for one, other in zip(expected, batches(data, **options), strict=True):
            assert all(torch.equal(one[name], other[name]) for name in ("pixel_values_videos", "labels", "index"))


def test_accelerate_splits_and_resumes_in_the_right_epoch(table, monkeypatch):
    monkeypatch.setattr(ClipDataset, "__getitem__", lambda data, key: tuple(key))

    def loader_of(rank):
        data = training_set(table)
        loader = DataLoader(data, batch_size=1, sampler=EpochSampler(data, seed=1), collate_fn=list)
        return prepare_data_loader(loader, num_processes=2, process_index=rank, put_on_device=False)

    orders = [[], []]
    for epoch, rank in ((0, 0), (0, 1), (1, 0), (1, 1)):
        loader, resumed = loader_of(rank), skip_first_batches(loader_of(rank), 1)  # as the Trainer does: skip, then
        loader.set_epoch(epoch), resumed.set_epoch(epoch)  # tell the epoch
        keys = [key for batch in loader for key in batch]
        assert [key for batch in resumed for key in batch] == keys[1:]
        orders[epoch] += keys
    assert [sorted(order) for order in orders] == [[(epoch, index) for index in range(6)] for epoch in (0, 1)]
    assert [index for _, index in orders[0]] != [index for _, index in orders[1]]
    data = training_set(table)
    assert list(EpochSampler(data, seed=6)) != list(EpochSampler(data, seed=5)) == list(EpochSampler(data, seed=5))


# Files that fail


@pytest.fixture
def damaged(video_files, tmp_path):
    """The second and the fifth video cannot be read."""
    (tmp_path / "bad.mp4").write_bytes(b"garbage" * 100)
    return table_of([video_files[0], str(tmp_path / "bad.mp4"), *video_files[2:4], "gone.mp4", video_files[5]])


def test_training_replaces_a_failed_video_and_reports_it(damaged):
    data = training_set(damaged, on_error="skip")
    replaced = set()
    for epoch in range(12):
        sample = data[SampleKey(epoch, 1)]
        paths = [path for path, _ in sample["failures"]]
        assert paths[0].endswith("bad.mp4")
        assert "VideoDecodingError" in sample["failures"][0][1]
        assert sample["index"] not in (1, 4)
        assert sample["labels"] == damaged.samples[sample["index"]].label
        again = data[SampleKey(epoch, 1)]
        assert again["index"] == sample["index"]
        assert torch.equal(again["pixel_values_videos"], sample["pixel_values_videos"])
        replaced.add(sample["index"])
    assert len(replaced) > 1
    assert "failures" not in data[0]


def test_errors_stop_by_default_and_retries_are_bounded(damaged):
    with pytest.raises(VideoDecodingError, match="bad.mp4"):
        training_set(damaged)[1]
    data = training_set(table_of([f"gone{n}.mp4" for n in range(4)]), on_error="skip", max_retries=2)
    with pytest.raises(VideoDecodingError, match="3 videos in a row could not be read, the last gone"):
        data[0]


def test_evaluation_never_replaces_and_failures_reach_the_batch_from_workers(damaged):
    with pytest.raises(VideoDecodingError, match="bad.mp4"):
        list(DataLoader(evaluation_set(damaged), batch_size=None, num_workers=1))
    data = evaluation_set(damaged, on_error="skip", num_views=2)
    sample = data[4]
    assert (sample["labels"], sample["index"]) == (-100, 4)
    assert torch.equal(sample["pixel_values_videos"], torch.zeros(2, 4, 3, 32, 32))
    loader = DataLoader(data, batch_size=3, num_workers=2, collate_fn=ClipCollator())
    found = [path for batch in loader for path, _ in batch["failures"]]
    assert [path.rsplit("/")[-1] for path in found] == ["bad.mp4", "gone.mp4"]


def test_a_streams_reading_options_reach_the_decoder(hub_dataset, monkeypatch):
    """Those of a table do in `test_read_options.py`."""
    own, seen = processor(), []
    own.max_seconds, own.verify, own.max_download_bytes = 7.0, "full", 10**7
    monkeypatch.setattr(clip_stream, "open_video", lambda source, options: seen.append(options) or open_video(source))
    next(iter(ClipStream(hub_dataset.to_iterable_dataset(), VideoReader(own), batch_size=1)))
    assert seen == [own.read_options] and seen[0].max_seconds == 7


def test_too_large_frames_are_refused_before_decoding(table, decoded):
    needed = 4 * 64 * 64 * 3
    with pytest.raises(VideoTooLargeError, match="49,151"):
        evaluation_set(table, max_bytes=needed - 1)[0]
    assert evaluation_set(table, on_error="skip", max_bytes=needed - 1)[0]["labels"] == -100
    assert decoded == []
    assert evaluation_set(table, max_bytes=needed)[0]["labels"] == 0


def test_unusable_settings_bad_indices_and_empty_tables(table):
    for options, message in (({"on_error": "ignore"}, "`on_error`.*'ignore'"), ({"num_views": 2}, "one view")):
        with pytest.raises(ValueError, match=message):
            training_set(table, **options)
    with pytest.raises(IndexError, match="no video 6; the numbers are 0 … 5"):
        evaluation_set(table)[6]
    with pytest.raises(AnnotationError, match="no videos"):
        evaluation_set(table_of([]))


# Collator


def test_collator_mixes_by_the_samples_seeds():
    samples = [
        {"pixel_values_videos": torch.full((1, 3, 2, 2), float(n)), "labels": n, "index": n + 5, "seed": n}
        for n in (0, 1)
    ]

    def mixer(pixels, labels, generator):
        return pixels + torch.rand(1, generator=generator), torch.eye(2)[labels]

    batch = ClipCollator(mixer)(samples)
    torch.rand(3)
    assert torch.equal(batch["pixel_values_videos"], ClipCollator(mixer)(samples)["pixel_values_videos"])
    other = [samples[0], samples[1] | {"seed": 7}]
    assert not torch.equal(batch["pixel_values_videos"], ClipCollator(mixer)(other)["pixel_values_videos"])
    assert batch["labels"].tolist() == [[1, 0], [0, 1]]
    plain = ClipCollator()(samples)
    assert (plain["labels"].dtype, plain["labels"].tolist(), plain["index"].tolist()) == (torch.long, [0, 1], [5, 6])
    assert plain["failures"] == []


# Sources


@pytest.fixture
def hub_dataset(video_files):
    names = datasets.ClassLabel(names=["a", "b", "c"])
    data = datasets.Dataset.from_dict({"video": video_files[:6], "label": [0, 1, 2, 0, 1, 2]})
    return data.cast_column("video", datasets.Video()).cast_column("label", names)


def test_hub_dataset_is_decoded_by_us(hub_dataset, table, monkeypatch):
    monkeypatch.setattr(datasets.Video, "decode_example", lambda *_, **__: pytest.fail("decoded by datasets"))
    source = HubVideos(hub_dataset)
    assert source.class_names == ("a", "b", "c")
    theirs, ours = evaluation_set(source)[4], evaluation_set(table)[4]
    assert torch.equal(theirs["pixel_values_videos"], ours["pixel_values_videos"])


def test_hub_dataset_with_bytes_and_class_names(video_files, table):
    content = [Path(path).read_bytes() for path in video_files[:2]]
    data = datasets.Dataset.from_dict({"clip": [{"bytes": c, "path": None} for c in content], "what": ["b", "a"]})
    source = HubVideos(data, video_column="clip", label_column="what")
    assert source.class_names == ("a", "b")
    assert [source.label(row) for row in range(2)] == [1, 0]
    assert HubVideos(data, "clip", "what", class_names=["b", "a"]).label(0) == 0
    ours = evaluation_set(table)[1]["pixel_values_videos"]
    assert torch.equal(evaluation_set(source)[1]["pixel_values_videos"], ours)


def test_hub_dataset_mistakes(hub_dataset):
    with pytest.raises(AnnotationError, match="no column 'class', only video, label"):
        HubVideos(hub_dataset, label_column="class")
    with pytest.raises(AnnotationError, match="no column 'clip'"):
        HubVideos(hub_dataset, video_column="clip")
    with pytest.raises(AnnotationError, match="no video column in label; in Python, `video_column`"):
        HubVideos(hub_dataset.remove_columns("video"))
    with pytest.raises(AnnotationError, match="holds numbers without names"):
        HubVideos(hub_dataset.cast_column("label", datasets.Value("int64")))
