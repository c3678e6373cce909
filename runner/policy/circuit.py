"""A rule of admission for outages: one probe at a time, with growing pauses, until the service answers."""

from __future__ import annotations

import math
from typing import Final

from runner.policy.admission import Effect, Exchange

FAILURES_TO_OPEN: Final = 10
"""Consecutive failures that open the circuit.

At a 50 % failure rate chance does it once in 1,024 exchanges, and delays them by less than a second.
"""
FIRST_WAIT_S: Final = 0.1
"""Pause before the first probe, in seconds; it doubles with each probe that fails."""
PROBES_PER_OUTAGE: Final = 4
"""Fewest probes before a run gives up: no pause is longer than `max_outage_s` divided by this."""


class Circuit:
    """Keeps rows from using up their attempts on a service that is down; one for each sort of exchange.

    While it is closed, every exchange may start. `FAILURES_TO_OPEN` consecutive failures open it: then one
    exchange may start as a probe, the next one after a pause that doubles each time, and the first answer
    closes it. This is the circuit breaker of M. Nygard, "Release It!" (2007). An outage of one minute costs
    about 20 exchanges, however many rows are waiting.
    """

    def __init__(self, max_outage_s: float) -> None:
        self._longest_wait_s = max_outage_s / PROBES_PER_OUTAGE
        self._failures = 0
        self._in_flight = 0
        self._probes = 0
        self._next_mono = -math.inf

    def __repr__(self) -> str:
        return f"<Circuit {'open' if self.is_open else 'closed'}, {self._failures} failures in a row>"

    @property
    def is_open(self) -> bool:
        """Whether only probes may start."""
        return self._failures >= FAILURES_TO_OPEN

    def opens_at(self, now_mono: float) -> float:
        """Return the time from which the next exchange may start; `inf` while one must end first."""
        if self._failures < FAILURES_TO_OPEN:
            return -math.inf
        return math.inf if self._in_flight else self._next_mono

    def started(self, now_mono: float) -> None:
        """Count an exchange in flight."""
        self._in_flight += 1

    def dropped(self) -> None:
        """Take back an exchange that was not made."""
        self._in_flight -= 1

    def ended(self, exchange: Exchange) -> bool:
        """Record an answer or a failure, and return whether this answer closed the open circuit.

        A throttled or unauthorised exchange counts as an answer: the service is up.
        """
        self._in_flight -= 1
        was_open = self._failures >= FAILURES_TO_OPEN
        if exchange.effect is not Effect.FAILED:
            self._failures = self._probes = 0
            return was_open
        self._failures += 1
        if self.is_open and not self._in_flight:
            pause_s = min(FIRST_WAIT_S * 2.0**self._probes, self._longest_wait_s)
            self._next_mono = exchange.ended_mono + pause_s
            self._probes += 1
        return False
