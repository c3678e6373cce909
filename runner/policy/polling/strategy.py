"""What a strategy is, and the two that learn nothing. No clock in here."""

from __future__ import annotations

import math
from typing import Protocol


class Followed(Protocol):
    """What a strategy knows of a job. Times are seconds of one clock, whichever."""

    @property
    def kind(self) -> str:
        """Jobs of one kind are expected to take alike."""

    @property
    def order(self) -> int:
        """How many jobs were accepted before it."""

    @property
    def accepted(self) -> float: ...

    @property
    def pending(self) -> float | None:
        """When it was last seen unfinished."""

    @property
    def polls(self) -> int: ...


class Polling(Protocol):
    """A strategy."""

    def next_poll(self, job: Followed, now: float) -> float:
        """When to look at a job; not after `now` means at once. Ask again then: more may be known."""

    def started(self, job: Followed, late_s: float) -> None:
        """A look at the job starts, so much later than it was due."""

    def saw_pending(self, job: Followed, at: float) -> None:
        """The job is not done at `at`. `job.pending` is still the time before."""

    def saw_done(self, job: Followed, by: float) -> None:
        """The job finished after `job.pending`, or else `job.accepted`, and no later than `by`."""


class Fixed:
    """Every `interval_s`."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s

    def next_poll(self, job: Followed, now: float) -> float:
        return last_seen(job) + self._interval_s

    def started(self, job: Followed, late_s: float) -> None:
        """Nothing is learned."""

    def saw_pending(self, job: Followed, at: float) -> None:
        """Nothing is learned."""

    def saw_done(self, job: Followed, by: float) -> None:
        """Nothing is learned."""


class Exponential(Fixed):
    """First `interval_s`, then each interval `factor` times the last, up to `max_interval_s`."""

    def __init__(self, interval_s: float, factor: float, max_interval_s: float) -> None:
        super().__init__(interval_s)
        self._factor = factor
        self._max_interval_s = max(max_interval_s, interval_s)

    def next_poll(self, job: Followed, now: float) -> float:
        growth = min(job.polls * math.log(self._factor), 60.0)
        return last_seen(job) + min(self._interval_s * math.exp(growth), self._max_interval_s)


def last_seen(job: Followed) -> float:
    """When the job was last known to be unfinished."""
    return job.accepted if job.pending is None else job.pending
