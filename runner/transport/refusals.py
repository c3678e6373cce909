"""What an answer other than a success means, and the words that the service has for it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from runner.records import Failure, Reply
from runner.transport.bodies import DECODE_ERRORS, Unreadable, decode_any, snippet, strict, strict_object
from runner.transport.outcomes import Gone, Rejected, Throttled, Transient, Unauthorised
from runner.transport.retry_after import Headers, read_retry_after

MESSAGE_CHARS: Final = 1000
_A_PROXYS_WORDS: Final = (403, 404, 405, 410)
"""Where they come as a page or a line of text: a firewall that dislikes one request, a route that is missing
during a deployment. They say nothing of a job or a key."""
_ACCOUNT_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "account_deactivated"})


def refusal(
    status: int, headers: Headers, body: bytes, now: float
) -> Throttled | Transient | Unauthorised | None:
    """What a status other than 2xx means alike to POST and GET; None where it concerns this one job."""
    failure, has_envelope = read_failure(status, body)
    wait_s = read_retry_after(headers, now)
    if status in _A_PROXYS_WORDS and not strict_object(body):
        return Transient(cause=str(status), failure=failure, ambiguous=False, wait_s=wait_s)
    if status in (401, 402, 403) or (status == 429 and {failure.code, failure.type} & _ACCOUNT_CODES):
        return Unauthorised(failure)
    if status in (429, 529) or (status == 503 and wait_s is not None):
        return Throttled(cause=str(status), wait_s=wait_s, failure=failure)
    if status < 400:
        target = headers.get("location")
        said = f"HTTP {status}: redirected to {target}" if target else f"HTTP {status} is not an answer"
        moved = Failure(type="redirect", message=said[:MESSAGE_CHARS], status_code=status)
        return Transient(cause="redirect", failure=moved, ambiguous=False)
    if status >= 500 or status in (408, 409, 425):
        # A 500 is a definite no. Of what a gateway could not hear from behind it, nothing is known.
        ambiguous = status in (408, 409, 502, 504) or 520 <= status <= 527
        return Transient(str(status), failure, ambiguous, wait_s, is_spoken=has_envelope)
    return None


def gone(status: int, body: bytes) -> Gone | Transient:
    """A 404 is a job that is unknown; another 4xx is so only in the service's own words, not in a proxy's."""
    failure, has_envelope = read_failure(status, body)
    if has_envelope or status in (404, 410):
        return Gone(failure)
    return Transient(cause=str(status), failure=failure, ambiguous=False)


def rejected(status: int, headers: Headers, body: bytes) -> Rejected:
    """A definite no, with the service's whole answer."""
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
    """A success that does not say what it should."""
    failure = Failure(type=error.cause, message=str(error), status_code=status)
    return Transient(cause=error.cause, failure=failure, ambiguous=ambiguous)


def read_failure(status: int, body: bytes) -> tuple[Failure, bool]:
    """The service's own message, and whether it came in an `error` envelope, as an API's own errors do."""
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
    """(message, type, code) of an error in any of the shapes that services use."""
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
