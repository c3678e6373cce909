"""Time that only goes forward, told in seconds of the monotonic clock and in Unix seconds."""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux stops the plain monotonic clock while a machine sleeps; jobs, keys and deadlines age all the same."""


class Clock:
    """Unix time as of the start plus monotonic time since: a clock that is set does not disturb a run."""

    def __init__(self) -> None:
        self._offset_s = time.time() - self.now()

    def now(self) -> float:
        """Monotonic seconds: for waits and durations."""
        return time.clock_gettime(_CLOCK)

    def unix(self, now: float) -> float:
        """Unix seconds of a monotonic time: for what is written down."""
        return now + self._offset_s

    def monotonic(self, unix: float) -> float:
        """Monotonic seconds of a Unix time: for what was written down before."""
        return unix - self._offset_s
