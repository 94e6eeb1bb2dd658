"""Lists are read as they are meant, or refused with one line that says why; nothing is guessed."""

import contextlib
import json
import os
import random
import re

import pytest

from vitaclip_hf.data.annotations import AnnotationError, AnnotationTable, VideoSample, read_annotations


PAIRS = [("a.mp4", "run"), ("b.mp4", "walk"), ("c.mp4", "run")]
ROWS = [(*pair, "train") for pair in PAIRS]


@pytest.fixture(autouse=True)
def three_videos(touch):
    touch(*(name for name, _ in PAIRS))


# Lines


@pytest.mark.parametrize(
    ("line", "name", "label"),
    [
        *((f"a.mp4{separator}run", "a.mp4", "run") for separator in (" ", ",", "\t", ";")),
        *((f"my a.mp4{separator}riding a bike ", "my a.mp4", "riding a bike") for separator in (" ", ", ")),
        *(
            (f"{name} run", name, "run")
            for name in ("x, y.mp4", "b.mp4.avi", "#2_u.avi", "folder/clip_7", "http://h/a.mp4")
        ),
        ('"x, y.mp4","put a, b"', "x, y.mp4", "put a, b"),
        ("a.mp4,put a, b", "a.mp4", "put a, b"),
        ('"say ""hi"".mp4" run', 'say "hi".mp4', "run"),
        ("air drumming/clip_7 12", "air drumming/clip_7", "class 12"),
        ("clip 7,run", "clip 7", "run"),
    ],
)
def test_lines(read, rows, line, name, label):
    classes = [f"class {number}" for number in range(13)] if label == "class 12" else None
    assert rows(read(line + "\r\n\r\n", classes, "l.txt")) == [(name, label, "train")]


def test_numeric_labels_need_classes(read, rows, write, refused):
    text = "a.mp4 1\nb.mp4 0\n"
    refused(write("val.txt", text), "`classes`")
    classes = write("c.csv", 'id,name\n0,"x, y"\n1,z\n')
    assert rows(read(text, classes, "val.txt")) == [("a.mp4", "z", "validation"), ("b.mp4", "x, y", "validation")]
    # A caller who says the split knows better than the file's name.
    assert rows(read(text, ["x", "y"], "val.txt", split="test"))[0] == ("a.mp4", "y", "test")


def test_names_with_commas_stay_names(read, rows):
    text = "a.mp4,put a, then b\nb.mp4,put c, then d\nc.mp4,put a, then b\n"
    assert [label for _, label, _ in rows(read(text))] == ["put a, then b", "put c, then d", "put a, then b"]
    assert read("path,label\na.mp4,[Something] falls\n").class_names == ("[Something] falls",)


def test_a_first_line_that_is_a_video_is_no_header(read, rows):
    assert rows(read("a jump\nb walk\nc walk\n"))[0] == ("a", "jump", "train")  # the file a.mp4 exists
    assert rows(read("x run\nb walk\nc run\n"))[0] == ("x", "run", "train")  # its label occurs again


@pytest.mark.parametrize("separator", [",", "\t", ";", " "])
@pytest.mark.parametrize("names", [PAIRS, [(name.removesuffix(".mp4"), label) for name, label in PAIRS]])
def test_unknown_headers_are_refused(write, refused, separator, names):
    lines = [separator.join(pair) for pair in [("datei", "klasse"), *names]]
    message = refused(write("l.txt", "\n".join(lines)), r"l.txt:1: .*'datei'")
    assert "lines `path label`" in message and "header `path,label`" in message


def test_numbers_before_paths_are_no_paths(read, touch, write, refused):
    refused(write("l.csv", "0 a.mp4\n1 b.mp4\n"), "'0 a.mp4'", classes=["run", "swim"])
    touch("0 a.mp4", "1 b.mp4")  # now such a video exists
    assert [sample.label for sample in read("0 a.mp4 1\n1 b.mp4 0\n", ["x", "y"]).samples] == [1, 0]


