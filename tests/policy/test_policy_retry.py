"""Backoff: capped, jittered, never below what the service asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.policy.retry import LONGEST_RETRY_AFTER_S, backoff_s, wait_s

FAILURES = st.integers(1, 10_000)
SECONDS = st.floats(1e-3, 1e6)
DRAW = st.floats(0, 1, exclude_max=True)
ASKED = st.none() | st.floats(-1e9, 1e12)


@given(FAILURES, SECONDS, SECONDS, DRAW)
def test_a_wait_lies_between_zero_and_the_doubled_base_and_never_above_the_cap(
    failures: int, base: float, cap: float, draw: float
) -> None:
    wait = backoff_s(failures, base, cap, draw)

    assert 0 <= wait <= cap
    assert wait <= base * 2.0 ** min(failures - 1, 900)


@given(FAILURES, SECONDS, SECONDS)
def test_the_jitter_is_full(failures: int, base: float, cap: float) -> None:
    assert backoff_s(failures, base, cap, 0.0) == 0
    longest = backoff_s(failures, base, cap, 1.0)
    assert longest == min(cap, base * 2.0 ** min(failures - 1, 900))
    assert abs(backoff_s(failures, base, cap, 0.5) - longest / 2) <= 1e-9 * longest


@given(FAILURES, SECONDS, SECONDS, DRAW)
def test_waits_never_shrink_with_more_failures(failures: int, base: float, cap: float, draw: float) -> None:
    assert backoff_s(failures + 1, base, cap, draw) >= backoff_s(failures, base, cap, draw)


@given(FAILURES, SECONDS, SECONDS, DRAW, ASKED)
def test_the_wait_that_the_service_asks_for_is_the_floor_up_to_a_bound(
    failures: int, base: float, cap: float, draw: float, asked: float | None
) -> None:
    wait = wait_s(failures, base, cap, draw, asked)
    floor = min(max(asked or 0.0, 0.0), LONGEST_RETRY_AFTER_S)

    assert floor <= wait <= LONGEST_RETRY_AFTER_S + cap
    assert abs(wait - floor - backoff_s(failures, base, cap, draw)) <= 1e-6 * max(1.0, wait)


def test_clients_that_were_asked_for_the_same_wait_do_not_return_together() -> None:
    waits = {wait_s(1, 0.5, 60, draw / 10, 5.0) for draw in range(10)}

    assert len(waits) == 10


def test_the_longest_waits_are_those_that_the_config_describes() -> None:
    assert [backoff_s(n, 0.5, 60, 1.0) for n in range(1, 10)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
