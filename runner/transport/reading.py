"""Turns an answer into a typed outcome. Of a body it decodes only id, status, usage and error."""

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
    """A function that reads the answers to one kind of exchange."""

    def __call__(
        self, status: int, headers: Headers, body: bytes, now: float, job_id: str = "", /
    ) -> Outcome:
        """Return the outcome; `now` in Unix seconds.

        `job_id` is the job or the batch that the exchange is about; empty for a POST.
        """


class _Head(msgspec.Struct, gc=False):
    """The fields of a response object that a run acts on."""

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
    """Return the outcome of a POST; `now` in Unix seconds."""
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
    """Return the outcome of a GET; `now` in Unix seconds.

    An answer about another job than `job_id` is unreadable: a service or a proxy that mixes up answers would
    give a row the wrong text.
    """
    if 200 <= status < 300:
        try:
            head, body = _read(body, _decode_head, job_id)
        except Unreadable as error:
            return unreadable(error, status, ambiguous=False)
        return _done(status, headers, head, body) or PENDING
    return refusal(status, headers, body, now) or gone(status, body)


def read_result(status: int, headers: Headers, body: bytes, now: float, _: str = "") -> RetrieveOutcome:
    """Return the outcome of a GET of one request of a batch.

    The id is not checked, because it was not known before. An object without a status is done if it has an
    error or an output: the batch has reported that it is.
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
    """Return the outcome of a cancellation; a success that cannot be read is `Pending`: a later GET tells."""
    if 200 <= status < 300:
        try:
            head, body = _read(body, _decode_head, job_id)
        except Unreadable:
            return PENDING
        return _done(status, headers, head, body) or PENDING
    if status in (404, 405, 409, 410, 501):  # no such job, already ended, or cancellation is not supported
        return rejected(status, headers, body)
    return refusal(status, headers, body, now) or rejected(status, headers, body)


def _read(body: bytes, decode: Callable[[bytes], _H], job_id: str = "") -> tuple[_H, bytes]:
    """Return the head of a response object, and the object as JSON on one line. Raises `Unreadable`."""
    head, body = decoded(body, decode, "a response object")
    check_id(head.id, job_id, body)
    return head, _one_line(body)


def _one_line(body: bytes) -> bytes:
    return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body


def check_id(found: str | int | None, asked: str, body: bytes, what: str = "job") -> None:
    """Raise `Unreadable` if `found` is not a usable id, or not the one that was `asked` about."""
    if found in (None, "", ".", ".."):  # dots would change the path of the URL
        raise Unreadable("no_id", "the answer has no id: " + snippet(body))
    if asked and str(found) != asked:
        raise Unreadable("other_job", f"the answer is about another {what}, {str(found)[:80]!r}")


def _done(status: int, headers: Headers, head: _Head, body: bytes) -> Done | None:
    ended = done_status(head.status) if isinstance(head.status, str) else None
    if ended is None:
        return None
    reply = Reply(status_code=status, request_id=headers.get("x-request-id"), body=msgspec.Raw(body))
    failure = None if ended == "completed" else _failure_of(ended, status, head)
    return Done(status=ended, reply=reply, usage=read_usage(head.usage), failure=failure)


def _failure_of(ended: str, status: int, head: _Head) -> Failure:
    if ended == "incomplete":
        details = lenient(head.incomplete_details)
        reason = details.get("reason") if isinstance(details, dict) else None
        return Failure(type="incomplete", message=f"stopped by {reason or 'the service'}", status_code=status)
    error = lenient(head.error)
    message, kind, code = error_parts(error)
    message = message or f"the job ended {ended}"
    return Failure(type=kind or ended, message=message, status_code=status, code=code)


def read_usage(raw: msgspec.Raw) -> Usage:
    """Return the tokens of a response's usage object; zeros if it is absent, null or malformed."""
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
