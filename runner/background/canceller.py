"""Asks the service to cancel outstanding jobs, and finds out what became of each."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from runner.records import Failure, Job
from runner.session.parts import Parts
from runner.session.turnstile import AFTER_AN_EVENT, NotBefore, Turnstile
from runner.source import Row
from runner.transport.outcomes import (
    PENDING,
    CancelOutcome,
    Done,
    Gone,
    Pending,
    Rejected,
    RetrieveOutcome,
    Throttled,
    Transient,
)

FIRST_POLL_S: Final = 0.5
LONGEST_POLL_S: Final = 5.0
"""Seconds between polls of a job that was cancelled and has not ended yet: the wait doubles."""
MOST_REFUSALS: Final = 3
_CANNOT: Final = (404, 405, 501)
"""Status codes of a service that has no such job or no such call; a poll of the job shows which."""


@dataclass
class CancelCounts:
    """What became of the jobs. Those in none of the counts are still outstanding."""

    cancelled: int = 0
    ended: int = 0
    """Jobs that had ended, or ended all the same: their results are kept."""
    unknown: int = 0
    """Jobs that the service does not know; what that means is decided when the run is resumed."""
    refusal: Failure | None = None
    """What the service answered for the first job that it would not cancel."""


class _Case(msgspec.Struct, gc=False):
    """One job: to be cancelled, then to be polled."""

    job: Job
    is_asked: bool = False
    """Whether the service has answered the cancellation."""
    refusal: Failure | None = None
    refusals: int = 0
    polls: int = 0
    failures: int = 0


class NoRows:
    """The rows of a session that sends none."""

    def blocks(self) -> Iterator[list[Row]]:
        """Yield nothing."""
        return iter(())


class CancelMode:
    """Cancels each job until there is an answer, then polls it until it has ended. A `Mode`; see there.

    As long as no cancellation was accepted, they go one by one: a service that cannot cancel is not asked for
    the rest. A job may complete while it is being cancelled, and its result counts like any other.
    """

    def __init__(self, parts: Parts[Job], jobs: Collection[Job]) -> None:
        self._parts = parts
        now_mono = parts.clock.now_mono()
        self._due = [(now_mono, job.row, _Case(job)) for job in jobs]
        heapq.heapify(self._due)
        self._workers = min(parts.config.submit.concurrency, len(self._due))
        self._requesting = 0
        self._is_possible = False
        self.counts = CancelCounts()
        self._turnstile: Turnstile[_Case] = Turnstile(self._take, parts.clock.now_mono)
        self._exchanges = parts.exchanges(self._turnstile.wake)

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        """Return the workers; all of them end when nothing is left to do."""
        return [self._work() for _ in range(self._workers)]

    def follow(self, accepted: Job) -> int:
        """Raise `AssertionError`: nothing is sent that could be accepted."""
        raise AssertionError(accepted)

    def wake(self) -> None:
        """Continue with what may be done now."""
        self._turnstile.wake()

    def stop_submitting(self) -> None:
        """Stop: there is nothing that could go on."""
        self.stop()

    def stop(self) -> None:
        """Neither cancel nor poll any more."""
        self._turnstile.close()

    def close(self) -> None:
        """Do nothing: a cancellation leaves nothing to write down."""

    async def _work(self) -> None:
        while (case := await self._turnstile.get()) is not None:
            clock, job, transport = self._parts.clock, case.job, self._parts.transport
            started_mono = clock.now_mono()
            outcome = await (transport.retrieve(job.id) if case.is_asked else transport.cancel(job.id))
            self._settle(case, outcome, started_mono, clock.now_mono())
            self._requesting -= 1
            if not self._due and not self._requesting:
                self._turnstile.close()
            self._turnstile.wake()

    def _take(self, now_mono: float) -> _Case | NotBefore:
        if not self._due or (self._requesting and not self._is_possible):
            return AFTER_AN_EVENT
        ready_at_mono = max(self._due[0][0], self._exchanges.opens_at(now_mono))
        if ready_at_mono > now_mono:
            return NotBefore(ready_at_mono)
        self._exchanges.started(now_mono)
        self._requesting += 1
        return heapq.heappop(self._due)[2]

    def _settle(
        self, case: _Case, outcome: CancelOutcome | RetrieveOutcome, started_mono: float, ended_mono: float
    ) -> None:
        # That a cancellation is refused says nothing about the address or about requests.
        known = PENDING if isinstance(outcome, Rejected) else outcome
        end_of_session = self._exchanges.settle(known, started_mono, ended_mono)
        match outcome:
            case Done():
                self._finish(case, outcome, ended_mono)
            case Pending() if case.refusal:
                self._ask_again_or_leave(case, case.refusal, ended_mono)
            case Pending():
                self._is_possible = case.is_asked = True
                case.polls += 1
                self._push(case, ended_mono + min(FIRST_POLL_S * 2.0 ** (case.polls - 1), LONGEST_POLL_S))
            case Rejected():
                case.is_asked, case.refusal = True, outcome.failure
                case.refusals += 1
                self._push(case, -math.inf)  # before any other: it shows whether the rest are to be asked for
            case Gone():
                self.counts.unknown += 1
            case Throttled() | Transient():
                case.failures += 1
                self._push(case, ended_mono + self._parts.retry_wait_s(case.failures, outcome.wait_s))
        if end_of_session:
            raise end_of_session

    def _finish(self, case: _Case, outcome: Done, ended_mono: float) -> None:
        if outcome.status == "cancelled":
            self._is_possible = True
            self.counts.cancelled += 1
        else:
            self.counts.ended += 1
        self._parts.sink.finish(case.job, self._parts.clock.unix(ended_mono), outcome)

    def _ask_again_or_leave(self, case: _Case, refusal: Failure, now_mono: float) -> None:
        """Act on an outstanding job that was not cancelled: a stray 404 among others, or a final refusal."""
        if self._is_possible and refusal.status_code in _CANNOT and case.refusals < MOST_REFUSALS:
            case.is_asked, case.refusal = False, None
            self._push(case, now_mono + FIRST_POLL_S)
            return
        self.counts.refusal = self.counts.refusal or refusal
        if not self._is_possible and refusal.status_code in _CANNOT:
            self._due.clear()

    def _push(self, case: _Case, due_mono: float) -> None:
        heapq.heappush(self._due, (due_mono, case.job.row, case))
