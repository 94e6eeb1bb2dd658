"""Class descriptions: forms of the JSON file, the classes they are for, and files that cannot be used."""

import json

import pytest

from vitaclip_hf.data.annotations import AnnotationError
from vitaclip_hf.data.class_descriptions import read_class_descriptions, texts_of_classes


def test_forms(tmp_path):
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


def test_numbers_for_names(tmp_path):
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
def test_files_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "texts.json").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=message):
        read_class_descriptions(tmp_path / "texts.json")
