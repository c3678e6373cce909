"""Whether the budget allows one more request, with jobs in flight whose cost is not known yet."""

from __future__ import annotations

from typing import Final

FIRST_REQUESTS: Final = 20
"""Most requests in flight until the first result shows what one costs."""
IN_FLIGHT_FACTOR: Final = 3.0
"""Expected cost of a job in flight, in multiples of the mean cost of those done.

It is above 1 because long jobs are in flight for longer (the inspection paradox) and are done later. With
exponential costs proportional to duration, 3 keeps the overshoot within 20 % for a budget of twice the
in-flight cost and 2 % for twenty times (see tests).
"""


class Budget:
    """Holds requests back so that jobs done and jobs in flight stay within `max_usd`.

    At most as many jobs are in flight as are done, because cheap jobs tend to be done first. A run may still
    end slightly above its budget: the last jobs in flight may cost more than the others.
    """

    def __init__(self, max_usd: float) -> None:
        self.max_usd = max_usd
        """Budget in US dollars."""

    def allows(self, spent_usd: float, done: int, in_flight: int) -> bool:
        """Return whether one more request may be sent.

        `spent_usd` is the cost of the `done` jobs; `in_flight` jobs were sent and are not done.
        """
        if spent_usd >= self.max_usd:
            return False
        if in_flight >= max(FIRST_REQUESTS, done):
            return False
        mean_usd = spent_usd / done if done else 0.0
        return spent_usd + (IN_FLIGHT_FACTOR * in_flight + 1) * mean_usd <= self.max_usd
