"""A process of its own for decoding, so that a decoder that hangs can be ended; threads cannot.

Each thread that needs one gets one, and keeps it for all its videos. The process is a fork: it needs no imports, shares
memory, and works in the workers of a data loader too, where `multiprocessing` allows no children.
"""

import os
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any


class TimeLimitError(Exception):
    """There was no answer in time; the process was ended."""


class LostProcessError(Exception):
    """The process ended without an answer, for example because the system ran out of memory."""


class DecodingProcess:
    """A forked process that makes objects and calls their methods."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._connection, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            self._connection.close()
            _serve(theirs)
        theirs.close()
        self._forgotten: list[int] = []
        self._end = weakref.finalize(self, _end, pid, self._owner, self._connection)

    @classmethod
    def of_this_thread(cls) -> "DecodingProcess":
        """The process of this thread; a new one if it has none, or if the last one was ended."""
        process = getattr(_local, "process", None)
        if process is None or not process.is_usable:
            process = _local.process = cls()
        return process

    @property
    def is_usable(self) -> bool:
        """Whether it lives, and this process and no parent of it made it."""
        return self._end.alive and self._owner == os.getpid()

    def call(self, number: int, make: Callable[[], Any] | None, method: str, arguments: tuple, seconds: float) -> Any:
        """
        The result of a method.

        Args:
            number (`int`): of the object.
            make (`Callable`, *optional*): makes the object; needed once. Can be pickled.
            method (`str`), arguments (`tuple`): what to call.
            seconds (`float`): most time; the process is ended after it.

        Raises:
            TimeLimitError, LostProcessError: there is no answer; the process has ended.
            Exception: what the method raised.
        """
        try:
            self._connection.send((number, make, method, arguments, self._forgotten))
            self._forgotten = []
            if not self._connection.poll(seconds):
                self._end()
                raise TimeLimitError
            succeeded, result = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            self._end()
            raise LostProcessError("the decoding process ended") from error
        except KeyboardInterrupt:  # an answer that comes later would be taken for the next one
            self._end()
            raise
        if not succeeded:
            raise result
        return result

    def forget(self, number: int) -> None:
        """Drops an object, with the next call."""
        self._forgotten.append(number)


_local = threading.local()


class TimedObject:
    """
    An object in the decoding process of this thread, with a time limit.

    Args:
        make (`Callable`): makes the object. Can be pickled.
        seconds (`float`): most time for making the object and for all calls together.

    Raises:
        ValueError: `seconds` is not positive, or this system cannot fork.
    """

    def __init__(self, make: Callable[[], Any], seconds: float):
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            raise ValueError(f"`max_seconds` must be a positive number of seconds, got {seconds!r:.100}.")
        if not hasattr(os, "fork"):
            raise ValueError("`max_seconds` needs a system with `fork`, such as Linux; leave it out here.")
        self._make, self._left = make, min(float(seconds), 1e6)
        self._process: DecodingProcess | None = None

    def call(self, method: str, *arguments: Any) -> Any:
        """As [`DecodingProcess.call`]."""
        if self._left <= 0:
            raise TimeLimitError
        process, make = DecodingProcess.of_this_thread(), None
        if process is not self._process:  # new, or another video has ended the last one
            self._process, make = process, self._make
            weakref.finalize(self, process.forget, id(self))
        started = time.monotonic()
        try:
            return process.call(id(self), make, method, arguments, self._left)
        except LostProcessError:
            self._left = 0.0
            raise
        finally:
            self._left -= time.monotonic() - started


def _let_go_of_files(kept: int) -> None:
    """
    Files and sockets of the parent are no business of this process.

    What a server closes would stay open here, and its client would wait for ever. Their numbers stay taken, since
    objects of the parent may still close them.
    """
    with suppress(OSError):  # a system without /dev
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in map(int, os.listdir("/dev/fd")):
            if number > 2 and number not in (kept, nowhere):
                os.dup2(nowhere, number, inheritable=False)


def _serve(connection: Connection) -> None:
    """The whole life of the forked process. It ends with the connection, and runs no exit handlers of its parent."""
    try:
        _let_go_of_files(connection.fileno())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the connection ends it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        held: dict[int, Any] = {}
        while True:
            number, make, method, arguments, forgotten = connection.recv()
            for old in forgotten:
                held.pop(old, None)
            try:
                if make is not None:
                    held[number] = make()
                answer = pickle.dumps((True, getattr(held[number], method)(*arguments)), protocol=5)
            except Exception as error:  # raised again by `call`
                answer = pickle.dumps((False, error), protocol=5)
            connection.send_bytes(answer)
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)


def _end(pid: int, owner: int, connection: Connection) -> None:
    connection.close()
    if os.getpid() != owner:
        return
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
