"""Which videos a training uses: a folder, a list or a data set of the Hub; and their record."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..data.annotations import AnnotationTable, read_annotations
from ..data.class_names import read_class_names, spell_class_name
from ..data.configuration_files import class_file
from ..data.listings import SPLIT_WORDS, SPLITS
from ..data.seeds import draw_order
from ..data.video_sources import HubVideos
from .arguments import DataArguments


logger = logging.get_logger(__name__)

# Training videos, validation videos, and where the validation videos come from.
Parts = tuple[AnnotationTable, AnnotationTable | None, str | None]
HUB_PREFIX = "hub:"
SUBSETS = ("base", "novel")

FILES, HUB, STREAM = "a folder or list", "a data set of the Hub", "a stream"
# The sources that honour an argument. With another one it would change nothing, which is an error.
HONOURED_BY = {
    **dict.fromkeys(("annotations", "classes", "annotation_format", "eval_videos", "eval_annotations"), (FILES,)),
    **dict.fromkeys(("shots", "class_subset", "base_classes", "novel_classes"), (FILES, HUB)),
    "label_column": (HUB, STREAM),
}


@dataclass
class TrainingData:
    """
    The videos of a training, before anything is decoded.

    Args:
        train (`AnnotationTable`, `HubVideos` or a streamed data set): the training videos.
        validation (the same, *optional*): the validation videos.
        class_names (`list[str]`): as they are written in the class prompts, in the order of the labels.
        arguments (`DataArguments`): what was asked for.
        validation_from (`str`, *optional*): where the validation videos come from. The model must not be chosen by
            those from `"test"`.
        seed (`int`): of all draws and selections.
    """

    train: Any
    validation: Any
    class_names: list[str]
    arguments: DataArguments
    validation_from: str | None
    seed: int

    def record(self) -> dict[str, Any]:
        """The record of the data for `run.json`."""
        parts = {"train": self.train, "validation": self.validation}
        return {
            "classes": len(self.class_names),
            "validation_from": self.validation_from,
            "class_names_sha256": hashlib.sha256("\n".join(self.class_names).encode()).hexdigest(),
            **{name: _described(part) for name, part in parts.items() if part is not None},
        }


def _described(part: Any) -> dict[str, Any]:
    if isinstance(part, AnnotationTable):
        return {"source": part.source, "videos": len(part), "sha256": part.sha256}
    dataset = part.dataset if isinstance(part, HubVideos) else part
    described = {"source": "datasets", "fingerprint": getattr(dataset, "_fingerprint", None)}
    return described | ({"videos": len(part), "sha256": part.table.sha256} if isinstance(part, HubVideos) else {})


def read_training_data(arguments: DataArguments, seed: int) -> TrainingData:
    """
    Finds the videos and their classes.

    Args:
        arguments (`DataArguments`): what is asked for.
        seed (`int`): of all draws and selections.

    Returns:
        [`TrainingData`]

    Raises:
        ValueError: no videos are named, or an argument that these videos cannot use.
        AnnotationError: annotations that cannot be used, or no videos.
    """
    if arguments.streaming and not (arguments.videos or "").startswith(HUB_PREFIX):
        raise ValueError("`streaming` is for data sets of the Hub (`videos` hub:ID)")
    if arguments.videos is None or arguments.videos == HUB_PREFIX:
        raise ValueError("no videos to train on; pass `videos` with a folder or hub:ID")
    if not 0 <= arguments.validation_share < 1:
        raise ValueError(f"`validation_share` must be at least 0 and less than 1, got {arguments.validation_share}")
    _check_usable(arguments, arguments.videos)
    if arguments.videos.startswith(HUB_PREFIX):
        train, validation, validation_from, names = _read_hub(arguments, arguments.videos, seed)
    else:
        given = arguments.annotations, arguments.classes
        table = read_annotations(arguments.videos, *given, format=arguments.annotation_format)
        train, validation, validation_from = _selected(arguments, arguments.videos, table, seed)
        for part in (train, validation):
            if part is not None:
                part.require_videos()
        names = train.class_names
    if len(names) < 2:
        found = f"{arguments.annotations or arguments.videos}: only one class, {names[0]!r}"
        if arguments.annotations is not None:
            raise ValueError(f"`annotations` {found}")
        raise ValueError(f"`videos` {found}; if that folder holds the class folders, pass it as `videos`")
    if arguments.split_camel_case:
        names = [spell_class_name(name) for name in names]
    return TrainingData(train, validation, list(names), arguments, validation_from, seed)


def _check_usable(arguments: DataArguments, videos: str) -> None:
    kind = FILES
    if videos.startswith(HUB_PREFIX):
        kind = STREAM if arguments.streaming else HUB
    for item in fields(arguments):
        honoured_by, value = HONOURED_BY.get(item.name, (kind,)), getattr(arguments, item.name)
        if kind not in honoured_by and value != item.default:
            raise ValueError(
                f"`{item.name}` {value} does not work with `videos` {videos}: it is for {' or '.join(honoured_by)}; "
                f"leave it out, of the recipe too (default: {item.default})"
            )


def _selected(arguments: DataArguments, videos: str, table: AnnotationTable, seed: int) -> Parts:
    """
    The training and the validation videos of a table with all splits.

    The validation videos are the first of these that exist: those that the arguments name, the `validation` split, a
    share of the training videos if one is asked for, the `test` split, none.
    """
    train = _training_classes(arguments, table)
    train, validation, source = _with_validation(arguments, videos, table, train, seed)
    if arguments.shots is not None:
        train = train.few_shot(arguments.shots, seed)
    empty = [name for name, count in zip(train.class_names, train.counts(), strict=True) if not count]
    if empty:
        logger.warning(f"classes without training videos: {len(empty)} ({', '.join(empty[:10])})")
    return train, validation, source


def _training_classes(arguments: DataArguments, table: AnnotationTable) -> AnnotationTable:
    train, files = table.split("train"), [arguments.base_classes, arguments.novel_classes]
    if arguments.class_subset == "all":
        if any(files):
            raise ValueError("`base_classes` and `novel_classes` are for `class_subset` base or novel")
        return train
    if not any(files):
        logger.warning(
            f"OWN SPLIT: the {arguments.class_subset} classes are a half of the class list, not the published ones; "
            "give the published class files as `base_classes` and `novel_classes`"
        )
    parts = train.base_to_novel(*(read_class_names(class_file(file)) if file else None for file in files))
    return parts[SUBSETS.index(arguments.class_subset)]


def _with_validation(
    arguments: DataArguments, videos: str, table: AnnotationTable, train: AnnotationTable, seed: int
) -> Parts:
    if arguments.eval_annotations is not None or arguments.eval_videos is not None:
        folder, format = arguments.eval_videos or videos, arguments.annotation_format
        named = read_annotations(folder, arguments.eval_annotations, table.class_names, format=format)
        return train, named.with_classes(train.class_names), "given"
    chosen = table.with_classes(train.class_names)
    for split in ("validation", "test"):
        if split == "test" and arguments.validation_share:
            train, held_back = hold_back(train, arguments.validation_share, seed)
            return train, held_back if len(held_back) else None, "held back"
        if any(sample.split == split for sample in chosen.samples):
            return train, chosen.split(split), split
    return train, None, None


def hold_back(table: AnnotationTable, share: float, seed: int) -> tuple[AnnotationTable, AnnotationTable]:
    """
    Holds back some training videos of each class for validation. A class with one video keeps it.

    A hash of the seed and the listed path decides which ones; the order of the list does not matter.

    Args:
        table (`AnnotationTable`): the training videos.
        share (`float`): of each class's videos, between 0 and 1.
        seed (`int`): of the choice.

    Returns:
        `tuple[AnnotationTable, AnnotationTable]`: the training videos that are left, and the validation videos.
    """
    by_class: dict[int | None, list] = {}
    for sample in table.samples:
        by_class.setdefault(sample.label, []).append(sample)
    held = set()
    for samples in by_class.values():
        ranked = sorted(samples, key=lambda sample: draw_order(seed, sample.name))
        held.update(ranked[: min(max(1, round(share * len(samples))), len(samples) - 1)])  # at least one stays
    train = tuple(sample for sample in table.samples if sample not in held)
    validation = tuple(replace(sample, split="validation") for sample in table.samples if sample in held)
    return replace(table, samples=train), replace(table, samples=validation)


def _read_hub(arguments: DataArguments, videos: str, seed: int) -> tuple[Any, Any, str | None, Sequence[str]]:
    """A data set by its id on the Hub, or by a folder that the library `datasets` reads."""
    import datasets

    name = videos.removeprefix(HUB_PREFIX)
    splits: dict[str, Any] = dict(datasets.load_dataset(name, streaming=arguments.streaming))
    # `val` and other spellings count as `validation`, unless the data set has that split too.
    splits = {SPLIT_WORDS.get(split.lower(), split): part for split, part in splits.items()} | splits
    if "train" not in splits:
        raise ValueError(f"`videos` {videos}: no train split, only {', '.join(splits)}")
    if arguments.streaming:
        return _streams(arguments, videos, splits)
    options: dict[str, Any] = {"label_column": arguments.label_column, "source": videos}
    options |= {"root": name if Path(name).is_dir() else None}
    parts = {"train": HubVideos(splits["train"], split="train", **options)}
    class_names = parts["train"].class_names
    for split in SPLITS[1:]:
        if split in splits:
            parts[split] = HubVideos(splits[split], split=split, class_names=class_names, **options)
    samples = tuple(sample for part in parts.values() for sample in part.table.samples)
    train, validation, source = _selected(arguments, videos, replace(parts["train"].table, samples=samples), seed)
    if validation is None or source is None:
        return parts["train"].select(train), None, source, train.class_names
    held_in = parts["train" if source == "held back" else source]
    return parts["train"].select(train), held_in.select(validation), source, train.class_names


def _streams(
    arguments: DataArguments, videos: str, splits: dict[str, Any]
) -> tuple[Any, Any, str | None, Sequence[str]]:
    label = (splits["train"].features or {}).get(arguments.label_column)
    names = list(getattr(label, "names", None) or [])
    if not names:
        raise ValueError(f"`videos` {videos}: a stream needs a ClassLabel column with the class names")
    if arguments.validation_share and "validation" not in splits:
        raise ValueError(f"`validation_share`: nothing can be held back from a stream ({videos}); pass 0")
    split = next((split for split in ("validation", "test") if split in splits), None)
    return splits["train"], splits[split] if split else None, split, names
