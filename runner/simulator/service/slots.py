"""Which jobs run: at most `capacity` at once, the others in the order of their arrival.

Owns the heap of running jobs and the queue of waiting ones; no timers, `advance` catches up with the clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Final

from runner.simulator.service.job import SimulatedJob

_ONE_BY_ONE: Final = 500


class Slots:
    def __init__(self, capacity: int | None) -> None:
        self._capacity = capacity
        self._heap: list[tuple[float, int, SimulatedJob]] = []
        self._waiting: deque[SimulatedJob] = deque()
        self._queued = 0.0
        """When jobs last came that `fill` is to start."""
        self.running = 0
        self.peak_running = 0
        self.started = 0

    def enter(self, job: SimulatedJob, now: float) -> None:
        """A new job: starts at once or waits."""
        if self._capacity is None or (self._free() and not self._waiting):
            self._start(job, now)
        else:
            self._waiting.append(job)

    def queue(self, jobs: Iterable[SimulatedJob], now: float) -> None:
        """New jobs that all wait, also where there is room: `fill` is to be called until all is done."""
        self._waiting.extend(jobs)
        self._queued = now

    def fill(self, at_most: int) -> bool:
        """Starts waiting jobs while there is room, no more than so many; whether that was all."""
        for _ in range(at_most):
            if not self._waiting or not self._free():
                return True
            job = self._waiting.popleft()
            if job.status == "waiting":
                self._start(job, max(self._queued, job.terms.accepted))
        return False

    def advance(self, now: float) -> None:
        """Ends and starts all that should have by now, each at its own time and in that order."""
        heap, ended = self._heap, 0
        while heap and heap[0][0] <= now:
            if self._capacity is None and ended > max(_ONE_BY_ONE, len(heap) // 8):
                self._end_all(now)
                return
            finish, _, job = heapq.heappop(heap)
            ended += 1
            if job.status == "running":  # else cancelled: its slot was given away then
                job.status = job.terms.outcome
                self.running -= 1
                self._start_next(finish)

    def cancel(self, job: SimulatedJob, now: float) -> None:
        """Ends a job that is not done; its place in heap or queue is skipped later."""
        was_running = job.status == "running"
        job.status = "cancelled"
        job.finish = now
        if was_running:
            self.running -= 1
            self._start_next(now)

    def next_change(self, job: SimulatedJob, now: float) -> float:
        """When to look at an unfinished job again: its end or, while it waits, the next end of any."""
        if job.finish is not None:
            return job.finish
        return self._heap[0][0] if self._heap else now

    def _end_all(self, now: float) -> None:
        """As `advance` where nobody waits for a slot and order is nothing: a whole batch may end at once."""
        left = []
        for entry in self._heap:
            job = entry[2]
            if entry[0] > now:
                left.append(entry)
            elif job.status == "running":
                job.status = job.terms.outcome
                self.running -= 1
        heapq.heapify(left)
        self._heap = left

    def _free(self) -> bool:
        return self._capacity is None or self.running < self._capacity

    def _start(self, job: SimulatedJob, at: float) -> None:
        self.started += 1
        self.running += 1
        self.peak_running = max(self.peak_running, self.running)
        job.status = "running"
        job.started = at
        job.finish = at + job.terms.duration_s
        heapq.heappush(self._heap, (job.finish, self.started, job))

    def _start_next(self, at: float) -> None:
        """Gives the slot that became free away."""
        while self._waiting and self._capacity is not None:
            job = self._waiting.popleft()
            if job.status == "waiting":
                self._start(job, at)
                return
