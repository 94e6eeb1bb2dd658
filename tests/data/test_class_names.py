"""Class files and spellings, and descriptions of classes."""

import json

import pytest

from vitaclip_hf.data.class_descriptions import read_class_descriptions, texts_of_classes
from vitaclip_hf.data.class_names import AnnotationError, ClassIndex, read_class_names, spell_class_name


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("names.txt", "abseiling\nair drumming\n\nzumba\n", ("abseiling", "air drumming", "zumba")),
        ("names.csv", 'id,name\n0,abseiling\n1,"carving, wood"\n', ("abseiling", "carving, wood")),
        ("commas.csv", "0,putting a, then b\n1,c\n", ("putting a, then b", "c")),
        ("quotes.csv", 'id,name\n0,"say ""hi"""\n1,b\n', ('say "hi"', "b")),
        ("quoted.txt", '"a, b"\nc, d\n', ("a, b", "c, d")),
        ("classInd.txt", "1 ApplyEyeMakeup\r\n2 Archery\r\n", ("ApplyEyeMakeup", "Archery")),
        ("number_first.txt", "3 point throw\n100 m sprint\n", ("3 point throw", "100 m sprint")),
        ("labels.json", '{"Holding it": "1", "Closing it": "0"}', ("Closing it", "Holding it")),
        ("kinetics.json", '{"\\"blue bell\\"": 0, "blue": 1}', ("blue bell", "blue")),
        *((f"{n}.json", text, ("x", "y")) for n, text in enumerate(('{"0": "x", "1": "y"}', '["x", "y"]'))),
        *(("cls.csv", f"{head}\nb,1\na,0\n", ("a", "b")) for head in ("name,id", "class_name,class idx", "LABEL,Id")),
        *(("cls.tsv", f"{head}\nb\t1\na\t0\n", ("a", "b")) for head in ("class\tindex", "label\tclassid")),
        *(("cls.csv", text, ("a", "b")) for text in ("label;class_id\nb;2\na;1\n", "id,name,about\n1,b,x\n0,a,y\n")),
        *(
            ("cls.csv", f"{head}1,b\n0,a\n", ("a", "b"))
            for head in ("", "class_idx,class\n", ",name\n", "\ufeffid,name\n")
        ),
        *(
            ("cls.txt", text, ("a", "b c"))
            for text in ("a 0\nb c 1\n", "b c\t1\na\t0\n", "b c,2\na,1\n", "b c: 1\na: 0\n")
        ),
        *(
            ("cls.txt", text, ("a", "b c"))
            for text in ("2. b c\n1. a\n", "0=a\n1=b c\n", "a|0\nb c|1\n", "(1) a\n(2) b c\n")
        ),
        ("cls.csv", 'blue bell,0\n"green, c",1\n', ("blue bell", "green, c")),
        ("cls.csv", "id,name\n1,7\n0,9\n", ("9", "7")),
        *(("cls.txt", f"{one}\n{two}\n", (one, two)) for one, two in (("step 2", "step 1"), ("level 7", "run 9"))),
        *(("cls.txt", f"{one}\n{two}\n", (one, two)) for one, two in (("time 12:30", "time 14:15"), ("+", "#selfie"))),
        ("cls.txt", "2\n0\n1\n", ("2", "0", "1")),  # names of digits, and no number of classes
        ("mac.txt", "a\rb\r", ("a", "b")),
        ("cls.txt", "act: red\n3 point throw\n-5 degrees\n", ("act: red", "3 point throw", "-5 degrees")),
    ],
)
def test_reads_class_files(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("", "no class names"),
        ("a\nb\na\n", "'a'"),
        ("\udce9", "UTF-8"),
        *((text, "ids must count") for text in ("0,a\n2,b\n", "0,a\n0,b\n", "5,a\n6,b\n")),
        *((text, "'run/a.mp4") for text in ("run/a.mp4 0\nwalk/b.mp4 1\n", "path,label\nrun/a.mp4,run\n")),
        ('id,name\n0,"a\n', "quotes"),
        ("a\n" + "b" * 1001, "1,001 characters"),
        ("a\nb\x1b[2J\n", r"\\x1b"),
    ],
)
def test_bad_class_files(tmp_path, text, token):
    refused(tmp_path / "c.csv", text, token)


