"""The poller pool: follows accepted jobs, at most `concurrency` GETs at once, each when its strategy says."""

from __future__ import annotations

from runner.policy.circuit import Circuit
from runner.policy.polling import polling
from runner.policy.rate_gate import RateGate
from runner.records import Failure, Job, ResultStatus
from runner.session.follower import Follower, was_watched
from runner.session.parts import Parts
from runner.session.turnstile import Turnstile
from runner.transport.outcomes import AnyOutcome, Done, RetrieveOutcome


class Poller(Follower[Job]):
    """Owns the jobs between acceptance and result: those that wait, and those being looked at."""

    def __init__(self, parts: Parts) -> None:
        section = parts.config.poll
        self.turnstile: Turnstile[Job] = Turnstile(self.take, parts.clock.now)
        circuit = Circuit(parts.config.limits.max_outage_s)
        super().__init__(parts, RateGate(section.max_rate), circuit, self.turnstile.wake)
        self._policy = polling(section)
        self._followed = self._inherited = 0

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
            await self.look(job)

    async def _ask(self, job: Job) -> RetrieveOutcome:
        return await self._parts.transport.retrieve(job.id)

    async def _take_in(self, job: Job, outcome: AnyOutcome, started: float, ended: float) -> None:
        clock = self._parts.clock
        if isinstance(outcome, Done):
            if was_watched(job, started):
                self._policy.saw_done(job, clock.unix(ended))
            self._parts.sink.finish(job, clock.unix(ended), outcome)
        else:  # it was not done when the poll began, at the latest
            seen = clock.unix(started)
            self._policy.saw_pending(job, seen)
            self._wait_on(job, seen, ended)

    def _next_look(self, job: Job, now: float) -> float:
        return self._policy.next_poll(job, now)

    def _starts(self, job: Job, late_s: float) -> None:
        self._policy.started(job, late_s)

    def _lose(self, job: Job, status: ResultStatus, failure: Failure, now: float) -> None:
        self._parts.sink.lose(job, self._parts.clock.unix(now), status, failure)
