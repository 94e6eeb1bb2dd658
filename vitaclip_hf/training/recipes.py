"""Training recipes: YAML files of argument values, checked against the arguments that there are."""

from collections.abc import Iterable
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from transformers import HfArgumentParser

from ..data.configuration_files import ConfigurationFileError, nearest_names, read_yaml


# Raised when a field changes its meaning, so that an old recipe is refused instead of misread.
RECIPE_VERSION = 1
GENERATED = "motion_shapes"  # as `videos`
PATH_FIELDS = ("model", "videos", "annotations", "classes", "eval_videos", "eval_annotations")


class RecipeError(ValueError):
    """A recipe or an argument that does not fit; the message says what to change."""


def read_recipe(path: str | Path, known_fields: Iterable[str], _below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A recipe file as argument values, with what it `extends` (a file beside it) underneath.

    A relative path of `PATH_FIELDS` counts from the working directory or, if there is nothing, from the file's folder.

    Args:
        path: the YAML file.
        known_fields: names of all arguments.

    Raises:
        RecipeError: no such file, no YAML mapping, a recipe of another version, an unknown field, or a circle.
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
    """A recipe's path as it is found from the working directory; what is no path there stays as it is."""
    if not isinstance(value, str) or value == GENERATED or Path(value).exists() or not (folder / value).exists():
        return value
    found = (folder / value).resolve()
    # Relative if it can be, so that what is recorded of a run holds in another clone.
    return str(found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found)


class RecipeParser(HfArgumentParser):
    """Dataclasses of arguments, filled from a recipe and the command line (which wins).

    After `parse`, `chosen` holds every value that the recipe or the command line set.
    """

    chosen: dict[str, Any]

    def error(self, message: str):
        raise RecipeError(message)

    def parse(self, arguments: list[str], recipe: dict[str, Any]) -> tuple:
        """The dataclasses in their order.

        Raises:
            RecipeError: an unknown argument, or a value that does not fit.
        """
        types = {item.name: item.type for dataclass_type in self.dataclass_types for item in fields(dataclass_type)}
        defaults = vars(self.parse_args([]))
        self.set_defaults(**{name: self._typed(name, value, types[name]) for name, value in recipe.items()})
        namespace, unknown = self.parse_known_args(arguments)
        if unknown:
            name = unknown[0].split("=")[0].replace("-", "_").lstrip("_")
            raise RecipeError(f"unknown argument {unknown[0]!r}{nearest_names(name, types)}")
        values = vars(namespace)
        self.chosen = {name: value for name, value in values.items() if value != defaults[name] or name in recipe}
        try:
            return tuple(
                dataclass_type(**{item.name: values[item.name] for item in fields(dataclass_type) if item.init})
                for dataclass_type in self.dataclass_types
            )
        except (ValueError, TypeError) as error:
            raise RecipeError(" ".join(str(error).split())) from error

    def _typed(self, name: str, value: Any, kind: Any) -> Any:
        """A recipe's value, of the type that its field has; YAML reads 4e-4 as a string."""
        kinds = _kinds(kind)
        if isinstance(value, str) and str not in kinds and kinds & {int, float}:
            try:
                value = (float if float in kinds else int)(value)
            except ValueError:
                raise RecipeError(f"the recipe's {name}: {value!r} is no number") from None
        action = next(action for action in self._actions if action.dest == name)
        fits = type(value) in kinds or (type(value) is int and float in kinds) or Any in kinds
        if not fits or (action.choices and value not in action.choices):
            expected = ", ".join(map(str, action.choices or sorted(getattr(one, "__name__", "any") for one in kinds)))
            raise RecipeError(f"the recipe's {name}: {value!r} does not fit; expected {expected}")
        return value


def _kinds(kind: Any) -> set[Any]:
    """The plain types that an annotation allows; enumerations are written as strings."""
    if get_origin(kind) is Literal:
        return {type(value) for value in get_args(kind)}
    if get_origin(kind) in (list, dict):
        return {get_origin(kind)}
    if get_args(kind):
        return set().union(*map(_kinds, get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {str}
    return {kind}


def field_names(dataclass_types: Iterable[type]) -> set[str]:
    """Names of all arguments of these dataclasses."""
    return {item.name for dataclass_type in dataclass_types for item in fields(dataclass_type) if item.init}


def write_recipe(path: str | Path, values: dict[str, Any]) -> None:
    """Writes argument values as a recipe that can be trained again."""
    lines = yaml.safe_dump({"recipe_version": RECIPE_VERSION} | values, sort_keys=False, allow_unicode=True)
    Path(path).write_text(lines, encoding="utf-8")
