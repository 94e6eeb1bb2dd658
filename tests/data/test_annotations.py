"""Tables from folders, lists and the official formats; selections."""

import json
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from vitaclip_hf import decode_video
from vitaclip_hf.data.annotations import AnnotationTable, VideoSample, read_annotations
from vitaclip_hf.data.listings import split_of_name
from vitaclip_hf.data.text_files import AnnotationError


# Folders


def test_class_folders(videos, touch, rows):
    touch("run/b.mp4", "run/a.AVI", "clap/x y.webm", "clap/deeper/z.mkv", "clap/notes.txt", "clap/._x.mp4")
    (videos / "empty").mkdir()
    (videos / ".cache").mkdir()
    table = read_annotations(videos)
    assert table.class_names == ("clap", "empty", "run") and table.counts() == [2, 0, 2]
    names = ["clap/deeper/z.mkv", "clap/x y.webm", "run/a.AVI", "run/b.mp4"]
    assert rows(table) == [(name, name.split("/")[0], "train") for name in names]
    assert table.samples[0].path == str(videos / "clap/deeper/z.mkv")


def test_split_folders_share_their_classes(videos, touch, rows):
    names = {"train/run/a.mp4": "train", "val/run/b.mp4": "validation", "val/clap/c.mp4": "validation"}
    names["test/clap/d.mp4"] = "test"
    touch(*names)
    table = read_annotations(videos)
    assert table.class_names == ("clap", "run")
    assert {name: split for name, _, split in rows(table)} == names
    assert len(read_annotations(videos, split="validation")) == 2


def test_class_folders_with_given_classes(videos, touch, rows, refused):
    touch("brush_hair/a.mp4", "run/b.mp4")
    table = read_annotations(videos, classes=["run", "brush hair"])
    assert rows(table) == [("brush_hair/a.mp4", "brush hair", "train"), ("run/b.mp4", "run", "train")]
    refused(None, "'run'", classes=["brush hair"])


def test_no_class_folders(videos, touch, refused):
    touch("a.mp4")
    refused(None, "no videos found")
    with pytest.raises(AnnotationError, match="is not a folder"):
        read_annotations(videos / "none")


# Folders of lists


def test_folder_with_one_list_for_each_split(tmp_path, videos, write, rows, refused):
    write("lists/train.txt", "a.mp4 0\n")
    write("lists/val.txt", "b.mp4 1\n")
    write("lists/classes.txt", "run\nwalk\n")
    table = read_annotations(videos, tmp_path / "lists")
    assert rows(table) == [("a.mp4", "run", "train"), ("b.mp4", "walk", "validation")]
    write("lists/validation.csv", "b.mp4,1\n")
    assert rows(read_annotations(videos, tmp_path / "lists")) == rows(table)  # Kinetics has each split as csv and json
    write("lists/validation.csv", "b.mp4,0\n")
    refused(tmp_path / "lists", "val.txt and validation.csv list different videos")
    assert [split_of_name(Path(name)) for name in ("ucf101_val1.txt", "train_val.txt")] == ["validation", None]


def test_unknown_annotations(tmp_path, videos, write, refused):
    refused(None, "'voc'", format="voc")
    refused(None, "'dev'", split="dev")
    write("two/trainlist01.txt", "A/v_A_g01_c01.avi 1\n")
    write("two/A_test_split1.txt", "a.avi 1\n")
    refused(tmp_path / "two", r"hmdb51, ucf101")


# Official formats


@pytest.fixture
def ucf101(tmp_path, write):
    write("ucf/classInd.txt", "1 Archery\n2 YoYo\n")
    write("ucf/trainlist01.txt", "Archery/v_Archery_g08_c01.avi 1\nYoYo/v_YoYo_g08_c01.avi 2\n")
    write("ucf/testlist01.txt", "YoYo/v_YoYo_g01_c01.avi\n")
    write("ucf/trainlist02.txt", "YoYo/v_YoYo_g01_c01.avi 2\n")
    write("ucf/testlist02.txt", "YoYo/v_YoYo_g08_c01.avi\n")
    return tmp_path / "ucf"


