"""What a run counts: every ended request once, under its status, with its spans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.measure.meter import Latencies, Meter
from runner.records import RESULT_STATUSES, Failure, Reply, Result, Timing, Usage
from runner.store.results import ResultHead


def test_the_spans_of_a_completed_request_run_between_the_right_moments(
    timing: Callable[..., Timing],
) -> None:
    latencies = Latencies()
    latencies.record("completed", timing())
    summary = latencies.summary()

    assert list(summary) == ["schedule_delay", "submit", "completion", "detection_lag_bound", "poll"]
    assert summary["schedule_delay"]["max"] == pytest.approx(1.0, rel=1e-3)
    assert summary["submit"]["max"] == pytest.approx(1.0, rel=1e-3)
    assert summary["completion"]["max"] == pytest.approx(10.0, rel=1e-3)
    assert summary["detection_lag_bound"]["max"] == pytest.approx(3.0, rel=1e-3)
    assert summary["poll"]["max"] is None


def test_a_job_that_was_never_seen_unfinished_ended_after_its_acceptance(
    timing: Callable[..., Timing],
) -> None:
    latencies = Latencies()
    latencies.record("completed", timing(pending=None))

    assert latencies.detection_lag_bound.quantile(50) == pytest.approx(8.0, rel=1e-3)


@pytest.mark.parametrize("status", [status for status in RESULT_STATUSES if status != "completed"])
def test_only_a_completed_request_has_a_completion(timing: Callable[..., Timing], status: Any) -> None:
    latencies = Latencies()
    latencies.record(status, timing())

    assert latencies.completion.count == latencies.detection_lag_bound.count == 0
    assert latencies.schedule_delay.count == 1


def test_a_request_that_was_never_sent_or_never_accepted_has_no_such_spans(
    timing: Callable[..., Timing],
) -> None:
    latencies = Latencies()
    latencies.record("rejected", timing(accepted=None, pending=None))
    latencies.record("uncertain", timing(sent=None, accepted=None, pending=None))

    assert (latencies.schedule_delay.count, latencies.submit.count) == (1, 0)


ENDED = st.lists(
    st.tuples(st.sampled_from(RESULT_STATUSES), st.integers(0, 9), st.integers(0, 9)), max_size=40
)


@given(ENDED, st.integers(0, 60), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_every_request_is_counted_once_and_the_counts_add_up(
    ended: Any, unsent: Any, still_open: Any
) -> None:
    meter = Meter(len(ended) + unsent + still_open)
    for status, tokens_in, tokens_out in ended:
        usage = Usage(input=tokens_in, cached=tokens_in // 2, output=tokens_out, reasoning=tokens_out // 3)
        meter.finished(status, Timing(1.0, 1.0, 1.0, None, 2.0), usage)
    meter.open = still_open

    assert meter.done == len(ended) == sum(meter.statuses[status] for status in RESULT_STATUSES)
    assert meter.not_completed == sum(status != "completed" for status, *_ in ended)
    assert meter.unsent == unsent
    assert meter.submitted + meter.unsent == meter.total
    assert meter.tokens == {
        "input": sum(i for _, i, _ in ended),
        "cached": sum(i // 2 for _, i, _ in ended),
        "output": sum(o for _, _, o in ended),
        "reasoning": sum(o // 3 for _, _, o in ended),
    }


def _line(**changes) -> ResultHead:
    tokens = {"input_tokens": 7, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 2}}
    body = msgspec.Raw(msgspec.json.encode({"id": "r", "usage": tokens}))
    result = Result(
        custom_id="a",
        row=0,
        status="completed",
        response=Reply(status_code=200, request_id=None, body=body),
        error=None,
        timing=Timing(1.0, 1.5, 2.0, None, 5.0),
        attempts=1,
        polls=3,
    )
    encoded = msgspec.json.encode(msgspec.structs.replace(result, **changes))
    return msgspec.json.decode(encoded, type=ResultHead)


def test_results_of_an_earlier_session_count_as_those_of_this_one() -> None:
    meter = Meter(5)
    meter.recall(_line())
    refused = Failure(type="x", message="y", status_code=400)
    meter.recall(
        _line(
            status="rejected", response=None, error=refused, timing=Timing(1.0, 1.5, None, None, 2.0), polls=0
        )
    )

    assert (meter.statuses["completed"], meter.statuses["rejected"], meter.done) == (1, 1, 2)
    assert (meter.polls, meter.accepted, meter.unsent) == (3, 1, 3)
    assert meter.tokens == {"input": 7, "cached": 2, "output": 5, "reasoning": 0}
    assert meter.latencies.completion.count == 1


def test_retries_of_an_earlier_session_are_taken_from_its_last_sample() -> None:
    meter = Meter(5)
    meter.recall_counters({"retries": {"submit": {"429": 4}, "poll": {"timeout": 2}}})
    meter.submit_retries["429"] += 1

    assert meter.submit_retries == {"429": 5}
    assert meter.retries == 7


def test_what_went_over_the_wire_in_an_earlier_session_counts_as_well() -> None:
    meter = Meter(5)
    meter.recall_counters({"wire": {"requests": 3, "sent_bytes": 900, "received_bytes": 600}})
    meter.wire["requests"] += 1

    assert meter.wire == {"requests": 4, "sent_bytes": 900, "received_bytes": 600}


@pytest.mark.parametrize(
    "sample",
    [
        {},
        {"retries": {}},
        {"retries": {"submit": {"429": "many"}}},
        {"retries": None},
        {"retries": {"poll": None}},
        {"wire": None},
        {"wire": {"requests": "many", "sent_bytes": 1.5}},
    ],
)
def test_a_sample_that_lacks_something_counts_nothing(sample: dict[str, Any]) -> None:
    meter = Meter(5)
    meter.recall_counters(sample)

    assert meter.retries == 0
    assert set(meter.wire.values()) == {0}
