"""Reads the annotation files of data sets into `Listing`s. What is listed is not looked for on the disk here."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from .class_names import AnnotationError, read_class_names, read_json, read_text, unquoted


SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
VIDEO_EXTENSIONS = (
    *(".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".gif", ".flv"),
    *(".wmv", ".3gp", ".ogv", ".ts", ".mts", ".m2ts"),
)
PATH_COLUMNS = ("path", "video", "video_path", "file", "file_name", "filename", "name", "video_name")
LABEL_COLUMNS = ("label", "class", "label_name", "class_name", "action", "category", "label_id", "class_id")
SPLIT_COLUMNS = ("split", "subset", "set")

_EXTENSION = "|".join(re.escape(extension) for extension in VIDEO_EXTENSIONS)
_PATH_THEN_LABEL = re.compile(rf'("(?:[^"]|"")+"|.+(?:{_EXTENSION}))(\s*,\s*|\s+)(\S.*)', re.IGNORECASE)
_UCF_NAME = re.compile(r"(?:.*/)?([^/]+)/v_[^/]+_g\d+_c\d+\.\w+", re.IGNORECASE)


@dataclass(frozen=True)
class Listing:
    """
    One listed video.

    Attributes:
        name (`str`): the listed path, with `/`. For Kinetics and SSv2 it is the video's id, without extension.
        label (`str` or `int`, *optional*): class name or class number from 0; `None` if there is none.
        split (`str`, *optional*): one of `SPLITS`; `None` if the file does not say.
        where (`str`): file and line, for messages.
    """

    name: str
    label: str | int | None
    split: str | None
    where: str

    @property
    def file(self) -> str:
        """The file that lists the video; for folders of videos, the folder."""
        return re.split(r":\d+$|, entry \d+$", self.where)[0]


@dataclass(frozen=True)
class ListedVideos:
    """
    The listings of one or several files.

    Attributes:
        listings (`list[Listing]`): the listed videos.
        class_names (`tuple[str, ...]`, *optional*): class names that come with the files.
        suggested_split (`str`, *optional*): the split that the file's name suggests.
    """

    listings: list[Listing] = field(default_factory=list)
    class_names: tuple[str, ...] | None = None
    suggested_split: str | None = None


def split_of_name(path: Path) -> str | None:
    """The split in a file's or folder's name, such as `trainlist01` or `ucf101_val1`; `None` unless there is one."""
    words = re.findall(r"[a-z]+", path.stem.lower().replace("list", " "))
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def split_of_word(word: str, where: str) -> str:
    split = SPLIT_WORDS.get(word.strip().lower())
    if split is None:
        raise AnnotationError(f"{where}: unknown split {word!r:.100}; expected {', '.join(SPLIT_WORDS)}.")
    return split


def is_video_name(name: str) -> bool:
    return name.lower().endswith(VIDEO_EXTENSIONS)


# Lists: `path label` and `path,label`


def read_list(path: Path) -> ListedVideos:
    """
    Reads a list: `path label` or `path,label` on each line, or a CSV whose header names its columns.

    Fields may be quoted. Paths and class names may hold spaces and commas if the path is quoted or ends in a video's
    extension. If all labels are numbers, they are class numbers, else class names. There are no comments, since names
    can begin with `#`.
    """
    lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise AnnotationError(f"{path} is empty.")
    columns = [unquoted(column).lower() for column in lines[0][1].split(",")]
    if any(column in PATH_COLUMNS for column in columns) and not any(map(is_video_name, columns)):
        listings = list(_listings_of_table(path))
    else:
        listings = [_listing_of_line(line, f"{path}:{number}") for number, line in lines]
    unlabelled = [listing for listing in listings if listing.label is None]
    if unlabelled and len(unlabelled) < len(listings):
        raise AnnotationError(
            f"{unlabelled[0].where}: {unlabelled[0].name!r:.200} has no label, but other lines have one; expected "
            "`path label` or `path,label`."
        )
    return ListedVideos(_numbered(listings), suggested_split=split_of_name(path))


def _listing_of_line(line: str, where: str) -> Listing:
    line = line.strip()
    if is_video_name(unquoted(line)):
        return Listing(unquoted(line), None, None, where)
    match = _PATH_THEN_LABEL.fullmatch(line)
    if match:
        name, label = unquoted(match[1]), unquoted(match[3])
    else:  # without an extension, the last comma or space separates path and label
        parts = line.rsplit(",", 1) if "," in line else line.rsplit(None, 1)
        if len(parts) != 2 or not unquoted(parts[1]):
            raise AnnotationError(f"{where}: expected `path label` or `path,label`, got {line!r:.200}.")
        name, label = (unquoted(part) for part in parts)
    if re.fullmatch(r"-?\d+(?:[\s,]+-?\d+)+", label):
        raise AnnotationError(
            f"{where}: expected one label for each video, got {label!r:.100}; keep only `path label`."
        )
    return Listing(name, label, None, where)


def _listings_of_table(path: Path) -> Iterator[Listing]:
    for where, row in _csv_rows(path):
        name = _first_of(row, PATH_COLUMNS)
        if not name:
            raise AnnotationError(
                f"{where}: the column {'/'.join(c for c in row if c in PATH_COLUMNS)} is empty; expected a path."
            )
        split = _first_of(row, SPLIT_COLUMNS)
        yield Listing(name, _first_of(row, LABEL_COLUMNS), split_of_word(split, where) if split else None, where)


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a CSV with a header; column names become lower case."""
    reader = csv.DictReader(read_text(path).splitlines(), skipinitialspace=True)
    reader.fieldnames = [column.strip().lower() for column in reader.fieldnames or []]
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if None in row or None in row.values():
            raise AnnotationError(
                f"{where}: expected {len(reader.fieldnames)} fields ({', '.join(reader.fieldnames)}); quote a field "
                "that holds a comma."
            )
        yield where, {column: value.strip() for column, value in row.items()}


