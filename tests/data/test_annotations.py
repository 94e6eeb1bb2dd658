"""Tables from folders, lists and the official formats; selections."""

import json

import pytest

from vitaclip_hf.data.annotations import AnnotationError, AnnotationTable, VideoSample, read_annotations


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def rows(table):
    """(name, class, split) of each video."""
    return [(s.name, None if s.label is None else table.class_names[s.label], s.split) for s in table.samples]


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    return folder


def write(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# Folders


def test_class_folders(videos):
    touch(videos, "run/b.mp4", "run/a.AVI", "clap/x y.webm", "clap/deeper/z.mkv", "clap/notes.txt", "clap/._x.mp4")
    (videos / "empty").mkdir()
    (videos / ".cache").mkdir()
    table = read_annotations(videos)
    assert table.class_names == ("clap", "empty", "run")
    assert rows(table) == [
        ("clap/deeper/z.mkv", "clap", "train"),
        ("clap/x y.webm", "clap", "train"),
        ("run/a.AVI", "run", "train"),
        ("run/b.mp4", "run", "train"),
    ]
    assert table.counts() == [2, 0, 2]
    assert table.samples[0].path == str(videos / "clap/deeper/z.mkv")


def test_split_folders_share_their_classes(videos):
    touch(videos, "train/run/a.mp4", "val/run/b.mp4", "val/clap/c.mp4", "test/clap/d.mp4")
    table = read_annotations(videos)
    assert table.class_names == ("clap", "run")
    assert {(name, split) for name, _, split in rows(table)} == {
        ("train/run/a.mp4", "train"),
        ("val/run/b.mp4", "validation"),
        ("val/clap/c.mp4", "validation"),
        ("test/clap/d.mp4", "test"),
    }
    assert len(read_annotations(videos, split="validation")) == 2


def test_class_folders_with_given_classes(videos):
    touch(videos, "brush_hair/a.mp4", "run/b.mp4")
    table = read_annotations(videos, classes=["run", "brush hair"])
    assert rows(table) == [("brush_hair/a.mp4", "brush hair", "train"), ("run/b.mp4", "run", "train")]
    with pytest.raises(AnnotationError, match="'run' is none of the 1 classes"):
        read_annotations(videos, classes=["brush hair"])


def test_no_class_folders(videos):
    touch(videos, "a.mp4")
    with pytest.raises(AnnotationError, match="no videos found; expected a folder of videos for each class"):
        read_annotations(videos)
    with pytest.raises(AnnotationError, match="is not a folder"):
        read_annotations(videos / "none")


# Lists


@pytest.mark.parametrize(
    ("line", "name", "label"),
    [
        ("a.mp4 run", "a.mp4", "run"),
        ("a.mp4,run", "a.mp4", "run"),
        ("a.mp4\trun", "a.mp4", "run"),
        ("my a.mp4 riding a bike", "my a.mp4", "riding a bike"),
        ("my a.mp4, riding a bike ", "my a.mp4", "riding a bike"),
        ("x, y.mp4 run", "x, y.mp4", "run"),
        ('"x, y.mp4","put a, b"', "x, y.mp4", "put a, b"),
        ("a.mp4,put a, b", "a.mp4", "put a, b"),
        ('"say ""hi"".mp4" run', 'say "hi".mp4', "run"),
        ("#20_clap_u.avi clap", "#20_clap_u.avi", "clap"),
        ("b.mp4.avi run", "b.mp4.avi", "run"),
        ("folder/clip_7 run", "folder/clip_7", "run"),
        ("clip 7,run", "clip 7", "run"),
        ("https://host/a.mp4 run", "https://host/a.mp4", "run"),
    ],
)
def test_lines(tmp_path, videos, line, name, label):
    table = read_annotations(videos, write(tmp_path, "l.txt", line + "\r\n\r\n"))
    assert rows(table) == [(name, label, "train")]


def test_numeric_labels_need_classes(tmp_path, videos):
    listed = write(tmp_path, "val.txt", "a.mp4 1\nb.mp4 0\n")
    with pytest.raises(AnnotationError, match="labels are numbers; give `classes`"):
        read_annotations(videos, listed)
    table = read_annotations(videos, listed, classes=write(tmp_path, "c.csv", 'id,name\n0,"x, y"\n1,z\n'))
    assert rows(table) == [("a.mp4", "z", "validation"), ("b.mp4", "x, y", "validation")]
    # A caller who says the split knows better than the file's name.
    assert rows(read_annotations(videos, listed, ["x", "y"], split="test"))[0] == ("a.mp4", "y", "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a.mp4 0\nb.mp4 2\n", r"l.txt:2: label 2 is not among the 2 classes .* subtract 1"),
        ("a.mp4 0\nb.mp4 -1\n", "l.txt:2: label -1"),
        ("a.mp4 0\na.mp4 1\n", r"l.txt:2: 'a.mp4' is listed before, at .*l.txt:1"),
        ("a.mp4 0\nb.mp4\n", "l.txt:2: 'b.mp4' has no label, but other lines have"),
        ("a.mp4 120 1\n", "expected one label for each video"),
        ("a.mp4 jog\n", "'jog' is none of the 2 classes"),
        ("something\n", "expected `path label`"),
    ],
)
def test_bad_lists(tmp_path, videos, text, message):
    with pytest.raises(AnnotationError, match=message) as error:
        read_annotations(videos, write(tmp_path, "l.txt", text), ["run", "walk"])
    assert "\n" not in str(error.value)


