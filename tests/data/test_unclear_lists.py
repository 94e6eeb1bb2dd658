"""Lists and class files from public data sets and spreadsheets: read rightly, or refused with the reason."""

import pytest

from vitaclip_hf.data.annotations import AnnotationError, read_annotations
from vitaclip_hf.data.class_names import read_class_names


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(b"x")
    return folder


def read(root, text, **options):
    file = root.parent / "list.csv"
    file.write_text(text, encoding="utf-8")
    return read_annotations(root, file, **options)


@pytest.mark.parametrize("header", ["videopath,classname", "FileName,ClassLabel", "vid_name,actionlabel"])
def test_column_names_without_underscores(root, header):
    table = read(root, f"{header}\na.mp4,run\nb.mp4,swim\n")
    assert [(sample.name, sample.label) for sample in table.samples] == [("a.mp4", 0), ("b.mp4", 1)]
    assert table.class_names == ("run", "swim")


@pytest.mark.parametrize(
    "text, found",
    [
        ("a.mp4,run,\nb.mp4,swim,\n", "3 columns"),
        ("0,a.mp4,run\n1,b.mp4,swim\n", "begin with a number"),
        ("path,label\na.mp4,run\npath,label\nb.mp4,swim\n", "list.csv:3: the header stands here again"),
        ('path,labels\na.mp4,"[0, 3]"\nb.mp4,"[0, 3]"\n', r"one label for each video, got the list '\[0, 3\]'"),
        ("<!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", "a pointer of Git LFS"),
        ("id,scene,script,actions\n46GP8,Kitchen,x,c092 1 2\n", "no column holds labels"),  # no class file
        ("classname,youtube_id,label\nrun,abc,1\nrun,abd,-1\n", "two columns hold labels and do not agree"),  # HACS
    ],
)
def test_refused_lists(root, text, found):
    with pytest.raises(AnnotationError, match=found):
        read(root, text)


def test_numbers_before_paths_are_no_paths(root):
    with pytest.raises(AnnotationError, match="'0 a.mp4' is taken for one path without a label"):
        read(root, "0 a.mp4\n1 b.mp4\n", classes=["run", "swim"])
    (root / "0 a.mp4").write_bytes(b"x")  # now such a video exists
    (root / "1 b.mp4").write_bytes(b"x")
    assert [sample.label for sample in read(root, "0 a.mp4 1\n1 b.mp4 0\n", classes=["x", "y"]).samples] == [1, 0]


@pytest.mark.parametrize("column", ["is_train", "fold", "testing"])
def test_columns_that_may_be_splits_are_said(root, column):
    table = read(root, f"path,label,{column}\na.mp4,run,1\nb.mp4,swim,0\n")
    assert any("no column is called `split`" in note and column in note for note in table.notes)


@pytest.mark.parametrize(
    "text",
    [
        "run: 0\nswim: 1\n",
        "classname,classid\nrun,0\nswim,1\n",
        "class_idx,class\n0,run\n1,swim\n",
        "0: run\n1: swim\n",
        "0|run\n1|swim\n",
        "(0) run\n(1) swim\n",
        "name id\nrun 0\nswim 1\n",
    ],
)
def test_numbered_class_files(tmp_path, text):
    file = tmp_path / "classes.txt"
    file.write_text(text)
    assert read_class_names(file) == ("run", "swim")


@pytest.mark.parametrize(
    "text, found",
    [
        ("- red\n- blue\n", "each line begins with '- '"),
        ("names:\n  0: red\n  1: blue\n", "most lines are `id:name` or `name:id`, but not 'names:'"),
        ("names:\n  - red\n  - blue\n", "this is YAML"),
        ("<html>\n<body>404</body>\n", "is a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", "a pointer of Git LFS"),
    ],
)
def test_refused_class_files(tmp_path, text, found):
    file = tmp_path / "classes.txt"
    file.write_text(text)
    with pytest.raises(AnnotationError, match=found):
        read_class_names(file)


def test_names_that_only_look_marked_are_read(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("act: red\nact: blue\n3 point throw\n-5 degrees\n")
    assert read_class_names(file) == ("act: red", "act: blue", "3 point throw", "-5 degrees")
