"""The optimum checking schedule: when to poll, given how likely a job is to complete at each moment.

Pure functions of numbers. *Positions* are seconds from some origin, for example a job's acceptance. The
hazard is given for cells, and is constant within each.

Theory: R. E. Barlow, L. C. Hunter and F. Proschan, "Optimum Checking Procedures" (Journal of the Society
for Industrial and Applied Mathematics 11(4), 1963), and J. B. Keller, "Optimum Checking Schedules for
Systems Subject to Random Failure" (Management Science 21(3), 1974).
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

STEPS_PER_GAP: Final = 5
"""Positions considered for polls, per gap between polls as Keller's density has it."""
MAX_STEPS_PER_CELL: Final = 24
"""Most positions considered in one cell."""
LEAST_PENDING: Final = 1e-4
"""Share of jobs still pending below which the rest of the positions is not planned."""
SPREAD: Final = 0.15
"""How far a poll may be moved from its optimum, as a share of Keller's gap there.

Jobs that were accepted together are not polled together then; it costs a hundredth of a poll.
"""

_Line = tuple[float, float, int]
"""Slope, intercept, and index of the position that it stands for."""


class Schedule(NamedTuple):
    """From each position, where the next poll is due; between positions it is interpolated."""

    positions: list[float]
    """Positions at which a job was last seen unfinished, ascending."""
    nexts: list[float]
    """Position of the next poll, for each of `positions`."""
    spreads: list[float]
    """How far that poll may be moved to either side, in seconds, for each of `positions`."""
    polls: float
    """Expected polls per job, for one that is followed from the first position on."""
    lag_s: float
    """Expected lag per job."""
    exchange_s: float
    """Seconds of lag that one poll is worth."""

    def next_poll(self, position: float, offset: float) -> float:
        """Return the position of the next poll of a job that was last seen unfinished at `position`.

        `offset`, from -1 to 1, is how far to move the poll from its optimum, as a share of its spread.
        """
        k = bisect_right(self.positions, position) - 1
        if k < 0:
            return self.nexts[0] + offset * self.spreads[0]
        if k + 1 >= len(self.positions):
            return position + _gap_beyond_s(position - self.positions[0], self.exchange_s)
        start, stop = self.positions[k], self.positions[k + 1]
        share = (position - start) / (stop - start)
        due = self.nexts[k] + share * (self.nexts[k + 1] - self.nexts[k])
        spread = min(self.spreads[k], SPREAD * (due - position))
        return due + offset * spread


def optimum(
    edges: Sequence[float], hazards: Sequence[float], exchange_s: float, most_done: float = 1.0
) -> Schedule:
    """Return the schedule with the least `exchange_s` · polls + lag, for jobs with these hazards.

    `edges` are the ascending positions between which each of the `hazards` (per second, above 0) holds. The
    first poll comes before a larger share of jobs than `most_done` has completed, whatever it costs.

    It is dynamic programming, backwards over a grid of positions. Let S(x) be the share of jobs pending at
    x, G(x) the integral of S up to x, c the exchange rate and V(x) the least cost from x on of all jobs that
    are pending there. If their next poll is at y, each of them pays c for it, and those that complete at u
    before y wait y - u for it, which comes to (y - x)·S(x) - G(y) + G(x) in total. Hence

        V(x) = (c - x)·S(x) + G(x) + min over y > x of [ y·S(x) + V(y) - G(y) ].

    For each y the bracket is a line in S(x), with slope y, and the minimum over y is the lower envelope of
    these lines. Going backwards S(x) only grows and the slopes of new lines only fall, so the envelope is
    kept in a queue, and the whole takes time linear in the grid ("convex hull trick").

    The grid follows Keller's density of polls, √(h(x) / 2c) per second for a hazard of h(x). That is the
    optimum itself where polls are close together, but has no answer where many jobs complete between two.
    """
    positions, gaps, alive, integral = _grid(edges, hazards, exchange_s)
    last = len(positions) - 1
    best = [last] * (last + 1)
    # The envelope. Lines before `head` are never the least again.
    head, end = 0, exchange_s + gaps[last]
    lines = [(positions[last], alive[last] * end - integral[last], last)]
    for i in range(last - 1, -1, -1):
        s = alive[i]
        least = lines[head][0] * s + lines[head][1]
        while head + 1 < len(lines) and (value := lines[head + 1][0] * s + lines[head + 1][1]) <= least:
            head, least = head + 1, value
        best[i] = lines[head][2]
        line = (positions[i], (exchange_s - positions[i]) * s + least, i)
        while len(lines) - head > 1 and _is_hidden(lines[-1], lines[-2], line):
            lines.pop()
        lines.append(line)
    polls, lag_s = _expected(positions, alive, integral, best)
    nexts = [positions[j] for j in best]
    nexts[last] = positions[last] + min(gaps[last], _gap_beyond_s(positions[last] - positions[0], exchange_s))
    if most_done < 1:
        nexts[0] = min(nexts[0], positions[bisect_right(alive, most_done - 1.0, key=operator.neg)])
    spreads = [SPREAD * gaps[j] for j in best]
    return Schedule(positions, nexts, spreads, polls, lag_s, exchange_s)


def _gap_beyond_s(distance: float, exchange_s: float) -> float:
    """Return Keller's gap beyond all that was learned, where the hazard is assumed to be 1/distance.

    That assumption prefers no time scale to any other.
    """
    return math.sqrt(2 * exchange_s * max(distance, 0.0) + 1e-4)


def _is_hidden(line: _Line, before: _Line, after: _Line) -> bool:
    """Return whether `line` is nowhere below both others; slopes fall from `before` to `after`."""
    return (after[1] - before[1]) * (before[0] - line[0]) <= (line[1] - before[1]) * (before[0] - after[0])


def _grid(
    edges: Sequence[float], hazards: Sequence[float], exchange_s: float
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return positions at which to consider polls, and for each Keller's gap, S and G (see `optimum`)."""
    positions, gaps, alive, integral = [edges[0]], [0.0], [1.0], [0.0]
    position, left, total = edges[0], 1.0, 0.0
    for k, hazard in enumerate(hazards):
        width = edges[k + 1] - edges[k]
        gap = math.sqrt(2 * exchange_s / hazard)
        steps = min(1 + int(STEPS_PER_GAP * width / gap), MAX_STEPS_PER_CELL)
        step = width / steps
        survival = math.exp(-hazard * step)
        for n in range(1, steps + 1):
            total += left * (1 - survival) / hazard
            left *= survival
            position = edges[k] + n * step
            positions.append(position)
            gaps.append(gap)
            alive.append(left)
            integral.append(total)
        if left < LEAST_PENDING:
            break
    gaps[0] = gaps[1]
    return positions, gaps, alive, integral


def _expected(
    positions: list[float], alive: list[float], integral: list[float], best: list[int]
) -> tuple[float, float]:
    """Return the expected polls and the expected lag per job, along the schedule from its first position."""
    polls = lag_s = 0.0
    i = 0
    while (j := best[i]) > i:
        polls += alive[i]
        lag_s += (positions[j] - positions[i]) * alive[i] - (integral[j] - integral[i])
        i = j
    return polls, lag_s
