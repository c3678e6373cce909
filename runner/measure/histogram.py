"""Latencies in constant memory: mergeable counts by magnitude, exact to within 0.05 %."""

from __future__ import annotations

import math
from array import array
from itertools import accumulate
from typing import Final

import msgspec

HIGHEST_US: Final = 40 * 86_400 * 1_000_000
"""Longest duration that can be recorded, in microseconds: 40 days. Longer ones count as this."""
QUANTILES: Final = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}
_BITS: Final = 11
"""Leading bits of a value that are kept: each power of two has 2^10 buckets, none wider than 0.1 %."""
_PART: Final = 1 << (_BITS - 1)
_PARTS: Final = HIGHEST_US.bit_length() - _BITS + 2

HistogramCounts = tuple[list[tuple[int, int]], float, float]
"""Contents of a histogram: (index, count) of each bucket in use; sum and maximum in seconds."""


class Distribution(msgspec.Struct, frozen=True):
    """Mean, quantiles and maximum of some durations, in seconds; all None where there are no durations."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    p99_9: float | None = None
    max: float | None = None


class Histogram:
    """Durations in seconds, from 1 µs to 40 days.

    Buckets as in G. Tene's HdrHistogram: the magnitude and the first 11 bits of a value give its bucket, at
    the cost of two shifts. The Python port on PyPI takes several times as long to record a value, and every
    job records seven.
    """

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _PARTS * _PART))
        self.sum_s = 0.0
        self.max_s = 0.0
        self.count = 0

    def record(self, seconds: float) -> None:
        """Count one duration.

        A negative one (the clock was set back) counts as zero, and one of more than 40 days as 40 days.
        """
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
        """Return the duration at the nearest rank to `percent`, in seconds; None while there is none."""
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

    def summary(self) -> Distribution:
        """Return mean, quantiles and maximum, rounded to microseconds."""
        if not self.count:
            return Distribution()
        quantiles = {name: _rounded(self.quantile(percent)) for name, percent in QUANTILES.items()}
        return Distribution(mean=_rounded(self.sum_s / self.count), max=_rounded(self.max_s), **quantiles)

    def take(self) -> HistogramCounts:
        """Return everything recorded since the last call, for the `add` of another histogram."""
        taken = (
            [(i, count) for i, count in enumerate(self._counts) if count] if self.count else [],
            self.sum_s,
            self.max_s,
        )
        if self.count:
            self._counts = array("Q", bytes(8 * len(self._counts)))
            self.sum_s, self.max_s, self.count = 0.0, 0.0, 0
        return taken

    def add(self, counts: HistogramCounts) -> None:
        """Count what was taken from another histogram."""
        buckets, sum_s, max_s = counts
        for index, count in buckets:
            self._counts[index] += count
            self.count += count
        self.sum_s += sum_s
        self.max_s = max(self.max_s, max_s)


def _middle_us(index: int) -> float:
    """Return the middle of a bucket, in microseconds."""
    shift = max(index // _PART - 1, 0)
    first = (index - shift * _PART) << shift
    return first + ((1 << shift) - 1) / 2


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
