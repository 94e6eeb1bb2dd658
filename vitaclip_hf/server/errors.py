"""Errors of requests as JSON."""

from collections.abc import Mapping

from fastapi.responses import JSONResponse


class RequestError(Exception):
    """
    A request that is answered with an error.

    Args:
        status (`int`): of HTTP.
        kind (`str`): a word for programs.
        message (`str`): a sentence for people.
        headers (`dict[str, str]`, *optional*): of the answer.
    """

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, headers

    def response(self) -> JSONResponse:
        """`{"error": {"type": …, "message": …}}`"""
        error = {"type": self.kind, "message": self.message[:1000]}
        return JSONResponse({"error": error}, self.status, headers=self.headers)


def overloaded(message: str, seconds: int = 1) -> RequestError:
    """503 with the seconds after which another try makes sense."""
    return RequestError(503, "overloaded", message, {"Retry-After": str(seconds)})
