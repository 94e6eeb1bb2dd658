"""Lists are read as they are meant, or refused with one line that says why; nothing is guessed."""

import contextlib
import json
import os
import random

import pytest

from vitaclip_hf.data.annotations import AnnotationError, AnnotationTable, VideoSample, read_annotations


PAIRS = [("a.mp4", "run"), ("b.mp4", "walk"), ("c.mp4", "run")]


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, _ in PAIRS:
        (folder / name).write_bytes(b"x")
    return folder


def write(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def pairs(table):
    return [(s.name, None if s.label is None else table.class_names[s.label]) for s in table.samples]


def rows(table):
    return [(*pair, sample.split) for pair, sample in zip(pairs(table), table.samples, strict=True)]


def refused(videos, file, message, **options):
    with pytest.raises(AnnotationError, match=message) as error:
        read_annotations(videos, file, **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1100
    return str(error.value)


# Separators and headers


@pytest.mark.parametrize("separator", [",", "\t", ";", " "])
@pytest.mark.parametrize(
    "header",
    [
        *("path label", "video class", "FILE Category", "filename action", "clip label", "file_path category"),
        *("uri label", "url target", "name label", "video_path class_name", "youtube_id label", "video_id Activity"),
        *("file_name label", "clip_path label_name", "vid labels", "id class", "videoPath className"),
    ],
)
def test_known_headers(tmp_path, videos, separator, header):
    lines = [header.replace(" ", separator), *(separator.join(pair) for pair in PAIRS)]
    assert pairs(read_annotations(videos, write(tmp_path, "l.txt", "\n".join(lines)))) == PAIRS


@pytest.mark.parametrize("separator", [",", "\t", ";", " "])
def test_columns_in_any_order(tmp_path, videos, separator):
    lines = [separator.join(("split", "label", "path"))]
    lines += [separator.join(("val", label, name)) for name, label in PAIRS]
    table = read_annotations(videos, write(tmp_path, "l.txt", "\r\n".join(lines)))
    assert rows(table) == [(name, label, "validation") for name, label in PAIRS]


def test_pandas_index_old_line_ends_comment_sign_and_utf16(tmp_path, videos):
    text = ",File Name,Label\n" + "".join(f"{n},{name},{label}\n" for n, (name, label) in enumerate(PAIRS))
    assert pairs(read_annotations(videos, write(tmp_path, "l.csv", text))) == PAIRS
    text = "# path,label\n" + "".join(f"{name},{label}\n" for name, label in PAIRS)
    for form in (text, text.replace("\n", "\r"), ("\ufeff" + text)):
        assert pairs(read_annotations(videos, write(tmp_path, "l.csv", form))) == PAIRS
    assert pairs(read_annotations(videos, write(tmp_path, "l.csv", text.encode("utf-16")))) == PAIRS


@pytest.mark.parametrize("separator", [",", "\t", ";", " "])
@pytest.mark.parametrize("names", [PAIRS, [(name.removesuffix(".mp4"), label) for name, label in PAIRS]])
def test_unknown_headers_are_refused(tmp_path, videos, separator, names):
    lines = [separator.join(("datei", "klasse")), *(separator.join(pair) for pair in names)]
    file = write(tmp_path, "l.txt", "\n".join(lines))
    message = refused(videos, file, r"l.txt:1: there is no video 'datei', .* the label 'klasse'")
    for known in ("path", "video", "clip", "uri", "file_path", "label", "category"):
        assert known in message


def test_a_first_line_that_is_a_video_is_none(tmp_path, videos):
    text = "a jump\nb walk\nc walk\n"  # the file a.mp4 exists
    assert pairs(read_annotations(videos, write(tmp_path, "l.txt", text)))[0] == ("a", "jump")
    text = "x run\nb walk\nc run\n"  # its label occurs again
    assert pairs(read_annotations(videos, write(tmp_path, "l.txt", text)))[0] == ("x", "run")


def test_unknown_header_above_numbers(tmp_path, videos):
    refused(videos, write(tmp_path, "l.txt", "datei klasse\na.mp4 0\nb.mp4 1\n"), "header", classes=["x", "y"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,path,label\na.mp4,b.mp4,run\n", "two columns are called 'path'"),
        ("path,label\na.mp4,run,x\n", r":2: expected 2 fields \(path, label\), got 3; quote .* a comma"),
        ("path\tlabel\na.mp4\n", r":2: expected 2 fields .* a tab"),
        ("label path\nriding bike a.mp4\n", ":2: expected 2 fields .* a space"),
        ("path,label\n,run\n", ":2: the column of paths is empty"),
        ('path,label\n"a.mp4,run\nb.mp4,run\n', ":2: a quote is opened but not closed"),
        ('path,label\n"a.mp4"x,run"\n', "quote"),
        ("path,label\n", "lists no videos"),
        ("path,label,action\na.mp4,run,x\nb.mp4,run,y\n", ":3: two columns hold labels and do not agree"),
        ("path,label_id\na.mp4,run\n", ":2: expected a class number, got 'run'"),
        ("id,name\n0,run\n1,walk\n", "class names, not a list of videos; give it as `classes`"),
        ("name,id\nrun,0\nwalk,1\n", "give it as `classes`"),
        ("id,label\n0,run\n1,walk\n", "give it as `classes`"),
        ("label,name\n0,run\n1,walk\n", "give it as `classes`"),
        ("a.mp4,run,train\nb.mp4,walk,val\n", "3 columns, .*header, such as `path,label,split`"),
        ("a.mp4,run,0\nb.mp4,walk,1\n", "3 columns"),
        ("a.mp4;3;run\nb.mp4;4;walk\n", "3 columns"),
        ("a riding bike\nb run\n", "expected `path label`"),
        ("a,put x, then y\n", "expected `path label`"),
        ("a.mp4|run\nb.mp4|riding bike\n", "expected `path label`"),
        ("run,a.mp4\nwalk,b.mp4\n", "may be a label and a path; put a header such as `label,path`"),
        ("run\ta.mp4\nwalk\tb.mp4\n", "may be a label and a path"),
        ('a.mp4,run\n"b.mp4,walk\n', ":2: expected `path label`"),
        ("a.mp4: run\n", "expected `path label`"),
        ("sep=;\npath;label\n", "expected `path label`"),
        ("a.mp4 99999999999999999999\n", "99999999999999999999"),
        ("path,label\na.mp4," + "7" * 6000 + "\nb.mp4,8\n", ":2: the label '77.*is a number, but no class number"),
        ("path,label\na.mp4,1\nb.mp4,0.5\n", ":3: the label '0.5' is a number, but no class number"),
        ("path,label\na.mp4,run\nftp://x/b.mp4,walk\n", ":3: 'ftp://x/b.mp4' is not read; list paths"),
        ("path,label\na.mp4,run\ns3://x/b.mp4,walk\n", ":3: 's3://x/b.mp4' is not read"),
        ("path,label\nfile://elsewhere/b.mp4,walk\n", ":2: 'file://elsewhere/b.mp4' is not read"),
        ("a.mp4 run\x00\n", "NUL"),
    ],
)
def test_unclear_lists_are_refused(tmp_path, videos, text, message):
    refused(videos, write(tmp_path, "l.csv", text), message, classes=["run", "walk"])


def test_several_label_columns(tmp_path, videos):
    """A name and its number are one label; the numbers give the order of the classes."""
    text = "path,label,label_name\na.mp4,1,run\nb.mp4,0,walk\nc.mp4,1,run\n"
    table = read_annotations(videos, write(tmp_path, "l.csv", text))
    assert table.class_names == ("walk", "run")
    assert pairs(table) == PAIRS
    text = "path,class_name\na.mp4,7\nb.mp4,10\nc.mp4,7\n"
    assert pairs(read_annotations(videos, write(tmp_path, "l.csv", text)))[1] == ("b.mp4", "10")


def test_numbers_as_pandas_writes_them(tmp_path, videos):
    file = write(tmp_path, "l.csv", "path,label\na.mp4,1.0\nb.mp4,0.0\n")
    assert [sample.label for sample in read_annotations(videos, file, ["x", "y"]).samples] == [1, 0]


def test_columns_without_labels_are_said(tmp_path, videos):
    file = write(tmp_path, "l.csv", "path,mood\na.mp4,glad\n")
    table = read_annotations(videos, file, ["x", "y"])
    assert pairs(table) == [("a.mp4", None)]
    assert "no column holds labels; not read: mood" in table.notes[0]
    refused(videos, file, "no video has a label, .* not read: mood")


def test_fields_with_breaks_quotes_and_spaces(tmp_path, videos):
    text = 'path,label\n"x\ny.mp4","say ""hi"", ok"\n"  z.mp4 ",  run  \n "b.mp4" , walk\n5" disk.mp4,run\n'
    assert pairs(read_annotations(videos, write(tmp_path, "l.csv", text))) == [
        ("x\ny.mp4", 'say "hi", ok'),
        ("  z.mp4 ", "run"),
        ("b.mp4", "walk"),
        ('5" disk.mp4', "run"),
    ]


# JSON


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.json", [{"video": name, "label": label} for name, label in PAIRS]),
        ("l.json", [{"Path": name, "Category": label, "x": None} for name, label in PAIRS]),
        ("l.json", {"video": [name for name, _ in PAIRS], "label": [label for _, label in PAIRS]}),
        ("l.json", dict(PAIRS)),
        ("l.json", {"train": [{"video": name, "label": label} for name, label in PAIRS]}),
        ("l.jsonl", [{"file_name": name, "label": label} for name, label in PAIRS]),
    ],
)
def test_json_lists(tmp_path, videos, name, content):
    text = "\n".join(map(json.dumps, content)) + "\n" if name == "l.jsonl" else json.dumps(content)
    assert pairs(read_annotations(videos, write(tmp_path, name, text))) == PAIRS