# What is refused, and the line that is named


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("", "empty"),
        ("a.mp4 0\nb.mp4 2\n", ":2: label 2 .* subtract 1"),
        ("a.mp4 0\nb.mp4 -1\n", ":2: label -1"),
        ("a.mp4 0\na.mp4 1\n", ":2: 'a.mp4' .*l.csv:1"),
        ("a.mp4 run\n./A.mp4 walk\n", ":2: './A.mp4' .*l.csv:1"),
        ("a.mp4 0\nb.mp4\n", ":2: 'b.mp4'"),
        ("a.mp4 jog\n", "'jog' is none of the 2 classes"),
        *((text, ":1: ") for text in ("something\n", "a.mp4 120 1\n", "a riding bike\nb run\n", "a,put x, then y\n")),
        *((text, ":1: ") for text in ("a.mp4|run\nb.mp4|riding bike\n", "a.mp4: run\n", "sep=;\npath;label\n")),
        ('a.mp4,run\n"b.mp4,walk\n', ":2: "),
        *((f"run{sign}a.mp4\nwalk{sign}b.mp4\n", "label and a path") for sign in ", \t"),
        ("0,a.mp4,run\n1,b.mp4,walk\n", "'0,a.mp4'"),
        *((f"a.mp4,run,{one}\nb.mp4,walk,{two}\n", "three columns") for one, two in (("train", "val"), "01", ("", ""))),
        *((f"a.mp4{sign}3{sign}run\nb.mp4{sign}4{sign}walk\n", "three columns") for sign in (";", "\t", ", ")),
        ("media,run\na.mp4,run\nb.mp4,walk\n", ":1: .*'media'"),
        ("0,1\na.mp4,0\nb.mp4,1\n", ":1: .*'0'"),
        ("label path\nriding bike a.mp4\n", ":2: "),
        ("a.mp4 99999999999999999999\n", "99999999999999999999"),
        ("a.mp4 run\x00\n", "NUL"),
        ("path,path,label\na.mp4,b.mp4,run\n", "'path'"),
        *((text, ":2: expected 2 fields") for text in ("path,label\na.mp4,run,x\n", "path\tlabel\na.mp4\n")),
        ("path,label\na.mp4,run\npath,label\nb.mp4,walk\n", ":3: "),
        ("path,label\n,run\n", ":2: the column of paths"),
        *((f'path,label\n"a.mp4{text}\n', "quotes") for text in (",run\nb.mp4,run", '"x,run"')),
        ("path,label\n", "lists no videos"),
        ("path,label,split\na.mp4,run,dev\n", ":2: unknown split 'dev'"),
        ("path,label,action\na.mp4,run,x\nb.mp4,run,y\n", "do not agree"),
        ("classname,youtube_id,label\nrun,abc,1\nrun,abd,-1\n", "do not agree"),  # HACS
        ("path,label\na.mp4," + "7" * 6000 + "\nb.mp4,8\n", ":2: .*'77"),
        ("path,label\na.mp4,1\nb.mp4,0.5\n", ":3: .*'0.5'"),
        *((f'path,labels\na.mp4,"{label}"\n', ":2: ") for label in ("['run', 'walk']", "[0, 1]")),
        *((f"path,label\n{name},walk\n", f":2: '{name}'") for name in ("ftp://x/b.mp4", "file:///x/b.mp4")),
        ("<!DOCTYPE html><html><body>404</body></html>", "web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", "Git LFS"),
        (b"PK\x03\x04rubbish", "save it as CSV"),
        (b"a.mp4 caf\xe9\n", "UTF-8"),
    ],
)
def test_refused(write, refused, text, token):
    classes = None if re.search("media|caf", str(text)) else ["run", "walk"]
    assert "l.csv" in refused(write("l.csv", text), token, classes=classes)


@pytest.mark.parametrize("name", ["x" * 1001, "run\x1b[31m"])
def test_labels_that_no_class_has(write, refused, name):
    refused(write("l.csv", f"path,label\na.mp4,{name}\nb.mp4,run\n"), "the class name")


def test_numbers_that_fit_no_class_folder_are_refused(read, touch, write, refused):
    """Numbers from 1 without the last class would give each video the next class."""
    touch("run/x.mp4", "walk/y.mp4")
    file = write("l.txt", "run/x.mp4 1\nwalk/y.mp4 2\n")
    assert "count from 0" in refused(file, "label 1", classes=["run", "walk", "sit"])
    assert len(read("run/x.mp4 0\nwalk/y.mp4 1\n", ["run", "walk", "sit"])) == 2


# Tables


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize(
    "header",
    [
        *("path label", "video class", "FILE Category", "filename action", "clip label", "file_path category"),
        *("uri label", "url target", "name label", "video_path class_name", "youtube_id label", "video_id Activity"),
        *("file_name label", "clip_path label_name", "vid labels", "id class", "videoPath className"),
        *("VIDEOPATH ClassName", "File-Name Class-Label", "\ufeffpath label", "#path label"),
    ],
)
def test_known_headers(read, rows, separator, header):
    lines = [header.replace(" ", separator), *(separator.join(pair) for pair in PAIRS)]
    assert rows(read("\n".join(lines))) == ROWS


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_columns_in_any_order(read, rows, separator):
    lines = [separator.join(("split", "label", "path"))]
    lines += [separator.join(("val", label, name)) for name, label in PAIRS]
    assert rows(read("\r\n".join(lines))) == [(name, label, "validation") for name, label in PAIRS]


