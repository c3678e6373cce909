"""Status, headers and bytes of an answer → a typed outcome. Decodes only id, status, usage and error."""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

import msgspec

from runner.records import Failure, Reply, Usage, done_status
from runner.transport.outcomes import (
    PENDING,
    Accepted,
    CancelOutcome,
    Done,
    Gone,
    Outcome,
    Rejected,
    RetrieveOutcome,
    SubmitOutcome,
    Throttled,
    Transient,
    Unauthorised,
)
from runner.transport.retry_after import Headers, read_retry_after

MESSAGE_CHARS: Final = 1000
_A_PROXYS_WORDS: Final = (403, 404, 405, 410)
"""Where they come as a page or a line of text: a firewall that dislikes one request, a route that is missing
during a deployment. They say nothing of a job or a key."""
_ACCOUNT_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "account_deactivated"})


class Reader(Protocol[Outcome]):
    """The meaning of an answer to one sort of exchange; `now` in Unix seconds.

    `job_id` is the job that was asked about; empty where there is none yet.
    """

    def __call__(
        self, status: int, headers: Headers, body: bytes, now: float, job_id: str = "", /
    ) -> Outcome: ...


class _Head(msgspec.Struct, gc=False):
    """The few fields of a response object that a run acts on."""

    id: str | int | None = None
    status: Any = None
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    incomplete_details: msgspec.Raw = msgspec.Raw()


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = 0
    reasoning_tokens: int | None = 0


class _Tokens(msgspec.Struct, gc=False):
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_tokens = msgspec.json.Decoder(_Tokens, strict=False).decode
_decode_any = msgspec.json.Decoder().decode
_DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Unreadable(Exception):
    """A body that is no response object. `cause` is its sort."""

    def __init__(self, cause: str, message: str) -> None:
        self.cause = cause
        super().__init__(message)


def read_submit(status: int, headers: Headers, body: bytes, now: float, _: str = "") -> SubmitOutcome:
    """The meaning of an answer to a POST; `now` in Unix seconds, for a `Retry-After` that is a date."""
    if 200 <= status < 300:
        try:
            head, body = _read(body)
        except Unreadable as error:
            return _unreadable(error, status, ambiguous=True)
        ended = _done(status, headers, head, body)
        return ended or Accepted(id=str(head.id))
    return _refusal(status, headers, body, now) or _rejected(status, headers, body)


def read_retrieve(
    status: int, headers: Headers, body: bytes, now: float, job_id: str = ""
) -> RetrieveOutcome:
    """The meaning of an answer to a GET; `now` in Unix seconds.

    The answer must be about the job that was asked about: a service, or a proxy, that mixes answers up
    would put a wrong text under a row.
    """
    if 200 <= status < 300:
        try:
            head, body = _read(body, job_id)
        except Unreadable as error:
            return _unreadable(error, status, ambiguous=False)
        return _done(status, headers, head, body) or PENDING
    return _refusal(status, headers, body, now) or _gone(status, body)


def read_cancel(status: int, headers: Headers, body: bytes, now: float, job_id: str = "") -> CancelOutcome:
    """The meaning of an answer to a cancellation; what became of the job, a GET tells where this does not."""
    if 200 <= status < 300:
        try:
            head, body = _read(body, job_id)
        except Unreadable:
            return PENDING
        return _done(status, headers, head, body) or PENDING
    if status in (404, 405, 409, 410, 501):  # not this job, not any more, or not here at all
        return _rejected(status, headers, body)
    return _refusal(status, headers, body, now) or _rejected(status, headers, body)


def _read(body: bytes, job_id: str = "") -> tuple[_Head, bytes]:
    """The head of a response object, and the object as JSON on one line. Raises `Unreadable`."""
    if not body.strip():
        raise Unreadable("empty", "the answer has an empty body")
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise Unreadable("not_utf8", "the answer is not UTF-8: " + _snippet(body)) from None
    try:
        head = _decode_head(body)
    except msgspec.ValidationError as error:
        raise Unreadable("not_object", f"the answer is not a response object: {error}") from None
    except _DECODE_ERRORS:
        body = _mended(body)
        head = _decode_head(body)
    if head.id in (None, "", ".", ".."):  # dots would ask for another address
        raise Unreadable("no_id", "the answer has no id: " + _snippet(body))
    if job_id and str(head.id) != job_id:
        raise Unreadable("other_job", f"the answer is about another job, {str(head.id)[:80]!r}")
    if b"\n" in body or b"\r" in body:
        body = msgspec.json.format(body, indent=-1)
    return head, body


def _mended(body: bytes) -> bytes:
    """JSON as Python services write it (NaN, lone surrogates, a BOM) made strict. Raises `Unreadable`.

    Half an emoji at the end of a cut answer is a lone surrogate. The job is done and paid for:
    its text is kept with a replacement character rather than polled again for ever.
    """
    if body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        raise Unreadable("html", "the answer is a web page, not JSON: " + _snippet(body))
    try:
        value = json.loads(body.decode("utf-8-sig"), strict=False, parse_constant=lambda _: None)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        strict = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        _decode_head(strict)
    except (ValueError, RecursionError):
        raise Unreadable("not_json", "the answer is not JSON: " + _snippet(body)) from None
    return strict


