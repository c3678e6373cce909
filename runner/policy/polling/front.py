"""The moving front of a queue that drains in order: which job, by order of acceptance, completes when."""

from __future__ import annotations

from typing import Final

ENOUGH: Final = 60
"""Completions before the front is used."""
LEVEL_COMPLETIONS: Final = 100
"""Recent completions whose mean says where the front is."""
SPEED_COMPLETIONS: Final = 400
"""Recent completions through which a line is fitted that says how fast the front moves."""
LEAST_EXPLAINED: Final = 0.25
"""Share of the variance of orders that time must explain; below it there is no front."""
STALL: Final = 30.0
"""Pause between completions, in multiples of the usual one, that shows a service standing still."""
STRAY: Final = 4.0
"""Distance from the front, in multiples of the usual one, beyond which a completion is moved to there."""


class Front:
    """Follows the mean order of the jobs that complete at a time, and extrapolates it.

    When thousands of jobs are sent at once to a service of limited capacity, they complete roughly in the
    order of acceptance. A job's age then says little; its distance from the front says nearly all.

    A line through the recent completions gives the speed. It is fitted to orders as a function of time (a
    least-squares fit that forgets exponentially), not to times as a function of order: the data so far are
    all completions up to now. Such a cut by time leaves the mean order at each time alone, but would make
    the mean time of each order too early.
    """

    def __init__(self) -> None:
        self._count = 0
        # Means over the last LEVEL_COMPLETIONS: a point on the line.
        self._level_at = self._level_order = 0.0
        # Moments over the last SPEED_COMPLETIONS: the slope of the line.
        self._mean_at = self._mean_order = 0.0
        self._variance_at = self._variance_order = self._covariance = 0.0
        self._s_per_order = 0.0
        self._usual_distance = 0.0
        self._last_at = self._usual_gap_s = 0.0

    def expects(self, order: float) -> float | None:
        """Return the Unix time at which the job of this order is expected to complete; None if unknown."""
        if not self._s_per_order:
            return None
        return self._level_at + (order - self._level_order) * self._s_per_order

    def record(self, order: float, at: float) -> None:
        """Take in that a job completed at about `at`, in Unix seconds."""
        self._count += 1
        self._skip_stall(at)
        if self._s_per_order:
            order = self._without_straying(order, at)
        elif self._count == 1:
            self._level_at = self._mean_at = at
            self._level_order = self._mean_order = order
        share = 1 / min(self._count, LEVEL_COMPLETIONS)
        self._level_at += share * (at - self._level_at)
        self._level_order += share * (order - self._level_order)
        share = 1 / min(self._count, SPEED_COMPLETIONS)
        later, farther = at - self._mean_at, order - self._mean_order
        self._mean_at += share * later
        self._mean_order += share * farther
        self._variance_at += share * ((1 - share) * later * later - self._variance_at)
        self._variance_order += share * ((1 - share) * farther * farther - self._variance_order)
        self._covariance += share * ((1 - share) * later * farther - self._covariance)
        if self._count < ENOUGH:
            return
        if not self._usual_distance:
            self._usual_distance = abs(order - self._level_order) + 1.0
        explained = self._covariance * abs(self._covariance)
        is_moving = explained > LEAST_EXPLAINED * self._variance_at * self._variance_order > 0
        self._s_per_order = self._variance_at / self._covariance if is_moving else 0.0

    def _without_straying(self, order: float, at: float) -> float:
        """Return `order`, moved towards the front if it is too far away: a few strays must not turn it."""
        expected = self._level_order + (at - self._level_at) / self._s_per_order
        distance = order - expected
        most = STRAY * self._usual_distance
        self._usual_distance += (abs(distance) - self._usual_distance) / min(self._count, LEVEL_COMPLETIONS)
        return expected + min(max(distance, -most), most)

    def _skip_stall(self, at: float) -> None:
        """Cut a stall out of the data: it shifts the front as a whole, and says nothing about its speed."""
        gap_s = max(at - self._last_at, 0.0) if self._count > 1 else 0.0
        if self._count > ENOUGH and gap_s > STALL * self._usual_gap_s:
            self._level_at += gap_s
            self._mean_at += gap_s
        else:
            self._usual_gap_s += (gap_s - self._usual_gap_s) / min(self._count, LEVEL_COMPLETIONS)
        self._last_at = max(self._last_at, at)
