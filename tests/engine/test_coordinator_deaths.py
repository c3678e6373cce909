"""Workers that die: another process takes over what they left, and each row still ends and counts once."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.engine.coordinator import MOST_DEATHS
from runner.engine.messages import Grant, WantRows
from runner.engine.totals import Process, Totals
from runner.errors import Interrupted, StoppedEarly
from runner.measure.counts import Counts
from runner.measure.in_flight import InFlight
from tests.engine.coordinating import coordinate, make_task
from tests.engine.crew import Crew, Dying, Steady
from tests.engine.fake_worker import Death, FakeWorker


async def leaving_some_of_each(worker: FakeWorker) -> None:
    """Leave rows in each state: finished, accepted, announced, and only granted; the last report is older."""
    rows = await worker.rows()
    worker.post(*rows[:9])
    worker.accept(*rows[:6])
    worker.report()
    worker.finish(*rows[:3])
    await asyncio.sleep(1.0)
    raise Death("SIGKILL")


def test_a_successor_polls_what_was_accepted_and_sends_the_rest_first(tmp_path: Path) -> None:
    crew = Crew(leaving_some_of_each, Steady())
    task = make_task(tmp_path, rows=200)
    ran = coordinate(task, crew)

    ran.assert_complete()
    dead, other, successor = crew.workers
    rows = dead.granted
    assert len(rows) > 10
    assert ran.said == ["worker 0 died (SIGKILL): another process continues with its rows"]
    assert dead.is_closed
    assert successor.setup.worker == 0
    assert successor.setup.resumes
    assert successor.setup.is_confirmed
    assert successor.followed == rows[3:6]
    assert successor.granted[: len(rows) - 6] == rows[6:]
    unacknowledged = successor.got(Grant)[0].unacknowledged
    assert {row: it.key for row, it in unacknowledged.items()} == {row: f"key-{row}" for row in rows[6:9]}
    assert not set(other.granted) & set(rows)


def test_results_that_were_not_reported_before_a_death_are_counted_once(tmp_path: Path) -> None:
    crew = Crew(leaving_some_of_each, Steady())
    task = make_task(tmp_path, rows=200)
    coordinate(task, crew).assert_complete()

    assert crew.workers[0].heard is not None
    assert crew.workers[0].heard.counts.statuses["completed"] == 0
    meter = task.history.meter
    assert meter.statuses == {**dict.fromkeys(meter.statuses, 0), "completed": 200}
    assert meter.counts.spanned == 3, "their latencies died with the worker"


def test_while_nobody_has_taken_over_nothing_is_counted_twice_or_lost(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    async def watch() -> None:
        while True:
            seen.append((task.history.in_flight.finished, task.history.in_flight.announced))
            await asyncio.sleep(0.005)

    late = FakeWorker(Steady(), start_s=5.0)
    task = make_task(tmp_path, rows=200)
    coordinate(task, Crew(leaving_some_of_each, FakeWorker.stopped, late), beside=watch).assert_complete()

    finished = [count for count, _ in seen]
    assert finished == sorted(finished)
    assert max(announced for _, announced in seen) == 3
    assert (3, 3) in seen


@settings(max_examples=10)
@given(
    lives=st.lists(st.floats(0.0, 20.0), max_size=MOST_DEATHS),
    takes_s=st.sampled_from([0.1, 1.0, 3.0]),
    workers=st.integers(1, 3),
)
def test_whenever_workers_die_each_row_ends_once_and_the_counts_are_those_of_the_files(
    tmp_path_factory: pytest.TempPathFactory, lives: list[float], takes_s: float, workers: int
) -> None:
    pace = Steady(takes_s)
    crew = Crew(*(Dying(life_s, pace=pace) for life_s in lives), then=pace)
    ran = coordinate(make_task(tmp_path_factory.mktemp("runs"), 150, max(workers, 2)), crew)

    ran.assert_complete()


def test_after_too_many_deaths_the_run_stops_and_its_open_jobs_are_counted(tmp_path: Path) -> None:
    crew = Crew(Steady(takes_s=1e6), then=Dying(2.0, "exit code 1", Steady(takes_s=1e6)))
    task = make_task(tmp_path, rows=500)
    ran = coordinate(task, crew)

    assert isinstance(ran.ended_by, StoppedEarly)
    assert f"worker 1 died (exit code 1), as {MOST_DEATHS} did before it" in str(ran.ended_by)
    assert len(crew.workers) == 2 + MOST_DEATHS
    assert len(ran.said) == MOST_DEATHS
    assert ran.took_s == pytest.approx(2.0 * (MOST_DEATHS + 1), abs=0.1)
    assert task.history.in_flight.outstanding == 20


def test_a_worker_that_dies_in_a_drain_is_neither_replaced_nor_waited_for(tmp_path: Path) -> None:
    crew = Crew(Dying(3.0, pace=Steady(takes_s=1e6)), Steady(takes_s=6.0))
    task = make_task(tmp_path, rows=500, limits={"drain_s": 3000})
    ran = coordinate(task, crew, (2.0, lambda engine: engine.shutdown.signal(signal.SIGINT)))

    assert isinstance(ran.ended_by, Interrupted)
    assert ran.took_s == pytest.approx(6.0, abs=0.5), "the other one was waited for"
    assert len(crew.workers) == 2
    assert task.history.in_flight.finished == ran.rows_on_record().total() == 10
    assert task.history.in_flight.outstanding == 10


def test_a_successor_that_cannot_be_started_stops_the_run_with_right_counts(tmp_path: Path) -> None:
    crew = Crew(leaving_some_of_each, FakeWorker.stopped, FakeWorker(Steady(), fault="no more processes"))
    task = make_task(tmp_path, rows=200)
    ran = coordinate(task, crew)

    assert str(ran.ended_by) == "no more processes"
    in_flight = task.history.in_flight
    assert (in_flight.finished, in_flight.outstanding, in_flight.announced) == (3, 3, 3)


def test_rows_granted_in_the_moment_of_a_death_are_not_lost(tmp_path: Path) -> None:
    async def asking_with_its_last_breath(worker: FakeWorker) -> None:
        worker.answered()
        await worker.rows()
        worker.send(WantRows())
        raise Death("SIGSEGV")

    crew = Crew(asking_with_its_last_breath, Steady())
    coordinate(make_task(tmp_path, rows=300), crew).assert_complete()


def test_counts_change_on_the_event_loop_alone_however_long_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[threading.Thread] = set()
    replace = Totals.replace

    def noted(totals: Totals, process: Process, counts: Counts, in_flight: InFlight) -> None:
        threads.add(threading.current_thread())
        replace(totals, process, counts, in_flight)

    monkeypatch.setattr(Totals, "replace", noted)
    coordinate(make_task(tmp_path, rows=200), Crew(Dying(2.0), Steady())).assert_complete()

    assert threads == {threading.main_thread()}
