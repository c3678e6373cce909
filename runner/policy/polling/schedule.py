"""The optimum checking schedule for a hazard that is constant between edges. Pure functions of numbers."""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

STEPS_PER_GAP: Final = 5
"""Places at which a look may be put, per gap between looks as Keller's density has it."""
MOST_STEPS: Final = 24
"""But no more than this in one cell."""
FEWEST_LEFT: Final = 1e-4
"""The optimum is sought until so few jobs are left."""
SPREAD: Final = 0.15
"""How far a look is moved from its optimum, so that jobs accepted together are not looked at together.

As a share of Keller's gap there, which makes it cost a hundredth of a look.
"""


Line = tuple[float, float, int]


class Schedule(NamedTuple):
    """From each position, where the next look is due; between positions it is interpolated."""

    positions: list[float]
    nexts: list[float]
    spreads: list[float]
    looks: float
    """Expected looks per job, for one that is watched from the first position on."""
    lag_s: float
    """Expected lag per job."""
    exchange_s: float
    """The lag that one look is worth."""

    def next_poll(self, position: float, offset: float) -> float:
        """The position of the next look at a job that is pending at `position`; `offset` is in [-1, 1]."""
        k = bisect_right(self.positions, position) - 1
        if k < 0:
            return self.nexts[0] + offset * self.spreads[0]
        if k + 1 >= len(self.positions):
            return position + _gap_beyond_s(position - self.positions[0], self.exchange_s)
        start, stop = self.positions[k], self.positions[k + 1]
        share = (position - start) / (stop - start)
        look = self.nexts[k] + share * (self.nexts[k + 1] - self.nexts[k])
        spread = min(self.spreads[k], SPREAD * (look - position))
        return look + offset * spread


def optimum(
    edges: Sequence[float], hazards: Sequence[float], exchange_s: float, most_done: float = 1.0
) -> Schedule:
    """The schedule that makes the least of `exchange_s` · looks + lag (Barlow, Hunter and Proschan, 1963).

    Dynamic programming, backwards over places to look: from x the best next one is the y that minimises
    y·S(x) + S(y)·V(y) − G(y), with S the share of jobs still pending, G its integral and V the cost to go.
    That is the lower envelope of lines in S(x), whose minima move one way only, so one pass finds them all.
    Places are as dense as Keller's n(x) = √(h(x) / 2c) (Management Science 21(3), 1974) asks for.
    The first look comes before a greater share of jobs than `most_done` is done, whatever it costs.
    """
    positions, gaps, alive, integral = _places(edges, hazards, exchange_s)
    last = len(positions) - 1
    best = [last] * (last + 1)
    # The envelope: (slope, intercept, place) of y·s + a. Those before `head` are never least again.
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
    looks, lag_s = _expected(positions, alive, integral, best)
    nexts = [positions[j] for j in best]
    nexts[last] = positions[last] + min(gaps[last], _gap_beyond_s(positions[last] - positions[0], exchange_s))
    if most_done < 1:
        nexts[0] = min(nexts[0], positions[bisect_right(alive, most_done - 1.0, key=operator.neg)])
    spreads = [SPREAD * gaps[j] for j in best]
    return Schedule(positions, nexts, spreads, looks, lag_s, exchange_s)


def _gap_beyond_s(distance: float, exchange_s: float) -> float:
    """Past all that was learned: Keller's gap for the hazard that knows no scale, 1/distance."""
    return math.sqrt(2 * exchange_s * max(distance, 0.0) + 1e-4)


def _is_hidden(line: Line, before: Line, after: Line) -> bool:
    """Slopes fall from `before` through `line` to `after`: is `line` nowhere below both others?"""
    return (after[1] - before[1]) * (before[0] - line[0]) <= (line[1] - before[1]) * (before[0] - after[0])


def _places(
    edges: Sequence[float], hazards: Sequence[float], exchange_s: float
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Where a look may be put; Keller's gap there, the share of jobs pending there, and its integral."""
    positions, gaps, alive, integral = [edges[0]], [0.0], [1.0], [0.0]
    position, left, total = edges[0], 1.0, 0.0
    for k, hazard in enumerate(hazards):
        width = edges[k + 1] - edges[k]
        gap = math.sqrt(2 * exchange_s / hazard)
        steps = min(1 + int(STEPS_PER_GAP * width / gap), MOST_STEPS)
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
        if left < FEWEST_LEFT:
            break
    gaps[0] = gaps[1]
    return positions, gaps, alive, integral


def _expected(
    positions: list[float], alive: list[float], integral: list[float], best: list[int]
) -> tuple[float, float]:
    """Looks and lag per job, along the schedule from its first position."""
    looks = lag_s = 0.0
    i = 0
    while (j := best[i]) > i:
        looks += alive[i]
        lag_s += (positions[j] - positions[i]) * alive[i] - (integral[j] - integral[i])
        i = j
    return looks, lag_s
