"""Counting and listing what is wrong with the files."""

import shutil

import datasets
import pytest

from vitaclip_hf.data.annotations import AnnotationTable, VideoSample
from vitaclip_hf.data.check import check_data
from vitaclip_hf.data.video_sources import HubVideos


@pytest.fixture
def table(tmp_path, video_files):
    shutil.copy(video_files[0], tmp_path / "good.mp4")
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


def test_rows_of_a_data_set(table, tmp_path):
    """Paths and bytes, with the same report as a table's."""
    good = (tmp_path / "good.mp4").read_bytes()
    videos = [{"path": str(tmp_path / name), "bytes": None} for name in ("good.mp4", "bad.mp4", "gone.mp4")]
    videos += [{"path": None, "bytes": content} for content in (good, b"no video" * 100, b"", None)]
    rows = datasets.Dataset.from_dict({"video": videos, "label": [0, 0, 1, -1, 0, 1, 1]})
    rows = rows.cast_column("label", datasets.ClassLabel(names=["a", "b", "c"]))
    source = HubVideos(rows, split="train", root=tmp_path, source="hub:some/data")
    report = check_data(source, deep=True, workers=2)
    assert report.missing == ("train row 2 (gone.mp4)",)
    unreadable = ["train row 1 (bad.mp4)", "train row 4", "train row 5", "train row 6"]
    assert [name for name, _ in report.unreadable] == unreadable
    assert [reason for _, reason in report.unreadable[2:]] == ["it is empty", "no video"]
    assert report.unlabelled == ("train row 3",)
    assert report.empty_classes == ("train: c",)
    assert report.summary().startswith("hub:some/data: 7 videos (7 train), 3 classes; 2 usable (decoded)")
    shallow = check_data(source)
    assert [name for name, _ in shallow.unreadable] == ["train row 5", "train row 6"]
    chosen = source.select(AnnotationTable((source.table.samples[3], source.table.samples[0]), ("a", "b", "c"), "two"))
    assert (check_data(chosen, deep=True).usable, len(chosen), chosen.name(0)) == (2, 2, "train row 3")


def test_summary(table, tmp_path):
    lines = check_data(table).summary(limit=2).splitlines()
    assert lines[0] == "list.txt: 5 videos (4 train, 1 test), 3 classes; 3 usable (looked up)"
    assert lines[1:3] == ["  missing: 1", f"    {tmp_path}/gone.mp4"]
    assert f"    {tmp_path}/empty.mp4 (it is empty)" in lines
    assert lines[-4:] == ["  classes without videos: 3", "    train: c", "    test: a", "    … and 1 more"]
    assert "more" not in check_data(table).summary(limit=0)
