"""The package's own YAML files (recipes, protocols), and how YAML is read.

The files are found through `importlib.resources`, in a clone and in an installed wheel.
"""

import difflib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml


RECIPE_FILE = "recipe.yaml"  # a training writes it beside its model
MAX_BYTES = 1 << 20  # of a YAML file; the largest of ours has 2 kB


class ConfigurationFileError(ValueError):
    """A YAML file that cannot be read; the message names it and says why."""


def configuration_folder(kind: str) -> Path:
    """
    The folder of one kind of the package's configuration files.

    Args:
        kind (`str`): `"models"`, `"recipes"`, `"protocols"` or `"accelerate"`.
    """
    return Path(str(resources.files("vitaclip_hf.configuration"))) / kind


def nearest_names(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'X'?"`, or `""` if no known name is near."""
    near = difflib.get_close_matches(str(name).lstrip("-"), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


class _Loader(yaml.SafeLoader):
    """Safe YAML without repeated fields and without aliases, which a small file can expand to gigabytes."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, f"the alias *{event.anchor} is not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r:.100} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """
    Reads a YAML file that holds one mapping.

    Args:
        path (`str` or `Path`): the file.

    Raises:
        ConfigurationFileError: the file cannot be read, is larger than a megabyte or is not one mapping.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigurationFileError(
                f"{path} is larger than {MAX_BYTES:,} bytes, too large for a configuration file."
            )
        values = yaml.load(content.decode("utf-8"), _Loader)
    except OSError as error:
        raise ConfigurationFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigurationFileError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(values, dict):
        raise ConfigurationFileError(f"{path} must hold `field: value` lines.")
    return values


def read_recipe_beside(checkpoint: str | Path) -> dict[str, Any] | None:
    """
    The recipe that a training wrote beside its model; `None` if there is none.

    Args:
        checkpoint (`str` or `Path`): the folder of the model.

    Raises:
        ConfigurationFileError: the file cannot be read.
    """
    path = Path(checkpoint) / RECIPE_FILE
    return read_yaml(path) if path.is_file() else None
