"""Folders of videos: class folders as a list, and the search for listed videos."""

import os
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PureWindowsPath
from urllib.parse import quote

from .class_names import ClassIndex
from .listings import SPLIT_WORDS, ListedVideos, Listing, is_url, is_video_name
from .lists import ListFile, read_list
from .text_files import AnnotationError, column_name


METADATA_FILES = ("metadata.csv", "metadata.jsonl")  # of a Hugging Face video folder


# Folders as lists


def listed_folder(root: Path) -> ListedVideos:
    """
    Listings of a folder: those of its `metadata.csv` or `metadata.jsonl`, else one of each video in its class folders.

    The class folders may lie in split folders (`train`, `val`, …).
    """
    folders = _subfolders(root)
    splits = {folder: SPLIT_WORDS[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_WORDS}
    files = sorted(files_below(root), key=lambda name: name.split("/"))
    metadata = _metadata_of(root, splits)
    notes = metadata.notes
    if metadata.listings:
        if (left := sum(map(is_video_name, files)) - len(metadata.listings)) > 0:
            notes += (f"{root}: {left} videos are not in the list and are left out",)
        return ListedVideos(metadata.listings, notes=notes)
    has_splits = bool(splits) and (len(splits) == len(folders) or "train" in splits.values() and len(splits) > 1)
    listings, others = [], []
    class_folders = [folder for top in splits for folder in _subfolders(top)] if has_splits else folders
    for name in files:
        *above, _ = name.split("/")
        if above and has_splits and root / above[0] not in splits and is_video_name(name):
            raise AnnotationError(
                f"{root}: {above[0]} holds videos and lies beside split folders; move it into one of them or somewhere "
                "else."
            )
        if len(above) > has_splits and is_video_name(name) and os.path.isfile(root / name):
            split = splits[root / above[0]] if has_splits else None
            listings.append(Listing(name, above[has_splits], split, str(root / "/".join(above[: has_splits + 1]))))
        elif not above or not has_splits or root / above[0] in splits:
            others.append(name)
    if others:
        some = ", ".join(sorted(others)[:3]) + (", …" if len(others) > 3 else "")
        notes += (f"{root}: {len(others)} files beside the class folders or without video are left out: {some}",)
    if not listings:
        raise AnnotationError(
            f"{root}: no videos found; expected a folder of videos for each class (or such folders in train, val and "
            f"test). Otherwise give `annotations`. {' '.join(notes)}"
        )
    return ListedVideos(listings, tuple(sorted({folder.name for folder in class_folders})), notes=notes)


def _refuse(error: OSError) -> None:
    raise AnnotationError(f"The folder {error.filename} cannot be read: {error.strerror or error}.") from error


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def files_below(root: Path) -> Iterator[str]:
    """The files in a folder and its subfolders, as paths within it, sorted; what is hidden is left out."""
    visited = {os.path.realpath(root)}
    for place, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        real = {name: os.path.realpath(os.path.join(place, name)) for name in folders if not name.startswith(".")}
        folders[:] = sorted(name for name in real if real[name] not in visited)  # links can lead back
        visited.update(real.values())
        start = "" if place == str(root) else os.path.relpath(place, root) + "/"
        yield from (start + name for name in sorted(names) if not name.startswith("."))


def _metadata_of(root: Path, splits: dict[Path, str]) -> ListedVideos:
    """
    The list of a Hugging Face video folder, and notes on a file that cannot be used.

    `metadata.csv` lies in the folder, or in each split folder, and names the videos by `file_name`. Labels that it does
    not hold come from class folders.
    """
    paths = [place / name for place in (root, *splits) for name in METADATA_FILES if (place / name).is_file()]
    listings, notes, places = [], [], []
    for path in paths:
        file = ListFile(path)
        first = next(iter(file.json), None) if file.is_json else None
        columns = map(column_name, first if isinstance(first, dict) else file.header[1])
        is_list = any(name.endswith("filename") for name in columns)
        listed = read_list(file) if is_list else ListedVideos()
        if all(listing.label is None for listing in listed.listings):
            notes.append(f"{path} is not read: it has no column {'of labels' if is_list else '`file_name`'}")
            continue
        places.append(path.parent)
        notes += [*listed.notes, f"{root}: videos and labels are those of {path.relative_to(root)}"]
        start = "" if path.parent == root else f"{path.parent.name}/"
        for listing in listed.listings:
            name = start + listing.name
            split = listing.split or SPLIT_WORDS.get(name.replace("\\", "/").split("/")[0].lower())
            listings.append(listing._replace(name=name, split=split))
    if len(set(places)) < len(places) or root in places and len(places) > 1:
        raise AnnotationError(f"{root}: two metadata files list one folder; keep one, or give it as `annotations`.")
    return ListedVideos(listings, notes=tuple(notes))


# The search for listed videos


class VideoFolder:
    """
    Finds listed videos below a folder.

    All folders are searched once, when the first listed path does not exist.

    Args:
        root (`str`): the folder of the videos, or an http(s) address.
        classes ([`ClassIndex`]): the classes; a folder named after one holds only its videos.
    """

    def __init__(self, root: str, classes: ClassIndex):
        self.root = root
        self.classes = classes

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        """Paths relative to the root by folded file name, with and without extension."""
        paths: dict[str, list[str]] = {}
        for path in filter(is_video_name, files_below(Path(self.root))):
            name = os.path.basename(path)
            for key in {_folded(name), _folded(os.path.splitext(name)[0])}:
                paths.setdefault(key, []).append(path)
        return paths

    def locate(self, name: str, label: int | None, split: str, where: str) -> tuple[str, bool]:
        """
        Path of a listed video; if it is missing, the path where it should be. And whether it is there.

        A video of an address counts as there.

        Raises:
            AnnotationError: several files fit.
        """
        if is_url(name):
            return name, True
        if is_url(self.root):
            quoted = quote(name.replace("\\", "/"), errors="surrogateescape")  # `#` and `?` end an address's path
            return f"{self.root.rstrip('/')}/{quoted}", True
        path = os.path.join(self.root, name)
        if os.path.isfile(path):
            return path, True
        match = self._search(name, label, split, where)
        return (path, False) if match is None else (os.path.join(self.root, match), True)

    def _search(self, name: str, label: int | None, split: str, where: str) -> str | None:
        """The one file that fits a listed name, within the root."""
        plain = name.replace("\\", "/")
        files = self._files.get(_folded(plain.rpartition("/")[2]), [])
        if plain.startswith("/") or PureWindowsPath(name).is_absolute():  # a list from another machine
            ends = [file for file in files if _ends_in(_folded(plain), _folded(file))]
            deepest = max((file.count("/") for file in ends), default=0)
            fitting = [file for file in ends if file.count("/") == deepest]
        else:
            fitting = [file for file in files if self._fits(file, plain, label)]
        exact = [file for file in fitting if _ends_in(plain, file) or _ends_in(file, plain)]
        of_split = [file for file in fitting if split in map(SPLIT_WORDS.get, file.lower().split("/"))]
        for matches in (fitting, exact, of_split):  # Kinetics has a folder for each split
            if len(matches) == 1:
                return matches[0]
        if not fitting:
            return None
        raise AnnotationError(
            f"{where}: {name!r:.200} may be {fitting[0]} or {fitting[1]}; list the path within {self.root}."
        )

    def _fits(self, file: str, name: str, label: int | None) -> bool:
        """Whether the file lies in the listed folders, in their order, and not in another class's folder."""
        folders = file.split("/")[:-1]
        remaining = iter(map(_folded, folders))
        if not all(_folded(part) in remaining for part in name.split("/")[:-1] if part != "."):
            return False
        class_of_folder = self.classes.find(folders[-1]) if folders else None
        return class_of_folder is None or label in (None, class_of_folder)


def _ends_in(path: str, end: str) -> bool:
    """Whether a path ends in another one, or in that without its extension."""
    return f"/{path}".endswith((f"/{end}", f"/{os.path.splitext(end)[0]}"))


def _folded(text: str) -> str:
    """A name without regard to case and to how its accents are stored."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
