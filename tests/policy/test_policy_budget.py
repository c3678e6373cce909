"""A budget counts in what is on its way."""

import heapq
import random
from typing import Any

import pytest

from runner.policy.budget import FIRST_REQUESTS, Budget


def test_before_anything_is_done_only_a_few_requests_find_out_what_one_costs() -> None:
    budget = Budget(1.0)
    assert budget.allows(0.0, 0, FIRST_REQUESTS - 1)
    assert not budget.allows(0.0, 0, FIRST_REQUESTS)


@pytest.mark.parametrize("seed", range(20))
def test_spending_stops_near_the_budget_with_many_in_flight(seed: Any) -> None:
    draws = random.Random(seed)
    budget, spent, done, in_flight = Budget(10.0), 0.0, 0, []
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
def test_cheap_jobs_that_are_done_first_do_not_mislead_it_by_much(
    seed: Any, max_usd: float, share: float
) -> None:
    draws = random.Random(seed)
    budget, now, spent, done, in_flight = Budget(max_usd), 0.0, 0.0, 0, []
    while True:
        while len(in_flight) < 500 and budget.allows(spent, done, len(in_flight)):
            cost = draws.expovariate(100.0)  # and as long as it is dear
            heapq.heappush(in_flight, (now + cost, cost))
        if not in_flight:
            break
        now, cost = heapq.heappop(in_flight)
        spent += cost
        done += 1
    assert 0.95 * max_usd < spent < share * max_usd


def test_what_costs_nothing_is_never_held_back() -> None:
    budget = Budget(0.01)
    assert budget.allows(0.0, 1000, 999)


def test_a_spent_budget_allows_nothing() -> None:
    assert not Budget(1.0).allows(1.0, 10, 0)