def test_json_splits_numbers_and_kinetics(tmp_path, videos):
    content = {"train": [{"video": "a.mp4", "label": 1}], "val": [{"video": "b.mp4", "label": 0}]}
    table = read_annotations(videos, write(tmp_path, "l.json", json.dumps(content)), ["x", "y"])
    assert rows(table) == [("a.mp4", "y", "train"), ("b.mp4", "x", "validation")]
    entry = {"annotations": {"label": "zumba", "segment": [1.0, 11.0]}, "subset": "training"}
    table = read_annotations(videos, write(tmp_path, "k.json", json.dumps({"abc": entry})))
    assert rows(table) == [("abc_000001_000011", "zumba", "train")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("{}", "expected SSv2's list"),
        ("null", "expected SSv2's list"),
        ("[]", "expected SSv2's list"),
        ("[1, 2]", "expected SSv2's list"),
        ("NaN", "NaN is not a number"),
        ('[{"video": "a.mp4", "label": NaN}]', "NaN is not a number"),
        ('[{"video": "a.mp4", "label": 1e999}]', "a label must be a class name or a class number, got inf"),
        ('[{"video": "a.mp4", "label": 0.5}]', "got 0.5"),
        ('[{"video": "a.mp4", "label": true}]', "got True"),
        ('[{"video": "a.mp4", "label": ["run"]}]', "must be a class name or"),
        ('[{"video": "a.mp4", "label": ' + "9" * 5000 + "}]", "is not valid JSON"),
        ('[{"video": "a.mp4", "label": ' + "9" * 3000 + "}]", "a number of many digits"),
        ('[{"video": 3, "label": "run"}]', "entry 1: the column of paths holds 3"),
        ('[{"video": "a.mp4", "label": "run"}, {"label": "run"}]', "entry 2: the column of paths is empty"),
        ('[{"video": "a.mp4", "label": "run"}, {"video": "b.mp4", "label": 0}]', "entry 2: label 0 is a number"),
        ('[{"video": "a.mp4", "label": "run", "split": [1]}]', "unknown split"),
        ('[{"film": "a.mp4", "label": "run"}]', "no key of film, label is known to hold the videos"),
        ('[{"video": "a.mp4", "video": "b.mp4", "label": "run"}]', "the key 'video' occurs twice"),
        ('{"video": ["a.mp4"], "label": []}', "differ in length"),
        ('[{"video": "a\\u0000.mp4", "label": "run"}]', "not text"),
        ('[{"video": "\\ud800.mp4", "label": "run"}]', "not text in UTF-8"),
        ('[{"video": "a.mp4", "label": "\\ud800"}]', "not text in UTF-8"),
        ('{"x": {"annotations": {"label": "run", "segment": [NaN, 1]}}}', "NaN"),
        ('{"x": {"annotations": {"label": "run", "segment": [1e999, 1]}}}', "entry 1: expected Kinetics'"),
        ('{"x": {"annotations": []}}', "entry 1: expected Kinetics'"),
        ('[{"id": {}, "template": "x"}]', "must be text"),
        ('[{"id": "1", "template": 3}]', "must be text"),
        ('{"a": 1', "is not valid JSON"),
    ],
)
def test_bad_json(tmp_path, videos, text, message):
    refused(videos, write(tmp_path, "l.json", text), message)


