"""Exceptions of the HTTP library → `Transient`, the same for both transports."""

from __future__ import annotations

from typing import Final

import aiohttp

from runner.records import Failure
from runner.transport.outcomes import Transient
from runner.transport.scrub import Scrubber

CONNECT_SHARE: Final = 0.9
"""Of the whole deadline, for making a connection: so that one that was never made is told from a silent one."""
DETAIL_CHARS: Final = 160

_SENTENCES: Final = {
    "connect": "no connection could be made",
    "timeout": "no answer within target.timeout_s",
    "cut": "the answer was cut off",
    "not_http": "the answer is not HTTP",
    "reset": "the connection was closed before an answer came",
}


def transient(error: BaseException, scrub: Scrubber) -> Transient:
    """The outcome of an exchange that ended in an exception instead of an answer.

    Only an exchange that never got a connection is known not to have reached the service.
    """
    root = _root(error)
    cause = _cause(root)
    # Some exceptions have no text of their own, and some quote what was received, over many lines.
    detail = " ".join(scrub.text(str(root)).split())[:DETAIL_CHARS]
    name = type(root).__name__
    message = f"{_SENTENCES[cause]} ({name}: {detail})" if detail else f"{_SENTENCES[cause]} ({name})"
    message = message.encode("utf-8", "replace").decode()
    failure = Failure(type=cause, message=message)
    return Transient(cause=cause, failure=failure, ambiguous=cause != "connect")


def _cause(error: BaseException) -> str:
    match error:
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
    """The HTTP library's own exception under those of the SDK, which calls every one a connect timeout."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, aiohttp.ClientError | aiohttp.http_exceptions.HttpProcessingError):
            return seen
        seen = seen.__cause__
    return error
