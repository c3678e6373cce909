"""Scripts of fake workers, healthy and otherwise, and the crew of workers that a coordinator launches.

    crew = Crew(Steady(takes_s=0.5), Dying(life_s=2.0), then=Steady(slots=3))

Each worker that is launched gets the next script.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from runner.engine.messages import Command, Confirmed, Drain, Follow, Grant, Stop, WantRows
from runner.records import ResultStatus, Usage
from tests.engine.fake_worker import NO_USAGE, Death, FakeWorker, Script, Stopped, now_mono

REPORT_S: Final = 0.2


@dataclass
class Steady:
    """The script of a healthy worker, whose jobs all take `takes_s` and end with `status`."""

    takes_s: float = 1.0
    slots: int = 10
    status: ResultStatus = "completed"
    usage: Usage = NO_USAGE

    async def __call__(self, worker: FakeWorker) -> None:
        """Work until a command ends it."""
        await _Shift(self, worker).work()


class _Shift:
    """What a healthy worker has in hand."""

    def __init__(self, pace: Steady, worker: FakeWorker) -> None:
        self._pace = pace
        self._worker = worker
        self._ready: deque[int] = deque()
        self._running: deque[tuple[float, int]] = deque()
        self._report_due_mono = now_mono()
        self._has_asked = self._is_draining = False

    async def work(self) -> None:
        while not (self._is_draining and not self._running):
            self._advance(now_mono())
            try:
                async with asyncio.timeout_at(self._next_mono()):
                    self._obey(await self._worker.receive())
            except TimeoutError:
                pass

    def _advance(self, now_mono: float) -> None:
        """Do all that is due."""
        worker, pace = self._worker, self._pace
        while self._running and self._running[0][0] <= now_mono:
            worker.finish(self._running.popleft()[1], status=pace.status, usage=pace.usage)
        while self._ready and len(self._running) < (pace.slots if worker.is_confirmed else 1):
            row = self._ready.popleft()
            worker.post(row)
            worker.accept(row)
            self._running.append((now_mono + pace.takes_s, row))
        if not (self._has_asked or self._is_draining) and len(self._ready) < pace.slots:
            self._has_asked = True
            worker.send(WantRows())
        if self._report_due_mono <= now_mono:
            self._report_due_mono = now_mono + REPORT_S
            worker.report()

    def _next_mono(self) -> float:
        ends_mono = self._running[0][0] if self._running else math.inf
        return min(self._report_due_mono, ends_mono)

    def _obey(self, command: Command) -> None:
        worker = self._worker
        match command:
            case Grant(rows=rows):
                assert not self._is_draining, "rows were granted in a drain"
                self._has_asked = False
                worker.take(rows)
                self._ready.extend(rows)
            case Follow(jobs=jobs):
                worker.follow(len(jobs))
                self._running.extend((now_mono() + self._pace.takes_s, job.row) for job in jobs)
            case Confirmed():
                worker.is_confirmed = True
            case Drain():
                self._is_draining = True
                self._ready.clear()
            case Stop():
                raise Stopped


@dataclass
class Dying:
    """The script of a worker that works for `life_s` and then dies."""

    life_s: float
    reason: str = "SIGKILL"
    pace: Steady = field(default_factory=Steady)

    async def __call__(self, worker: FakeWorker) -> None:
        """Work, then die."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.life_s):
                await self.pace(worker)
        raise Death(self.reason)


async def hang(worker: FakeWorker) -> None:
    """Do nothing at all, not even obey."""
    await asyncio.get_running_loop().create_future()


class Crew:
    """Makes the workers of a run: by the scripts given, in the order in which they are launched."""

    def __init__(self, *scripts: Script | FakeWorker, then: Script | None = None) -> None:
        """Take the script of each worker, or the worker itself; all later ones get the script `then`."""
        self._scripts = scripts
        self._then = then or Steady()
        self.workers: list[FakeWorker] = []
        """All workers, in the order in which they were launched."""

    def launch(self) -> FakeWorker:
        """Return a new worker, which is not started yet."""
        number = len(self.workers)
        script = self._scripts[number] if number < len(self._scripts) else self._then
        worker = script if isinstance(script, FakeWorker) else FakeWorker(script)
        self.workers.append(worker)
        return worker
