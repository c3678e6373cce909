"""The poller pool: follows accepted jobs, at most `concurrency` GETs at once, each when its strategy says."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

import msgspec

from runner.pipeline.parts import Parts
from runner.pipeline.turnstile import Turnstile
from runner.policy.circuit import Circuit
from runner.policy.limiter import Gate
from runner.policy.polling import polling
from runner.records import Failure, Job, ResultStatus
from runner.transport.outcomes import (
    Done,
    Gone,
    Pending,
    RetrieveOutcome,
    Throttled,
    Transient,
    Unauthorised,
)

ABSENCE_S: Final = 60.0
"""A look that came so much later than it was due: the machine was asleep, or the process stopped."""
LOOKS_BEFORE_GONE: Final = 5
"""A job must be unknown this many times in a row: right after acceptance a replica may not have it yet."""
GONE_SHARE: Final = 1 / 6
"""And for this share of `limits.max_outage_s`: jitter may bring five looks within a second."""

MOST_ASKED: Final = 256
"""Jobs about which the strategy is asked again in one go. On news that a service got slower all that
are due may be put off at once, and other work of the event loop must not wait for them."""

_PERHAPS_DELIVERED: Final = "(accepted in an earlier session; perhaps done, and delivered to it)"


class Poller:
    """Owns the jobs between acceptance and result: a heap by due time, and those being looked at."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._meter = parts.meter
        self._section = parts.config.poll
        self._policy = polling(self._section)
        self._due: list[tuple[float, int, Job]] = []
        self._followed = self._inherited = 0
        self.gate = Gate(self._section.max_rate)
        self._circuit = Circuit(parts.config.limits.max_outage_s)
        self.on_forgotten: Callable[[Job], None] = lambda _: None
        """Told of a job of an earlier session that the service does not know."""
        self.turnstile: Turnstile[Job] = Turnstile(self._take, parts.clock.now)

    def follow(self, job: Job) -> None:
        """Take over a job that was just accepted."""
        self._meter.open += 1
        job.order = self._followed
        self._followed += 1
        now = self._parts.clock.now()
        self._push(job, self._due_at(job, now))

    def follow_again(self, job: Job) -> None:
        """Take over a job of an earlier session, the newest first; it may have ended long ago."""
        now = self._parts.clock.unix(self._parts.clock.now())
        job.accepted = min(job.accepted, now)  # a clock that was set back must not stretch its deadline
        self._meter.open += 1
        self._inherited += 1
        job.order = -self._inherited
        self._push(job, self._parts.clock.now())

    async def work(self) -> None:
        """One of `concurrency` workers. Raises what ends the run."""
        while (job := await self.turnstile.get()) is not None:
            await self._look(job)

    def _take(self, now: float) -> tuple[Job | None, float | None]:
        may_start_at = max(self.gate.opens_at(now), self._circuit.opens_at())
        for _ in range(min(MOST_ASKED, len(self._due))):
            due, _, job = self._due[0]
            if max(due, may_start_at) > now:
                return None, max(due, may_start_at)
            # More may be known by now than when the strategy put it off to now.
            if not _must_be_seen(job) and (later := self._due_at(job, now)) > now:
                job.look_due = later
                heapq.heapreplace(self._due, (later, job.row, job))
                continue
            self.gate.started(now)
            self._circuit.started()
            self._policy.started(job, now - due)
            return heapq.heappop(self._due)[2], None
        return None, self._due[0][0] if self._due else None

    async def _look(self, job: Job) -> None:
        clock = self._parts.clock
        started = clock.now()
        outcome = await self._parts.transport.retrieve(job.id)
        ended = clock.now()
        job.polls += 1
        self._meter.polls += 1
        self._meter.latencies.poll.record(ended - started)
        self._settle(job, outcome, started, ended)

    def _settle(self, job: Job, outcome: RetrieveOutcome, started: float, ended: float) -> None:
        end_of_run = self._parts.contact.note(outcome, ended)
        if self._circuit.ended(ended, answered=not isinstance(outcome, Transient)):
            self.turnstile.wake()
        match outcome:
            case Pending():
                self.gate.accepted()
                self._wait_on(job, started, ended)
            case Done():
                self.gate.accepted()
                if _was_watched(job, started):
                    self._policy.saw_done(job, self._parts.clock.unix(ended))
                self._meter.open -= 1
                self._parts.sink.finish(job, self._parts.clock.unix(ended), outcome)
            case Throttled():
                self._parts.throttled(self.gate, outcome, started, ended)
                self._look_again(job, outcome.cause, outcome.failure, outcome.wait_s, ended)
            case Transient():
                self._look_again(job, outcome.cause, outcome.failure, outcome.wait_s, ended)
            case Gone():
                self.gate.accepted()
                self._miss(job, outcome.failure, ended)
            case Unauthorised():
                pass  # it stays open
        if end_of_run:
            raise end_of_run

    def _miss(self, job: Job, failure: Failure, now: float) -> None:
        job.missing += 1
        if job.missing == 1:
            job.missing_since = now
        gone_after_s = GONE_SHARE * self._parts.config.limits.max_outage_s
        if job.missing < LOOKS_BEFORE_GONE or now - job.missing_since < gone_after_s:
            self._push_back(job, "gone", None, now)
        elif job.inherited and self._parts.config.submit.on_uncertain == "resend":
            self._meter.open -= 1
            self.on_forgotten(job)
        elif job.inherited:
            said = f"{failure.message} {_PERHAPS_DELIVERED}"
            self._lose(job, "uncertain", msgspec.structs.replace(failure, message=said), now)
        else:
            self._lose(job, "expired", failure, now)

    def _wait_on(self, job: Job, started: float, ended: float) -> None:
        """The job was not done when the poll began, at the latest; look again when the strategy says."""
        seen = self._parts.clock.unix(started)
        self._policy.saw_pending(job, seen)
        job.pending = seen
        job.failed_polls = job.missing = 0
        if self._age_s(job, ended) >= self._section.deadline_s:
            said = f"not done {self._section.deadline_s:g} s after it was accepted (poll.deadline_s)"
            self._lose(job, "expired", Failure(type="deadline", message=said), ended)
        else:
            self._push(job, self._due_at(job, ended))

    def _look_again(self, job: Job, cause: str, failure: Failure, wait_s: float | None, now: float) -> None:
        """A poll brought no answer about the job, which is paid for.

        After its deadline it is given up, but only while the service answers other questions: it may have
        been done long ago, and a machine that wakes up has no network yet.
        """
        is_its_own = self._parts.contact.answered_since(job.failing_since if job.failed_polls else now)
        is_late = self._age_s(job, now) >= self._section.deadline_s
        if is_late and is_its_own and job.failed_polls + 1 >= LOOKS_BEFORE_GONE:
            self._meter.poll_retries[cause] += 1
            self._lose(job, "expired", failure, now)
        else:
            self._push_back(job, cause, wait_s, now)

    def _push_back(self, job: Job, cause: str, wait_s: float | None, now: float) -> None:
        if not job.failed_polls:
            job.failing_since = now
        job.failed_polls += 1
        self._meter.poll_retries[cause] += 1
        self._push(job, now + self._parts.retry_wait_s(job.failed_polls, wait_s))

    def _lose(self, job: Job, status: ResultStatus, failure: Failure, now: float) -> None:
        self._meter.open -= 1
        self._parts.sink.lose(job, self._parts.clock.unix(now), status, failure)

    def _age_s(self, job: Job, now: float) -> float:
        return self._parts.clock.unix(now) - job.accepted

    def _due_at(self, job: Job, now: float) -> float:
        """When to look at it, as far as is known now; at its deadline at the latest."""
        clock = self._parts.clock
        look = self._policy.next_look(job, clock.unix(now))
        return clock.monotonic(min(look, job.accepted + self._section.deadline_s))

    def _push(self, job: Job, due: float) -> None:
        job.look_due = due
        heapq.heappush(self._due, (due, job.row, job))
        if self._due[0][2] is job:
            self.turnstile.wake()


def _must_be_seen(job: Job) -> bool:
    """Whatever the strategy says: a poll brought no answer, or the job may have ended long ago."""
    return bool(job.failed_polls) or (job.inherited and not job.polls)


def _was_watched(job: Job, looked: float) -> bool:
    """Whether the last look tells when a job ended, and not only how long nobody looked."""
    return looked - job.look_due < ABSENCE_S and not (job.inherited and job.pending is None)
