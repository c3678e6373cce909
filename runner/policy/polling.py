"""When to look at a job next. Ages are seconds since the job was accepted; no clock in here."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Final, Protocol

from runner.config.sections import Poll

FIRST_EDGE_S: Final = 0.01
BIN_RATIO: Final = 1.12
LAST_EDGE_S: Final = 40 * 86_400.0
_EDGES: Final = [0.0] + [
    FIRST_EDGE_S * BIN_RATIO**k
    for k in range(1 + math.ceil(math.log(LAST_EDGE_S / FIRST_EDGE_S) / math.log(BIN_RATIO)))
]
_BINS: Final = len(_EDGES) - 1
_WIDTHS: Final = [_EDGES[k + 1] - _EDGES[k] for k in range(_BINS)]
_MIDDLES: Final = [(_EDGES[k + 1] + _EDGES[k]) / 2 for k in range(_BINS)]

ENOUGH_COMPLETIONS: Final = 30
"""Completions of a kind before its learned schedule is used."""
PRIOR_EVENTS: Final = 0.05
"""Weight, in completions, of the assumption that says nothing: hazard 1/age in every bin."""
LAG_SHARE: Final = 0.05
"""Mean detection lag to aim at, as a share of the mean completion time."""
HALF_LIFE_COMPLETIONS: Final = 2_000.0
"""What was seen this many completions ago counts half: services speed up and slow down."""
SHORTEST_GAP_S: Final = 0.01


class Polling(Protocol):
    """A strategy. `kind` names jobs that are expected to take alike."""

    def next_look(self, kind: str, age_s: float, looks: int) -> float:
        """The age at which to look at a job that was pending at `age_s`, after `looks` looks."""

    def saw_pending(self, kind: str, before_s: float, age_s: float) -> None:
        """A job that was pending at age `before_s` still is at `age_s`."""

    def saw_done(self, kind: str, after_s: float, by_s: float) -> None:
        """A job finished at an age in (after_s, by_s]."""


class Fixed:
    """Every `interval_s`."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s

    def next_look(self, kind: str, age_s: float, looks: int) -> float:
        return age_s + self._interval_s

    def saw_pending(self, kind: str, before_s: float, age_s: float) -> None:
        """Nothing is learned."""

    def saw_done(self, kind: str, after_s: float, by_s: float) -> None:
        """Nothing is learned."""


class Exponential(Fixed):
    """First `interval_s`, then each interval `factor` times the last, up to `max_interval_s`."""

    def __init__(self, interval_s: float, factor: float, max_interval_s: float) -> None:
        super().__init__(interval_s)
        self._factor = factor
        self._max_interval_s = max(max_interval_s, interval_s)

    def next_look(self, kind: str, age_s: float, looks: int) -> float:
        growth = min(looks * math.log(self._factor), 60.0)
        return age_s + min(self._interval_s * math.exp(growth), self._max_interval_s)


class Adaptive:
    """Learns per kind when completions come, and looks where they come.

    Looks are placed at density n(t) = √(h(t) / 2c), the optimum checking schedule for a hazard h and an
    exchange rate c between a poll and a second of lag (Keller, "Optimum Checking Schedules for Systems
    Subject to Random Failure", Management Science 21(3), 1974; after Barlow, Hunter and Proschan, 1963).
    The mean lag of such a schedule is √c · E[1/√(2h)], so the c that meets a wanted lag needs no search.
    Until `ENOUGH_COMPLETIONS` of a kind are seen it backs off exponentially.
    """

    def __init__(self, fallback: Exponential, lag_share: float = LAG_SHARE) -> None:
        self._fallback = fallback
        self._lag_share = lag_share
        self._kinds: dict[str, _Hazard] = {}

    def next_look(self, kind: str, age_s: float, looks: int) -> float:
        hazard = self._kinds.get(kind)
        if hazard is None or not hazard.densities:
            return self._fallback.next_look(kind, age_s, looks)
        look_s = hazard.next_look(age_s)
        if look_s > hazard.known_s:
            # No job has been watched to there yet: early completions say nothing of late ones.
            look_s = min(look_s, max(self._fallback.next_look(kind, age_s, looks), hazard.known_s))
        return max(look_s, age_s + SHORTEST_GAP_S)

    def saw_pending(self, kind: str, before_s: float, age_s: float) -> None:
        self._of(kind).expose(before_s, age_s)

    def saw_done(self, kind: str, after_s: float, by_s: float) -> None:
        hazard = self._of(kind)
        hazard.complete(after_s, by_s)
        if hazard.fresh >= max(ENOUGH_COMPLETIONS, 0.05 * hazard.seen):
            hazard.learn(self._lag_share)

    def _of(self, kind: str) -> _Hazard:
        return self._kinds.get(kind) or self._kinds.setdefault(kind, _Hazard())


