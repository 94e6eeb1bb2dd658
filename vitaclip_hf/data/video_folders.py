"""Folders of videos: class folders as a list, and the search for listed videos."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from .class_names import ClassIndex
from .listings import SPLIT_WORDS, ListedVideos, Listing, is_url, is_video_name
from .text_files import AnnotationError, parse_json, read_text, split_lines
from .video_lists import header_of, read_list


METADATA_FILES = ("metadata.csv", "metadata.jsonl")  # of a Hugging Face video folder


# Folders as lists


def listed_folder(root: Path) -> ListedVideos:
    """
    Listings of a folder: those of its `metadata.csv` or `metadata.jsonl`, else one of each video in its class folders.

    The class folders may lie in split folders (`train`, `val`, …).
    """
    folders = _subfolders(root)
    splits = {folder: SPLIT_WORDS[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_WORDS}
    listed, notes = _metadata_of(root, splits)
    if listed is not None:
        return listed
    found = set(splits.values())
    outside: list[Path] = []
    if folders and (len(splits) == len(folders) or "train" in found and len(found) > 1):
        _check_beside_splits(root, [folder for folder in folders if folder not in splits])
        class_folders: list[tuple[Path, str | None]] = [
            (folder, split) for top, split in splits.items() for folder in _subfolders(top)
        ]
        outside = [root, *splits]
    else:
        class_folders = [(folder, None) for folder in folders]
        outside = [root]
    left_out = _LeftOut(root)
    listings = []
    for folder, split in class_folders:
        inside = sorted(left_out.videos_below(folder), key=lambda path: path.split(os.sep))
        start = folder.relative_to(root).as_posix()
        listings += [Listing(f"{start}/{name}", folder.name, split, str(folder)) for name in inside]
    for folder in outside:
        left_out.count_beside(folder)
    if not listings:
        said = "".join(f" {note}." for note in (*notes, *left_out.notes()))
        raise AnnotationError(
            f"{root}: no videos found; expected a folder of videos for each class (or such folders in train, val and "
            f"test). Otherwise give `annotations`.{said}"
        )
    names = tuple(sorted({folder.name for folder, _ in class_folders}))
    return ListedVideos(listings, names, notes=(*notes, *left_out.notes()))


class _LeftOut:
    """Files of a folder that are not taken as videos, counted."""

    def __init__(self, root: Path):
        self.root = root
        self.endings: Counter[str] = Counter()
        self.no_files: list[str] = []
        self.beside: list[str] = []

    def videos_below(self, folder: Path) -> Iterator[str]:
        """The videos in a folder and its subfolders, as paths within it. What is hidden is left out uncounted."""
        for place, folders, names in os.walk(folder, onerror=_refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            start = os.path.relpath(place, folder)
            for name in names:
                if name.startswith("."):
                    continue
                if not is_video_name(name):
                    self.endings[os.path.splitext(name)[1].lower() or "no extension"] += 1
                elif os.path.isfile(os.path.join(place, name)):
                    yield name if start == "." else f"{start}/{name}"
                else:
                    self.no_files.append(os.path.join(place, name))

    def count_beside(self, folder: Path) -> None:
        """Counts the files that lie directly in a folder, beside its class folders."""
        for entry in _entries(folder):
            if not entry.name.startswith(".") and not entry.is_dir():
                if is_video_name(entry.name):
                    self.beside.append(entry.path)
                else:
                    self.endings[os.path.splitext(entry.name)[1].lower() or "no extension"] += 1

    def notes(self) -> Iterator[str]:
        if self.beside:
            yield (
                f"{self.root}: {len(self.beside)} videos beside the class folders are left out, such as "
                f"{min(self.beside)}"
            )
        if self.endings:
            kinds = ", ".join(f"{ending} {count}" for ending, count in self.endings.most_common(8))
            more = f" and {len(self.endings) - 8} more kinds" if len(self.endings) > 8 else ""
            total = sum(self.endings.values())
            yield f"{self.root}: {total} files with other extensions are left out ({kinds:.300}{more})"
        if self.no_files:
            yield (
                f"{self.root}: {len(self.no_files)} entries with a video's name are no files (a broken link, a pipe) "
                f"and are left out, such as {min(self.no_files)}"
            )


def _refuse(error: OSError) -> None:
    raise AnnotationError(f"Cannot read the folder {error.filename}: {error.strerror or error}.") from error


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise AnnotationError(f"Cannot read the folder {folder}: {error.strerror or error}.") from error


def _subfolders(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith("."))


def _check_beside_splits(root: Path, others: list[Path]) -> None:
    """Folders beside `train` and `val` must not hold videos: their split is unknown."""
    for folder in others:
        if any(is_video_name(name) for _, _, names in os.walk(folder, onerror=_refuse) for name in names):
            raise AnnotationError(
                f"{root}: {folder.name} holds videos and lies beside split folders; move it into one of them or "
                "somewhere else."
            )


def _metadata_of(root: Path, splits: dict[Path, str]) -> tuple[ListedVideos | None, list[str]]:
    """
    The list of a Hugging Face video folder, and notes if there is one that cannot be used.

    `metadata.csv` lies in the folder, or in each split folder, and names the videos by `file_name`. Labels that it does
    not hold come from class folders.
    """
    candidates = [place / name for place in (root, *splits) for name in METADATA_FILES if (place / name).is_file()]
    files = [file for file in candidates if _names_videos(file)]
    notes = [f"{file} is not read: it has no column `file_name`" for file in candidates if file not in files]
    places = [file.parent for file in files]
    if len(set(places)) < len(places) or root in places and len(places) > 1:
        shown = " and ".join(str(file.relative_to(root)) for file in files[:2])
        raise AnnotationError(f"{root}: {shown} list the same folder; keep one, or give it as `annotations`.")
    listings: list[Listing] = []
    for file in files:
        listed = read_list(file)
        if all(listing.label is None for listing in listed.listings):
            notes.append(f"{file} is not read: it has no labels")
            continue
        notes += listed.notes
        start = "" if file.parent == root else f"{file.parent.name}/"
        for listing in listed.listings:
            first = PurePosixPath(start + listing.name.replace("\\", "/")).parts[0].lower()
            split = listing.split or SPLIT_WORDS.get(first)
            listings.append(listing._replace(name=start + listing.name, split=split))
    if not listings:
        return None, notes
    left_out = _LeftOut(root)
    there = sum(1 for _ in left_out.videos_below(root))
    read = ", ".join(os.path.relpath(file, root) for file in dict.fromkeys(listing.file for listing in listings))
    notes.append(f"{root}: videos and labels are those of {read}")
    if there > len(listings):
        notes.append(f"{root}: {there - len(listings)} videos are not in the list and are left out")
    return ListedVideos(listings, notes=tuple(notes)), notes


def _names_videos(metadata: Path) -> bool:
    """Whether a metadata file is that of a Hugging Face video folder: it has a column `file_name`."""
    line = next((line for line in split_lines(read_text(metadata, "surrogateescape"), metadata) if line.strip()), "")
    if metadata.suffix == ".jsonl":
        entry = parse_json(line or "null", f"{metadata}:1")
        names = list(entry) if isinstance(entry, dict) else []
    else:
        header = header_of(line, str(metadata))
        names = header[1] if header else []
    return any(name.strip().lower().endswith("file_name") for name in names)


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
        self.start = os.path.join(root, "")
        self.is_normal = self.start == os.path.join(os.path.normpath(root), "")
        self.is_address = is_url(root)

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        """Paths relative to the root by folded file name, and by folded file name without extension."""
        found: dict[str, list[str]] = {}
        visited: set[tuple[int, int]] = set()
        _is_new(self.root, visited)
        for place, folders, files in os.walk(self.root, followlinks=True, onerror=_refuse):
            folders[:] = sorted(name for name in folders if _is_new(os.path.join(place, name), visited))
            for name in sorted(filter(is_video_name, files)):
                path = os.path.relpath(os.path.join(place, name), self.root)
                for key in {_folded(name), _folded(os.path.splitext(name)[0])}:
                    found.setdefault(key, []).append(path)
        return found

    def locate(self, name: str, label: int | None, split: str, place: Listing) -> tuple[str, bool]:
        """
        Path of a listed video; if it is missing, the path where it should be. And whether it is there.

        A video of an address counts as there.

        Raises:
            AnnotationError: several files fit.
        """
        if is_url(name):
            return name, True
        if self.is_address:
            return f"{self.root.rstrip('/')}/{name}", True
        path = name if name.startswith("/") else self.start + name
        if os.path.isfile(path):
            return path, True
        found = self._search(name, label, split, place)
        if found is not None:
            return self.start + found, True
        return path, False

    def normal(self, path: str) -> str:
        """One spelling of a path: `./v.mp4` is `v.mp4`."""
        if self.is_normal and "/." not in path and "//" not in path or is_url(path):
            return path
        return os.path.normpath(path)

    def _search(self, name: str, label: int | None, split: str, place: Listing) -> str | None:
        """The one file that fits a listed name, within the root."""
        if not self._files:
            return None
        spellings = [name, name.replace("\\", "/")] if "\\" in name else [name]
        if not any(_folded(spelling.rpartition("/")[2]) in self._files for spelling in spellings):
            return None
        for spelling in spellings:
            absolute = spelling.startswith("/") or PureWindowsPath(spelling).is_absolute()
            for spelled in (str, _composed, _folded):  # as listed, another form of accents, another case
                files = self._files.get(_folded(spelling.rpartition("/")[2]), ())
                if absolute:  # a list from another machine: the end of the path fits
                    fitting = _longest([file for file in files if _is_end(file, spelling, spelled)])
                else:
                    fitting = [file for file in files if self._fits(file, spelling, label, spelled)]
                if len(fitting) > 1:  # Kinetics has a folder for each split
                    of_split = [file for file in fitting if split in map(SPLIT_WORDS.get, file.lower().split(os.sep))]
                    fitting = of_split or fitting
                if len(fitting) > 1:
                    raise AnnotationError(
                        f"{place.where}: {name!r:.200} may be {fitting[0]} or {fitting[1]}; list the path within "
                        f"{self.root}."
                    )
                if fitting:
                    return fitting[0]
        return None

    def _fits(self, file: str, name: str, label: int | None, spelled) -> bool:
        """Whether the file lies in the listed folders, in their order, and not in another class's folder."""
        *folders, base = file.split(os.sep)
        *wanted, last = name.split("/")
        if spelled(last) not in (spelled(base), spelled(os.path.splitext(base)[0])):
            return False
        remaining = iter(map(spelled, folders))
        if not all(spelled(part) in remaining for part in wanted if part != "."):
            return False
        found = self.classes.find(folders[-1]) if folders else None
        return found is None or label is None or found == label


def _is_end(file: str, path: str, spelled) -> bool:
    """Whether a path ends in a file's path, or in that without its extension."""
    path = "/" + spelled(path)
    return path.endswith(("/" + spelled(file), "/" + spelled(os.path.splitext(file)[0])))


def _longest(files: list[str]) -> list[str]:
    depth = max((file.count(os.sep) for file in files), default=0)
    return [file for file in files if file.count(os.sep) == depth]


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return (
        text.lower() if text.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    )


def _is_new(folder: str, visited: set[tuple[int, int]]) -> bool:
    """Whether a folder was not visited yet; links can lead back to a folder above."""
    try:
        about = os.stat(folder)
    except OSError:  # a link to itself
        return False
    place = (about.st_dev, about.st_ino)
    if place in visited:
        return False
    visited.add(place)
    return True