def test_table_with_a_header(tmp_path, videos):
    text = 'file_name,Label,split\n"a, 1.mp4",run,train\nb.mp4,"x, y",val\n'
    table = read_annotations(videos, write(tmp_path, "metadata.csv", text))
    assert rows(table) == [("a, 1.mp4", "run", "train"), ("b.mp4", "x, y", "validation")]
    bad = write(tmp_path, "bad.csv", "path,label,split\na.mp4,run,dev\n")
    with pytest.raises(AnnotationError, match="bad.csv:2: unknown split 'dev'"):
        read_annotations(videos, bad)
    with pytest.raises(AnnotationError, match="short.csv:2: expected 3 fields"):
        read_annotations(videos, write(tmp_path, "short.csv", "path,label,split\na.mp4,run\n"))


def test_folder_with_one_list_for_each_split(tmp_path, videos):
    write(tmp_path, "lists/train.txt", "a.mp4 0\n")
    write(tmp_path, "lists/val.txt", "b.mp4 1\n")
    write(tmp_path, "lists/classes.txt", "run\nwalk\n")
    table = read_annotations(videos, tmp_path / "lists")
    assert rows(table) == [("a.mp4", "run", "train"), ("b.mp4", "walk", "validation")]
    write(tmp_path, "lists/validation.csv", "b.mp4,1\n")
    with pytest.raises(AnnotationError, match="two files for validation"):
        read_annotations(videos, tmp_path / "lists")


def test_unknown_annotations(tmp_path, videos):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(AnnotationError, match="no known lists"):
        read_annotations(videos, tmp_path / "nothing")
    with pytest.raises(AnnotationError, match="There is no annotation file"):
        read_annotations(videos, tmp_path / "none.txt")
    with pytest.raises(AnnotationError, match="Unknown annotation format 'voc'"):
        read_annotations(videos, format="voc")
    with pytest.raises(AnnotationError, match="Unknown split 'dev'"):
        read_annotations(videos, split="dev")
    write(tmp_path, "two/trainlist01.txt", "A/v_A_g01_c01.avi 1\n")
    write(tmp_path, "two/A_test_split1.txt", "a.avi 1\n")
    with pytest.raises(AnnotationError, match=r"several kinds of lists \(ucf101, hmdb51\)"):
        read_annotations(videos, tmp_path / "two")


# Official formats


@pytest.fixture
def ucf101(tmp_path):
    write(tmp_path, "ucf/classInd.txt", "1 Archery\n2 YoYo\n")
    write(tmp_path, "ucf/trainlist01.txt", "Archery/v_Archery_g08_c01.avi 1\nYoYo/v_YoYo_g08_c01.avi 2\n")
    write(tmp_path, "ucf/testlist01.txt", "YoYo/v_YoYo_g01_c01.avi\n")
    write(tmp_path, "ucf/trainlist02.txt", "YoYo/v_YoYo_g01_c01.avi 2\n")
    write(tmp_path, "ucf/testlist02.txt", "YoYo/v_YoYo_g08_c01.avi\n")
    return tmp_path / "ucf"


