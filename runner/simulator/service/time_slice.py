"""Time slices: a generator with much to do yields after each one, so that the event loop can serve others."""

from __future__ import annotations

import time
from typing import Final

SLICE_S: Final = 0.006
"""Length of a slice in seconds: short compared with a network round trip, long compared with a loop turn."""


class TimeSlice:
    """The slice that is running. Use as `if slice.is_over(): yield 0.0; slice.restart()`."""

    __slots__ = ("_until_mono",)

    def __init__(self) -> None:
        self.restart()

    def is_over(self) -> bool:
        """Return whether the slice has used up its time."""
        return time.perf_counter() > self._until_mono

    def restart(self) -> None:
        """Begin the next slice now."""
        self._until_mono = time.perf_counter() + SLICE_S
