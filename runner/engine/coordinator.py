"""A session worked on by several processes: leases out, reports in, one progress, one end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from runner.engine.leases import MOST_ROWS, Leases, share
from runner.engine.messages import (
    AllGranted,
    Answered,
    Drain,
    Ended,
    Failing,
    Follow,
    GiveBack,
    Grant,
    Met,
    News,
    Order,
    Report,
    Say,
    Setup,
    Stop,
    Want,
    error_of,
)
from runner.engine.subprocess_worker import WorkerProcess
from runner.engine.takeover import Estate, estate_of
from runner.engine.task import Task, displayed, take_orders
from runner.errors import Problem, RunnerError, StoppedEarly
from runner.measure.merging import Merge, add_latencies
from runner.measure.vitals import Fleet, Sign
from runner.records import Job
from runner.session.limits import Limits
from runner.session.shutdown import GRACE_S, Closing
from runner.store import recover

MOST_DEATHS: Final = 3
"""Of worker processes, before a run stops: what killed so many will kill the next."""
JOBS_AT_ONCE: Final = 1000
"""In one message."""
PASS_ON_S: Final = 0.5
LATE_S: Final = 5.0
"""For workers to end, beyond what they may wait for."""


async def work(task: Task, fleet: Fleet) -> RunnerError | None:
    """Work until every row has its result, or something ends the session; return what did."""
    with displayed(task) as display:
        several = Several(task, fleet)
        try:
            return await several.work(display.show_for_ever())
        finally:
            several.kill()


class Several:
    """The main process: owns the workers, the rows, the limits that are totals, and the end."""

    def __init__(self, task: Task, fleet: Fleet) -> None:
        self._task = task
        self._fleet = fleet
        recovery, meter = task.history.recovery, task.history.meter
        meter.unacknowledged = len(recovery.unacknowledged)
        self._meter = meter
        self._recovery = recovery
        self._merge = Merge(meter)
        self._limits = Limits(task.config, meter)
        self._workers = [WorkerProcess(number) for number in range(task.config.engine.workers)]
        self._leases = Leases(task.rows, recovery, len(self._workers))
        self._followed = len(recovery.outstanding)
        self._done_before = meter.done
        self._wanting: dict[int, None] = {}
        self._has_contact = False
        self._answered_at = float("-inf")
        self._told_all_granted = False
        self._deaths = 0
        self._closing = Closing(
            meter,
            lambda: meter.done >= meter.total,
            # Reports of what is open come late: it is the end of a worker that tells.
            lambda: all(worker.has_ended or worker.is_lost for worker in self._workers),
            task.config.limits.drain_s,
            task.progress.say,
            stop_submitting=lambda: self._tell_all(Drain()),
            cancel=lambda: self._tell_all(Stop(hurry=True)),
        )

    async def work(self, show: Coroutine[Any, Any, None]) -> RunnerError | None:
        """`show` runs beside it."""
        helpers = [asyncio.create_task(self._guard(it)) for it in (show, self._fleet.watch_loop())]
        await self._start_all()
        take_orders(self._task, self._closing)
        self._check_limits()
        listeners = [asyncio.create_task(self._guard(self._listen(worker))) for worker in self._workers]
        await self._closing.over.wait()
        await self._bring_home(listeners)
        for helper in (*helpers, *listeners):
            helper.cancel()
        self._account_for_the_lost()
        return self._closing.ended_by

    def kill(self) -> None:
        """No worker outlives the session."""
        for worker in self._workers:
            worker.kill()

    async def _start_all(self) -> None:
        jobs = list(self._recovery.outstanding.values())
        self._recovery.outstanding.clear()
        for worker in self._workers:
            theirs = jobs[worker.number :: len(self._workers)]
            for job in theirs:
                self._leases.hold(worker.number, job.row)
            await self._start(worker, theirs)

    async def _start(self, worker: WorkerProcess, jobs: list[Job]) -> None:
        task = self._task
        await worker.start(task.run_dir.lock_fd)
        worker.tell(
            Setup(
                config=share(task.config, worker.number).model_dump_json().encode(),
                run_dir=str(task.run_dir.path),
                worker=worker.number,
                run_id=task.manifest.run_id,
                base_url=task.base_url,
                session=task.session,
                resumes=worker.lives > 1 or bool(task.history.session.continued),
                has_contact=self._has_contact,
                restarts=self._meter.restarts,
                began=self._meter.began,
            )
        )
        for start in range(0, len(jobs), JOBS_AT_ONCE):
            worker.tell(Follow(jobs[start : start + JOBS_AT_ONCE]))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the workers must come home all the same
            self._closing.end_by(error)

    async def _listen(self, worker: WorkerProcess) -> None:
        """Take in what one worker tells, in all its lives, until it ends."""
        while not worker.has_ended:
            news = await worker.hear()
            if news is not None:
                self._take_up(worker, news)
                continue
            await worker.hang_up()
            if not await self._succeed(worker):
                return
        await worker.hang_up()

    def _take_up(self, worker: WorkerProcess, news: News) -> None:
        match news:
            case Want():
                self._wanting[worker.number] = None
                self._grant()
            case GiveBack(rows=rows):
                self._wanting.pop(worker.number, None)  # it will ask when it has a place
                self._leases.give_back(worker.number, rows)
                self._told_all_granted = False
                self._grant()
            case Report():
                self._take_in(worker, news)
            case Say(text=text):
                self._task.progress.say(text)
            case Failing():
                self._closing.stop(error_of(news))
            case Ended():
                worker.has_ended = True
                if news.error is not None:
                    self._closing.stop(error_of(news))
                self._closing.check()

    def _take_in(self, worker: WorkerProcess, report: Report) -> None:
        self._merge.update(worker.life, report.totals)
        add_latencies(self._meter, report.latencies)
        sign = Sign(report.cpu_s, report.rss_bytes, report.is_limited)
        self._fleet.tell(worker.life, sign, report.loop_lag)
        if report.has_contact and not self._has_contact:
            self._has_contact = True
            self._tell_all(Met())
        self._pass_on(report.answered_at)
        self._check_limits()
        self._closing.check()
        self._grant()

    def _pass_on(self, answered_at: float) -> None:
        """That the service answers one worker is news for all: what fails for another is no outage."""
        if answered_at > self._answered_at + PASS_ON_S:
            self._answered_at = answered_at
            self._tell_all(Answered(answered_at))

    def _check_limits(self) -> None:
        reached = self._limits.reached()
        if reached is not None:
            self._closing.drain(reached, reached.problems[0].where)

    def _grant(self) -> None:
        """Give rows to those who want some; the first alone, until it has met the service."""
        if self._closing.has_begun:
            return
        for number in list(self._wanting):
            if not self._has_contact and number > 0:
                continue
            rows = self._leases.take(number, self._places())
            if rows:
                del self._wanting[number]
                before = self._leases.unacknowledged(rows)
                self._meter.unacknowledged -= len(before)  # from here on the worker counts them
                epochs = {row: self._recovery.epochs[row] for row in rows if row in self._recovery.epochs}
                self._workers[number].tell(Grant(rows, before, epochs))
        if self._leases.are_over and not self._told_all_granted:
            self._told_all_granted = True
            self._tell_all(AllGranted())

    def _places(self) -> int:
        """How many rows more the budget allows. What is granted is in flight, and what is done is known late:
        so it errs on the safe side.
        """
        in_flight = self._followed + self._leases.granted - (self._meter.done - self._done_before)
        places = 0
        while places < MOST_ROWS and self._limits.allow_another(in_flight + places):
            places += 1
        return places

    async def _succeed(self, worker: WorkerProcess) -> bool:
        """A worker died; whether another process goes on in its place."""
        what = f"worker {worker.number} died ({worker.bury()})"
        worker.is_lost = True
        self._wanting.pop(worker.number, None)
        self._deaths += 1
        task, number = self._task, worker.number
        estate = await asyncio.to_thread(self._estate_of, worker)
        self._closing.check()
        if self._closing.has_begun:
            return False
        if self._deaths > MOST_DEATHS:
            what = f"{what}, as {MOST_DEATHS} did before it"
            self._closing.stop(StoppedEarly(Problem(what, "engine.workers", "see why, and continue")))
            return False
        task.progress.say(f"{what}: another process goes on with its rows")
        self._leases.leave(number, estate.unsent, (job.row for job in estate.open))
        self._recovery.unacknowledged.update(estate.unacknowledged)
        self._meter.unacknowledged += len(estate.unacknowledged)
        self._told_all_granted = worker.is_lost = False
        await self._start(worker, estate.open)
        if self._closing.has_begun:  # meanwhile: the order went to nobody
            worker.tell(Drain())
        return True

    def _estate_of(self, worker: WorkerProcess) -> Estate:
        """What a worker that died left; its results are counted from here on. Blocking."""
        task = self._task
        held = self._leases.held_by(worker.number)
        estate = estate_of(task.run_dir, worker.number, task.manifest.rows, held)
        self._merge.update(worker.life, estate.totals(self._merge.last(worker.life)))
        return estate

    async def _bring_home(self, listeners: list[asyncio.Task[None]]) -> None:
        """All workers end, soon."""
        hurried = self._closing.hurried
        self._tell_all(Stop(hurry=hurried.is_set()))
        ends = asyncio.create_task(asyncio.wait(listeners))
        hurry = asyncio.create_task(hurried.wait())
        # One that cannot write may wait for room.
        patience_s = GRACE_S + self._task.config.limits.drain_s + LATE_S
        await asyncio.wait((ends, hurry), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        await asyncio.wait((ends,), timeout=LATE_S)
        ends.cancel()

    def _account_for_the_lost(self) -> None:
        """Where a worker came to no orderly end, the files know better than its last report."""
        lost = [worker for worker in self._workers if not worker.has_ended]
        if not lost:
            return
        self.kill()
        for worker in lost:
            if not worker.is_lost:
                self._estate_of(worker)
        left = recover(self._task.run_dir, self._task.manifest.rows, lambda _: None)
        self._meter.open, self._meter.unacknowledged = left.outstanding_count, left.unacknowledged_count

    def _tell_all(self, order: Order) -> None:
        for worker in self._workers:
            worker.tell(order)