def test_bad_json_lines_name_their_line(tmp_path, videos):
    good = '{"video": "a.mp4", "label": "run"}\n'
    refused(videos, write(tmp_path, "l.jsonl", good + "{\n"), "l.jsonl:2 is not valid JSON")
    refused(videos, write(tmp_path, "l.jsonl", good + "3\n"), "expected SSv2's list")


# Files that are no text


def test_what_is_no_file(tmp_path, videos):
    os.mkfifo(tmp_path / "pipe.txt")
    os.symlink("loop.txt", tmp_path / "loop.txt")
    (tmp_path / "folder.csv").mkdir()
    refused(videos, tmp_path / "pipe.txt", "pipe or a device")
    refused(videos, "/dev/zero", "pipe or a device")
    refused(videos, tmp_path / "loop.txt", "no annotation file")
    refused(videos, tmp_path / "folder.csv", "no known lists")
    refused(videos, str(tmp_path / "a\0b"), "no annotation file")
    refused(videos, tmp_path / ("x" * 5000), "no annotation file")
    refused(
        videos, write(tmp_path, "l.csv", "path,label\na.mp4,run\n"), "it is a folder", classes=tmp_path / "folder.csv"
    )
    refused(f"{videos}\0", None, "not a folder")


def test_sizes_are_bounded(tmp_path, videos, monkeypatch):
    long = write(tmp_path, "l.txt", "a.mp4 run\n" + "b" * (1 << 20) + ".mp4 run\n")
    refused(videos, long, r"l.txt:2: a line of 1,048,\d+ characters")
    quoted = write(tmp_path, "q.csv", 'path,label\n"' + "b\n" * (1 << 20) + 'c.mp4",run\n')
    refused(videos, quoted, "not closed")
    field = write(tmp_path, "f.csv", "path,label\n" + "b" * 200_000 + ".mp4,run\n")
    assert len(read_annotations(videos, field)) == 1  # csv's own limit is 131,072
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr("vitaclip_hf.data.text_files.read_bytes.__defaults__", (1 << 16,))
    refused(videos, tmp_path / "huge.txt", "is larger than 65,536 bytes")


