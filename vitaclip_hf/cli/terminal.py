"""
What may reach a terminal: names of files and classes can hold its control sequences, or bytes that are not UTF-8.

And what comes from there: Ctrl-C.
"""

import os
import re
import signal
import sys
from threading import Timer
from typing import Any

from ..model.shown_names import shown


# Progress bars and logs move within a line and have colors; nothing else of a longer text is passed on.
_COMMANDS = re.compile(r"(\x1b\[[0-9;]*m)|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_BAR_MOVES = re.compile(r"\n*(\x1b\[A)*")  # what tqdm writes alone, to go to the line of a bar and back


def guard_streams() -> None:
    """
    Makes standard output and errors take any name.

    Bytes that are not UTF-8 are written as `\\udcff`. On a terminal, control sequences that only a name would hold,
    such as those that set the window's title or the clipboard, are spelled out; files and pipes get them as they are.
    """
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        if stream is not None and stream.isatty() and not isinstance(stream, _Guarded):
            setattr(sys, name, _Guarded(stream))


def interrupt_again(ignored: Any) -> None:
    """A `sys.unraisablehook`: a Ctrl-C that falls into a finalizer, where Python drops errors, comes once more."""
    if ignored.exc_type is KeyboardInterrupt:
        Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(ignored)


class _Guarded:
    """A stream that writes control characters as they are spelled."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        is_move = _BAR_MOVES.fullmatch(text)
        self._stream.write(text if is_move else _COMMANDS.sub(lambda found: found[1] or shown(found[0]), text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)
