"""Adds up the figures that the processes of a run report."""

from __future__ import annotations

import msgspec

from runner.engine.messages import Report
from runner.measure.counts import Counts, merged
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter, add_latencies
from runner.measure.vitals import Fleet

Process = tuple[int, int]
"""Number of a worker, and how many processes were this worker before."""


class Totals:
    """Keeps a run's meter and counts at what earlier sessions left plus the last report of each process.

    Rows of earlier sessions that were not handed to a worker yet are counted here.
    """

    def __init__(self, meter: Meter, in_flight: InFlight, fleet: Fleet) -> None:
        self._held = msgspec.structs.replace(in_flight, outstanding=0)  # workers count what they follow
        self._meter = meter
        self._in_flight = in_flight
        self._fleet = fleet
        self._base = msgspec.structs.replace(meter.counts)
        self._counts: dict[Process, Counts] = {}
        self._in_flights: dict[Process, InFlight] = {}

    def take_in(self, process: Process, report: Report) -> None:
        """Count what a worker reports."""
        self.replace(process, report.counts, report.in_flight)
        add_latencies(self._meter, report.latencies)
        self._fleet.report(process, report.vitals, report.loop_lag)

    def replace(self, process: Process, counts: Counts, in_flight: InFlight) -> None:
        """Replace the counts of a process."""
        self._counts[process] = counts
        self._in_flights[process] = in_flight
        self._meter.counts = merged([self._base, *self._counts.values()])
        self._add_up()

    def hand_over(self, announced: int) -> None:
        """Leave announced rows to a worker, which counts them from now on."""
        self._held.retract(announced)
        self._add_up()

    def take_back(self, announced: int) -> None:
        """Count announced rows of a worker that died, until they are handed over again."""
        self._held.announce(announced)
        self._add_up()

    def last(self, process: Process) -> Counts:
        """Return the counts that a process reported last."""
        return self._counts.get(process) or Counts()

    def settle(self, outstanding: int, announced: int) -> None:
        """Correct the counts at the end of the session, by what the files of the run show."""
        self._in_flight.outstanding, self._in_flight.announced = outstanding, announced

    def _add_up(self) -> None:
        summed = merged([self._held, *self._in_flights.values()])
        for name in summed.__struct_fields__:
            setattr(self._in_flight, name, getattr(summed, name))
        self._in_flight.total = self._held.total  # those of the workers are parts of it
