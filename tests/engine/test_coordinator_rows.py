"""Which worker gets which rows, and when: on demand, and never more than the budget allows."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.engine.coordinator import JOBS_PER_MESSAGE, PASS_ON_S
from runner.engine.messages import AllGranted, Answered, Confirmed, Follow, GiveBack, Grant, Say, WantRows
from runner.errors import LimitReached
from runner.records import Usage
from runner.store import Acceptance, Intent, Journal, SessionStart
from tests.engine.coordinating import coordinate, make_task
from tests.engine.crew import Crew, Steady
from tests.engine.fake_worker import FakeWorker


def test_workers_get_rows_as_they_ask_and_each_row_ends_once(tmp_path: Path) -> None:
    crew = Crew(Steady(slots=5), Steady(slots=20), Steady(slots=10))
    ran = coordinate(make_task(tmp_path, rows=400, workers=3), crew)

    ran.assert_complete()
    slow, fast, middle = (len(worker.granted) for worker in crew.workers)
    assert slow < middle < fast
    assert slow + middle + fast == 400
    assert not ran.said


@settings(max_examples=10)
@given(
    rows=st.integers(1, 300),
    speeds=st.lists(st.tuples(st.sampled_from([0.05, 0.3, 2.0]), st.integers(1, 40)), min_size=1, max_size=4),
)
def test_whatever_the_speeds_each_row_goes_to_one_worker(
    tmp_path_factory: pytest.TempPathFactory, rows: int, speeds: list[tuple[float, int]]
) -> None:
    crew = Crew(*(Steady(takes_s, slots) for takes_s, slots in speeds))
    task = make_task(tmp_path_factory.mktemp("runs"), rows, len(speeds))
    ran = coordinate(task, crew)

    ran.assert_complete()
    assert sorted(row for worker in crew.workers for row in worker.granted) == list(range(rows))


def test_until_the_service_is_confirmed_only_the_first_worker_gets_rows(tmp_path: Path) -> None:
    async def careful(worker: FakeWorker) -> None:
        rows = await worker.rows()
        await asyncio.sleep(5.0)
        worker.post(*rows)
        worker.accept(*rows)
        await Steady()(worker)

    crew = Crew(careful, Steady(), Steady())
    coordinate(make_task(tmp_path, workers=3), crew, (7.0, lambda engine: engine.shutdown.end()))

    first, *others = crew.workers
    assert first.got_at(Grant)[0] == 0.0
    for other in others:
        assert other.got_at(Confirmed)[0] == pytest.approx(5.0)
        assert other.got_at(Grant)[0] == pytest.approx(5.0)


def test_a_worker_that_never_asks_gets_nothing_and_the_others_do_its_part(tmp_path: Path) -> None:
    crew = Crew(Steady(), FakeWorker.stopped)
    ran = coordinate(make_task(tmp_path), crew)

    ran.assert_complete()
    assert crew.workers[1].granted == []


def test_rows_that_are_given_back_go_to_a_worker_that_waits_for_some(tmp_path: Path) -> None:
    async def without_slots(worker: FakeWorker) -> None:
        rows = await worker.rows()
        worker.answered()
        await asyncio.sleep(30.0)
        worker.in_flight.revoke(len(rows))
        worker.send(GiveBack(rows))
        await worker.stopped()

    crew = Crew(without_slots, Steady())
    ran = coordinate(make_task(tmp_path, rows=20), crew)

    first, other = crew.workers
    ran.assert_complete()
    assert set(first.granted) < set(other.granted) == set(range(20))
    assert len(other.granted) == 20
    assert ran.took_s < 33.0


def test_all_workers_learn_when_all_rows_are_granted_and_again_after_some_were_given_back(
    tmp_path: Path,
) -> None:
    async def giving_back(worker: FakeWorker) -> None:
        rows = await worker.rows()
        worker.answered()
        await asyncio.sleep(20.0)
        worker.in_flight.revoke(len(rows))
        worker.send(GiveBack(rows))
        worker.send(WantRows())
        await Steady()(worker)

    crew = Crew(giving_back, Steady(slots=100))
    coordinate(make_task(tmp_path, rows=50), crew).assert_complete()

    for worker in crew.workers:
        before, after = worker.got_at(AllGranted)
        assert before < 19.9 < after


def test_a_worker_that_gave_rows_back_gets_none_before_it_asks_again(tmp_path: Path) -> None:
    async def full(worker: FakeWorker) -> None:
        rows = await worker.rows()
        worker.answered()
        worker.send(WantRows())
        worker.send(GiveBack(rows))
        await worker.stopped()

    crew = Crew(full, FakeWorker.stopped)
    coordinate(make_task(tmp_path, rows=200), crew, (1.0, lambda engine: engine.shutdown.end()))

    assert len(crew.workers[0].got(Grant)) == 2, "one for each time that it asked"


def test_before_the_cost_of_a_request_is_known_few_rows_are_granted(tmp_path: Path) -> None:
    task = make_task(tmp_path, rows=1000, prices={"output": 1e6}, limits={"max_cost_usd": 1000})
    crew = Crew(then=Steady(slots=500))
    coordinate(task, crew, (0.9, lambda engine: engine.shutdown.end()))

    assert sum(len(worker.granted) for worker in crew.workers) == 20


def test_the_budget_is_one_for_all_workers(tmp_path: Path) -> None:
    task = make_task(tmp_path, rows=1000, workers=3, prices={"output": 1e6}, limits={"max_cost_usd": 200})
    ran = coordinate(task, Crew(then=Steady(slots=50, usage=Usage(output=1))))

    assert isinstance(ran.ended_by, LimitReached)
    assert "limits.max_cost_usd" in str(ran.ended_by)
    assert 180 <= task.history.meter.done <= 200
    assert task.history.in_flight.outstanding == 0
    assert len([line for line in ran.said if "nothing more is sent" in line]) == 1


def test_failures_are_counted_over_all_workers(tmp_path: Path) -> None:
    task = make_task(tmp_path, rows=1000, workers=3, limits={"max_failures": 40})
    ran = coordinate(task, Crew(then=Steady(status="failed")))

    assert "limits.max_failures 40" in str(ran.ended_by)
    assert 40 <= task.history.meter.statuses["failed"] < 100, "those in flight come on top"


def test_an_answer_to_one_worker_is_passed_on_to_all_but_not_too_often(tmp_path: Path) -> None:
    crew = Crew(Steady(takes_s=0.1), FakeWorker.stopped)
    ran = coordinate(make_task(tmp_path, rows=500), crew)

    came_at = crew.workers[1].got_at(Answered)
    assert len(came_at) > 3
    assert all(later - earlier > PASS_ON_S for earlier, later in pairwise(came_at))
    assert ran.took_s - came_at[-1] < 1.0


def leave_behind(path: Path, accepted: int, announced: int) -> None:
    """Write what a session left that was killed: some jobs accepted, then some rows announced."""
    journal = Journal(path / "journal.jsonl")
    journal.write(SessionStart(at=1.0, number=0))
    for row in range(accepted + announced):
        journal.write(Intent(row=row, custom_id=f"row-{row}", key=f"key-{row}", due=1.0, at=1.0))
        if row < accepted:
            journal.write(Acceptance(row=row, job=f"job-{row}", kind="m", attempts=1, at=1.0))
    journal.log.close()


def test_jobs_of_an_earlier_session_are_divided_among_the_workers(tmp_path: Path) -> None:
    make_task(tmp_path, rows=5000)
    leave_behind(tmp_path, accepted=3000, announced=0)
    task = make_task(tmp_path, rows=5000)
    assert (task.session, task.resumes) == (1, True)
    crew = Crew(then=Steady(slots=3000))
    ran = coordinate(task, crew)

    ran.assert_complete()
    assert [len(worker.followed) for worker in crew.workers] == [1500, 1500]
    assert [len(it.jobs) for it in crew.workers[0].got(Follow)] == [JOBS_PER_MESSAGE, 500]
    assert {row for worker in crew.workers for row in worker.followed} == set(range(3000))
    assert all(row >= 3000 for worker in crew.workers for row in worker.granted)
    assert all((it.setup.session, it.setup.resumes) == (1, True) for it in crew.workers)


def test_a_row_that_was_perhaps_sent_is_handed_over_with_its_key_and_counts_once(tmp_path: Path) -> None:
    make_task(tmp_path, rows=50)
    leave_behind(tmp_path, accepted=2, announced=3)
    task = make_task(tmp_path, rows=50)
    assert task.history.in_flight.announced == 3
    seen: list[int] = []

    async def careful(worker: FakeWorker) -> None:
        await worker.rows()
        worker.send(Say("they are mine now"))
        await asyncio.sleep(0)  # the coordinator hears it
        seen.append(task.history.in_flight.announced)
        await worker.stopped()

    crew = Crew(careful, Steady())
    coordinate(task, crew, (3.0, lambda engine: engine.shutdown.end()))

    grant = crew.workers[0].got(Grant)[0]
    assert {row: it.key for row, it in grant.unacknowledged.items()} == {2: "key-2", 3: "key-3", 4: "key-4"}
    assert seen == [0], "this worker counts them from then on"


def test_the_epoch_of_a_row_that_is_retried_goes_with_its_grant(tmp_path: Path) -> None:
    task = make_task(tmp_path, rows=10)
    task.history.recovery.epochs[3] = 2
    crew = Crew(then=Steady())
    coordinate(task, crew).assert_complete()

    epochs = [grant.epochs for worker in crew.workers for grant in worker.got(Grant) if grant.epochs]
    assert epochs == [{3: 2}]
