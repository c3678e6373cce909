"""How the lag aimed at answers to looks that come late."""

from __future__ import annotations

from runner.policy.polling.lateness import MAX_FACTOR, LatenessFeedback


def _judged(strain: LatenessFeedback, late_s: float, times: int = 1, kinds: int = 1) -> float:
    for _ in range(times):
        strain.record(late_s, target_s=10.0)
        strain.replanning(kinds)
    return strain.factor


def test_looks_on_time_leave_the_aim_alone() -> None:
    assert _judged(LatenessFeedback(), late_s=0.5, times=100) == 1.0


def test_late_looks_put_it_up_within_bounds_and_punctual_ones_let_it_down_again() -> None:
    strain = LatenessFeedback()

    assert 1.4 < _judged(strain, late_s=10.0) < 1.5
    assert _judged(strain, late_s=1e9, times=20) == MAX_FACTOR
    assert _judged(strain, late_s=0.0, times=100) == 1.0


def test_it_is_judged_once_all_kinds_have_made_use_of_it() -> None:
    strain = LatenessFeedback()

    assert _judged(strain, late_s=10.0, times=2, kinds=3) == 1.0
    assert _judged(strain, late_s=10.0, kinds=3) > 1.0
