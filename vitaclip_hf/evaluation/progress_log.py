"""The log of a running evaluation. It keeps the finished videos, so that a killed run can go on.

A results folder holds `setup.json`, which says what is being evaluated, and `progress/rank-N.jsonl`, with one line for
each finished video. Each rank writes its own file and reads all of them at the start. Any number of ranks can therefore
go on. A folder with another setup is refused, so that results of two setups are never mixed.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data.folder_lock import LOCK_FILE
from ..data.output_files import replace_file, storable
from ..data.text_files import content_errors
from .protocols import EvaluationError


SETUP_FILE, PREDICTIONS_FILE = "setup.json", "predictions.parquet"


@dataclass(frozen=True)
class VideoResult:
    """
    The result of one video.

    Attributes:
        name (`str`): its path within the folder of the videos.
        status (`str`): `"ok"`, `"missing"` (no such file) or `"failed"` (it cannot be read).
        reason (`str`): why it is missing or failed.
        scores (`dict`): by row (`"vita_clip"`, `"frozen_clip"`) and split, the best classes and their scores.
        stamp (`str`, *optional*): size and time of change of the file that was read, to notice a changed file. `None`
            for an address or a missing file.
        attempt (`int`): how many attempts there were before. The result of the last attempt counts.
    """

    name: str
    status: str
    reason: str = ""
    scores: dict[str, dict[str, tuple[list[int], list[float]]]] = field(default_factory=dict)
    stamp: str | None = None
    attempt: int = 0


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file in one step: a killed run leaves the old file or the new one, never half a file.

    Raises:
        OSError: the file cannot be written.
        ValueError: a number that JSON does not have (NaN or infinity).
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(file, lambda beside: beside.write_text(storable(text) + "\n", encoding="utf-8"))


def fingerprint_of_json(content: Any) -> str:
    """SHA-256 of plain data. The order of a table's entries does not matter."""
    return hashlib.sha256(storable(json.dumps(content, sort_keys=True, ensure_ascii=False)).encode()).hexdigest()


class EvaluationLog:
    """
    The finished videos of one results folder.

    Args:
        folder (`Path` or `str`): the results folder.
        setup (`Mapping`): plain data that says what is evaluated. Two runs can share a folder if their setup is equal.

    Raises:
        EvaluationError: the folder holds results of another setup, other files, or damaged ones.
    """

    def __init__(self, folder: Path | str, setup: Mapping):
        self.folder = Path(folder)
        self.setup = json.loads(json.dumps(setup))
        self.finished: dict[str, VideoResult] = {}
        file = self.folder / SETUP_FILE
        if file.exists():
            with content_errors(f"{file}: is damaged; delete {file.parent} to start anew", EvaluationError):
                other = {**json.loads(file.read_bytes())}
            different = [name for name in self.setup | other if self.setup.get(name) != other.get(name)]
            if different:
                raise EvaluationError(
                    f"{folder}: holds results of another setup (different: {', '.join(different)[:500]}); choose "
                    "another `output`, or delete the folder to start anew."
                )
        elif any(not entry.name.startswith((LOCK_FILE, ".new-")) for entry in self.folder.glob("*")):
            raise EvaluationError(f"{folder}: is not empty and holds no evaluation; choose another `output`.")
        self.read()

    def read(self) -> None:
        """Reads what all ranks have written by now.

        Raises:
            EvaluationError: a file is damaged.
        """
        for file in sorted(self.folder.glob("progress/rank-*.jsonl")):
            with content_errors(f"{file}: is damaged; delete {file.parent} to start anew", EvaluationError):
                results = [VideoResult(**json.loads(line)) for line in file.read_bytes().split(b"\n")[:-1]]
            for result in results:
                earlier = self.finished.get(result.name)  # may come from the file of another rank
                if earlier is None or result.attempt >= earlier.attempt:
                    self.finished[result.name] = result

    def write_setup(self) -> None:
        """Makes the folder and its `setup.json`. Only one rank may call this, after all have checked the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / SETUP_FILE, self.setup)

    @contextmanager
    def writer(self, rank: int) -> Iterator[Callable[[Sequence[VideoResult]], None]]:
        """A function that appends results to the file of one rank; they are on the disk when it returns."""
        (self.folder / "progress").mkdir(exist_ok=True)
        with open(self.folder / "progress" / f"rank-{rank}.jsonl", "a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # a line that a killed run left unfinished

            def append(results: Sequence[VideoResult]) -> None:
                for result in results:
                    earlier = self.finished.get(result.name)
                    numbered = replace(result, attempt=0 if earlier is None else earlier.attempt + 1)
                    file.write(storable(json.dumps(asdict(numbered), ensure_ascii=False) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())

            yield append
