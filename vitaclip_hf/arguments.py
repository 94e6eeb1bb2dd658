"""Command-line arguments from dataclasses, with values of a YAML file below them; for training and evaluation."""

import json
from argparse import SUPPRESS, ArgumentDefaultsHelpFormatter, Namespace, RawDescriptionHelpFormatter
from dataclasses import fields
from typing import Any

from transformers import HfArgumentParser

from .data.configuration_files import nearest_names


UNSET = object()


class _HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Defaults after each help text, one spelling of each option, and the description with its own line breaks."""

    def _format_action_invocation(self, action):
        if action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{action.option_strings[0]} {self._format_args(action, self._get_default_metavar_for_optional(action))}"

    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


class ArgumentParser(HfArgumentParser):
    """
    `HfArgumentParser` that raises `ValueError` and takes the values of a YAML file as well; the command line wins.

    Options are written with hyphens or underscores. `HfArgumentParser.parse_dict` takes values of any type, has no hint
    for an unknown name, and cannot say which values were chosen.

    Args:
        dataclass_types: dataclasses of arguments.
        kwargs: of `HfArgumentParser`.

    Attributes:
        chosen (`dict`): after `parse`, every value that the file or the command line set.
        typed (`dict`): after `parse`, the values of the command line.
    """

    chosen: dict[str, Any]
    typed: dict[str, Any]

    def __init__(self, dataclass_types, **kwargs):
        super().__init__(dataclass_types, formatter_class=_HelpFormatter, allow_abbrev=False, **kwargs)
        self.add_argument("--help-all", action="help", help=SUPPRESS)  # as the commands' own help names it
        self.names = {item.name for kind in self.dataclass_types for item in fields(kind) if item.init}
        for action in self._actions:
            action.option_strings.sort(key=lambda spelling: "_" in spelling)  # hyphens first: help shows the first one
            if action.nargs == 0 and action.option_strings[0].startswith("--no-"):
                action.help = SUPPRESS  # it repeats the help of the switch that it turns off

    def error(self, message: str):
        raise ValueError(message)

    def parse(self, arguments: list[str], values: dict[str, Any] | None = None) -> tuple:
        """
        Args:
            arguments (`list[str]`): the command line.
            values (`dict`, *optional*): values of a file, by name.

        Returns:
            `tuple`: the dataclasses, in their order.

        Raises:
            ValueError: an unknown argument, or a value that does not fit.
        """
        values = {name: self._typed(name, value) for name, value in (values or {}).items()}
        self.typed = self._parsed(arguments)
        chosen = values | self.typed
        self.chosen = {name: v for name, v in chosen.items() if name in values or v != self.get_default(name)}
        try:
            return tuple(
                kind(**{item.name: chosen[item.name] for item in fields(kind) if item.name in chosen})
                for kind in self.dataclass_types
            )
        except TypeError as error:
            raise ValueError(" ".join(str(error).split())) from error

    def _parsed(self, arguments: list[str]) -> dict[str, Any]:
        """The values on a command line."""
        namespace = Namespace(**{action.dest: UNSET for action in self._actions})
        namespace, unknown = self.parse_known_args(arguments, namespace)
        if unknown:
            name = unknown[0].split("=")[0].lstrip("-").replace("-", "_")
            raise ValueError(f"unknown argument {unknown[0]!r:.200}{nearest_names(name, self.names)}")
        return {name: value for name, value in vars(namespace).items() if value is not UNSET}

    def _typed(self, name: str, value: Any) -> Any:
        """A value of a file, read as on the command line: YAML reads 4e-4 as a string."""
        if name not in self.names:
            raise ValueError(f"unknown field {name!r:.100}{nearest_names(name, self.names)}")
        if value is None and self.get_default(name) is None:  # takes back a value of the recipe that this one extends
            return None
        items = value if isinstance(value, list) else [value]
        texts = [item if isinstance(item, str) else json.dumps(item, default=str) for item in items]
        try:
            typed = self._parsed([f"--{name}", *texts] if value is items else [f"--{name}={texts[0]}"])[name]
        except ValueError as error:
            raise ValueError(f"`{name}` of the file: {error}") from error
        same_kind = all(isinstance(value, kind) == isinstance(typed, kind) for kind in (bool, list))
        if not same_kind or (value != typed and not isinstance(value, (str, dict))):  # a dictionary is passed as JSON
            raise ValueError(f"`{name}` of the file: {value!r} does not fit; the default is {self.get_default(name)!r}")
        return typed
