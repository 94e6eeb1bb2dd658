"""Listed videos with label and split, before they are looked for on the disk."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .text_files import AnnotationError


SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
VIDEO_EXTENSIONS = (
    *(".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".gif", ".flv"),
    *(".wmv", ".3gp", ".ogv", ".ts", ".mts", ".m2ts"),
)


class Listing(NamedTuple):
    """
    One listed video.

    Attributes:
        name (`str`): the listed path. For Kinetics and SSv2 it is the video's id, without extension.
        label (`str` or `int`, *optional*): class name or class number from 0; `None` if there is none.
        split (`str`, *optional*): one of `SPLITS`; `None` if the file does not say.
        file (`str`): the file that lists the video; for folders of videos, the folder.
        line (`int`, defaults to 0): number of the line or of the JSON entry, from 1.
    """

    name: str
    label: str | int | None
    split: str | None
    file: str
    line: int = 0

    @property
    def where(self) -> str:
        """File and line, for messages."""
        if not self.line:
            return self.file
        return f"{self.file}, entry {self.line}" if self.file.lower().endswith(".json") else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class ListedVideos:
    """
    The listings of one or several files.

    Attributes:
        listings (`list[Listing]`): the listed videos.
        class_names (`tuple[str, ...]`, *optional*): class names that come with the files.
        suggested_split (`str`, *optional*): the split that the file's name suggests.
        header_suspected (`bool`): whether the first listing looks like a header whose column names are not known, or
            the lines like a label before a path.
        notes (`tuple[str, ...]`): what was left out, and other things to know.
        class_file (`str`, *optional*): the file that `class_names` come from.
    """

    listings: list[Listing] = field(default_factory=list)
    class_names: tuple[str, ...] | None = None
    suggested_split: str | None = None
    header_suspected: bool = False
    notes: tuple[str, ...] = ()
    class_file: str | None = None


def split_of_name(path: Path) -> str | None:
    """The split in a file's or folder's name, such as `trainlist01` or `ucf101_val1`; `None` unless there is one."""
    words = re.findall(r"[a-z]+", path.stem.lower().replace("list", " "))
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else None


def split_of_word(word: str, where: str) -> str:
    split = SPLIT_WORDS.get(word.strip().lower())
    if split is None:
        raise AnnotationError(f"{where}: unknown split {word!r:.100}; expected {', '.join(SPLIT_WORDS)}.")
    return split


def is_video_name(name: str) -> bool:
    return name.lower().endswith(VIDEO_EXTENSIONS)


def is_url(path: str) -> bool:
    return path[:4].lower() == "http" and path.lower().startswith(("http://", "https://"))
