"""An object in a forked process that the system ends after some time: decoders can hang, and threads cannot be ended.

The process is a fork: it needs no imports, shares memory, and works in a data loader's workers, where `multiprocessing`
allows no children. Its time limit is a timer of its own, so that it holds when the parent has died too.
"""

import gc
import os
import signal
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any


MAX_SECONDS = 1e6  # of a timer


class ForkedObject:
    """
    An object that lives in a forked process.

    Args:
        make (`Callable`): makes the object, in that process.
        seconds (`float`): most time for making the object and for all calls together.

    Raises:
        ValueError: this system cannot fork.
    """

    def __init__(self, make: Callable[[], Any], seconds: float):
        if not hasattr(os, "fork"):
            raise ValueError("`max_seconds` needs a system with `fork`, such as Linux; leave it out here.")
        self._make, self._left = make, min(seconds, MAX_SECONDS)
        self._start()

    def _start(self) -> None:
        self._owner = os.getpid()
        self._connection, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            _serve(theirs, self._make, self._left)
        theirs.close()
        self._end = weakref.finalize(self, _end, pid, self._owner, self._connection)

    def call(self, method: str, *arguments: Any) -> Any:
        """
        The result of a method.

        Raises:
            TimeoutError: the time is used up; the process has ended.
            ChildProcessError: the process ended without an answer, for example because memory ran out.
            Exception: what the method raised.
        """
        if self._left <= 0:
            raise TimeoutError
        if not self._end.alive or self._owner != os.getpid():  # it has ended, or belongs to a parent
            self._start()
        try:
            self._connection.send((method, arguments))
            succeeded, result, self._left = self._connection.recv()
        except (EOFError, OSError):
            if self._end() == signal.SIGALRM:
                self._left = 0
                raise TimeoutError from None
            raise ChildProcessError("the decoding process ended") from None
        except KeyboardInterrupt:  # an answer that comes later would be taken for the next one
            self._end()
            raise
        if not succeeded:
            raise result
        return result


def _serve(connection: Connection, make: Callable[[], Any], left: float) -> None:
    """The whole life of the forked process. It ends with the connection, and runs no exit handlers of its parent."""
    try:
        gc.freeze()  # what the parent holds is not finalized here
        with suppress(OSError):  # a file or socket that the parent closes must not stay open here
            nowhere = os.open(os.devnull, os.O_RDWR)
            for number in map(int, os.listdir("/dev/fd")):
                if number > 2 and number not in (connection.fileno(), nowhere):
                    os.dup2(nowhere, number, inheritable=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the connection ends it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        served = None
        while True:
            method, arguments = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, left)
            try:
                served = served or make()
                answer = True, getattr(served, method)(*arguments)
            except Exception as error:  # raised again by `call`
                answer = False, error
            left = signal.setitimer(signal.ITIMER_REAL, 0)[0]
            connection.send((*answer, left))
    finally:
        os._exit(0)


def _end(pid: int, owner: int, connection: Connection) -> int | None:
    """Ends the process; the signal that ended it."""
    connection.close()
    if os.getpid() != owner:
        return None
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return None
