"""One session of a run on one event loop: the only place where its parts meet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from runner.config import RunConfig
from runner.errors import RunnerError
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.measure.vitals import Vitals
from runner.session.clock import Clock
from runner.session.feed import Feed, Rows
from runner.session.health import FIRST_PATIENCE_S, ServiceHealth
from runner.session.limits import LimitCheck
from runner.session.parts import Parts
from runner.session.shutdown import GRACE_S, Shutdown
from runner.session.sink import Sink, WrittenResult
from runner.store import Files, Journal, Reserve, Results, SessionStart
from runner.transport import Transport

CHECK_S: Final = 0.25
"""Seconds between checks of whether the session may end, besides those after each result."""

AcceptedT = TypeVar("AcceptedT", contravariant=True)


class Mode(Protocol[AcceptedT]):
    """How rows become results: one background job per row, or batches. Sits between feed and sink."""

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        """Return the workers, which work until they are stopped; what earlier sessions left comes first.

        The session ends when all of them have ended. They raise what ends the run.
        """

    def follow(self, accepted: AcceptedT) -> int:
        """Poll something whose acceptance is on record, and return how many rows it has."""

    def wake(self) -> None:
        """Send what may be sent now: rows were read, slots are free, or the service is confirmed."""

    def stop_submitting(self) -> None:
        """Send nothing more; what is outstanding is still polled."""

    def stop(self) -> None:
        """Neither send nor poll any more."""

    def close(self) -> None:
        """Write down what was announced and not sent; all workers have ended."""


class Host(Protocol):
    """Who runs a session: a command, or a worker process that speaks for one."""

    def say(self, text: str) -> None:
        """Inform the user of something."""

    def rows_low(self) -> None:
        """Grant more rows, or ask for them: few are left to send. Called at each row that is taken then."""

    def stopping(self, error: RunnerError) -> None:
        """Pass on that an error stops the session. Called at once, before open exchanges have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The work of one process in one session of a run, and everything that it needs for it."""

    config: RunConfig
    """Its limits are those of this process."""
    run_id: str
    base_url: str
    """The address that `transport` sends to, for messages."""
    rows: Rows
    files: Files
    transport: Transport
    clock: Clock
    meter: Meter
    in_flight: InFlight
    vitals: Vitals
    session: int
    """The number of the session in the run, from 0."""
    resumes: bool
    """Whether the session comes after an earlier one, or in place of a process that died."""
    ends_when_complete: bool = True
    """Whether the session ends once every granted row has its result; else only when it is stopped."""
    first_patience_s: float = FIRST_PATIENCE_S
    """Seconds of failures after which an address that never answered is given up."""


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """How a session ended."""

    ended_by: RunnerError | None
    """What ended it before every row had its result, or None."""


M = TypeVar("M", bound=Mode[Any])


class Session(Generic[M]):
    """Owns every part and every task of one session, and its end.

    All that follows from a write stands in `_written`, which is called once per turn of the event loop.
    """

    def __init__(
        self, assignment: Assignment, make_mode: Callable[[Parts[Any], Feed], M], host: Host
    ) -> None:
        """Open the files of the run; call it with the event loop running. Raises `StorageError`."""
        a, config = assignment, assignment.config
        self._a = a
        self._host = host
        self._workers: list[asyncio.Task[None]] = []
        self._helpers: list[asyncio.Task[None]] = []
        self._limits = LimitCheck(config, a.meter)
        self._journal = Journal(a.files.journal)
        self._sink: Sink[Any] = Sink(
            self._journal,
            Results(a.files.results),
            config.sink.store,
            config.sink.fsync_s,
            on_written=self._written,
            on_broken=self._broken,
        )
        self._reserve = Reserve(a.files.reserve)  # once both logs are open: otherwise it would be left behind
        self.health = ServiceHealth(
            config, a.base_url, a.first_patience_s, say=host.say, on_confirmed=self._wake
        )
        self.feed = Feed(a.rows, on_rows=self._wake, on_low=host.rows_low)
        self._parts = Parts(
            config=config,
            files=a.files,
            run_id=a.run_id,
            transport=a.transport,
            sink=self._sink,
            meter=a.meter,
            in_flight=a.in_flight,
            clock=a.clock,
            health=self.health,
            limits=self._limits,
            say=host.say,
            random=random.Random(a.run_id),
        )
        self.mode = make_mode(self._parts, self.feed)
        self.shutdown = Shutdown(
            a.in_flight,
            is_complete=self._is_complete,
            is_idle=self._is_idle,
            drain_s=config.limits.drain_s,
            say=host.say,
            on_draining=self.mode.stop_submitting,
            on_stopping=host.stopping,
            on_forced=self._cancel_workers,
        )

    async def run(self, *beside: Coroutine[Any, Any, None]) -> SessionOutcome:
        """Work until every granted row has its result, or something ends the session.

        The coroutines in `beside` run until then as well; an error in one of them stops the session. On
        return no task is left. Everything that was received is written and, unless the outcome is a
        `StorageError`, on the disk.
        Raises `StorageError` where the files cannot even be closed.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._start(tasks, beside)
                await self.shutdown.over.wait()
                await self._finish()
        finally:
            await self._close()
        return SessionOutcome(self.shutdown.ended_by)

    def _start(self, tasks: asyncio.TaskGroup, beside: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Mark the beginning in the journal, then start everything; an error in that stops the session."""
        workers: list[Coroutine[Any, Any, None]] = []
        try:
            workers = self._begin()
        except Exception as error:  # noqa: BLE001 - see `Shutdown.fail`
            self.shutdown.fail(error)
        self._check_limits()
        self.shutdown.drain_after(self._a.config.limits.max_s)
        self._workers = [tasks.create_task(self._guard(worker)) for worker in workers]
        helpers = (
            self.feed.fill(),
            self._sink.sync_forever(),
            self._a.vitals.watch_loop(),
            self._check_forever(),
            self._end_after_workers(),
            *beside,
        )
        self._helpers = [tasks.create_task(self._guard(helper)) for helper in helpers]

    def _begin(self) -> list[Coroutine[Any, Any, None]]:
        """Mark the beginning in the journal, and return all that is to work. Raises `StorageError`."""
        began = self._a.clock.now()
        self._journal.write(SessionStart(at=began, number=self._a.session))
        if self._a.resumes:  # there may be jobs that nobody watched for a while
            self._a.meter.restarts.append(began)
        return self.mode.workers()

    async def _finish(self) -> None:
        """Stop everything, and let open exchanges end for a moment: each may bring a paid result."""
        self._reserve.release()
        self.mode.stop()
        if self._workers:
            await asyncio.wait(self._workers, timeout=GRACE_S)
        await asyncio.sleep(0)  # cancelling a task that never began would leave its work unawaited
        for task in (*self._workers, *self._helpers):
            task.cancel()

    async def _close(self) -> None:
        """Write what is left to write, and close everything. Raises `StorageError`."""
        try:
            self.mode.close()
            await self._sink.rescue(self._a.config.limits.drain_s, self.shutdown.forced, self._host.say)
        finally:
            self._reserve.release()
            await self._a.transport.close()
            await asyncio.to_thread(self._sink.close)

    def _written(self, accepted: Sequence[Any], ended: Sequence[WrittenResult]) -> None:
        """Act on what was written in this turn of the event loop: all that follows from it stands here."""
        in_flight, meter = self._a.in_flight, self._a.meter
        in_flight.accept(sum(map(self.mode.follow, accepted)))
        outstanding = 0
        for it in ended:
            if it.was_outstanding:
                outstanding += 1
            else:
                in_flight.refuse(announced=it.was_announced)
            meter.finished(it.result.status, it.result.timing, it.usage)
        in_flight.finish(outstanding)
        if ended:
            self._check_limits()
            self.shutdown.check()
            self.mode.wake()

    def _broken(self, error: Exception) -> None:
        self.shutdown.fail(error)

    def _wake(self) -> None:
        self.mode.wake()

    def _is_complete(self) -> bool:
        return self._a.ends_when_complete and self.feed.all_granted and self._a.in_flight.is_complete

    def _is_idle(self) -> bool:
        return self._a.in_flight.is_idle and self._sink.is_settled

    def _check_limits(self) -> None:
        reached = self._limits.reached()
        if reached is not None:
            self.shutdown.drain(reached, reached.problems[0].where)

    async def _check_forever(self) -> None:
        while True:
            self.shutdown.check()
            await asyncio.sleep(CHECK_S)

    async def _end_after_workers(self) -> None:
        """End the session once no worker is left, which may be before every row has its result."""
        if self._workers:
            await asyncio.wait(self._workers)
        self.shutdown.over.set()

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Stop the session in order on an error: a neighbour's answer that is on its way still counts."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - see `Shutdown.fail`
            self.shutdown.fail(error)

    def _cancel_workers(self) -> None:
        for worker in self._workers:
            worker.cancel()
