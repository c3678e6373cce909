"""What one HTTP exchange can mean to a run; everything a network can send ends as one of these."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from runner.records import Failure, Reply, ResultStatus, Usage

SILENT: Final = frozenset({"connect", "timeout", "reset", "cut", "not_http"})
"""Causes of `Transient` that are no answer at all."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """POST: the service took the request and will work on it under `id`."""

    id: str


class Pending(msgspec.Struct, frozen=True, gc=False):
    """GET, or a cancellation: not done yet."""


class Done(msgspec.Struct, frozen=True, gc=False):
    """POST or GET: the job has ended, well or not; `reply` is its whole object."""

    status: ResultStatus
    reply: Reply
    usage: Usage
    failure: Failure | None


class Throttled(msgspec.Struct, frozen=True, gc=False):
    """The service wants fewer requests; nothing was accepted. `wait_s` is what it asks for."""

    cause: str
    wait_s: float | None
    failure: Failure


class Transient(msgspec.Struct, frozen=True, gc=False):
    """No answer, or none that can be read: worth another try.

    `ambiguous`: a POST that ended so may have been accepted all the same.
    """

    cause: str
    failure: Failure
    ambiguous: bool
    wait_s: float | None = None
    is_spoken: bool = False
    """An error in the API's own JSON: whoever answers, it is the service."""


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A definite no to this one request, or to cancelling this one job.

    `has_envelope`: said in a JSON error format.
    """

    failure: Failure
    reply: Reply | None
    has_envelope: bool
    param: str | None = None
    """What of the request is wrong, as the envelope names it."""


class Gone(msgspec.Struct, frozen=True, gc=False):
    """GET: the service does not know the job, or the batch."""

    failure: Failure


class Unauthorised(msgspec.Struct, frozen=True, gc=False):
    """The key or the account is refused: no request can succeed."""

    failure: Failure


class Created(msgspec.Struct, frozen=True, gc=False):
    """POST of a batch: the service took it and works on it under `id`. `count`: of its requests, if told."""

    id: str
    count: int | None


class Statuses(msgspec.Struct, frozen=True, gc=False):
    """GET of a batch: how its requests stand.

    `status_map` is the object `request_status` as received: megabytes, and decoded by whoever knows which of
    its requests are still of interest. It is JSON as far as its brackets go; decoding it may fail.
    """

    status_map: msgspec.Raw


class BatchEntry(msgspec.Struct, frozen=True, gc=False):
    """One batch in the list of all; `created_at` in Unix seconds."""

    id: str
    label: str | None
    created_at: float | None
    count: int | None


class Listing(msgspec.Struct, frozen=True):
    """GET of all batches, the newest first: one page."""

    batches: tuple[BatchEntry, ...]


class Unsupported(msgspec.Struct, frozen=True, gc=False):
    """The service does not list batches."""

    failure: Failure


SubmitOutcome = Accepted | Done | Throttled | Transient | Rejected | Unauthorised
RetrieveOutcome = Pending | Done | Throttled | Transient | Gone | Unauthorised
CancelOutcome = Pending | Done | Rejected | Throttled | Transient | Unauthorised
CreateOutcome = Created | Throttled | Transient | Rejected | Unauthorised
BatchOutcome = Statuses | Gone | Throttled | Transient | Unauthorised
ListOutcome = Listing | Unsupported | Throttled | Transient | Unauthorised
AnyOutcome = SubmitOutcome | RetrieveOutcome | CancelOutcome | CreateOutcome | BatchOutcome | ListOutcome
Outcome = TypeVar("Outcome", bound=AnyOutcome, covariant=True)
PENDING = Pending()
