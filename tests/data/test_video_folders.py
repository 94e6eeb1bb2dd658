"""Folders of videos: what is left out is said, metadata files are found, listed videos are found or refused."""

import json
import os
import unicodedata

import pytest

from vitaclip_hf.data.annotations import AnnotationError, read_annotations
from vitaclip_hf.data.check import check_data
from vitaclip_hf.library.embedding import videos_in


# What is left out


def test_files_that_are_left_out_are_counted_and_said(videos, caplog, touch, rows):
    touch("run/a.mp4", "run/notes.txt", "run/deep/b.jpg", "run/deep/c.jpg", "walk/d.mp4", "walk/.hidden.mp4")
    touch("readme", "stray.mp4", "other.avi", "walk/.trash/b.mp4", "walk/deep/c.mp4")
    os.symlink("gone.mp4", videos / "walk/link.mp4")
    os.mkfifo(videos / "walk/pipe.mp4")
    table = read_annotations(videos)
    assert [name for name, *_ in rows(table)] == ["run/a.mp4", "walk/d.mp4", "walk/deep/c.mp4"]
    (note,) = table.notes
    assert f"{videos}: 8 files " in note and "other.avi, readme, run/deep/b.jpg, …" in note and note in caplog.text
    report = check_data(table)
    assert report.notes == table.split("train").notes == table.notes
    assert f"  note: {note}" in report.summary().splitlines()


def test_videos_beside_class_folders_of_splits(videos, touch):
    touch("train/run/a.mp4", "train/x.mp4", "val/run/b.mp4", "y.mp4")
    (note,) = read_annotations(videos).notes
    assert "2 files " in note and "train/x.mp4, y.mp4" in note


def test_names_that_differ_only_in_case_or_underscore_are_said(videos, touch, write):
    touch("brush_hair/a.mp4", "Brush hair/b.mp4", "run/c.mp4", "C++/d.mp4", "C/e.mp4")
    table = read_annotations(videos)
    assert len(table.class_names) == 5  # they stay classes of their own
    (note,) = table.notes
    assert "'Brush hair' and 'brush_hair'" in note and "'C'" not in note
    listed = write("l.txt", "a.mp4 Run\nb.mp4 run\n")
    assert "'Run' and 'run'" in read_annotations(videos, listed).notes[0]
    assert read_annotations(videos, listed, ["run"]).notes == ()


def test_links_in_circles(videos, touch, write, rows):
    touch("run/a.mp4")
    for name in ("one", "two", "three"):
        os.symlink(videos, videos / "run" / name)
    os.symlink("self", videos / "run/self")
    listed = write("l.txt", "a.mp4 run\n")
    assert read_annotations(videos, listed).samples[0].path == str(videos / "run/a.mp4")
    assert rows(read_annotations(videos)) == [("run/a.mp4", "run", "train")]


def test_class_folders_that_are_links(videos, touch, rows, tmp_path):
    touch("run/a.mp4")
    (tmp_path / "all" / "yoga").mkdir(parents=True)
    (tmp_path / "all" / "yoga" / "b.mp4").touch()
    (videos / "yoga").symlink_to(tmp_path / "all" / "yoga")
    assert rows(read_annotations(videos)) == [("run/a.mp4", "run", "train"), ("yoga/b.mp4", "yoga", "train")]
    assert [file.video for file in videos_in(videos)] == ["run/a.mp4", "yoga/b.mp4"]