def test_random_bytes_end_in_one_kind_of_error(tmp_path, videos):
    draw = random.Random(0)
    pieces = [b"path", b"label", b",", b"\t", b";", b" ", b'"', b"\n", b"\r", b"{", b"}", b"[", b"]", b":", b"a.mp4"]
    pieces += [
        b"run",
        b"0",
        b"1",
        b"\xff",
        b"\x00",
        b"\xe2\x80\xa8",
        b"id",
        b"name",
        b"\\",
        b"1e9",
        b"null",
        b"v_a_g01_c01.avi",
    ]
    outcomes = set()
    for number in range(400):
        content = b"".join(draw.choices(pieces, k=draw.randint(1, 40)))
        file = write(tmp_path, f"{number}{draw.choice(('.txt', '.csv', '.json', '.jsonl'))}", content)
        try:
            outcomes.add(type(read_annotations(videos, file)))
        except AnnotationError as error:
            assert "\n" not in str(error) and len(str(error)) < 1100
            outcomes.add(AnnotationError)
        with contextlib.suppress(AnnotationError):
            read_annotations(videos, write(tmp_path, "l.csv", "path,label\na.mp4,run\n"), file)
        file.unlink()
    assert AnnotationError in outcomes


# Round trip

HARD = [
    "a, b.mp4",
    'say "hi".mp4',
    "x\ny.mp4",
    "c\r.mp4",
    " lead.mp4",
    "trail.mp4 ",
    "tab\t.mp4",
    "\u2028.mp4",
    "no ext",
]
HARD += [
    "semi;colon.mp4",
    "\udcff\udcfe.mp4",
    "\u00e9.mp4",
    "e\u0301.mp4",
    "path",
    "#1.mp4",
    "a\\b.mp4",
    '"',
    "'",
    "0",
    "-",
]


