"""A worker's session: it asks for rows, reports, gives rows back, and ends on command, in virtual time."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from runner.engine.messages import (
    Answered,
    Confirmed,
    Drain,
    Failing,
    Follow,
    GiveBack,
    Grant,
    Report,
    Say,
    Stop,
    WantRows,
    WorkerEnded,
    error_of,
)
from runner.engine.worker import FEW_ROWS, IDLE_REPORTS, LATENCIES_EVERY, REPORT_S
from runner.errors import EndpointUnreachable, KeyRefused, StorageError
from runner.policy.idempotency import idempotency_key
from runner.records import Job
from runner.session.shutdown import GRACE_S
from runner.store import Retraction, SessionStart
from runner.transport.fake import Behaviour, Fake, Script, throttled, transient, unauthorised
from tests.engine.desk import RUN_ID, Desk, with_worker
from tests.engine.session_worker import UNIX


def test_granted_rows_are_sent_polled_and_written_to_the_files_of_the_worker(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        await desk.until(WantRows)
        desk.tell(Grant(list(range(40, 60))))
        await desk.until_finished(20)
        desk.tell(Stop(forced=False))

    fake = Fake(Behaviour(takes_s=3.0))
    desk, _ = with_worker(tmp_path, fake, act)

    assert desk.events[-1][1] == WorkerEnded()
    assert desk.journal()[0] == SessionStart(at=UNIX, number=3)
    assert {path.name for path in tmp_path.glob("*.jsonl")} == {"journal-1.jsonl", "results-1.jsonl"}
    assert desk.recovery().done.count == 20
    assert len(fake.posts) == 20
    assert fake.is_closed
    last = desk.got(Report)[-1]
    assert last.counts.statuses["completed"] == last.counts.accepted == 20
    assert (last.in_flight.total, last.in_flight.finished, last.in_flight.taken) == (20, 20, 0)


def test_it_asks_for_more_rows_only_when_few_are_left_and_once_for_each_grant(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        await desk.until(WantRows)
        await asyncio.sleep(5.0)
        assert len(desk.got(WantRows)) == 1
        desk.tell(Grant(list(range(FEW_ROWS + 200))))
        await desk.until(WantRows, 2)
        assert len(fake.posts) > 150
        await asyncio.sleep(5.0)
        assert len(desk.got(WantRows)) == 2
        desk.tell(Stop(forced=True))

    fake = Fake(latency_s=0.1)
    with_worker(tmp_path, fake, act, submit={"concurrency": 2})


def test_it_reports_at_a_steady_rate_and_latencies_with_every_fifth_report(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant(list(range(500))))
        await desk.until_finished(500)
        desk.tell(Stop(forced=False))

    desk, ended_mono = with_worker(tmp_path, Fake(latency_s=0.2), act, submit={"concurrency": 20})

    assert len(desk.got(Report)) == pytest.approx(ended_mono / REPORT_S, abs=4)
    with_latencies = [bool(report.latencies) for report in desk.got(Report)]
    assert with_latencies[:LATENCIES_EVERY] == [False] * (LATENCIES_EVERY - 1) + [True]
    assert with_latencies[-1], "the last report has the rest of them"
    name = "latencies.completion"
    buckets = [bucket for report in desk.got(Report) for bucket in report.latencies.get(name, ([], 0, 0))[0]]
    assert sum(count for _, count in buckets) == 500


def test_the_first_confirmation_is_reported_at_once(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up(is_confirmed=False)
        desk.tell(Grant(list(range(100))))
        await asyncio.sleep(2.0)
        desk.tell(Stop(forced=True))

    fake = Fake(latency_s=0.33)
    desk, _ = with_worker(tmp_path, fake, act)

    confirmed_at = [at_mono for at_mono, it in desk.events if isinstance(it, Report) and it.is_confirmed]
    assert confirmed_at[0] == pytest.approx(0.33, abs=0.01), "not with the next report, at 0.4 s"
    assert [post.started_mono for post in fake.posts[:2]] == pytest.approx([0.0, 0.33], abs=0.01)


def test_until_the_service_is_confirmed_it_sends_one_request_and_then_freely(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up(is_confirmed=False)
        desk.tell(Grant(list(range(100))))
        await asyncio.sleep(0.5)
        assert len(fake.posts) == 1
        desk.tell(Confirmed())
        await asyncio.sleep(1.0)
        assert len(fake.posts) == 10
        desk.tell(Stop(forced=True))

    fake = Fake(latency_s=math.inf)
    with_worker(tmp_path, fake, act, submit={"concurrency": 20})


def test_rows_that_wait_for_a_slot_are_given_back_and_are_as_if_never_taken(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant(list(range(100))))
        given_back = await desk.until(GiveBack)
        assert given_back.rows == list(range(4, 100))
        report = await desk.until(Report, len(desk.got(Report)) + 1)
        assert (report.in_flight.total, report.in_flight.outstanding) == (4, 4)
        assert report.in_flight.slots_used == 4
        desk.tell(Stop(forced=True))

    fake = Fake(Behaviour(takes_s=math.inf))
    desk, _ = with_worker(tmp_path, fake, act, submit={"max_in_flight": 8, "concurrency": 8})

    assert desk.got_at(GiveBack)[0] == pytest.approx(IDLE_REPORTS * REPORT_S, abs=REPORT_S + 0.01)
    recovery = desk.recovery()
    assert (sorted(recovery.outstanding), recovery.unacknowledged) == ([0, 1, 2, 3], {})


def test_a_worker_that_sends_its_rows_slowly_keeps_them(tmp_path: Path) -> None:
    """Rows are taken from the feed many at a time, so that the feed rests while they are sent one by one."""

    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant(list(range(40))))
        await desk.until_finished(40)
        desk.tell(Stop(forced=False))

    desk, ended_mono = with_worker(tmp_path, Fake(latency_s=0.5), act, submit={"concurrency": 2})

    assert ended_mono > 20.0
    assert desk.got(GiveBack) == []
    assert not [entry for entry in desk.journal() if isinstance(entry, Retraction)]


def test_rows_that_were_perhaps_sent_before_are_sent_with_their_key_and_never_given_back(
    tmp_path: Path,
) -> None:
    async def losing(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant([0, 1]))
        await asyncio.sleep(1.0)
        desk.tell(Stop(forced=True))

    async def act(desk: Desk) -> None:
        desk.set_up(resumes=True)
        desk.tell(Grant([0, 1, 5, 6], before))
        assert (await desk.until(GiveBack)).rows == [5, 6]
        desk.tell(Stop(forced=True))

    desk, _ = with_worker(tmp_path, Fake(latency_s=math.inf), losing)
    before = desk.recovery().unacknowledged
    assert sorted(before) == [0, 1]
    fake = Fake(Behaviour(takes_s=math.inf))
    with_worker(tmp_path, fake, act, submit={"max_in_flight": 2, "concurrency": 2})
    assert [post.key for post in fake.posts] == [before[0].key]


def test_a_row_that_is_retried_gets_the_key_of_its_epoch(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant([7, 8], epochs={8: 2}))
        await desk.until_finished(2)
        desk.tell(Stop(forced=False))

    fake = Fake()
    with_worker(tmp_path, fake, act)

    bodies = [post.body for post in fake.posts]
    keys = [idempotency_key(RUN_ID, "row-7", 0, bodies[0]), idempotency_key(RUN_ID, "row-8", 2, bodies[1])]
    assert [post.key for post in fake.posts] == keys


def test_jobs_of_others_are_polled_and_finished(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        fake.service.submit(b"{}", "key", 0.0)
        job = Job(
            5, "row-5", "job-1", "m", due=1.0, sent=1.0, accepted=1_000_000.0, attempts=1, inherited=True
        )
        desk.set_up(resumes=True)
        desk.tell(Follow([job]))
        report = await desk.until_finished(1)
        assert (report.in_flight.total, report.in_flight.outstanding) == (1, 0)
        desk.tell(Stop(forced=False))

    fake = Fake(Behaviour(takes_s=4.0))
    desk, _ = with_worker(tmp_path, fake, act)

    assert 5 in desk.recovery().done
    assert fake.posts == []


def test_in_a_drain_nothing_more_is_sent_and_open_jobs_are_waited_for(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant(list(range(100))))
        await asyncio.sleep(1.0)
        desk.tell(Drain())

    fake = Fake(Behaviour(takes_s=6.0))
    desk, ended_mono = with_worker(tmp_path, fake, act, submit={"max_in_flight": 10, "concurrency": 10})

    assert ended_mono == pytest.approx(7.0, abs=1.5)
    assert len(fake.posts) == desk.recovery().done.count == 5
    assert desk.events[-1][1] == WorkerEnded(), "what ended it is known to the coordinator"


def test_what_is_open_when_the_drain_ends_is_reported_as_outstanding(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant(list(range(5))))
        await asyncio.sleep(1.0)
        desk.tell(Drain())

    fake = Fake(Behaviour(takes_s=math.inf))
    desk, ended_mono = with_worker(tmp_path, fake, act, limits={"drain_s": 3})

    assert ended_mono == pytest.approx(4.0, abs=0.1)
    assert desk.got(Report)[-1].in_flight.outstanding == 5


@pytest.mark.parametrize(("forced", "ends_mono"), [(False, 1.0 + GRACE_S), (True, 1.0)])
def test_a_stop_ends_it_within_the_grace_for_open_exchanges_or_at_once(
    tmp_path: Path, forced: bool, ends_mono: float
) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant(list(range(5))))
        await asyncio.sleep(1.0)
        desk.tell(Stop(forced=forced))

    fake = Fake(latency_s=math.inf)
    desk, ended_mono = with_worker(tmp_path, fake, act)

    assert ended_mono == pytest.approx(ends_mono, abs=0.01)
    assert desk.got(Report)[-1].in_flight.announced == 5
    assert len(desk.recovery().unacknowledged) == 5


def test_when_the_coordinator_is_gone_it_ends_at_once(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant(list(range(5))))
        await asyncio.sleep(1.0)
        await desk._channel.close()

    _, ended_mono = with_worker(tmp_path, Fake(latency_s=math.inf), act)
    assert ended_mono == pytest.approx(1.0, abs=0.01)


def test_an_error_is_reported_at_once_and_again_when_open_exchanges_have_ended(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant(list(range(2))))

    fake = Fake(
        script=Script(submit={1: unauthorised()}), latency_s=lambda it: 0.5 if it.number == 1 else 1.5
    )
    desk, ended_mono = with_worker(tmp_path, fake, act)

    failing, end = desk.got(Failing)[0], desk.got(WorkerEnded)[0]
    assert isinstance(error_of(failing), KeyRefused)
    assert error_of(failing).problems == error_of(end).problems
    assert desk.got_at(Failing)[0] == pytest.approx(0.5, abs=0.01)
    assert ended_mono == pytest.approx(1.5, abs=0.01)
    assert list(desk.recovery().outstanding) == [1], "the answer that was on its way is kept"


@pytest.mark.parametrize("others_are_answered", [False, True])
def test_failures_of_all_its_rows_are_no_outage_while_others_are_answered(
    tmp_path: Path, others_are_answered: bool
) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant(list(range(5))))
        for _ in range(40):
            await asyncio.sleep(1.0)
            if others_are_answered:
                desk.tell(Answered(asyncio.get_running_loop().time()))
        desk.tell(Stop(forced=True))

    fake = Fake(script=Script(submit=lambda _: transient("500")))
    desk, _ = with_worker(
        tmp_path, fake, act, limits={"max_outage_s": 20}, submit={"retry": {"max_attempts": 99}}
    )

    errors = [error_of(event) for event in desk.got(Failing)]
    assert [type(error) for error in errors] == ([] if others_are_answered else [EndpointUnreachable])


def test_lines_for_the_user_go_to_the_coordinator(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.set_up()
        desk.tell(Grant([0]))
        said = await desk.until(Say)
        assert said.text.startswith("waiting 30 s, as the service asks")
        desk.tell(Stop(forced=True))

    with_worker(tmp_path, Fake(script=Script(submit={1: throttled(wait_s=30.0)})), act)


def test_files_that_cannot_be_opened_end_it_with_a_storage_error(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        (tmp_path / "journal-1.jsonl").mkdir()
        desk.set_up()

    desk, _ = with_worker(tmp_path, Fake(), act)

    assert [type(event) for _, event in desk.events] == [WorkerEnded]
    assert isinstance(error_of(desk.got(WorkerEnded)[0]), StorageError)
