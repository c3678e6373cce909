"""The totals of several processes add up, in whatever order they are told."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from runner.measure.merging import Merge, Totals, add_latencies, take_latencies, totals_of
from runner.measure.meter import Meter
from runner.records import Timing, Usage

STEP = st.tuples(
    st.sampled_from(["w0", "w1", "w2"]),
    st.sampled_from(["completed", "failed", "expired"]),
    st.floats(0.001, 500),
    st.booleans(),
)


def _finish(meter: Meter, status: str, latency_s: float, now: float) -> None:
    meter.accept(now)
    meter.finished(status, Timing(0.0, 0.1, 0.2 + now, None, latency_s), Usage(input=7, output=3))
    meter.polls += 2
    meter.wire.update(requests=3, sent_bytes=700, received_bytes=int(latency_s))
    meter.poll_retries["429"] += 1


@given(st.lists(STEP, max_size=60))
def test_the_sum_of_all_is_what_one_process_would_have_counted(steps: Any) -> None:
    alone, merged = Meter(100), Meter(100)
    alone.begin(-1.0)
    merged.begin(-1.0)
    _finish(alone, "completed", 9.0, 1.0)
    _finish(merged, "completed", 9.0, 1.0)  # in an earlier session
    workers, merge = {name: Meter(0) for name in ("w0", "w1", "w2")}, Merge(merged)
    for meter in workers.values():
        meter.begin(-1.0)

    def tell(name: str) -> None:
        told = msgspec.msgpack.decode(msgspec.msgpack.encode(totals_of(workers[name])), type=Totals)
        merge.update(name, told)
        add_latencies(merged, take_latencies(workers[name]))

    for now, (name, status, latency_s, is_told) in enumerate(steps, start=2):
        _finish(alone, status, latency_s, now)
        _finish(workers[name], status, latency_s, now)
        if is_told:
            tell(name)
    for name in workers:
        tell(name)

    assert totals_of(merged) == totals_of(alone)
    assert merged.milestones.summary() == alone.milestones.summary()
    assert merged.latencies.completion.count == alone.latencies.completion.count
    assert merged.latencies.completion.quantile(95) == alone.latencies.completion.quantile(95)
    assert merged.latencies.completion.max_s == alone.latencies.completion.max_s


def test_counts_may_go_down_again() -> None:
    merged = Meter(10)
    merge = Merge(merged)
    for still_open in (3, 7, 0):
        merge.update("w", Totals(numbers={"open": still_open}))
        assert merged.open == still_open
    assert merge.last("w").numbers == {"open": 0}
    assert merge.last("another") == Totals()
