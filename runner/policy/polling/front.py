"""The moving front of a queue that drains in order: which job, by order of acceptance, is done when."""

from __future__ import annotations

from typing import Final

ENOUGH: Final = 60
"""Completions before the front is believed."""
LEVEL_COMPLETIONS: Final = 100
"""Where the front is: the mean of so many."""
SPEED_COMPLETIONS: Final = 400
"""How fast it moves: a line through so many."""
LEAST_EXPLAINED: Final = 0.25
"""There is no front unless the order explains this share of the variance of times."""
STALL: Final = 30.0
"""No completion for so many times as long as usual: the service stood still."""
STRAY: Final = 4.0
"""A completion farther from the front than so many times the usual is moved to there."""


class Front:
    """Follows the mean order of the jobs that finish at a time, and extrapolates it.

    Orders are regressed on times, not times on orders: what was seen so far is all that finished until now,
    a cut by time, and such a cut leaves the mean of the other variable alone.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._at = self._order = 0.0
        self._slow_at = self._slow_order = 0.0
        self._variance = self._order_variance = self._covariance = 0.0
        self._usual = 0.0
        self._per_order_s = 0.0
        self._last = self._usual_gap_s = 0.0

    def expects(self, order: float) -> float | None:
        """When the job that was accepted `order`-th will be done; None while that is not known."""
        if not self._per_order_s:
            return None
        return self._at + (order - self._order) * self._per_order_s

    def saw(self, order: float, at: float) -> None:
        """A job finished at about `at`."""
        self._seen += 1
        self._skip_stall(at)
        if self._per_order_s:
            expected = self._order + (at - self._at) / self._per_order_s
            off = order - expected
            most = STRAY * self._usual
            self._usual += (abs(off) - self._usual) / min(self._seen, LEVEL_COMPLETIONS)
            order = expected + min(max(off, -most), most)
        elif self._seen == 1:
            self._at = self._slow_at = at
            self._order = self._slow_order = order
        share = 1 / min(self._seen, LEVEL_COMPLETIONS)
        self._at += share * (at - self._at)
        self._order += share * (order - self._order)
        share = 1 / min(self._seen, SPEED_COMPLETIONS)
        later, farther = at - self._slow_at, order - self._slow_order
        self._slow_at += share * later
        self._slow_order += share * farther
        self._variance += share * ((1 - share) * later * later - self._variance)
        self._order_variance += share * ((1 - share) * farther * farther - self._order_variance)
        self._covariance += share * ((1 - share) * later * farther - self._covariance)
        if self._seen < ENOUGH:
            return
        if not self._usual:
            self._usual = abs(order - self._order) + 1.0
        explained = self._covariance * abs(self._covariance)
        is_moving = explained > LEAST_EXPLAINED * self._variance * self._order_variance > 0
        self._per_order_s = self._variance / self._covariance if is_moving else 0.0

    def _skip_stall(self, at: float) -> None:
        """A while without completions is cut out of time: it moves the front as a whole, not its speed."""
        gap_s = max(at - self._last, 0.0) if self._seen > 1 else 0.0
        if self._seen > ENOUGH and gap_s > STALL * self._usual_gap_s:
            self._at += gap_s
            self._slow_at += gap_s
        else:
            self._usual_gap_s += (gap_s - self._usual_gap_s) / min(self._seen, LEVEL_COMPLETIONS)
        self._last = max(self._last, at)
