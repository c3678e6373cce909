"""One way to predict when jobs complete: positions from an origin, the hazard by position, and a schedule."""

from __future__ import annotations

import math
from typing import Final

from runner.policy.polling.hazard import Hazard, Interval
from runner.policy.polling.schedule import Schedule, optimum
from runner.policy.polling.strategy import Exponential, Followed, last_seen

SHORTEST_GAP_S: Final = 0.001
"""Shortest gap between two polls of a job, in seconds: what a timer of the event loop resolves."""
GOLDEN: Final = 0.6180339887498949
"""Golden ratio: its multiples modulo 1 are the most evenly spread sequence (Weyl; three-gap theorem)."""
MAX_EXCHANGE_SHARE: Final = 0.5
"""Most lag that one poll is taken to be worth, as a share of the lag target.

For a burst of completions narrower than the target one poll is nearly enough; were a poll worth more, it
would wait for all stragglers.
"""
RECENT: Final = 300
"""Completions over which their mean age is taken, for jobs that wait in a queue."""
MAX_UNSEEN: Final = 0.1
"""Share of jobs pending beyond what was followed, above which polls are no closer than by backing off."""
LATE_SHARE: Final = 0.1
"""Gap between polls of a job that is later than nearly all, as a share of its distance from the median."""
MAX_UNPOLLED: Final = 1.0
"""Longest gap between polls before the front, in multiples of the job's age or the mean age at completion."""
MAX_DONE_UNSEEN: Final = 0.4
"""Share of jobs that may complete before the first poll that is planned by the front.

If all did, no poll would tell since when they are done, and the front itself would be lost.
"""
SCORED: Final = 32
"""Latest completions by which the views of a kind are compared."""

_LATER: Final = [0.01 * 1.12**k for k in range(200)]
"""Ages, 12 % apart: as fine as a schedule for the first 30 completions can make use of."""
_FARTHER: Final = [0.01 * 1.3**k for k in range(86)]
"""Distances from the front, 30 % apart, to either side."""
AGE_EDGES: Final = [0.0, *_LATER]
"""Edges of cells by age, from 10 ms to two years, until completions tell where cells are needed."""
FRONT_EDGES: Final = [*(-edge for edge in reversed(_FARTHER)), 0.0, *_FARTHER]
"""Edges of cells by distance from the front, until completions tell where cells are needed."""


class View:
    """Plans polls by the position of jobs, in seconds from an origin that each job has.

    By age, the origin is the job's acceptance. By the front of a queue, it is the time at which the front
    is expected to reach the job; positions before it are negative.
    """

    def __init__(self, *, is_by_front: bool) -> None:
        self.is_by_front = is_by_front
        self.hazard = Hazard(FRONT_EDGES if is_by_front else AGE_EDGES)
        self.schedule: Schedule | None = None
        """Plan of polls by position; None before the first `plan`."""
        self.exchange_s = 0.0
        """Seconds of lag that one poll is taken to be worth."""
        self.lag_target_s = math.inf
        """Mean lag that the schedule is made for, in seconds."""
        self.fresh: list[Interval] = []
        """Completions since the last `learn`."""
        self._mean_age_s = 0.0
        self._recent_age_s = 0.0

    def record(self, after: float, by: float, age_s: float) -> None:
        """Take in a completion between two positions, at this age."""
        self.fresh.append((after, by))
        recent = min(self.hazard.seen + len(self.fresh), RECENT)
        self._recent_age_s += (age_s - self._recent_age_s) / recent

    def score(self) -> float:
        """Return the mean logarithm of the probability that the latest completions had beforehand."""
        latest = self.fresh[-SCORED:]
        return sum(math.log(self.hazard.probability(*interval)) for interval in latest) / len(latest)

    def learn(self) -> None:
        """Estimate the hazard again with the completions that are new."""
        self.hazard.learn(self.fresh)
        self.fresh = []

    def plan(self, lag_target: float) -> None:
        """Make the schedule whose mean lag is `lag_target`, as a share of the mean age at completion.

        The exchange rate that brings that lag is found by iteration: by Keller's density, lag grows as the
        root of the exchange rate (less for completions that come in a burst).
        """
        hazard = self.hazard
        self._mean_age_s = max(self._recent_age_s if self.is_by_front else hazard.mean, 1e-3)
        self.lag_target_s = lag_target * self._mean_age_s
        if self.schedule:
            tries = 2
        else:
            self.exchange_s, tries = self.lag_target_s / 4, 6
        edges, hazards = hazard.tally.edges[hazard.first :], hazard.hazards[hazard.first :]
        most_done = MAX_DONE_UNSEEN if self.is_by_front else 1.0
        for _ in range(tries):
            self.schedule = optimum(edges, hazards, self.exchange_s, most_done)
            change = (self.lag_target_s / max(self.schedule.lag_s, 1e-9)) ** 2
            if 0.95 < change < 1.05:
                break
            most_s = MAX_EXCHANGE_SHARE * self.lag_target_s
            self.exchange_s = min(self.exchange_s * min(max(change, 0.2), 5.0), most_s)

    def next_poll(self, job: Followed, origin: float, now: float, backoff: Exponential) -> float:
        """Return the Unix time of the next poll of a job: by the schedule, within what is known."""
        if self.schedule is None:
            return backoff.next_poll(job, now)
        hazard, seen = self.hazard, last_seen(job)
        # Golden-ratio steps spread polls evenly, whatever the order.
        offset = 2 * ((job.order + job.polls * 0.37) * GOLDEN % 1.0) - 1
        due = origin + self.schedule.next_poll(seen - origin, offset)
        if (
            due > origin + hazard.known
            or not origin <= seen <= origin + hazard.late
            or hazard.unseen > MAX_UNSEEN
        ):
            due = self._within_what_is_known(due, origin, job, backoff.next_poll(job, now))
        return max(due, seen + SHORTEST_GAP_S)

    def _within_what_is_known(self, due: float, origin: float, job: Followed, fallback: float) -> float:
        """Return `due`, moved towards the poll of the backoff (`fallback`) where too little is known."""
        hazard, seen = self.hazard, last_seen(job)
        if due > origin + hazard.known:
            # No job has been followed to there yet: early completions say nothing of late ones.
            due = min(due, max(fallback, origin + hazard.known))
        if seen > origin + hazard.late:
            # Few jobs were as late as this one, so little was learned.
            due = min(due, max(fallback, seen + LATE_SHARE * (seen - origin - hazard.median)))
        if seen < origin:
            # The front may stand still or be lost, and only polls can tell.
            gap_s = MAX_UNPOLLED * max(seen - job.accepted, self._mean_age_s)
            due = min(due, max(fallback, seen + gap_s))
        if hazard.unseen > MAX_UNSEEN:
            # The mean latency is not known yet, and so neither is what a poll is worth.
            due = max(due, fallback)
        return due
