"""How much may still be spent: what is in flight is not written yet, but it will cost, too."""

from __future__ import annotations

from typing import Final

FIRST_REQUESTS: Final = 20
"""In flight at most until the first results tell what one costs."""


class Budget:
    """Holds requests back so that those in flight, at the mean cost of those done, stay within `max_usd`.

    The mean is that of what is done; jobs still in flight may turn out dearer, by as much as they are longer.
    """

    def __init__(self, max_usd: float) -> None:
        self.max_usd = max_usd

    def allows(self, spent_usd: float, done: int, in_flight: int) -> bool:
        """Whether one more request may go out, `in_flight` being out and `spent_usd` paid for `done`."""
        if spent_usd >= self.max_usd:
            return False
        if not done:
            return in_flight < FIRST_REQUESTS
        return spent_usd + (in_flight + 1) * spent_usd / done <= self.max_usd
