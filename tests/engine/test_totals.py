"""The figures of a run are the sum of what all its processes report; no counter is forgotten."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engine.messages import Report
from runner.engine.totals import Process, Totals
from runner.measure.counts import Counts, merged
from runner.measure.in_flight import InFlight, Miscount
from runner.measure.meter import Meter, take_latencies
from runner.measure.vitals import Fleet, WorkerVitals
from runner.records import Timing, Usage


class Run:
    """Totals of a run of 100 rows, of which earlier sessions finished 10."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.meter.counts.statuses["completed"] = 10
        self.in_flight = InFlight(total=100, finished=10, announced=4)
        self.fleet = Fleet()
        self.totals = Totals(self.meter, self.in_flight, self.fleet)


def report_of(counts: Counts | None = None, in_flight: InFlight | None = None, **more: Any) -> Report:
    """Return a report as it arrives from another process."""
    report = Report(
        counts=counts or Counts(),
        in_flight=in_flight or InFlight(),
        latencies=more.get("latencies", {}),
        loop_lag=more.get("loop_lag", ([], 0.0, 0.0)),
        vitals=more.get("vitals", WorkerVitals(0.0, 0, is_limited=False)),
        is_confirmed=True,
        answered_at_mono=0.0,
    )
    return msgspec.msgpack.decode(msgspec.msgpack.encode(report), type=Report)


def filled_counts() -> Counts:
    """Return counts in which no field has its default, whatever fields there are."""
    values: dict[str, Any] = {}
    for number, name in enumerate(Counts.__struct_fields__, start=1):
        default = getattr(Counts(), name)
        values[name] = Counter(key=number) if isinstance(default, Counter) else number
    return Counts(**values)


@pytest.mark.parametrize("name", Counts.__struct_fields__)
def test_no_counter_is_lost_on_the_way_from_the_workers_to_the_run(name: str) -> None:
    """A counter that nobody listed used to be lost when counts were merged; now its type says how."""
    run = Run()
    run.meter.counts = Counts()
    run.totals = Totals(run.meter, run.in_flight, run.fleet)
    one, two = filled_counts(), filled_counts()
    run.totals.take_in((0, 0), report_of(one))
    run.totals.take_in((1, 0), report_of(two))

    value, total = getattr(one, name), getattr(run.meter.counts, name)
    if isinstance(value, Counter):
        assert +total == {key: 2 * count for key, count in value.items()}
    elif name.startswith(("first_", "last_")):
        assert total == value
    else:
        assert total == 2 * value


@pytest.mark.parametrize("name", InFlight.__struct_fields__)
def test_each_count_of_rows_is_the_sum_over_workers_but_the_total_is_that_of_the_run(name: str) -> None:
    run = Run()
    base = getattr(run.in_flight, name)
    one = InFlight(**{field: number for number, field in enumerate(InFlight.__struct_fields__, start=1)})
    run.totals.take_in((0, 0), report_of(in_flight=one))
    run.totals.take_in((1, 0), report_of(in_flight=one))

    assert getattr(run.in_flight, name) == (100 if name == "total" else base + 2 * getattr(one, name))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 50)), max_size=20))
def test_a_report_replaces_the_one_before_of_the_same_process(reports: list[tuple[int, int, int]]) -> None:
    run = Run()
    last: dict[Process, int] = {}
    for number, generation, done in reports:
        last[number, generation] = done
        counts = Counts(statuses=Counter(completed=done))
        run.totals.take_in((number, generation), report_of(counts, InFlight(finished=done)))
        assert run.meter.done == 10 + sum(last.values())
        assert run.in_flight.finished == 10 + sum(last.values())


def test_latencies_and_lags_add_up_and_vitals_are_the_last() -> None:
    run, worker = Run(), Meter()
    for _ in range(2):
        worker.finished("completed", Timing(due=1.0, sent=1.0, accepted=1.5, pending=2.0, done=3.0), Usage())
        report = report_of(
            latencies=take_latencies(worker),
            loop_lag=([(7, 1)], 0.25, 0.25),
            vitals=WorkerVitals(cpu_s=100.0, rss_bytes=5 << 30, is_limited=True),
        )
        run.totals.take_in((0, 0), report)

    assert run.meter.latencies.completion.count == 2
    assert run.meter.latencies.completion.quantile(50.0) == pytest.approx(2.0, rel=0.001)
    assert run.fleet.loop_lag.count == 2
    assert 100.0 < run.fleet.cpu_s < 200.0
    assert run.fleet.rss_bytes > 5 << 30
    assert run.fleet.limited


def test_rows_of_an_earlier_session_are_counted_here_until_a_worker_has_them() -> None:
    run = Run()
    run.totals.take_in((0, 0), report_of(in_flight=InFlight(announced=1)))
    assert run.in_flight.announced == 5
    run.totals.hand_over(3)
    assert run.in_flight.announced == 2
    run.totals.take_back(2)
    assert run.in_flight.announced == 4
    with pytest.raises(Miscount):
        run.totals.hand_over(4)


def test_the_counts_that_a_process_reported_last_are_known_and_of_others_there_are_none() -> None:
    run = Run()
    counts = Counts(statuses=Counter(completed=3), polls=7)
    run.totals.take_in((1, 0), report_of(counts))

    assert run.totals.last((1, 0)) == merged([counts])
    assert run.totals.last((1, 1)) == Counts()


def test_in_the_end_the_files_decide_what_is_outstanding() -> None:
    run = Run()
    run.totals.take_in((0, 0), report_of(in_flight=InFlight(outstanding=5, announced=2, finished=1)))
    run.totals.settle(outstanding=7, announced=1)

    assert (run.in_flight.outstanding, run.in_flight.announced, run.in_flight.finished) == (7, 1, 11)
