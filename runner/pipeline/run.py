"""One session of a run on one event loop: owns every task, the signals, the drain and the end."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from runner.config.sections import RunConfig
from runner.errors import LimitReached, Problem, RunnerError, StoppedEarly, StorageError
from runner.measure.meter import Meter
from runner.measure.progress import REDRAW_S, Progress
from runner.measure.series import Series
from runner.measure.summary import Session
from runner.measure.vitals import Vitals
from runner.pipeline.closing import GRACE_S, Closing
from runner.pipeline.feed import Feed
from runner.pipeline.intake import Intake
from runner.pipeline.parts import Parts
from runner.pipeline.poller import Poller
from runner.pipeline.signals import Signals
from runner.pipeline.submitter import Submitter
from runner.source import Source
from runner.store import Recovery, RunDir

SAMPLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one session is to do."""

    config: RunConfig
    run_id: str
    base_url: str
    key: str
    rows: int
    """Rows of the input to send: all, or the first of them."""
    source: Source
    run_dir: RunDir
    recovery: Recovery
    meter: Meter
    session: Session
    vitals: Vitals
    progress: Progress
    signals: Signals


async def run(assignment: Assignment) -> RunnerError | None:
    """Work until every row has its result, or something ends the session; return what did.

    On return no task is left, and everything received is written and, unless a `StorageError` says
    otherwise, on the disk.
    """
    worker = _Run(assignment)
    try:
        return await worker.run()
    finally:
        await worker.close()


class _Run:
    """The tasks of one session."""

    def __init__(self, assignment: Assignment) -> None:
        a = self._a = assignment
        config = a.config
        parts = self._parts = Parts.open(
            config, a.run_dir, a.run_id, a.base_url, a.key, a.meter, a.progress.say
        )
        self._clock = parts.clock
        self._series = Series(a.run_dir.metrics, a.meter, a.vitals, a.session)
        self._followed = frozenset(a.recovery.open)
        self._feed = Feed(a.source, a.rows, self._needs_no_post)
        self._intake = Intake(parts, a.source, self._feed, a.recovery)
        self._poller = Poller(parts)
        self._submitter = Submitter(parts, self._intake, self._poller.follow)
        self._feed.on_more = self._submitter.turnstile.wake
        self._poller.on_forgotten = self._submitter.resend
        parts.sink.on_finished = self._results_written
        self._workers: list[asyncio.Task[None]] = []
        self._closing = Closing(
            a.meter,
            config.limits.drain_s,
            a.progress.say,
            stop_submitting=self._submitter.turnstile.close,
            cancel=self._cancel_workers,
        )
        parts.sink.on_broken = self._closing.stop
        self._started = self._clock.now()

    async def run(self) -> RunnerError | None:
        try:
            self._begin()
            async with asyncio.TaskGroup() as tasks:
                await self._supervise(tasks)
            self._intake.close()
            drain_s = self._a.config.limits.drain_s
            await self._parts.sink.rescue(drain_s, self._closing.hurried, self._a.progress.say)
        except StorageError as error:
            self._closing.stop(error)
        self._a.signals.handler = Signals.ignore
        return self._closing.ended_by

    async def close(self) -> None:
        """Sync, close, write the last sample. Raises `StorageError`."""
        try:
            await self._parts.close()
            self._sample()
        finally:
            self._series.close()

    def _begin(self) -> None:
        """Raises `StorageError`."""
        a = self._a
        self._parts.begin(continued=bool(a.session.continued))
        loop = asyncio.get_running_loop()
        a.signals.hand_to(loop, self._closing.signal)
        for signum in a.signals.received:  # while the simulator or a transport was starting
            self._closing.signal(signum)
        max_s = a.config.limits.max_s
        if max_s is not None:
            over = LimitReached(Problem("the time is over", f"limits.max_s {max_s:g}"))
            loop.call_later(max_s, self._closing.drain, over, "limits.max_s")

    async def _supervise(self, tasks: asyncio.TaskGroup) -> None:
        """Start everything; when the run is over, bring everything home."""
        config = self._a.config
        while self._a.recovery.open:
            self._poller.follow_again(self._a.recovery.open.popitem()[1])
        self._check_limits()
        workers = [
            *(self._submitter.work() for _ in range(config.submit.concurrency)),
            *(self._poller.work() for _ in range(config.poll.concurrency)),
        ]
        self._workers = [tasks.create_task(self._guard(worker)) for worker in workers]
        helpers: list[Coroutine[Any, Any, None]] = [
            self._feed.fill(),
            self._parts.sink.sync_for_ever(),
            self._a.vitals.watch_loop(),
            self._draw_for_ever(),
            self._sample_for_ever(),
        ]
        helping = [tasks.create_task(self._guard(helper)) for helper in helpers]
        await self._closing.over.wait()
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
        except RunnerError as error:
            self._closing.stop(error)
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not lose what is under way either
            self._a.progress.say(traceback.format_exc())
            what = f"a defect of this program: {defect!r}; please report it with the lines above"
            self._closing.stop(StoppedEarly(what))

    def _cancel_workers(self) -> None:
        for worker in self._workers:
            worker.cancel()

    def _needs_no_post(self, row: int) -> bool:
        return row in self._a.recovery.done or row in self._followed

    def _results_written(self) -> None:
        self._check_limits()
        self._closing.check()
        self._submitter.turnstile.wake()  # places in flight are free

    def _check_limits(self) -> None:
        reached = self._parts.limits.reached()
        if reached is not None:
            self._closing.drain(reached, reached.problems[0].where)

    async def _draw_for_ever(self) -> None:
        while True:
            self._a.progress.draw()
            self._closing.check()
            await asyncio.sleep(REDRAW_S)

    async def _sample_for_ever(self) -> None:
        due = self._clock.now()
        while True:
            due += SAMPLE_S
            await asyncio.sleep(max(due - self._clock.now(), 0.0))
            self._sample()

    def _sample(self) -> None:
        now = self._clock.now()
        self._a.session.wall_s = now - self._started
        self._series.sample(self._clock.unix(now))
