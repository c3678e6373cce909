"""A worker: the same session as in a single process, with its rows and its end commanded by a coordinator."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from runner.background.mode import BackgroundMode
from runner.config import RunConfig
from runner.engine.messages import (
    AllGranted,
    Answered,
    Channel,
    Command,
    Confirmed,
    Drain,
    Failing,
    Follow,
    GiveBack,
    Grant,
    Report,
    Say,
    Setup,
    Stop,
    WantRows,
    WorkerEnded,
    problems_of,
)
from runner.errors import RunnerError, StoppedEarly
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter, take_latencies
from runner.measure.vitals import Vitals, WorkerVitals, max_rss_bytes
from runner.session.clock import Clock
from runner.session.feed import Only
from runner.session.session import Assignment, Session
from runner.source import Source
from runner.store import Recovery, RunDir
from runner.transport import Transport

REPORT_S: Final = 0.2
LATENCIES_EVERY: Final = 5
"""Every report of this number has latencies: they are larger than the rest, and shown once a second."""
IDLE_REPORTS: Final = 5
"""Consecutive reports without a row sent, after which waiting rows are given back."""
FEW_ROWS: Final = 64
"""Rows left to send below which the worker asks for more."""

STOPPED: Final = StoppedEarly("the coordinator stopped this worker")


class WorkerSession:
    """Runs one session in this process on commands of the coordinator, and reports to it.

    It is the `Host` of that session.
    """

    def __init__(
        self,
        setup: Setup,
        config: RunConfig,
        source: Source,
        meter: Meter,
        transport: Transport,
        channel: Channel[Command],
        clock: Clock,
    ) -> None:
        """Open the worker's files; call it with the event loop running. Raises `StorageError`.

        `transport` counts in `meter.wire`.
        """
        self._channel = channel
        self._meter = meter
        self._meter.restarts = setup.restarts
        self._meter.milestones.began = setup.began
        self._in_flight = InFlight()
        self._vitals = Vitals()
        self._recovery = Recovery(0)
        self._has_asked = False
        self._has_reported_confirmed = setup.is_confirmed
        self._progress = (0, 0, 0)
        self._idle_reports = 0
        self._session = Session(
            Assignment(
                config=config,
                run_id=setup.run_id,
                base_url=setup.base_url,
                rows=source,
                files=RunDir(Path(setup.run_dir)).files(setup.worker),
                transport=transport,
                clock=clock,
                meter=self._meter,
                in_flight=self._in_flight,
                vitals=self._vitals,
                session=setup.session,
                resumes=setup.resumes,
                ends_when_complete=False,
            ),
            partial(BackgroundMode, source=source, recovery=self._recovery),
            self,
        )
        if setup.is_confirmed:
            self._session.health.confirm()

    async def run(self) -> None:
        """Work until a command ends the session, or an error; report how it ended. Raises `StorageError`."""
        self.rows_low()
        try:
            outcome = await self._session.run(self._report_forever(), self._obey())
        finally:
            self.report(has_latencies=True)
        ended_by = outcome.ended_by
        if ended_by is None or ended_by is STOPPED:
            self._channel.send(WorkerEnded())
        else:
            self._channel.send(ended(ended_by))

    def report(self, *, has_latencies: bool) -> None:
        """Send the coordinator the counts so far."""
        health = self._session.health
        self._has_reported_confirmed = health.is_confirmed
        self._channel.send(
            Report(
                counts=self._meter.counts,
                in_flight=self._in_flight,
                latencies=take_latencies(self._meter) if has_latencies else {},
                loop_lag=self._vitals.loop_lag.take() if has_latencies else ([], 0.0, 0.0),
                vitals=WorkerVitals(self._vitals.cpu_s, max_rss_bytes(), self._vitals.limited),
                is_confirmed=health.is_confirmed,
                answered_at_mono=health.answered_at_mono,
            )
        )

    def say(self, text: str) -> None:
        """Inform the user of something, through the coordinator."""
        self._channel.send(Say(text))

    def rows_low(self) -> None:
        """Ask for more rows; report at once when the service is first confirmed, for which others wait."""
        session = self._session
        if session.health.is_confirmed and not self._has_reported_confirmed:
            self.report(has_latencies=False)
        if not self._has_asked and len(session.feed) < FEW_ROWS:
            self._has_asked = True
            self._channel.send(WantRows())

    def stopping(self, error: RunnerError) -> None:
        """Report an error at once: others must not send while open exchanges are waited for here."""
        if error is not STOPPED:
            self._channel.send(Failing(type(error).__name__, problems_of(error)))

    async def _report_forever(self) -> None:
        reports = 0
        while True:
            reports += 1
            has_latencies = reports % LATENCIES_EVERY == 0
            self._give_back_idle_rows()
            if has_latencies:
                self._vitals.second_passed(LATENCIES_EVERY * REPORT_S)
            self.report(has_latencies=has_latencies)
            await asyncio.sleep(REPORT_S)

    def _give_back_idle_rows(self) -> None:
        """Give back rows if none was sent for a while: no slot is free here, but one may be elsewhere."""
        feed = self._session.feed
        # The feed alone does not show it: rows are taken many at a time, and sent one by one.
        progress = feed.taken, self._meter.counts.accepted, self._in_flight.finished
        self._idle_reports = 0 if progress != self._progress else self._idle_reports + 1
        self._progress = progress
        if self._idle_reports >= IDLE_REPORTS and len(feed):
            rows = self._session.mode.give_back()
            self._has_asked = False
            self._in_flight.revoke(len(rows))
            self._channel.send(GiveBack(rows))

    async def _obey(self) -> None:
        """Carry out commands until the coordinator is gone; then stop: the journal has everything."""
        while (command := await self._channel.receive()) is not None:
            self._carry_out(command)
        self._session.shutdown.force(STOPPED)

    def _carry_out(self, command: Command) -> None:
        session = self._session
        match command:
            case Grant():
                self._take_rows(command)
            case Follow(jobs=jobs):
                self._in_flight.grant(len(jobs))
                for job in jobs:
                    session.mode.follow_inherited(job)
            case AllGranted():
                session.feed.all_granted = True
            case Confirmed():
                session.health.confirm()
            case Answered(at_mono=at_mono):
                session.health.record_answer(at_mono)
            case Drain():
                session.shutdown.drain(STOPPED)
            case Stop(forced=True):
                session.shutdown.force(STOPPED)
            case Stop():
                session.shutdown.stop(STOPPED)

    def _take_rows(self, grant: Grant) -> None:
        self._has_asked = False
        self._in_flight.grant(len(grant.rows))
        self._in_flight.announce(len(grant.unacknowledged))
        self._recovery.unacknowledged.update(grant.unacknowledged)
        self._recovery.epochs.update(grant.epochs)
        self._session.feed.grant(Only(grant.rows))


def ended(error: RunnerError) -> WorkerEnded:
    """Return the last event of a worker that could not go on."""
    return WorkerEnded(type(error).__name__, problems_of(error))
