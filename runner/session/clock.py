"""Time that only goes forward, in seconds of the monotonic clock and in Unix seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux stops the plain monotonic clock while a machine sleeps; jobs, keys and deadlines age all the same."""


def system_mono() -> float:
    """Return seconds of a monotonic clock that goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class Clock:
    """Converts between a monotonic clock and Unix time.

    Unix time is what it was at the start plus the monotonic time since, so that a system clock that is set
    does not disturb a run.
    """

    def __init__(
        self, read_mono: Callable[[], float] = system_mono, read_unix: Callable[[], float] = time.time
    ) -> None:
        self.now_mono = read_mono
        """Return the present in monotonic seconds: for waits and durations."""
        self._offset_s = read_unix() - read_mono()

    def unix(self, mono: float) -> float:
        """Convert a monotonic time to Unix seconds, for what is written down."""
        return mono + self._offset_s

    def mono(self, unix: float) -> float:
        """Convert Unix seconds to a monotonic time, for what was written down before."""
        return unix - self._offset_s

    def now(self) -> float:
        """Return the present in Unix seconds."""
        return self.now_mono() + self._offset_s