def test_ucf101(ucf101, videos, rows, refused):
    table = read_annotations(videos, ucf101)
    assert table.class_names == ("Archery", "YoYo")
    files = [("Archery/v_Archery_g08_c01.avi", "train"), ("YoYo/v_YoYo_g08_c01.avi", "train")]
    files.append(("YoYo/v_YoYo_g01_c01.avi", "test"))
    assert rows(table) == [(name, name.split("/")[0], split) for name, split in files]
    second = read_annotations(videos, ucf101, split="test", number=2)
    assert rows(second) == [("YoYo/v_YoYo_g08_c01.avi", "YoYo", "test")]
    one = read_annotations(videos, ucf101 / "testlist01.txt")
    assert rows(one) == [("YoYo/v_YoYo_g01_c01.avi", "YoYo", "test")]
    assert one.class_names == ("Archery", "YoYo")
    refused(ucf101, "trainlist03.txt", number=3)


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";"])
def test_ucf101_with_other_separators_and_numbers(read, rows, touch, separator):
    """The folder is the class, whatever the numbers count from; separators of Windows too."""
    touch("Yo Yo/v_YoYo_g08_c01.avi")
    for first in (0, 1):
        text = f"Archery/v_A_g08_c01.avi{separator}{first}\r\nYo Yo\\v_YoYo_g08_c01.avi{separator}{first + 1}\r\n"
        table = read(text, name="trainlist01.txt")
        expected = {"Archery/v_A_g08_c01.avi": "Archery", "Yo Yo/v_YoYo_g08_c01.avi": "Yo Yo"}
        assert {name: label for name, label, _ in rows(table)} == expected and table.notes == ()


def test_hmdb51(tmp_path, videos, write, rows, refused):
    write("h/brush_hair_test_split1.txt", "#1_a.avi 1 \nb.avi 2 \nc.avi 0 \n")
    write("h/wave_test_split1.txt", "d.avi 2 \n")
    write("h/wave_test_split2.txt", "d.avi 1 \n")
    write("h/._wave_test_split1.txt", b"\0\5\26\7")  # of a Mac
    table = read_annotations(videos, tmp_path / "h")
    (tmp_path / "unpacked/brush_hair").mkdir(parents=True)
    (tmp_path / "unpacked/splits").symlink_to(tmp_path / "h")
    assert read_annotations(videos, tmp_path / "unpacked").samples == table.samples
    assert table.class_names == ("brush_hair", "wave")
    splits = {"brush_hair/#1_a.avi": "train", "brush_hair/b.avi": "test", "wave/d.avi": "test"}
    assert rows(table) == [(name, name.split("/")[0], split) for name, split in splits.items()]
    assert rows(read_annotations(videos, tmp_path / "h", number=2)) == [("wave/d.avi", "wave", "train")]
    assert len(read_annotations(videos, tmp_path / "h/wave_test_split1.txt", split="test")) == 2
    write("h/wave_test_split1.txt", "d.avi 3\n")
    refused(tmp_path / "h", r"wave_test_split1.txt:1: ")


KINETICS = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics(videos, touch, write, rows):
    touch("train/air drumming/-aN_c2jvUA_000055_000065.mp4", "val/abc_000012_000022.mkv")
    text = (
        KINETICS + 'air drumming,-aN_c2jvUA,55,65,train\n"carving, wood",abc,12.0,22.0,validate\nzumba,gone,1,11,val\n'
    )
    table = read_annotations(videos, write("k.csv", text))
    assert rows(table) == [
        ("-aN_c2jvUA_000055_000065", "air drumming", "train"),
        ("abc_000012_000022", "carving, wood", "validation"),
        ("gone_000001_000011", "zumba", "validation"),
    ]
    paths = ["train/air drumming/-aN_c2jvUA_000055_000065.mp4", "val/abc_000012_000022.mkv", "gone_000001_000011"]
    assert [sample.path for sample in table.samples] == [str(videos / path) for path in paths]


@pytest.mark.parametrize(
    "header", ["label,YouTube_ID,Time-Start,time end,split", "LABEL,YOUTUBEID,TIMESTART,TIMEEND,SPLIT"]
)
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_kinetics_headers_in_other_spellings(read, touch, videos, header, separator):
    touch("a_000010_000020.mp4")
    (sample,) = read("\r\n".join([header, "run,a,10,20,val"]).replace(",", separator)).samples
    assert (sample.path, sample.split) == (str(videos / "a_000010_000020.mp4"), "validation")


def test_kinetics_json(read, rows, tmp_path, write, videos):
    entry = {"annotations": {"label": "zumba", "segment": [1.0, 11.0]}, "subset": "training"}
    write("k700/train.json", json.dumps({"abc": entry}))
    write("k700/train.csv", KINETICS + "zumba,abc,1,11,train\n")
    assert rows(read_annotations(videos, tmp_path / "k700")) == [("abc_000001_000011", "zumba", "train")]
    table = read(json.dumps({"abc": entry, "d-e": entry | {"subset": "test"}}), name="k.json")
    assert rows(table) == [("abc_000001_000011", "zumba", "train"), ("d-e_000001_000011", "zumba", "test")]


