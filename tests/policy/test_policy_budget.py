"""The budget: what is in flight counts before it is paid for."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.budget import FIRST_REQUESTS, Budget

USD = st.floats(0.001, 1e4)
COUNTS = st.integers(0, 10**6)


def test_until_the_first_result_only_a_few_requests_find_out_what_one_costs() -> None:
    budget = Budget(1.0)
    assert budget.allows(0.0, 0, FIRST_REQUESTS - 1)
    assert not budget.allows(0.0, 0, FIRST_REQUESTS)


@pytest.mark.parametrize("seed", range(20))
def test_spending_stops_near_the_budget_with_many_in_flight(seed: int) -> None:
    draws = random.Random(seed)
    budget, spent, done = Budget(10.0), 0.0, 0
    in_flight: list[float] = []
    while True:
        while len(in_flight) < 500 and budget.allows(spent, done, len(in_flight)):
            in_flight.append(draws.lognormvariate(-4.6, 0.5))
        if not in_flight:
            break
        spent += in_flight.pop(draws.randrange(len(in_flight)))
        done += 1
    assert 9.5 < spent < 10.3


@pytest.mark.parametrize(("max_usd", "share"), [(10.0, 1.2), (100.0, 1.02)])
@pytest.mark.parametrize("seed", range(20))
def test_cheap_jobs_that_are_done_first_hardly_mislead_it(seed: int, max_usd: float, share: float) -> None:
    draws = random.Random(seed)
    budget, now, spent, done = Budget(max_usd), 0.0, 0.0, 0
    in_flight: list[tuple[float, float]] = []
    while True:
        while len(in_flight) < 500 and budget.allows(spent, done, len(in_flight)):
            cost = draws.expovariate(100.0)  # and its duration is proportional to it
            heapq.heappush(in_flight, (now + cost, cost))
        if not in_flight:
            break
        now, cost = heapq.heappop(in_flight)
        spent += cost
        done += 1
    assert 0.95 * max_usd < spent < share * max_usd


def test_requests_that_cost_nothing_are_never_held_back() -> None:
    budget = Budget(0.01)
    assert budget.allows(0.0, 1000, 999)


@given(USD, COUNTS, COUNTS)
def test_a_spent_budget_allows_nothing(max_usd: float, done: int, in_flight: int) -> None:
    assert not Budget(max_usd).allows(max_usd, done, in_flight)


@given(USD, st.floats(0, 1e4), COUNTS, COUNTS)
def test_what_is_allowed_with_many_in_flight_is_allowed_with_fewer(
    max_usd: float, spent_usd: float, done: int, in_flight: int
) -> None:
    budget = Budget(max_usd)

    if budget.allows(spent_usd, done, in_flight):
        assert budget.allows(spent_usd, done, in_flight // 2)


@given(USD, st.floats(0, 1e4), st.integers(1, 10**6))
def test_with_nothing_in_flight_a_request_is_allowed_if_its_mean_cost_fits(
    max_usd: float, spent_usd: float, done: int
) -> None:
    fits = spent_usd < max_usd and spent_usd + spent_usd / done <= max_usd

    assert Budget(max_usd).allows(spent_usd, done, 0) == fits
