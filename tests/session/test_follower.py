"""What is polled, and when: by due time, within bounds, sooner on demand, given up only for good reasons."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from runner.records import Job
from runner.session.follower import ABSENCE_S, MOST_REPLANNED, was_watched
from runner.session.turnstile import AFTER_AN_EVENT, NotBefore
from runner.transport.fake import done, throttled, transient
from tests.session.pings import Pings, accepted_now, following
from tests.session.support import UNIX


def test_what_is_due_first_is_polled_first_and_nothing_before_its_time(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        assert pings.take(0.0) is AFTER_AN_EVENT
        jobs = []
        for row, gap_s in ((0, 30.0), (1, 10.0), (2, 20.0)):
            pings.gap_s = gap_s
            jobs.append(pings.add(accepted_now(row)))
        pings.gap_s = 0.0  # the strategy is asked once more at the due time
        assert pings.take(9.9) == NotBefore(10.0)
        assert [pings.take(at_mono) for at_mono in (10.0, 20.0, 30.0)] == [jobs[1], jobs[2], jobs[0]]
        assert pings.take(30.0) is AFTER_AN_EVENT
        assert pings.late_s == [0.0] * 3

    following(tmp_path, work)


def test_a_waiting_worker_is_woken_when_something_is_due_sooner_than_all_before(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        for gap_s, calls in ((30.0, 1), (40.0, 1), (20.0, 2)):
            pings.gap_s = gap_s
            pings.add(accepted_now(0))
            assert pings.due.count == calls

    following(tmp_path, work)


def test_a_pending_job_is_polled_again_as_the_strategy_says_and_counted_each_time(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.gap_s = 5.0
        job = pings.add(accepted_now(0))
        assert [await pings.poll_when_due() for _ in range(3)] == [5.0, 10.0, 15.0]
        assert await pings.poll_when_due(done("job-0")) == 20.0
        assert pings.ended == [(0, "completed", None)]
        assert (job.polls, pings.meter.counts.polls) == (4, 4)
        assert job.pending == UNIX + 15.0
        assert pings.take(1e9) is AFTER_AN_EVENT

    following(tmp_path, work)


def test_the_strategy_is_asked_again_when_a_poll_is_due_and_may_postpone_it(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.add(accepted_now(0))
        pings.gap_s = 100.0
        assert pings.take(2.0) == NotBefore(100.0)
        assert isinstance(pings.take(100.0), Job)

    following(tmp_path, work)


def test_jobs_that_are_postponed_all_at_once_are_asked_about_in_bounded_portions(
    tmp_path: Path,
) -> None:
    async def work(pings: Pings) -> None:
        for row in range(3 * MOST_REPLANNED):
            pings.add(accepted_now(row))
        pings.gap_s, pings.asked = 100.0, 0
        for turn in range(1, 4):
            assert pings.take(2.0) == NotBefore(1.0 if turn < 3 else 100.0)
            assert pings.asked == turn * MOST_REPLANNED
        assert pings.take(2.0) == NotBefore(100.0)

    following(tmp_path, work)


def test_nothing_is_polled_while_the_gate_is_closed(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        for row in range(3):
            pings.add(accepted_now(row))
        await pings.poll_when_due(throttled(30.0))
        assert pings.take(10.0) == NotBefore(31.0)
        assert await pings.poll_when_due() == pytest.approx(31.05)  # by the pace that was learned

    following(tmp_path, work)


def test_an_expedited_job_is_polled_next_however_far_off_its_poll_is(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.gap_s = 1000.0
        jobs = [pings.add(accepted_now(row)) for row in range(5)]
        calls = pings.due.count
        pings.expedite(jobs[3])
        assert pings.due.count == calls + 1
        assert pings.next() is jobs[3]
        assert pings.take(0.0) == NotBefore(1000.0)

    following(tmp_path, work)


def test_a_job_that_is_expedited_twice_is_polled_once(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.gap_s = 1000.0
        jobs = [pings.add(accepted_now(row)) for row in range(2)]
        pings.expedite(jobs[0])
        pings.expedite(jobs[0])
        assert pings.next() is jobs[0]
        assert pings.take(0.0) == NotBefore(1000.0)
        await pings.poll(jobs[0])
        assert pings.take(999.0) == NotBefore(1000.0), "what it was to be polled at first is forgotten"

    following(tmp_path, work)


def test_a_job_that_is_expedited_while_it_is_being_polled_is_polled_directly_again(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.gap_s = 1000.0
        job = pings.add(accepted_now(0))
        pings.expedite(job)
        assert pings.next() is job
        pings.expedite(job)
        pings.expedite(job)
        assert pings.take(0.0) is AFTER_AN_EVENT, "never two polls of one job at once"
        await pings.poll(job)
        assert pings.next() is job
        await pings.poll(job)
        assert pings.take(0.0) == NotBefore(1000.0)

    following(tmp_path, work)


def test_after_a_failed_poll_the_wait_grows_whatever_the_strategy_says(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.add(accepted_now(0))
        times = [await pings.poll_when_due(transient("503")) for _ in range(8)]
        pings.asked = 0
        assert times[0] == 1.0
        gaps_s = [later - earlier for earlier, later in pairwise(times)]
        for failures, gap_s in enumerate(gaps_s, start=1):
            assert 0.0 <= gap_s <= 2.0 ** (failures - 1)
        assert max(gaps_s) > 8.0
        assert pings.asked == 0
        assert pings.meter.counts.poll_retries == {"503": 8}

    following(tmp_path, work, submit={"retry": {"base_s": 1.0}}, limits={"max_outage_s": 1e6})


def test_a_wait_that_the_service_asks_for_postpones_the_job(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.add(accepted_now(0))
        await pings.poll_when_due(transient("503", wait_s=120.0))
        assert 121.0 <= await pings.poll_when_due() <= 122.0

    following(tmp_path, work, submit={"retry": {"base_s": 1.0}})


@pytest.mark.parametrize(
    ("polled_s", "inherited", "pending", "expected"),
    [
        (10.0, False, None, True),
        (10.0 + ABSENCE_S, False, None, False),
        (10.0, True, None, False),
        (10.0, True, UNIX + 5.0, True),
    ],
    ids=["in time", "after an absence", "first poll of an earlier session's", "second poll of it"],
)
def test_only_a_poll_at_its_time_shows_when_a_job_ended(
    polled_s: float, inherited: bool, pending: float | None, expected: bool
) -> None:
    job = accepted_now(0, inherited=inherited)
    job.poll_due_mono, job.pending = 10.0, pending
    assert was_watched(job, polled_s) is expected
