"""Asks the service to cancel open jobs, and finds out what became of each."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import msgspec

from runner.policy.circuit import Circuit
from runner.policy.rate_gate import RateGate
from runner.records import Failure, Job
from runner.session.parts import Parts
from runner.session.turnstile import Turnstile
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

FIRST_LOOK_S: Final = 0.5
LONGEST_LOOK_S: Final = 5.0
"""Between looks at a job that was cancelled and has not ended yet: the wait doubles."""
MOST_REFUSALS: Final = 3
_CANNOT: Final = (404, 405, 501)
"""Where the service has no such job or no such call; a look at the job tells which."""


@dataclass
class Tally:
    """What became of the jobs; those in none of the counts are still open."""

    cancelled: int = 0
    ended: int = 0
    """Had ended, or ended all the same: their results are kept."""
    unknown: int = 0
    """Not known to the service; what that means is decided when the run is continued."""
    refusal: Failure | None = None
    """What the service said to the first job that it would not cancel."""


class _Case(msgspec.Struct, gc=False):
    """One job: to be asked about, then to be looked at."""

    job: Job
    asked: bool = False
    refusal: Failure | None = None
    refusals: int = 0
    looks: int = 0
    failures: int = 0


class Canceller:
    """Each job is asked to be cancelled until there is an answer, and then looked at until it has ended.

    As long as no cancellation was taken, they go one by one: a service that cannot cancel is not asked for
    the rest. A job may complete while it is being cancelled, and its result counts like any other.
    """

    def __init__(self, parts: Parts, jobs: Collection[Job]) -> None:
        self._parts = parts
        now = parts.clock.now()
        self._due = [(now, job.row, _Case(job)) for job in jobs]
        heapq.heapify(self._due)
        self._under_way = 0
        self._is_possible = False
        self._gate = RateGate()
        self._circuit = Circuit(parts.config.limits.max_outage_s)
        self.tally = Tally()
        self.turnstile: Turnstile[_Case] = Turnstile(self._take, parts.clock.now)
        self.stopped_by: Exception | None = None

    def stop(self, error: Exception) -> None:
        """Results can no longer be written, say: nothing more is asked."""
        self.stopped_by = self.stopped_by or error
        self.turnstile.close()

    async def work(self) -> None:
        """One worker; all end when there is nothing left to do. Raises what ends the command."""
        while (case := await self.turnstile.get()) is not None:
            started = self._parts.clock.now()
            job, transport = case.job, self._parts.transport
            outcome = await (transport.retrieve(job.id) if case.asked else transport.cancel(job.id))
            self._under_way -= 1
            self._settle(case, outcome, started, self._parts.clock.now())
            if not self._due and not self._under_way:
                self.turnstile.close()
            self.turnstile.wake()

    def _take(self, now: float) -> tuple[_Case | None, float | None]:
        if not self._due or (self._under_way and not self._is_possible):
            return None, None
        ready_at = max(self._due[0][0], self._gate.opens_at(now), self._circuit.opens_at())
        if ready_at > now:
            return None, ready_at
        self._gate.started(now)
        self._circuit.started()
        self._under_way += 1
        return heapq.heappop(self._due)[2], None

    def _settle(
        self, case: _Case, outcome: CancelOutcome | RetrieveOutcome, started: float, ended: float
    ) -> None:
        # That a cancellation is refused says nothing about the address or about requests.
        known = PENDING if isinstance(outcome, Rejected) else outcome
        end_of_command = self._parts.contact.note(known, ended)
        self._circuit.ended(ended, answered=not isinstance(outcome, Transient))
        match outcome:
            case Done():
                self._finish(case, outcome, ended)
            case Pending() if case.refusal:
                self._ask_again_or_leave(case, case.refusal, ended)
            case Pending():
                self._is_possible = case.asked = True
                case.looks += 1
                self._push(case, ended + min(FIRST_LOOK_S * 2.0 ** (case.looks - 1), LONGEST_LOOK_S))
            case Rejected():
                case.asked, case.refusal = True, outcome.failure
                case.refusals += 1
                self._push(case, ended)
            case Gone():
                self.tally.unknown += 1
            case Throttled():
                self._parts.throttled(self._gate, outcome, started, ended)
                self._try_again(case, outcome.wait_s, ended)
            case Transient():
                self._try_again(case, outcome.wait_s, ended)
        if end_of_command:
            raise end_of_command

    def _finish(self, case: _Case, outcome: Done, ended: float) -> None:
        job = case.job
        if outcome.status == "cancelled":
            self._is_possible = True
            self.tally.cancelled += 1
        else:
            self.tally.ended += 1
        self._parts.sink.finish(job, self._parts.clock.unix(ended), outcome)

    def _ask_again_or_leave(self, case: _Case, refusal: Failure, now: float) -> None:
        """A job is open and not to be cancelled: a stray 404 where others are cancelled, or for good."""
        if self._is_possible and refusal.status_code in _CANNOT and case.refusals < MOST_REFUSALS:
            case.asked, case.refusal = False, None
            self._push(case, now + FIRST_LOOK_S)
            return
        self.tally.refusal = self.tally.refusal or refusal
        if not self._is_possible and refusal.status_code in _CANNOT:
            self._due.clear()

    def _try_again(self, case: _Case, wait_s: float | None, now: float) -> None:
        case.failures += 1
        self._push(case, now + self._parts.retry_wait_s(case.failures, wait_s))

    def _push(self, case: _Case, due: float) -> None:
        heapq.heappush(self._due, (due, case.job.row, case))
