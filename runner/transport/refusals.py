"""Turns answers other than a success into outcomes, with the service's own words for it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from runner.records import Failure, Reply
from runner.transport.bodies import DECODE_ERRORS, Unreadable, decode_any, snippet, strict, strict_object
from runner.transport.outcomes import Gone, Rejected, Throttled, Transient, Unauthorised
from runner.transport.retry_after import Headers, read_retry_after

MESSAGE_CHARS: Final = 1000
_ALSO_OF_PROXIES: Final = (403, 404, 405, 410)
"""Statuses that say nothing about a job or a key unless they come with JSON.

As a page or a line of text they come from a proxy: a firewall that blocks one request, or a route that is
missing during a deployment.
"""
_ACCOUNT_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "account_deactivated"})


def refusal(
    status: int, headers: Headers, body: bytes, now: float
) -> Throttled | Transient | Unauthorised | None:
    """Return the outcome of a status other than 2xx, or None if it is a definite no to this one exchange."""
    failure, has_envelope = read_failure(status, body)
    wait_s = read_retry_after(headers, now)
    if status in _ALSO_OF_PROXIES and not strict_object(body):
        return Transient(cause=str(status), failure=failure, ambiguous=False, wait_s=wait_s)
    if status in (401, 402, 403) or (status == 429 and {failure.code, failure.type} & _ACCOUNT_CODES):
        return Unauthorised(failure)
    if status in (429, 529) or (status == 503 and wait_s is not None):
        return Throttled(cause=str(status), wait_s=wait_s, failure=failure)
    if status < 400:
        target = headers.get("location")
        said = f"HTTP {status}: redirected to {target}" if target else f"HTTP {status} is not a final answer"
        moved = Failure(type="redirect", message=said[:MESSAGE_CHARS], status_code=status)
        return Transient(cause="redirect", failure=moved, ambiguous=False)
    if status >= 500 or status in (408, 409, 425):
        # A 500 is a definite no. A gateway that had no answer does not know whether the service accepted.
        ambiguous = status in (408, 409, 502, 504) or 520 <= status <= 527
        return Transient(str(status), failure, ambiguous, wait_s, is_spoken=has_envelope)
    return None


def gone(status: int, body: bytes) -> Gone | Transient:
    """Return `Gone` for a 404 or 410, and for another 4xx if it comes in the service's own JSON."""
    failure, has_envelope = read_failure(status, body)
    if has_envelope or status in (404, 410):
        return Gone(failure)
    return Transient(cause=str(status), failure=failure, ambiguous=False)


def rejected(status: int, headers: Headers, body: bytes) -> Rejected:
    """Return a definite no, with the whole answer of the service."""
    failure, has_envelope = read_failure(status, body)
    body = strict_object(body)
    reply = param = None
    if body:
        one_line = msgspec.json.format(body, indent=-1)
        reply = Reply(status_code=status, request_id=headers.get("x-request-id"), body=msgspec.Raw(one_line))
        error = decode_any(body).get("error")
        param = error.get("param") if isinstance(error, dict) else None
    return Rejected(
        failure=failure,
        reply=reply,
        has_envelope=has_envelope,
        param=param[:MESSAGE_CHARS] if isinstance(param, str) else None,
    )


def unreadable(error: Unreadable, status: int, *, ambiguous: bool) -> Transient:
    """Return the outcome of a success whose body cannot be read."""
    failure = Failure(type=error.cause, message=str(error), status_code=status)
    return Transient(cause=error.cause, failure=failure, ambiguous=ambiguous)


def read_failure(status: int, body: bytes) -> tuple[Failure, bool]:
    """Return the service's own message, and whether it came in an `error` envelope, as an API's errors do."""
    try:
        value = decode_any(strict(body))
    except (Unreadable, *DECODE_ERRORS):
        value = None
    if isinstance(value, dict):
        error = value.get("error")
        message, kind, code = error_parts(error or value)
        return Failure(
            type=kind or "error",
            message=message or f"HTTP {status}: {snippet(body)}",
            status_code=status,
            code=code,
        ), bool(error)
    said = snippet(body) or "an empty body"
    return Failure(type="error", message=f"HTTP {status}: {said}", status_code=status), False


def error_parts(error: Any) -> tuple[str | None, str | None, str | int | None]:
    """Return (message, type, code) of an error in any of the shapes that services use."""
    if isinstance(error, str):
        return error[:MESSAGE_CHARS], None, None
    if not isinstance(error, dict):
        return None, None, None
    message = error.get("message") or error.get("detail")
    if message is not None and not isinstance(message, str):
        message = msgspec.json.encode(message).decode()
    kind, code = error.get("type"), error.get("code")
    return (
        message[:MESSAGE_CHARS] if message else None,
        kind if isinstance(kind, str) else None,
        code if isinstance(code, str | int) and not isinstance(code, bool) else None,
    )
