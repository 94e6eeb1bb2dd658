"""Class files and spellings."""

import time

import pytest

from vitaclip_hf.data.class_names import (
    AnnotationError,
    ClassIndex,
    alike_names,
    read_class_names,
    spell_class_name,
)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("names.txt", "abseiling\nair drumming\n\nzumba\n", ("abseiling", "air drumming", "zumba")),
        ("names.csv", 'id,name\n0,abseiling\n1,"carving, wood"\n', ("abseiling", "carving, wood")),
        ("headless.csv", "1,b\n0,a\n", ("a", "b")),
        ("commas.csv", "0,putting a, then b\n1,c\n", ("putting a, then b", "c")),
        ("quotes.csv", 'id,name\n0,"say ""hi"""\n1,b\n', ('say "hi"', "b")),
        ("quoted.txt", '"a, b"\nc, d\n', ("a, b", "c, d")),
        ("classInd.txt", "1 ApplyEyeMakeup\r\n2 Archery\r\n", ("ApplyEyeMakeup", "Archery")),
        ("number_first.txt", "3 point throw\n100 m sprint\n", ("3 point throw", "100 m sprint")),
        ("bom.txt", "\ufeffab\ncd\n", ("ab", "cd")),
        (
            "labels.json",
            '{"Holding something": "1", "Closing something": "0"}',
            ("Closing something", "Holding something"),
        ),
        ("id2label.json", '{"0": "x", "1": "y"}', ("x", "y")),
        ("list.json", '["b", "a"]', ("b", "a")),
        ("cls.csv", "name,id\nb,1\na,0\n", ("a", "b")),
        ("cls.tsv", "class\tindex\nb\t1\na\t0\n", ("a", "b")),
        ("cls.csv", "label;class_id\nb;2\na;1\n", ("a", "b")),
        ("cls.csv", "class,label\nb,1\na,0\n", ("a", "b")),
        ("cls.csv", "label,class\n1,b\n0,a\n", ("a", "b")),
        ("cls.csv", ",name\n1,b\n0,a\n", ("a", "b")),
        ("cls.csv", "id,name,about\n1,b,x\n0,a,y\n", ("a", "b")),
        ("cls.csv", "id,name\n1,7\n0,9\n", ("9", "7")),
        ("cls.csv", "id,name\n0,putting a, then b\n1,c\n", ("putting a, then b", "c")),
        ("cls.csv", 'red star,0\n"green, c",1\n', ("red star", "green, c")),
        ("cls.csv", "red star,2\ngreen,1\n", ("green", "red star")),
        ("cls.txt", "red star 1\ngreen 0\n", ("green", "red star")),
        ("cls.tsv", "red\t1\ngreen\t0\n", ("green", "red")),
        ("cls.txt", "step 2\nstep 1\n", ("step 2", "step 1")),
        ("cls.txt", "level 7\nrun 9\n", ("level 7", "run 9")),
        ("cls.txt", "2. run\n1. walk\n", ("walk", "run")),
        ("cls.txt", "0: run\n1: walk\n", ("run", "walk")),
        ("digits.txt", "2\n0\n1\n", ("2", "0", "1")),
        ("cls.json", '[{"id": 1, "name": "b"}, {"id": 0, "name": "a"}]', ("a", "b")),
        ("mac.txt", "a\rb\r", ("a", "b")),
        ("cls.txt", "name id\nred star 1\nblue 0\n", ("blue", "red star")),
        ("cls.txt", "id name\n0 red star\n1 blue\n", ("red star", "blue")),
        ("cls.txt", "red star: 1\nblue: 0\n", ("blue", "red star")),
        ("cls.txt", "0=red\n1=blue\n", ("red", "blue")),
        ("cls.txt", "red|0\nblue|1\n", ("red", "blue")),
        ("cls.txt", "(1) red\n(2) blue\n", ("red", "blue")),
        ("cls.txt", "[0] red\n[1] blue\n", ("red", "blue")),
        ("cls.txt", "time 12:30\ntime 14:15\n", ("time 12:30", "time 14:15")),
        ("cls.txt", "put a, then b\nput c, then d\n", ("put a, then b", "put c, then d")),
        ("cls.txt", "red\n\ufeffblue\n", ("red", "blue")),
        ("cls.txt", "2\n0\n1\n", ("2", "0", "1")),  # names of digits, and no number of classes
        ("cls.txt", "+\n-\n#selfie\n", ("+", "-", "#selfie")),
        ("kinetics.json", '{"\\"red star\\"": 0, "blue": 1}', ("red star", "blue")),
    ],
)
def test_reads_class_files(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no class names"),
        ("a\nb\na\n", "'a' occurs more than once"),
        ("0,a\n2,b\n", "check id 2\\."),
        ("0,a\n0,b\n", "check id 0\\."),
        ("5,a\n6,b\n", "check id 5\\."),
        ("1,0\n0,1\n", "each line may be `id,name` or `name,id`"),
        ("id,name\nx,run\n", "the column 'id' must hold whole numbers, got 'x'"),
        ("name,class_name\na,b\n", "not clear which column"),
        ("label,class\na,b\n", "not clear which column"),
        ("id,name\n0,a,b\nx,c,d\n", "expected 2 fields"),
        ("id,name\n", "no class names"),
        ("name\nrun\nwalk\n", "'name', looks like a header; remove it"),
        ("run,0\nwalk\njump,1\n", "most lines are `id,name` or `name,id`, but not 'walk'"),
        ("run,0\n1,walk\n", "not all in the same order"),
        ("run,walk\n", "expected one class name a line"),
        ("a\x00b\n", "NUL"),
        ('id,name\n0,"a\n', "quote"),
        ("0,red,x\n1,blue,y\n", "each line has 3 fields"),
        ("name|id\nred|0\nblue|1\n", "but not 'name|id'"),
        ("names:\n  0: red\n  1: blue\n", "but not 'names:'"),
        ("names\nred\n", "looks like a header"),
        ("Classes:\nrun\nwalk\n", "'Classes:', looks like a header; remove it"),
        ("labels:\n- run\n- walk\n", "'labels:', looks like a header"),
        ("Class Names\nrun\nwalk\n", "'Class Names', looks like a header"),
        ("actions\nrun\nwalk\n", "'actions', looks like a header"),
        ("3\nrun\nwalk\n4\n", "'3', looks like the number of classes"),
        ("# of UCF101\nrun\nwalk\n", "the line '# of UCF101' looks like a remark"),
        ("run\n// walk\njump\n", "the line '// walk' looks like a remark"),
        ("[classes]\nrun\nwalk\n", r"the line '\[classes\]' looks like a remark"),
        ('[\n"run",\n"walk",\n]\n', r"the line '\[' looks like a remark"),
        ("run\n---\nwalk\n", "the line '---' looks like a remark"),
        ("id name\n0 red\nblue\n", "looks like a header"),
        ("- red\n- blue\n", "each line begins with '- '"),
        ("| red |\n| blue |\n", "each line begins with '|'"),
        ("'red'\n'blue'\n", 'each line begins with "\'"'),
        ("red,\nblue,\n", "each line ends in ','"),
        ('"red","blue"\n', "expected one class name a line"),
        ("red,about it\nblue,about that\n", "each line has 2 fields"),
        ("red\tx\nblue\ty\n", "each line has 2 fields"),
        ("label,youtube_id,split\nrun,abc,train\n", "a list of videos with a header"),
        ("path;label\nrun/a;run\n", "a list of videos with a header"),
        ("PK\x03\x04", "an Excel workbook"),
        ("0.0,a\n1.0,b\n", "the ids must be whole numbers, got '0.0,a'"),
        ("run/a.mp4 0\nwalk/b.mp4 1\n", "a list of videos, such as 'walk/b.mp4'"),
        ("path,label\nrun/a.mp4,run\n", "a list of videos"),
        ("a\n" + "b" * 1001, "has 1,001 characters"),
        ("a\nb\x1b[2J\n", r"control character '\\x1b'"),
    ],
)
def test_bad_class_files(tmp_path, text, message):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(AnnotationError, match=message) as error:
        read_class_names(tmp_path / "c.csv")
    assert "c.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_class_files(tmp_path):
    with pytest.raises(AnnotationError, match="Cannot read"):
        read_class_names(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(AnnotationError, match="UTF-8"):
        read_class_names(tmp_path / "latin.txt")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(AnnotationError, match="is not valid JSON"):
        read_class_names(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("{}", "expected a list of class names"),
        ("null", "expected a list of class names"),
        ("[]", "no class names"),
        ("[null]", "expected a list"),
        ('{"0": null}', "expected a list"),
        ('{"a": true}', "expected a list"),
        ('{"a": 0.5}', "expected a list"),
        ('{"0": "1", "1": "0"}', "which are the names is not clear"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON: a number of thousands of digits.$"),
        ('{"a": ' + "9" * 3000 + "}", "expected a list"),
        ('{"a": 0, "a": 1}', "the key 'a' occurs twice"),
        ('["\\ud800"]', "not text in UTF-8"),
        ('["a\\u0000"]', "not text"),
        ('[{"id": 0, "name": "a"}, {"id": 0, "name": "b"}]', "entry 2: expected an object"),
    ],
)
def test_bad_json_class_files(tmp_path, text, message):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(AnnotationError, match=message) as error:
        read_class_names(tmp_path / "c.json")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1100


def test_many_names_take_time_in_proportion(tmp_path):
    """240,001 names with a repeated one took minutes."""
    names = [f"class number {number}" for number in range(240_000)]
    (tmp_path / "c.txt").write_text("\n".join([*names, names[0]]))
    start = time.process_time()
    with pytest.raises(AnnotationError, match="'class number 0' occurs more than once"):
        read_class_names(tmp_path / "c.txt")
    assert time.process_time() - start < 10


def test_names_of_signs_are_not_alike():
    index = ClassIndex(["😀", "😡"], "c.txt")
    assert [index.find(name) for name in ("😀", "😡", "!", "_")] == [0, 1, None, None]
    assert ClassIndex(["Caf\u00e9"], "c.txt").find("cafe\u0301") == 0


def test_finds_other_spellings_but_never_guesses():
    index = ClassIndex(["brush hair", "HandstandPushups", "kick", "Kick!"], "c.txt")
    assert [index.find(name) for name in ("brush_hair", "BrushHair", "HandStandPushups")] == [0, 0, 1]
    assert [index.find(name) for name in ("kick", "Kick!", "KICK", "run")] == [2, 3, None, None]
    with pytest.raises(AnnotationError, match="f:3: 'run' is none of the 4 classes of c.txt"):
        index.label("run", "f:3")
    assert index.label(3, "") == 3
    with pytest.raises(AnnotationError, match="subtract 1"):
        index.label(4, "f:3")
    with pytest.raises(AnnotationError, match="label -1"):
        index.label(-1, "f:3")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("brush_hair", "brush hair"),
        ("YoYo", "Yo Yo"),
        ("BMXRiding", "BMX Riding"),
        ("playing iPhone", "playing iPhone"),
        ("Jump2Rope", "Jump2 Rope"),
        ("zumba", "zumba"),
    ],
)
def test_spelling(name, words):
    assert spell_class_name(name) == words


@pytest.mark.parametrize("other", ["run\u200b", "\uff32\uff35\uff2e", "r\u00adun", "RUN"])
def test_names_that_look_alike_are_found(other):
    assert alike_names(["run", other, "walk"]) == [("run", other)]
