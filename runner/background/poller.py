"""The poller pool: follows accepted jobs with at most `poll.concurrency` GETs at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from runner.policy.polling import polling
from runner.records import Failure, Job, ResultStatus
from runner.session.follower import Follower, was_watched
from runner.session.parts import Parts
from runner.session.turnstile import Turnstile
from runner.transport.outcomes import AnyOutcome, Done, RetrieveOutcome


class Poller(Follower[Job]):
    """Owns the jobs between acceptance and result: those that wait, and those being polled."""

    def __init__(self, parts: Parts[Any], *, on_forgotten: Callable[[Job], None]) -> None:
        """`on_forgotten` is called with a forgotten job of an earlier session that may be resent."""
        section = parts.config.poll
        self.turnstile: Turnstile[Job] = Turnstile(self.take, parts.clock.now_mono)
        exchanges = parts.exchanges(self.turnstile.wake, section.max_rate)
        super().__init__(parts, exchanges, on_due=self.turnstile.wake, on_forgotten=self._forget)
        self._on_job_forgotten = on_forgotten
        self._policy = polling(section)
        self._jobs: dict[str, Job] = {}
        """Jobs that are followed, by their ids."""
        self._followed = self._inherited = 0

    def __repr__(self) -> str:
        return f"<Poller {len(self._jobs)} jobs, {self._exchanges!r}>"

    def follow(self, job: Job) -> None:
        """Poll a job that was just accepted."""
        self._jobs[job.id] = job
        job.order = self._followed
        self._followed += 1
        self._push(job, self._due_mono(job, self._parts.clock.now_mono()))

    def follow_inherited(self, job: Job) -> None:
        """Poll a job of an earlier session, the newest first; it may have ended long ago."""
        self._jobs[job.id] = job
        # A clock that was set back must not delay its deadline.
        job.accepted = min(job.accepted, self._parts.clock.now())
        self._inherited += 1
        job.order = -self._inherited
        self._push(job, self._parts.clock.now_mono())

    def expedite_id(self, job_id: str) -> bool:
        """Poll the job of that id next, and return whether it is followed."""
        job = self._jobs.get(job_id)
        if job is not None:
            self.expedite(job)
        return job is not None

    async def work(self) -> None:
        """Poll jobs until the turnstile closes; one of several workers. Raises what ends the run."""
        while (job := await self.turnstile.get()) is not None:
            await self.poll(job)

    def _request(self, job: Job) -> Awaitable[RetrieveOutcome]:
        return self._parts.transport.retrieve(job.id)

    async def _take_in(self, job: Job, outcome: AnyOutcome, started_mono: float, ended_mono: float) -> None:
        clock = self._parts.clock
        if isinstance(outcome, Done):
            if was_watched(job, started_mono):
                self._policy.saw_done(job, clock.unix(ended_mono))
            self._jobs.pop(job.id, None)
            self._parts.sink.finish(job, clock.unix(ended_mono), outcome)
        else:  # it was not done when the poll began, at the latest
            seen = clock.unix(started_mono)
            self._policy.saw_pending(job, seen)
            self._wait_on(job, seen, ended_mono)

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        self._on_job_forgotten(job)

    def _next_poll(self, job: Job, now: float) -> float:
        return self._policy.next_poll(job, now)

    def _poll_starts(self, job: Job, late_s: float) -> None:
        self._policy.started(job, late_s)

    def _lose(self, job: Job, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        self._jobs.pop(job.id, None)
        self._parts.sink.lose(job, self._parts.clock.unix(now_mono), status, failure)
