"""The records of a run, `Request` → `Job` → `Result`, and the words that services use for statuses."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

ResultStatus = Literal["completed", "incomplete", "failed", "cancelled", "expired", "rejected", "uncertain"]
RESULT_STATUSES: Final[tuple[ResultStatus, ...]] = (
    "completed", "incomplete", "failed", "cancelled", "expired", "rejected", "uncertain",
)  # fmt: skip

_DONE_WORDS: Final[dict[str, ResultStatus]] = {
    "completed": "completed",
    "incomplete": "incomplete",
    "failed": "failed",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "expired": "expired",
}


def done_status(word: str) -> ResultStatus | None:
    """Return the result status for a service's word, or None if the job is not done.

    Words are compared without case. An unknown word means "not done": APIs gain words, and a paid job must
    not be lost to a new one.
    """
    return _DONE_WORDS.get(word) or _DONE_WORDS.get(word.lower())


class Request(msgspec.Struct, frozen=True, gc=False):
    """One row, ready to send: every attempt sends exactly the bytes of `body`."""

    row: int
    custom_id: str
    body: bytes
    kind: str
    """Model and completion window: jobs of one kind are expected to take equally long."""


class Polled(msgspec.Struct, kw_only=True, gc=False):
    """What a follower keeps of something that it polls until it has ended."""

    polls: int = 0
    pending: float | None = None
    """Unix seconds of the last poll that saw it unfinished; None where none did."""
    poll_due_mono: float = 0.0
    """Monotonic time at which the next poll is due, or the last one was."""
    entry: int = -1
    """The number of its entry in the follower's heap; -1 while it is being polled, and afterwards."""
    expedited: bool = False
    """Whether it is to be polled next, whatever the strategy says."""
    failed_polls: int = 0
    """Consecutive polls that brought no answer about it."""
    failing_since_mono: float = 0.0
    """Monotonic time of the first of those."""
    missing: int = 0
    """Consecutive polls to which the service answered that it does not know it."""
    missing_since_mono: float = 0.0
    """Monotonic time of the first of those."""
    inherited: bool = False
    """Accepted in an earlier session: its result may have been delivered to a client that was killed."""


class Job(Polled, gc=False):
    """An accepted request, and the state of polling it. Owned by the poller; times in Unix seconds."""

    row: int
    custom_id: str
    id: str
    kind: str
    due: float
    sent: float
    accepted: float
    attempts: int
    order: int = 0
    """Its rank among all jobs of this session by acceptance; jobs of earlier sessions are below zero."""
    epoch: int = 0


class Timing(msgspec.Struct, frozen=True, gc=False):
    """Times of a request, in Unix seconds: its job ended after `pending` (or `accepted`) and by `done`."""

    due: float
    sent: float | None
    accepted: float | None
    pending: float | None
    done: float


class Failure(msgspec.Struct, frozen=True, gc=False):
    """The reason why a request did not end `completed`."""

    type: str
    message: str
    status_code: int | None = None
    code: str | int | None = None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The answer of the service; `body` is JSON on one line, otherwise as received."""

    status_code: int
    request_id: str | None
    body: msgspec.Raw


class Result(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One line of `results.jsonl`: every row ends as exactly one result."""

    custom_id: str
    row: int
    status: ResultStatus
    response: Reply | None
    error: Failure | None
    timing: Timing
    attempts: int
    polls: int
    epoch: int = 0
    """Number of times the row was retried by hand (`--retry`); absent from the line if 0."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one response; `cached` is a part of `input`, `reasoning` of `output`."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