def test_ucf101(ucf101, videos):
    table = read_annotations(videos, ucf101)
    assert table.class_names == ("Archery", "YoYo")
    assert rows(table) == [
        ("Archery/v_Archery_g08_c01.avi", "Archery", "train"),
        ("YoYo/v_YoYo_g08_c01.avi", "YoYo", "train"),
        ("YoYo/v_YoYo_g01_c01.avi", "YoYo", "test"),
    ]
    assert rows(read_annotations(videos, ucf101, split="test", number=2)) == [
        ("YoYo/v_YoYo_g08_c01.avi", "YoYo", "test")
    ]
    one = read_annotations(videos, ucf101 / "testlist01.txt")
    assert rows(one) == [("YoYo/v_YoYo_g01_c01.avi", "YoYo", "test")]
    assert one.class_names == ("Archery", "YoYo")
    with pytest.raises(AnnotationError, match="neither trainlist03.txt nor testlist03.txt"):
        read_annotations(videos, ucf101, number=3)


def test_ucf101_numbers_from_0_or_1_but_not_contradicting(tmp_path, videos):
    for first in (0, 1):
        text = f"Archery/v_Archery_g08_c01.avi {first}\nYoYo/v_YoYo_g08_c01.avi {first + 1}\n"
        table = read_annotations(videos, write(tmp_path, f"from{first}.txt", text))
        assert [sample.label for sample in table.samples] == [0, 1]
    text = "YoYo/v_YoYo_g08_c01.avi 1\nYoYo/v_YoYo_g08_c02.avi 2\n"
    with pytest.raises(AnnotationError, match=r":2: class YoYo has the number 2 here"):
        read_annotations(videos, write(tmp_path, "bad.txt", text))


def test_hmdb51(tmp_path, videos):
    write(tmp_path, "h/brush_hair_test_split1.txt", "#1_a.avi 1 \nb.avi 2 \nc.avi 0 \n")
    write(tmp_path, "h/wave_test_split1.txt", "d.avi 2 \n")
    write(tmp_path, "h/wave_test_split2.txt", "d.avi 1 \n")
    table = read_annotations(videos, tmp_path / "h")
    assert table.class_names == ("brush_hair", "wave")
    assert rows(table) == [
        ("brush_hair/#1_a.avi", "brush_hair", "train"),
        ("brush_hair/b.avi", "brush_hair", "test"),
        ("wave/d.avi", "wave", "test"),
    ]
    assert rows(read_annotations(videos, tmp_path / "h", number=2)) == [("wave/d.avi", "wave", "train")]
    assert len(read_annotations(videos, tmp_path / "h/wave_test_split1.txt", split="test")) == 2
    write(tmp_path, "h/wave_test_split1.txt", "d.avi 3\n")
    with pytest.raises(AnnotationError, match=r"wave_test_split1.txt:1: expected `video.avi 0\|1\|2`"):
        read_annotations(videos, tmp_path / "h")


KINETICS = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics(tmp_path, videos):
    touch(videos, "train/air drumming/-aN_c2jvUA_000055_000065.mp4", "val/abc_000012_000022.mkv")
    text = (
        KINETICS + 'air drumming,-aN_c2jvUA,55,65,train\n"carving, wood",abc,12.0,22.0,validate\nzumba,gone,1,11,val\n'
    )
    table = read_annotations(videos, write(tmp_path, "k.csv", text))
    assert rows(table) == [
        ("-aN_c2jvUA_000055_000065", "air drumming", "train"),
        ("abc_000012_000022", "carving, wood", "validation"),
        ("gone_000001_000011", "zumba", "validation"),
    ]
    found = [sample.path for sample in table.samples]
    assert found[0] == str(videos / "train/air drumming/-aN_c2jvUA_000055_000065.mp4")
    assert found[1] == str(videos / "val/abc_000012_000022.mkv")
    assert found[2] == str(videos / "gone_000001_000011")


def test_kinetics_test_without_labels(tmp_path, videos):
    listed = write(tmp_path, "test.csv", "youtube_id,time_start,time_end,split\nabc,12,22,test\n")
    assert rows(read_annotations(videos, listed, ["zumba"])) == [("abc_000012_000022", None, "test")]
    with pytest.raises(AnnotationError, match="no video has a label"):
        read_annotations(videos, listed)
    bad = write(tmp_path, "bad.csv", KINETICS + "zumba,abc,,22,train\n")
    with pytest.raises(AnnotationError, match="bad.csv:2: time_start and time_end"):
        read_annotations(videos, bad)


