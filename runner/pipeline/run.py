"""One session of a run on one event loop: owns every task, the signals, the drain and the end."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from runner.config.sections import RunConfig
from runner.errors import Interrupted, RunnerError
from runner.measure.meter import Meter
from runner.measure.progress import REDRAW_S, Progress
from runner.measure.series import Series
from runner.measure.summary import Session
from runner.measure.vitals import Vitals
from runner.pipeline.clock import Clock
from runner.pipeline.contact import Contact
from runner.pipeline.feed import Feed
from runner.pipeline.parts import Parts
from runner.pipeline.poller import Poller
from runner.pipeline.signals import Signals
from runner.pipeline.sink import Sink
from runner.pipeline.submitter import Submitter
from runner.source import Source
from runner.store import Journal, Recovery, Results, RunDir, SessionStart
from runner.transport import open_transport

SAMPLE_S: Final = 1.0
GRACE_S: Final = 2.0
"""After the drain, for exchanges that are still under way."""


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
    """The tasks of one session. `_over` is set when all is done, drained, or stopped for the second time."""

    def __init__(self, assignment: Assignment) -> None:
        a = self._a = assignment
        config = a.config
        self._clock = Clock()
        self._journal = Journal(a.run_dir.journal)
        self._results = Results(a.run_dir.results)
        self._series = Series(a.run_dir.metrics, a.meter, a.vitals, a.session)
        self._sink = Sink(self._results, self._journal, a.meter, config.sink.store, config.sink.fsync_s)
        self._transport = open_transport(config, a.base_url, a.key)
        parts = Parts(
            config=config,
            run_id=a.run_id,
            transport=self._transport,
            journal=self._journal,
            sink=self._sink,
            meter=a.meter,
            clock=self._clock,
            contact=Contact(a.base_url, a.progress.say),
            warn=a.progress.say,
            random=random.Random(a.run_id),
        )
        self._followed = frozenset(a.recovery.open)
        self._feed = Feed(a.source, a.rows, self._needs_no_post)
        self._poller = Poller(parts)
        self._submitter = Submitter(
            parts, a.source, self._feed, a.recovery.unacknowledged, self._poller.follow
        )
        self._sink.on_finished = self._result_written
        self._over = asyncio.Event()
        self._interrupted: Interrupted | None = None
        self._workers: list[asyncio.Task[None]] = []
        self._ended_by: RunnerError | None = None
        self._started = self._clock.now()

    async def run(self) -> RunnerError | None:
        began = self._clock.unix(self._started)
        self._journal.write(SessionStart(at=began))
        if self._a.session.continued:
            self._a.meter.restarts.append(began)
        self._a.signals.hand_to(asyncio.get_running_loop(), self._signalled)
        for signum in self._a.signals.received:  # while the simulator or a transport was starting
            self._signalled(signum)
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._supervise(tasks)
        except* RunnerError as group:
            self._ended_by = _first(group)
        self._a.signals.handler = Signals.ignore
        return self._ended_by or (self._interrupted if self._unfinished else None)

    async def close(self) -> None:
        """Sync, write the last sample, close. Raises `StorageError`."""
        await self._transport.close()
        try:
            await asyncio.to_thread(self._sink.sync)
            self._sample()
        finally:
            self._series.close()
            self._journal.log.close()
            self._results.log.close()

    @property
    def _unfinished(self) -> bool:
        return self._a.meter.done < self._a.meter.total

    async def _supervise(self, tasks: asyncio.TaskGroup) -> None:
        """Start everything; when the run is over, or drained, bring everything home."""
        config = self._a.config
        while self._a.recovery.open:
            self._poller.follow_again(self._a.recovery.open.popitem()[1])
        self._workers = [
            *(tasks.create_task(self._submitter.work()) for _ in range(config.submit.concurrency)),
            *(tasks.create_task(self._poller.work()) for _ in range(config.poll.concurrency)),
        ]
        helpers: list[Coroutine[Any, Any, None]] = [
            self._feed.fill(),
            self._sink.sync_for_ever(),
            self._a.vitals.watch_loop(),
            self._draw_for_ever(),
            self._sample_for_ever(),
        ]
        helping = [tasks.create_task(helper) for helper in helpers]
        await self._over.wait()
        self._submitter.turnstile.close()
        self._poller.turnstile.close()
        # What is under way may bring an acceptance or a result; the journal covers it where it does not.
        await asyncio.wait(self._workers, timeout=GRACE_S)
        for task in (*self._workers, *helping):
            task.cancel()

    def _needs_no_post(self, row: int) -> bool:
        return row in self._a.recovery.done or row in self._followed

    def _result_written(self) -> None:
        self._check_whether_over()
        self._submitter.turnstile.wake()  # a place in flight is free

    def _check_whether_over(self) -> None:
        meter = self._a.meter
        drained = self._interrupted and not meter.open and not meter.posting
        if drained or meter.done >= meter.total:
            self._over.set()

    def _signalled(self, signum: int) -> None:
        """First: stop submitting, poll on for `drain_s`. Second: stop at once."""
        drain_s = self._a.config.limits.drain_s
        if self._interrupted:
            self._over.set()
            for worker in self._workers:
                worker.cancel()
            return
        self._interrupted = Interrupted(signum)
        self._submitter.turnstile.close()
        self._a.progress.say(
            f"{signal.Signals(signum).name}: no more is sent; waiting at most {drain_s:g} s for "
            f"{self._a.meter.open:,} open jobs (again: stop at once)"
        )
        asyncio.get_running_loop().call_later(drain_s, self._over.set)

    async def _draw_for_ever(self) -> None:
        while True:
            self._a.progress.draw()
            self._check_whether_over()
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


def _first(group: BaseExceptionGroup[RunnerError]) -> RunnerError:
    """Many workers meet the same end; it is told once."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
