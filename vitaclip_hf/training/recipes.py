"""Training recipes: YAML files of argument values."""

from pathlib import Path
from typing import Any

import yaml

from ..data.configuration_files import nearest_names, read_yaml


# Raised when a field changes its meaning, so that an old recipe is refused instead of misread.
RECIPE_VERSION = 1
PATH_FIELDS = (
    *("model", "videos", "annotations", "classes", "base_classes", "novel_classes"),
    *("eval_videos", "eval_annotations"),
)


def read_recipe(path: str | Path, _below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """
    Reads a recipe as argument values. The values of the recipe that it `extends` (a file beside it) come first.

    A relative path in `PATH_FIELDS` is looked up from the working directory, then from the folder of the recipe.

    Args:
        path (`str` or `Path`): the YAML file.

    Returns:
        `dict`: the argument values by name; the names are not checked.

    Raises:
        ValueError: no such file, no YAML mapping, a recipe of another version, or a recipe that extends itself.
    """
    path = Path(path)
    if not path.exists():
        beside = sorted(file.stem for file in path.parent.glob("*.yaml"))
        hint = nearest_names(path.stem, beside)
        raise ValueError(f"there is no recipe {path}{hint}; known are: {', '.join(beside) or 'none'}")
    content = read_yaml(path)
    version, parent = content.pop("recipe_version", None), content.pop("extends", None)
    if version != RECIPE_VERSION:
        raise ValueError(
            f"recipe {path} says recipe_version: {version!s:.20}, but this version of vitaclip_hf reads "
            f"{RECIPE_VERSION}; compare it with the recipes in configuration/recipes/ and correct the number."
        )
    content |= {name: _located(content[name], path.parent) for name in PATH_FIELDS if name in content}
    if parent is None:
        return content
    extended = path.parent / f"{parent}.yaml"
    if extended in (path, *_below):
        raise ValueError(f"recipe {path} extends itself by way of {extended}")
    return read_recipe(extended, (*_below, path)) | content


def _located(value: Any, folder: Path) -> Any:
    """A path of a recipe as seen from the working directory. Values that are not a path there stay as they are."""
    if not isinstance(value, str) or Path(value).exists() or not (folder / value).exists():
        return value
    path = (folder / value).resolve()
    # A relative path where possible, so that the record of a run is valid in another clone.
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def write_recipe(path: str | Path, values: dict[str, Any]) -> None:
    """Writes argument values as a recipe that can be trained again."""
    lines = yaml.safe_dump({"recipe_version": RECIPE_VERSION} | values, sort_keys=False, allow_unicode=True)
    Path(path).write_text(lines, encoding="utf-8")