@pytest.mark.parametrize("there", [True, False])
def test_what_we_write_reads_the_same(tmp_path, there):
    labels = ("0", "a, b", " x ", 'q"q', "line\nbreak", "7.0")
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
    assert again.samples == table.samples
    assert again.class_names == table.class_names
    assert again.sha256 == table.sha256
    assert pairs(read_annotations(tmp_path / "v", tmp_path / "out.csv")) == pairs(table)
    one = table.split("test")
    one.write(tmp_path / "one.csv")
    assert (tmp_path / "one.csv").read_bytes().startswith(b"path,label_name\r\n")
    assert read_annotations(tmp_path / "v", tmp_path / "one.csv", labels, split="test").samples == one.samples


def test_numeric_class_names_are_not_numbers(tmp_path, videos):
    """Class names ("1", "0") are written as names: `1` is not class number 1."""
    table = AnnotationTable((VideoSample(str(videos / "a.mp4"), 0, "train", "a.mp4"),), ("1", "0"), "here")
    table.write(tmp_path / "out.csv")
    assert read_annotations(videos, tmp_path / "out.csv", ["1", "0"]).samples[0].label == 0


@pytest.mark.parametrize("name", ["x" * 1001, "run\x1b[31m"])
def test_labels_that_no_class_has(tmp_path, videos, name):
    refused(videos, write(tmp_path, "l.csv", f"path,label\na.mp4,{name}\nb.mp4,run\n"), "the class name")


def test_file_addresses_are_paths(tmp_path, videos):
    named = videos / "a b.mp4"
    named.touch()
    text = f"path,label\n{named.as_uri()},run\nfile://localhost{videos}/b.mp4,walk\n"
    table = read_annotations(videos, write(tmp_path, "l.csv", text))
    assert [(sample.path, sample.name) for sample in table.samples] == [
        (str(named), "a b.mp4"),
        (f"{videos}/b.mp4", "b.mp4"),
    ]
    assert "%20" in text


def test_columns_of_a_part_are_said_not_to_be_read(tmp_path, videos):
    text = "path,start_time,end_time,label,fps\na.mp4,0,5,run,25\n"
    (note,) = read_annotations(videos, write(tmp_path, "l.csv", text)).notes
    assert note.endswith("each video is read as a whole; not read: start_time, end_time")


def test_what_is_missing_is_said_to_be_a_class(tmp_path, videos):
    (note,) = read_annotations(videos, write(tmp_path, "l.csv", "path,label\na.mp4,NaN\nb.mp4,run\n")).notes
    assert "'NaN' is taken for a class" in note


@pytest.mark.parametrize(
    "text",
    [
        "VIDEOPATH,ClassName\na.mp4,run\nb.mp4,walk\nc.mp4,run\n",
        "\ufeff\ufeffpath,label\na.mp4,run\nb.mp4,walk\nc.mp4,run\n",
        "a.mp4,run\n\ufeffb.mp4,walk\r\n\ufeffc.mp4,run\n",  # joined files
        "\u200bpath\tlabel\na.mp4\trun\nb.mp4\twalk\nc.mp4\trun\n",
    ],
)
def test_spellings_and_marks_that_are_not_seen(tmp_path, videos, text):
    assert pairs(read_annotations(videos, write(tmp_path, "l.csv", text))) == PAIRS


@pytest.mark.parametrize(
    "header", ["label,YouTube_ID,Time-Start,time end,split", "LABEL,YOUTUBEID,TIMESTART,TIMEEND,SPLIT"]
)
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_kinetics_headers_in_other_spellings(tmp_path, videos, header, separator):
    (videos / "a_000010_000020.mp4").write_bytes(b"x")
    text = "\r\n".join([header, "run,a,10,20,val"]).replace(",", separator)
    (sample,) = read_annotations(videos, write(tmp_path, "l.csv", text)).samples
    assert (sample.path, sample.split) == (str(videos / "a_000010_000020.mp4"), "validation")


