"""The interface of a polling strategy, and the two strategies that learn nothing. Times are Unix seconds."""

from __future__ import annotations

import math
from typing import Protocol


class Followed(Protocol):
    """What a strategy knows of a job that is being polled."""

    @property
    def kind(self) -> str:
        """Label of jobs that are expected to have similar latencies."""

    @property
    def order(self) -> int:
        """Rank by acceptance among all jobs; lower is earlier, and jobs of earlier sessions are negative."""

    @property
    def accepted(self) -> float:
        """Time of acceptance, in Unix seconds."""

    @property
    def pending(self) -> float | None:
        """Unix time at which a poll last saw the job unfinished; None before there was one."""

    @property
    def polls(self) -> int:
        """Number of polls that have started."""


class Polling(Protocol):
    """A strategy: decides when each job is polled, and is informed of what each poll saw."""

    def next_poll(self, job: Followed, now: float) -> float:
        """Return the Unix time at which to poll a job; a time that is not after `now` means at once.

        A later time is when to ask again, not a promise: more may be known by then.
        """

    def started(self, job: Followed, late_s: float) -> None:
        """Record that a poll starts, `late_s` seconds after it was due."""

    def saw_pending(self, job: Followed, at: float) -> None:
        """Record that a job was unfinished at `at`; `job.pending` still holds the time before."""

    def saw_done(self, job: Followed, by: float) -> None:
        """Record that a job completed after it was last seen unfinished, and no later than `by`."""


class Fixed:
    """Polls every `interval_s` seconds."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s

    def next_poll(self, job: Followed, now: float) -> float:
        """Return the time one interval after the job was last seen unfinished."""
        return last_seen(job) + self._interval_s

    def started(self, job: Followed, late_s: float) -> None:
        """Learn nothing."""

    def saw_pending(self, job: Followed, at: float) -> None:
        """Learn nothing."""

    def saw_done(self, job: Followed, by: float) -> None:
        """Learn nothing."""


class Exponential(Fixed):
    """Polls after `interval_s` seconds, then after `factor` times the last interval, up to a longest one."""

    def __init__(self, interval_s: float, factor: float, max_interval_s: float) -> None:
        super().__init__(interval_s)
        self._factor = factor
        self._max_interval_s = max(max_interval_s, interval_s)

    def next_poll(self, job: Followed, now: float) -> float:
        """Return the time one interval, grown with each poll, after the job was last seen unfinished."""
        growth = min(job.polls * math.log(self._factor), 60.0)
        return last_seen(job) + min(self._interval_s * math.exp(growth), self._max_interval_s)


def last_seen(job: Followed) -> float:
    """Return the Unix time at which the job was last known to be unfinished."""
    return job.accepted if job.pending is None else job.pending
