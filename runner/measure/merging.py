"""The meter of a run that several processes work on: each tells its totals, and they are added up."""

from __future__ import annotations

import msgspec

from runner.measure.histogram import Counts
from runner.measure.meter import Meter

_NUMBERS = ("accepted", "polls", "posting", "open", "unacknowledged", "spanned")
_COUNTERS = ("statuses", "tokens", "submit_retries", "poll_retries")
_LATENCIES = ("schedule_delay", "submit", "completion", "detection_lag_bound", "poll")


class Totals(msgspec.Struct):
    """The totals of one process since it began."""

    numbers: dict[str, int] = {}
    counters: dict[str, dict[str, int]] = {}
    first_accepted: float | None = None
    last_accepted: float = 0.0


def totals_of(meter: Meter) -> Totals:
    """What one process counted; latencies aside, which are taken by `take_latencies`."""
    return Totals(
        numbers={name: getattr(meter, name) for name in _NUMBERS},
        counters={name: dict(getattr(meter, name)) for name in _COUNTERS},
        first_accepted=meter.first_accepted,
        last_accepted=meter.last_accepted,
    )


def take_latencies(meter: Meter) -> dict[str, Counts]:
    """The latencies since the last call."""
    return {name: getattr(meter.latencies, name).take() for name in _LATENCIES}


def add_latencies(meter: Meter, latencies: dict[str, Counts]) -> None:
    for name, counts in latencies.items():
        getattr(meter.latencies, name).add(counts)


class Merge:
    """Keeps `meter`, with what earlier sessions left in it, at the sum of all processes."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._before: dict[object, Totals] = {}

    def update(self, process: object, now: Totals) -> None:
        """`process` stands at `now`: only the difference to what it told before counts."""
        meter, before = self._meter, self._before.get(process) or Totals()
        for name, number in now.numbers.items():
            setattr(meter, name, getattr(meter, name) + number - before.numbers.get(name, 0))
        for name, counts in now.counters.items():
            counter, earlier = getattr(meter, name), before.counters.get(name, {})
            for key, count in counts.items():
                counter[key] += count - earlier.get(key, 0)
        if now.first_accepted is not None:
            first = meter.first_accepted
            meter.first_accepted = now.first_accepted if first is None else min(first, now.first_accepted)
            meter.last_accepted = max(meter.last_accepted, now.last_accepted)
        self._before[process] = now

    def last(self, process: object) -> Totals:
        """What `process` told last."""
        return self._before.get(process) or Totals()
