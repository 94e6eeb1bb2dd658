"""Counting and listing what is wrong with the files."""

import shutil
from dataclasses import replace

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
    return AnnotationTable(tuple(samples), ("a", "b", "c"), "list.txt")


def test_what_is_wrong_is_listed(table, tmp_path):
    report = check_data(table.split("train"), workers=2)
    assert report.problems["missing"] == [str(tmp_path / "gone.mp4")]
    assert [entry.split(" (")[0] for entry in report.problems["unreadable"]] == [
        *(str(tmp_path / name) for name in ("bad.mp4", "empty.mp4"))
    ]
    assert report.problems["unlabelled"] == [str(tmp_path / "gone.mp4")]
    assert report.problems["classes without videos"] == ["train: c"]
    assert (report.usable, report.ok) == (1, False)
    good = AnnotationTable(table.samples[:1], ("a",), "list.txt")
    assert check_data(good).ok and not check_data(good, max_seconds=1e-9).ok
    assert report.summary().splitlines()[:3] == [
        *("list.txt: 4 videos (4 train), 3 classes; 1 usable", "  missing: 1", f"    {tmp_path / 'gone.mp4'}")
    ]
    assert replace(report, notes=("a\nb",)).summary().splitlines()[-1] == "  note: a b"


def test_rows_of_a_data_set(tmp_path, table):
    """Paths and bytes, with the same report as a table's."""
    good = (tmp_path / "good.mp4").read_bytes()
    videos = [{"path": str(tmp_path / name), "bytes": None} for name in ("good.mp4", "bad.mp4", "gone.mp4")]
    videos += [{"path": None, "bytes": content} for content in (good, b"no video" * 100, b"", None)]
    rows = datasets.Dataset.from_dict({"video": videos, "label": [0, 0, 1, -1, 0, 1, 1]})
    rows = rows.cast_column("label", datasets.ClassLabel(names=["a", "b", "c"]))
    source = HubVideos(rows, split="train", root=tmp_path, source="hub:some/data")
    report = check_data(source, workers=2)
    assert report.problems["missing"] == ["train row 2 (gone.mp4)"]
    unreadable = ["train row 1 (bad.mp4)", "train row 4", "train row 5", "train row 6"]
    assert all(map(str.startswith, report.problems["unreadable"], unreadable)) and len(unreadable) == 4
    assert report.problems["unreadable"][3] == "train row 6 (no video)"
    assert report.problems["unlabelled"] == ["train row 3"]
    assert report.summary().startswith("hub:some/data: 7 videos (7 train), 3 classes; 2 usable")
    chosen = source.select(AnnotationTable((source.table.samples[3], source.table.samples[0]), ("a", "b", "c"), "two"))
    assert (check_data(chosen).usable, len(chosen), chosen.name(0)) == (2, 2, "train row 3")
