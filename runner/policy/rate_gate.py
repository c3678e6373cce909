"""How fast exchanges may start: one gate for all workers, closed and slowed by what the service says."""

from __future__ import annotations

import math
from typing import Final

from runner.policy.retry import LONGEST_RETRY_AFTER_S

DEFAULT_WAIT_S: Final = 1.0
"""How long the gate closes when a throttled answer names no time."""
OVERLOAD_SHARE: Final = 0.5
"""Refused share of an episode from which on it shows a limit of the service, not a stray refusal."""
FAST_GROWTH_PER_S: Final = 2.0
FAST_DECREASE: Final = 0.5
"""While a new rate is sought: it doubles every second until it is refused, and goes back one step."""
SLOW_GROWTH_PER_S: Final = 1.02
SLOW_DECREASE: Final = 0.9
"""Once it is found: probing upwards every second, down a little at each further episode."""
FORGET_AFTER_S: Final = 60.0
"""A learned rate that was not refused for this long is dropped: the service has room again."""
SLOWEST_PER_S: Final = 1.0
BURST_S: Final = 0.05
"""A late loop may catch up on this much of the schedule at once."""


class RateGate:
    """Decides when the next exchange may start. Times are seconds of one monotonic clock, handed in.

    A throttled answer closes the gate for all workers until the longest wait that was asked for is over:
    one episode, however many answers bring the same news. When most exchanges of an episode were refused,
    the service has a limit, and exchanges are paced from then on: first at what it accepted over the whole
    episode, wait included, which is not above its rate; then growing fast until the next refusal, and
    slowly from there, as TCP does it (Jacobson, "Congestion Avoidance and Control", 1988), except that
    growth is multiplicative throughout, because limits span decades, and that no decrease goes below what
    was just measured. A few refusals among many acceptances close the gate, but do not slow it: they say
    nothing of the rate.
    """

    def __init__(self, max_rate_per_s: float | None = None) -> None:
        self._max_rate_per_s = max_rate_per_s
        self._learned_per_s: float | None = None
        self._learned_at = 0.0
        self._growth_per_s = FAST_GROWTH_PER_S
        self._next_at = 0.0
        self._closed_at = float("-inf")
        self._closed_until = float("-inf")
        self._is_closed = False
        self._began: float | None = None
        self._accepted = 0
        self._refused = 0

    def opens_at(self, now: float) -> float:
        """The time from which the next exchange may start; not after `now` means at once."""
        self._reopen_if_due(now)
        return max(self._closed_until, self._next_at if self._rate(now) else self._closed_until)

    def started(self, now: float) -> None:
        """An exchange starts now."""
        if self._began is None:
            self._began = now
        rate = self._rate(now)
        if rate:
            # Absolute, so that late wake-ups do not add up to a lower rate.
            self._next_at = max(self._next_at, now - BURST_S) + 1.0 / rate

    def accepted(self) -> None:
        """The service did not throttle one."""
        self._accepted += 1

    def throttled(self, now: float, sent: float, wait_s: float | None) -> bool:
        """The service throttled an exchange that was sent at `sent`, and asks to wait `wait_s`.

        Returns whether that is news: the first refusal of an episode.
        """
        self._reopen_if_due(now)
        wait = min(max(DEFAULT_WAIT_S if wait_s is None else wait_s, 0.0), LONGEST_RETRY_AFTER_S)
        self._closed_until = max(self._closed_until, now + wait)
        if self._began is None or sent >= self._began:  # else it belongs to an episode that is judged already
            self._refused += 1
        is_news = not self._is_closed and sent > self._closed_at
        if is_news:
            self._is_closed = True
            self._closed_at = now
        return is_news

    def _reopen_if_due(self, now: float) -> None:
        """When the wait is over: what did the episode show?"""
        if not self._is_closed or now < self._closed_until:
            return
        at = self._closed_until
        began = at if self._began is None else self._began
        measured = max(self._accepted / max(at - began, 1e-3), SLOWEST_PER_S)
        rate = self._learned(self._closed_at)
        if self._refused >= OVERLOAD_SHARE * (self._accepted + self._refused):
            self._learned_per_s = measured
            self._growth_per_s = FAST_GROWTH_PER_S
        elif rate is not None:
            decrease = FAST_DECREASE if self._growth_per_s == FAST_GROWTH_PER_S else SLOW_DECREASE
            self._learned_per_s = max(rate * decrease, measured)
            self._growth_per_s = SLOW_GROWTH_PER_S
        self._learned_at = self._began = at
        self._next_at = at + BURST_S  # the wait is no arrears: what was not sent in it is not made up for
        self._is_closed = False
        self._accepted = self._refused = 0

    def _rate(self, now: float) -> float | None:
        learned = self._learned(now)
        if learned is None or self._max_rate_per_s is None:
            return learned or self._max_rate_per_s
        return min(learned, self._max_rate_per_s)

    def _learned(self, now: float) -> float | None:
        if self._learned_per_s is None:
            return None
        calm_s = max(now - self._learned_at, 0.0)
        if calm_s > FORGET_AFTER_S:
            self._learned_per_s = None
            return None
        return self._learned_per_s * math.pow(self._growth_per_s, calm_s)
