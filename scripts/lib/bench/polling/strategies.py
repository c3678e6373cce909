"""What all measurements of polling share: the strategies as they are by default, goals, and a search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runner.policy.polling import Adaptive, Exponential
from scripts.lib.bench.polling.virtual_time import Watch

DEFAULT_TARGET = 0.05


@dataclass
class Goals:
    """Rows of the second table."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, what: str, of: str, value: float, most: float, optimum: float | None = None) -> None:
        """A measured value that is to be at most `most`; `optimum` is what the offline optimum reaches."""
        row = {"what": what, "of": of, "value": value, "goal": most, "optimum": optimum}
        self.rows.append({**row, "passed": value <= most})


def backing_off() -> Exponential:
    return Exponential(1.0, 1.5, 30.0)


def adaptive(lag_target: float = DEFAULT_TARGET) -> Adaptive:
    return Adaptive(backing_off(), lag_target)


def search(run: Callable[[float], Watch], off: Callable[[Watch], float], sign: int, tries: int = 6) -> Watch:
    """The run at the `lag_target` for which `off`, a logarithm, is nearest to zero: secants.

    The slope of `off` has this sign.
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
