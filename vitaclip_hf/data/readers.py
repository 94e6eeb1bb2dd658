"""The formats of annotation files: a reader for each, with a test that says whether a file or folder has that format.

To add a format, write the two functions and add a line to `READERS`.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .class_names import read_class_names
from .listings import ListedVideos, Listing, split_of_name, split_of_word
from .lists import ListFile, path_and_label, read_list
from .text_files import AnnotationError


_UCF_NAME = re.compile(r"(?:.*[/\\])?[^/\\]+[/\\]v_[^/\\]+_g\d+_c\d+\.\w+(?:\s*[\s,;]\s*\d+)?", re.IGNORECASE)
_UCF_LIST = re.compile(r"(?:train|test)list\d+\.txt")
_HMDB_LIST = re.compile(r"(.+)(_test_split\d+\.txt)")
_TIMES = ("timestart", "timeend")


def _names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


# UCF101


def is_ucf101(file: ListFile) -> bool:
    if file.path.is_dir():
        return any(map(_UCF_LIST.fullmatch, _names_in(file.path)))
    return bool(file.lines) and all(_UCF_NAME.fullmatch(line) for _, line in file.lines)


def read_ucf101(file: ListFile, number: int = 1) -> ListedVideos:
    """
    Reads UCF101's own lists: a folder with `classInd.txt`, `trainlist0N.txt` and `testlist0N.txt`, or one such list.

    The folder in the path gives the class; class numbers are not read.
    """
    folder = file.path if file.path.is_dir() else file.path.parent
    paths = [folder / f"{kind}list{number:02d}.txt" for kind in ("train", "test")]
    files = [ListFile(path) for path in paths if path.exists()] if file.path.is_dir() else [file]
    if not files:
        raise AnnotationError(f"{folder}: there is neither {paths[0].name} nor {paths[1].name}; check `number`.")
    listings = []
    for each in files:
        for line_number, line in each.lines:
            name = path_and_label(line, f"{each.path}:{line_number}")[0]
            label = name.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
            if not label:
                raise AnnotationError(f"{each.path}:{line_number}: expected `CLASS/video.avi`, got {name!r:.200}.")
            listings.append(Listing(name, label, split_of_name(each.path), str(each.path), line_number))
    index = folder / "classInd.txt"
    return ListedVideos(listings, read_class_names(index) if index.exists() else None)


# HMDB51


def is_hmdb51(file: ListFile) -> bool:
    if file.path.is_dir():
        return any(map(_HMDB_LIST.fullmatch, _names_in(file.path)))
    return bool(_HMDB_LIST.fullmatch(file.path.name)) and all(re.fullmatch(r"\S.*\s\d", line) for _, line in file.lines)


def read_hmdb51(file: ListFile, number: int = 1) -> ListedVideos:
    """
    Reads HMDB51's own lists: `CLASS_test_splitN.txt` with lines `video.avi 0|1|2` (unused, train, test).

    The videos lie in the folder CLASS. With the list of one class, those of the other classes beside it are read too.
    """
    folder, ending = file.path, f"_test_split{number}.txt"
    if match := _HMDB_LIST.fullmatch(file.path.name):
        folder, ending = file.path.parent, match[2]
    paths = sorted(folder.glob(f"*{ending}"))
    if not paths:
        raise AnnotationError(f"{folder}: there is no file CLASS{ending}; check `number`.")
    listings = []
    for path in paths:
        name = path.name.removesuffix(ending)
        for line_number, line in ListFile(path).lines:
            video, use = line[:-1].strip(), line[-1]
            if use not in "012" or not video:
                raise AnnotationError(f"{path}:{line_number}: expected `video.avi 0|1|2`, got {line!r:.200}.")
            if use != "0":
                split = "train" if use == "1" else "test"
                listings.append(Listing(f"{name}/{video}", name, split, str(path), line_number))
    return ListedVideos(listings, tuple(path.name.removesuffix(ending) for path in paths))


# Kinetics


def is_kinetics(file: ListFile) -> bool:
    if file.is_json:
        content = file.json
        return isinstance(content, dict) and any(
            isinstance(entry, dict) and "annotations" in entry for entry in content.values()
        )
    return file.header is not None and {"youtubeid", *_TIMES} <= set(file.header[1])


def read_kinetics(file: ListFile, number: int = 1) -> ListedVideos:
    """
    Reads Kinetics' csv (`label,youtube_id,time_start,time_end,split`) or json; labels may be missing in a test list.

    A video's file is called `ID_000012_000022`, by its seconds.
    """
    listings = []
    for line, row in _rows_of_kinetics(file):
        where = Listing("", None, None, str(file.path), line).where
        try:
            start, end = (round(float(str(row.get(name)))) for name in _TIMES)
        except (ValueError, OverflowError) as error:
            raise AnnotationError(
                f"{where}: expected Kinetics' entries with `label`, `time_start` and `time_end` in seconds (json: "
                f"`annotations` with `label` and `segment`), got {row!r:.200}."
            ) from error
        split = split_of_word(row["split"], where) if row.get("split") else None
        name = f"{row['youtubeid']}_{start:06d}_{end:06d}"
        listings.append(Listing(name, row.get("label") or None, split, str(file.path), line))
    return ListedVideos(listings, suggested_split=split_of_name(file.path))


def _rows_of_kinetics(file: ListFile) -> Iterator[tuple[int, dict[str, Any]]]:
    if not is_kinetics(file):
        raise AnnotationError(f"{file.path}: expected a header with youtube_id, time_start and time_end.")
    if not file.is_json:
        yield from file.rows()
        return
    for line, (name, entry) in enumerate(file.json.items(), 1):
        entry = entry if isinstance(entry, dict) else {}
        content = entry.get("annotations")
        content = content if isinstance(content, dict) else {}
        segment = content.get("segment")
        times = dict(zip(_TIMES, segment if isinstance(segment, list) else (), strict=False))
        yield line, {"youtubeid": name, "label": content.get("label"), "split": entry.get("subset"), **times}


# Something-Something V2


def is_ssv2(file: ListFile) -> bool:
    content = file.json if file.is_json else None
    if not isinstance(content, list) or not content or not all(isinstance(entry, dict) for entry in content):
        return False
    return "id" in content[0] and (len(content[0]) == 1 or any("template" in entry for entry in content))


def read_ssv2(file: ListFile, number: int = 1) -> ListedVideos:
    """Reads SSv2's json: a list of `id`, `label` and `template`; the class is the template without its brackets."""
    listings = []
    labelled = is_ssv2(file) and any("template" in entry for entry in file.json)
    for line, entry in enumerate(file.json if is_ssv2(file) else [None], 1):
        template = entry.get("template") if entry else None
        if not entry or isinstance(template, str) != labelled or not isinstance(entry.get("id"), (str, int)):
            raise AnnotationError(
                f"{file.path}, entry {line}: expected SSv2's list of objects with `id`, and `template` in all or in "
                f"none, got {entry!r:.200}."
            )
        label = re.sub(r"[\[\]]", "", template) if template else None
        listings.append(Listing(str(entry["id"]), label, split_of_name(file.path), str(file.path), line))
    names = sorted(file.path.parent.glob("*labels.json"))
    return ListedVideos(listings, read_class_names(names[0]) if len(names) == 1 else None)


class Reader(NamedTuple):
    """
    A format.

    Attributes:
        fits (`Callable`): whether a [`ListFile`], which may be a folder, has this format.
        read (`Callable`): its [`ListedVideos`], from the file and the number of the official split.
    """

    fits: Callable[[ListFile], bool]
    read: Callable[[ListFile, int], ListedVideos]


# The first reader that fits a file reads it.
READERS = {
    "kinetics": Reader(is_kinetics, read_kinetics),
    "ssv2": Reader(is_ssv2, read_ssv2),
    "hmdb51": Reader(is_hmdb51, read_hmdb51),
    "ucf101": Reader(is_ucf101, read_ucf101),
    "list": Reader(lambda file: not file.path.is_dir(), lambda file, number: read_list(file)),
}