def test_kinetics_test_without_labels(videos, write, rows, refused):
    listed = write("test.csv", "youtube_id,time_start,time_end,split\nabc,12,22,test\n")
    assert rows(read_annotations(videos, listed, ["zumba"])) == [("abc_000012_000022", None, "test")]
    refused(listed, "no video has a label")
    bad = write("bad.csv", KINETICS + "zumba,abc,,22,train\n")
    refused(bad, "bad.csv:2: ")


def test_ssv2(tmp_path, videos, touch, write, rows, refused):
    touch("78687.webm", "5.webm")
    entry = {"id": "78687", "label": "holding potato", "template": "Holding [something] next to [something]"}
    write("s/something-something-v2-train.json", json.dumps([entry]))
    write("s/something-something-v2-test.json", json.dumps([{"id": "5"}]))
    labels = {"Holding something next to something": "1", "Closing something": "0"}
    write("s/something-something-v2-labels.json", json.dumps(labels))
    write("s/._something-something-v2-labels.json", b"\0\5\26\7")  # of a Mac
    table = read_annotations(videos, tmp_path / "s")
    assert table.class_names == ("Closing something", "Holding something next to something")
    assert rows(table) == [("78687", table.class_names[1], "train"), ("5", None, "test")]
    assert table.samples[0].path == str(videos / "78687.webm")
    refused(write("x.json", "{}"), "x.json")


# Finding files


def test_flat_lists_find_videos_in_class_folders(videos, touch, write):
    touch("UCF-101/run/a.avi", "walk/b.avi", "run/c.avi")
    listed = write("l.txt", "a.avi run\nb.avi run\nrun/c.avi walk\nwalk/a.avi run\n")
    paths = [sample.path for sample in read_annotations(videos, listed, ["run", "walk"]).samples]
    assert paths[0] == str(videos / "UCF-101/run/a.avi")
    assert paths[1] == str(videos / "b.avi")  # in another class's folder: another video, so this one is missing
    assert paths[2] == str(videos / "run/c.avi")  # where it is listed
    assert paths[3] == str(videos / "walk/a.avi")  # not within the folder listed


def test_several_files_may_fit(videos, touch, write, refused):
    touch("train/a.mp4", "val/a.mp4")
    listed = write("val.txt", "a.mp4 run\n")
    assert read_annotations(videos, listed).samples[0].path == str(videos / "val/a.mp4")
    refused(listed, "may be train/a.mp4 or val/a.mp4", split="test")


def test_addresses_and_absolute_paths(videos, touch, write, rows):
    touch("a.mp4")
    listed = write("l.txt", "sub/a.mp4 run\n")
    assert read_annotations("https://host/v/", listed).samples[0].path == "https://host/v/sub/a.mp4"
    with pytest.raises(AnnotationError, match="https://host/v/ is not a folder"):
        read_annotations("https://host/v/")
    absolute = write("m.txt", f"{videos}/a.mp4 run\n")
    assert rows(read_annotations(videos, absolute)) == [("a.mp4", "run", "train")]


def test_names_at_an_address_are_quoted(videos, touch, write, video_files):
    """An own server gets a request for each video, and has it: `#` and `?` would ask for the folder."""
    names = ["run/#1 a.mp4", "run/b?x=1.mp4", "run/50%25 é.mp4"]
    touch(*names)
    listed = write("l.csv", "path,label\n" + "".join(f"{name},run\n" for name in names))
    handler = partial(SimpleHTTPRequestHandler, directory=videos)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for number, sample in enumerate(read_annotations(f"http://127.0.0.1:{server.server_port}/", listed).samples):
            shutil.copy(video_files[number], videos / names[number])
            assert np.array_equal(decode_video(sample.path, [3])[0], decode_video(video_files[number], [3])[0])
        server.shutdown()


# Hash and selections


def table_of(*labels, splits=None, classes=("a", "b", "c")):
    splits = splits or ["train"] * len(labels)
    rows = enumerate(zip(labels, splits, strict=True))
    samples = tuple(VideoSample(f"/v/{n}.mp4", label, split, f"{n}.mp4") for n, (label, split) in rows)
    return AnnotationTable(samples, classes, "list")


