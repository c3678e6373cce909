"""A worker process: the same run as in a single process, its rows and its end on order of the main process.

`main(FD)`, where FD is its end of a socket pair. It ends when the other end does.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Final

import uvloop

from runner.background.mode import Background
from runner.commands.signals import SIGNALS
from runner.config import RunConfig
from runner.engine.messages import (
    AllGranted,
    Answered,
    Channel,
    Drain,
    Ended,
    Failing,
    Follow,
    GiveBack,
    Grant,
    Met,
    Order,
    Report,
    Say,
    Setup,
    Stop,
    Want,
    problems_of,
)
from runner.engine.preflight import allow_connections, read_key
from runner.engine.task import tune_gc
from runner.errors import RunnerError, StoppedEarly
from runner.measure.merging import take_latencies, totals_of
from runner.measure.meter import Meter
from runner.measure.vitals import Vitals, max_rss_bytes
from runner.session.feed import These
from runner.session.session import Assignment, Run, run
from runner.session.shutdown import Closing
from runner.source import Source
from runner.store import Recovery, RunDir

REPORT_S: Final = 0.2
LATENCIES_EVERY: Final = 5
"""Reports: latencies are larger than the rest, and shown once a second."""
WAITING_REPORTS: Final = 5
"""In which no row was taken, before those that wait are given back."""
FEW_ROWS: Final = 64
"""Left to send, when more are asked for."""

ORDERED: Final = StoppedEarly("the main process of the run ended this worker")


def main(fd: int) -> None:
    for signum in SIGNALS:  # they are for the main process, which tells what follows from them
        signal.signal(signum, signal.SIG_IGN)
    uvloop.run(_serve(socket.socket(fileno=fd)))


async def _serve(end: socket.socket) -> None:
    channel: Channel[Order] = await Channel.open(end, Order)
    setup = await channel.receive()
    if not isinstance(setup, Setup):
        return
    worker = Worker(setup, channel)
    error: RunnerError | None
    try:
        error = await worker.work()
    except RunnerError as raised:
        error = raised
    worker.report(latencies=True)
    channel.send(Ended() if error is None else Ended(type(error).__name__, problems_of(error)))
    await channel.close()


class Worker:
    """Obeys, and reports."""

    def __init__(self, setup: Setup, channel: Channel[Order]) -> None:
        self._setup = setup
        self._channel = channel
        self._config = RunConfig.model_validate_json(setup.config)
        self._meter = Meter(0)
        self._meter.restarts = setup.restarts
        self._meter.milestones.began = setup.began
        self._vitals = Vitals()
        self._recovery = Recovery(0)
        self._has_asked = False
        self._has_contact = False
        self._taken = self._idle_reports = 0
        self._answered_at = float("-inf")

    async def work(self) -> RunnerError | None:
        """What ended the worker, unless it is an order. Raises `RunnerError`."""
        setup = self._setup
        key = read_key(self._config)
        allow_connections(self._config)
        source = Source(self._config)
        tune_gc()
        ended_by = await run(
            Assignment(
                config=self._config,
                run_id=setup.run_id,
                base_url=setup.base_url,
                key=key,
                source=source,
                files=RunDir(Path(setup.run_dir)).files(setup.worker),
                session=setup.session,
                resumes=setup.resumes,
                recovery=self._recovery,
                meter=self._meter,
                vitals=self._vitals,
                say=lambda text: self._channel.send(Say(text)),
                ends_when_done=False,
                middle=Background,
                attend=self._attend,
            )
        )
        return None if ended_by is ORDERED else ended_by

    def report(self, *, latencies: bool) -> None:
        """Tell the main process how things stand."""
        self._channel.send(
            Report(
                totals=totals_of(self._meter),
                latencies=take_latencies(self._meter) if latencies else {},
                loop_lag=self._vitals.loop_lag.take() if latencies else ([], 0.0, 0.0),
                has_contact=self._has_contact,
                answered_at=self._answered_at,
                cpu_s=self._vitals.cpu_s,
                rss_bytes=max_rss_bytes(),
                is_limited=self._vitals.limited,
            )
        )

    async def _attend(self, run: Run[Background]) -> None:
        if self._setup.has_contact:
            run.contact.meet()
        run.closing.on_stop = self._tell_of_failure
        run.feed.on_low = lambda: self._want(run)
        self._want(run)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report_for_ever(run))
            await self._obey(run)

    def _want(self, run: Run[Background]) -> None:
        if run.contact.made and not self._has_contact:  # the others wait for that
            self._has_contact = True
            self.report(latencies=False)
        if not self._has_asked and len(run.feed) < FEW_ROWS:
            self._has_asked = True
            self._channel.send(Want())

    def _tell_of_failure(self, error: RunnerError) -> None:
        """At once: it may take a while to bring home what there is, and meanwhile nobody else may send."""
        if error is not ORDERED:
            self._channel.send(Failing(type(error).__name__, problems_of(error)))

    async def _report_for_ever(self, run: Run[Background]) -> None:
        count = 0
        while True:
            self._answered_at = run.contact.answered_at
            count += 1
            has_latencies = count % LATENCIES_EVERY == 0
            self._give_back_what_waits(run)
            if has_latencies:
                self._vitals.second_passed(LATENCIES_EVERY * REPORT_S)
            self.report(latencies=has_latencies)
            await asyncio.sleep(REPORT_S)

    def _give_back_what_waits(self, run: Run[Background]) -> None:
        """None was taken for a while: no place is free here, and one may be free elsewhere."""
        self._idle_reports = 0 if run.feed.taken != self._taken else self._idle_reports + 1
        self._taken = run.feed.taken
        if self._idle_reports >= WAITING_REPORTS and len(run.feed):
            rows = run.middle.give_back()
            self._has_asked = False
            self._meter.total -= len(rows)
            self._channel.send(GiveBack(rows))

    async def _obey(self, run: Run[Background]) -> None:
        while True:
            order = await self._channel.receive()
            match order:
                case Grant(rows=rows):
                    self._has_asked = False
                    self._meter.total += len(rows)
                    self._meter.unacknowledged += len(order.unacknowledged)
                    self._recovery.unacknowledged.update(order.unacknowledged)
                    self._recovery.epochs.update(order.epochs)
                    run.feed.grant(These(rows))
                case Follow(jobs=jobs):
                    self._meter.total += len(jobs)
                    for job in jobs:
                        run.middle.follow(job)
                case AllGranted():
                    run.feed.all_granted = True
                case Met():
                    run.contact.meet()
                case Answered(at=at):
                    run.contact.hear_of_an_answer(at)
                case Drain():
                    run.closing.drain(ORDERED)
                case Stop(hurry=hurry):
                    _stop(run.closing, hurry=hurry)
                case _:  # the main process is gone, and the journal knows all
                    _stop(run.closing, hurry=True)
                    return


def _stop(closing: Closing, *, hurry: bool) -> None:
    if hurry:
        closing.abandon(ORDERED)
    else:
        closing.stop(ORDERED)
