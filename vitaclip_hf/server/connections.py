"""Connections of the server. One that sends no whole request is closed: uvicorn has no time limit for headers."""

import resource
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedProtocol(H11Protocol):
    """HTTP connections, each closed after a time in which no request was in work."""

    seconds = 30.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.seconds, self._check, None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _check(self, before: Any) -> None:
        if self.cycle is before and (before is None or before.response_complete):
            self.transport.close()
        else:
            self._timer = self.loop.call_later(self.seconds, self._check, self.cycle)


def raise_open_files() -> None:
    """Lets this process open as many files as the system allows, since each connection is one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError):  # macOS has no limit, and takes no such number
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
