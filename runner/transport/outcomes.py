"""The outcomes of one HTTP exchange: whatever a network or a service sends becomes one of these."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from runner.records import Failure, Reply, ResultStatus, Usage

SILENT: Final = frozenset({"connect", "timeout", "reset", "cut", "not_http"})
"""Causes of `Transient` where no answer was received."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """POST: the service accepted the request as the job `id`."""

    id: str


class Pending(msgspec.Struct, frozen=True, gc=False):
    """GET or cancellation: the job has not ended yet."""


class Done(msgspec.Struct, frozen=True, gc=False):
    """Any exchange about a job: it has ended with `status`; `reply` holds its whole object."""

    status: ResultStatus
    reply: Reply
    usage: Usage
    failure: Failure | None


class Throttled(msgspec.Struct, frozen=True, gc=False):
    """The service wants fewer requests and accepted nothing. `wait_s` is the wait that it asks for."""

    cause: str
    wait_s: float | None
    failure: Failure


class Transient(msgspec.Struct, frozen=True, gc=False):
    """No answer, or one that cannot be read or may pass: worth a retry."""

    cause: str
    """A word of `SILENT`, `no_files`, `redirect`, a status as text, or the cause of an `Unreadable` body."""
    failure: Failure
    ambiguous: bool
    """Whether a POST with this outcome may have been accepted."""
    wait_s: float | None = None
    is_spoken: bool = False
    """Whether it is an error in the API's own JSON, and so comes from the service and not from a proxy."""


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A definite no to this one request, or to the cancellation of this one job."""

    failure: Failure
    reply: Reply | None
    """The whole answer, if it is a JSON object."""
    has_envelope: bool
    """Whether it came in a JSON error format."""
    param: str | None = None
    """The part of the request that is wrong, as the error names it."""


class Gone(msgspec.Struct, frozen=True, gc=False):
    """GET: the service does not know the job or the batch."""

    failure: Failure


class Unauthorised(msgspec.Struct, frozen=True, gc=False):
    """The service refuses the key or the account: no request can succeed."""

    failure: Failure


class Created(msgspec.Struct, frozen=True, gc=False):
    """POST of a batch: the service accepted it as `id`. `count` is the number of requests, if reported."""

    id: str
    count: int | None


class Statuses(msgspec.Struct, frozen=True, gc=False):
    """GET of a batch: the statuses of its requests.

    `status_map` is the object `request_status` as received, possibly megabytes. It is decoded where it is
    known which of the requests are still outstanding; decoding may fail.
    """

    status_map: msgspec.Raw


class BatchEntry(msgspec.Struct, frozen=True, gc=False):
    """One batch in the list of batches; `created_at` in Unix seconds."""

    id: str
    label: str | None
    created_at: float | None
    count: int | None


class Listing(msgspec.Struct, frozen=True):
    """GET of the list of batches: one page, newest first."""

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