def _done(status: int, headers: Headers, head: _Head, body: bytes) -> Done | None:
    ended = done_status(head.status) if isinstance(head.status, str) else None
    if ended is None:
        return None
    reply = Reply(status_code=status, request_id=headers.get("x-request-id"), body=msgspec.Raw(body))
    failure = None if ended == "completed" else _why(ended, status, head)
    return Done(status=ended, reply=reply, usage=read_usage(head.usage), failure=failure)


def _why(ended: str, status: int, head: _Head) -> Failure:
    if ended == "incomplete":
        details = _lenient(head.incomplete_details)
        reason = details.get("reason") if isinstance(details, dict) else None
        return Failure(type="incomplete", message=f"stopped by {reason or 'the service'}", status_code=status)
    error = _lenient(head.error)
    message, kind, code = _parts(error)
    message = message or f"the job ended {ended}"
    return Failure(type=kind or ended, message=message, status_code=status, code=code)


def read_usage(raw: msgspec.Raw) -> Usage:
    """The tokens of a response's usage object; zeros where it is absent, null or not as it should be."""
    try:
        tokens = _decode_tokens(raw)
    except _DECODE_ERRORS:
        return Usage()
    inputs, outputs = tokens.input_tokens_details, tokens.output_tokens_details
    return Usage(
        input=max(tokens.input_tokens or 0, 0),
        cached=max(inputs.cached_tokens or 0, 0) if inputs else 0,
        output=max(tokens.output_tokens or 0, 0),
        reasoning=max(outputs.reasoning_tokens or 0, 0) if outputs else 0,
    )


def _unreadable(error: Unreadable, status: int, *, ambiguous: bool) -> Transient:
    failure = Failure(type=error.cause, message=str(error), status_code=status)
    return Transient(cause=error.cause, failure=failure, ambiguous=ambiguous)


def _refusal(
    status: int, headers: Headers, body: bytes, now: float
) -> Throttled | Transient | Unauthorised | None:
    """What a status other than 2xx means alike to POST and GET; None where it concerns this one job."""
    failure, has_envelope = read_failure(status, body)
    wait_s = read_retry_after(headers, now)
    if status in _A_PROXYS_WORDS and not _strict_object(body):
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


def _gone(status: int, body: bytes) -> Gone | Transient:
    """A 404 is a job that is unknown; another 4xx is so only in the service's own words, not in a proxy's."""
    failure, has_envelope = read_failure(status, body)
    if has_envelope or status in (404, 410):
        return Gone(failure)
    return Transient(cause=str(status), failure=failure, ambiguous=False)


def _rejected(status: int, headers: Headers, body: bytes) -> Rejected:
    failure, has_envelope = read_failure(status, body)
    body = _strict_object(body)
    reply = None
    if body:
        one_line = msgspec.json.format(body, indent=-1)
        reply = Reply(status_code=status, request_id=headers.get("x-request-id"), body=msgspec.Raw(one_line))
    return Rejected(failure=failure, reply=reply, has_envelope=has_envelope)


def read_failure(status: int, body: bytes) -> tuple[Failure, bool]:
    """The service's own message, and whether it came in an `error` envelope, as an API's own errors do."""
    try:
        value = _decode_any(_strict(body))
    except (Unreadable, *_DECODE_ERRORS):
        value = None
    if isinstance(value, dict):
        error = value.get("error")
        message, kind, code = _parts(error or value)
        return Failure(
            type=kind or "error",
            message=message or f"HTTP {status}: {_snippet(body)}",
            status_code=status,
            code=code,
        ), bool(error)
    said = _snippet(body) or "an empty body"
    return Failure(type="error", message=f"HTTP {status}: {said}", status_code=status), False


def _strict(body: bytes) -> bytes:
    """`body` where it is strict JSON, else what can be mended of it. Raises `Unreadable`."""
    try:
        _decode_any(body)
    except _DECODE_ERRORS:
        if not body.strip():
            raise Unreadable("empty", "the answer has an empty body") from None
        return _mended(body)
    return body


def _strict_object(body: bytes) -> bytes:
    """`body` as a strict JSON object; empty where it is none."""
    try:
        strict = _strict(body)
    except Unreadable:
        return b""
    return strict if isinstance(_decode_any(strict), dict) else b""


def _parts(error: Any) -> tuple[str | None, str | None, str | int | None]:
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


def _lenient(raw: msgspec.Raw) -> Any:
    try:
        return _decode_any(raw)
    except _DECODE_ERRORS:
        return None


def _snippet(body: bytes) -> str:
    text = " ".join(body[:400].decode("utf-8", "replace").split())
    return text if len(text) <= 160 else text[:159] + "…"
