"""Reads the official annotation files of data sets, and finds out which format a file or folder has."""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from .class_names import read_class_names, read_numbered_names
from .listings import (
    SPLIT_WORDS,
    SPLITS,
    ListedVideos,
    Listing,
    is_video_name,
    split_of_name,
    split_of_word,
)
from .text_files import AnnotationError, read_json, read_text, split_lines
from .video_lists import TABLE_ENDINGS, clip_second, header_of, header_with, path_and_label, read_list, table_rows


TEXT_ENDINGS = (".txt", ".csv", ".tsv", ".lst", ".list")
MAX_SEARCHED = 1000  # files of a folder that are looked into

_UCF_NAME = re.compile(r"(?:.*[/\\])?[^/\\]+[/\\]v_[^/\\]+_g\d+_c\d+\.\w+(?:\s*[\s,;]\s*\d+)?", re.IGNORECASE)


def _lines_of(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not empty, with their numbers."""
    for number, line in enumerate(split_lines(read_text(file, "surrogateescape"), file), 1):
        if line.strip():
            yield number, line.strip()


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
        for line_number, line in _lines_of(file):
            name, number_of_class = path_and_label(line, str(file), line_number)
            parts = name.replace("\\", "/").split("/")
            if len(parts) < 2 or not parts[-2]:
                raise AnnotationError(f"{file}:{line_number}: expected `CLASS/video.avi`, got {name!r:.200}.")
            numbers.append(number_of_class)
            listings.append(Listing(name, parts[-2], split_of_name(file), str(file), line_number))
    _check_ucf101_numbers(listings, numbers)
    index = folder / "classInd.txt"
    if not index.exists():
        return ListedVideos(listings)
    names = read_class_names(index)
    return ListedVideos(listings, names, notes=tuple(_other_numbers(listings, numbers, names, index)))


def _other_numbers(listings: list[Listing], numbers: list, names: tuple[str, ...], index: Path) -> Iterator[str]:
    """A note if the lists' numbers are neither those of the class file nor these less 1. The folders give the class."""
    places = {name: place for place, name in enumerate(names)}
    known = [(str(item.label), number) for item, number in zip(listings, numbers, strict=True) if number]
    steps = {
        int(number) - places[name] for name, number in known if name in places and re.fullmatch(r"\d{1,9}", number)
    }
    if steps and steps not in ({0}, {1}):
        file = listings[0].file
        yield f"{file}: its class numbers are not those of {index}; the folders in the paths give the classes"


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
        for line_number, line in _lines_of(file):
            video, use = line[:-1].strip(), line[-1]
            if use not in "012" or not video or not line[-2].isspace():
                raise AnnotationError(f"{file}:{line_number}: expected `video.avi 0|1|2`, got {line!r:.200}.")
            if use != "0":
                split = "train" if use == "1" else "test"
                listings.append(Listing(f"{name}/{video}", name, split, str(file), line_number))
    return ListedVideos(listings, tuple(sorted(file.name.removesuffix(ending) for file in files)))


# Kinetics


def read_kinetics(path: Path) -> ListedVideos:
    """Reads Kinetics' csv: `label,youtube_id,time_start,time_end,split`; labels may be missing in a test csv."""
    listings = []
    suggested = split_of_name(path)
    for line, row in table_rows(path, ("youtube_id", "time_start", "time_end")):
        where = f"{path}:{line}"
        try:
            start, end = (clip_second(row[column]) for column in ("time_start", "time_end"))
        except ValueError as error:
            raise AnnotationError(
                f"{where}: time_start and time_end must be numbers of seconds, got "
                f"{row['time_start']!r:.40} and {row['time_end']!r:.40}."
            ) from error
        split = split_of_word(row["split"], where) if row.get("split") else suggested
        label = row.get("label") or None
        listings.append(Listing(f"{row['youtube_id']}_{start:06d}_{end:06d}", label, split, str(path), line))
    return ListedVideos(listings)


# Something-Something V2


def read_ssv2(path: Path) -> ListedVideos:
    """Reads SSv2's json: a list of `id`, `label` and `template`; the class is the template without its brackets."""
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) and "id" in entry for entry in content):
        raise AnnotationError(f"{path}: expected SSv2's list of objects with `id` (and `template`).")
    listings = []
    split = split_of_name(path)
    templates = sum("template" in entry for entry in content)
    if 0 < templates < len(content):
        number = next(number for number, entry in enumerate(content, 1) if "template" not in entry)
        raise AnnotationError(f"{path}, entry {number}: it has no `template`, but {templates} other entries have one.")
    for number, entry in enumerate(content, 1):
        name, template = entry["id"], entry.get("template")
        if isinstance(name, bool) or not isinstance(name, (str, int)) or not isinstance(template, (str, type(None))):
            raise AnnotationError(f"{path}, entry {number}: `id` and `template` must be text, got {entry!r:.200}.")
        label = None if template is None else re.sub(r"[\[\]]", "", template)
        listings.append(Listing(str(name), label, split, str(path), number))
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
        names = [file.name for file in _files_in(path)]
        fits = {
            "ucf101": any(re.fullmatch(r"(?:train|test)list\d+\.txt", name) for name in names),
            "hmdb51": any(re.fullmatch(r".+_test_split\d+\.txt", name) for name in names),
            "lists": bool(split_files(path)),
        }
        found = [name for name, fit in fits.items() if fit]
        if len(found) > 1:
            raise AnnotationError(
                f"{path}: several kinds of lists ({', '.join(found)}); name the file, or choose the `format`. A folder "
                "can be UCF101's or HMDB51's own, or hold a file for each split."
            )
        return found[0] if found else "lists"
    if path.suffix.lower() in TABLE_ENDINGS:
        return "ssv2" if _is_ssv2(path) else "list"
    lines = [line for _, line in _lines_of(path)]
    if not lines:
        raise AnnotationError(f"{path} is empty.")
    if header_with(lines[0], ("youtube_id", "time_start", "time_end")) is not None:
        return "kinetics"
    if re.search(r"_test_split\d+$", path.stem) and all(re.fullmatch(r"\S.*\s[012]", line) for line in lines):
        return "hmdb51"
    return "ucf101" if all(map(_UCF_NAME.fullmatch, lines)) else "list"