def test_ssv2(tmp_path, videos):
    touch(videos, "78687.webm", "5.webm")
    entry = {"id": "78687", "label": "holding potato", "template": "Holding [something] next to [something]"}
    write(tmp_path, "s/something-something-v2-train.json", json.dumps([entry]))
    write(tmp_path, "s/something-something-v2-test.json", json.dumps([{"id": "5"}]))
    labels = {"Holding something next to something": "1", "Closing something": "0"}
    write(tmp_path, "s/something-something-v2-labels.json", json.dumps(labels))
    table = read_annotations(videos, tmp_path / "s")
    assert table.class_names == ("Closing something", "Holding something next to something")
    assert rows(table) == [("78687", table.class_names[1], "train"), ("5", None, "test")]
    assert table.samples[0].path == str(videos / "78687.webm")
    with pytest.raises(AnnotationError, match="expected SSv2's list"):
        read_annotations(videos, write(tmp_path, "x.json", "{}"))


# Finding files


def test_flat_lists_find_videos_in_class_folders(tmp_path, videos):
    touch(videos, "UCF-101/run/a.avi", "walk/b.avi", "run/c.avi")
    listed = write(tmp_path, "l.txt", "a.avi run\nb.avi run\nrun/c.avi walk\nwalk/a.avi run\n")
    paths = [sample.path for sample in read_annotations(videos, listed, ["run", "walk"]).samples]
    assert paths[0] == str(videos / "UCF-101/run/a.avi")
    assert paths[1] == str(videos / "b.avi")  # in another class's folder: another video, so this one is missing
    assert paths[2] == str(videos / "run/c.avi")  # where it is listed
    assert paths[3] == str(videos / "walk/a.avi")  # not within the folder listed


def test_several_files_may_fit(tmp_path, videos):
    touch(videos, "train/a.mp4", "val/a.mp4")
    listed = write(tmp_path, "val.txt", "a.mp4 run\n")
    assert read_annotations(videos, listed).samples[0].path == str(videos / "val/a.mp4")
    with pytest.raises(AnnotationError, match="may be train/a.mp4 or val/a.mp4"):
        read_annotations(videos, listed, split="test")


def test_addresses_and_absolute_paths(tmp_path, videos):
    touch(videos, "a.mp4")
    listed = write(tmp_path, "l.txt", "sub/a.mp4 run\n")
    assert read_annotations("https://host/v/", listed).samples[0].path == "https://host/v/sub/a.mp4"
    absolute = write(tmp_path, "m.txt", f"{videos}/a.mp4 run\n")
    assert rows(read_annotations(videos, absolute)) == [("a.mp4", "run", "train")]


def test_require_videos(tmp_path, videos):
    table = read_annotations(videos, write(tmp_path, "l.txt", "a.mp4 run\nb.mp4 run\n"))
    with pytest.raises(AnnotationError, match="none of the 2 videos exist, such as .*a.mp4; check the videos' folder"):
        table.require_videos()
    touch(videos, "b.mp4")
    table.require_videos()


# Hash and selections


def table_of(*labels, splits=None, classes=("a", "b", "c")):
    splits = splits or ["train"] * len(labels)
    samples = [
        VideoSample(f"/v/{n}.mp4", label, split, f"{n}.mp4")
        for n, (label, split) in enumerate(zip(labels, splits, strict=True))
    ]
    return AnnotationTable(tuple(samples), classes, "list")


def test_hash_is_of_the_content_not_of_the_machine(tmp_path):
    hashes = []
    for name in ("one", "two"):
        touch(tmp_path / name, "run/a.mp4", "walk/b.mp4")
        hashes.append(read_annotations(tmp_path / name).sha256)
    touch(tmp_path / "two", "walk/c.mp4")
    assert hashes[0] == hashes[1]
    assert read_annotations(tmp_path / "two").sha256 != hashes[0]
    tables = [
        table_of(0, 1),
        table_of(1, 0),
        table_of(0, 1, splits=["test", "train"]),
        table_of(0, 1, classes=("b", "a")),
    ]
    assert len({table.sha256 for table in tables}) == 4
    # sha256 of '[["a"],[["0.mp4",0,"train"]]]', computed with sha256sum
    assert table_of(0, classes=("a",)).sha256 == "f582c8447bb513ba689d0e2e846254794618601ab2941b5ebbc433cf775717d7"


