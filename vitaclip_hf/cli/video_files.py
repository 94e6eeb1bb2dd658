"""Files, folders, globs and URLs of the command line as a list of videos."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..data.listings import is_url, is_video_name


@dataclass(frozen=True)
class GivenVideo:
    """A video of the command line, or an argument that names none.

    Attributes:
        name (`str`): path or URL.
        error (`str`, *optional*): why it names no video.
    """

    name: str
    error: str | None = None


def find_videos(arguments: Iterable[str]) -> list[GivenVideo]:
    """
    The videos that arguments name, each once, in the order of the arguments.

    A file or URL is taken as it is. A folder gives its video files, in its subfolders too, sorted. A glob (`*`, `?`,
    `[…]`, `**`) gives what it matches, sorted.

    Args:
        arguments (`Iterable[str]`): files, folders, globs and URLs.

    Returns:
        `list[GivenVideo]`; an argument that names no video is in the list with its error.
    """
    found = {video.name: video for argument in arguments for video in _videos_of(argument)}
    return list(found.values())


def _videos_of(argument: str) -> Iterator[GivenVideo]:
    if is_url(argument):
        yield GivenVideo(argument)
    elif os.path.exists(argument):  # first, since a file's name can look like a glob
        yield from _videos_at(argument)
    elif glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))
        for match in matches:
            yield from _videos_at(match)
        if not matches:
            yield GivenVideo(argument, f"{argument}: no file matches")
    else:
        yield GivenVideo(argument, f"{argument}: no such file or folder")


def _videos_at(path: str) -> Iterator[GivenVideo]:
    if not os.path.isdir(path):
        yield GivenVideo(path)
        return
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if is_video_name(name)]
    yield from map(GivenVideo, sorted(files))
    if not files:
        yield GivenVideo(path, f"{path}: there is no video file in this folder")
