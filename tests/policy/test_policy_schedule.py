"""The optimum checking schedule, against theory and against a plain search."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.policy.polling import schedule
from scripts.lib.bench.polling.optimum import LATENCIES, optimum, spent

CELLS = 300


def _learned(name: str, exchange_s: float) -> schedule.Schedule:
    """Return the schedule for the true hazard of a distribution, cell by cell."""
    latency = LATENCIES[name]
    first, last = latency.quantile(1e-4), latency.quantile(1 - 1e-7)
    edges = [0.0, *(first * (last / first) ** (n / CELLS) for n in range(CELLS + 1))]
    left = [max(1 - latency.below(age_s), 1e-12) for age_s in edges]
    hazards = [
        max(math.log(a / b) / (y - x), 1e-12)
        for (a, b), (x, y) in zip(pairwise(left), pairwise(edges), strict=True)
    ]
    return schedule.optimum(edges, hazards, exchange_s)


def test_for_a_constant_hazard_polls_are_evenly_spaced_as_barlow_hunter_and_proschan_found() -> None:
    # The best gap g of exponential lives of mean m: exp(g/m) - 1 - g/m = c/m.
    mean_s, exchange_s = 100.0, 2.0
    low, high = 0.0, mean_s
    for _ in range(60):
        gap = (low + high) / 2
        low, high = (
            (gap, high) if mean_s * (math.expm1(gap / mean_s) - gap / mean_s) < exchange_s else (low, gap)
        )
    best = schedule.optimum([n * 20.0 for n in range(60)], [1 / mean_s] * 59, exchange_s)
    ages = [0.0]
    while ages[-1] < 300:
        ages.append(best.next_poll(ages[-1], 0.0))

    assert [b - a for a, b in pairwise(ages)] == pytest.approx([gap] * (len(ages) - 1), rel=0.15)


@pytest.mark.parametrize("exchange_s", [0.3, 2.0, 20.0])
@pytest.mark.parametrize("name", LATENCIES)
def test_it_costs_what_the_plain_search_costs(name: str, exchange_s: float) -> None:
    draws = LATENCIES[name].draws(4000, seed=5)
    best, chance = _learned(name, exchange_s), random.Random(5)
    polls, lag_s = spent(optimum(LATENCIES[name], exchange_s), draws)
    cost = 0.0
    for latency in draws:
        at = 0.0
        while at < latency:
            at = best.next_poll(at, chance.uniform(-1, 1))
            cost += exchange_s
        cost += at - latency

    assert cost / len(draws) <= 1.05 * (exchange_s * polls + lag_s)


@pytest.mark.parametrize("name", ["lognormal 0.5", "bimodal", "uniform"])
def test_it_predicts_its_polls_and_its_lag(name: str) -> None:
    best = _learned(name, 2.0)
    polls, lag_s = spent(optimum(LATENCIES[name], 2.0), LATENCIES[name].draws(20_000, seed=5))

    assert best.polls == pytest.approx(polls, rel=0.1)
    assert best.lag_s == pytest.approx(lag_s, rel=0.1)


@given(
    st.lists(st.tuples(st.floats(1e-3, 1e5), st.floats(1e-15, 1e3)), min_size=1, max_size=60),
    st.floats(1e-4, 1e4),
    st.lists(st.floats(-1e6, 1e7), min_size=2, max_size=20),
    st.floats(-1, 1),
)
@settings(max_examples=150)
def test_the_next_poll_is_later_and_an_older_job_is_not_polled_before_a_younger_one(
    cells: list[tuple[float, float]], exchange_s: float, at: list[float], offset: float
) -> None:
    edges = [0.0]
    for width, _ in cells:
        edges.append(edges[-1] + width)
    best = schedule.optimum(edges, [hazard for _, hazard in cells], exchange_s)
    nexts = [best.next_poll(position, 0.0) for position in sorted(at)]

    assert all(position < best.next_poll(position, offset) < math.inf for position in at if position >= 0)
    assert all(later >= earlier - 1e-6 * abs(earlier) for earlier, later in pairwise(nexts))
