"""Latency distributions with their exact shape, and the best schedule if the distribution is known."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

GRID_AGES = 1500
"""Approximate number of ages at which `optimum` considers a poll."""


@dataclass(frozen=True)
class Latency:
    """A distribution of latencies in seconds."""

    draw: Callable[[random.Random], float]
    """Returns one random latency."""
    below: Callable[[float], float]
    """Returns the share of jobs that are done at an age in seconds."""

    def draws(self, count: int, seed: int) -> list[float]:
        """Return `count` random latencies, always the same for a seed."""
        chance = random.Random(seed)
        return [self.draw(chance) for _ in range(count)]

    def quantile(self, share: float) -> float:
        """Return the age in seconds at which a share of the jobs is done."""
        low, high = 0.0, 1.0
        while self.below(high) < share:
            high *= 2
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.below(middle) < share else (low, middle)
        return high


def lognormal(mean_s: float, sigma: float) -> Latency:
    """Return a lognormal distribution."""
    middle = math.log(mean_s) - sigma * sigma / 2
    normal = NormalDist(middle, sigma)
    return Latency(
        lambda chance: chance.lognormvariate(middle, sigma),
        lambda age_s: normal.cdf(math.log(age_s)) if age_s > 0 else 0.0,
    )


def mix(share: float, one: Latency, other: Latency) -> Latency:
    """Return a distribution that draws a share from one distribution and the rest from another."""
    return Latency(
        lambda chance: (one if chance.random() < share else other).draw(chance),
        lambda age_s: share * one.below(age_s) + (1 - share) * other.below(age_s),
    )


def uniform(low_s: float, high_s: float) -> Latency:
    """Return a uniform distribution."""
    return Latency(
        lambda chance: chance.uniform(low_s, high_s),
        lambda age_s: min(max((age_s - low_s) / (high_s - low_s), 0.0), 1.0),
    )


def exponential(mean_s: float) -> Latency:
    """Return an exponential distribution."""
    return Latency(lambda chance: chance.expovariate(1 / mean_s), lambda age_s: -math.expm1(-age_s / mean_s))


def pareto(least_s: float, alpha: float) -> Latency:
    """Return a Pareto distribution."""
    return Latency(
        lambda chance: least_s * chance.paretovariate(alpha),
        lambda age_s: 1 - (least_s / max(age_s, least_s)) ** alpha,
    )


LATENCIES = {
    "lognormal 0.3": lognormal(339, 0.3),
    "lognormal 0.5": lognormal(339, 0.5),
    "lognormal 1": lognormal(339, 1.0),
    "bimodal": mix(0.8, lognormal(20 * math.exp(0.02), 0.2), lognormal(600 * math.exp(0.02), 0.2)),
    "uniform": uniform(200, 420),
    "uniform, wide": uniform(10, 600),
    "exponential": exponential(339),
    "heavy-tailed": pareto(30, 1.5),
}


def optimum(latency: Latency, exchange_s: float) -> list[float]:
    """Return the ages in seconds at which to poll so that `exchange_s` · polls + lag is least.

    The last age is past all jobs. This is dynamic programming over a grid of ages that is dense where jobs
    end. It is kept simple, because tests compare the fast schedule of the runner with it.
    """
    ages = _grid(latency)
    done = [latency.below(age_s) for age_s in ages]
    area = [0.0]
    for k in range(1, len(ages)):
        area.append(area[-1] + (done[k] + done[k - 1]) / 2 * (ages[k] - ages[k - 1]))
    end = len(ages) - 1
    cost, best = [0.0] * len(ages), [end] * len(ages)
    for i in range(end - 1, -1, -1):
        age_s, gone, polled = ages[i], done[i], exchange_s * (1 - done[i]) - area[i]
        # The best next poll from an earlier age is never after the best one from a later age.
        cost[i], best[i] = min(
            (polled + area[j] - gone * (ages[j] - age_s) + cost[j], j) for j in range(i + 1, best[i + 1] + 1)
        )
    schedule, i = [], 0
    while i < end:
        i = best[i]
        schedule.append(ages[i])
    return schedule


def _grid(latency: Latency) -> list[float]:
    """Return ages: one half follows the quantiles of the latency, the other grows by a constant factor."""
    half = GRID_AGES // 2
    last = latency.quantile(1 - 1e-6)
    shares = [latency.quantile(n * (1 - 1e-6) / half) for n in range(1, half)]
    first = latency.quantile(1e-6)
    evenly = [first * (last / first) ** (n / half) for n in range(half)]
    return [0.0, *sorted({*shares, *evenly, last})]


def spent(schedule: Sequence[float], latencies: Sequence[float]) -> tuple[float, float]:
    """Return the mean polls and the mean lag in seconds of polling at given ages.

    Past the last age, polls follow at ages that double.
    """
    ages = list(schedule)
    while ages[-1] < max(latencies):
        ages.append(2 * ages[-1])
    places = [bisect_left(ages, latency) for latency in latencies]
    lag_s = sum(ages[place] - latency for place, latency in zip(places, latencies, strict=True))
    return sum(places) / len(latencies) + 1, lag_s / len(latencies)


def evenly_spaced(interval_s: float, latencies: Sequence[float]) -> tuple[float, float]:
    """Return the mean polls and the mean lag in seconds of a fixed interval."""
    polls = [math.ceil(latency / interval_s) for latency in latencies]
    lag_s = sum(n * interval_s - latency for n, latency in zip(polls, latencies, strict=True))
    return sum(polls) / len(polls), lag_s / len(latencies)
