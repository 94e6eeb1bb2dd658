"""One run at a time in an output folder: a lock file that says who works there.

The file is touched every few seconds. A lock of this machine counts while its process lives; a lock of another machine
counts while the file is touched. So a run that was killed never keeps the next one out, on whatever machine it starts.
"""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


LOCK_FILE = ".vitaclip.lock"
TOUCHED_EVERY = 10.0  # seconds
SILENT_FOR = 60.0  # seconds after which a lock of another machine counts as left behind


class FolderInUseError(OSError):
    """Another run works in the folder; the message names it."""


class FolderLock:
    """
    Holds a folder, as a context manager.

    Args:
        folder (`str` or `Path`): the output folder; it is made if it does not exist.
        what (`str`): what works there, such as `"training"`.

    Raises:
        FolderInUseError: another run works there.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike, what: str):
        self.file, self.what = Path(folder, LOCK_FILE), what
        self._stopped = threading.Event()

    def __enter__(self) -> "FolderLock":
        self._is_new = not self.file.parent.exists()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        while not self._take():
            holder = self._holder()
            if holder is not None and self._is_alive(holder):
                raise FolderInUseError(self._message(holder))
            # Its run is over. Of several that find this, one takes the file away and all try again.
            with suppress(FileNotFoundError):
                self.file.rename(self.file.with_name(f"{LOCK_FILE}.{os.getpid()}"))
                self.file.with_name(f"{LOCK_FILE}.{os.getpid()}").unlink()
        threading.Thread(target=self._touch, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stopped.set()
        with suppress(OSError):
            if (self._holder() or {}).get("pid") == os.getpid():
                self.file.unlink()
            if self._is_new:
                self.file.parent.rmdir()  # only if nothing was written there

    def _take(self) -> bool:
        about = {
            "what": self.what,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "process_started": _start_of(os.getpid()),
        }
        # Written beside and linked, so that nobody finds half a file.
        own = self.file.with_name(f"{LOCK_FILE}.{socket.gethostname()[:50]}.{os.getpid()}")
        own.write_text(json.dumps(about) + "\n", encoding="utf-8")
        try:
            os.link(own, self.file)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            return self._take_without_links(about)
        finally:
            own.unlink(missing_ok=True)
        return True

    def _take_without_links(self, about: dict[str, Any]) -> bool:
        try:
            with self.file.open("x", encoding="utf-8") as file:
                file.write(json.dumps(about) + "\n")
        except FileExistsError:
            return False
        return True

    def _holder(self) -> dict[str, Any] | None:
        """What the file says; None if it is gone or damaged."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        is_record = isinstance(found, dict) and isinstance(found.get("pid"), int) and found["pid"] > 0
        return found if is_record else None

    def _is_alive(self, holder: dict[str, Any]) -> bool:
        if holder.get("host") == socket.gethostname():
            started = _start_of(holder["pid"])
            return started is not None and holder.get("process_started") in (None, started)
        before, deadline = self._touched(), time.monotonic() + SILENT_FOR
        while time.monotonic() < deadline:  # no clock of another machine is believed
            time.sleep(min(1.0, SILENT_FOR / 4))
            if self._touched() != before:
                return self._touched() is not None
        return False

    def _touched(self) -> int | None:
        with suppress(OSError), self.file.open("rb") as file:  # opened, since network file systems keep old times
            return os.fstat(file.fileno()).st_mtime_ns
        return None

    def _touch(self) -> None:
        while not self._stopped.wait(TOUCHED_EVERY):
            with suppress(OSError):
                os.utime(self.file)

    def _message(self, holder: dict[str, Any]) -> str:
        who = f"process {holder['pid']} on {holder.get('host')!s:.100}, since {holder.get('started')!s:.40}"
        return (
            f"{self.file.parent}: another {holder.get('what')!s:.40} works there ({who}); wait for its end, or choose "
            f"another folder. If it is over, delete {self.file}."
        )


def _start_of(pid: int) -> str | None:
    """When a process of this machine started, since numbers are used again; None if it does not exist."""
    try:
        # The name may hold spaces and brackets: count from the last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)  # elsewhere than on Linux
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


__all__ = ["FolderInUseError", "FolderLock"]