def _first_of(row: dict[str, str], columns: Iterable[str]) -> str | None:
    return next((row[column] for column in columns if row.get(column)), None)


def _numbered(listings: list[Listing]) -> list[Listing]:
    """Turns labels into numbers if all of them are."""
    labels = [listing.label for listing in listings]
    if any(label is None or not re.fullmatch(r"-?\d+", str(label)) for label in labels):
        return listings
    return [replace(listing, label=int(str(listing.label))) for listing in listings]


# UCF101


def read_ucf101(path: Path, number: int = 1) -> ListedVideos:
    """
    Reads UCF101's own lists: a folder with `classInd.txt`, `trainlist0N.txt` and `testlist0N.txt`, or one such list.

    The folder in the path gives the class. If lines have a class number too, it must agree.
    """
    folder = path if path.is_dir() else path.parent
    files = [folder / f"{kind}list{number:02d}.txt" for kind in ("train", "test")] if path.is_dir() else [path]
    files = [file for file in files if file.exists()]
    if not files:
        raise AnnotationError(
            f"{folder}: there is neither trainlist{number:02d}.txt nor testlist{number:02d}.txt; check `number`."
        )
    listings, numbers = [], []
    for file in files:
        for line_number, line in enumerate(read_text(file).splitlines(), 1):
            if line.strip():
                listing = _listing_of_line(line, f"{file}:{line_number}")
                name = Path(listing.name)
                if not name.parent.name:
                    raise AnnotationError(f"{listing.where}: expected `CLASS/video.avi`, got {listing.name!r}.")
                numbers.append(listing.label)
                listings.append(replace(listing, label=name.parent.name, split=split_of_name(file)))
    _check_ucf101_numbers(listings, numbers)
    index = folder / "classInd.txt"
    return ListedVideos(listings, read_class_names(index) if index.exists() else None)


def _check_ucf101_numbers(listings: list[Listing], numbers: list) -> None:
    """The numbers count from 1 or from 0; each must go with one class only."""
    seen: dict = {}
    for listing, number in zip(listings, numbers, strict=True):
        if number is None:
            continue
        for key, value in ((("class", listing.label), number), (("number", number), listing.label)):
            if seen.setdefault(key, value) != value:
                raise AnnotationError(
                    f"{listing.where}: class {listing.label} has the number {number} here, but before "
                    f"{key[0]} {key[1]} stood beside {seen[key]}; correct the list."
                )


# HMDB51


def read_hmdb51(path: Path, number: int = 1) -> ListedVideos:
    """
    Reads HMDB51's own lists: `CLASS_test_splitN.txt` with lines `video.avi 0|1|2` (unused, train, test).

    The videos lie in the folder CLASS. If `path` is the list of one class, the lists of the other classes beside it are
    read too.
    """
    folder = path if path.is_dir() else path.parent
    ending = f"_test_split{number}.txt" if path.is_dir() else re.sub(r".*(_test_split\d+\.txt)", r"\1", path.name)
    files = sorted(folder.glob(f"*{ending}"))
    if not files:
        raise AnnotationError(f"{folder}: there is no file CLASS{ending}; check `number`.")
    listings = []
    for file in files:
        name = file.name.removesuffix(ending)
        for line_number, line in enumerate(read_text(file).splitlines(), 1):
            video, _, use = line.strip().rpartition(" ")
            if not line.strip():
                continue
            if use not in ("0", "1", "2") or not video:
                raise AnnotationError(f"{file}:{line_number}: expected `video.avi 0|1|2`, got {line.strip()!r:.200}.")
            if use != "0":
                split = "train" if use == "1" else "test"
                listings.append(Listing(f"{name}/{video.strip()}", name, split, f"{file}:{line_number}"))
    return ListedVideos(listings, tuple(sorted(file.name.removesuffix(ending) for file in files)))


# Kinetics


def read_kinetics(path: Path) -> ListedVideos:
    """Reads Kinetics' csv: `label,youtube_id,time_start,time_end,split`; labels may be missing in a test csv."""
    listings = []
    suggested = split_of_name(path)
    for where, row in _csv_rows(path):
        try:
            start, end = (round(float(row[column])) for column in ("time_start", "time_end"))
        except (KeyError, ValueError) as error:
            raise AnnotationError(
                f"{where}: time_start and time_end must be numbers of seconds, got "
                f"{row.get('time_start')!r:.40} and {row.get('time_end')!r:.40}."
            ) from error
        split = split_of_word(row["split"], where) if row.get("split") else suggested
        label = row.get("label") or None
        listings.append(Listing(f"{row['youtube_id']}_{start:06d}_{end:06d}", label, split, where))
    return ListedVideos(listings)


