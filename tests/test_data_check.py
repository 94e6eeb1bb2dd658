"""Counting and listing what is wrong with the files."""

import pytest
import torch

from vitaclip_hf.annotations import AnnotationTable, VideoSample
from vitaclip_hf.data_check import check_data
from vitaclip_hf.motion_shapes import all_scenes, draw_videos, write_video


@pytest.fixture
def table(tmp_path):
    frames = draw_videos(all_scenes()[:1], torch.Generator().manual_seed(0), num_frames=8, size=64)[0].numpy()
    write_video(tmp_path / "good.mp4", frames)
    (tmp_path / "bad.mp4").write_bytes(b"no video at all" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    labels = {"good.mp4": 0, "bad.mp4": 0, "empty.mp4": 1, "gone.mp4": None}
    samples = [VideoSample(str(tmp_path / name), label, "train", name) for name, label in labels.items()]
    samples.append(VideoSample("https://host.invalid/a.mp4", 2, "test", "a.mp4"))
    return AnnotationTable(tuple(samples), ("a", "b", "c"), "list.txt")


def test_shallow(table, tmp_path):
    report = check_data(table)
    assert report.missing == (str(tmp_path / "gone.mp4"),)
    assert report.unreadable == ((str(tmp_path / "empty.mp4"), "it is empty"),)
    assert report.unlabelled == (str(tmp_path / "gone.mp4"),)
    assert report.empty_classes == ("train: c", "test: a", "test: b")
    assert (report.total, report.usable, report.ok) == (5, 3, False)


def test_deep_finds_what_does_not_decode(table, tmp_path):
    report = check_data(table.split("train"), deep=True, workers=2)
    assert [path for path, _ in report.unreadable] == [str(tmp_path / "bad.mp4"), str(tmp_path / "empty.mp4")]
    assert report.usable == 1
    good = AnnotationTable(table.samples[:1], ("a",), "list.txt")
    assert check_data(good, deep=True).ok


def test_summary(table, tmp_path):
    lines = check_data(table).summary(limit=2).splitlines()
    assert lines[0] == "list.txt: 5 videos (4 train, 1 test), 3 classes; 3 usable (looked up)"
    assert lines[1:3] == ["  missing: 1", f"    {tmp_path}/gone.mp4"]
    assert f"    {tmp_path}/empty.mp4 (it is empty)" in lines
    assert lines[-4:] == ["  classes without videos: 3", "    train: c", "    test: a", "    … and 1 more"]
    assert "more" not in check_data(table).summary(limit=0)
