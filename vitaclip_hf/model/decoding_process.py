"""An object in a forked process that the system ends after some time: decoders can hang, and threads cannot be ended.

A fork works in a data loader's workers, where `multiprocessing` allows no children. It serves one object after the
other, since a fork for each costs twice the decoding of a clip. Its own timer ends it, even without a living parent.
"""

import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any


class _Process:
    forking = threading.Lock()  # filelock, which huggingface_hub loads, refuses a fork during another thread's

    def __init__(self) -> None:
        if not hasattr(os, "fork"):
            raise ValueError("`max_seconds` needs a system with `fork`, such as Linux; leave it out here.")
        self.connection, theirs = Pipe()
        with _Process.forking:
            self.owner, pid = os.getpid(), os.fork()
            if pid == 0:
                _serve(theirs)
        theirs.close()
        self.end = weakref.finalize(self, _end, pid, self.owner, self.connection)

    @property
    def is_usable(self) -> bool:
        return self.end.alive and self.owner == os.getpid()


if hasattr(os, "register_at_fork"):  # in a fork by somebody else, no thread would release the lock
    os.register_at_fork(after_in_child=lambda: setattr(_Process, "forking", threading.Lock()))

IDLE: list[_Process] = []  # wait for the next object


class ForkedObject:
    """An object that `make` (it can be pickled) makes in a forked process; it and all calls have `seconds` together."""

    def __init__(self, make: Callable[[], Any], seconds: float):
        self._make, self._left = make, min(seconds, 1e6)
        self._process: _Process | None = None

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of a method; `TimeoutError` or, without an answer, `ChildProcessError` if the process ended."""
        if self._left <= 0:
            raise TimeoutError
        make, process = None, self._process
        if process is None or not process.is_usable:
            usable = (idle for idle in iter(lambda: IDLE.pop() if IDLE else None, None) if idle.is_usable)
            make, self._process = self._make, next(usable, None) or _Process()
            process = self._process
            weakref.finalize(self, IDLE.append, process).atexit = False
        try:
            process.connection.send((make, self._left, method, arguments))
            succeeded, *result, self._left = process.connection.recv()
        except (EOFError, OSError):
            if process.end() == signal.SIGALRM:
                self._left = 0
                raise TimeoutError from None
            raise ChildProcessError("the decoding process ended") from None
        except BaseException:  # an answer that comes later would be taken for the next one
            process.end()
            raise
        if not succeeded:
            raise result.pop()  # if it stayed here, it and this frame would keep each other, and the process
        return result[0]


def _serve(connection: Connection) -> None:
    """The whole life of the forked process. It ends with the connection, and runs no exit handlers of its parent."""
    try:
        gc.freeze()  # what the parent holds is not finalized here
        threading.excepthook = lambda _: None  # LanceDB starts its own again, which loses its files
        with suppress(OSError):  # a file or socket that the parent closes must not stay open here
            nowhere = os.open(os.devnull, os.O_RDWR)
            for number in map(int, os.listdir("/dev/fd")):
                if number > 2 and number not in (connection.fileno(), nowhere):
                    os.dup2(nowhere, number, inheritable=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the connection ends it
        for ending in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(ending, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        served = None
        while True:
            make, left, method, arguments = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, left)
            try:
                served = served if make is None else make()
                answer = True, getattr(served, method)(*arguments)
            except Exception as error:  # raised again by `call`
                answer = False, error
            connection.send((*answer, signal.setitimer(signal.ITIMER_REAL, 0)[0]))
    finally:
        os._exit(0)


def _end(pid: int, owner: int, connection: Connection) -> int | None:
    """Ends the process; the signal that ended it."""
    connection.close()
    if os.getpid() == owner:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return None
