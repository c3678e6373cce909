"""Turns answers about batches into typed outcomes. The map of statuses, often megabytes, is not decoded."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from runner.records import Failure
from runner.transport.bodies import Unreadable, decoded, lenient, snippet
from runner.transport.outcomes import (
    BatchEntry,
    BatchOutcome,
    Created,
    CreateOutcome,
    Listing,
    ListOutcome,
    Statuses,
    Transient,
    Unsupported,
)
from runner.transport.reading import check_id
from runner.transport.refusals import gone, read_failure, refusal, rejected, unreadable
from runner.transport.retry_after import Headers

LATEST_S: Final = 1e11
"""Unix seconds in the year 5138; a larger number is not a time."""


class _Batch(msgspec.Struct, gc=False):
    id: str | int | None = None
    request_counts: msgspec.Raw = msgspec.Raw()
    request_status: msgspec.Raw = msgspec.Raw()


class _Entry(msgspec.Struct, gc=False):
    id: str | int | None = None
    label: Any = None
    created_at: Any = None
    request_counts: msgspec.Raw = msgspec.Raw()


class _Page(msgspec.Struct):
    data: list[_Entry] | None


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_page = msgspec.json.Decoder(list[_Entry] | _Page | None).decode


def read_create(status: int, headers: Headers, body: bytes, now: float, _: str = "") -> CreateOutcome:
    """Return the outcome of the POST of a batch; `now` in Unix seconds."""
    if 200 <= status < 300:
        try:
            batch, body = decoded(body, _decode_batch, "a batch")
            check_id(batch.id, "", body)
        except Unreadable as error:
            return unreadable(error, status, ambiguous=True)
        return Created(id=str(batch.id), count=_count(batch.request_counts))
    return refusal(status, headers, body, now) or rejected(status, headers, body)


def read_statuses(status: int, headers: Headers, body: bytes, now: float, batch_id: str = "") -> BatchOutcome:
    """Return the outcome of the GET of a batch; an answer about another batch is unreadable."""
    if 200 <= status < 300:
        try:
            batch, body = decoded(body, _decode_batch, "a batch")
            check_id(batch.id, batch_id, body, "batch")
            status_map = _map(batch.request_status, body)
        except Unreadable as error:
            return unreadable(error, status, ambiguous=False)
        return Statuses(status_map)
    return refusal(status, headers, body, now) or gone(status, body)


def read_list(status: int, headers: Headers, body: bytes, now: float, _: str = "") -> ListOutcome:
    """Return the outcome of the GET of the list of batches, which not all services have.

    Any other definite no in the service's own words also counts as `Unsupported`, and so does JSON of another
    shape. An empty list may be written as null.
    """
    if 200 <= status < 300:
        try:
            page, _body = decoded(body, _decode_page, "a list of batches")
            entries = page.data if isinstance(page, _Page) else page
            return Listing(tuple(map(_entry, entries or ())))
        except Unreadable as error:
            if error.cause == "not_object":
                return Unsupported(Failure(type=error.cause, message=str(error), status_code=status))
            return unreadable(error, status, ambiguous=False)
    failure, has_envelope = read_failure(status, body)
    if status in (404, 405, 501):
        return Unsupported(failure)
    refused = refusal(status, headers, body, now)
    if refused is not None:
        return refused
    return Unsupported(failure) if has_envelope else Transient(str(status), failure, ambiguous=False)


def _map(found: msgspec.Raw, body: bytes) -> msgspec.Raw:
    """Return the map of statuses, empty if it is absent or null. Raises `Unreadable`."""
    begins = bytes(memoryview(found)[:1])
    if begins in (b"", b"n"):
        return msgspec.Raw(b"{}")
    if begins != b"{":
        raise Unreadable("not_object", "the answer has no map in request_status: " + snippet(body))
    return found


def _entry(entry: _Entry) -> BatchEntry:
    try:
        check_id(entry.id, "", b"")
    except Unreadable:
        raise Unreadable("not_object", "the answer is not a list of batches: one has no id") from None
    return BatchEntry(
        id=str(entry.id),
        label=entry.label if isinstance(entry.label, str) else None,
        created_at=_time(entry.created_at),
        count=_count(entry.request_counts),
    )


def _time(value: Any) -> float | None:
    is_time = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LATEST_S
    return float(value) if is_time else None


def _count(raw: msgspec.Raw) -> int | None:
    """Return a count given as a number or, as OpenAI does, as an object with a total; None for others."""
    value = lenient(raw)
    if isinstance(value, dict):
        value = value.get("total")
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count else None
