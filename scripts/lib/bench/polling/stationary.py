"""Latencies that do not change, of jobs that do not wait for each other: what each strategy spends."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scripts.lib.bench.polling.optimum import LATENCIES, Latency, evenly_spaced, optimum, spent
from scripts.lib.bench.polling.strategies import DEFAULT_TARGET, Goals, adaptive, search
from scripts.lib.bench.polling.virtual_time import Jobs, Watch, spaced, watch

SPACING_S = 1.0
LOOKS = 6
EQUAL_LAG = {
    "lognormal 0.5": 0.6,
    "bimodal": 0.45,
    "uniform": 0.45,
    "uniform, wide": 0.45,
    "exponential": 0.8,
}
"""Looks at the mean lag of exponential, as a share of its looks, at most."""
EQUAL_LOOKS = {"lognormal 0.5": 0.85, "bimodal": 0.6, "exponential": 1.1}
"""Lag at `LOOKS` looks per job, as a share of that of the best fixed interval, at most."""
EXPONENTIAL_AGES = [1.0]
while EXPONENTIAL_AGES[-1] < 1e5:
    EXPONENTIAL_AGES.append(EXPONENTIAL_AGES[-1] + min(1.5 ** min(len(EXPONENTIAL_AGES), 10), 30.0))
DRAWN = "lognormal 0.5"
"""The distribution for which strategies are measured at several settings, for a plot."""
INTERVALS_S = (10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0)
TARGETS = (0.015, 0.025, 0.05, 0.1, 0.15, 0.2)


@dataclass(frozen=True)
class Spent:
    """What a strategy spends on a distribution."""

    policy: str
    distribution: str
    polls_per_job: float
    mean_lag_s: float
    setting: str = ""
    cost: float | None = None
    """Divided by the optimum's."""


def stationary(count: int, seed: int, goals: Goals) -> list[Spent]:
    """Each distribution: what each strategy spends, and the goals that are about it."""
    rows, later = [], count // 2
    for name, latency in LATENCIES.items():
        draws = latency.draws(count, seed)
        jobs, judged = spaced(draws, SPACING_S), draws[later:]
        seen = watch(adaptive(), jobs)
        exchange_s = seen.mean_exchange_s(later)
        best = spent(optimum(latency, exchange_s), judged)
        least = exchange_s * best[0] + best[1]
        plain = spent(EXPONENTIAL_AGES, judged)
        for policy, setting, (looks, lag_s) in [
            ("fixed", "1 s", evenly_spaced(1.0, judged)),
            ("exponential", "1 s × 1.5, 30 s", plain),
            ("adaptive", f"lag_target {DEFAULT_TARGET}", (seen.mean_looks(later), seen.mean_lag_s(later))),
            ("optimum", f"{exchange_s:.3g} s a look", best),
        ]:
            cost = (exchange_s * looks + lag_s) / least
            rows.append(Spent(policy, name, looks, lag_s, setting, cost))
        after_1000 = watch_after_1000(seen, latency, draws)
        goals.add("cost ÷ optimum after 1,000 completions", name, after_1000, 1.15)
        equals(name, jobs, judged, plain, goals)
    return rows


def equals(name: str, jobs: Jobs, judged: list[float], plain: tuple[float, float], goals: Goals) -> None:
    """Looks at the lag that exponential has, and lag at as many looks as the best fixed interval."""
    latency, later = LATENCIES[name], len(jobs) - len(judged)

    def run(target: float) -> Watch:
        return watch(adaptive(target), jobs)

    if name in EQUAL_LAG:
        same = search(run, lambda seen: math.log(seen.mean_lag_s(later) / plain[1]), 1)
        ratio = same.mean_looks(later) / plain[0]
        floor = optimum_looks(latency, judged, plain[1]) / plain[0]
        goals.add("looks ÷ exponential at its lag", name, ratio, EQUAL_LAG[name], floor)
    if name in EQUAL_LOOKS:
        same = search(run, lambda seen: math.log(seen.mean_looks(later) / LOOKS), -1)
        ratio = same.mean_lag_s(later) / best_fixed_lag_s(judged, LOOKS)
        goals.add(f"lag ÷ best fixed at {LOOKS} looks", name, ratio, EQUAL_LOOKS[name])


def settings(count: int, seed: int) -> list[Spent]:
    """Strategies at several settings, for one distribution: each is a curve of looks and lag."""
    draws, later = LATENCIES[DRAWN].draws(count, seed), count // 2
    rows = [
        Spent("fixed", DRAWN, *evenly_spaced(interval_s, draws[later:]), setting=f"{interval_s:g} s")
        for interval_s in INTERVALS_S
    ]
    for target in TARGETS:
        seen = watch(adaptive(target), spaced(draws, SPACING_S))
        looks, lag_s = seen.mean_looks(later), seen.mean_lag_s(later)
        rows.append(Spent("adaptive", DRAWN, looks, lag_s, setting=f"lag_target {target:g}"))
        exchange_s = seen.mean_exchange_s(later)
        best = spent(optimum(LATENCIES[DRAWN], exchange_s), draws[later:])
        rows.append(Spent("optimum", DRAWN, *best, setting=f"{exchange_s:.3g} s a look"))
    return rows


def watch_after_1000(seen: Watch, latency: Latency, draws: list[float]) -> float:
    """Cost ÷ that of the optimum, over the jobs that are accepted once 1,000 are done."""
    since = sorted(n * SPACING_S + draw for n, draw in enumerate(draws))[1000] / SPACING_S
    first = min(int(since) + 1, len(draws) - 200)
    exchange_s = seen.mean_exchange_s(first)
    looks, lag_s = spent(optimum(latency, exchange_s), draws[first:])
    return seen.cost_s(exchange_s, first) / (exchange_s * looks + lag_s)


def optimum_looks(latency: Latency, draws: list[float], lag_s: float) -> float:
    """What the offline optimum spends for a mean lag."""
    low, high = 1e-3, 100.0
    for _ in range(14):
        middle = math.sqrt(low * high)
        looks, lag = spent(optimum(latency, middle), draws)
        low, high = (low, middle) if lag > lag_s else (middle, high)
    return looks * lag / lag_s  # looks go with 1 / lag, to second order


def best_fixed_lag_s(draws: list[float], looks: float) -> float:
    """The lag of the fixed interval that spends so many looks."""
    low, high = 1e-3, max(draws)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if evenly_spaced(middle, draws)[0] > looks else (low, middle)
    return evenly_spaced(high, draws)[1]
