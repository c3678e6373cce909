"""What `poll.max_rate` costs where it is below what adaptive polling wants."""

from __future__ import annotations

import math

from scripts.lib.bench.polling.optimum import LATENCIES
from scripts.lib.bench.polling.strategies import Goals, adaptive, backing_off, search
from scripts.lib.bench.polling.virtual_time import Watch, spaced, watch

PER_S = 8
"""Jobs accepted: thousands are in flight."""
SHARES = (1 / 2, 1 / 4)
FEWEST_LOOKS = 1.9
"""Rates that allow fewer per job are left out: each job needs one, and one that is unlucky a second."""
DISTRIBUTIONS = ("lognormal 0.5", "bimodal", "uniform", "exponential")
NO_DEARER = 1.1


def capped(count: int, seed: int, goals: Goals) -> list[list[str]]:
    """Lag at a share of the rate wanted, divided by the lag at the `lag_target` that wants just that rate.

    Of jobs in the middle: others are accepted before and after them all the time.
    """
    rows = []
    for name in DISTRIBUTIONS:
        jobs = spaced(LATENCIES[name].draws(count, seed), 1 / PER_S)
        free = watch(adaptive(), jobs)
        for share in SHARES:
            looks = share * middle(free.looks)
            if looks < FEWEST_LOOKS and share == SHARES[-1]:
                continue
            looks = max(looks, FEWEST_LOOKS)

            def off(seen: Watch, looks: float = looks) -> float:
                return math.log(middle(seen.looks) / looks)

            rate = PER_S * looks
            planned = search(lambda target, jobs=jobs: watch(adaptive(target), jobs), off, -1, 4)
            late = watch(adaptive(), jobs, rate=rate)
            plain = watch(backing_off(), jobs, rate=rate)
            ratio = middle(late.lag_s) / middle(planned.lag_s)
            figures = (f"{middle(x):.2f}" for w in (planned, late, plain) for x in (w.looks, w.lag_s))
            rows.append([name, f"{rate:.0f}", *figures, f"{ratio:.2f}"])
            goals.add("lag ÷ that of a fitting lag_target", f"{name}, {rate:.0f} GETs/s", ratio, NO_DEARER)
    return rows


def middle(values: list[int] | list[float]) -> float:
    part = values[len(values) // 2 : 5 * len(values) // 6]
    return sum(part) / len(part)
