"""Long work in slices: a generator yields now and then, so that others on the loop get their turn."""

from __future__ import annotations

import time
from typing import Final

SLICE_S: Final = 0.006
"""How long a slice takes: short beside a network's round trip, long beside a turn of the loop."""


class TimeSlice:
    """`if pace.due(): yield 0.0; pace.resume()`"""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self.resume()

    def due(self) -> bool:
        """Whether this slice has had its time."""
        return time.perf_counter() > self._until

    def resume(self) -> None:
        self._until = time.perf_counter() + SLICE_S
