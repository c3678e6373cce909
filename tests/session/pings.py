"""A follower whose answers and whose strategy are in the hands of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from runner.records import Failure, Job, ResultStatus
from runner.session.follower import Follower
from runner.session.turnstile import AFTER_AN_EVENT, NotBefore
from runner.transport.outcomes import PENDING, AnyOutcome, Done
from tests import virtual_time
from tests.session.building import Calls, Rig, job_of
from tests.session.support import UNIX


class Pings(Follower[Job]):
    """A follower whose answers, and whose strategy, are in the hands of the test. Unix time is loop time."""

    def __init__(self, rig: Rig) -> None:
        self.exchanges = rig.parts.exchanges(Calls())
        self.due = Calls()
        self.forgotten: list[Job] = []
        super().__init__(rig.parts, self.exchanges, on_due=self.due, on_forgotten=self.forgotten.append)
        self.health, self.meter = rig.parts.health, rig.parts.meter
        self.health.confirm()
        self.answers: list[AnyOutcome] = []
        """Next answers; when there are none, a job is pending."""
        self.gap_s = 1.0
        """Seconds from one poll to the next, by the strategy."""
        self.asked = 0
        """Times that the strategy was asked."""
        self.late_s: list[float] = []
        self.ended: list[tuple[int, ResultStatus, Failure | None]] = []

    def add(self, job: Job) -> Job:
        """Follow a job; its first poll is due by the strategy."""
        self._push(job, self._due_mono(job, self._parts.clock.now_mono()))
        return job

    def next(self) -> Job:
        """Take the job that is to be polled now."""
        job = self.take(self._parts.clock.now_mono())
        assert isinstance(job, Job)
        return job

    async def poll_when_due(self, answer: AnyOutcome = PENDING) -> float:
        """Wait until something is due, poll it, and return the time."""
        loop = asyncio.get_running_loop()
        while isinstance(job := self.take(loop.time()), NotBefore):
            assert job is not AFTER_AN_EVENT, "nothing is followed"
            await asyncio.sleep(job.at_mono - loop.time())
        self.answers.append(answer)
        at_mono = loop.time()
        await self.poll(job)
        return at_mono

    async def _request(self, watched: Job) -> AnyOutcome:
        return self.answers.pop(0) if self.answers else PENDING

    async def _take_in(
        self, watched: Job, outcome: AnyOutcome, started_mono: float, ended_mono: float
    ) -> None:
        if isinstance(outcome, Done):
            self.ended.append((watched.row, outcome.status, None))
        else:
            self._wait_on(watched, self._parts.clock.unix(started_mono), ended_mono)

    def _next_poll(self, watched: Job, now: float) -> float:
        self.asked += 1
        return (watched.accepted if watched.pending is None else watched.pending) + self.gap_s

    def _poll_starts(self, watched: Job, late_s: float) -> None:
        self.late_s.append(late_s)

    def _lose(self, watched: Job, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        self.ended.append((watched.row, status, failure))


def following(
    directory: Path, work: Callable[[Pings], Coroutine[Any, Any, None]], **sections: Mapping[str, object]
) -> None:
    async def main() -> None:
        rig = Rig(directory, **sections)
        await work(Pings(rig))
        rig.sink.close()

    virtual_time.run(main())


def accepted_now(row: int, *, inherited: bool = False) -> Job:
    """Return a job that was accepted at the start of the loop, or by an earlier session."""
    return job_of(row, accepted=UNIX, inherited=inherited)
