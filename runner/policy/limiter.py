"""How fast exchanges may start: one gate for all workers, closed and slowed by what the service says."""

from __future__ import annotations

import math
from typing import Final

from runner.policy.retry import LONGEST_RETRY_AFTER_S

DEFAULT_WAIT_S: Final = 1.0
"""How long the gate closes when a throttled answer names no time."""
GROWTH_PER_S: Final = 1.05
"""A learned rate grows by this factor a second until the service throttles again."""
FORGET_AFTER_S: Final = 60.0
"""A learned rate that was not refused for this long is dropped: the service has room again."""
SLOWEST_PER_S: Final = 0.2
BURST_S: Final = 0.05
"""A late loop may catch up on this much of the schedule at once."""


class Gate:
    """Decides when the next exchange may start. Times are seconds of one monotonic clock, handed in.

    Open until the service throttles. A throttled answer closes the gate for all workers until the
    longest wait that was asked for is over. It then opens at the rate at which the service accepted
    since the last time, waits included: with a token bucket behind it that is the bucket's refill rate,
    found in one or two episodes. From there the rate grows by 5 % a second until the next refusal
    (multiplicative increase; the decrease is measured, not guessed; cf. Chiu and Jain, "Analysis of the
    Increase and Decrease Algorithms for Congestion Avoidance", 1989). Answers to exchanges that were
    sent before the gate closed belong to the same episode and do not slow it twice.
    """

    def __init__(self, max_rate_per_s: float | None = None) -> None:
        self._max_rate_per_s = max_rate_per_s
        self._learned_per_s: float | None = None
        self._learned_at = 0.0
        self._next_at = 0.0
        self._closed_until = 0.0
        self._closed_at = float("-inf")
        self._episode_began: float | None = None
        self._accepted = 0
        self.episodes = 0

    def opens_at(self, now: float) -> float:
        """The time from which the next exchange may start; not after `now` means at once."""
        return max(self._closed_until, self._next_at if self._rate(now) else 0.0)

    def started(self, now: float) -> None:
        """An exchange starts now."""
        if self._episode_began is None:
            self._episode_began = now
        rate = self._rate(now)
        if rate:
            # Absolute, so that late wake-ups do not add up to a lower rate.
            self._next_at = max(self._next_at, now - BURST_S) + 1.0 / rate

    def accepted(self) -> None:
        """The service did not throttle one."""
        self._accepted += 1

    def throttled(self, now: float, sent: float, wait_s: float | None) -> None:
        """The service throttled an exchange that was sent at `sent` and asks to wait `wait_s`."""
        wait = min(max(DEFAULT_WAIT_S if wait_s is None else wait_s, 0.0), LONGEST_RETRY_AFTER_S)
        self._closed_until = max(self._closed_until, now + wait)
        if sent <= self._closed_at:
            return
        began = now if self._episode_began is None else self._episode_began
        measured = self._accepted / max(self._closed_until - began, 1e-3)
        self._learned_per_s = max(measured, SLOWEST_PER_S)
        self._learned_at = self._closed_until
        self._closed_at = self._episode_began = now
        self._accepted = 0
        self.episodes += 1

    def _rate(self, now: float) -> float | None:
        learned = self._learned_per_s
        if learned is not None:
            calm_s = max(now - self._learned_at, 0.0)
            if calm_s > FORGET_AFTER_S:
                self._learned_per_s = learned = None
            else:
                learned *= math.pow(GROWTH_PER_S, calm_s)
        if learned is None or self._max_rate_per_s is None:
            return learned or self._max_rate_per_s
        return min(learned, self._max_rate_per_s)
