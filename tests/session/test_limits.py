"""LimitCheck on cost and failures: what may still be sent, and what ends the run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from runner.measure.meter import Meter
from runner.records import Timing, Usage
from runner.session.limits import LimitCheck
from tests.session.support import config_of

PRICES = {"input": 0.0, "output": 1_000_000.0}
"""One US dollar for each output token."""


def limits_of(meter: Meter, **limits: object) -> LimitCheck:
    prices: Mapping[str, object] = PRICES
    return LimitCheck(config_of(limits=limits, prices=prices), meter)


def finish(meter: Meter, status: str, count: int = 1, usd: int = 1) -> None:
    """Count results, each of which cost so many US dollars."""
    for _ in range(count):
        meter.finished(status, Timing(0.0, 0.0, 0.0, None, 1.0), Usage(output=usd))


def test_without_limits_nothing_is_held_back_and_nothing_ends_the_run() -> None:
    meter = Meter()
    limits = limits_of(meter)
    finish(meter, "failed", 1000)
    assert limits.allow_another(10**6)
    assert limits.reached() is None


def test_failures_end_the_run_at_the_number_that_is_given() -> None:
    meter = Meter()
    limits = limits_of(meter, max_failures=3)
    finish(meter, "completed", 10)
    for status in ("failed", "expired"):
        finish(meter, status)
        assert limits.reached() is None
    finish(meter, "rejected")
    assert str(limits.reached()) == (
        "limits.max_failures 3: 3 requests did not end completed"
        " (raise it, or retry them with --retry, and continue)"
    )


def test_until_the_first_result_twenty_requests_show_what_one_costs() -> None:
    limits = limits_of(Meter(), max_cost_usd=1000.0)
    assert limits.allow_another(19)
    assert not limits.allow_another(20)
    assert limits.reached() is None


def test_jobs_in_flight_are_counted_in_at_their_expected_cost() -> None:
    meter = Meter()
    limits = limits_of(meter, max_cost_usd=100.0)
    finish(meter, "completed", 50)
    assert limits.allow_another(16)  # 50 + 3 · 16 + 1 = 99
    assert not limits.allow_another(17)
    assert limits.reached() is None


def test_a_budget_that_is_spent_ends_the_run() -> None:
    meter = Meter()
    limits = limits_of(meter, max_cost_usd=10.0)
    finish(meter, "completed", 1, usd=12)
    assert not limits.allow_another(0)
    assert str(limits.reached()) == (
        "limits.max_cost_usd 10: cost limit reached: $12.0000 of $10 spent (raise it to continue)"
    )


def test_a_budget_ends_the_run_when_one_more_request_would_exceed_it() -> None:
    meter = Meter()
    limits = limits_of(meter, max_cost_usd=10.0)
    finish(meter, "completed", 3, usd=3)
    assert not limits.allow_another(0)
    assert "$9.0000 of $10 spent, and one more request would exceed it" in str(limits.reached())


@pytest.mark.parametrize(("superseded", "is_reached"), [(0, True), (27, False)])
def test_requests_that_were_paid_for_before_a_retry_count_in_the_mean(
    superseded: int, is_reached: bool
) -> None:
    meter = Meter()
    limits = limits_of(meter, max_cost_usd=10.0)
    finish(meter, "completed", 3, usd=3)
    meter.counts.superseded += superseded
    assert (limits.reached() is not None) is is_reached
