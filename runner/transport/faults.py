"""Turns exceptions of the HTTP library into `Transient`, the same for both transports."""

from __future__ import annotations

import errno
import os
from typing import Final

import aiohttp

from runner.records import Failure
from runner.transport.outcomes import Transient
from runner.transport.scrub import Scrubber

CONNECT_SHARE: Final = 0.9
"""Share of the timeout within which a connection must be made.

It is below 1 so that a connection that was never made can be distinguished from a service that is silent.
"""
DETAIL_CHARS: Final = 160

_SENTENCES: Final = {
    "connect": "could not connect",
    "no_files": "no connection could be opened",
    "cut": "the answer was cut off",
    "not_http": "the answer is not HTTP",
    "reset": "the connection was closed before an answer arrived",
}


class Faults:
    """Translates exceptions; the messages contain neither the API key nor bytes that were received."""

    def __init__(self, scrub: Scrubber, timeout_s: float, setting: str = "target.timeout_s") -> None:
        self._scrub = scrub
        self._timeout = f"{timeout_s:g} s ({setting})"

    def transient(self, error: BaseException) -> Transient:
        """Return the outcome of an exchange that ended in an exception instead of an answer.

        Only an exchange that never had a connection is known not to have reached the service.
        """
        root = _root(error)
        cause = _cause(root)
        failure = Failure(type=cause, message=self._message(cause, root))
        return Transient(cause=cause, failure=failure, ambiguous=cause not in ("connect", "no_files"))

    def _message(self, cause: str, error: BaseException) -> str:
        if cause == "timeout":
            return f"no answer within {self._timeout}"
        detail = " ".join(self._scrub.text(_text(error)).split())[:DETAIL_CHARS]
        if not detail or not detail.isprintable() or any(mark in detail for mark in ("<", "\\", "^")):
            detail = type(error).__name__  # there is no text, or it quotes bytes that were received
        return f"{_SENTENCES[cause]} ({detail})"


def _text(error: BaseException) -> str:
    """Return the text of an error; for a failed connection the system's, which is shorter than aiohttp's."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error)
    number = error.os_error.errno or 0
    reason = os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    return f"{error.host}:{error.port}: {reason}"


def _cause(error: BaseException) -> str:
    match error:
        case aiohttp.ClientConnectorError() if error.os_error.errno in (errno.EMFILE, errno.ENFILE):
            return "no_files"
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return "connect"
        case aiohttp.ClientHttpProxyError() | aiohttp.InvalidURL():
            return "connect"
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientPayloadError():
            return "cut"
        case aiohttp.ClientResponseError() | aiohttp.http_exceptions.HttpProcessingError():
            return "not_http"
    return "reset"


def _root(error: BaseException) -> BaseException:
    """Return aiohttp's own exception below those of the SDK, which reports each as a connect timeout."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, aiohttp.ClientError | aiohttp.http_exceptions.HttpProcessingError):
            return seen
        seen = seen.__cause__
    return error
