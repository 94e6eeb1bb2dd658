"""YAML files that are hostile or wrong end in one error of one line, and soon."""

import pytest

from vitaclip_hf.data.configuration_files import MAX_BYTES, read_yaml
from vitaclip_hf.data.text_files import AnnotationError


def refused(path, token):
    with pytest.raises(AnnotationError, match=token) as error:
        read_yaml(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1100


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("a: " + "[" * 50_000, "nested too deeply"),
        ("a: " + "[" * 900 + "]" * 900, "nested too deeply"),  # took a minute
        ("- " * 30_000, "recursion"),
        *(("a: 1\nb: 2\na: 3\n", "'a' occurs twice"), ("yes: 1\ntrue: 2\n", "'true' occurs twice")),
        ("a: &x [1]\nb: *x\n", "aliases"),
        *(
            (text, "not YAML")
            for text in ("a: " + "1" * 60_000, "a: 2020-13-45\n", "a: 0b_\n", "a: \0\n", "a:\n\tb: 1\n")
        ),
        *(
            (f"a: !!{tag}\n", "tags")
            for tag in ("python/object/apply:os.system [ls]", "int x", "bool x", "timestamp x")
        ),
        *((text, "not YAML") for text in ("? [1, 2]\n: 3\n", "? {a: 1}\n: 3\n", "a: 1\n---\nb: 2\n")),
        ("", "must hold `field: value` lines"),
        ("x" * (MAX_BYTES + 1), "is larger than"),
    ],
)
def test_refused(tmp_path, text, token):
    (tmp_path / "x.yaml").write_text(text)
    refused(tmp_path / "x.yaml", token)


def test_what_is_no_file(tmp_path):
    refused(tmp_path, "cannot be read")
    refused(tmp_path / "none.yaml", "none.yaml cannot be read: No such file")
    refused(str(tmp_path / "a\0b"), "null byte")


def test_plain_files_read(tmp_path):
    (tmp_path / "x.yaml").write_text("a: 1\nb: [x, 2.5]\nc: {d: !!str 1}\ne: 2020-01-01T00:00:00Z\n")
    values = read_yaml(tmp_path / "x.yaml")
    assert (values["a"], values["b"], values["c"]) == (1, ["x", 2.5], {"d": "1"})
