"""When nothing comes back: one exchange at a time, ever further apart, until the service is there again."""

from __future__ import annotations

import math
from typing import Final

FAILURES_TO_OPEN: Final = 10
"""In a row. A service that fails every second exchange does that once in a thousand, and is then held up for
less than a second."""
FIRST_WAIT_S: Final = 0.1
PROBES_AN_OUTAGE: Final = 4
"""At least, before a run gives up: the longest wait is this share of its patience."""


class Circuit:
    """Keeps rows from using up their attempts on a service that is down; one for each sort of exchange.

    Closed, it lets everything through. After `FAILURES_TO_OPEN` failures in a row it is open: one exchange is
    let through as a probe, the next after a wait that doubles, and the first answer closes it (the circuit
    breaker of M. Nygard, "Release It!", 2007). So a minute's outage costs some twenty exchanges, however many
    rows are waiting. Times are seconds of one monotonic clock, handed in.
    """

    def __init__(self, max_outage_s: float) -> None:
        self._longest_wait_s = max_outage_s / PROBES_AN_OUTAGE
        self._failures = 0
        self._under_way = 0
        self._probes = 0
        self._next_at = -math.inf

    def __repr__(self) -> str:
        return f"<Circuit {'open' if self.is_open else 'closed'}, {self._failures} failures in a row>"

    @property
    def is_open(self) -> bool:
        return self._failures >= FAILURES_TO_OPEN

    def opens_at(self) -> float:
        """The time from which the next exchange may start; infinite while one must be waited for."""
        if not self.is_open:
            return -math.inf
        return math.inf if self._under_way else self._next_at

    def started(self) -> None:
        """An exchange starts."""
        self._under_way += 1

    def dropped(self) -> None:
        """An exchange that was to start was not needed after all."""
        self._under_way -= 1

    def ended(self, now: float, *, answered: bool) -> bool:
        """An exchange is over; whether its answer closed an open circuit."""
        self._under_way -= 1
        was_open = self.is_open
        if answered:
            self._failures = self._probes = 0
            return was_open
        self._failures += 1
        if self.is_open and not self._under_way:
            self._next_at = now + min(FIRST_WAIT_S * 2.0**self._probes, self._longest_wait_s)
            self._probes += 1
        return False
