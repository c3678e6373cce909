"""Latencies in constant memory: counts by magnitude, mergeable, right within a twentieth of a percent."""

from __future__ import annotations

import math
from array import array
from itertools import accumulate
from typing import Final

HIGHEST_US: Final = 40 * 86_400 * 1_000_000
QUANTILES: Final = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}
_BITS: Final = 11
"""Of a value that are kept: each power of two is cut into 2^10 parts, none wider than a thousandth."""
_PART: Final = 1 << (_BITS - 1)
_PARTS: Final = HIGHEST_US.bit_length() - _BITS + 2


class Histogram:
    """Durations in seconds, from 1 µs to 40 days.

    Buckets as in G. Tene's HdrHistogram: a value is known by its magnitude and its first 11 bits, both of
    which two shifts find. Its Python port on PyPI takes several times as long to record one, and every job
    has seven.
    """

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _PARTS * _PART))
        self.sum_s = 0.0
        self.max_s = 0.0
        self.count = 0

    def record(self, seconds: float) -> None:
        """Below zero (a clock that was set back) counts as zero, and more than 40 days as 40 days."""
        us = int(seconds * 1e6)
        if not 0 <= us <= HIGHEST_US:
            us = 0 if us < 0 else HIGHEST_US
            seconds = us / 1e6
        shift = us.bit_length() - _BITS
        self._counts[us if shift <= 0 else shift * _PART + (us >> shift)] += 1
        self.count += 1
        self.sum_s += seconds
        if seconds > self.max_s:
            self.max_s = seconds

    def quantile(self, percent: float) -> float | None:
        """The value at the nearest rank to `percent` of all, in seconds; None while there are none."""
        if not self.count:
            return None
        rank = max(math.floor(percent / 100 * self.count + 0.5), 1)
        for start in range(0, len(self._counts), _PART):
            part = self._counts[start : start + _PART]
            inside = sum(part)
            if rank <= inside:
                index = start + next(i for i, below in enumerate(accumulate(part)) if below >= rank)
                return min(_middle_us(index) / 1e6, self.max_s)
            rank -= inside
        return self.max_s

    def summary(self) -> dict[str, float | None]:
        """Mean, quantiles and maximum in seconds; all None while there are none."""
        values: dict[str, float | None] = {"mean": self.sum_s / self.count if self.count else None}
        values.update({name: self.quantile(percent) for name, percent in QUANTILES.items()})
        values["max"] = self.max_s if self.count else None
        return {name: None if value is None else round(value, 6) for name, value in values.items()}

    def take(self) -> Counts:
        """All that was recorded since the last call, for another histogram to `add`."""
        taken = (
            [(i, count) for i, count in enumerate(self._counts) if count] if self.count else [],
            self.sum_s,
            self.max_s,
        )
        if self.count:
            self._counts = array("Q", bytes(8 * len(self._counts)))
            self.sum_s, self.max_s, self.count = 0.0, 0.0, 0
        return taken

    def add(self, counts: Counts) -> None:
        """Count what another histogram has taken."""
        buckets, sum_s, max_s = counts
        for index, count in buckets:
            self._counts[index] += count
            self.count += count
        self.sum_s += sum_s
        self.max_s = max(self.max_s, max_s)


Counts = tuple[list[tuple[int, int]], float, float]
"""Buckets that are not empty, with how many each holds; the sum and the maximum in seconds."""


def _middle_us(index: int) -> float:
    shift = max(index // _PART - 1, 0)
    first = (index - shift * _PART) << shift
    return first + ((1 << shift) - 1) / 2
