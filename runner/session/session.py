"""One session of a run on one event loop: owns every task, the drain and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from runner.config import RunConfig
from runner.errors import RunnerError, StorageError
from runner.measure.meter import Meter
from runner.measure.vitals import Vitals
from runner.session.feed import Feed
from runner.session.parts import Parts
from runner.session.shutdown import GRACE_S, Closing
from runner.source import Source
from runner.store import Files, Recovery

CHECK_S: Final = 0.25


class Middle(Protocol):
    """What stands between the rows that are fed and the sink: it has them worked on by the service."""

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        """All that work until they are stopped; what earlier sessions left is begun with. They raise what
        ends the run."""

    def places_are_free(self) -> None:
        """Results are written: what waited for their places may go on."""

    def stop_submitting(self) -> None:
        """Nothing more is sent; what is open is still followed."""

    def stop(self) -> None:
        """Neither send nor follow any more."""

    def close(self) -> None:
        """All workers have ended: write down what was announced and not sent."""


M = TypeVar("M", bound=Middle)


@dataclass(frozen=True, slots=True)
class Assignment(Generic[M]):
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
    middle: Callable[[Parts, Source, Feed, Recovery], M]
    """Makes it; its class is the mode of the run."""
    attend: Callable[[Run[M]], Coroutine[Any, Any, None]]
    """Runs beside the run, until it ends: grants rows, shows how things stand, passes on orders."""


async def run(assignment: Assignment[M]) -> RunnerError | None:
    """Work until every granted row has its result, or something ends the session; return what did.

    On return no task is left, and everything received is written and, unless a `StorageError` says
    otherwise, on the disk.
    """
    session = Run(assignment)
    try:
        return await session.work()
    finally:
        await session.close()


class Run(Generic[M]):
    """The tasks of one session in one process."""

    def __init__(self, assignment: Assignment[M]) -> None:
        a = self._a = assignment
        config = a.config
        parts = self._parts = Parts.open(config, a.files, a.run_id, a.base_url, a.key, a.meter, a.say)
        self.contact = parts.contact
        self.feed = Feed(a.source)
        self.middle = a.middle(parts, a.source, self.feed, a.recovery)
        self._workers: list[asyncio.Task[None]] = []
        self.closing = Closing(
            a.meter,
            self._all_done,
            lambda: not (a.meter.open or a.meter.posting),
            config.limits.drain_s,
            a.say,
            stop_submitting=self.middle.stop_submitting,
            cancel=self._cancel_workers,
        )
        parts.sink.on_finished = self._results_written
        parts.sink.on_broken = self.closing.end_by

    async def work(self) -> RunnerError | None:
        try:
            self._parts.begin(self._a.session, resumes=self._a.resumes)
            async with asyncio.TaskGroup() as tasks:
                await self._supervise(tasks)
        except StorageError as error:
            self.closing.stop(error)
        self.middle.close()
        await self._parts.sink.rescue(self._a.config.limits.drain_s, self.closing.hurried, self._a.say)
        return self.closing.ended_by

    async def close(self) -> None:
        """Raises `StorageError`."""
        await self._parts.close()

    async def _supervise(self, tasks: asyncio.TaskGroup) -> None:
        """Start everything; when the run is over, bring everything home."""
        workers = self.middle.workers()
        self._check_limits()
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
        self.middle.stop()
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
        self.middle.places_are_free()

    def _check_limits(self) -> None:
        reached = self._parts.limits.reached()
        if reached is not None:
            self.closing.drain(reached, reached.problems[0].where)

    async def _check_for_ever(self) -> None:
        while True:
            self.closing.check()
            await asyncio.sleep(CHECK_S)
