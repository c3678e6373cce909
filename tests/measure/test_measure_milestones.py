"""When the first, half and the last of a run's results were received, counted from its very beginning."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.measure.meter import Meter
from runner.measure.milestones import MilestoneSummary
from runner.records import RESULT_STATUSES, ResultStatus, Timing, Usage

NOTHING = MilestoneSummary(submitted=None, first_result=None, half_results=None, last_result=None)


def _timing(done: float, accepted: float | None = None) -> Timing:
    return Timing(1000.0, 1000.0, accepted, None, done)


def _summary(meter: Meter) -> MilestoneSummary:
    return meter.milestones.summary(meter.counts)


def test_a_run_in_which_nothing_has_happened_has_no_milestones() -> None:
    meter = Meter()

    assert _summary(meter) == NOTHING
    meter.begin(1000.0)
    assert _summary(meter) == NOTHING
    assert list(msgspec.to_builtins(NOTHING)) == ["submitted", "first_result", "half_results", "last_result"]


@given(st.lists(st.tuples(st.floats(0, 1e5), st.none() | st.floats(0, 1e5)), min_size=1, max_size=60))
@settings(max_examples=50)
def test_milestones_are_those_of_the_results_in_the_order_in_which_they_came(
    results: list[tuple[float, float | None]],
) -> None:
    meter = Meter()
    meter.begin(1000.0)
    for done_s, accepted_s in results:
        accepted = None if accepted_s is None else 1000.0 + accepted_s
        if accepted is not None:
            meter.accept(accepted, 0.0)
        meter.finished("completed", _timing(1000.0 + done_s, accepted), Usage())
    summary = _summary(meter)

    done = sorted(done_s for done_s, _ in results)
    accepted_s = max((at for _, at in results if at is not None), default=None)
    assert summary.first_result == pytest.approx(done[0], abs=1e-5)
    assert summary.half_results == pytest.approx(done[(len(done) - 1) // 2], rel=1e-3, abs=1e-5)
    assert summary.last_result == pytest.approx(done[-1], abs=1e-5)
    assert summary.submitted == (None if accepted_s is None else pytest.approx(accepted_s, abs=1e-5))
    assert summary.first_result is not None
    assert summary.half_results is not None
    assert summary.last_result is not None
    assert summary.first_result <= summary.half_results <= summary.last_result + 1e-6


@pytest.mark.parametrize("status", RESULT_STATUSES)
def test_a_result_counts_whatever_its_status_and_whatever_stop_it_spanned(status: ResultStatus) -> None:
    meter = Meter()
    meter.begin(1000.0)
    meter.restarts = [1050.0]
    meter.accept(1010.0, 0.0)
    meter.finished(status, _timing(1100.0, 1010.0), Usage())

    assert meter.counts.spanned == 1
    summary = _summary(meter)
    assert (summary.submitted, summary.first_result, summary.last_result) == (10.0, 100.0, 100.0)
    assert summary.half_results == pytest.approx(100.0, rel=1e-3)


def test_a_clock_that_was_set_back_puts_nothing_before_the_beginning() -> None:
    meter = Meter()
    meter.begin(1000.0)
    meter.accept(980.0, 0.0)
    meter.finished("completed", _timing(990.0, 980.0), Usage())

    assert _summary(meter) == MilestoneSummary(0.0, 0.0, 0.0, 0.0)
