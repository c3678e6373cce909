"""Latencies in constant memory: HDR histograms of microseconds, spoken to in seconds."""

from __future__ import annotations

from typing import Final

from hdrh.histogram import HdrHistogram

_HIGHEST_US: Final = 40 * 86_400 * 1_000_000
_DIGITS: Final = 3
QUANTILES: Final = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}


class Histogram:
    """Durations in seconds to three significant digits, from 1 µs to 40 days."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _HIGHEST_US, _DIGITS)
        self._record = self._histogram.record_value
        self._sum_s = 0.0
        self.count = 0

    def record(self, seconds: float) -> None:
        """Below zero (a clock that was set back) counts as zero."""
        self._record(min(max(int(seconds * 1e6), 0), _HIGHEST_US))
        self._sum_s += max(seconds, 0.0)
        self.count += 1

    def quantile(self, percent: float) -> float | None:
        """The value at the nearest rank to `percent` of all, in seconds; None while there are none."""
        return self._histogram.get_value_at_percentile(percent) / 1e6 if self.count else None

    def summary(self) -> dict[str, float | None]:
        """Mean, quantiles and maximum in seconds; all None while there are none."""
        values: dict[str, float | None] = {"mean": self._sum_s / self.count if self.count else None}
        values.update({name: self.quantile(percent) for name, percent in QUANTILES.items()})
        values["max"] = self._histogram.get_max_value() / 1e6 if self.count else None
        return {name: None if value is None else round(value, 6) for name, value in values.items()}
