"""Evaluation protocols as data: what is measured, on which lists, with which texts, frames and views.

A file of `configuration/protocols/` describes one data set. Its fields hold for all of its protocols; `tasks` lists the
protocols and what each of them changes. The task `zero-shot` of `hmdb51.yaml` is the protocol `hmdb51-zero-shot`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..data.class_names import AnnotationError, read_class_names
from ..data.configuration_files import ConfigurationFileError, configuration_folder, nearest_names, read_yaml
from ..data.text_files import one_line
from ..model.frame_sampling import SAMPLINGS, ClipSpecification


PROTOCOLS_FOLDER = configuration_folder("protocols")
TASKS = ("zero-shot", "supervised", "few-shot", "base-to-novel")
TEXT_SIDES = ("zero-shot", "supervised")
SPELLINGS = ("as-given", "camel")
PART_FIELDS = ("base_classes", "novel_classes")


class ProtocolError(ValueError):
    """A protocol that does not exist or cannot be used; the message is one line."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


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
        lists (`tuple[str]`): names of list files. The first one that is in the annotations folder is read; `{split}`
            stands for the split. Without a match, the folder is read as a whole (the official files of UCF101 and
            HMDB51). Without annotations, each folder of videos is a class.
        classes (`tuple[str]`): names of files with the class names, found in the same way.
        base_classes, novel_classes (`tuple[str]`): the published class names of base-to-novel. In YAML, a list of
            names, or the name of a class file beside the YAML file. If one is empty, it is all other classes.
        splits (`tuple[str]`): what is evaluated. Figures are averaged over the splits (base-to-novel: harmonic mean).
        official_split (`int`, *optional*): number of the official split, if the split's name is not a number.
        subset (`str`, defaults to `"test"`): part of a list that has several: `"train"`, `"validation"` or `"test"`.
        frames, stride, sampling (*optional*): of a clip, see [`sample_clips`]; by default the checkpoint's own.
        views, spatial_views (`int`): of a video; softmax scores are averaged over them.
        templates (`tuple[str]`): sentences with `{}` for the class. Their embeddings are averaged and normalised again.
        spelling (`str`): `"camel"` splits CamelCase class names into words, `"as-given"` does not. Both replace
            underscores by spaces.
        shots (`int`, *optional*), train_lists (`tuple[str]`): training videos of each class, and their lists. They are
            for training; an evaluation only records them.
        expected_classes (`int`, *optional*), expected_videos (`dict[str, int]`): counts of the official lists, the
            latter by split. Other counts are evaluated, with a warning in the results.
        source (`str`): where the protocol comes from.

    Raises:
        ProtocolError: a value that a field cannot have.
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
    frames: int | None = None
    stride: int | None = None
    sampling: str | None = None
    views: int = 3
    spatial_views: int = 1
    templates: tuple[str, ...] = ("a video of {}.",)
    spelling: str = "as-given"
    shots: int | None = None
    train_lists: tuple[str, ...] = ()
    expected_classes: int | None = None
    expected_videos: dict[str, int] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self):
        self._check_choices()
        for name in ("frames", "stride", "views", "spatial_views", "shots"):
            value = getattr(self, name)
            required = name in ("views", "spatial_views")
            if (value is not None or required) and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ProtocolError(f"{self.name}: `{name}` must be a whole number of at least 1, got {value!r}.")
        if self.shots is not None and self.task not in ("few-shot", "base-to-novel"):
            raise ProtocolError(f"{self.name}: `shots` belongs to few-shot and base-to-novel, not to {self.task}.")
        if self.spatial_views not in (1, 3):
            raise ProtocolError(f"{self.name}: `spatial_views` must be 1 (centre) or 3, got {self.spatial_views}.")
        if (self.base_classes or self.novel_classes) and self.task != "base-to-novel":
            raise ProtocolError(f"{self.name}: base and novel classes belong to base-to-novel, not to {self.task}.")
        wrong = [template for template in self.templates if "{}" not in template]
        if wrong or not self.templates:
            raise ProtocolError(f"{self.name}: `templates` need {{}} where the class goes, got {wrong}.")
        self._check_splits()

    def _check_splits(self) -> None:
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise ProtocolError(f"{self.name}: `splits` must be one or more different names, got {list(self.splits)}.")
        if self.task == "base-to-novel" and not set(self.splits) <= {"base", "novel"}:
            raise ProtocolError(
                f"{self.name}: the splits of base-to-novel are base and novel, got {list(self.splits)}."
            )
        unfit = [split for split in self.splits if not split or "/" in split or "\\" in split]
        if unfit:
            raise ProtocolError(f"{self.name}: {unfit[0]!r} cannot name a split: result files are named after it.")

    def _check_choices(self) -> None:
        choices = {
            "task": TASKS,
            "text": TEXT_SIDES,
            "spelling": SPELLINGS,
            "sampling": (None, "uniform", "dense"),
            "subset": ("train", "validation", "test"),
        }
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                if name == "sampling" and value in SAMPLINGS:
                    raise ProtocolError(
                        f"{self.name}: `sampling` {value!r} is random; it is for training, not for evaluation."
                    )
                listed = ", ".join(str(choice) for choice in known if choice)
                raise ProtocolError(f"{self.name}: `{name}` must be one of {listed}, got {value!r}.")

    def text_side(self, split: str) -> str:
        """`"zero-shot"` or `"supervised"`, for this split."""
        return "zero-shot" if self.task == "base-to-novel" and split == "novel" else self.text

    def split_number(self, split: str) -> int | None:
        """Number of the official split that this one reads."""
        return int(split) if split.isdecimal() else self.official_split

    def resolved(self, specification: ClipSpecification) -> "Protocol":
        """The protocol with a checkpoint's frames, stride and sampling in place of those that it leaves open."""
        return replace(
            self,
            frames=self.frames or specification.num_frames,
            stride=self.stride or specification.frame_stride,
            sampling=self.sampling or specification.sampling,
        )

    @property
    def clip_specification(self) -> ClipSpecification:
        """How a video is read.

        Raises:
            ProtocolError: frames, stride or sampling are left open; see [`Protocol.resolved`].
        """
        if self.frames is None or self.stride is None or self.sampling is None:
            raise ProtocolError(f"{self.name}: leaves `frames`, `stride` or `sampling` open; call `resolved` first.")
        return ClipSpecification(self.frames, self.sampling, self.stride, self.views, self.spatial_views)

    def overridden(self, changes: Mapping[str, Any]) -> "Protocol":
        """The protocol with other values for some fields. A split that is named after the subset is renamed with it.

        Raises:
            ProtocolError: a field that does not exist, or a split that the protocol does not have.
        """
        changes = {name: _typed(self.name, name, value) for name, value in changes.items()}
        if "subset" in changes and self.splits == (self.subset,):  # figures are named after their subset
            subset = changes.pop("subset")
            return replace(self, subset=subset, splits=(subset,)).overridden(changes)
        known = set(self.expected_videos) | set(self.splits)
        unknown = [split for split in changes.get("splits", ()) if split not in known]
        if unknown:
            raise ProtocolError(f"{self.name}: no split {unknown[0]!r}; its splits are {', '.join(sorted(known))}.")
        return replace(self, **changes)

    def to_dict(self) -> dict:
        """Plain data, as results store it. Base and novel classes are there if the protocol names them."""
        values = {name: value for name, value in asdict(self).items() if value or name not in PART_FIELDS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def load_protocol(name: str, folder: Path | str = PROTOCOLS_FOLDER) -> Protocol:
    """
    Loads a protocol.

    Args:
        name (`str`): `DATASET-TASK`, or a file of your own, `FILE.yaml:TASK` (`FILE.yaml` if it has one task only).
        folder (`Path` or `str`, *optional*): where protocols are looked for by name; by default the package's own.

    Raises:
        ProtocolError: no such protocol or file, a field that does not exist, or a value that a field cannot have.
    """
    file, _, task = name.partition(":")
    if file.endswith((".yaml", ".yml")):
        found = read_protocols(file)
        chosen = f"{Path(file).stem}-{task}" if task else next(iter(found)) if len(found) == 1 else ""
        if chosen not in found:
            raise ProtocolError(f"{file}: say which task, {file}:TASK; it has {', '.join(found)}.")
        return found[chosen]
    known = all_protocols(folder)
    if name not in known:
        raise ProtocolError(f"Unknown protocol {name!r}{nearest_names(name, known)} (known: {', '.join(known)}).")
    return known[name]


def all_protocols(folder: Path | str = PROTOCOLS_FOLDER) -> dict[str, Protocol]:
    """The protocols of all YAML files of a folder, by name.

    Raises:
        ProtocolError: a folder without YAML files, or a file that cannot be used.
    """
    files = sorted(Path(folder).glob("*.yaml"))
    if not files:
        raise ProtocolError(f"{folder}: no protocols (*.yaml) here; pass a file of your own, FILE.yaml:TASK.")
    return {name: protocol for file in files for name, protocol in read_protocols(file).items()}


def read_protocols(file: Path | str) -> dict[str, Protocol]:
    """The protocols of one YAML file, by name.

    Raises:
        ProtocolError: a file that cannot be read, or a value that a field cannot have.
    """
    try:
        content = read_yaml(file)
    except ConfigurationFileError as error:
        raise ProtocolError(str(error)) from error
    tasks = content.pop("tasks", None)
    if not isinstance(tasks, dict) or not tasks:
        raise ProtocolError(f"{file}: needs `tasks:` with at least one of {', '.join(TASKS)}.")
    protocols = {}
    for task, changes in tasks.items():
        name = f"{Path(file).stem}-{task}"
        if not isinstance(changes, dict | None):
            raise ProtocolError(f"{file}: the task {task!r} needs fields (`views: 3`) or nothing, got {changes!r}.")
        decided = sorted({"name", "task"} & {**content, **(changes or {})}.keys())
        if decided:
            raise ProtocolError(
                f"{file}: `{decided[0]}` is not a field: the file's name and `tasks:` give it. Leave it out."
            )
        values = {"task": task, "text": _usual_text(task)} | content | (changes or {})
        values |= {part: _class_names_beside(file, part, values[part]) for part in PART_FIELDS if part in values}
        protocols[name] = Protocol(name=name, **{key: _typed(str(file), key, value) for key, value in values.items()})
    return protocols


def _class_names_beside(file: Path | str, field_name: str, value: Any) -> Any:
    """The names in a class file beside a protocol's file; a list of names as it is."""
    if not isinstance(value, str):
        return value
    try:
        return read_class_names(Path(file).parent / value)
    except AnnotationError as error:
        raise ProtocolError(f"{file}: `{field_name}` needs a list of names or a class file ({error}).") from error


def _usual_text(task: str) -> str:
    return "zero-shot" if task == "zero-shot" else "supervised"


# The type of each field: a field of type `int | None` is an `int`.
_TYPES: dict[str, type] = {
    item.name: next(kind for kind in (dict, tuple, int, str) if kind.__name__ in str(item.type))
    for item in fields(Protocol)
}
_OF_THE_DATA_SET = (
    "lists",
    "classes",
    *PART_FIELDS,
    "official_split",
    "train_lists",
    "expected_classes",
    "expected_videos",
    "source",
)
# What a command line can change, with the types; the other fields belong to the data set.
OPTIONS = {name: kind for name, kind in _TYPES.items() if name not in ("name", "task", *_OF_THE_DATA_SET)}


def _typed(where: str, name: str, value: Any) -> Any:
    """A field's value in its type. YAML has lists for tuples, and reads split names such as `1` as numbers."""
    if name not in _TYPES or name == "name":
        known = [known for known in _TYPES if known != "name"]
        hint = nearest_names(name, known)
        raise ProtocolError(f"{where}: unknown field {name!r}{hint} (fields: {', '.join(known)}).")
    kind = _TYPES[name]
    if kind is tuple:
        return tuple(map(str, value)) if isinstance(value, (list, tuple)) else (str(value),)
    if kind is dict:
        numbers = value.values() if isinstance(value, Mapping) else [None]
        if not all(isinstance(number, int) for number in numbers):
            raise ProtocolError(f"{where}: `{name}` must give a number for each split, got {value!r}.")
        return {str(key): number for key, number in value.items()}
    if kind is int and value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ProtocolError(f"{where}: `{name}` must be a whole number, got {value!r}.")
    if kind is str and value is not None and not isinstance(value, str):
        raise ProtocolError(f"{where}: `{name}` must be a text, got {value!r}.")
    return value


__all__ = ["Protocol", "ProtocolError", "all_protocols", "load_protocol", "read_protocols"]
