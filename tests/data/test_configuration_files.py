"""YAML files that are hostile or wrong end in one error of one line, and soon."""

import os
import time

import pytest

from vitaclip_hf.data.configuration_files import MAX_BYTES, ConfigurationFileError, read_yaml


def refused(path, message):
    start = time.perf_counter()
    with pytest.raises(ConfigurationFileError, match=message) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1100
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 50_000, "nested too deeply"),
        ("a: " + "{a: " * 20_000, "nested too deeply"),
        ("a: " + "[" * 900 + "]" * 900, "nested too deeply"),  # took a minute
        ("- " * 50_000, "recursion"),
        ("a: 1\nb: 2\na: 3\n", "'a' occurs twice"),
        (("? " + "k" * 90_000 + "\n: 1\n") * 2, "occurs twice"),
        ("a: " + "1" * 200_000, "a number of 200,000 characters is not allowed"),
        ("a: 1" + ":1" * 100_000, "a number of 200,001 characters"),
        ("a: 0x" + "f" * 200_000, "a number of 200,002 characters"),
        ("a: 2020-13-45\n", "is not YAML"),
        ("a: 0b_\n", "is not YAML"),
        ("a: &x [1]\nb: *x\n", r"the alias \*x is not allowed"),
        ("a: !!python/object/apply:os.system [ls]\n", "the tag .* is not allowed"),
        ("a: !!int x\n", "the tag .* is not allowed"),
        ("a: !!bool x\n", "the tag .* is not allowed"),
        ("a: !!timestamp x\n", "the tag .* is not allowed"),
        ("? [1, 2]\n: 3\n", "a field's name must be a word"),
        ("? {a: 1}\n: 3\n", "a field's name must be a word"),
        ("a:\n\tb: 1\n", "is not YAML"),
        ("a: \0\n", "is not YAML"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("", "must hold `field: value` lines"),
        ("x" * (MAX_BYTES + 1), "is larger than"),
    ],
)
def test_refused(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    refused(tmp_path / "x.yaml", message)


def test_an_expanding_file_is_refused(tmp_path):
    levels = ["a:", "  - &b0 [x,x,x,x,x,x,x,x,x,x]"]
    levels += [f"  - &b{n + 1} [{','.join([f'*b{n}'] * 10)}]" for n in range(9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(levels))
    refused(tmp_path / "bomb.yaml", "alias")


def test_many_fields_take_time_in_proportion(tmp_path):
    def seconds(count):
        (tmp_path / "x.yaml").write_text("".join(f"k{n}: 1\n" for n in range(count)))
        start = time.process_time()
        assert len(read_yaml(tmp_path / "x.yaml")) == count
        return time.process_time() - start

    assert seconds(16_000) < 12 * seconds(4_000)  # it was 16 times by the comparisons alone


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    refused(tmp_path / "pipe.yaml", "pipe.yaml cannot be read: .* a pipe")
    refused(tmp_path, "cannot be read: it is a folder")
    refused(tmp_path / "none.yaml", "none.yaml cannot be read: No such file")
    refused(str(tmp_path / "a\0b"), "NUL")


def test_plain_files_read(tmp_path):
    (tmp_path / "x.yaml").write_text("a: 1\nb: [x, 2.5]\nc: {d: !!str 1}\ne: 2020-01-01T00:00:00Z\n")
    values = read_yaml(tmp_path / "x.yaml")
    assert (values["a"], values["b"], values["c"]) == (1, ["x", 2.5], {"d": "1"})
