"""The package's own YAML files (recipes, protocols), and how YAML is read.

The files are found through `importlib.resources`, in a clone and in an installed wheel.
"""

import difflib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from .text_files import AnnotationError, read_bytes


RECIPE_FILE = "recipe.yaml"  # a training writes it beside its model
MAX_BYTES = 1 << 16  # of a YAML file; the largest of ours has 2 kB
MAX_DEPTH = 20  # of lists and mappings in YAML; a thousand takes PyYAML a minute


def configuration_folder(kind: str) -> Path:
    """
    The folder of one kind of the package's configuration files.

    Args:
        kind (`str`): `"recipes"`, `"protocols"` or `"accelerate"`.
    """
    return Path(str(resources.files("vitaclip_hf.configuration"))) / kind


def class_file(file: str | Path) -> Path:
    """A class file; if there is none of that name, the package's own one, such as `hmdb51_base.txt`."""
    own = configuration_folder("protocols") / "classes" / Path(file).name
    return own if Path(file).name == str(file) and not Path(file).exists() and own.is_file() else Path(file)


def nearest_names(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'X'?"`, or `""` if no known name is near."""
    near = difflib.get_close_matches(str(name).lstrip("-"), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


class _Loader(yaml.SafeLoader):
    """Safe YAML without repeated fields, tags and aliases, which let a small file expand to gigabytes."""

    def fetch_flow_collection_start(self, token_class):
        if self.flow_level >= MAX_DEPTH:
            raise yaml.YAMLError("it is nested too deeply")
        super().fetch_flow_collection_start(token_class)

    def compose_node(self, parent, index):
        event = self.peek_event()
        if isinstance(event, yaml.events.AliasEvent) or event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise yaml.composer.ComposerError(None, None, "aliases and tags are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        mapping = super().construct_mapping(node, deep)
        names = [key.value for key, _ in node.value]
        if len(mapping) < len(names):
            repeated = next((name for place, name in enumerate(names) if name in names[:place]), names[-1])  # 1 and 1.0
            raise yaml.constructor.ConstructorError(None, None, f"{repeated!r:.100} occurs twice", node.start_mark)
        return mapping


def read_yaml(path: str | Path) -> dict[str, Any]:
    """
    Reads a YAML file that holds one mapping.

    Args:
        path (`str` or `Path`): the file.

    Raises:
        AnnotationError: the file cannot be read, is larger than `MAX_BYTES`, or is not one mapping.
    """
    content = read_bytes(path, MAX_BYTES)
    try:
        values = yaml.load(content.decode("utf-8"), _Loader)
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # ValueError: not UTF-8, or a date such as 2020-13-01
        raise AnnotationError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(values, dict):
        raise AnnotationError(f"{path} must hold `field: value` lines.")
    return values
