"""What was found on a GPU, kept in a file from the first figure on, and limits of time."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


START = time.monotonic()


class TimeIsUpError(BaseException):
    """Of a part. No `Exception`, so that nothing on the way takes it for an error of its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `TimeIsUpError` within the block after that many seconds; an outer limit goes on counting."""

    def stop(*_) -> None:
        raise TimeIsUpError

    start, outer = time.monotonic(), signal.getitimer(signal.ITIMER_REAL)[0]
    handler = signal.signal(signal.SIGALRM, stop)
    try:
        # Again every 5 s: one that is raised within a destructor is lost.
        signal.setitimer(signal.ITIMER_REAL, max(min(seconds, outer or seconds), 1e-3), 5)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - start), 1e-3), 5)


class Record:
    """What was found, written to the file each time that something is added."""

    def __init__(self, results: dict, output: Path | None):
        self.results, self.output = results, output
        self.part: dict = {}

    def begin(self, name: str) -> None:
        self.part = self.results["parts"][name] = {"seconds": None, "error": None, "checks": [], "measurements": []}
        self.write()

    def check(self, name: str, passed: bool | None, **figures) -> None:
        """`passed` is `None` for a figure that is not judged, or that could not be had here."""
        self.part["checks"].append({"name": name, "passed": passed, **figures})
        self.write(f"{name}: {passed} {figures}")

    def measurement(self, name: str, contenders: list[dict], **settings) -> None:
        self.part["measurements"].append({"name": name, **settings, "contenders": contenders})
        self.write(
            f"{name}: " + ", ".join(f"{c['name']} {c.get('median_ms', float('nan')):.2f} ms" for c in contenders)
        )

    def write(self, line: str | None = None) -> None:
        if line is not None:
            print(f"[{time.monotonic() - START:5.0f} s] {line}", file=sys.stderr, flush=True)
        if self.output is not None:
            self.output.write_text(json.dumps(self.results, indent=2) + "\n", encoding="utf-8")
