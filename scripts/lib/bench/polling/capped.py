"""What `poll.max_rate` costs if it is below the rate at which adaptive polling wants to poll."""

from __future__ import annotations

import math

from scripts.lib.bench.polling.optimum import LATENCIES
from scripts.lib.bench.polling.strategies import PollingGoals, adaptive, backing_off, search
from scripts.lib.bench.polling.virtual_time import Jobs, Watch, spaced, watch

JOBS_PER_S = 8
"""Jobs accepted per second: thousands are in flight."""
SHARES = (1 / 2, 1 / 4)
"""Shares of the wanted rate that are allowed."""
LEAST_POLLS = 1.9
"""Polls per job below which a rate is left out: each job needs one poll, and many need a second."""
DISTRIBUTIONS = ("lognormal 0.5", "bimodal", "uniform", "exponential")
MOST_RATIO = 1.1


def capped(count: int, seed: int, goals: PollingGoals) -> list[list[str]]:
    """Return a table of the lag at a capped rate, and at the `lag_target` that wants just this rate.

    The figures are of jobs in the middle, which see other jobs accepted before and after them.
    """
    rows = []
    for name in DISTRIBUTIONS:
        jobs = spaced(LATENCIES[name].draws(count, seed), 1 / JOBS_PER_S)
        wanted = middle(watch(adaptive(), jobs).polls)
        for share in SHARES:
            polls = share * wanted
            if polls < LEAST_POLLS and share == SHARES[-1]:
                continue
            polls = max(polls, LEAST_POLLS)
            rate = JOBS_PER_S * polls
            planned = watch_at_polls(jobs, polls)
            late = watch(adaptive(), jobs, rate=rate)
            plain = watch(backing_off(), jobs, rate=rate)
            ratio = middle(late.lag_s) / middle(planned.lag_s)
            figures = (f"{middle(x):.2f}" for w in (planned, late, plain) for x in (w.polls, w.lag_s))
            rows.append([name, f"{rate:.0f}", *figures, f"{ratio:.2f}"])
            goals.add("lag ÷ that of a fitting lag_target", f"{name}, {rate:.0f} GETs/s", ratio, MOST_RATIO)
    return rows


def watch_at_polls(jobs: Jobs, polls: float) -> Watch:
    """Follow jobs at the `lag_target` for which a job takes `polls` polls."""

    def run(target: float) -> Watch:
        return watch(adaptive(target), jobs)

    def off(seen: Watch) -> float:
        return math.log(middle(seen.polls) / polls)

    return search(run, off, -1, 4)


def middle(values: list[int] | list[float]) -> float:
    """Return the mean over jobs that are followed while the run is in full swing."""
    part = values[len(values) // 2 : 5 * len(values) // 6]
    return sum(part) / len(part)
