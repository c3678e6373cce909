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


class Gone(msgspec.Struct, frozen=True, gc=False):
    """GET: the service does not know the job."""

    failure: Failure


class Unauthorised(msgspec.Struct, frozen=True, gc=False):
    """The key or the account is refused: no request can succeed."""

    failure: Failure


SubmitOutcome = Accepted | Done | Throttled | Transient | Rejected | Unauthorised
RetrieveOutcome = Pending | Done | Throttled | Transient | Gone | Unauthorised
CancelOutcome = Pending | Done | Rejected | Throttled | Transient | Unauthorised
AnyOutcome = SubmitOutcome | RetrieveOutcome | CancelOutcome
Outcome = TypeVar("Outcome", bound=AnyOutcome, covariant=True)
PENDING = Pending()
