"""Idempotency keys: the same for the same request, another for any other, and trusted for a day."""

from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.idempotency import CLOCK_SKEW_S, KEY_LIFE_S, idempotency_key, is_protected

UNIX_SECONDS = st.floats(0, 4e9)
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
REQUESTS = st.tuples(IDS, IDS, st.integers(0, 10**6), st.binary())


@given(UNIX_SECONDS | st.none(), UNIX_SECONDS)
def test_a_service_that_takes_no_key_protects_nothing(sent: float | None, now: float) -> None:
    assert not is_protected(False, sent, now)


@given(UNIX_SECONDS)
def test_a_request_that_was_not_sent_yet_is_protected(now: float) -> None:
    assert is_protected(True, None, now)


@given(UNIX_SECONDS, st.floats(-2 * KEY_LIFE_S, 2 * KEY_LIFE_S))
def test_a_key_protects_from_a_little_before_its_first_post_until_23_hours_after_it(
    sent: float, age_s: float
) -> None:
    now = sent + age_s
    assert is_protected(True, sent, now) == (-CLOCK_SKEW_S < now - sent < KEY_LIFE_S)


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        (0.0, True),
        (22 * 3600.0, True),
        (KEY_LIFE_S, False),
        (24 * 3600.0, False),
        (-60.0, True),  # two clocks that disagree by a minute
        (-CLOCK_SKEW_S, False),
        (-math.inf, False),
    ],
)
def test_the_bounds_of_protection(age_s: float, expected: bool) -> None:
    assert is_protected(True, 0.0, age_s) == expected


@given(REQUESTS, REQUESTS)
def test_two_requests_share_a_key_only_if_they_are_the_same(
    one: tuple[str, str, int, bytes], other: tuple[str, str, int, bytes]
) -> None:
    assert (idempotency_key(*one) == idempotency_key(*other)) == (one == other)


@given(*[IDS] * 2, st.integers(0, 10**6), st.binary(), st.integers(1, 9))
def test_a_new_epoch_or_another_body_has_a_new_key(
    run_id: str, custom_id: str, epoch: int, body: bytes, more: int
) -> None:
    key = idempotency_key(run_id, custom_id, epoch, body)

    assert key == idempotency_key(run_id, custom_id, epoch, body)
    assert key != idempotency_key(run_id, custom_id, epoch + more, body)
    assert key != idempotency_key(run_id, custom_id, epoch, body + b" ")


def test_a_key_is_what_earlier_versions_wrote_into_their_journals() -> None:
    key = idempotency_key("run-1", "row-ü", 2, b'{"model":"m"}')

    assert key == hashlib.sha256(b'run-1\x00row-\xc3\xbc\x002\x00{"model":"m"}').hexdigest()
    assert len(key) == 64
