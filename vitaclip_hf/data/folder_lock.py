"""One run at a time in an output folder. The system frees the lock of a process that ends, however it ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


LOCK_FILE = ".vitaclip.lock"  # stays in the folder; removing it could let two runs in


class FolderInUseError(OSError):
    """Another run works in the folder; the message names it."""


@contextmanager
def folder_lock(folder: str | os.PathLike, what: str) -> Iterator[None]:
    """
    Holds a folder.

    Args:
        folder (`str` or `Path`): the output folder; it is made if it does not exist.
        what (`str`): what works there, such as `"training"`, for the message.

    Raises:
        FolderInUseError: another run works there.
        OSError: the folder cannot be written.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(Path(folder) / LOCK_FILE).acquire(timeout=0)
    except Timeout as error:
        raise FolderInUseError(
            f"{folder}: another run works there, so {what} cannot start; wait for its end, or choose another folder."
        ) from error
    with held:
        yield