def test_hash_is_of_the_content_not_of_the_machine(tmp_path, touch):
    hashes = []
    for name in ("one", "two"):
        touch("run/a.mp4", "walk/b.mp4", root=tmp_path / name)
        hashes.append(read_annotations(tmp_path / name).sha256)
    touch("walk/c.mp4", root=tmp_path / "two")
    assert hashes[0] == hashes[1]
    assert read_annotations(tmp_path / "two").sha256 != hashes[0]
    tables = [table_of(0, 1), table_of(1, 0), table_of(0, 1, splits=["test", "train"])]
    assert len({table.sha256 for table in (*tables, table_of(0, 1, classes=("b", "a")))}) == 4
    # sha256 of '[["a"],[["0.mp4",0,"train"]]]', computed with sha256sum
    assert table_of(0, classes=("a",)).sha256 == "f582c8447bb513ba689d0e2e846254794618601ab2941b5ebbc433cf775717d7"


def test_split_and_classes():
    table = table_of(0, 1, 2, None, splits=["train", "test", "train", "test"])
    assert [sample.name for sample in table.split("test").samples] == ["1.mp4", "3.mp4"]
    assert table.split("test").class_names == table.class_names
    with pytest.raises(AnnotationError, match="validation, only for test, train"):
        table.split("validation")
    chosen = table.with_classes(["c", "A"])
    assert chosen.class_names == ("c", "a")
    assert [(sample.name, sample.label) for sample in chosen.samples] == [("0.mp4", 1), ("2.mp4", 0)]
    with pytest.raises(AnnotationError, match="'d' is none of"):
        table.with_classes(["d"])


def test_few_shot():
    labels = [0, 1] * 6
    table = table_of(*labels, 0, splits=["train"] * 12 + ["test"], classes=("a", "b"))
    two, four = table.few_shot(2, seed=1), table.few_shot(4, seed=1)
    assert two.split("train").counts() == [2, 2]
    assert four.split("train").counts() == [4, 4]
    assert set(two.samples) < set(four.samples)
    assert table.samples[-1] in two.samples  # other splits stay
    draws = {tuple(sample.name for sample in table.few_shot(2, seed).samples) for seed in range(10)}
    assert len(draws) > 5
    backwards = AnnotationTable(table.samples[::-1], table.class_names, "list")
    assert set(backwards.few_shot(2, 1).samples) == set(two.samples)
    with pytest.raises(AnnotationError, match="7 shots .*'a' of list has 6"):
        table.few_shot(7, seed=1)
    with pytest.raises(AnnotationError, match="at least 1"):
        table.few_shot(0, seed=1)


def test_base_to_novel():
    table = table_of(0, 1, 2, 2, 1, 2, classes=("a", "b", "c"))
    base, novel = table.base_to_novel()
    assert (base.class_names, novel.class_names) == (("a", "b"), ("c",))
    assert [sample.label for sample in base.samples] == [0, 1, 1]
    assert [(sample.name, sample.label) for sample in novel.samples] == [("2.mp4", 0), ("3.mp4", 0), ("5.mp4", 0)]


def test_base_to_novel_by_names():
    table = table_of(0, 1, 2, 2, 1, 2, classes=("brush_hair", "Clap", "dive"))
    base, novel = table.base_to_novel(base=["dive", "brush hair"], novel=["clap"])
    assert (base.class_names, novel.class_names) == (("dive", "brush_hair"), ("Clap",))
    assert [(sample.name, sample.label) for sample in base.samples][:2] == [("0.mp4", 1), ("2.mp4", 0)]
    assert [part.class_names for part in table.base_to_novel(novel=["dive"])] == [("brush_hair", "Clap"), ("dive",)]
    assert [part.class_names for part in table.base_to_novel(base=["dive"])] == [("dive",), ("brush_hair", "Clap")]
    with pytest.raises(AnnotationError, match="base classes: 'jump'"):
        table.base_to_novel(base=["jump"])
    with pytest.raises(AnnotationError, match="'dive'"):
        table.base_to_novel(base=["dive", "Clap"], novel=["Dive"])
    with pytest.raises(AnnotationError, match="none are left"):
        table.base_to_novel(novel=["dive", "Clap", "brush_hair"])


def test_folders_beside_split_folders(videos, touch, refused):
    touch(
        *(f"{split}/{name}/1.mp4" for split in ("train", "val") for name in ("yoga", "archery")),
        "annotations/notes.txt",
    )
    assert read_annotations(videos).class_names == ("archery", "yoga")
    touch("extras/2.mp4")
    refused(None, "extras holds videos and lies beside split folders")


def test_a_class_may_be_called_train(videos, touch):
    touch("train/1.mp4", "bus/1.mp4")
    assert read_annotations(videos).class_names == ("bus", "train")
