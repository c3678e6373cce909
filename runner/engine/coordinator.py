"""Coordinates a session that several workers share: leases go out, reports come in, and it ends for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from runner.engine.leases import MOST_ROWS, Leases, share
from runner.engine.messages import (
    AllGranted,
    Answered,
    Command,
    Confirmed,
    Drain,
    Event,
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
    error_of,
)
from runner.engine.takeover import UnfinishedWork, read_unfinished
from runner.engine.task import Task
from runner.engine.totals import Process, Totals
from runner.engine.workers import Worker
from runner.errors import Problem, RunnerError, StoppedEarly
from runner.measure.vitals import Fleet
from runner.records import Job
from runner.session.limits import LimitCheck
from runner.session.session import SessionOutcome
from runner.session.shutdown import GRACE_S, Shutdown
from runner.store import ignore, recover

MOST_DEATHS: Final = 3
"""Deaths of workers before a run stops: what killed these will kill the next."""
JOBS_PER_MESSAGE: Final = 1000
PASS_ON_S: Final = 0.5
"""Least seconds between two messages to the workers that the service answers."""
LATE_S: Final = 5.0
"""Seconds that workers get to end, in addition to the time for which they may wait."""


@dataclass
class Member:
    """One of the workers, in its first process or a later one."""

    number: int
    worker: Worker
    generation: int = 0
    """Number of processes that were this worker before."""
    has_ended: bool = False
    """Whether it ended in order, after its last report."""
    is_lost: bool = False
    """Whether it died and was not replaced."""

    @property
    def process(self) -> Process:
        """Key of its process among all processes of the session."""
        return self.number, self.generation


class Coordinator:
    """Owns the workers, the rows, the limits on the whole run, and the end of the session. An `Engine`."""

    def __init__(
        self, task: Task, fleet: Fleet, say: Callable[[str], None], launch: Callable[[], Worker]
    ) -> None:
        """`launch` returns a new worker, which is not started yet."""
        self._task = task
        self._say = say
        self._launch = launch
        recovery, meter = task.history.recovery, task.history.meter
        self._meter = meter
        self._fleet = fleet
        self._recovery = recovery
        self._totals = Totals(meter, task.history.in_flight, fleet)
        self._limits = LimitCheck(task.config, meter)
        workers = task.config.engine.workers
        self._members = [Member(number, launch()) for number in range(workers)]
        self._leases = Leases(task.rows, recovery, workers)
        self._followed = len(recovery.outstanding)
        self._done_before = meter.done
        self._wanting: dict[int, None] = {}
        self._is_confirmed = False
        self._answered_at_mono = float("-inf")
        self._has_told_all_granted = False
        self._deaths = 0
        self.shutdown = Shutdown(
            task.history.in_flight,
            is_complete=self._is_complete,
            is_idle=self._all_ended,
            drain_s=task.config.limits.drain_s,
            say=say,
            on_draining=self._drain_all,
            on_stopping=self._stopping,
            on_forced=self._force_all,
        )

    async def run(self, *beside: Coroutine[Any, Any, None]) -> SessionOutcome:
        """Work until every row has its result, or something ends the session; `beside` runs until then.

        Raises `StorageError` where files of the run cannot be read in the end.
        """
        helping = (*beside, self._fleet.watch_loop())
        helpers = [asyncio.create_task(self._guard(it)) for it in helping]
        listeners: list[asyncio.Task[None]] = []
        try:
            await self._start_all()
            self.shutdown.drain_after(self._task.config.limits.max_s)
            self._check_limits()
            listeners = [asyncio.create_task(self._guard(self._listen(member))) for member in self._members]
            await self.shutdown.over.wait()
            await self._finish(listeners)
        finally:
            for task in (*helpers, *listeners):
                task.cancel()
            self._kill_all()
        self._account_for_lost()
        return SessionOutcome(self.shutdown.ended_by)

    async def _start_all(self) -> None:
        """Start the workers, each with its part of the outstanding jobs; stop if one cannot be started."""
        jobs = list(self._recovery.outstanding.values())
        self._recovery.outstanding.clear()
        for member in self._members:
            theirs = jobs[member.number :: len(self._members)]
            for job in theirs:
                self._leases.hold(member.number, job.row)
            try:
                await self._start(member, theirs)
            except StoppedEarly as error:
                self.shutdown.stop(error)
                return

    async def _start(self, member: Member, jobs: list[Job]) -> None:
        task = self._task
        await member.worker.start()
        member.worker.tell(
            Setup(
                config=share(task.config, member.number).model_dump_json().encode(),
                run_dir=str(task.run_dir.path),
                worker=member.number,
                run_id=task.manifest.run_id,
                base_url=task.base_url,
                session=task.session,
                resumes=member.generation > 0 or task.resumes,
                is_confirmed=self._is_confirmed,
                restarts=self._meter.restarts,
                began=self._meter.began,
            )
        )
        for start in range(0, len(jobs), JOBS_PER_MESSAGE):
            member.worker.tell(Follow(jobs[start : start + JOBS_PER_MESSAGE]))
        if self.shutdown.has_begun:  # meanwhile, when the command reached nobody
            member.worker.tell(Drain())

    async def _listen(self, member: Member) -> None:
        """Act on the events of one worker, in all its processes, until it ends."""
        while not member.has_ended:
            event = await member.worker.hear()
            if event is not None:
                self._act_on(member, event)
                continue
            await member.worker.close()
            if not await self._replace(member):
                return
        await member.worker.close()

    def _act_on(self, member: Member, event: Event) -> None:
        match event:
            case WantRows():
                self._wanting[member.number] = None
                self._grant()
            case GiveBack(rows=rows):
                self._wanting.pop(member.number, None)  # it asks again when it has a slot
                self._leases.give_back(member.number, rows)
                self._has_told_all_granted = False
                self._grant()
            case Report():
                self._take_in(member, event)
            case Say(text=text):
                self._say(text)
            case Failing():
                self.shutdown.stop(error_of(event))
            case WorkerEnded():
                member.has_ended = True
                if event.error is not None:
                    self.shutdown.stop(error_of(event))
                self.shutdown.check()

    def _take_in(self, member: Member, report: Report) -> None:
        self._totals.take_in(member.process, report)
        if report.is_confirmed and not self._is_confirmed:
            self._is_confirmed = True
            self._tell_all(Confirmed())
        # An answer to one worker concerns all: what fails for another is no outage.
        if report.answered_at_mono > self._answered_at_mono + PASS_ON_S:
            self._answered_at_mono = report.answered_at_mono
            self._tell_all(Answered(report.answered_at_mono))
        self._check_limits()
        self.shutdown.check()
        self._grant()

    def _check_limits(self) -> None:
        reached = self._limits.reached()
        if reached is not None:
            self.shutdown.drain(reached, reached.problems[0].where)

    def _grant(self) -> None:
        """Grant rows to workers that want some; only to the first worker until the service is confirmed."""
        if self.shutdown.has_begun:
            return
        for number in list(self._wanting):
            if not self._is_confirmed and number > 0:
                continue
            rows = self._leases.take(number, self._allowed_rows())
            if rows:
                del self._wanting[number]
                before = self._leases.unacknowledged(rows)
                self._totals.hand_over(len(before))
                epochs = {row: self._recovery.epochs[row] for row in rows if row in self._recovery.epochs}
                self._members[number].worker.tell(Grant(rows, before, epochs))
        if self._leases.are_over and not self._has_told_all_granted:
            self._has_told_all_granted = True
            self._tell_all(AllGranted())

    def _allowed_rows(self) -> int:
        """Return how many more rows the budget allows.

        The figure is low rather than high: granted rows count as in flight, and results are reported late.
        """
        in_flight = self._followed + self._leases.granted - (self._meter.done - self._done_before)
        rows = 0
        while rows < MOST_ROWS and self._limits.allow_another(in_flight + rows):
            rows += 1
        return rows

    async def _replace(self, member: Member) -> bool:
        """Start another process for a worker that died, and return whether that was done."""
        what = f"worker {member.number} died ({await member.worker.exit_reason()})"
        member.is_lost = True
        self._wanting.pop(member.number, None)
        self._deaths += 1
        held, run_dir = self._leases.held_by(member.number), self._task.run_dir
        work = await asyncio.to_thread(
            read_unfinished, run_dir, member.number, self._task.manifest.rows, held
        )
        self._count(member, work)
        self.shutdown.check()
        if self.shutdown.has_begun:
            return False
        if self._deaths > MOST_DEATHS:
            what = f"{what}, as {MOST_DEATHS} did before it"
            self.shutdown.stop(StoppedEarly(Problem(what, "engine.workers", "find out why, and continue")))
            return False
        self._say(f"{what}: another process continues with its rows")
        self._leases.release(member.number, work.unsent, (job.row for job in work.outstanding))
        self._recovery.unacknowledged.update(work.unacknowledged)
        self._totals.take_back(len(work.unacknowledged))
        self._has_told_all_granted = member.is_lost = False
        member.worker = self._launch()
        member.generation += 1
        await self._start(member, work.outstanding)
        return True

    def _count(self, member: Member, work: UnfinishedWork) -> None:
        """Count what a worker that died has done, in place of what it reported last."""
        counts = work.counts(self._totals.last(member.process))
        self._totals.replace(member.process, counts, work.in_flight())

    async def _finish(self, listeners: list[asyncio.Task[None]]) -> None:
        """Stop all workers and wait for their last reports, at most grace + drain + `LATE_S`."""
        forced = self.shutdown.forced
        self._tell_all(Stop(forced=forced.is_set()))
        ends = asyncio.create_task(asyncio.wait(listeners))
        force = asyncio.create_task(forced.wait())
        # A worker that cannot write may wait for room.
        patience_s = GRACE_S + self._task.config.limits.drain_s + LATE_S
        await asyncio.wait((ends, force), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        force.cancel()
        await asyncio.wait((ends,), timeout=LATE_S)
        ends.cancel()

    def _account_for_lost(self) -> None:
        """Correct the counts by the files of the run, where a worker did not end in order. Blocks."""
        lost = [member for member in self._members if not member.has_ended]
        if not lost:
            return
        run_dir, rows = self._task.run_dir, self._task.manifest.rows
        for member in lost:
            if not member.is_lost:
                self._count(
                    member,
                    read_unfinished(run_dir, member.number, rows, self._leases.held_by(member.number)),
                )
        left = recover(run_dir, rows, ignore, ignore)
        self._totals.settle(left.outstanding_count, left.unacknowledged_count)

    def _is_complete(self) -> bool:
        return self._task.history.in_flight.is_complete

    def _all_ended(self) -> bool:
        # Reports come late: only the end of a worker shows that nothing of it is outstanding.
        return all(member.has_ended or member.is_lost for member in self._members)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - even then the workers must end in order
            self.shutdown.fail(error)

    def _tell_all(self, command: Command) -> None:
        for member in self._members:
            member.worker.tell(command)

    def _drain_all(self) -> None:
        self._tell_all(Drain())

    def _stopping(self, error: RunnerError) -> None:
        """Do nothing: the session is over now, and `_finish` stops the workers."""

    def _force_all(self) -> None:
        self._tell_all(Stop(forced=True))

    def _kill_all(self) -> None:
        """Kill all workers, so that none outlives the session."""
        for member in self._members:
            member.worker.kill()