def _is_ssv2(path: Path) -> bool:
    content = read_json(path)
    if not isinstance(content, list) or not content or not all(isinstance(entry, dict) for entry in content):
        return False
    return "id" in content[0] and (len(content[0]) == 1 or any("template" in entry for entry in content))


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    except OSError as error:
        raise AnnotationError(f"Cannot read the folder {folder}: {error.strerror or error}.") from error


def split_files(folder: Path) -> dict[str, Path]:
    """The annotation file of each split in a folder; its name ends in the split's, as in `…-validation.json`."""
    found: dict[str, Path] = {}
    for file in _files_in(folder):
        word = re.split(r"[^a-z]", file.stem.lower())[-1]
        if file.suffix.lower() in (*TEXT_ENDINGS, *TABLE_ENDINGS) and word in SPLIT_WORDS:
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
    files: Mapping = split_files(folder) or found_lists(folder, number)
    if not files:
        raise AnnotationError(
            f"{folder}: no known lists; name the file. A folder can be UCF101's or HMDB51's own, or hold a file for "
            "each split, such as train.csv, validation.json or test.txt."
        )
    listings: list[Listing] = []
    notes: list[str] = []
    class_names, class_file, suspected = None, None, False
    for split, file in files.items():
        part = read_listed(file, format or detect_format(file), number)
        suspected |= not listings and part.header_suspected
        listings += [item if item.split else item._replace(split=split) for item in part.listings]
        class_names = class_names or part.class_names
        notes += part.notes
    if class_names is None:
        beside = [folder / name for name in CLASS_FILES if (folder / name).exists()]
        class_names = read_class_names(beside[0]) if beside else None
        class_file = str(beside[0]) if beside else None
    if any(isinstance(item.label, int) for item in listings):
        words = next((item for item in listings if isinstance(item.label, str)), None)
        if words is not None:
            raise AnnotationError(
                f"{words.where}: label {words.label!r:.100} is a class name, but another list has numbers."
            )
    return ListedVideos(listings, class_names, None, suspected, tuple(notes), class_file)


# By content


