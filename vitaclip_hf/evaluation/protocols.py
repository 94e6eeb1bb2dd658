"""Evaluation protocols as data: what is measured, on which lists, with which texts, frames and views.

A file of `configuration/protocols/` describes one data set. Its fields hold for all of its protocols; `tasks` lists the
protocols and what each of them changes. The task `zero-shot` of `hmdb51.yaml` is the protocol `hmdb51-zero-shot`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..data.class_names import AnnotationError, read_class_names
from ..data.configuration_files import configuration_folder, nearest_names, read_yaml
from ..data.text_files import OneLineError
from ..model.encoder import check_templates
from ..model.frame_sampling import ClipSpecification


PROTOCOLS_FOLDER = configuration_folder("protocols")
PARTS = ("base", "novel")
PART_FIELDS = ("base_classes", "novel_classes")
CHOICES = {
    "task": ("zero-shot", "supervised", "few-shot", "base-to-novel"),
    "text": ("zero-shot", "supervised"),
    "spelling": ("as-given", "camel"),
    "subset": ("train", "validation", "test"),
}


class EvaluationError(OneLineError):
    """An evaluation that cannot start or go on, or results that cannot be used; the message is one line."""


@dataclass(frozen=True)
class Protocol:
    """
    One evaluation: everything that its figures depend on, except the model and the videos.

    Args:
        name (`str`): `DATASET-TASK`.
        task (`str`): `"zero-shot"`, `"supervised"`, `"few-shot"` or `"base-to-novel"`.
        text (`str`): what the class embeddings are made of. `"zero-shot"`: the templates, through the plain text tower.
            `"supervised"`: the learned contexts of the checkpoint's own classes. The novel classes of base-to-novel
            have no contexts and are always zero-shot.
        lists (`tuple[str]`): paths of list files in the annotations folder. The first one that exists is read;
            `{split}` stands for the split. Without a match, the folder is read as a whole (the official files of UCF101
            and HMDB51). Without annotations, each folder of videos is a class.
        classes (`tuple[str]`): paths of files with the class names, found in the same way.
        base_classes, novel_classes (`tuple[str]`): the published class names of base-to-novel. In YAML, a list of
            names, or the name of a class file beside the YAML file. If one is empty, it is all other classes.
        splits (`tuple[str]`): what is evaluated. Figures are averaged over the splits (base-to-novel: harmonic mean).
        official_split (`int`, *optional*): number of the official split, if the split's name is not a number.
        subset (`str`, defaults to `"test"`): part of a list that has several: `"train"`, `"validation"` or `"test"`.
        num_frames, frame_stride, sampling (*optional*): of a clip, see [`ClipSpecification`]; by default the
            checkpoint's own.
        num_views, num_spatial_views (`int`): of a video; scores are averaged over them.
        templates (`tuple[str]`): sentences with `{}` for the class. Their embeddings are averaged and normalised again.
        spelling (`str`): `"camel"` splits CamelCase class names into words, `"as-given"` does not. Both replace
            underscores by spaces.
        expected_classes (`int`, *optional*), expected_videos (`dict[str, int]`): counts of the official lists, the
            latter by split. Other counts are evaluated, with a warning in the results.
        source (`str`): where the protocol comes from.
        published (`str`): figures of papers, which results and comparisons show beside their own.

    Raises:
        EvaluationError: an unusable value of a field.
    """

    name: str
    task: str
    text: str
    lists: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    base_classes: tuple[str, ...] = ()
    novel_classes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("test",)
    official_split: int | None = None
    subset: str = "test"
    num_frames: int | None = None
    frame_stride: int | None = None
    sampling: str | None = None
    num_views: int = 3
    num_spatial_views: int = 1
    templates: tuple[str, ...] = ("a video of {}.",)
    spelling: str = "as-given"
    expected_classes: int | None = None
    expected_videos: dict[str, int] = field(default_factory=dict)
    source: str = ""
    published: str = ""

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise self._error(f"`{name}` must be one of {', '.join(choices)}, got {getattr(self, name)!r}.")
        if self.num_views is None or self.num_spatial_views is None:
            raise self._error("`num_views` and `num_spatial_views` must be whole numbers.")
        try:
            sampling = self.clip_specification
            check_templates(self.templates)
        except ValueError as error:
            raise self._error(str(error)) from error
        if sampling.is_random:
            raise self._error(f"`sampling` {self.sampling!r} is random; it is for training, not for evaluation.")
        if (self.base_classes or self.novel_classes) and self.task != "base-to-novel":
            raise self._error(f"`base_classes` and `novel_classes` belong to base-to-novel, not to {self.task}.")
        unfit = [split for split in self.splits if not split or "/" in split or "\\" in split]
        if unfit or not self.splits or len(set(self.splits)) < len(self.splits):
            raise self._error(f"`splits` must be different names that files can have, got {list(self.splits)}.")
        if self.task == "base-to-novel" and not set(self.splits) <= set(PARTS):
            raise self._error(f"the `splits` of base-to-novel are base and novel, got {list(self.splits)}.")

    def _error(self, message: str) -> EvaluationError:
        return EvaluationError(f"{self.name}: {message}")

    def text_side(self, split: str) -> str:
        """`"zero-shot"` or `"supervised"`, for this split."""
        return "zero-shot" if self.task == "base-to-novel" and split == "novel" else self.text

    def resolved(self, specification: ClipSpecification) -> "Protocol":
        """The protocol with a checkpoint's frames, stride and sampling in place of those that it leaves open."""
        names = ("num_frames", "frame_stride", "sampling")
        changes = {name: getattr(specification, name) for name in names if getattr(self, name) is None}
        return replace(self, **changes) if changes else self

    @property
    def clip_specification(self) -> ClipSpecification:
        """How a video is read; what the protocol leaves open has the defaults."""
        values = {item.name: getattr(self, item.name) for item in fields(ClipSpecification)}
        return ClipSpecification(**{name: value for name, value in values.items() if value is not None})

    def overridden(self, changes: Mapping[str, Any]) -> "Protocol":
        """The protocol with other values for some fields. A split that is named after the subset is renamed with it.

        Raises:
            EvaluationError: an unknown field, or a split that the protocol does not have.
        """
        changes = {name: _typed(self.name, name, value) for name, value in changes.items()}
        protocol = self
        if "subset" in changes and self.splits == (self.subset,):  # figures are named after their subset
            protocol = replace(self, subset=changes["subset"], splits=(changes["subset"],))
        known = set(protocol.expected_videos) | set(protocol.splits)
        unknown = [split for split in changes.get("splits", ()) if split not in known]
        if unknown:
            raise self._error(f"no split {unknown[0]!r}; its `splits` are {', '.join(sorted(known))}.")
        return replace(protocol, **changes)

    def to_dict(self) -> dict:
        """What figures depend on, as results store it: base and novel classes if the protocol names them."""
        values = {name: value for name, value in asdict(self).items() if value or name not in PART_FIELDS}
        del values["published"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def load_protocol(name: str) -> Protocol:
    """
    Loads a protocol.

    Args:
        name (`str`): `DATASET-TASK`, or a file of your own, `FILE.yaml:TASK` (`FILE.yaml` if it has one task only).

    Raises:
        EvaluationError: no such protocol or file, an unknown field, or an unusable value of a field.
        AnnotationError: a file that cannot be read or is not YAML.
    """
    file, _, task = name.rpartition(":")
    if not file.endswith((".yaml", ".yml")):  # no task; a folder's name can hold a colon
        file, task = name, ""
    if not file.endswith((".yaml", ".yml")):
        files = sorted(PROTOCOLS_FOLDER.glob("*.yaml"))
        known = {name: protocol for path in files for name, protocol in _read(path).items()}
        if name not in known:
            raise EvaluationError(f"Unknown protocol {name!r}{nearest_names(name, known)} (known: {', '.join(known)}).")
        return known[name]
    protocols = _read(file)
    chosen = f"{Path(file).stem}-{task}" if task else next(iter(protocols)) if len(protocols) == 1 else ""
    if chosen not in protocols:
        raise EvaluationError(f"{file}: say which task, {file}:TASK; it has {', '.join(protocols)}.")
    return protocols[chosen]


def _read(file: Path | str) -> dict[str, Protocol]:
    """The protocols of one YAML file, by name."""
    content = read_yaml(file)
    tasks = content.pop("tasks", None)
    if not isinstance(tasks, dict) or not tasks:
        raise EvaluationError(f"{file}: needs `tasks:` with at least one of {', '.join(CHOICES['task'])}.")
    protocols = {}
    for task, changes in tasks.items():
        if not isinstance(changes, dict | None):
            raise EvaluationError(f"{file}: the task {task!r} needs fields (`num_views: 3`) or nothing.")
        values = {"text": "zero-shot" if task == "zero-shot" else "supervised"} | content | (changes or {})
        for part in PART_FIELDS:
            if isinstance(values.get(part), str):  # a class file beside this one
                try:
                    values[part] = read_class_names(Path(file).parent / values[part])
                except AnnotationError as error:
                    raise EvaluationError(f"{file}: `{part}` needs names or a class file ({error}).") from error
        typed = {key: _typed(str(file), key, value) for key, value in values.items()}
        name = f"{Path(file).stem}-{task}"
        protocols[name] = Protocol(name, str(task), **typed)
    return protocols


# The type of each field: a field of type `int | None` is an `int`.
_TYPES: dict[str, type] = {
    item.name: next(kind for kind in (dict, tuple, int, str) if kind.__name__ in str(item.type))
    for item in fields(Protocol)
    if item.name not in ("name", "task")
}
_OF_THE_DATA_SET = ("lists", "classes", *PART_FIELDS, "official_split", "source", "published")
# What a command line can change, with the types; the other fields belong to the data set.
OPTIONS = {
    name: kind for name, kind in _TYPES.items() if name not in _OF_THE_DATA_SET and not name.startswith("expected_")
}


def _typed(where: str, name: str, value: Any) -> Any:
    """A field's value in its type. YAML has lists for tuples, and reads split names such as `1` as numbers."""
    if name not in _TYPES:
        hint = nearest_names(name, _TYPES)
        raise EvaluationError(f"{where}: unknown field {name!r}{hint} (fields: {', '.join(_TYPES)}).")
    kind = _TYPES[name]
    if kind is tuple:
        return tuple(map(str, value)) if isinstance(value, (list, tuple)) else (str(value),)
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if kind is dict:
        fits = fits and all(isinstance(number, int) for number in value.values())
    if value is not None and not fits:
        needed = {int: "a whole number", str: "a text", dict: "a number for each split"}[kind]
        raise EvaluationError(f"{where}: `{name}` must be {needed}, got {value!r}.")
    return {str(key): number for key, number in (value or {}).items()} if kind is dict else value
