"""Status, headers and bytes of an answer → a typed outcome. Decodes only id, status, usage and error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from runner.records import Failure, Reply, Usage, done_status
from runner.transport.bodies import DECODE_ERRORS, Unreadable, decoded, lenient, snippet
from runner.transport.outcomes import (
    PENDING,
    Accepted,
    CancelOutcome,
    Done,
    Outcome,
    RetrieveOutcome,
    SubmitOutcome,
)
from runner.transport.refusals import error_parts, gone, refusal, rejected, unreadable
from runner.transport.retry_after import Headers


class Reader(Protocol[Outcome]):
    """The meaning of an answer to one sort of exchange; `now` in Unix seconds.

    `job_id` is the job, or the batch, that was asked about; empty where there is none yet.
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


class _Result(_Head, gc=False):
    output: msgspec.Raw = msgspec.Raw()


_H = TypeVar("_H", bound=_Head)


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = 0
    reasoning_tokens: int | None = 0


class _Tokens(msgspec.Struct, gc=False):
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_result = msgspec.json.Decoder(_Result).decode
_decode_tokens = msgspec.json.Decoder(_Tokens, strict=False).decode


def read_submit(status: int, headers: Headers, body: bytes, now: float, _: str = "") -> SubmitOutcome:
    """The meaning of an answer to a POST; `now` in Unix seconds, for a `Retry-After` that is a date."""
    if 200 <= status < 300:
        try:
            head, body = _read(body, _decode_head)
        except Unreadable as error:
            return unreadable(error, status, ambiguous=True)
        ended = _done(status, headers, head, body)
        return ended or Accepted(id=str(head.id))
    return refusal(status, headers, body, now) or rejected(status, headers, body)


def read_retrieve(
    status: int, headers: Headers, body: bytes, now: float, job_id: str = ""
) -> RetrieveOutcome:
    """The meaning of an answer to a GET; `now` in Unix seconds.

    The answer must be about the job that was asked about: a service, or a proxy, that mixes answers up
    would put a wrong text under a row.
    """
    if 200 <= status < 300:
        try:
            head, body = _read(body, _decode_head, job_id)
        except Unreadable as error:
            return unreadable(error, status, ambiguous=False)
        return _done(status, headers, head, body) or PENDING
    return refusal(status, headers, body, now) or gone(status, body)


def read_result(status: int, headers: Headers, body: bytes, now: float, _: str = "") -> RetrieveOutcome:
    """As `read_retrieve`, for a request of a batch: its id, if it has one, was told to nobody before.

    An object that does not say how it stands is done by what it holds: the batch has said that it is.
    """
    if not 200 <= status < 300:
        return read_retrieve(status, headers, body, now)
    try:
        head, body = decoded(body, _decode_result, "a response object")
    except Unreadable as error:
        return unreadable(error, status, ambiguous=False)
    if head.status is None and lenient(head.error):
        head.status = "failed"
    elif head.status is None and lenient(head.output) is not None:
        head.status = "completed"
    return _done(status, headers, head, _one_line(body)) or PENDING


def read_cancel(status: int, headers: Headers, body: bytes, now: float, job_id: str = "") -> CancelOutcome:
    """The meaning of an answer to a cancellation; what became of the job, a GET tells where this does not."""
    if 200 <= status < 300:
        try:
            head, body = _read(body, _decode_head, job_id)
        except Unreadable:
            return PENDING
        return _done(status, headers, head, body) or PENDING
    if status in (404, 405, 409, 410, 501):  # not this job, not any more, or not here at all
        return rejected(status, headers, body)
    return refusal(status, headers, body, now) or rejected(status, headers, body)


def _read(body: bytes, decode: Callable[[bytes], _H], job_id: str = "") -> tuple[_H, bytes]:
    """The head of a response object, and the object as JSON on one line. Raises `Unreadable`."""
    head, body = decoded(body, decode, "a response object")
    check_id(head.id, job_id, body)
    return head, _one_line(body)


def _one_line(body: bytes) -> bytes:
    return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body


def check_id(found: str | int | None, asked: str, body: bytes, what: str = "job") -> None:
    """Raise `Unreadable` where `found` cannot be asked about, or is not the id that was asked about."""
    if found in (None, "", ".", ".."):  # dots would ask for another address
        raise Unreadable("no_id", "the answer has no id: " + snippet(body))
    if asked and str(found) != asked:
        raise Unreadable("other_job", f"the answer is about another {what}, {str(found)[:80]!r}")


def _done(status: int, headers: Headers, head: _Head, body: bytes) -> Done | None:
    ended = done_status(head.status) if isinstance(head.status, str) else None
    if ended is None:
        return None
    reply = Reply(status_code=status, request_id=headers.get("x-request-id"), body=msgspec.Raw(body))
    failure = None if ended == "completed" else _why(ended, status, head)
    return Done(status=ended, reply=reply, usage=read_usage(head.usage), failure=failure)


def _why(ended: str, status: int, head: _Head) -> Failure:
    if ended == "incomplete":
        details = lenient(head.incomplete_details)
        reason = details.get("reason") if isinstance(details, dict) else None
        return Failure(type="incomplete", message=f"stopped by {reason or 'the service'}", status_code=status)
    error = lenient(head.error)
    message, kind, code = error_parts(error)
    message = message or f"the job ended {ended}"
    return Failure(type=kind or ended, message=message, status_code=status, code=code)


def read_usage(raw: msgspec.Raw) -> Usage:
    """The tokens of a response's usage object; zeros where it is absent, null or not as it should be."""
    try:
        tokens = _decode_tokens(raw)
    except DECODE_ERRORS:
        return Usage()
    inputs, outputs = tokens.input_tokens_details, tokens.output_tokens_details
    return Usage(
        input=max(tokens.input_tokens or 0, 0),
        cached=max(inputs.cached_tokens or 0, 0) if inputs else 0,
        output=max(tokens.output_tokens or 0, 0),
        reasoning=max(outputs.reasoning_tokens or 0, 0) if outputs else 0,
    )
