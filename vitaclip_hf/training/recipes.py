"""Training recipes: YAML files of argument values, checked against the arguments."""

import json
from argparse import SUPPRESS, ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from ..data.configuration_files import ConfigurationFileError, nearest_names, read_yaml
from ..data.text_files import one_line
from .arguments import field_names


# Raised when a field changes its meaning, so that an old recipe is refused instead of misread.
RECIPE_VERSION = 1
GENERATED = "motion_shapes"  # as `videos`
PATH_FIELDS = ("model", "videos", "annotations", "classes", "eval_videos", "eval_annotations")


class RecipeError(ValueError):
    """A recipe or an argument that cannot be used; the message says what to change."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


def read_recipe(path: str | Path, known_fields: Iterable[str], _below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """
    Reads a recipe file as argument values. The values of the recipe that it `extends` (a file beside it) come first.

    A relative path in `PATH_FIELDS` is looked up from the working directory, then from the folder of the recipe.

    Args:
        path (`str` or `Path`): the YAML file.
        known_fields (`Iterable[str]`): names of all arguments.

    Returns:
        `dict`: the argument values by name.

    Raises:
        RecipeError: no such file, no YAML mapping, a recipe of another version, an unknown field, or a recipe that
            extends itself.
    """
    path, known = Path(path), set(known_fields)
    if not path.exists():
        beside = sorted(file.stem for file in path.parent.glob("*.yaml"))
        hint = nearest_names(path.stem, beside)
        raise RecipeError(f"there is no recipe {path}{hint}; known are: {', '.join(beside) or 'none'}")
    try:
        content = read_yaml(path)
    except ConfigurationFileError as error:
        raise RecipeError(f"recipe {error}") from error
    version = content.pop("recipe_version", None)
    if version != RECIPE_VERSION:
        raise RecipeError(
            f"recipe {path} says recipe_version: {version}, but this version of vitaclip_hf reads {RECIPE_VERSION}; "
            "compare it with the recipes in configuration/recipes/ and correct the number."
        )
    parent = content.pop("extends", None)
    for name in content:
        if name not in known:
            raise RecipeError(f"recipe {path} has an unknown field {name!r}{nearest_names(name, known)}")
    content |= {name: _located(content[name], path.parent) for name in PATH_FIELDS if name in content}
    if parent is None:
        return content
    extended = path.parent / f"{parent}.yaml"
    if extended in (path, *_below):
        raise RecipeError(f"recipe {path} extends itself by way of {extended}")
    return read_recipe(extended, known, (*_below, path)) | content


def _located(value: Any, folder: Path) -> Any:
    """A path of a recipe as seen from the working directory. Values that are not a path there stay as they are."""
    if not isinstance(value, str) or value == GENERATED or Path(value).exists() or not (folder / value).exists():
        return value
    found = (folder / value).resolve()
    # A relative path where possible, so that the record of a run is valid in another clone.
    return str(found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found)


class _HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Defaults after each help text, and the description with its own line breaks."""

    def _format_action_invocation(self, action):
        """One spelling of an option, `--num_frames N`. `--num-frames N` is accepted too."""
        if len(action.option_strings) < 2 or action.nargs == 0:
            return super()._format_action_invocation(action)
        metavar = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{action.option_strings[0]} {metavar}"

    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


class RecipeParser(HfArgumentParser):
    """
    Fills dataclasses of arguments from a recipe and the command line. The command line wins.

    `HfArgumentParser.parse_dict` does not do this: it takes values of any type, has no hint for an unknown name, and
    cannot say which values were given.

    Attributes:
        chosen (`dict`): after `parse`, every value that the recipe or the command line set.
    """

    chosen: dict[str, Any]

    def __init__(self, dataclass_types, **kwargs):
        super().__init__(dataclass_types, formatter_class=_HelpFormatter, allow_abbrev=False, **kwargs)
        for action in self._actions:
            if action.option_strings[0].startswith("--no_") and action.nargs == 0:
                action.help = SUPPRESS  # it repeats the help of the switch that it turns off

    def error(self, message: str):
        raise RecipeError(message)

    def parse(self, arguments: list[str], recipe: dict[str, Any]) -> tuple:
        """
        Args:
            arguments (`list[str]`): the command line.
            recipe (`dict`): argument values by name, of known names.

        Returns:
            `tuple`: the dataclasses, in their order.

        Raises:
            RecipeError: an unknown argument, or a value that does not fit.
        """
        defaults = vars(self.parse_args([]))
        self.set_defaults(**{name: self._typed(name, value) for name, value in recipe.items()})
        namespace, unknown = self.parse_known_args(arguments)
        if unknown:
            name = unknown[0].split("=")[0].replace("-", "_").lstrip("_")
            hint = nearest_names(name, field_names(self.dataclass_types))
            raise RecipeError(f"unknown argument {unknown[0]!r}{hint}")
        values = vars(namespace)
        self.chosen = {name: value for name, value in values.items() if value != defaults[name] or name in recipe}
        try:
            return tuple(
                dataclass_type(**{item.name: values[item.name] for item in fields(dataclass_type) if item.init})
                for dataclass_type in self.dataclass_types
            )
        except (ValueError, TypeError) as error:
            raise RecipeError(" ".join(str(error).split())) from error

    def _typed(self, name: str, value: Any) -> Any:
        """A value of a recipe, read as on the command line: YAML reads 4e-4 as a string."""
        items = value if isinstance(value, list) else [value]
        texts = [item if isinstance(item, str) else json.dumps(item, default=str) for item in items]
        try:
            found = vars(self.parse_args([f"--{name}", *texts] if value is items else [f"--{name}={texts[0]}"]))[name]
        except RecipeError as error:
            raise RecipeError(f"the recipe's {name}: {error}") from error
        same_kind = all(isinstance(value, kind) == isinstance(found, kind) for kind in (bool, list))
        if not same_kind or (value != found and not isinstance(value, (str, dict))):  # a dictionary is passed as JSON
            raise RecipeError(f"the recipe's {name}: {value!r} does not fit; the default is {self.get_default(name)!r}")
        return found


def write_recipe(path: str | Path, values: dict[str, Any]) -> None:
    """Writes argument values as a recipe that can be trained again."""
    lines = yaml.safe_dump({"recipe_version": RECIPE_VERSION} | values, sort_keys=False, allow_unicode=True)
    Path(path).write_text(lines, encoding="utf-8")
