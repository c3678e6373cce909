"""How much may still be spent: what is in flight is not written yet, but it will cost, too."""

from __future__ import annotations

from typing import Final

FIRST_REQUESTS: Final = 20
"""In flight at most until the first result tells what one costs."""
IN_FLIGHT_FACTOR: Final = 3.0
"""What is in flight costs more than what is done: long jobs are in flight for longer (the inspection paradox)
and are done later. Where costs are exponential and follow durations, three keeps a budget of twice what is in
flight within a fifth, and one of twenty times within a fiftieth; see the tests."""


class Budget:
    """Holds requests back so that those done and those in flight stay within `max_usd`.

    In flight are at most as many as are done, because cheap jobs tend to be done first. A run may still end a
    little above: the last jobs in flight may turn out dearer than the others.
    """

    def __init__(self, max_usd: float) -> None:
        self.max_usd = max_usd

    def allows(self, spent_usd: float, done: int, in_flight: int) -> bool:
        """Whether one more request may go out, `in_flight` being out and `spent_usd` paid for `done`."""
        if spent_usd >= self.max_usd:
            return False
        if in_flight >= max(FIRST_REQUESTS, done):
            return False
        mean_usd = spent_usd / done if done else 0.0
        return spent_usd + (IN_FLIGHT_FACTOR * in_flight + 1) * mean_usd <= self.max_usd
