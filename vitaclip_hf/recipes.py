"""Training recipes: YAML files of argument values, checked against the arguments that there are."""

import difflib
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from transformers import HfArgumentParser

from .version import __version__


# Raised when a field changes its meaning, so that an old recipe is refused instead of misread.
RECIPE_VERSION = 1
RECIPE_FILE = "recipe.yaml"  # beside what was trained by it
GENERATED = "motion_shapes"  # as `videos`
PATH_FIELDS = ("model", "videos", "annotations", "classes", "eval_videos", "eval_annotations")
RECORDED_PACKAGES = ("vitaclip_hf", "torch", "torchvision", "transformers", "accelerate", "datasets", "av", "numpy")


class RecipeError(ValueError):
    """A recipe or an argument that does not fit; the message says what to change."""


@dataclass
class ModelArguments:
    """What is trained."""

    model: str | None = field(default=None, metadata={"help": "CLIP or Vita-CLIP to start from: a folder or a Hub id."})
    revision: str | None = field(default=None, metadata={"help": "Its revision on the Hub."})
    fresh_prompts: bool = field(
        default=False, metadata={"help": "From a Vita-CLIP checkpoint, take only its CLIP; the prompts start anew."}
    )
    reset_classes: bool = field(
        default=False, metadata={"help": "Give a Vita-CLIP checkpoint the data's classes in place of its own."}
    )
    num_frames: int = field(default=8, metadata={"help": "Frames of a clip."})
    use_summary_prompt: bool = field(default=True, metadata={"help": "One prompt a frame that attends over frames."})
    use_local_prompts: bool = field(default=True, metadata={"help": "One learned prompt for each frame."})
    num_global_prompts: int = field(default=8, metadata={"help": "Learned prompts of the whole video."})
    train_cls_projection: bool = field(
        default=True, metadata={"help": "Train the projection of class tokens (paper), or not (released code)."}
    )
    num_context_tokens: int = field(default=16, metadata={"help": "Learned context tokens of a class prompt."})
    context_position: Literal["end", "front", "middle"] = field(
        default="end", metadata={"help": "Where the class name stands, seen from the context."}
    )
    class_specific_context: bool = field(default=True, metadata={"help": "One context a class, or one for all."})
    context_init: str | None = field(default=None, metadata={"help": "Words that contexts start from."})
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa, eager, flash_attention_2 …"})

    def __post_init__(self):
        for name, least in (("num_frames", 1), ("num_context_tokens", 1), ("num_global_prompts", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")


@dataclass
class DataArguments:
    """Which videos, and what is taken of each."""

    videos: str | None = field(
        default=None, metadata={"help": "Folder of videos; motion_shapes; or hub:ID of a datasets video dataset."}
    )
    annotations: str | None = field(
        default=None, metadata={"help": "List or official annotation files; without it, folders are the classes."}
    )
    classes: str | None = field(default=None, metadata={"help": "Class names: one a line, or id,name."})
    annotation_format: str = field(default="auto", metadata={"help": "Format of the annotations, if not recognised."})
    eval_videos: str | None = field(default=None, metadata={"help": "Folder of validation videos, if another one."})
    eval_annotations: str | None = field(default=None, metadata={"help": "List of validation videos, if another one."})
    split_camel_case: bool = field(default=False, metadata={"help": "ApplyEyeMakeup as Apply Eye Makeup."})
    class_subset: Literal["all", "base", "novel"] = field(
        default="all", metadata={"help": "All classes, the base ones (the first half) or the novel ones."}
    )
    shots: int | None = field(default=None, metadata={"help": "Training videos of each class, drawn by data_seed."})
    validation_share: float = field(
        default=0.0, metadata={"help": "Share of the training videos held back for validation where there are none."}
    )
    clips_per_class: int = field(default=64, metadata={"help": "Of motion_shapes: generated videos of each class."})
    label_column: str = field(default="label", metadata={"help": "Of a Hub dataset: the column with the class."})
    streaming: bool = field(default=False, metadata={"help": "Read a Hub dataset as a stream."})
    on_unreadable: Literal["error", "skip"] = field(
        default="error", metadata={"help": "error: stop at an unreadable video; skip: another one in its place."}
    )
    max_retries: int = field(default=10, metadata={"help": "Other videos tried in place of an unreadable one."})
    sampling: Literal["dense_random", "segment_random", "dense", "uniform"] = field(
        default="dense_random", metadata={"help": "Which frames a training clip takes."}
    )
    frame_stride: int = field(default=16, metadata={"help": "Distance of a dense clip's frames."})
    eval_sampling: Literal["dense", "uniform"] = field(
        default="dense", metadata={"help": "Which frames a validation clip takes."}
    )
    eval_views: int = field(default=1, metadata={"help": "Temporal views of a validation video."})
    eval_spatial_views: int = field(default=1, metadata={"help": "Spatial views of a validation video: 1 or 3."})


@dataclass
class AugmentationArguments:
    """What is done to training clips, alike to all frames of a clip."""

    rand_augment: str | None = field(default=None, metadata={"help": "timm's notation: rand-m7-n4-mstd0.5-inc1."})
    crop_scale: list[float] = field(default_factory=lambda: [0.08, 1.0], metadata={"help": "Area of random crops."})
    crop_ratio: list[float] = field(default_factory=lambda: [0.75, 4 / 3], metadata={"help": "Shape of random crops."})
    flip: float = field(default=0.0, metadata={"help": "Probability of a horizontal flip; 0 if left and right differ."})
    color_jitter: float = field(default=0.0, metadata={"help": "Strength of colour jitter."})
    erasing: float = field(default=0.0, metadata={"help": "Probability of random erasing."})
    mixup: float = field(default=0.0, metadata={"help": "Alpha of mixup."})
    cutmix: float = field(default=0.0, metadata={"help": "Alpha of cutmix."})
    mix_probability: float = field(default=1.0, metadata={"help": "Share of batches that are mixed."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Share of the label spread over all classes."})
    interpolation: Literal["bicubic", "bilinear"] = field(
        default="bicubic", metadata={"help": "How frames are resized."}
    )
    antialias: bool = field(default=True, metadata={"help": "Low-pass before downsizing; the released code does not."})
    shorter_side: int | None = field(
        default=None, metadata={"help": "Resize larger frames to this first: large videos augment much faster."}
    )


def nearest_names(name: str, known: Iterable[str]) -> str:
    """`"; did you mean X?"`, or nothing if no known name is near."""
    near = difflib.get_close_matches(str(name).lstrip("-"), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


class _RecipeLoader(yaml.SafeLoader):
    """Safe YAML in which a field may stand only once."""

    def construct_mapping(self, node, deep=False):
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


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
    content = _read_fields(path)
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


def read_recipe_beside(checkpoint: str | Path) -> dict[str, Any] | None:
    """What a training left beside its model, as it stands there, of whatever version; `None` if nothing.

    Raises:
        RecipeError: a file that cannot be read, or no YAML mapping.
    """
    path = Path(checkpoint) / RECIPE_FILE
    return _read_fields(path) if path.is_file() else None


def _read_fields(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _RecipeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"recipe {path} must hold `field: value` lines.")
    return content


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


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions | {"vitaclip_hf": __version__}
