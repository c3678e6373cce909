"""Feedback that raises the lag target while `poll.max_rate` makes polls start late."""

from __future__ import annotations

from typing import Final

TOLERATED_SHARE: Final = 0.1
"""Mean lateness that is left alone, as a share of the lag target: at any rate some polls wait for others."""
GAIN: Final = 0.5
"""Share by which the factor rises when polls are late by one whole lag target.

It is less than 1 because the lateness lengthens the gaps between polls already.
"""
MAX_STEP: Final = 2.0
"""Most that one step multiplies the factor by: a backlog may be older than the plan, and gone soon."""
MAX_FACTOR: Final = 4.0
"""Most that the lag target is multiplied by. Beyond it few kinds would be polled less often, only later."""


class LatenessFeedback:
    """Holds the factor on the lag target at which polls start about when they are due.

    Under `poll.max_rate` polls start in the order in which they are due, each as late as the backlog is
    long. Where completions come in bursts that is costly: a poll that is late is late for the whole burst.
    It is better to plan fewer polls and to make those on time.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        """Factor on the lag target, from 1 to `MAX_FACTOR`."""
        self._late_s = self._target_s = 0.0
        self._replanned = 0

    def record(self, late_s: float, target_s: float) -> None:
        """Record that a poll started `late_s` after it was due, for a job whose lag target is `target_s`."""
        self._late_s += late_s
        self._target_s += target_s

    def replanning(self, kinds: int) -> None:
        """Judge the factor if all of the `kinds` have been planned with it; one more is about to be."""
        self._replanned += 1
        if self._replanned < kinds or not self._target_s:
            return
        step = min(1 + GAIN * (self._late_s / self._target_s - TOLERATED_SHARE), MAX_STEP)
        self.factor = min(max(self.factor * step, 1.0), MAX_FACTOR)
        self._late_s = self._target_s = 0.0
        self._replanned = 0
