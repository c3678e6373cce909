"""What each strategy spends on latencies that do not change, of jobs that do not wait for each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scripts.lib.bench.polling.optimum import LATENCIES, Latency, evenly_spaced, optimum, spent
from scripts.lib.bench.polling.strategies import DEFAULT_TARGET, PollingGoals, adaptive, search
from scripts.lib.bench.polling.virtual_time import Jobs, Watch, spaced, watch

SPACING_S = 1.0
"""Seconds between two acceptances."""
POLLS = 6
"""Polls per job at which lags are compared."""
EQUAL_LAG = {
    "lognormal 0.5": 0.6,
    "bimodal": 0.45,
    "uniform": 0.45,
    "uniform, wide": 0.45,
    "exponential": 0.8,
}
"""Most polls at the mean lag of the exponential strategy, as a share of its polls."""
EQUAL_POLLS = {"lognormal 0.5": 0.85, "bimodal": 0.6, "exponential": 1.1}
"""Most lag at `POLLS` polls per job, as a share of the lag of the best fixed interval."""
DRAWN = "lognormal 0.5"
"""Distribution for which strategies are measured at several settings, for a plot."""
INTERVALS_S = (10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0)
TARGETS = (0.015, 0.025, 0.05, 0.1, 0.15, 0.2)


def _exponential_ages() -> list[float]:
    """Return the ages in seconds at which the exponential strategy polls by default."""
    ages = [1.0]
    while ages[-1] < 1e5:
        ages.append(ages[-1] + min(1.5 ** min(len(ages), 10), 30.0))
    return ages


EXPONENTIAL_AGES = _exponential_ages()


@dataclass(frozen=True)
class Spent:
    """What a strategy spends on a distribution. The field names are those of the JSON file."""

    policy: str
    distribution: str
    polls_per_job: float
    mean_lag_s: float
    setting: str = ""
    cost: float | None = None
    """Cost divided by that of the optimum; None if it was not computed."""


def stationary(count: int, seed: int, goals: PollingGoals) -> list[Spent]:
    """Return what each strategy spends on each distribution, and add the goals about that."""
    rows, later = [], count // 2
    for name, latency in LATENCIES.items():
        draws = latency.draws(count, seed)
        jobs, judged = spaced(draws, SPACING_S), draws[later:]
        seen = watch(adaptive(), jobs)
        exchange_s = seen.mean_exchange_s(later)
        best = spent(optimum(latency, exchange_s), judged)
        least = exchange_s * best[0] + best[1]
        plain = spent(EXPONENTIAL_AGES, judged)
        for policy, setting, (polls, lag_s) in [
            ("fixed", "1 s", evenly_spaced(1.0, judged)),
            ("exponential", "1 s × 1.5, 30 s", plain),
            ("adaptive", f"lag_target {DEFAULT_TARGET}", (seen.mean_polls(later), seen.mean_lag_s(later))),
            ("optimum", f"{exchange_s:.3g} s a poll", best),
        ]:
            cost = (exchange_s * polls + lag_s) / least
            rows.append(Spent(policy, name, polls, lag_s, setting, cost))
        after_1000 = cost_after_1000(seen, latency, draws)
        goals.add("cost ÷ optimum after 1,000 completions", name, after_1000, 1.15)
        add_equal_goals(name, jobs, judged, plain, goals)
    return rows


def add_equal_goals(
    name: str, jobs: Jobs, judged: list[float], plain: tuple[float, float], goals: PollingGoals
) -> None:
    """Add goals for the polls at equal lag and for the lag at equal polls.

    `judged` are the latencies of the later jobs, `plain` the polls and the lag of the exponential strategy.
    """
    latency, later = LATENCIES[name], len(jobs) - len(judged)

    def run(target: float) -> Watch:
        return watch(adaptive(target), jobs)

    if name in EQUAL_LAG:
        same = search(run, lambda seen: math.log(seen.mean_lag_s(later) / plain[1]), 1)
        ratio = same.mean_polls(later) / plain[0]
        least = optimum_polls(latency, judged, plain[1]) / plain[0]
        goals.add("polls ÷ exponential at its lag", name, ratio, EQUAL_LAG[name], least)
    if name in EQUAL_POLLS:
        same = search(run, lambda seen: math.log(seen.mean_polls(later) / POLLS), -1)
        ratio = same.mean_lag_s(later) / best_fixed_lag_s(judged, POLLS)
        goals.add(f"lag ÷ best fixed at {POLLS} polls", name, ratio, EQUAL_POLLS[name])


def spent_at_settings(count: int, seed: int) -> list[Spent]:
    """Return what strategies spend at several settings on one distribution: a curve of polls and lag each."""
    draws, later = LATENCIES[DRAWN].draws(count, seed), count // 2
    rows = [
        Spent("fixed", DRAWN, *evenly_spaced(interval_s, draws[later:]), setting=f"{interval_s:g} s")
        for interval_s in INTERVALS_S
    ]
    for target in TARGETS:
        seen = watch(adaptive(target), spaced(draws, SPACING_S))
        polls, lag_s = seen.mean_polls(later), seen.mean_lag_s(later)
        rows.append(Spent("adaptive", DRAWN, polls, lag_s, setting=f"lag_target {target:g}"))
        exchange_s = seen.mean_exchange_s(later)
        best = spent(optimum(LATENCIES[DRAWN], exchange_s), draws[later:])
        rows.append(Spent("optimum", DRAWN, *best, setting=f"{exchange_s:.3g} s a poll"))
    return rows


def cost_after_1000(seen: Watch, latency: Latency, draws: list[float]) -> float:
    """Return the cost ÷ that of the optimum, over the jobs accepted once 1,000 have completed."""
    since = sorted(n * SPACING_S + draw for n, draw in enumerate(draws))[1000] / SPACING_S
    first = min(int(since) + 1, len(draws) - 200)
    exchange_s = seen.mean_exchange_s(first)
    polls, lag_s = spent(optimum(latency, exchange_s), draws[first:])
    return seen.cost_s(exchange_s, first) / (exchange_s * polls + lag_s)


def optimum_polls(latency: Latency, draws: list[float], lag_s: float) -> float:
    """Return the polls per job that the offline optimum spends for a mean lag in seconds."""
    low, high = 1e-3, 100.0
    for _ in range(14):
        middle = math.sqrt(low * high)
        polls, lag = spent(optimum(latency, middle), draws)
        low, high = (low, middle) if lag > lag_s else (middle, high)
    return polls * lag / lag_s  # polls are proportional to 1 / lag, to second order


def best_fixed_lag_s(draws: list[float], polls: float) -> float:
    """Return the mean lag in seconds of the fixed interval that spends `polls` polls per job."""
    low, high = 1e-3, max(draws)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if evenly_spaced(middle, draws)[0] > polls else (low, middle)
    return evenly_spaced(high, draws)[1]
