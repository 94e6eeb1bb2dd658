"""The formats of annotation files: a reader for each, with a test that says whether a file or folder has that format.

To add a format, write the two functions and add a line to `READERS`.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .class_names import read_class_file, read_class_names
from .listings import SPLIT_WORDS, SPLITS, ListedVideos, Listing, split_of_name, split_of_word
from .lists import ListFile, path_and_label, read_list
from .text_files import JSON_ENDINGS, AnnotationError


ENDINGS = (".txt", ".csv", ".tsv", ".lst", ".list", *JSON_ENDINGS)
MAX_SEARCHED = 1000  # files of a folder that are looked into
CLASS_FILES = tuple(
    f"{name}{ending}"
    for ending in (".txt", ".csv", ".json")
    for name in ("classInd", "classes", "class_names", "labels")
)


_UCF_NAME = re.compile(r"(?:.*[/\\])?[^/\\]+[/\\]v_[^/\\]+_g\d+_c\d+\.\w+(?:\s*[\s,;]\s*\d+)?", re.IGNORECASE)
_UCF_LIST = re.compile(r"(?:train|test)list\d+\.txt")
_HMDB_LIST = re.compile(r"(.+)(_test_split\d+\.txt)")
_TIMES = ("timestart", "timeend")


def _files_in(folder: Path) -> list[Path]:
    """The text files of a folder, sorted, without hidden ones."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise AnnotationError(f"{folder} cannot be read: {error.strerror or error}.") from error
    return [entry for entry in entries if entry.suffix.lower() in ENDINGS and entry.is_file()]


# UCF101


def is_ucf101(file: ListFile) -> bool:
    if file.path.is_dir():
        return any(_UCF_LIST.fullmatch(entry.name) for entry in _files_in(file.path))
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
        return any(_HMDB_LIST.fullmatch(entry.name) for entry in _files_in(file.path))
    return bool(_HMDB_LIST.fullmatch(file.path.name)) and all(re.fullmatch(r"\S.*\s\d", line) for _, line in file.lines)


def read_hmdb51(file: ListFile, number: int = 1) -> ListedVideos:
    """
    Reads HMDB51's own lists: `CLASS_test_splitN.txt` with lines `video.avi 0|1|2` (unused, train, test).

    The videos lie in the folder CLASS. With the list of one class, those of the other classes beside it are read too.
    """
    folder, ending = file.path, f"_test_split{number}.txt"
    if match := _HMDB_LIST.fullmatch(file.path.name):
        folder, ending = file.path.parent, match[2]
    paths = [path for path in _files_in(folder) if path.name.endswith(ending)]
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
    return {"youtubeid", *_TIMES} <= {*file.header[1]}


def read_kinetics(file: ListFile, number: int = 1) -> ListedVideos:
    """
    Reads Kinetics' csv (`label,youtube_id,time_start,time_end,split`) or json; labels may be missing in a test list.

    A video's file is called `ID_000012_000022`, by its seconds.
    """
    if not is_kinetics(file):
        raise AnnotationError(f"{file.path}: expected a header with youtube_id, time_start and time_end.")
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
    if not file.is_json:
        yield from file.rows()
        return
    for line, (name, entry) in enumerate(file.json.items(), 1):
        row = {"youtubeid": name}
        match entry:
            case {"annotations": {"segment": [start, end], **content}}:
                row |= dict(zip(_TIMES, (start, end), strict=True))
                row |= {"label": content.get("label"), "split": entry.get("subset")}
        yield line, row


# Something-Something V2


def is_ssv2(file: ListFile) -> bool:
    content = file.json if file.is_json else None
    if not isinstance(content, list) or not content or not all(isinstance(entry, dict) for entry in content):
        return False
    return "id" in content[0] and (len(content[0]) == 1 or any("template" in entry for entry in content))


def read_ssv2(file: ListFile, number: int = 1) -> ListedVideos:
    """Reads SSv2's json: a list of `id`, `label` and `template`; the class is the template without its brackets."""
    listings = []
    entries = file.json if is_ssv2(file) else [{}]
    labelled = any("template" in entry for entry in entries)
    for line, entry in enumerate(entries, 1):
        template = entry.get("template")
        if isinstance(template, str) != labelled or not isinstance(entry.get("id"), (str, int)):
            raise AnnotationError(
                f"{file.path}, entry {line}: expected SSv2's list of objects with `id`, and `template` in all or in "
                f"none, got {entry!r:.200}."
            )
        label = re.sub(r"[\[\]]", "", template) if template else None
        listings.append(Listing(str(entry["id"]), label, split_of_name(file.path), str(file.path), line))
    names = [path for path in _files_in(file.path.parent) if path.name.endswith("labels.json")]
    return ListedVideos(listings, read_class_names(names[0]) if len(names) == 1 else None)


