"""Dataclasses of arguments from the command line and from values of a file."""

from dataclasses import dataclass, field

import pytest
import yaml

from vitaclip_hf.arguments import ArgumentParser
from vitaclip_hf.option_names import with_options


@dataclass
class Numbers:
    learning_rate: float = 0.5
    count: int | None = None
    switch: bool = True
    words: str | None = None
    several: list[float] = field(default_factory=lambda: [1.0])


def parse(arguments: list[str], values: dict | None = None) -> Numbers:
    (numbers,) = ArgumentParser(Numbers).parse(arguments, values)
    return numbers


def test_command_line_wins_over_file_and_file_over_defaults():
    assert parse([]) == Numbers()
    values = {"learning_rate": 0.25, "count": 3, "switch": False, "several": [1.0, 2.0]}
    assert parse([], values) == Numbers(0.25, 3, False, None, [1.0, 2.0])
    found = parse(["--learning-rate", "2", "--switch", "true", "--words", "a b", "--several", "4", "5"], values)
    assert found == parse(["--learning_rate=2", "--switch", "--words=a b", "--several", "4", "5"], values)
    assert found == Numbers(2.0, 3, True, "a b", [4.0, 5.0])
    assert parse(["--no-switch"]) == parse(["--no_switch"]) == Numbers(switch=False)


def test_values_of_a_file_have_the_types_of_the_command_line():
    assert parse([], yaml.safe_load("learning_rate: 4e-4")).learning_rate == 4e-4
    assert parse([], {"count": "7"}).count == 7
    for values in (
        *({"learning_rate": "fast"}, {"learning_rate": None}, {"learning_rate": [1.0]}, {"count": True}),
        *({"count": 1.5}, {"words": 3}, {"words": ["a"]}, {"several": 0.5}, {"switch": 1}),
    ):
        with pytest.raises(ValueError, match=next(iter(values))):
            parse([], values)


@pytest.mark.parametrize(
    ("arguments", "values", "token"),
    [
        (["--contt", "3"], {}, "'--contt'.*'count'"),
        (["--learning-rate", "fast"], {}, "--learning-rate.*fast"),
        (["--learn-rate", "1"], {}, "'learning_rate'"),
        ([], {"learn_rate": 1}, "'learn_rate'.*'learning_rate'"),
        ([], {5: 1}, "field 5"),
        ([], {"k" * 50_000: 1}, "'kkk"),
    ],
)
def test_unknown_names_and_wrong_values_name_the_argument(arguments, values, token):
    with pytest.raises(ValueError, match=token) as error:
        parse(arguments, values)
    assert len(str(error.value)) < 500


def test_what_was_chosen_gives_the_same():
    parser = ArgumentParser(Numbers)
    first = parser.parse(["--count", "5"], {"learning_rate": 0.5, "several": [2.0]})
    assert parser.chosen == {"learning_rate": 0.5, "count": 5, "several": [2.0]}
    assert ArgumentParser(Numbers).parse([], parser.chosen) == first


def test_help_has_one_spelling_and_no_opposites():
    text = ArgumentParser(Numbers).format_help()
    assert "--learning-rate LEARNING_RATE" in text
    assert "--learning_rate" not in text and "--no" not in text


def test_names_in_backticks_become_options():
    options = {"batch_size": "--batch-size", "template": "--template"}
    assert with_options("`batch_size`, `templates`, `x`", options) == "--batch-size, --template, `x`"
