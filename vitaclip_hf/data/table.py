"""The table of labelled videos that lists and folders are read into, and the selections that protocols make from it."""

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from .class_names import ClassIndex, checked_class_names
from .listings import SPLITS, is_url
from .seeds import draw_order
from .text_files import AnnotationError


@dataclass(frozen=True, slots=True)
class VideoSample:
    """
    A video of a table.

    Attributes:
        path (`str`): the path to open (the folder of the videos joined with the listed path), or an http(s) address.
        label (`int`, *optional*): number of its class; `None` if it has no label.
        split (`str`): `"train"`, `"validation"` or `"test"`.
        name (`str`): the listed path within the folder of the videos; the same on every machine.
    """

    path: str
    label: int | None
    split: str = "train"
    name: str = ""


@dataclass(frozen=True)
class AnnotationTable:
    """
    Videos with their labels and splits. Selections return new tables.

    Attributes:
        samples (`tuple[VideoSample, ...]`): the videos in the order of the list.
        class_names (`tuple[str, ...]`): class names as the annotation files spell them.
        source (`str`): what was read, for messages.
        files (`tuple[str, ...]`): the list files that were read, and the class file if there was one.
        notes (`tuple[str, ...]`): what was left out when the table was read, and names that are easily confused.
    """

    samples: tuple[VideoSample, ...]
    class_names: tuple[str, ...]
    source: str
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def sha256(self) -> str:
        """Hash of the class names and of each video's listed path, label and split; the same on every machine."""
        rows = [[sample.name or sample.path, sample.label, sample.split] for sample in self.samples]
        content = json.dumps([self.class_names, rows], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()

    def split(self, *names: str) -> "AnnotationTable":
        """
        Only the videos of some splits, with all classes.

        Args:
            names (`str`): `"train"`, `"validation"` or `"test"`.

        Raises:
            AnnotationError: an unknown split, or one without videos.
        """
        for name in names:
            check_split(name)
        samples = tuple(sample for sample in self.samples if sample.split in names)
        if not samples:
            splits = ", ".join(sorted({sample.split for sample in self.samples})) or "no split"
            raise AnnotationError(f"{self.source} has no videos for {' or '.join(names)}, only for {splits}.")
        return replace(self, samples=samples)

    def counts(self) -> list[int]:
        """Number of videos of each class."""
        count = Counter(sample.label for sample in self.samples)
        return [count[label] for label in range(len(self.class_names))]

    def with_classes(self, names: Sequence[str]) -> "AnnotationTable":
        """
        Only the videos of some classes; unlabelled videos are dropped.

        Args:
            names (`Sequence[str]`): class names in the order of the new labels.

        Raises:
            AnnotationError: a class that this table does not have.
        """
        names = checked_class_names(names, "the chosen classes")
        index = ClassIndex(self.class_names, self.source)
        label_of = {index.label(name, "The chosen classes"): new for new, name in enumerate(names)}
        samples = tuple(
            replace(sample, label=label_of[sample.label]) for sample in self.samples if sample.label in label_of
        )
        return replace(self, samples=samples, class_names=tuple(self.class_names[old] for old in label_of))

    def few_shot(self, shots: int, seed: int) -> "AnnotationTable":
        """
        A few training videos of every class; the other splits stay whole.

        Videos are ranked by a hash of seed and listed path. So the choice does not depend on the order of the list or
        on a library's version, and 2 shots are among the 4 of the same seed.

        Args:
            shots (`int`): training videos of each class.
            seed (`int`): another seed chooses other videos.

        Raises:
            AnnotationError: a class has fewer than `shots` training videos.
        """
        if shots < 1:
            raise AnnotationError(f"few_shot: `shots` must be at least 1, got {shots}.")
        by_label: dict[int, list[VideoSample]] = {label: [] for label in range(len(self.class_names))}
        for sample in self.samples:
            if sample.split == "train" and sample.label is not None:
                by_label[sample.label].append(sample)
        chosen: set[VideoSample] = set()
        for label, samples in by_label.items():
            if len(samples) < shots:
                raise AnnotationError(
                    f"few_shot: {shots} shots asked for, but class {self.class_names[label]!r} of {self.source} has "
                    f"{len(samples)} training videos; choose fewer shots or leave the class out."
                )
            chosen.update(sorted(samples, key=lambda sample: draw_order(seed, sample.name or sample.path))[:shots])
        samples_left = tuple(sample for sample in self.samples if sample.split != "train" or sample in chosen)
        return replace(self, samples=samples_left)

    def base_to_novel(
        self, base: Sequence[str] | None = None, novel: Sequence[str] | None = None
    ) -> tuple["AnnotationTable", "AnnotationTable"]:
        """
        The table of the base classes, and that of the novel classes. Each table has labels from 0.

        Published figures are of published classes: give them as `base` and `novel`. Without them, the first half of the
        classes is base (CoOp's rule). Of an odd number, the first half has one more.

        Args:
            base, novel (`Sequence[str]`, *optional*): names of the classes. If one of both is given, the other is all
                other classes.

        Raises:
            AnnotationError: fewer than two classes, or names that are unknown or in both parts.
        """
        if base is None and novel is None:
            base = self.class_names[: (len(self.class_names) + 1) // 2]
        index = ClassIndex(self.class_names, self.source)
        parts = [
            None if names is None else [index.label(name, f"{part} classes") for name in names]
            for part, names in (("base", base), ("novel", novel))
        ]
        chosen = [label for labels in parts for label in labels or ()]
        repeated = next((label for label, count in Counter(chosen).items() if count > 1), None)
        if repeated is not None:
            raise AnnotationError(f"{self.class_names[repeated]!r:.200} is named twice among base and novel classes.")
        rest = [label for label in range(len(self.class_names)) if label not in chosen]
        if not rest and None in parts:
            raise AnnotationError(f"All {len(chosen)} classes of {self.source} are in one part; none are left.")
        first, second = ([self.class_names[label] for label in (rest if part is None else part)] for part in parts)
        return self.with_classes(first), self.with_classes(second)

    def write(self, path: str | Path) -> None:
        """
        Writes the videos as a list that `read_annotations` reads: `path,label_name`, with their class names.

        A table of several splits gets the column `split`. The order of the classes and classes without videos are not
        in the list; give `read_annotations` the `classes` to keep them.

        Args:
            path (`str` or `Path`): the file to write.
        """
        header = ["path", "label_name"]  # so that `7`, `1.5` and `1 2` are read as names
        several = len({sample.split for sample in self.samples}) > 1
        with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(header + ["split"] * several)
            for sample in self.samples:
                label = "" if sample.label is None else self.class_names[sample.label]
                writer.writerow([sample.name or sample.path, label, *([sample.split] if several else ())])

    def require_videos(self) -> None:
        """Raises an `AnnotationError` if none of the videos exists: the wrong folder was given, most likely."""
        if not any(is_url(sample.path) or os.path.isfile(sample.path) for sample in self.samples):
            first = f", such as {self.samples[0].path}" if self.samples else ""
            raise AnnotationError(
                f"{self.source}: none of the {len(self)} videos exist{first}; check the videos' folder."
            )


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise AnnotationError(f"Unknown split {split!r:.100}; choose {', '.join(SPLITS)}.")
