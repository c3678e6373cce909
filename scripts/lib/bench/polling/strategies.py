"""What all measurements of polling share: the strategies with their defaults, goals, and a search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.policy.polling import Adaptive, Exponential
from scripts.lib.bench.polling.virtual_time import Watch

DEFAULT_TARGET = 0.05
"""Default of `poll.lag_target`."""


@dataclass(frozen=True)
class PollingGoal:
    """A measured value and the most that it should be. The field names are those of the JSON file."""

    what: str
    of: str
    """Name of the distribution, course or strategy that was measured."""
    value: float
    goal: float
    optimum: float | None
    """Value that the offline optimum reaches; None if it was not computed."""
    passed: bool


@dataclass
class PollingGoals:
    """The goals of all measurements, in the order in which they were measured."""

    rows: list[PollingGoal] = field(default_factory=list)

    def add(self, what: str, of: str, value: float, most: float, optimum: float | None = None) -> None:
        """Add a measured value that should be at most `most`."""
        self.rows.append(PollingGoal(what, of, value, most, optimum, passed=value <= most))


def backing_off() -> Exponential:
    """Return the exponential strategy with its defaults."""
    return Exponential(1.0, 1.5, 30.0)


def adaptive(lag_target: float = DEFAULT_TARGET) -> Adaptive:
    """Return the adaptive strategy with its defaults."""
    return Adaptive(backing_off(), lag_target)


def search(run: Callable[[float], Watch], off: Callable[[Watch], float], sign: int, tries: int = 6) -> Watch:
    """Return the run at the `lag_target` for which `off`, a logarithm, is nearest to zero.

    Searches by secants. The slope of `off` over the logarithm of `lag_target` has the given sign.
    """
    x, before = math.log(DEFAULT_TARGET), None
    best = run(DEFAULT_TARGET)
    y = nearest = off(best)
    for _ in range(tries):
        if abs(y) < 0.004:
            break
        slope = sign if before is None or before[1] == y else (y - before[1]) / (x - before[0])
        step = -y / slope if slope * sign > 0.2 else -y * sign
        before = (x, y)
        x = min(max(x + min(max(step, -2.0), 2.0), math.log(1e-4)), 0.0)
        seen = run(math.exp(x))
        y = off(seen)
        if abs(y) < abs(nearest):
            best, nearest = seen, y
    return best
