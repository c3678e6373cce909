"""The hazard of completion, learned from what polls saw: events divided by time at risk, cell by cell.

The hazard at a position is how fast jobs complete there, as a share of those still pending, per second. It
is the quantity to learn for polling, because polls are worth their cost where it is high (see
`schedule.py`), and because it can be learned from jobs that are still pending as well as from completions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from runner.policy.polling.cells import CELLS, SHARES, edges_around
from runner.policy.polling.tally import Tally

PRIOR_EVENTS: Final = 0.05
"""Weight, in completions, of the prior hazard in every cell: 1/distance, which prefers no time scale."""
HALF_LIFE_COMPLETIONS: Final = 1_000.0
"""Number of completions after which older ones count half: services speed up and slow down."""
UNEVEN: Final = 3.0
"""Multiple of an equal share of completions in one cell at which all cells are redrawn."""
NEGLIGIBLE_SHARE: Final = 0.002
"""Share of completions that is ignored at the start of the axis: before them nothing completes."""
NO_HAZARD: Final = 1e-15
"""Hazard per second of such a start: small, but something to divide by."""
LATE: Final = 0.98
"""Share of completions before the position beyond which too little is learned."""
LEAST_PROBABILITY: Final = 1e-3
"""Least probability of a completion where none was expected: a single stray must not decide anything."""

Interval = tuple[float, float]
"""Positions between which a job completed."""


class Hazard:
    """Learns the hazard of positions on one axis; old data fade.

    Spreading each completion over its interval by the density known so far is one step of the
    self-consistency algorithm for interval-censored data (B. W. Turnbull, Journal of the Royal Statistical
    Society B 38, 1976), taken once, when the completion is new.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        self.tally = Tally(edges)
        """Counts that the next `learn` draws on; report pending jobs to it."""
        self.hazards: list[float] = []
        """Hazard in each cell of the tally, per second; empty before the first `learn`."""
        self.seen = 0.0
        """Number of completions, the older ones faded."""
        self.first = 0
        """Index of the first cell that is not free of completions."""
        self.mean = 0.0
        """Mean position of completions, with a guess for those beyond `known`."""
        self.known = edges[0]
        """Position up to which jobs were followed."""
        self.unseen = 1.0
        """Share of jobs still pending at `known`."""
        self.median = 0.0
        """Position that half of the completions came before."""
        self.late = 0.0
        """Position that the share `LATE` of completions came before."""
        self._reach_s = 0.0  # between the quartiles
        self._total = self._drawn_at = 0
        self._density: list[float] = []
        self._below: list[float] = []

    @property
    def earliest(self) -> float:
        """Position before which practically nothing completes."""
        return self.tally.edges[self.first]

    def probability(self, after: float, by: float) -> float:
        """Return the probability that a job completes between two positions, as learned last."""
        return max(self._share_below(by) - self._share_below(after), 0.0) + LEAST_PROBABILITY

    def learn(self, completions: Iterable[Interval]) -> None:
        """Estimate the hazard again with the completions since the last time, and let older ones fade."""
        tally, fresh = self.tally, 0
        for after, by in completions:
            tally.complete(after, by, self._density, self._reach_s)
            fresh += 1
        tally.settle()
        self.seen += fresh
        self._total += fresh
        self._estimate()
        if self._total >= 2 * self._drawn_at or tally.heaviest_share() > UNEVEN / CELLS:
            quantiles = [tally.quantile(share) for share in SHARES]
            tally.move_to(edges_around(quantiles, tally.edges[0], tally.edges[-1]))
            self._drawn_at = self._total
            self._estimate()
        keep = 0.5 ** (fresh / HALF_LIFE_COMPLETIONS)
        self.seen *= keep
        tally.fade(keep)

    def _estimate(self) -> None:
        tally = self.tally
        self.median = tally.quantile(0.5)
        self.late = tally.quantile(LATE)
        self._reach_s = max(tally.quantile(0.75) - tally.quantile(0.25), 1e-3)
        self.first = tally.cell(tally.quantile(NEGLIGIBLE_SHARE))
        self.hazards = self._hazards()
        self._integrate()

    def _hazards(self) -> list[float]:
        """Return events divided by exposure for each cell, with the prior added to both."""
        edges, events, exposed_s = self.tally.edges, self.tally.events, self.tally.exposed_s
        hazards = []
        at_risk = 0.0
        for k in range(len(exposed_s) - 1, -1, -1):
            width = edges[k + 1] - edges[k]
            # Jobs at risk at a position were at risk at all positions before it.
            at_risk = max(at_risk, exposed_s[k] / width)
            distance = self._reach_s + abs((edges[k] + edges[k + 1]) / 2 - self.median)
            hazards.append((events[k] + PRIOR_EVENTS) / (at_risk * width + PRIOR_EVENTS * distance))
            at_risk += events[k] / 2
        hazards.reverse()
        hazards[: self.first] = [NO_HAZARD] * self.first
        return hazards

    def _integrate(self) -> None:
        """Follow the share of jobs that are pending from cell to cell: mean, density, and what is known."""
        edges, exposed_s = self.tally.edges, self.tally.exposed_s
        self.known = self.mean = edges[self.first]
        left = pending = 1.0
        below, density = [0.0], []
        for k, hazard in enumerate(self.hazards):
            width = edges[k + 1] - edges[k]
            gone = left * -math.expm1(-hazard * width)
            if exposed_s[k] >= width and k >= self.first:
                self.known = edges[k + 1]
                self.mean += gone / hazard
                pending = left - gone
            left -= gone
            below.append(1 - left)
            density.append(gone / width + 1e-12)
        self.unseen = pending
        # The rest, of which nothing is known, may well take as long again.
        self.mean += pending * (self.known - edges[self.first])
        self._below, self._density = below, density

    def _share_below(self, position: float) -> float:
        """Return the share of jobs that complete before `position`."""
        edges = self.tally.edges
        if not self._below or position <= edges[0]:
            return 0.0
        if position >= edges[-1]:
            return 1.0
        k = self.tally.cell(position)
        return self._below[k] + self._density[k] * (position - edges[k])
