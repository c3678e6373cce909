"""Which jobs run: at most `capacity` at once, the others wait in the order of their arrival.

Owns the heap of running jobs and the queue of waiting ones. No timers: `advance` catches up with the clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Final

from runner.simulator.service.job import SimulatedJob

_ONE_BY_ONE: Final = 500


class Slots:
    """The slots that jobs run in; without a capacity, every job runs at once."""

    def __init__(self, capacity: int | None) -> None:
        self._capacity = capacity
        self._heap: list[tuple[float, int, SimulatedJob]] = []
        self._waiting: deque[SimulatedJob] = deque()
        self._queued = 0.0
        """Time when jobs for `fill` were last queued, in Unix seconds."""
        self.running = 0
        self.peak_running = 0
        self.started = 0

    def enter(self, job: SimulatedJob, now: float) -> None:
        """Start a new job, or let it wait for a slot."""
        if self._capacity is None or (self._free() and not self._waiting):
            self._start(job, now)
        else:
            self._waiting.append(job)

    def queue(self, jobs: Iterable[SimulatedJob], now: float) -> None:
        """Queue new jobs even if slots are free. The caller must `fill` until it returns True."""
        self._waiting.extend(jobs)
        self._queued = now

    def fill(self, at_most: int) -> bool:
        """Start up to `at_most` waiting jobs in free slots; return whether none is left to start."""
        for _ in range(at_most):
            if not self._waiting or not self._free():
                return True
            job = self._waiting.popleft()
            if job.status == "waiting":
                self._start(job, max(self._queued, job.terms.accepted))
        return False

    def advance(self, now: float) -> None:
        """End and start every job that is due by `now`, each at its own time and in that order."""
        heap, ended = self._heap, 0
        while heap and heap[0][0] <= now:
            if self._capacity is None and ended > max(_ONE_BY_ONE, len(heap) // 8):
                self._end_all(now)
                return
            finish, _, job = heapq.heappop(heap)
            ended += 1
            if job.status == "running":  # otherwise it was cancelled, and its slot was given away then
                job.status = job.terms.outcome
                self.running -= 1
                self._start_next(finish)

    def cancel(self, job: SimulatedJob, now: float) -> None:
        """End a job that is not done; its entry in heap or queue is skipped later."""
        was_running = job.status == "running"
        job.status = "cancelled"
        job.finish = now
        if was_running:
            self.running -= 1
            self._start_next(now)

    def next_change(self, job: SimulatedJob, now: float) -> float:
        """Return when to check an unfinished job again: its own end or, while it waits, the next of any."""
        if job.finish is not None:
            return job.finish
        return self._heap[0][0] if self._heap else now

    def _end_all(self, now: float) -> None:
        """End all due jobs in one pass, for services without a capacity, where order does not matter."""
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
        """Give the slot that became free to the next waiting job."""
        while self._waiting and self._capacity is not None:
            job = self._waiting.popleft()
            if job.status == "waiting":
                self._start(job, at)
                return