# Not sure to be what they look like: the message shows the forms that are read.
UNCLEAR = [
    *("1,0\n0,1\n", "id,name\nx,run\n", "name,class_name\na,b\n", "label,class\na,b\n", "id,name\n0,a,b\nx,c,d\n"),
    *("name\nrun\nwalk\n", "names\nred\n", "Classes:\nrun\nwalk\n", "Class Names\nrun\nwalk\n"),
    *("actions\nrun\nwalk\n", "run,0\nwalk\njump,1\n", "run,0\n1,walk\n", "run,walk\n", "name|id\nred|0\nblue|1\n"),
    *("name id\nred 0\nblue 1\n", "0,red,x\n1,blue,y\n", "red,about it\nblue,about that\n", "red\tx\nblue\ty\n"),
    *('"red","blue"\n', "0.0,a\n1.0,b\n", "names:\n  0: red\n  1: blue\n", "names:\n  - red\n  - blue\n"),
    *("labels:\n- run\n- walk\n", "- red\n- blue\n", "# of UCF101\nrun\nwalk\n"),
    *("run\n// walk\njump\n", "run\n---\nwalk\n", "| red |\n| blue |\n", "[classes]\nrun\nwalk\n"),
    *('[\n"run",\n"walk",\n]\n', "'red'\n'blue'\n", "red,\nblue,\n", "path;label\nrun/a;run\n"),
    *("label,youtube_id,split\nrun,abc,train\n", "class,label\nb,1\na,0\n"),
]


@pytest.mark.parametrize("text", UNCLEAR)
def test_unclear_class_files(tmp_path, text):
    refused(tmp_path / "c.csv", text, "one name a line, `id,name` lines")


def refused(file, text, token):
    file.write_text(text, errors="surrogateescape")
    with pytest.raises(AnnotationError, match=token) as error:
        read_class_names(file)
    assert file.name in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1100


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("{", "JSON"),
        *((text, "holds") for text in ("{}", "null", "[null]", '{"0": null}', '{"a": true}', '{"a": 0.5}')),
        *(
            (text, "holds")
            for text in ('{"0": "1", "1": "0"}', '{"a": ' + "9" * 3000 + "}", '[{"id": 0, "name": "a"}]')
        ),
        ("[]", "no class names"),
        ('["\\ud800"]', "UTF-8"),
        ('["a\\u0000"]', "control"),
    ],
)
def test_bad_json_class_files(tmp_path, text, token):
    refused(tmp_path / "c.json", text, token)


def test_finds_other_spellings_but_never_guesses():
    index = ClassIndex(["brush hair", "HandstandPushups", "kick", "Kick!", "😀", "😡", "Caf\u00e9"], "c.txt")
    assert [index.find(name) for name in ("brush_hair", "BrushHair", "HandStandPushups")] == [0, 0, 1]
    assert [index.find(name) for name in ("kick", "Kick!", "KICK", "run")] == [2, 3, None, None]
    assert [index.find(name) for name in ("😀", "😡", "!", "_", "cafe\u0301")] == [4, 5, None, None, 6]
    with pytest.raises(AnnotationError, match="f:3: 'run' .* c.txt"):
        index.label("run", "f:3")
    assert index.label(6, "") == 6


SPELLINGS = {"Jump2Rope": "Jump2 Rope", "playing iPhone": "playing iPhone", "zumba": "zumba"}


@pytest.mark.parametrize(("name", "words"), SPELLINGS.items())
def test_spelling(name, words):
    assert spell_class_name(name) == words


# Descriptions


def test_forms_of_descriptions(tmp_path):
    file = tmp_path / "texts.json"
    content = {
        "brush_hair": "a hand with a brush",
        "clap": ["two hands meet", "applause"],
        "dive": {"spatio": ["a pool"], "temporal": ["a jump", "a splash"]},
    }
    file.write_text(json.dumps(content))
    found = read_class_descriptions(file)
    assert found["brush_hair"] == ("a hand with a brush",) and found["dive"] == ("a pool", "a jump", "a splash")
    assert texts_of_classes(found, ["Dive", "brush hair"], "x") == [found["dive"], found["brush_hair"]]
    with pytest.raises(AnnotationError, match="x: no texts for 1 classes, such as 'jump'"):
        texts_of_classes(found, ["dive", "jump"], "x")


def test_descriptions_of_numbers(tmp_path):
    """The form of FROSTER's and OST's files."""
    file = tmp_path / "texts.json"
    file.write_text(
        json.dumps({"0": "Brush hair: a hand with a brush", "10": ["two hands"]} | {f"{n}": "x" for n in range(1, 10)})
    )
    found = read_class_descriptions(file)
    texts = texts_of_classes(found, ["brush hair", *"abcdefghi", "clap"], "x")
    assert texts[0] == ("Brush hair: a hand with a brush",) and texts[10] == ("two hands",) and texts[9] == ("x",)
    with pytest.raises(AnnotationError, match="x: has texts for 11 numbers; there are 2 classes"):
        texts_of_classes(found, ["brush hair", "clap"], "x")
    assert texts_of_classes({"0": ("zero",), "1": ("one",)}, ["1", "0"], "x") == [("one",), ("zero",)]  # digits


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "class name to texts"),
        ({}, "class name to texts"),
        *(({"a": value}, "class 'a'") for value in ([], [" "], 3, ["b", 3], "b" * 10_001, {"x": {"y": "z"}})),
        ({"": ["b"]}, "class 0 has an empty name"),
        ({"\ud800": ["b"]}, "UTF-8"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "texts.json").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=message):
        read_class_descriptions(tmp_path / "texts.json")