def test_split_and_classes():
    table = table_of(0, 1, 2, None, splits=["train", "test", "train", "test"])
    assert [sample.name for sample in table.split("test").samples] == ["1.mp4", "3.mp4"]
    assert table.split("test").class_names == table.class_names
    with pytest.raises(AnnotationError, match="no videos for validation, only for test, train"):
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
    with pytest.raises(AnnotationError, match="7 shots asked for, but class 'a' of list has 6"):
        table.few_shot(7, seed=1)
    with pytest.raises(AnnotationError, match="at least 1"):
        table.few_shot(0, seed=1)


def test_base_to_novel():
    table = table_of(0, 1, 2, 2, 1, 2, classes=("a", "b", "c"))
    base, novel = table.base_to_novel()
    assert (base.class_names, novel.class_names) == (("a", "b"), ("c",))
    assert [sample.label for sample in base.samples] == [0, 1, 1]
    assert [(sample.name, sample.label) for sample in novel.samples] == [("2.mp4", 0), ("3.mp4", 0), ("5.mp4", 0)]
    base, novel = table.base_to_novel("frequent")
    assert (base.class_names, novel.class_names) == (("b", "c"), ("a",))
    with pytest.raises(AnnotationError, match="two are needed"):
        table_of(0, classes=("a",)).base_to_novel()


def test_base_to_novel_by_names():
    table = table_of(0, 1, 2, 2, 1, 2, classes=("brush_hair", "Clap", "dive"))
    base, novel = table.base_to_novel(base=["dive", "brush hair"], novel=["clap"])
    assert (base.class_names, novel.class_names) == (("dive", "brush_hair"), ("Clap",))
    assert [(sample.name, sample.label) for sample in base.samples] == [
        ("0.mp4", 1), ("2.mp4", 0), ("3.mp4", 0), ("5.mp4", 0),
    ]  # fmt: skip
    assert [part.class_names for part in table.base_to_novel(novel=["dive"])] == [("brush_hair", "Clap"), ("dive",)]
    assert [part.class_names for part in table.base_to_novel(base=["dive"])] == [("dive",), ("brush_hair", "Clap")]
    with pytest.raises(AnnotationError, match="base classes: 'jump' is none of the 3 classes"):
        table.base_to_novel(base=["jump"])
    with pytest.raises(AnnotationError, match="'dive' is named twice among base and novel classes"):
        table.base_to_novel(base=["dive", "Clap"], novel=["Dive"])
    with pytest.raises(AnnotationError, match="none are left"):
        table.base_to_novel(novel=["dive", "Clap", "brush_hair"])


def test_folders_beside_split_folders(tmp_path):
    for split in ("train", "val"):
        for name in ("yoga", "archery"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.mp4").touch()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "notes.txt").touch()
    assert read_annotations(tmp_path).class_names == ("archery", "yoga")
    (tmp_path / "extras").mkdir()
    (tmp_path / "extras" / "2.mp4").touch()
    with pytest.raises(AnnotationError, match="extras holds videos and lies beside split folders"):
        read_annotations(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "bus"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.mp4").touch()
    assert read_annotations(tmp_path).class_names == ("bus", "train")


def test_video_listed_twice_in_two_spellings(tmp_path):
    (tmp_path / "list.txt").write_text("a/v.mp4,x\n./a/v.mp4,x\n")
    with pytest.raises(AnnotationError, match=r"list.txt:2: './a/v.mp4' is listed before"):
        read_annotations(tmp_path, tmp_path / "list.txt")


@pytest.mark.parametrize("value", [3, 3.5, True, b"x", {}, object, "\ud800", ["a", 3]], ids=repr)
def test_arguments_that_are_no_paths_and_no_names(videos, tmp_path, value):
    (tmp_path / "list.csv").write_text("path,label\na.mp4,x\n")
    for argument in ("videos", "annotations", "classes"):
        given = {"videos": videos, "annotations": tmp_path / "list.csv", argument: value}
        with pytest.raises(AnnotationError, match=f"`{argument}` (must be|is )"):
            read_annotations(**given)