class _Hazard:
    """The hazard of completion by age, piecewise constant: events over time at risk, bin by bin.

    Completions are known only to lie between two looks; each is spread evenly over the bins between.
    """

    def __init__(self) -> None:
        self.fresh = 0
        self.seen = 0.0
        self.densities: list[float] = []
        self.known_s = 0.0
        """The age up to which jobs were watched."""
        self._events = [0.0] * _BINS
        self._exposed_s = [0.0] * _BINS
        self._passed = [0.0] * (_BINS + 1)  # differences: bins that a job went through from end to end

    def expose(self, start_s: float, stop_s: float) -> None:
        """A job was at risk from one age to another."""
        if stop_s <= start_s:
            return
        i, j = _bin(start_s), _bin(stop_s)
        if i == j:
            self._exposed_s[i] += stop_s - start_s
            return
        self._exposed_s[i] += _EDGES[i + 1] - start_s
        self._exposed_s[j] += stop_s - _EDGES[j]
        self._passed[i + 1] += 1
        self._passed[j] -= 1

    def complete(self, after_s: float, by_s: float) -> None:
        by_s = max(by_s, after_s + 1e-9)
        self.expose(after_s, (after_s + by_s) / 2)
        i, j = _bin(after_s), _bin(by_s)
        if i == j:
            self._events[i] += 1
        else:
            for k in range(i, j + 1):
                overlap_s = min(by_s, _EDGES[k + 1]) - max(after_s, _EDGES[k])
                self._events[k] += overlap_s / (by_s - after_s)
        self.fresh += 1
        self.seen += 1

    def learn(self, lag_share: float) -> None:
        """Make the schedule anew from all that was seen, then let it fade a little."""
        hazards = []
        passed = self.known_s = 0.0
        for k in range(_BINS):
            passed += self._passed[k]
            exposed_s = self._exposed_s[k] + passed * _WIDTHS[k]
            if exposed_s >= _WIDTHS[k]:
                self.known_s = _EDGES[k + 1]
            hazards.append((self._events[k] + PRIOR_EVENTS) / (exposed_s + PRIOR_EVENTS * _MIDDLES[k]))
        alive, mean_s, root_of_lag = 1.0, 0.0, 0.0
        for hazard, width_s in zip(hazards, _WIDTHS, strict=True):
            left = alive * math.exp(-hazard * width_s)
            mean_s += (alive - left) / hazard
            root_of_lag += (alive - left) / math.sqrt(2 * hazard)
            alive = left
        root_of_c = lag_share * mean_s / root_of_lag
        self.densities = [math.sqrt(hazard / 2) / root_of_c for hazard in hazards]
        self._fade(0.5 ** (self.fresh / HALF_LIFE_COMPLETIONS))
        self.fresh = 0

    def next_look(self, age_s: float) -> float:
        """The age by which the density, summed from `age_s`, has made up one look; infinite past all bins."""
        k = _bin(age_s) if age_s < LAST_EDGE_S else _BINS
        left = 1.0
        while k < _BINS:
            density = self.densities[k]
            room_s = _EDGES[k + 1] - age_s
            if density * room_s >= left:
                return age_s + left / density
            left -= density * room_s
            age_s = _EDGES[k + 1]
            k += 1
        return math.inf

    def _fade(self, keep: float) -> None:
        self.seen *= keep
        for values in (self._events, self._exposed_s, self._passed):
            values[:] = [value * keep for value in values]


def _bin(age_s: float) -> int:
    return min(bisect_right(_EDGES, max(age_s, 0.0)) - 1, _BINS - 1)


def polling(section: Poll) -> Polling:
    """The strategy that the config names."""
    backoff = Exponential(section.interval_s, section.factor, section.max_interval_s)
    match section.strategy:
        case "fixed":
            return Fixed(section.interval_s)
        case "exponential":
            return backoff
        case "adaptive":
            return Adaptive(backoff)