def test_pandas_index_old_line_ends_and_utf16(read, rows):
    text = ",File Name,Label\n" + "".join(f"{n},{name},{label}\n" for n, (name, label) in enumerate(PAIRS))
    for form in (text, text.replace("\n", "\r"), "\ufeff" + text, text.encode("utf-16")):
        assert rows(read(form)) == ROWS
    text = "path,label\na.mp4,1.0\nb.mp4,0.0\n"  # as pandas writes numbers where some are missing
    assert [sample.label for sample in read(text, ["x", "y"]).samples] == [1, 0]


def test_several_label_columns(read, rows):
    """A name and its number are one label; the numbers give the order of the classes."""
    table = read("path,label,label_name\na.mp4,1,run\nb.mp4,0,walk\nc.mp4,1,run\n")
    assert table.class_names == ("walk", "run") and rows(table) == ROWS
    assert read("path,label,category\na.mp4,1,run\nb.mp4,0,walk\nc.mp4,1,run\n").samples == table.samples
    assert rows(read("path,class_name\na.mp4,7\nb.mp4,10\nc.mp4,7\n"))[1] == ("b.mp4", "10", "train")


def test_fields_with_breaks_quotes_and_spaces(read, rows):
    text = 'path,label\n"x\ny.mp4","say ""hi"", ok"\n z.mp4 , run \n b.mp4, "walk"\n5" disk.mp4,run\n'
    assert [row[:2] for row in rows(read(text))] == [
        *(("x\ny.mp4", 'say "hi", ok'), ("z.mp4", "run"), ("b.mp4", "walk"), ('5" disk.mp4', "run"))
    ]


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("path,mood\na.mp4,glad\n", "mood"),
        ("path,start_time,end_time,label\na.mp4,0,5,run\n", "starttime, endtime"),
        ("video_id,url,label\na,http://x/watch?v=a,run\n", "url"),  # MSR-VTT names a page beside each video
        ("path,label,is_train\na.mp4,run,1\n", "istrain"),
    ],
)
def test_columns_that_are_not_read_are_said(read, text, unread):
    table = read(text, ["run", "glad"])
    assert f"columns not read: {unread}" in table.notes[0] and os.path.isfile(table.samples[0].path)


# JSON


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.json", [{"video": name, "label": label} for name, label in PAIRS]),
        ("l.json", [{"Path": name, "Category": label, "x": None} for name, label in PAIRS]),
        ("l.json", dict(PAIRS)),
        ("l.json", {"train": [{"video": name, "label": label} for name, label in PAIRS]}),
        ("l.jsonl", [{"file_name": name, "label": label} for name, label in PAIRS]),
    ],
)
def test_json_lists(read, rows, name, content):
    text = "\n".join(map(json.dumps, content)) + "\n" if name == "l.jsonl" else json.dumps(content)
    assert rows(read(text, name=name)) == ROWS


def test_json_splits_and_numbers(read, rows):
    content = {"train": [{"video": "a.mp4", "label": 1}], "val": [{"video": "b.mp4", "label": 0}]}
    table = read(json.dumps(content), ["x", "y"], "l.json")
    assert rows(table) == [("a.mp4", "y", "train"), ("b.mp4", "x", "validation")]


def entry(label, **more):
    return json.dumps([{"video": "a.mp4", "label": label} | more])


@pytest.mark.parametrize(
    ("text", "token"),
    [
        *((text, "JSON") for text in ("[" * 100_000, '{"a":' * 100_000, '{"a": 1', entry(5).replace("5", "9" * 5000))),
        *((text, "list of objects") for text in ("{}", "null", "[]", "[1, 2]", '{"video": ["a.mp4"], "label": []}')),
        *((text, "NaN") for text in ("NaN", entry(float("nan")))),
        (entry(5).replace("5", "1e999"), "entry 1: .*inf"),
        *((entry(label), f"entry 1: .*{label}") for label in (0.5, True)),
        *((text, "entry 1: ") for text in (entry(["run"]), entry(int("9" * 3000)), entry("run", video=3))),
        ('[{"video": "a.mp4", "label": "run"}, {"label": "run"}]', "entry 2: "),
        ('[{"video": "a.mp4", "label": "run"}, {"video": "b.mp4", "label": 0}]', "entry 1: .*'run'"),
        (entry("run", split=[1]), "split"),
        ('[{"film": "a.mp4", "label": "run"}]', "'film'"),
        ('[{"video": "a.mp4", "video": "b.mp4", "label": "run"}]', "'video' occurs twice"),
        (entry("run", video="a\0.mp4"), "not text"),
        *((text, "UTF-8") for text in (entry("run", video="\ud800.mp4"), entry("\ud800"))),
        ('{"x": {"annotations": {"label": "run", "segment": [1e999, 1]}}}', "entry 1: .*Kinetics"),
        ('{"x": {"annotations": []}}', "entry 1: .*Kinetics"),
        *((text, "entry 1: .*SSv2") for text in ('[{"id": {}, "template": "x"}]', '[{"id": "1", "template": 3}]')),
        ('[{"id": "a", "template": "x"}, {"id": "b", "label": "x"}]', "entry 2: .*`template`"),
    ],
)
def test_bad_json(write, refused, text, token):
    refused(write("l.json", text), token)


