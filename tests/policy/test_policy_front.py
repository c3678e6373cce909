"""The front of a queue, as it is seen from completions alone."""

from __future__ import annotations

import random

import pytest

from runner.policy.polling.front import Front


def _served(front: Front, orders: range, per_s: float, start: float = 0.0, sigma_s: float = 5.0) -> float:
    """Jobs end in order, so many per second, but for a noise of their own; returns when the last does."""
    chance = random.Random(3)
    ends = sorted((start + (n - orders[0]) / per_s + chance.gauss(0, sigma_s), n) for n in orders)
    for at, n in ends:
        front.record(n, at)
    return start + len(orders) / per_s


def test_a_job_far_behind_the_front_is_expected_when_the_queue_has_come_to_it() -> None:
    front = Front()
    _served(front, range(1000), per_s=4.0)

    assert front.expects(1000) == pytest.approx(250, abs=5)
    assert front.expects(5000) == pytest.approx(1250, rel=0.1)


def test_nothing_is_expected_of_few_completions_or_of_such_as_come_in_no_order() -> None:
    few, shuffled, chance = Front(), Front(), random.Random(5)
    _served(few, range(20), per_s=4.0)
    for n in range(500):
        shuffled.record(chance.randrange(500), float(n))

    assert few.expects(100) is None
    assert shuffled.expects(100) is None


def test_a_stall_moves_the_front_by_its_length_and_leaves_its_speed() -> None:
    front = Front()
    ended = _served(front, range(1000), per_s=4.0)
    ended = _served(front, range(1000, 1050), per_s=4.0, start=ended + 600)

    assert front.expects(2050) - front.expects(1050) == pytest.approx(250, rel=0.15)
    assert front.expects(1050) == pytest.approx(ended, abs=30)


@pytest.mark.parametrize("per_s", [1.0, 16.0])
def test_a_front_that_changes_its_speed_is_followed(per_s: float) -> None:
    front = Front()
    ended = _served(front, range(1000), per_s=4.0)
    _served(front, range(1000, 3000), per_s=per_s, start=ended)

    assert front.expects(4000) - front.expects(3000) == pytest.approx(1000 / per_s, rel=0.25)


def test_a_few_jobs_that_are_passed_over_do_not_turn_it() -> None:
    front, chance = Front(), random.Random(7)
    for n in range(1500):
        front.record(n, n / 4.0 + chance.gauss(0, 5))
        if n > 400 and n % 20 == 0:
            front.record(n - 400, n / 4.0)

    assert front.expects(1500) == pytest.approx(375, abs=20)
