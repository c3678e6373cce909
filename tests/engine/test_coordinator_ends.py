"""How a session of several workers ends: complete, drained, stopped or forced; the counts are right."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from runner.engine.coordinator import LATE_S, Coordinator
from runner.engine.messages import Drain, Failing, Grant, Setup, Stop, problems_of
from runner.errors import EndpointUnreachable, Interrupted, KeyRefused, Problem, StorageError
from runner.session.shutdown import GRACE_S
from tests.engine.coordinating import coordinate, make_task
from tests.engine.crew import Crew, Steady, hang
from tests.engine.fake_worker import FakeWorker


def interrupt(engine: Coordinator) -> None:
    engine.shutdown.signal(signal.SIGINT)


def test_when_every_row_has_its_result_all_workers_are_stopped_in_order(tmp_path: Path) -> None:
    crew = Crew()
    coordinate(make_task(tmp_path), crew).assert_complete()

    for worker in crew.workers:
        assert worker.got(Stop) == [Stop(forced=False)]
        assert worker.got(Drain) == []
        assert worker.is_closed
        assert worker.was_killed, "harmless after its end"


def test_a_first_signal_drains_all_workers_and_nothing_more_is_granted(tmp_path: Path) -> None:
    crew = Crew(then=Steady(takes_s=4.0, slots=3))
    task = make_task(tmp_path, rows=600)
    ran = coordinate(task, crew, (2.0, interrupt))

    assert isinstance(ran.ended_by, Interrupted)
    assert ran.took_s == pytest.approx(4.0, abs=0.3), "no longer than the jobs that are open"
    assert ran.said == [
        "SIGINT: nothing more is sent; waiting at most 30 s for 6 open jobs (Ctrl-C: stop at once)"
    ]
    for worker in crew.workers:
        assert len(worker.got(Drain)) == 1
        assert max(worker.got_at(Grant)) < 2.0
    assert task.history.in_flight.outstanding == 0
    assert task.history.in_flight.finished == ran.rows_on_record().total() == 6


def test_what_is_open_when_the_drain_ends_is_counted(tmp_path: Path) -> None:
    task = make_task(tmp_path, rows=600, limits={"drain_s": 5})
    ran = coordinate(task, Crew(then=Steady(takes_s=1000.0, slots=7)), (2.0, interrupt))

    assert isinstance(ran.ended_by, Interrupted)
    assert ran.took_s == pytest.approx(7.0, abs=0.1)
    assert task.history.in_flight.outstanding == 14
    assert task.history.in_flight.unsent == 600 - 14


def test_a_second_signal_ends_all_workers_at_once(tmp_path: Path) -> None:
    crew = Crew(then=Steady(takes_s=1000.0))
    task = make_task(tmp_path, limits={"drain_s": 3000})
    ran = coordinate(task, crew, (2.0, interrupt), (3.0, lambda it: it.shutdown.signal(signal.SIGTERM)))

    assert str(ran.ended_by) == "interrupted by SIGINT", "the first signal began the end"
    assert ran.took_s == pytest.approx(3.0, abs=0.1)
    assert all(worker.got(Stop)[0].forced for worker in crew.workers)
    assert task.history.in_flight.outstanding == 20


def test_a_worker_that_hangs_at_the_end_is_killed_and_its_results_are_counted_from_its_files(
    tmp_path: Path,
) -> None:
    async def hanging(worker: FakeWorker) -> None:
        rows = await worker.rows()
        worker.post(*rows)
        worker.accept(*rows)
        worker.finish(*rows[:5])
        await hang(worker)

    crew = Crew(hanging, Steady(takes_s=1000.0, slots=4))
    task = make_task(tmp_path, rows=200)
    ran = coordinate(task, crew, (2.0, interrupt), (3.0, interrupt))

    first, other = crew.workers
    assert ran.took_s == pytest.approx(3.0 + LATE_S, abs=0.1)
    assert first.was_killed
    assert not first.is_closed
    assert other.is_closed
    assert task.history.in_flight.finished == ran.rows_on_record().total() == 5
    assert task.history.in_flight.outstanding == len(first.granted) - 5 + 4
    assert task.history.meter.done == 5


def test_a_worker_may_need_its_grace_and_the_time_that_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    async def slow_to_end(worker: FakeWorker) -> None:
        await worker.rows()
        worker.send(failing(StorageError(Problem("no room"))))
        await asyncio.sleep(GRACE_S + 10.0 + LATE_S - 0.1)

    task = make_task(tmp_path, limits={"drain_s": 10})
    ran = coordinate(task, Crew(slow_to_end))

    assert isinstance(ran.ended_by, StorageError)
    assert ran.took_s == pytest.approx(GRACE_S + 10.0 + LATE_S - 0.1, abs=0.01)
    assert ran.crew.workers[0].is_closed


def failing(error: KeyRefused | StorageError) -> Failing:
    return Failing(type(error).__name__, problems_of(error))


def test_an_error_of_one_worker_stops_all_at_once_and_is_reported_as_it_is(tmp_path: Path) -> None:
    error = KeyRefused(Problem("the service refuses the API key", "HTTP 401", "check the key"))

    async def refused(worker: FakeWorker) -> None:
        await worker.rows()
        worker.send(failing(error))
        await asyncio.sleep(1.5)  # for its open exchanges
        raise error

    crew = Crew(refused, Steady())
    ran = coordinate(make_task(tmp_path), crew)

    assert isinstance(ran.ended_by, KeyRefused)
    assert ran.ended_by.problems == error.problems
    assert crew.workers[1].got_at(Stop) == [0.0]
    assert ran.took_s == pytest.approx(1.5, abs=0.1)
    assert crew.workers[1].got(Grant) == []


def test_of_several_errors_only_the_first_is_reported(tmp_path: Path) -> None:
    async def failing_at_once(worker: FakeWorker) -> None:
        raise EndpointUnreachable(Problem("nobody answers", "here"))

    ran = coordinate(make_task(tmp_path, workers=3), Crew(then=failing_at_once))

    assert isinstance(ran.ended_by, EndpointUnreachable)
    assert len(ran.ended_by.problems) == 1
    assert ran.said == []


def test_the_time_limit_holds_for_all_workers(tmp_path: Path) -> None:
    task = make_task(tmp_path, rows=10_000, limits={"max_s": 7})
    ran = coordinate(task, Crew(then=Steady(takes_s=2.0)))

    assert "limits.max_s 7: the time limit is reached" in str(ran.ended_by)
    assert ran.took_s == pytest.approx(8.0, abs=0.3)
    assert task.history.in_flight.outstanding == 0


def test_a_limit_that_was_reached_before_sends_nothing(tmp_path: Path) -> None:
    ran = coordinate(make_task(tmp_path), Crew(then=Steady(status="failed")))
    ran.assert_complete()
    task = make_task(tmp_path, rows=200, limits={"max_failures": 5})
    crew = Crew()
    ran = coordinate(task, crew)

    assert "limits.max_failures 5" in str(ran.ended_by)
    assert [worker.granted for worker in crew.workers] == [[], []]


def test_a_signal_while_workers_are_started_reaches_those_that_start_later(tmp_path: Path) -> None:
    late = FakeWorker(Steady(), start_s=2.0)
    crew = Crew(Steady(), late)
    ran = coordinate(make_task(tmp_path), crew, (1.0, interrupt))

    assert isinstance(ran.ended_by, Interrupted)
    assert [type(command) for _, command in late.commands] == [Setup, Drain]
    assert late.is_closed


def test_a_worker_that_cannot_be_started_stops_the_run_and_open_jobs_are_still_counted(
    tmp_path: Path,
) -> None:
    crew = Crew(then=Steady(takes_s=1e6))
    interrupted = coordinate(make_task(tmp_path), crew, (1.0, interrupt), (2.0, interrupt))
    assert interrupted.task.history.in_flight.outstanding == 20
    task = make_task(tmp_path)
    crew = Crew(Steady(takes_s=1e6), FakeWorker(Steady(), fault="no more processes"))
    ran = coordinate(task, crew)

    assert str(ran.ended_by) == "no more processes"
    assert crew.workers[0].is_closed
    assert crew.workers[0].got(Stop)
    assert (task.history.in_flight.outstanding, task.history.in_flight.unsent) == (20, 80)
    assert ran.said == []


def test_what_runs_beside_the_session_ends_with_it_and_its_error_stops_the_workers(tmp_path: Path) -> None:
    async def full_disk() -> None:
        await asyncio.sleep(3.0)
        raise StorageError(Problem("no room", "metrics.jsonl"))

    task, crew = make_task(tmp_path, rows=10_000), Crew()
    ran = coordinate(task, crew, beside=full_disk)

    assert isinstance(ran.ended_by, StorageError)
    assert ran.took_s == pytest.approx(3.0, abs=0.1)
    assert all(worker.is_closed for worker in crew.workers)


def test_a_defect_beside_the_session_ends_it_in_order(tmp_path: Path) -> None:
    async def defective() -> None:
        raise KeyError("nobody thought of this")

    ran = coordinate(make_task(tmp_path), Crew(), beside=defective)

    assert "a defect of this program: KeyError('nobody thought of this')" in str(ran.ended_by)
    assert "Traceback" in ran.said[0]
