"""How much rarer looks have to be than one would like, because they may not be as frequent as that."""

from __future__ import annotations

from typing import Final

BEARABLE: Final = 0.1
"""Looks may be late by this share of the lag aimed at; at a given rate some always wait for others."""
GAIN: Final = 0.5
"""A look late by the lag aimed at makes gaps half as long again: the lateness is a part of them already."""
MOST_AT_ONCE: Final = 2.0
"""A backlog may be older than the schedule, and is soon gone then."""
MOST: Final = 4.0
"""Most of the factor. Beyond it few kinds would be looked at less often, only later."""


class LatenessFeedback:
    """The factor by which the lag aimed at is put up, such that looks start about when they are due.

    Under `poll.max_rate` looks start in the order in which they are due, each as late as the backlog is long.
    Where completions come in bursts that is dear: late for one is late for all of it.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self._late_s = self._aim_s = 0.0
        self._learned = 0

    def saw(self, late_s: float, aim_s: float) -> None:
        """A look started so late; `aim_s` is the lag that is aimed at for its job."""
        self._late_s += late_s
        self._aim_s += aim_s

    def learned(self, kinds: int) -> None:
        """One of so many kinds is about to make its schedule anew. Once as many did, the factor is judged."""
        self._learned += 1
        if self._learned < kinds or not self._aim_s:
            return
        change = min(1 + GAIN * (self._late_s / self._aim_s - BEARABLE), MOST_AT_ONCE)
        self.factor = min(max(self.factor * change, 1.0), MOST)
        self._late_s = self._aim_s = 0.0
        self._learned = 0