# Something-Something V2


def read_ssv2(path: Path) -> ListedVideos:
    """Reads SSv2's json: a list of `id`, `label` and `template`; the class is the template without its brackets."""
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) and "id" in entry for entry in content):
        raise AnnotationError(f"{path}: expected SSv2's list of objects with `id` (and `template`).")
    listings = []
    for number, entry in enumerate(content, 1):
        template = entry.get("template")
        label = None if template is None else re.sub(r"[\[\]]", "", template)
        listings.append(Listing(str(entry["id"]), label, split_of_name(path), f"{path}, entry {number}"))
    names = sorted(path.parent.glob("*labels.json"))
    return ListedVideos(listings, read_class_names(names[0]) if len(names) == 1 else None)


# Which format


def detect_format(path: Path) -> str:
    """
    Finds out the format of an annotation file or folder from its content.

    Args:
        path (`Path`): the file or folder.

    Returns:
        `str`: a name of `READERS`, or `"lists"` for a folder with one file for each split.

    Raises:
        AnnotationError: no format fits, or several do.
    """
    if path.is_dir():
        names = [entry.name for entry in path.iterdir() if entry.is_file()]
        fits = {
            "ucf101": any(re.fullmatch(r"(?:train|test)list\d+\.txt", name) for name in names),
            "hmdb51": any(re.fullmatch(r".+_test_split\d+\.txt", name) for name in names),
            "lists": bool(split_files(path)),
        }
        found = [name for name, fit in fits.items() if fit]
        if len(found) != 1:
            problem = f"several kinds of lists ({', '.join(found)})" if found else "no known lists"
            raise AnnotationError(
                f"{path}: {problem}; name the file, or choose the `format`. A folder can be UCF101's or HMDB51's own, "
                "or hold a file for each split, such as train.csv, validation.json or test.txt."
            )
        return found[0]
    if path.suffix.lower() == ".json":
        return "ssv2"
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise AnnotationError(f"{path} is empty.")
    if "youtube_id" in lines[0].lower():
        return "kinetics"
    if re.search(r"_test_split\d+$", path.stem) and all(re.fullmatch(r"\S.*\s[012]", line) for line in lines):
        return "hmdb51"
    names = [unquoted(match[1]) if (match := _PATH_THEN_LABEL.fullmatch(line)) else line for line in lines]
    return "ucf101" if all(_UCF_NAME.fullmatch(name) for name in names) else "list"


def split_files(folder: Path) -> dict[str, Path]:
    """The annotation file of each split in a folder; its name ends in the split's, as in `…-validation.json`."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        word = re.split(r"[^a-z]", file.stem.lower())[-1]
        if file.is_file() and file.suffix.lower() in (".txt", ".csv", ".json") and word in SPLIT_WORDS:
            split = SPLIT_WORDS[word]
            if split in found:
                raise AnnotationError(
                    f"{folder}: two files for {split}, {found[split].name} and {file.name}; name one."
                )
            found[split] = file
    return {split: found[split] for split in SPLITS if split in found}


READERS = {
    "list": read_list,
    "kinetics": read_kinetics,
    "ssv2": read_ssv2,
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
}
CLASS_FILES = (
    "classInd.txt",
    "classes.txt",
    "class_names.txt",
    "labels.txt",
    "classes.csv",
    "labels.csv",
    "labels.json",
)


def read_listed(path: Path, format: str, number: int) -> ListedVideos:
    """
    Reads everything that an annotation file or folder lists.

    Args:
        path (`Path`): the file or folder.
        format (`str`): a name of `READERS`, `"lists"`, or `"auto"`.
        number (`int`): number of the official split, for UCF101 and HMDB51.

    Returns:
        [`ListedVideos`]

    Raises:
        AnnotationError: files that cannot be read, or that the format does not fit.
    """
    format = detect_format(path) if format == "auto" else format
    if format in ("ucf101", "hmdb51"):
        return READERS[format](path, number)
    if path.is_dir():
        return _read_folder(path, None if format == "lists" else format, number)
    if format == "lists":
        raise AnnotationError(f'{path} is a file; format "lists" reads a folder with one file for each split.')
    return READERS[format](path)


def _read_folder(folder: Path, format: str | None, number: int) -> ListedVideos:
    files = split_files(folder)
    if not files:
        raise AnnotationError(f"{folder}: there is no file named train, validation or test (.txt, .csv or .json).")
    listings, class_names = [], None
    for split, file in files.items():
        part = read_listed(file, format or detect_format(file), number)
        listings += [replace(listing, split=listing.split or split) for listing in part.listings]
        class_names = class_names or part.class_names
    if class_names is None:
        beside = [folder / name for name in CLASS_FILES if (folder / name).exists()]
        class_names = read_class_names(beside[0]) if beside else None
    return ListedVideos(listings, class_names)
