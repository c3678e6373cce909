"""When how much of a run was there: seconds since its first session began, stops in between included."""

from __future__ import annotations

import math

from runner.measure.histogram import Histogram
from runner.records import Timing


class Milestones:
    """Of a run, over all its sessions. Times are Unix seconds, without end for what has not come to pass."""

    def __init__(self) -> None:
        self.began: float | None = None
        """When the first session had an address to send to."""
        self.last_accepted = -math.inf
        self.first_done = math.inf
        self.last_done = -math.inf
        self.done = Histogram()
        """Of each result, how long after the beginning it was in hand."""

    def accept(self, at: float) -> None:
        """The service took a request."""
        if at > self.last_accepted:
            self.last_accepted = at

    def finish(self, timing: Timing) -> None:
        """A result is in hand, however the request ended."""
        done = timing.done
        if timing.accepted is not None and timing.accepted > self.last_accepted:
            self.last_accepted = timing.accepted
        if done < self.first_done:
            self.first_done = done
        if done > self.last_done:
            self.last_done = done
        if self.began is not None:
            self.done.record(done - self.began)

    def summary(self) -> dict[str, float | None]:
        """Seconds from the beginning; None for what has not come to pass."""
        first_s, half_s = self._after(self.first_done), self.done.quantile(50.0)
        return {
            "submitted": self._after(self.last_accepted),
            "first_result": first_s,
            # Known to half a thousandth, which must not make it the earlier of the two.
            "half_results": None if half_s is None else max(round(half_s, 6), first_s or 0.0),
            "last_result": self._after(self.last_done),
        }

    def _after(self, at: float) -> float | None:
        if self.began is None or not math.isfinite(at):
            return None
        return round(max(at - self.began, 0.0), 6)