def test_an_id_is_the_video_and_not_the_page_beside_it(tmp_path, videos):
    """MSR-VTT names a page of the web beside each video."""
    entries = [{"video_id": name[0], "category": label, "url": f"http://x/watch?v={name}"} for name, label in PAIRS]
    table = read_annotations(videos, write(tmp_path, "l.json", json.dumps(entries)))
    assert [os.path.isfile(sample.path) for sample in table.samples] == [True] * 3
    assert "those of the column `video_id`; not read: url" in " ".join(table.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4,run,x1\nb.mp4,walk,x2\n", "3 columns, with 'run,x1' after the path"),
        ("a.mp4, run, x1\nb.mp4, walk, x2\n", "3 columns"),
        ("a.mp4\trun\tx1\nb.mp4\twalk\tx2\n", "3 columns"),
        ("a.mp4,run,\nb.mp4,walk,\n", "3 columns, with 'run,' after the path"),
        ("media,run\na.mp4,run\nb.mp4,walk\n", ":1: there is no video 'media'"),
        ("0,1\na.mp4,0\nb.mp4,1\n", ":1: there is no video '0'"),
        ("run a.mp4\nwalk b.mp4\n", ":1: 'run a.mp4' is taken for one path without a label; .* `label path`"),
        ("0 a.mp4\n1 b.mp4\n", ":1: '0 a.mp4' is taken for one path"),
        ("path,labels\na.mp4,\"['run', 'walk']\"\n", ":2: expected one label for each video, got the list"),
        ('path,labels\na.mp4,"[0, 1]"\n', ":2: expected one label for each video"),
        ("id,scene,quality,actions\na,x,6,run 1 2\n", "no column holds labels; not read: scene, quality, actions"),
    ],
)
def test_what_was_guessed_before_is_refused(tmp_path, videos, text, message):
    numbers = ["run", "walk"] if text[0] in "0a" or "," not in text else None
    refused(videos, write(tmp_path, "l.csv", text), message, classes=numbers)


def test_names_with_commas_stay_names(tmp_path, videos):
    text = "a.mp4,put a, then b\nb.mp4,put c, then d\nc.mp4,put a, then b\n"
    names = [name for _, name in pairs(read_annotations(videos, write(tmp_path, "l.csv", text)))]
    assert names == ["put a, then b", "put c, then d", "put a, then b"]
    table = read_annotations(videos, write(tmp_path, "l.csv", "path,label\na.mp4,[Something] falls\n"))
    assert table.class_names == ("[Something] falls",)


def test_several_labels_in_one_are_said(tmp_path, videos):
    table = read_annotations(videos, write(tmp_path, "l.csv", "path,label\na.mp4,run|walk\nb.mp4,walk\nc.mp4,run\n"))
    assert "'run|walk' is taken for one class" in " ".join(table.notes)


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"PK\x03\x04", "Excel"), (b"PAR1", "Parquet"), (b"\x1f\x8b", "gzip"), (b"\x80\x04", "pickle")],
)
def test_other_kinds_of_tables_are_named(tmp_path, videos, start, kind):
    for name in ("l.csv", "l.json", "l.jsonl", "l"):
        refused(videos, write(tmp_path, name, start + b"rubbish"), f"{kind}.*save it as CSV")


def test_numbers_that_fit_no_class_folder_are_refused(tmp_path, videos):
    """Numbers from 1 without the last class gave each video the next class."""
    for name in ("run/x.mp4", "walk/y.mp4"):
        write(videos, name, "x")
    file = write(tmp_path, "l.txt", "run/x.mp4 1\nwalk/y.mp4 2\n")
    message = refused(videos, file, "label 1 is the class 'walk'", classes=["run", "walk", "sit"])
    assert "labels count from 0" in message
    file = write(tmp_path, "l.txt", "run/x.mp4 0\nwalk/y.mp4 1\n")
    assert len(read_annotations(videos, file, classes=["run", "walk", "sit"])) == 2


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";"])
def test_ucf101_with_other_separators(tmp_path, videos, separator):
    names = [f"{name}/v_{name}_g01_c01.avi" for name in ("Archery", "Biking")]
    write(tmp_path, "classInd.txt", "1 Archery\r\n2 Biking\r\n")
    file = write(tmp_path, "trainlist01.txt", "".join(f"{n}{separator}{k}\r\n" for k, n in enumerate(names, 1)))
    table = read_annotations(videos, file)
    assert [label for _, label in pairs(table)] == ["Archery", "Biking"] and table.notes == ()
    file = write(tmp_path, "trainlist01.txt", "".join(f"{n}{separator}{3 - k}\r\n" for k, n in enumerate(names, 1)))
    (note,) = read_annotations(videos, file).notes
    assert "its class numbers are not those of" in note


def test_templates_of_some_entries_only_are_refused(tmp_path, videos):
    entries = [{"id": "a", "template": "Holding [something]"}, {"id": "b", "label": "holding a pen"}]
    for order in (entries, entries[::-1]):
        file = write(tmp_path, "train.json", json.dumps(order))
        refused(videos, file, f"entry {order.index(entries[1]) + 1}: it has no `template`")
