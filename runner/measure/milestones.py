"""When the first, half and all of a run's results were received, counted from its first session.

Stops between the sessions are included.
"""

from __future__ import annotations

import msgspec

from runner.measure.counts import Counts
from runner.measure.histogram import Histogram


class MilestoneSummary(msgspec.Struct, frozen=True):
    """`milestones_s` of `summary.json`: seconds from the beginning, None for what has not happened."""

    submitted: float | None
    first_result: float | None
    half_results: float | None
    last_result: float | None


class Milestones:
    """The beginning of a run, and how long after it each result was received."""

    def __init__(self) -> None:
        self.began: float | None = None
        """Time at which the first session had an address to send to, in Unix seconds."""
        self.done = Histogram()
        """Seconds from the beginning to each result, whatever its status."""

    def summary(self, counts: Counts) -> MilestoneSummary:
        """Return the milestones of a run with these counts."""
        first_s, half_s = self._after(counts.first_done), self.done.quantile(50.0)
        return MilestoneSummary(
            submitted=self._after(counts.last_accepted),
            first_result=first_s,
            # It is known to 0.05 %, and that must not put it before the first result.
            half_results=None if half_s is None else max(round(half_s, 6), first_s or 0.0),
            last_result=self._after(counts.last_done),
        )

    def _after(self, at: float | None) -> float | None:
        if self.began is None or at is None:
            return None
        return round(max(at - self.began, 0.0), 6)
