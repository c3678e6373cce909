"""The front of a queue, as completions alone show it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.polling.front import Front


def serve(front: Front, orders: range, per_s: float, start: float = 0.0, sigma_s: float = 5.0) -> float:
    """Complete jobs in order at a rate, but for a noise of each, and return when the last one ends."""
    chance = random.Random(3)
    ends = sorted((start + (n - orders[0]) / per_s + chance.gauss(0, sigma_s), n) for n in orders)
    for at, n in ends:
        front.record(n, at)
    return start + len(orders) / per_s


def expected(front: Front, order: float) -> float:
    """Return when the front expects a job, which it must know."""
    at = front.expects(order)
    assert at is not None
    return at


def test_a_job_far_behind_the_front_is_expected_when_the_queue_reaches_it() -> None:
    front = Front()
    serve(front, range(1000), per_s=4.0)

    assert expected(front, 1000) == pytest.approx(250, abs=5)
    assert expected(front, 5000) == pytest.approx(1250, rel=0.1)


def test_few_completions_or_completions_in_no_order_show_no_front() -> None:
    few, shuffled, chance = Front(), Front(), random.Random(5)
    serve(few, range(20), per_s=4.0)
    for n in range(500):
        shuffled.record(chance.randrange(500), float(n))

    assert few.expects(100) is None
    assert shuffled.expects(100) is None


def test_a_stall_moves_the_front_by_its_length_and_keeps_its_speed() -> None:
    front = Front()
    ended = serve(front, range(1000), per_s=4.0)
    ended = serve(front, range(1000, 1050), per_s=4.0, start=ended + 600)

    assert expected(front, 2050) - expected(front, 1050) == pytest.approx(250, rel=0.15)
    assert expected(front, 1050) == pytest.approx(ended, abs=30)


@pytest.mark.parametrize("per_s", [1.0, 16.0])
def test_a_front_that_changes_its_speed_is_followed(per_s: float) -> None:
    front = Front()
    ended = serve(front, range(1000), per_s=4.0)
    serve(front, range(1000, 3000), per_s=per_s, start=ended)

    assert expected(front, 4000) - expected(front, 3000) == pytest.approx(1000 / per_s, rel=0.25)


def test_a_few_jobs_that_are_passed_over_do_not_turn_the_front() -> None:
    front, chance = Front(), random.Random(7)
    for n in range(1500):
        front.record(n, n / 4.0 + chance.gauss(0, 5))
        if n > 400 and n % 20 == 0:
            front.record(n - 400, n / 4.0)

    assert expected(front, 1500) == pytest.approx(375, abs=20)


@given(st.lists(st.tuples(st.integers(-(10**6), 10**6), st.floats(0, 1e6)), max_size=300), st.integers())
def test_after_any_history_later_jobs_are_never_expected_earlier(
    completions: list[tuple[int, float]], order: int
) -> None:
    front = Front()
    for n, at in completions:
        front.record(n, at)
    soon, later = front.expects(order), front.expects(order + 1)

    if soon is not None and later is not None:
        assert soon <= later < math.inf
