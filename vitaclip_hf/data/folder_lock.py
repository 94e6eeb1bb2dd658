"""One run at a time in an output folder. The system frees the lock of a process that ends, however it ends."""

import os
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


LOCK_FILE = ".vitaclip.lock"  # stays in the folder; removing it could let two runs in


class FolderInUseError(OSError):
    """Another run works in the folder; the message names it."""


class FolderLock:
    """
    Holds a folder, as a context manager.

    Args:
        folder (`str` or `Path`): the output folder; it is made if it does not exist.
        what (`str`): what works there, such as `"training"`, for the message.

    Raises:
        FolderInUseError: another run works there.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike, what: str):
        self.folder, self.what = Path(folder), what
        self._lock = FileLock(self.folder / LOCK_FILE)

    def __enter__(self) -> "FolderLock":
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise FolderInUseError(
                f"{self.folder}: another run works there, so {self.what} cannot start; wait for its end, or choose "
                "another folder."
            ) from error
        return self

    def __exit__(self, *_: Any) -> None:
        self._lock.release()


__all__ = ["FolderInUseError", "FolderLock"]
