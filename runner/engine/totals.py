"""The figures of a run that several processes work on: the sum of what each of them reports."""

from __future__ import annotations

import msgspec

from runner.engine.messages import Report
from runner.measure.counts import Counts, merged
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter, add_latencies
from runner.measure.vitals import Fleet

Process = tuple[int, int]
"""A worker's number, and its generation: how many processes had the number before."""


class Totals:
    """Keeps a run's meter and counts at what earlier sessions left plus what each process reported last.

    `held` is what the coordinator itself has in its hands; its `total` is that of the run.
    """

    def __init__(self, meter: Meter, in_flight: InFlight, fleet: Fleet) -> None:
        self.held = msgspec.structs.replace(in_flight)
        self._meter = meter
        self._in_flight = in_flight
        self._fleet = fleet
        self._base = msgspec.structs.replace(meter.counts)
        self._counts: dict[Process, Counts] = {}
        self._places: dict[Process, InFlight] = {}

    def take_in(self, process: Process, report: Report) -> None:
        """Take a report of a worker into account."""
        self.replace(process, report.counts, report.in_flight)
        add_latencies(self._meter, report.latencies)
        self._fleet.report(process, report.vitals, report.loop_lag)

    def replace(self, process: Process, counts: Counts, in_flight: InFlight) -> None:
        """Replace what a process counted until now."""
        self._counts[process] = counts
        self._places[process] = in_flight
        self._meter.counts = merged([self._base, *self._counts.values()])
        self.refresh()

    def refresh(self) -> None:
        """Bring the counts of the run up to date with `held`."""
        summed = merged([self.held, *self._places.values()])
        for name in summed.__struct_fields__:
            setattr(self._in_flight, name, getattr(summed, name))
        self._in_flight.total = self.held.total  # the workers' are parts of it

    def last(self, process: Process) -> Counts:
        """Return what a process reported last."""
        return self._counts.get(process) or Counts()

    def settle(self, outstanding: int, announced: int) -> None:
        """Correct the counts at the end by what the files of the run show."""
        self._in_flight.outstanding, self._in_flight.announced = outstanding, announced
