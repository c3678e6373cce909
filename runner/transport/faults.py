"""Exceptions of the HTTP library → `Transient`, the same for both transports; the key kept out of text."""

from __future__ import annotations

import aiohttp

from runner.records import Failure
from runner.transport.outcomes import Transient


def transient(error: BaseException) -> Transient:
    """The outcome of an exchange that ended in an exception instead of an answer.

    Only an exchange that never got a connection is known not to have reached the service.
    """
    root = _root(error)
    cause, ambiguous = _cause(root)
    message = f"{type(root).__name__}: {root}".rstrip(": ")
    return Transient(cause=cause, failure=Failure(type=cause, message=message), ambiguous=ambiguous)


def _cause(error: BaseException) -> tuple[str, bool]:
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return "connect", False
        case TimeoutError():
            return "timeout", True
        case aiohttp.ClientPayloadError():
            return "cut", True
        case aiohttp.ClientResponseError() | aiohttp.http_exceptions.HttpProcessingError():
            return "not_http", True
    return "reset", True


def _root(error: BaseException) -> BaseException:
    """The HTTP library's own exception under those of the SDK, which calls every one a connect timeout."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, aiohttp.ClientError | aiohttp.http_exceptions.HttpProcessingError):
            return seen
        seen = seen.__cause__
    return error


class Scrubber:
    """Replaces the API key wherever a service echoes it."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def __call__(self, body: bytes) -> bytes:
        return body.replace(self._key, b"[API key]") if self._key in body else body
