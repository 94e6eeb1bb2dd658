"""The log of a running evaluation. It keeps the finished videos, so that a killed run can go on.

A results folder holds `setup.json`, which says what is being evaluated, and `progress/rank-N.jsonl`, with one line for
each finished video. Each rank writes its own file and reads all of them at the start. Any number of ranks can therefore
go on. A folder with another setup is refused, so that results of two setups are never mixed.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..data.folder_lock import LOCK_FILE
from ..data.output_files import storable
from .result_files import fingerprint_of_json, write_json


SETUP_FILE = "setup.json"


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


class SetupMismatchError(ValueError):
    """The results folder holds something else than this evaluation; the message is one line."""


def _flat(setup: Mapping) -> dict[str, str]:
    """Every entry as text; an entry of a table is named after it: `protocol.views`."""
    flat: dict[str, str] = {}
    for name, value in setup.items():
        entries = {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {name: value}
        flat |= {key: json.dumps(entry, sort_keys=True) for key, entry in entries.items()}
    return flat


class EvaluationLog:
    """
    The finished videos of one results folder.

    Args:
        folder (`Path` or `str`): the results folder.
        setup (`Mapping`): plain data that says what is evaluated. Two runs can share a folder if their setup is equal.

    Raises:
        SetupMismatchError: the folder holds results of another setup, other files, or damaged ones.
    """

    def __init__(self, folder: Path | str, setup: Mapping):
        self.folder = Path(folder)
        self.setup = json.loads(json.dumps(setup))
        self.finished: dict[str, VideoResult] = {}
        self._check_setup()
        self.read()

    def _check_setup(self) -> None:
        file = self.folder / SETUP_FILE
        if not file.exists():
            partial = f"{SETUP_FILE}.partial"  # of a run that was killed while it wrote the setup
            if self.folder.exists() and any(
                entry.name != partial and not entry.name.startswith(LOCK_FILE) for entry in self.folder.iterdir()
            ):
                raise SetupMismatchError(
                    f"{self.folder}: is not empty and holds no evaluation; choose another `output`."
                )
            return
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(there, dict):
                raise ValueError("no table")
        except (ValueError, RecursionError) as error:
            raise SetupMismatchError(
                f"{file}: is damaged ({error!s:.200}); delete the folder to start anew."
            ) from error
        different = sorted(dict({*_flat(there).items()} ^ {*_flat(self.setup).items()}))
        if different:
            names = ", ".join(different)[:500]
            raise SetupMismatchError(
                f"{self.folder}: holds results of another setup (different: {names}); choose another `output`, or "
                "delete the folder to start anew."
            )

    def read(self) -> None:
        """Reads what all ranks have written by now.

        Raises:
            SetupMismatchError: a file that is damaged or belongs to another setup.
        """
        expected = fingerprint_of_json(self.setup)
        for file in sorted(self.folder.glob("progress/rank-*.jsonl")):
            lines = [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
            try:
                rows = [json.loads(line) for line in lines]
                results = [VideoResult(**row) for row in rows[1:]]
            except (TypeError, ValueError, RecursionError) as error:
                raise SetupMismatchError(
                    f"{file}: is damaged ({error!s:.200}); delete it to do its videos again."
                ) from error
            if rows and rows[0] != {"setup": expected}:
                raise SetupMismatchError(f"{file}: belongs to another setup; delete the folder to start anew.")
            for result in results:
                earlier = self.finished.get(result.name)  # may come from the file of another rank
                if earlier is None or result.attempt >= earlier.attempt:
                    self.finished[result.name] = result

    def numbered(self, results: Sequence[VideoResult]) -> list[VideoResult]:
        """The results as the next attempt at their videos."""
        tried = [self.finished[result.name].attempt + 1 if result.name in self.finished else 0 for result in results]
        return [replace(result, attempt=attempt) for result, attempt in zip(results, tried, strict=True)]

    def write_setup(self) -> None:
        """Makes the folder and its `setup.json`. Only one rank may call this, after all have checked the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / SETUP_FILE, self.setup)
        (self.folder / "progress").mkdir(exist_ok=True)

    def writer(self, rank: int) -> "LogWriter":
        """The file of one rank, to append to."""
        return LogWriter(self.folder / "progress" / f"rank-{rank}.jsonl", fingerprint_of_json(self.setup))


class LogWriter:
    """Appends to one rank's file. A line that a killed run left unfinished is cut off first."""

    def __init__(self, file: Path, setup: str):
        content = file.read_bytes() if file.exists() else b""
        if not content.endswith(b"\n") and content:
            with open(file, "r+b") as stream:
                stream.truncate(content.rfind(b"\n") + 1)
        self._stream = open(file, "ab")  # noqa: SIM115  closed in `__exit__`
        if self._stream.tell() == 0:
            self._write([{"setup": setup}])

    def _write(self, rows: Sequence[Mapping]) -> None:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self._stream.write(storable(lines).encode())
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def append(self, results: Sequence[VideoResult]) -> None:
        """Writes the results of one batch; they are on the disk when this returns."""
        self._write([asdict(result) for result in results])

    def __enter__(self) -> "LogWriter":
        return self

    def __exit__(self, *_) -> None:
        self._stream.close()


__all__ = ["EvaluationLog", "SetupMismatchError", "VideoResult"]
