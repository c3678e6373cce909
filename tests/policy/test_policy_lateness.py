"""How the lag target answers to polls that start late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.policy.polling.lateness import MAX_FACTOR, LatenessFeedback


def replanned(feedback: LatenessFeedback, late_s: float, times: int = 1, kinds: int = 1) -> float:
    """Record polls that are late, each before a kind is planned again, and return the factor then."""
    for _ in range(times):
        feedback.record(late_s, target_s=10.0)
        feedback.replanning(kinds)
    return feedback.factor


def test_punctual_polls_leave_the_lag_target_alone() -> None:
    assert replanned(LatenessFeedback(), late_s=0.5, times=100) == 1.0


def test_late_polls_raise_the_lag_target_within_bounds_and_punctual_ones_lower_it_again() -> None:
    feedback = LatenessFeedback()

    assert 1.4 < replanned(feedback, late_s=10.0) < 1.5
    assert replanned(feedback, late_s=1e9, times=20) == MAX_FACTOR
    assert replanned(feedback, late_s=0.0, times=100) == 1.0


def test_the_factor_is_judged_once_all_kinds_have_been_planned_with_it() -> None:
    feedback = LatenessFeedback()

    assert replanned(feedback, late_s=10.0, times=2, kinds=3) == 1.0
    assert replanned(feedback, late_s=10.0, kinds=3) > 1.0


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(1e-3, 1e6), st.integers(1, 5)), max_size=60))
def test_after_any_history_the_factor_stays_within_its_bounds(
    history: list[tuple[float, float, int]],
) -> None:
    feedback = LatenessFeedback()
    for late_s, target_s, kinds in history:
        feedback.record(late_s, target_s)
        feedback.replanning(kinds)
        assert 1.0 <= feedback.factor <= MAX_FACTOR
