"""What a command line names: videos, labels, and files to write."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..data.listings import is_url, is_video_name


PICTURES = (".png", ".pdf", ".svg", ".jpg")


def find_videos(arguments: Iterable[str]) -> dict[str, str | None]:
    """
    The videos that arguments name, each once, in the order of the arguments.

    A file or URL is taken as it is. A folder gives its video files, in its subfolders too, sorted; hidden ones are left
    out. A glob (`*`, `?`, `[…]`, `**`) gives what it matches, sorted.

    Args:
        arguments (`Iterable[str]`): files, folders, globs and URLs.

    Returns:
        `dict`: paths and URLs. The value is `None`, or for an argument without a video the reason.

    Raises:
        ValueError: no argument names a video.
    """
    videos = {name: error for argument in arguments for name, error in _videos_of(argument)}
    errors = [error for error in videos.values() if error]
    if len(errors) == len(videos):
        more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise ValueError(f"{errors[0]}{more}.")
    return videos


def _videos_of(argument: str) -> Iterator[tuple[str, str | None]]:
    if is_url(argument) or argument.lower().startswith("file://"):
        yield argument, None
    elif os.path.exists(argument):  # first, since a file's name can look like a glob
        yield from _videos_at(argument)
    elif matches := sorted(glob.glob(argument, recursive=True)):
        for match in matches:
            yield from _videos_at(match)
    else:
        missing = "no file matches" if glob.has_magic(argument) else "no such file or folder"
        yield argument, f"{argument}: {missing}"


def _videos_at(path: str) -> Iterator[tuple[str, str | None]]:
    from ..data.video_folders import files_below

    if not os.path.isdir(path):
        yield path, None
        return
    files = sorted(os.path.join(path, name) for name in files_below(Path(path)) if is_video_name(name))
    yield from ((file, None) for file in files)
    if not files:
        yield path, f"{path}: there is no video file in this folder"


def read_labels(labels: list[str] | None, file: Path | None, template: list[str] | None = None) -> Any:
    """
    The labels of both options.

    Args:
        labels (`list[str]`, *optional*): separated by commas.
        file (`Path`, *optional*): labels, one a line, a CSV file of classes, or a JSON file with the texts of each.
        template (`list[str]`, *optional*): what the labels will be put into.

    Returns:
        `list[str]`, `dict[str, list[str]]` of a JSON file, or `None` without options.

    Raises:
        ValueError: no label, a template without labels, or a file that is not read as labels.
    """
    from ..data.class_descriptions import read_class_descriptions
    from ..data.class_names import read_class_names, read_text

    if labels is None and file is None:
        if template:
            raise ValueError("`template` is for given labels; the classes of a checkpoint need none.")
        return None
    if file is not None and file.suffix.lower() == ".json":
        if labels is not None:
            raise ValueError("`labels` and a JSON file of `labels_file` exclude each other.")
        texts = read_class_descriptions(file)
        if all(name.isdecimal() for name in texts):
            raise ValueError(f"{file}: names no labels, only numbers; write the labels in their place.")
        return texts
    names = [label for part in labels or () for label in part.split(",")]
    if file is not None:
        names += read_class_names(file) if file.suffix.lower() in (".csv", ".tsv") else read_text(file).splitlines()
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise ValueError("`labels` and `labels_file` hold no label.")
    return names


def check_ending(argument: str, path: Path, *others: str) -> None:
    """
    Checks that a file can be written, before any work: a picture, for which matplotlib is needed, or another format.

    Raises:
        ValueError: the path ends in none of the pictures' endings and the others, or its folder is not there.
        ModuleNotFoundError: matplotlib is missing.
    """
    ending = path.suffix.lower()
    if ending in PICTURES:
        import matplotlib  # noqa: F401
    elif ending not in others:
        raise ValueError(f"`{argument}` {path}: the name must end in {', '.join((*others, *PICTURES))}.")
    if not path.parent.is_dir():
        raise ValueError(f"`{argument}` {path}: there is no folder {path.parent}.")
