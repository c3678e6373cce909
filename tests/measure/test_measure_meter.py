"""What a run counts: every result once, under its status, and what several processes counted together."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.measure.counts import Counts, merged
from runner.measure.histogram import Histogram
from runner.measure.meter import Meter, add_latencies, take_latencies
from runner.records import RESULT_STATUSES, Failure, Reply, Result, ResultStatus, Timing, Usage
from runner.store import ResultHead
from tests.measure.conftest import MakeTiming

ENDED = st.lists(
    st.tuples(st.sampled_from(RESULT_STATUSES), st.integers(0, 9), st.integers(0, 9)), max_size=40
)


@given(ENDED)
@settings(max_examples=30)
def test_every_request_is_counted_once_and_the_counts_add_up(
    ended: list[tuple[ResultStatus, int, int]],
) -> None:
    meter = Meter()
    for status, tokens_in, tokens_out in ended:
        usage = Usage(input=tokens_in, cached=tokens_in // 2, output=tokens_out, reasoning=tokens_out // 3)
        meter.finished(status, Timing(1.0, 1.0, 1.0, None, 2.0), usage)

    assert meter.done == len(ended) == sum(meter.statuses[status] for status in RESULT_STATUSES)
    assert meter.not_completed == sum(status != "completed" for status, *_ in ended)
    assert meter.tokens == {
        "input": sum(i for _, i, _ in ended),
        "cached": sum(i // 2 for _, i, _ in ended),
        "output": sum(o for _, _, o in ended),
        "reasoning": sum(o // 3 for _, _, o in ended),
    }


def test_acceptances_are_timed_from_the_first_to_the_last() -> None:
    meter = Meter()
    meter.accepting_s = 5.0
    assert meter.total_accepting_s == 5.0
    meter.accept(1100.0, 100.0)
    meter.accept(1104.0, 104.0, 3)

    assert meter.counts.accepted == 4
    assert meter.total_accepting_s == 9.0


def test_a_first_batch_is_timed_from_when_the_service_began_to_take_it_in() -> None:
    meter = Meter()
    meter.accept(1100.0, 100.0, 50, since_mono=90.0)

    assert meter.total_accepting_s == 10.0


def test_the_last_acceptance_is_the_latest_in_whatever_order_they_come() -> None:
    meter = Meter()
    meter.accept(1010.0, 10.0)
    meter.accept(1030.0, 11.0)  # a batch, by the clock of the service
    meter.accept(1020.0, 12.0)
    assert meter.counts.last_accepted == 1030.0

    meter.recall_accepted(1040.0)
    meter.recall_accepted(1000.0)
    assert meter.counts.last_accepted == 1040.0


def test_only_the_first_session_is_the_beginning() -> None:
    meter = Meter()
    assert meter.began is None
    for at in (1000.0, 2000.0):
        meter.begin(at)

    assert meter.began == 1000.0


def _line(**changes: object) -> ResultHead:
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
    meter = Meter()
    meter.recall(_line())
    failure, timing = Failure(type="x", message="y", status_code=400), Timing(1.0, 1.5, None, None, 2.0)
    meter.recall(_line(status="rejected", response=None, error=failure, timing=timing, polls=0))

    assert (meter.statuses["completed"], meter.statuses["rejected"], meter.done) == (1, 1, 2)
    assert (meter.counts.polls, meter.counts.accepted) == (3, 1)
    assert meter.tokens == {"input": 7, "cached": 2, "output": 5, "reasoning": 0}
    assert meter.latencies.completion.count == 1


def test_a_superseded_result_counts_only_as_what_it_cost() -> None:
    meter = Meter()
    meter.recall_superseded(_line())

    assert (meter.done, meter.counts.superseded, meter.latencies.completion.count) == (0, 1, 0)
    assert (meter.counts.polls, meter.counts.accepted, meter.tokens["output"]) == (3, 1, 5)


def test_a_request_that_was_outstanding_over_a_stop_is_in_no_latency(timing: MakeTiming) -> None:
    meter = Meter()
    meter.restarts = [105.0]
    meter.finished("completed", timing(), Usage())
    meter.finished("completed", timing(done=4.0), Usage())

    assert (meter.counts.spanned, meter.latencies.completion.count) == (1, 1)


def test_retries_of_an_earlier_session_are_taken_from_its_last_sample() -> None:
    meter = Meter()
    meter.recall_counters({"retries": {"submit": {"429": 4}, "poll": {"timeout": 2}}})
    meter.counts.submit_retries["429"] += 1

    assert meter.counts.submit_retries == {"429": 5}
    assert meter.retries == 7


def test_what_went_over_the_wire_in_an_earlier_session_is_counted_on() -> None:
    meter = Meter()
    wire = meter.wire
    meter.recall_counters({"wire": {"requests": 3, "sent_bytes": 900, "received_bytes": 600}})
    wire["requests"] += 1

    assert meter.wire is wire
    assert wire == {"requests": 4, "sent_bytes": 900, "received_bytes": 600}


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
        {"polls": "many", "accepting_s": None},
    ],
)
def test_a_sample_that_lacks_something_counts_nothing(sample: Mapping[str, object]) -> None:
    meter = Meter()
    meter.recall_counters(sample)

    assert meter.counts == Counts()
    assert meter.total_accepting_s == 0.0


STEP = st.tuples(
    st.sampled_from(["w0", "w1", "w2"]),
    st.sampled_from(RESULT_STATUSES),
    st.floats(0.001, 500),
    st.booleans(),
)


def _finish(meter: Meter, status: ResultStatus, latency_s: float, now_mono: float) -> None:
    meter.accept(now_mono, now_mono)
    meter.finished(status, Timing(0.0, 0.1, 0.2 + now_mono, None, latency_s), Usage(input=7, output=3))
    meter.counts.polls += 2
    meter.wire.update(requests=3, sent_bytes=700, received_bytes=int(latency_s))
    meter.counts.poll_retries["429"] += 1


@given(st.lists(STEP, max_size=20))
@settings(max_examples=10)
def test_what_several_processes_report_is_what_one_would_have_counted(
    steps: list[tuple[str, ResultStatus, float, bool]],
) -> None:
    alone, whole, workers = Meter(), Meter(), {name: Meter() for name in ("w0", "w1", "w2")}
    for meter in (alone, whole, *workers.values()):
        meter.begin(-1.0)
    _finish(alone, "completed", 9.0, 1.0)
    _finish(whole, "completed", 9.0, 1.0)  # in an earlier session
    base, last = whole.counts, dict[str, Counts]()

    def report(name: str) -> None:
        sent = msgspec.msgpack.encode(workers[name].counts)
        last[name] = msgspec.msgpack.decode(sent, type=Counts)
        whole.counts = merged([base, *last.values()])
        add_latencies(whole, take_latencies(workers[name]))

    for second, (name, status, latency_s, is_reported) in enumerate(steps, start=2):
        _finish(alone, status, latency_s, second)
        _finish(workers[name], status, latency_s, second)
        if is_reported:
            report(name)
    for name in workers:
        report(name)

    assert whole.counts == alone.counts
    assert whole.milestones.summary(whole.counts) == alone.milestones.summary(alone.counts)
    assert whole.latencies.completion.count == alone.latencies.completion.count
    assert whole.latencies.completion.quantile(95) == alone.latencies.completion.quantile(95)
    assert whole.latencies.completion.max_s == alone.latencies.completion.max_s


def test_every_histogram_of_a_meter_is_taken_even_one_that_is_new() -> None:
    here, there = Meter(), Meter()
    for meter in (here, there):
        meter.latencies.new = Histogram()  # type: ignore[attr-defined] # as one that is added later
        meter.milestones.new = Histogram()  # type: ignore[attr-defined]  # a histogram of tomorrow
        meter.new = Histogram()  # type: ignore[attr-defined]  # a histogram of tomorrow
    for name in (names := _histograms_of(there)):
        names[name].record(1.0)
    taken = take_latencies(there)
    add_latencies(here, msgspec.msgpack.decode(msgspec.msgpack.encode(taken)))

    assert len(taken) == len(names) == 9
    assert {name: it.count for name, it in _histograms_of(here).items()} == dict.fromkeys(names, 1)


def _histograms_of(meter: Meter) -> dict[str, Histogram]:
    """Return all histograms that can be reached from a meter, by path."""
    found: dict[str, Histogram] = {}

    def walk(path: str, value: object) -> None:
        if isinstance(value, Histogram):
            found[path] = value
        elif hasattr(value, "__dict__") and type(value).__module__.startswith("runner."):
            for name, inner in vars(value).items():
                walk(f"{path}.{name}", inner)

    walk("meter", meter)
    return found


def test_latencies_that_a_report_lacks_stay_as_they_are() -> None:
    meter = Meter()
    meter.latencies.poll.record(1.0)
    add_latencies(meter, {})

    assert meter.latencies.poll.count == 1
