"""One session of a run on one event loop: owns every task, the drain and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from runner.config.sections import RunConfig
from runner.errors import RunnerError, StorageError
from runner.measure.meter import Meter
from runner.measure.vitals import Vitals
from runner.pipeline.closing import GRACE_S, Closing
from runner.pipeline.feed import Feed
from runner.pipeline.intake import Intake
from runner.pipeline.parts import Parts
from runner.pipeline.poller import Poller
from runner.pipeline.submitter import Submitter
from runner.records import Job
from runner.source import Source
from runner.store import Files, Recovery

CHECK_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one process is to do in one session."""

    config: RunConfig
    """Its limits are those of this process."""
    run_id: str
    base_url: str
    key: str
    source: Source
    files: Files
    session: int
    """Its number, from 0."""
    resumes: bool
    """It goes on after an earlier session, or in the place of a process that died."""
    recovery: Recovery
    """What earlier sessions left, of the rows that this process takes over."""
    meter: Meter
    vitals: Vitals
    say: Callable[[str], None]
    ends_when_done: bool
    """Once all that was granted is done; else when it is told to."""
    attend: Callable[[Run], Coroutine[Any, Any, None]]
    """Runs beside the run, until it ends: grants rows, shows how things stand, passes on orders."""


async def run(assignment: Assignment) -> RunnerError | None:
    """Work until every granted row has its result, or something ends the session; return what did.

    On return no task is left, and everything received is written and, unless a `StorageError` says
    otherwise, on the disk.
    """
    session = Run(assignment)
    try:
        return await session.work()
    finally:
        await session.close()


class Run:
    """The tasks of one session in one process."""

    def __init__(self, assignment: Assignment) -> None:
        a = self._a = assignment
        config = a.config
        parts = self._parts = Parts.open(config, a.files, a.run_id, a.base_url, a.key, a.meter, a.say)
        self.contact = parts.contact
        self.feed = Feed(a.source)
        self._intake = Intake(parts, a.source, self.feed, a.recovery)
        self._poller = Poller(parts)
        self._submitter = Submitter(parts, self._intake, self._poller.follow)
        self.feed.on_more = self._submitter.turnstile.wake
        self._poller.on_forgotten = self._submitter.resend
        self._workers: list[asyncio.Task[None]] = []
        self.closing = Closing(
            a.meter,
            self._all_done,
            lambda: not (a.meter.open or a.meter.posting),
            config.limits.drain_s,
            a.say,
            stop_submitting=self._submitter.turnstile.close,
            cancel=self._cancel_workers,
        )
        parts.sink.on_finished = self._results_written
        parts.sink.on_broken = self.closing.end_by

    def follow(self, job: Job) -> None:
        """Poll a job of an earlier session."""
        self._poller.follow_again(job)

    def give_back(self) -> list[int]:
        """Rows that wait here for a place; they are another's from now on."""
        return self._intake.give_back()

    async def work(self) -> RunnerError | None:
        try:
            self._parts.begin(self._a.session, resumes=self._a.resumes)
            async with asyncio.TaskGroup() as tasks:
                await self._supervise(tasks)
        except StorageError as error:
            self.closing.stop(error)
        self._intake.close()
        await self._parts.sink.rescue(self._a.config.limits.drain_s, self.closing.hurried, self._a.say)
        return self.closing.ended_by

    async def close(self) -> None:
        """Raises `StorageError`."""
        await self._parts.close()

    async def _supervise(self, tasks: asyncio.TaskGroup) -> None:
        """Start everything; when the run is over, bring everything home."""
        config = self._a.config
        while self._a.recovery.open:
            self.follow(self._a.recovery.open.popitem()[1])
        self._check_limits()
        workers = [
            *(self._submitter.work() for _ in range(config.submit.concurrency)),
            *(self._poller.work() for _ in range(config.poll.concurrency)),
        ]
        self._workers = [tasks.create_task(self._guard(worker)) for worker in workers]
        helpers: list[Coroutine[Any, Any, None]] = [
            self.feed.fill(),
            self._parts.sink.sync_for_ever(),
            self._a.vitals.watch_loop(),
            self._check_for_ever(),
            self._a.attend(self),
        ]
        helping = [tasks.create_task(self._guard(helper)) for helper in helpers]
        await self.closing.over.wait()
        self._parts.reserve.release()
        self._submitter.turnstile.close()
        self._poller.turnstile.close()
        # What is under way may bring an acceptance or a result; the journal covers it where it does not.
        await asyncio.wait(self._workers, timeout=GRACE_S)
        for task in (*self._workers, *helping):
            task.cancel()

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """What ends the run ends it in order: a neighbour's answer that is on its way is still taken in."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - see `end_by`
            self.closing.end_by(error)

    def _cancel_workers(self) -> None:
        for worker in self._workers:
            worker.cancel()

    def _all_done(self) -> bool:
        meter = self._a.meter
        return self._a.ends_when_done and self.feed.all_granted and meter.done >= meter.total

    def _results_written(self) -> None:
        self._check_limits()
        self.closing.check()
        self._submitter.turnstile.wake()  # places in flight are free

    def _check_limits(self) -> None:
        reached = self._parts.limits.reached()
        if reached is not None:
            self.closing.drain(reached, reached.problems[0].where)

    async def _check_for_ever(self) -> None:
        while True:
            self.closing.check()
            await asyncio.sleep(CHECK_S)