def _below(folder: Path) -> list[Path]:
    """The text files in a folder and its subfolders, sorted; at most `MAX_SEARCHED`."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(names) if name.lower().endswith((*TEXT_ENDINGS, *TABLE_ENDINGS))]
        if len(found) > MAX_SEARCHED:
            raise AnnotationError(f"{folder} holds more than {MAX_SEARCHED} text files; name the list.")
    return [file for file in found if file.is_file()]


def found_lists(folder: Path, number: int) -> dict[str | None, Path]:
    """
    The list of each split in a folder and its subfolders, told from class files by its content.

    Raises:
        AnnotationError: several lists for one split.
    """
    by_split: dict[str | None, list[Path]] = {}
    for file in _below(folder):
        if _looks_like_list(file):
            split = split_of_name(file) or split_of_name(file.parent) if file.parent != folder else split_of_name(file)
            by_split.setdefault(split, []).append(file)
    chosen: dict[str | None, Path] = {}
    for split, files in by_split.items():
        if len(files) > 1:  # the lists of an official split, such as hmdb51_val1.txt
            numbered = re.compile(rf"(?:train|val|test)[a-z]*_?(?:split)?_?0?{number}(?!\d)")
            files = [file for file in files if numbered.search(file.stem.lower())] or files
        if len(files) > 1 or split is None and len(by_split) > 1:
            names = [str(file.relative_to(folder)) for file in files]
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            problem = f"several lists for {split}" if split else "several lists, some for no split"
            raise AnnotationError(f"{folder}: {problem}: {shown}; name the file.")
        chosen[split] = files[0]
    return {split: chosen[split] for split in (*SPLITS, None) if split in chosen}


def _looks_like_list(file: Path) -> bool:
    """Whether the first lines of a file list videos."""
    try:
        if file.suffix.lower() in TABLE_ENDINGS:
            return _is_ssv2(file) or bool(read_list(file).listings)
        lines = [line for _, line in _lines_of(file)][:20]
        if not lines:
            return False
        if header_of(lines[0], str(file)) is not None:
            return True
        return all(is_video_name(path_and_label(line, str(file))[0]) for line in lines)
    except AnnotationError:  # another kind of file
        return False


PARTS = ("base", "novel")


def list_of_part(folder: Path, part: str, split: str = "test", prefer: str = "") -> Path | None:
    """
    The list of the base or of the novel classes, below a folder.

    A file belongs to the part if its name, or that of a folder above it, has the word `base` or `novel`
    (`val_novel.txt`, `novel/val1.txt`). Its content says whether it lists videos or names classes.

    Args:
        folder (`Path`): for example a clone of ViFi-CLIP.
        part (`str`): `"base"` or `"novel"`.
        split (`str`, defaults to `"test"`): of the list. For `"test"`, a list of a `val` split is taken if there is no
            list of a test split: the data sets' test lists are often called `val`.
        prefer (`str`, *optional*): of several files, those with this word in their path are taken, such as `"hmdb"`.

    Returns:
        `Path`, or `None` if there is none.

    Raises:
        AnnotationError: several files fit.
    """
    lists: dict[str | None, list[Path]] = {}
    for file in filter(_looks_like_list, _below_of_part(folder, part)):
        lists.setdefault(split_of_name(file) or split_of_name(file.parent), []).append(file)
    fitting = lists.get(split) or (lists.get("validation") if split == "test" else None) or lists.get(None, [])
    return _the_one(folder, fitting, f"lists of {part} classes", prefer)


def class_file_of_part(folder: Path, part: str, prefer: str = "") -> Path | None:
    """The class file of the base or of the novel classes, below a folder; see [`list_of_part`].

    Raises:
        AnnotationError: several files fit.
    """
    files = [file for file in _below_of_part(folder, part) if not _looks_like_list(file) and _names_classes(file)]
    return _the_one(folder, files, f"class files of the {part} classes", prefer)


def _below_of_part(folder: Path, part: str) -> Iterator[Path]:
    other = PARTS[1 - PARTS.index(part)]
    for file in _below(folder):
        steps = [*file.relative_to(folder).parent.parts[::-1]]
        words = next((found for step in (file.stem, *steps) if (found := {part, other} & _words(step))), set())
        if words == {part}:
            yield file


def _words(name: str) -> set[str]:
    """The words in a file's name in lower case; digits, signs and capitals end a word."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def _names_classes(file: Path) -> bool:
    try:
        return len(read_class_names(file)) > 1
    except AnnotationError:  # another kind of file
        return False


def _the_one(folder: Path, files: list[Path], what: str, prefer: str) -> Path | None:
    if len(files) > 1 and prefer:
        files = [file for file in files if prefer in str(file.relative_to(folder)).lower()] or files
    if len({file.read_bytes() for file in files}) > 1:
        names = ", ".join(str(file.relative_to(folder)) for file in files[:4])
        raise AnnotationError(
            f"{folder}: several {what} ({names}); give the folder of one data set and one seed as `annotations`, or "
            "the class files as `base_classes` and `novel_classes`."
        )
    return files[0] if files else None


def matching_class_file(place: Path, count: int, lists: Collection[str] = ()) -> Path | None:
    """
    The one file of `count` numbered class names near a list: beside it, in a folder `labels` beside it, or in the
    `labels` of the two folders above. `lists` are the files that were read as lists.

    Raises:
        AnnotationError: several different ones.
    """
    folder = place if place.is_dir() else place.parent
    near = [folder, *(above / "labels" for above in (folder, *list(folder.absolute().parents)[:2]))]
    fitting: dict[Sequence[str], Path] = {}
    for file in (file for folder in near if folder.is_dir() for file in _files_in(folder)[:MAX_SEARCHED]):
        if file.suffix.lower() not in (*TEXT_ENDINGS, ".json") or str(file) in lists:
            continue
        if file.stat().st_size > 1000 + 300 * count:  # not read: these are no names of so few classes
            continue
        names = read_numbered_names(file)
        if names is not None and len(names) == count and not any(map(is_video_name, names)):
            fitting.setdefault(names, file)
    if len(fitting) > 1:
        first, second = list(fitting.values())[:2]
        raise AnnotationError(
            f"{place}: the labels are numbers, and {first} and {second} both hold {count} names; choose with `classes`."
        )
    return next(iter(fitting.values()), None)


__all__ = [
    "CLASS_FILES",
    "READERS",
    "SPLITS",
    "SPLIT_WORDS",
    "class_file_of_part",
    "detect_format",
    "found_lists",
    "is_video_name",
    "list_of_part",
    "matching_class_file",
    "read_listed",
    "split_files",
]
