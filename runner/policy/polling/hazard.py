"""When completions come, learned from what looks have seen: the hazard by position, constant within cells."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

CELLS: Final = 32
"""Cells that hold completions, about equally many each; the hazard within one is taken for constant."""
EVEN_CELLS: Final = 24
"""And as many of equal width among them, lest a gap without completions be bridged by one that has some."""
TAIL_RATIO: Final = 1.4
"""Each cell outside of them is so many times farther from the middle than the last."""
PRIOR_EVENTS: Final = 0.05
"""Weight, in completions, of the assumption that knows no scale: hazard 1/distance in every cell."""
HALF_LIFE_COMPLETIONS: Final = 1_000.0
"""What was seen this many completions ago counts half: services speed up and slow down."""
UNEVEN: Final = 3.0
"""A cell with this many times its share of completions makes all cells be drawn anew."""
FEWEST_BELOW: Final = 0.002
"""Positions that a smaller share of completions came before are taken for free of them."""
NO_HAZARD: Final = 1e-15
"""Per second, in a cell that is free of completions: small, and fit to be divided by."""
LATE: Final = 0.98
"""The share of completions before the position from which on too little is learned of the rest."""
UNBELIEF: Final = 0.1
"""This share of a completion is spread evenly over the end of its interval: a service may get faster."""
LEAST_P: Final = 1e-3
"""A completion where none was expected is never less probable: one stray must not decide anything."""

Interval = tuple[float, float]


class Hazard:
    """Events over time at risk, cell by cell, for positions on one axis; what is old fades.

    A completion is known only to lie between two looks. It is spread over the cells between by the density
    known so far, which is a step of Turnbull's self-consistency (J. R. Statist. Soc. B 38, 1976), taken once,
    when it is new.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = list(edges)
        cells = len(self.edges) - 1
        self.hazards: list[float] = []
        self.seen = 0.0
        """Completions, faded."""
        self.mean = 0.0
        self.known = self.edges[0]
        """The position up to which jobs were watched."""
        self.reach = 0.0
        """Between the quartiles."""
        self.middle = self.late = 0.0
        """The median, and the position that one completion in some dozens comes after."""
        self.unseen = 1.0
        """The share of jobs that are pending still at that position."""
        self.first = 0
        self._total = self._drawn_at = 0
        self._events = [0.0] * cells
        self._exposed_s = [0.0] * cells
        self._passed = [0.0] * (cells + 1)  # differences: cells that a job went through from end to end
        self._density: list[float] = []
        self._below: list[float] = []

    @property
    def earliest(self) -> float:
        """The position before which as good as nothing was seen done."""
        return self.edges[self.first]

    def expose(self, start: float, stop: float) -> None:
        """A job was pending from one position to another."""
        edges = self.edges
        start, stop = max(start, edges[0]), min(stop, edges[-1])
        if stop <= start:
            return
        i = bisect_right(edges, start) - 1
        if stop <= edges[i + 1]:
            self._exposed_s[i] += stop - start
            return
        j = bisect_right(edges, stop, i + 1) - 1
        self._exposed_s[i] += edges[i + 1] - start
        self._passed[i + 1] += 1
        if j < len(self._exposed_s):
            self._exposed_s[j] += stop - edges[j]
            self._passed[j] -= 1
        else:
            self._passed[j] -= 1

    def probability(self, after: float, by: float) -> float:
        """Of a completion in between, by what was learned last."""
        return max(self._share_below(by) - self._share_below(after), 0.0) + LEAST_P

    def learn(self, completions: Iterable[Interval]) -> None:
        """Take in where completions came since the last time, and let older ones fade."""
        fresh = 0
        for after, by in completions:
            self._complete(after, by)
            fresh += 1
        self.seen += fresh
        self._total += fresh
        self._estimate()
        heaviest = max(self._mass())
        if self._total >= 2 * self._drawn_at or heaviest > UNEVEN / CELLS:
            self._draw_anew()
            self._estimate()
        self._fade(0.5 ** (fresh / HALF_LIFE_COMPLETIONS))

    def _complete(self, after: float, by: float) -> None:
        edges = self.edges
        after = min(max(after, edges[0]), edges[-2])
        by = min(max(by, after + 1e-9), edges[-1])
        i = bisect_right(edges, after) - 1
        if by <= edges[i + 1]:
            self._events[i] += 1
            self._exposed_s[i] += (by - after) / 2
            return
        j = bisect_right(edges, by, i + 1) - 1
        j = min(j, len(self._events) - 1)
        spans = [edges[k + 1] - edges[k] for k in range(i, j + 1)]
        spans[0] -= after - edges[i]
        spans[-1] -= edges[j + 1] - by
        if self._density:
            weights = [span * self._density[k] for k, span in enumerate(spans, i)]
            # Some of it evenly: what was never seen to happen somewhere may begin to.
            k = max(self._cell(by - self.reach), i)
            even = UNBELIEF * sum(weights) / sum(spans[k - i :])
            for n in range(k - i, len(spans)):
                weights[n] += even * spans[n]
        else:
            weights = spans
        scale, left = 1 / sum(weights), 1.0
        for k, span in enumerate(spans, i):
            share = weights[k - i] * scale
            self._events[k] += share
            self._exposed_s[k] += span * (left - share / 2)
            left -= share

    def _estimate(self) -> None:
        edges, exposed_s = self.edges, self._exposed_s
        for k, passed in enumerate(accumulate(self._passed[:-1])):
            if passed:
                exposed_s[k] += passed * (edges[k + 1] - edges[k])
        self._passed = [0.0] * len(self._passed)
        middle = self.middle = self._quantile(0.5)
        self.late = self._quantile(LATE)
        reach = self.reach = max(self._quantile(0.75) - self._quantile(0.25), 1e-3)
        self.first = self._cell(self._quantile(FEWEST_BELOW))
        self.hazards = []
        at_risk = 0.0
        for k in range(len(exposed_s) - 1, -1, -1):
            width = edges[k + 1] - edges[k]
            # Whoever was at risk at a position would have been at risk at any before it.
            at_risk = max(at_risk, exposed_s[k] / width)
            distance = reach + abs((edges[k] + edges[k + 1]) / 2 - middle)
            events = self._events[k] + PRIOR_EVENTS
            self.hazards.append(events / (at_risk * width + PRIOR_EVENTS * distance))
            at_risk += self._events[k] / 2
        self.hazards.reverse()
        self.hazards[: self.first] = [NO_HAZARD] * self.first
        self.known = self.mean = edges[self.first]
        left = alive = 1.0
        below, density = [0.0], []
        for k, hazard in enumerate(self.hazards):
            width = edges[k + 1] - edges[k]
            gone = left * -math.expm1(-hazard * width)
            if exposed_s[k] >= width and k >= self.first:
                self.known = edges[k + 1]
                self.mean += gone / hazard
                alive = left - gone
            left -= gone
            below.append(1 - left)
            density.append(gone / width + 1e-12)
        # The rest, of which nothing is known, may well take as long again.
        self.unseen = alive
        self.mean += alive * (self.known - edges[self.first])
        self._below, self._density = below, density

    def _share_below(self, position: float) -> float:
        edges = self.edges
        if not self._below or position <= edges[0]:
            return 0.0
        if position >= edges[-1]:
            return 1.0
        k = self._cell(position)
        return self._below[k] + self._density[k] * (position - edges[k])

    def _cell(self, position: float) -> int:
        return min(bisect_right(self.edges, position), len(self.edges) - 1) - 1

    def _mass(self) -> list[float]:
        total = sum(self._events) or 1.0
        return [events / total for events in self._events]

    def _quantile(self, share: float) -> float:
        """Of the completions taken in, not of all jobs: those still pending are not among them."""
        wanted = share * sum(self._events)
        for k, events in enumerate(self._events):
            if events and wanted <= events:
                return self.edges[k] + wanted / events * (self.edges[k + 1] - self.edges[k])
            wanted -= events
        return self.edges[-1]

    def _draw_anew(self) -> None:
        """Cells where the completions are: equally many in each, and ever wider ones outside."""
        first, last = self.edges[0], self.edges[-1]
        quantiles = self._quantiles()
        low, high = quantiles[0], quantiles[-1]
        evenly = [low + n / EVEN_CELLS * (high - low) for n in range(1, EVEN_CELLS)]
        inner = sorted(quantiles + evenly)
        least = max((high - low) / 400, 1e-3)
        edges = [low]
        for edge in inner[1:]:
            if edge - edges[-1] >= least:
                edges.append(edge)
        if len(edges) == 1:
            edges.append(low + least)
        middle = (edges[0] + edges[-1]) / 2
        reach = max(edges[-1] - middle, least)
        upper, width = [edges[-1]], max(edges[-1] - edges[-2], least)
        while upper[-1] < last:
            upper.append(min(upper[-1] + width, last))
            width = max(width * TAIL_RATIO, (upper[-1] - middle - reach) * (TAIL_RATIO - 1))
        lower, width = [edges[0]], max(edges[1] - edges[0], least)
        while lower[-1] > first:
            lower.append(max(lower[-1] - width, first))
            width *= 2
        self._move_to(lower[:0:-1] + edges + upper[1:])
        self._drawn_at = self._total

    def _quantiles(self) -> list[float]:
        shares = [(n + 0.25) / (CELLS + 0.5) if n else 0.25 / CELLS for n in range(CELLS)] + [
            1 - 0.25 / CELLS
        ]
        return [self._quantile(share) for share in shares]

    def _move_to(self, edges: list[float]) -> None:
        """Hand the counts over to other cells, each spread evenly over where it was."""
        events, exposed_s = [0.0] * (len(edges) - 1), [0.0] * (len(edges) - 1)
        i = 0
        for k in range(len(self._events)):
            start, stop = self.edges[k], self.edges[k + 1]
            while edges[i + 1] <= start:
                i += 1
            j = i
            while True:
                share = (min(stop, edges[j + 1]) - max(start, edges[j])) / (stop - start)
                if share > 0:
                    events[j] += share * self._events[k]
                    exposed_s[j] += share * self._exposed_s[k]
                if edges[j + 1] >= stop or j + 2 >= len(edges):
                    break
                j += 1
        self.edges, self._events, self._exposed_s = edges, events, exposed_s
        self._passed = [0.0] * len(edges)

    def _fade(self, keep: float) -> None:
        self.seen *= keep
        self._events = [value * keep for value in self._events]
        self._exposed_s = [value * keep for value in self._exposed_s]
