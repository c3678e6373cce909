"""What travels through a run: `Request` → `Job` → `Result`, and the words a service uses for its states."""

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
    """The result status for a service's word, or None while the job is not done.

    Compared without case. A word never seen before is "not done": the wire moves, and giving a
    paid job up because of a new word would lose it.
    """
    return _DONE_WORDS.get(word) or _DONE_WORDS.get(word.lower())


class Request(msgspec.Struct, frozen=True, gc=False):
    """One row, ready to send: `body` is exactly the bytes of every try."""

    row: int
    custom_id: str
    body: bytes
    kind: str
    """Jobs of one kind are expected to take alike: model and completion window."""


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
    """Unix seconds. The job finished after `pending` (or `accepted`) and no later than `done`."""

    due: float
    sent: float | None
    accepted: float | None
    pending: float | None
    done: float


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why a request did not end `completed`."""

    type: str
    message: str
    status_code: int | None = None
    code: str | int | None = None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What the service said; `body` is JSON on one line, as received."""

    status_code: int
    request_id: str | None
    body: msgspec.Raw


class Result(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A line of `results.jsonl`: every row ends as exactly one."""

    custom_id: str
    row: int
    status: ResultStatus
    response: Reply | None
    error: Failure | None
    timing: Timing
    attempts: int
    polls: int
    epoch: int = 0
    """How often the row was given another try by hand (`--retry`); absent from the line where never."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one response. `cached` is part of `input`, `reasoning` part of `output`."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
