"""Streams: every record exactly once over ranks and workers, the same batches for any number of workers."""

import itertools

import datasets
import pytest
import torch

from vitaclip_hf import VideoDecodingError, VitaClipVideoProcessor
from vitaclip_hf.data.annotations import AnnotationError
from vitaclip_hf.data.clip_dataset import ClipCollator, ClipDataset
from vitaclip_hf.data.clip_stream import ClipStream
from vitaclip_hf.data.video_sources import HubVideos
from vitaclip_hf.model.video_inputs import VideoReader


COUNT = 11
SPECIFICATION = {"num_frames": 2, "sampling": "segment_random", "frame_stride": 1}
NAMES = [f"class {number}" for number in range(COUNT)]  # one class a video, so that labels tell records apart


def hub_dataset(paths):
    data = datasets.Dataset.from_dict({"video": paths, "label": list(range(len(paths)))})
    return data.cast_column("video", datasets.Video()).cast_column("label", datasets.ClassLabel(names=NAMES))


def noisy(frames, generator):
    return frames[..., :8, :8].float() + torch.rand(1, generator=generator)


def stream_of(paths, shards=4, augmentation=noisy, specification=SPECIFICATION, **options):
    processor = VitaClipVideoProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    stream = hub_dataset(paths).to_iterable_dataset(num_shards=shards)
    reader = VideoReader(processor, **specification)
    return ClipStream(stream, reader, **{"batch_size": 2, "augmentation": augmentation} | options)


def take(stream, workers, count=None):
    loader = stream.loader(ClipCollator(), num_workers=workers)
    return list(itertools.islice(loader, count))


def labels(batches):
    return [label for batch in batches for label in batch["labels"].tolist()]


def check_equal(batches, expected):
    for one, other in zip(batches, expected, strict=True):
        assert torch.equal(one["pixel_values_videos"], other["pixel_values_videos"])
        assert one["labels"].tolist() == other["labels"].tolist()


def test_evaluation_sees_each_record_once_over_ranks_and_workers(video_files):
    options = {"augmentation": None, "world_size": 2, "shards": 3}
    ranks = [take(stream_of(video_files, rank=rank, **options), workers=2 - 2 * rank) for rank in (0, 1)]
    seen = [label for rank in ranks for label in labels(rank)]
    assert sorted(label for label in seen if label != -100) == list(range(COUNT))
    # 11 records make 6 a rank; what fills up the second is flagged.
    assert [len(labels(rank)) for rank in ranks] == [6, 6] and labels(ranks[1])[-1] == -100
    assert not ranks[1][-1]["pixel_values_videos"][-1].any()


def test_training_epochs_are_whole_and_differ(video_files):
    batches = take(stream_of(video_files, batch_size=11), workers=0, count=3)
    orders = [batch["labels"].tolist() for batch in batches]
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert [batch["index"].tolist() for batch in batches][1] == list(range(11, 22))
    # Over two ranks, two passes of 11 records are 22 samples without a gap.
    ranks = [take(stream_of(video_files, batch_size=11, rank=rank, world_size=2), 0, 1)[0] for rank in (0, 1)]
    both = ranks[0]["labels"].tolist() + ranks[1]["labels"].tolist()
    assert sorted(both) == sorted(2 * list(range(COUNT)))


def test_same_batches_for_any_number_of_workers_and_after_skipping(video_files):
    expected = take(stream_of(video_files), workers=0, count=8)
    torch.manual_seed(1)
    for workers, skip in ((3, 0), (2, 3)):
        check_equal(take(stream_of(video_files, skip_batches=skip), workers, count=8 - skip), expected[skip:])
    other_seed = take(stream_of(video_files, seed=1), workers=0, count=8)
    assert labels(other_seed) != labels(expected)


def test_pixels_equal_those_of_the_map_style_data_set(video_files, monkeypatch):
    monkeypatch.setattr(datasets.Video, "decode_example", lambda *_, **__: pytest.fail("decoded by datasets"))
    specification = {"num_frames": 2, "sampling": "uniform", "num_views": 2}
    stream = stream_of(video_files, shards=1, augmentation=None, specification=specification)
    mapped = ClipDataset(HubVideos(hub_dataset(video_files)), stream.reader)
    for index, sample in enumerate(stream):
        assert torch.equal(sample["pixel_values_videos"], mapped[index]["pixel_values_videos"])
    assert index == COUNT - 1


def test_failed_records(video_files, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"garbage" * 99)
    paths = [*video_files[:3], str(tmp_path / "bad.mp4"), *video_files[4:]]
    with pytest.raises(VideoDecodingError, match="bad.mp4"):
        take(stream_of(paths, augmentation=None), workers=0)
    flagged = take(stream_of(paths, augmentation=None, on_error="skip"), workers=2)
    assert sorted(labels(flagged)) == [-100, 0, 1, 2, *range(4, COUNT)]
    assert [path for batch in flagged for path, _ in batch["failures"]] == [str(tmp_path / "bad.mp4")]
    # In training the next record stands in, and all batches stay as they are for any number of workers.
    expected = take(stream_of(paths, on_error="skip", batch_size=3), workers=0, count=8)
    check_equal(take(stream_of(paths, on_error="skip", batch_size=3), workers=2, count=8), expected)
    first = labels(expected)[:COUNT]
    assert set(first) == set(range(COUNT)) - {3}
    assert sum(len(batch["failures"]) for batch in expected) == 2  # once in each of two epochs
    with pytest.raises(VideoDecodingError, match="3 videos in a row"):
        take(stream_of(["gone.mp4"] * 8, on_error="skip", max_retries=2), workers=0)


def test_mistakes(video_files):
    for options in ({"rank": 2, "world_size": 2}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="Unusable"):
            stream_of(video_files, **options)
    unnamed = hub_dataset(video_files).cast_column("label", datasets.Value("int64")).to_iterable_dataset()
    with pytest.raises(AnnotationError, match="names no classes; give `class_names`"):
        ClipStream(unnamed, VideoReader(VitaClipVideoProcessor()), batch_size=1)
    columns = {"video": video_files, "label": [None] * COUNT}
    unlabelled = datasets.Dataset.from_dict(columns, features=hub_dataset(video_files).features).to_iterable_dataset()
    with pytest.raises(AnnotationError, match="has no label; leave it out of the training"):
        next(iter(ClipStream(unlabelled, VideoReader(VitaClipVideoProcessor()), batch_size=1, augmentation=noisy)))