def test_bad_json_lines_name_their_line(write, refused):
    good = '{"video": "a.mp4", "label": "run"}\n'
    refused(write("l.jsonl", good + "{\n"), "l.jsonl:2")
    refused(write("l.jsonl", good + "3\n"), "list of objects")


# Files that are no text


def test_what_is_no_file(tmp_path, videos, write, refused, monkeypatch):
    os.mkfifo(tmp_path / "pipe.txt")
    os.symlink("loop.txt", tmp_path / "loop.txt")
    (tmp_path / "folder.csv").mkdir()
    for file, token in (("pipe.txt", "pipe"), ("/dev/zero", "device"), ("loop.txt", "no annotation file")):
        refused(tmp_path / file, token)
    for file in ("a\0b", "x" * 5000, "none.txt"):
        refused(str(tmp_path / file), "no annotation file")
    refused(write("l.csv", "path,label\na.mp4,run\n"), "folder", classes=tmp_path / "folder.csv")
    refused(tmp_path / "folder.csv", "no known lists")
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr("vitaclip_hf.data.text_files.read_bytes.__defaults__", (1 << 16,))
    refused(tmp_path / "huge.txt", "larger than 65,536 bytes")


def test_random_bytes_end_in_one_kind_of_error(videos, write):
    draw = random.Random(0)
    pieces = [*b'path label , \t ; " \n \r { } [ ] : a.mp4 run 0 1 id name \\ 1e9 null v_a_g01_c01.avi'.split(b" ")]
    pieces += [b" ", b"\xff", b"\x00", b"\xe2\x80\xa8"]
    outcomes = set()
    for number in range(400):
        content = b"".join(draw.choices(pieces, k=draw.randint(1, 40)))
        file = write(f"{number}{draw.choice(('.txt', '.csv', '.json', '.jsonl'))}", content)
        try:
            outcomes.add(type(read_annotations(videos, file)))
        except AnnotationError as error:
            assert "\n" not in str(error) and len(str(error)) < 1100
            outcomes.add(AnnotationError)
        with contextlib.suppress(AnnotationError):
            read_annotations(videos, write("l.csv", "path,label\na.mp4,run\n"), file)
        file.unlink()
    assert AnnotationError in outcomes


# Round trip

HARD = ["a, b.mp4", 'say "hi".mp4', "x\ny.mp4", "c\r.mp4", "tab\t.mp4", "\u2028.mp4", "no ext", "semi;colon.mp4"]
HARD += ["\udcff\udcfe.mp4", "\u00e9.mp4", "e\u0301.mp4", "path", "#1.mp4", "a\\b.mp4", '"', "'", "0", "-"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("labels", [("0", "a, b", 'q"q', "line\nbreak", "7.0"), ("1.5", "-.2", "1 2", ".", "[0]")])
def test_what_we_write_reads_the_same(tmp_path, rows, there, labels):  # `0` is a name here, and not class number 0
    samples = []
    for number, name in enumerate(HARD):
        path = tmp_path / "v" / name
        path.parent.mkdir(exist_ok=True)
        if there:
            path.write_bytes(b"x")
        label = None if number == 3 else number % len(labels)
        samples.append(VideoSample(str(path), label, ("train", "test")[number % 2], name))
    table = AnnotationTable(tuple(samples), labels, "here")
    table.write(tmp_path / "out.csv")
    again = read_annotations(tmp_path / "v", tmp_path / "out.csv", labels)
    assert (again.samples, again.class_names, again.sha256) == (table.samples, table.class_names, table.sha256)
    assert rows(read_annotations(tmp_path / "v", tmp_path / "out.csv")) == rows(table)
    one = table.split("test")
    one.write(tmp_path / "one.csv")
    assert read_annotations(tmp_path / "v", tmp_path / "one.csv", labels, split="test").samples == one.samples
