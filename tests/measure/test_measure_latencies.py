"""The parts of a request's life run between the right moments."""

from __future__ import annotations

import pytest

from runner.measure.histogram import Histogram
from runner.measure.latencies import Latencies, LatencySummary
from runner.records import RESULT_STATUSES, ResultStatus
from tests.measure.conftest import MakeTiming

NOT_COMPLETED = [status for status in RESULT_STATUSES if status != "completed"]


def test_the_spans_of_a_completed_request_run_between_the_right_moments(timing: MakeTiming) -> None:
    latencies = Latencies()
    latencies.record("completed", timing())
    summary = latencies.summary()

    assert summary.schedule_delay.max == pytest.approx(1.0, rel=1e-3)
    assert summary.submit.max == pytest.approx(1.0, rel=1e-3)
    assert summary.completion.max == pytest.approx(10.0, rel=1e-3)
    assert summary.detection_lag_bound.max == pytest.approx(3.0, rel=1e-3)
    assert summary.poll.max is None


def test_a_job_that_was_never_seen_unfinished_ended_after_its_acceptance(timing: MakeTiming) -> None:
    latencies = Latencies()
    latencies.record("completed", timing(pending=None))

    assert latencies.detection_lag_bound.quantile(50) == pytest.approx(8.0, rel=1e-3)


@pytest.mark.parametrize("status", NOT_COMPLETED)
def test_only_a_completed_request_has_a_completion(timing: MakeTiming, status: ResultStatus) -> None:
    latencies = Latencies()
    latencies.record(status, timing())

    assert latencies.completion.count == latencies.detection_lag_bound.count == 0
    assert latencies.schedule_delay.count == 1


def test_a_request_that_was_never_sent_or_never_accepted_has_no_such_spans(timing: MakeTiming) -> None:
    latencies = Latencies()
    latencies.record("rejected", timing(accepted=None, pending=None))
    latencies.record("uncertain", timing(sent=None, accepted=None, pending=None))

    assert (latencies.schedule_delay.count, latencies.submit.count) == (1, 0)


def test_every_histogram_is_in_the_summary() -> None:
    histograms = [name for name, value in vars(Latencies()).items() if isinstance(value, Histogram)]

    assert list(LatencySummary.__struct_fields__) == histograms
