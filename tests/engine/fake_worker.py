"""A worker in memory: a script says what it does, and every command that it gets is on record.

A fake writes the journal and results files of its number as a real worker does, so that a successor, or the
end of a run, finds there what it left.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from runner.engine.messages import (
    Command,
    Drain,
    Event,
    Follow,
    Grant,
    Report,
    Setup,
    Stop,
    WantRows,
    WorkerEnded,
)
from runner.engine.worker import ended
from runner.errors import RunnerError, StoppedEarly
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter, take_latencies
from runner.measure.vitals import WorkerVitals
from runner.records import Result, ResultStatus, Timing, Usage
from runner.store import Acceptance, Intent, Journal, Results, RunDir, SessionStart

NO_USAGE: Final = Usage()

Script = Callable[["FakeWorker"], Coroutine[Any, Any, None]]
SomeCommand = TypeVar("SomeCommand", bound=Command)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Event).decode


class Death(Exception):
    """Raised in a script: the worker dies without a last event. The text is its exit reason."""


class Stopped(Exception):
    """Raised in a script where a command ends it."""


class FakeWorker:
    """A `Worker` whose process is a script on the event loop of the test."""

    def __init__(self, script: Script, *, start_s: float = 0.0, fault: str = "") -> None:
        """Make a worker whose start takes `start_s`, or fails with `fault`."""
        self._script = script
        self._start_s = start_s
        self._fault = fault
        self._inbox: asyncio.Queue[Command] = asyncio.Queue()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._reason = "exit code 0"
        self.commands: list[tuple[float, Command]] = []
        """Every command with the loop time at which it came."""
        self.heard: Report | None = None
        """The last report that the coordinator has heard."""
        self.is_closed = self.was_killed = self.has_died = False
        self.failure: Exception | None = None
        """A mistake in the script."""
        self.meter = Meter()
        self.in_flight = InFlight()
        self.is_confirmed = False
        self.answered_at_mono = -math.inf

    def __repr__(self) -> str:
        return f"<FakeWorker {self.in_flight!r}, {len(self.commands)} commands>"

    # What the coordinator calls.

    async def start(self) -> None:
        await asyncio.sleep(self._start_s)
        if self._fault:
            raise StoppedEarly(self._fault)
        self._task = asyncio.create_task(self._live())

    def tell(self, command: Command) -> None:
        if self._task is not None and not self._task.done():
            self.commands.append((now_mono(), command))
            self._inbox.put_nowait(command)

    async def hear(self) -> Event | None:
        event = None if self._task is None else await self._events.get()
        if isinstance(event, Report):
            self.heard = event
        return event

    async def exit_reason(self) -> str:
        return self._reason

    async def close(self) -> None:
        self.is_closed = True

    def kill(self) -> None:
        self.was_killed = True
        if self._task is not None:
            self._task.cancel()

    # What tests ask.

    def got(self, kind: type[SomeCommand]) -> list[SomeCommand]:
        """Return the commands of one kind, in order."""
        return [command for _, command in self.commands if isinstance(command, kind)]

    def got_at(self, kind: type[Command]) -> list[float]:
        """Return the loop times of the commands of one kind, in order."""
        return [at_mono for at_mono, command in self.commands if isinstance(command, kind)]

    @property
    def setup(self) -> Setup:
        """The first command."""
        return self.got(Setup)[0]

    @property
    def granted(self) -> list[int]:
        """All rows that it was granted, in order."""
        return [row for grant in self.got(Grant) for row in grant.rows]

    @property
    def followed(self) -> list[int]:
        """Rows of all jobs that it was to follow."""
        return [job.row for follow in self.got(Follow) for job in follow.jobs]

    # What scripts do.

    def send(self, event: Event) -> None:
        """Send an event, by way of its encoding, as between processes."""
        self._events.put_nowait(_decode(_encode(event)))

    def report(self) -> None:
        """Report the counts so far."""
        self.send(
            Report(
                counts=self.meter.counts,
                in_flight=self.in_flight,
                latencies=take_latencies(self.meter),
                loop_lag=([], 0.0, 0.0),
                vitals=WorkerVitals(cpu_s=1.0, rss_bytes=1 << 20, is_limited=False),
                is_confirmed=self.is_confirmed,
                answered_at_mono=self.answered_at_mono,
            )
        )

    async def receive(self) -> Command:
        """Return the next command."""
        return await self._inbox.get()

    async def rows(self) -> list[int]:
        """Ask for rows and return the next grant; a drain or a stop ends the script in order."""
        self.send(WantRows())
        while True:
            match await self.receive():
                case Grant(rows=rows):
                    self.take(rows)
                    return rows
                case Drain() | Stop():
                    raise Stopped

    async def stopped(self) -> None:
        """Wait for a stop, and end the script in order."""
        while not isinstance(await self.receive(), Stop):
            pass
        raise Stopped

    def take(self, rows: list[int]) -> None:
        """Count granted rows as its own."""
        self.in_flight.grant(len(rows))

    def post(self, *rows: int) -> None:
        """Put intents on record, for rows that occupy a slot from now on."""
        now = now_mono()
        self._journal.write(
            *(Intent(row=row, custom_id=f"row-{row}", key=f"key-{row}", due=now, at=now) for row in rows)
        )
        self.in_flight.take(len(rows))
        self.in_flight.announce(len(rows))

    def accept(self, *rows: int) -> None:
        """Put on record that the service works on announced rows."""
        now = now_mono()
        self._journal.write(
            *(Acceptance(row=row, job=f"job-{row}", kind="m", attempts=1, at=now) for row in rows)
        )
        self.in_flight.accept(len(rows))
        self.meter.accept(now, now, len(rows))
        self.answered()

    def answered(self) -> None:
        """Note that the service has answered; the first answer is reported at once."""
        self.answered_at_mono = now_mono()
        if not self.is_confirmed:
            self.is_confirmed = True
            self.report()

    def follow(self, jobs: int) -> None:
        """Count jobs of others as its own."""
        self.in_flight.grant(jobs)
        self.in_flight.inherit(jobs)

    def finish(self, *rows: int, status: ResultStatus = "completed", usage: Usage = NO_USAGE) -> None:
        """Put results of accepted rows on record."""
        now = now_mono()
        timing = Timing(due=now, sent=now, accepted=now, pending=None, done=now)
        self._results.write(*(Result(f"row-{row}", row, status, None, None, timing, 1, 2) for row in rows))
        self.in_flight.finish(len(rows))
        for _ in rows:
            self.meter.counts.polls += 2
            self.meter.finished(status, timing, usage)

    async def _live(self) -> None:
        try:
            setup = await self.receive()
            assert isinstance(setup, Setup), setup
            files = RunDir(Path(setup.run_dir)).files(setup.worker)
            self._journal, self._results = Journal(files.journal), Results(files.results)
            with closing(self._journal.log), closing(self._results.log):
                self.is_confirmed = setup.is_confirmed
                self._journal.write(SessionStart(at=now_mono(), number=setup.session))
                with suppress(Stopped):
                    await self._script(self)
            self.report()
            self.send(WorkerEnded())
        except Death as death:
            self._reason, self.has_died = str(death), True
        except RunnerError as error:
            self.report()
            self.send(ended(error))
        except Exception as error:  # noqa: BLE001 - a mistake of the test: see `failure`
            self.failure = error
        finally:
            self._events.put_nowait(None)


def now_mono() -> float:
    """Return the time of the event loop."""
    return asyncio.get_running_loop().time()