# Folders of lists


def split_files(folder: Path) -> dict[str, list[Path]]:
    """The annotation files of each split in a folder; their names end in the split's, as in `…-validation.json`."""
    files: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for file in _files_in(folder):
        if split := SPLIT_WORDS.get(re.split(r"[^a-z]", file.stem.lower())[-1]):
            files[split].append(file)
    return {split: paths for split, paths in files.items() if paths}


def _read_folder(folder: Path, format: str, number: int) -> ListedVideos:
    parts = {}
    for split, files in split_files(folder).items():  # Kinetics has each split as csv and as json
        parts[split], *others = (read_listed(file, format, number) for file in files)
        rows, *other_rows = ({(item.name, item.label) for item in part.listings} for part in (parts[split], *others))
        if any(other != rows for other in other_rows):
            names = " and ".join(file.name for file in files)
            raise AnnotationError(f"{folder}: {names} list different videos for {split}; name one.")
    if not parts:
        raise AnnotationError(
            f"{folder}: no known lists; name the file. A folder can be UCF101's or HMDB51's own, or hold a file for "
            "each split, such as train.csv, validation.json or test.txt."
        )
    listings = [
        item if item.split else item._replace(split=split) for split, part in parts.items() for item in part.listings
    ]
    if len({type(item.label) for item in listings if item.label is not None}) > 1:
        raise AnnotationError(f"{folder}: some lists have class names and others have class numbers as labels.")
    class_names = next((part.class_names for part in parts.values() if part.class_names), None)
    beside = () if class_names else (folder / name for name in CLASS_FILES if (folder / name).exists())
    if class_file := next(map(str, beside), None):
        class_names = read_class_names(class_file)
    notes = tuple(note for part in parts.values() for note in part.notes)
    suspected = next(iter(parts.values())).header_suspected
    return ListedVideos(listings, class_names, None, suspected, notes, class_file)


def matching_class_file(place: Path, count: int, lists: Collection[str] = ()) -> Path | None:
    """
    The one file of `count` numbered class names near a list: beside it, in a folder `labels` beside it, or in the
    `labels` of the two folders above. `lists` are the files that were read as lists.

    Raises:
        AnnotationError: several different ones.
    """
    folder = place if place.is_dir() else place.parent
    near = [folder, *(above / "labels" for above in (folder, *list(folder.absolute().parents)[:2]))]
    matches: dict[tuple[str, ...], Path] = {}
    for file in (file for folder in near if folder.is_dir() for file in _files_in(folder)[:MAX_SEARCHED]):
        if str(file) in lists or file.stat().st_size > 1000 + 300 * count:  # larger: names of more classes
            continue
        with suppress(AnnotationError):  # another kind of file
            names, numbered = read_class_file(file)
            if numbered and len(names) == count:
                matches.setdefault(names, file)
    if len(matches) > 1:
        first, second, *_ = matches.values()
        raise AnnotationError(
            f"{place}: the labels are numbers, and {first} and {second} both hold {count} names; choose with `classes`."
        )
    return next(iter(matches.values()), None)


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
    "lists": Reader(
        lambda file: file.path.is_dir() and bool(split_files(file.path)),
        lambda file, number: _read_folder(file.path, "auto", number),
    ),
}


def _fitting(file: ListFile) -> list[str]:
    return [name for name, reader in READERS.items() if reader.fits(file)]


def read_listed(path: Path, format: str = "auto", number: int = 1) -> ListedVideos:
    """
    Reads everything that an annotation file or folder lists.

    Args:
        path (`Path`): the file or folder.
        format (`str`): a name of `READERS`, or `"auto"`.
        number (`int`): number of the official split, for UCF101 and HMDB51.

    Returns:
        [`ListedVideos`]

    Raises:
        AnnotationError: files that cannot be read, or that the format does not fit.
    """
    file = ListFile(path)
    fitting = _fitting(file)
    if not fitting:  # the archives of UCF101 and HMDB51 hold one folder of lists
        folders = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        inner = [folder for folder in folders if _fitting(ListFile(folder))]
        if len(inner) == 1:
            return read_listed(inner[0], format, number)
    if path.is_dir() and format in ("kinetics", "ssv2", "list"):
        return _read_folder(path, format, number)
    if format != "auto":
        return READERS[format].read(file, number)
    if len(fitting) > 1 and path.is_dir():
        raise AnnotationError(
            f"{path}: several kinds of lists ({', '.join(fitting)}); name the file, or choose the `format`."
        )
    return READERS[fitting[0] if fitting else "lists"].read(file, number)
