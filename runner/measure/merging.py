"""The meter of a run that several processes work on: each tells its totals, and they are added up."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from runner.measure.histogram import Counts, Histogram
from runner.measure.meter import Meter

_NUMBERS = ("accepted", "polls", "posting", "open", "unacknowledged", "spanned")
_COUNTERS = ("statuses", "tokens", "submit_retries", "poll_retries", "wire")
_LATENCIES = ("schedule_delay", "submit", "completion", "detection_lag_bound", "poll")


class Totals(msgspec.Struct):
    """The totals of one process since it began."""

    numbers: dict[str, int] = {}
    counters: dict[str, dict[str, int]] = {}
    first_accepted: float | None = None
    last_accepted: float = 0.0
    """On the monotonic clock; the others in Unix seconds, see `Milestones`."""
    last_accepted_at: float = -math.inf
    first_done_at: float = math.inf
    last_done_at: float = -math.inf


def totals_of(meter: Meter) -> Totals:
    """What one process counted; latencies aside, which are taken by `take_latencies`."""
    return Totals(
        numbers={name: getattr(meter, name) for name in _NUMBERS},
        counters={name: dict(getattr(meter, name)) for name in _COUNTERS},
        first_accepted=meter.first_accepted,
        last_accepted=meter.last_accepted,
        last_accepted_at=meter.milestones.last_accepted,
        first_done_at=meter.milestones.first_done,
        last_done_at=meter.milestones.last_done,
    )


def take_latencies(meter: Meter) -> dict[str, Counts]:
    """The latencies since the last call."""
    return {name: histogram.take() for name, histogram in _histograms(meter)}


def add_latencies(meter: Meter, latencies: dict[str, Counts]) -> None:
    for name, histogram in _histograms(meter):
        if name in latencies:
            histogram.add(latencies[name])


def _histograms(meter: Meter) -> Iterator[tuple[str, Histogram]]:
    for name in _LATENCIES:
        yield name, getattr(meter.latencies, name)
    yield "done", meter.milestones.done


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
        milestones = meter.milestones
        milestones.last_accepted = max(milestones.last_accepted, now.last_accepted_at)
        milestones.first_done = min(milestones.first_done, now.first_done_at)
        milestones.last_done = max(milestones.last_done, now.last_done_at)
        self._before[process] = now

    def last(self, process: object) -> Totals:
        """What `process` told last."""
        return self._before.get(process) or Totals()
