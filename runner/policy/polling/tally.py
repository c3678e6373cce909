"""Counts of completions and of time at risk, cell by cell along an axis."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from runner.policy.polling.cells import rebinned

EVEN_SHARE: Final = 0.1
"""Share of a completion that is spread evenly over the end of its interval: a service may get faster."""


class Tally:
    """Owns the counts from which a hazard is estimated: events divided by exposure.

    A completion is known only to lie between two polls. It is spread over the cells between them by the
    density of completions that is known so far.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        cells = len(edges) - 1
        self.edges = list(edges)
        """Ascending positions; cell k lies between edges k and k + 1."""
        self.events = [0.0] * cells
        """Completions in each cell."""
        self.exposed_s = [0.0] * cells
        """Job-seconds at risk in each cell: how long jobs were pending there, all added up."""
        self._passes = [0.0] * (cells + 1)
        """Jobs that went through a cell from end to end, as differences from one cell to the next."""

    def cell(self, position: float) -> int:
        """Return the index of the cell that holds `position`; -1 before the first edge."""
        return min(bisect_right(self.edges, position), len(self.edges) - 1) - 1

    def expose(self, start: float, stop: float) -> None:
        """Count a job that was pending from one position to another."""
        edges = self.edges
        start, stop = max(start, edges[0]), min(stop, edges[-1])
        if stop <= start:
            return
        i = bisect_right(edges, start) - 1
        if stop <= edges[i + 1]:
            self.exposed_s[i] += stop - start
            return
        j = bisect_right(edges, stop, i + 1) - 1
        self.exposed_s[i] += edges[i + 1] - start
        self._passes[i + 1] += 1
        self._passes[j] -= 1
        if j < len(self.exposed_s):
            self.exposed_s[j] += stop - edges[j]

    def complete(self, after: float, by: float, density: Sequence[float], end_s: float) -> None:
        """Count a job that completed between two positions, and that was at risk there until it did.

        `density` is the share of completions per second in each cell, or empty while it is unknown. The
        `EVEN_SHARE` goes to the last `end_s` seconds of the interval.
        """
        edges = self.edges
        after = min(max(after, edges[0]), edges[-2])
        by = min(max(by, after + 1e-9), edges[-1])
        i = bisect_right(edges, after) - 1
        if by <= edges[i + 1]:
            self.events[i] += 1
            self.exposed_s[i] += (by - after) / 2
            return
        j = min(bisect_right(edges, by, i + 1) - 1, len(self.events) - 1)
        spans = [edges[k + 1] - edges[k] for k in range(i, j + 1)]
        spans[0] -= after - edges[i]
        spans[-1] -= edges[j + 1] - by
        weights = spans
        if density:
            weights = [span * density[k] for k, span in enumerate(spans, i)]
            end = max(self.cell(by - end_s), i) - i
            even = EVEN_SHARE * sum(weights) / sum(spans[end:])
            for n in range(end, len(spans)):
                weights[n] += even * spans[n]
        scale, left = 1 / sum(weights), 1.0
        for k, span in enumerate(spans, i):
            share = weights[k - i] * scale
            self.events[k] += share
            self.exposed_s[k] += span * (left - share / 2)
            left -= share

    def settle(self) -> None:
        """Add to `exposed_s` the jobs that went through whole cells; only then is it complete."""
        edges = self.edges
        for k, passes in enumerate(accumulate(self._passes[:-1])):
            if passes:
                self.exposed_s[k] += passes * (edges[k + 1] - edges[k])
        self._passes = [0.0] * len(self._passes)

    def quantile(self, share: float) -> float:
        """Return the position that this share of the counted completions came before.

        Jobs that are still pending are not counted, so it is no quantile of the latency of all jobs.
        """
        wanted = share * sum(self.events)
        for k, events in enumerate(self.events):
            if events and wanted <= events:
                return self.edges[k] + wanted / events * (self.edges[k + 1] - self.edges[k])
            wanted -= events
        return self.edges[-1]

    def heaviest_share(self) -> float:
        """Return the share of completions in the cell that has most of them."""
        return max(self.events) / (sum(self.events) or 1.0)

    def move_to(self, edges: list[float]) -> None:
        """Hand the counts over to other cells on the same axis; call `settle` before."""
        self.events = rebinned(self.events, self.edges, edges)
        self.exposed_s = rebinned(self.exposed_s, self.edges, edges)
        self.edges = edges
        self._passes = [0.0] * len(edges)

    def fade(self, keep: float) -> None:
        """Multiply all counts by `keep`; call `settle` before."""
        self.events = [value * keep for value in self.events]
        self.exposed_s = [value * keep for value in self.exposed_s]
