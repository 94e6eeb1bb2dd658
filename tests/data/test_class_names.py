"""Class files and spellings."""

import pytest

from vitaclip_hf.data.class_names import AnnotationError, ClassIndex, read_class_names, spell_class_name


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