def test_folders_that_cannot_be_read_are_an_error(videos, monkeypatch, touch, refused):
    touch("run/a.mp4")

    def denied(path=".", scandir=os.scandir):
        if str(path).endswith("run"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    refused(None, "run cannot be read: Permission denied")
    with pytest.raises(AnnotationError, match="run cannot be read"):  # an index would drop its vectors
        list(videos_in(videos))


def test_class_folders_that_are_not_utf8(videos, refused):
    folder = os.fsencode(videos) + b"/caf\xe9"
    os.mkdir(folder)
    open(folder + b"/a.mp4", "wb").close()
    refused(None, r"'caf\\udce9' is not text in UTF-8")


def test_file_names_that_are_not_utf8(videos, touch, refused):
    touch("run/b.mp4")
    open(os.fsencode(videos) + b"/run/caf\xe9.mp4", "wb").close()
    table = read_annotations(videos)
    assert [os.path.isfile(sample.path) for sample in table.samples] == [True, True] and len(table.sha256) == 64
    assert len(table.few_shot(1, 0)) == 1
    listed = videos.parent / "l.txt"
    listed.write_bytes(b"run/caf\xe9.mp4 run\nrun/b.mp4 run\n")
    assert {sample.path for sample in read_annotations(videos, listed).samples} == {s.path for s in table.samples}
    listed.write_bytes(b"run/b.mp4 caf\xe9\n")
    refused(listed, "not text in UTF-8")


# Hugging Face video folders


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_of_a_folder(videos, kind, touch, write, rows):
    touch("train/a.mp4", "train/b.mp4", "test/c.mp4", "extra.mp4")
    listed = [("train/a.mp4", "run"), ("train/b.mp4", "walk"), ("test/c.mp4", "run")]
    lines = {
        "csv": ["file_name,label", *(",".join(pair) for pair in listed)],
        "jsonl": [json.dumps({"file_name": name, "label": label}) for name, label in listed],
    }
    write(f"videos/metadata.{kind}", "\n".join(lines[kind]) + "\n")
    table = read_annotations(videos)
    assert rows(table) == [(name, label, name.split("/")[0]) for name, label in listed]
    assert f"videos and labels are those of metadata.{kind}" in table.notes[0]
    assert "1 videos are not in the list" in table.notes[1]


def test_metadata_in_split_folders(videos, touch, write, rows, refused):
    touch("train/a.mp4", "validation/b.mp4")
    write("videos/train/metadata.csv", "file_name,label\na.mp4,run\n")
    write("videos/validation/metadata.jsonl", '{"file_name": "b.mp4", "label": "walk"}\n')
    table = read_annotations(videos)
    assert rows(table) == [("train/a.mp4", "run", "train"), ("validation/b.mp4", "walk", "validation")]
    assert all(os.path.isfile(sample.path) for sample in table.samples)
    write("videos/metadata.csv", "file_name,label\ntrain/a.mp4,run\n")
    refused(None, "metadata files")


def test_metadata_without_labels_leaves_the_class_folders(videos, touch, write):
    touch("run/a.mp4", "walk/b.mp4")
    write("videos/metadata.csv", "file_name,caption\nrun/a.mp4,someone runs\n")
    table = read_annotations(videos)
    assert table.class_names == ("run", "walk")
    assert "metadata.csv is not read: it has no column of labels" in table.notes[0]
    for name, text in (("metadata.csv", "camera,date\nx,y\n"), ("metadata.jsonl", "3\n")):
        write(f"videos/{name}", text)
        assert f"{name} is not read: it has no column `file_name`" in read_annotations(videos).notes[0]
        (videos / name).unlink()


# Finding listed videos


def found(videos, name, label="run", **options):
    listed = videos.parent / "l.csv"
    listed.write_text(f'path,label\n"{name}",{label}\n', encoding="utf-8")
    sample = read_annotations(videos, listed, ["run", "walk"], **options).samples[0]
    return sample.name, os.path.relpath(sample.path, videos) if os.path.isfile(sample.path) else None


def test_windows_separators(videos, touch):
    touch("run/a.mp4", "x\\y.mp4")
    assert found(videos, "run\\a.mp4") == ("run/a.mp4", "run/a.mp4")
    assert found(videos, ".\\run\\a.mp4")[1] == "run/a.mp4" and found(videos, "C:\\data\\run\\a.mp4")[1] == "run/a.mp4"
    assert found(videos, "x\\y.mp4") == ("x\\y.mp4", "x\\y.mp4")  # a name of Linux
    assert found(videos, "run\\gone.mp4") == ("run\\gone.mp4", None)


def test_paths_of_another_machine(videos, touch):
    touch("run/a.mp4", "walk/a.mp4", "b.mp4")
    assert found(videos, "/home/else/data/walk/a.mp4", "walk")[1] == "walk/a.mp4"
    assert found(videos, "/train/run/a.mp4")[1] == "run/a.mp4" and found(videos, "/home/else/c.mp4")[1] is None


def test_accents_and_case_fit_if_one_file_does(videos, touch):
    composed, decomposed = (unicodedata.normalize(form, "Café.mp4") for form in ("NFC", "NFD"))
    touch(f"run/{decomposed}", "run/Big.MP4")
    assert found(videos, f"run/{composed}") == (f"run/{composed}", f"run/{decomposed}")
    assert found(videos, composed)[1] == f"run/{decomposed}"
    assert found(videos, "RUN/big.mp4") == ("RUN/big.mp4", "run/Big.MP4")
    assert found(videos, "run/big")[1] == "run/Big.MP4"
    touch(f"run/{composed}")
    assert found(videos, f"run/{composed}")[1] == f"run/{composed}"  # the exact one
    touch("run/bIG.mp4")
    assert found(videos, "run/bIG.mp4")[1] == "run/bIG.mp4"
    with pytest.raises(AnnotationError, match="may be run/Big.MP4 or run/bIG.mp4"):
        found(videos, "run/big.mp4")
    assert found(videos, "run/gone.mp4")[1] is None


def test_class_files_are_found_near_a_list(tmp_path, videos, write, rows, refused):
    """ViFi-CLIP's layout, with file names of our own."""
    write("vifi/labels/one.csv", "id,name\n0,run\n1,walk\n")
    write("vifi/labels/two.csv", "id,name\n0,run\n1,walk\n2,jump\n")
    listed = write("vifi/datasets_splits/mine/my_val1.txt", "a.mp4 0\nb.mp4 1\n")
    table = read_annotations(videos, listed)
    assert rows(table) == [("a.mp4", "run", "validation"), ("b.mp4", "walk", "validation")]
    assert [os.path.basename(file) for file in table.files] == ["my_val1.txt", "one.csv"]
    assert "their 2 class names are those of" in table.notes[0]
    write("vifi/labels/other.txt", f"0,{'x' * 900}\n1,{'y' * 900}\n")  # too large for two names
    assert read_annotations(videos, listed).class_names == ("run", "walk")
    write("vifi/labels/three.csv", "name,id\nhop,0\nskip,1\n")
    refused(listed, "both hold 2 names")


def test_an_empty_folder_says_what_was_left_out(videos, touch, refused):
    touch("a.mp4", "b.mp4")
    (videos / "metadata.csv").write_text("file_name,caption\na.mp4,x\nb.mp4,y\n")
    refused(None, "metadata.csv is not read: .*3 files")
