"""What is polled, and when: by due time, within bounds, sooner on demand, given up only for good reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runner.errors import KeyRefused
from runner.records import Failure, Job, ResultStatus
from runner.session.follower import (
    ABSENCE_S,
    MOST_REPLANNED,
    POLLS_BEFORE_GONE,
    Follower,
    was_watched,
)
from runner.session.turnstile import AFTER_AN_EVENT, NotBefore
from runner.transport.fake import done, gone, throttled, transient, unauthorised
from runner.transport.outcomes import PENDING, AnyOutcome, Done
from tests import virtual_time
from tests.session.building import Calls, Rig, job_of
from tests.session.support import UNIX


class Pings(Follower[Job]):
    """A follower whose answers, and whose strategy, are in the hands of the test. Unix time is loop time."""

    def __init__(self, rig: Rig) -> None:
        self.exchanges = rig.parts.exchanges(Calls())
        self.due = Calls()
        self.forgotten: list[Job] = []
        super().__init__(rig.parts, self.exchanges, on_due=self.due, on_forgotten=self.forgotten.append)
        self.health, self.meter = rig.parts.health, rig.parts.meter
        self.health.confirm()
        self.answers: list[AnyOutcome] = []
        """Next answers; when there are none, a job is pending."""
        self.gap_s = 1.0
        """Seconds from one poll to the next, by the strategy."""
        self.asked = 0
        """Times that the strategy was asked."""
        self.late_s: list[float] = []
        self.ended: list[tuple[int, ResultStatus, Failure | None]] = []

    def add(self, job: Job) -> Job:
        """Follow a job; its first poll is due by the strategy."""
        self._push(job, self._due_mono(job, self._parts.clock.now_mono()))
        return job

    def next(self) -> Job:
        """Take the job that is to be polled now."""
        job = self.take(self._parts.clock.now_mono())
        assert isinstance(job, Job)
        return job

    async def poll_when_due(self, answer: AnyOutcome = PENDING) -> float:
        """Wait until something is due, poll it, and return the time."""
        loop = asyncio.get_running_loop()
        while isinstance(job := self.take(loop.time()), NotBefore):
            assert job is not AFTER_AN_EVENT, "nothing is followed"
            await asyncio.sleep(job.at_mono - loop.time())
        self.answers.append(answer)
        at_mono = loop.time()
        await self.poll(job)
        return at_mono

    async def _request(self, watched: Job) -> AnyOutcome:
        return self.answers.pop(0) if self.answers else PENDING

    async def _take_in(
        self, watched: Job, outcome: AnyOutcome, started_mono: float, ended_mono: float
    ) -> None:
        if isinstance(outcome, Done):
            self.ended.append((watched.row, outcome.status, None))
        else:
            self._wait_on(watched, self._parts.clock.unix(started_mono), ended_mono)

    def _next_poll(self, watched: Job, now: float) -> float:
        self.asked += 1
        return (watched.accepted if watched.pending is None else watched.pending) + self.gap_s

    def _poll_starts(self, watched: Job, late_s: float) -> None:
        self.late_s.append(late_s)

    def _lose(self, watched: Job, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        self.ended.append((watched.row, status, failure))


def following(
    directory: Path, work: Callable[[Pings], Coroutine[Any, Any, None]], **sections: Mapping[str, object]
) -> None:
    async def main() -> None:
        rig = Rig(directory, **sections)
        await work(Pings(rig))
        rig.sink.close()

    virtual_time.run(main())


def accepted_now(row: int, *, inherited: bool = False) -> Job:
    """Return a job that was accepted at the start of the loop, or by an earlier session."""
    return job_of(row, accepted=UNIX, inherited=inherited)


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


def test_a_job_that_the_service_does_not_know_is_given_up_after_some_polls_and_time(
    tmp_path: Path,
) -> None:
    async def work(pings: Pings) -> None:
        pings.add(accepted_now(0))
        times = []
        while not pings.ended:
            times.append(await pings.poll_when_due(gone()))
        assert len(times) >= POLLS_BEFORE_GONE
        assert times[-1] - times[0] >= 10.0 > times[-2] - times[0]
        assert pings.ended[0][1] == "expired"
        assert not pings.forgotten

    following(tmp_path, work, submit={"retry": {"base_s": 0.1, "cap_s": 1.0}}, limits={"max_outage_s": 60.0})


def test_five_polls_at_least_must_find_it_unknown_however_long_that_takes(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.add(accepted_now(0))
        for _ in range(POLLS_BEFORE_GONE - 1):
            await pings.poll_when_due(gone())
            assert not pings.ended
        await pings.poll_when_due(gone())
        assert pings.ended

    following(
        tmp_path, work, submit={"retry": {"base_s": 1000.0, "cap_s": 1000.0}}, limits={"max_outage_s": 1.0}
    )


def test_a_job_that_is_known_after_all_needs_five_more(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.add(accepted_now(0))
        answers: list[AnyOutcome] = [*[gone()] * 4, PENDING, *[gone()] * 4]
        for answer in answers:
            await pings.poll_when_due(answer)
        assert not pings.ended
        await pings.poll_when_due(gone())
        assert pings.ended

    following(tmp_path, work, limits={"max_outage_s": 0.001})


def test_an_unknown_job_of_an_earlier_session_is_uncertain_or_resent_as_the_user_says(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        job = pings.add(accepted_now(0, inherited=True))
        for _ in range(POLLS_BEFORE_GONE):
            await pings.poll_when_due(gone())
        if pings.forgotten:
            assert (pings.forgotten, pings.ended) == ([job], [])
        else:
            ((_, status, failure),) = pings.ended
            assert status == "uncertain"
            assert failure
            assert failure.message.endswith(
                "(accepted in an earlier session; perhaps done, and delivered to it)"
            )
        outcomes.append(bool(pings.forgotten))

    outcomes: list[bool] = []
    for choice in ("hold", "resend"):
        following(tmp_path, work, submit={"on_uncertain": choice}, limits={"max_outage_s": 0.001})
    assert outcomes == [False, True]


def test_an_unknown_job_of_an_earlier_session_is_uncertain_past_its_deadline_as_well(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        job = accepted_now(0, inherited=True)
        job.accepted -= 1000.0
        pings.add(job)
        for _ in range(POLLS_BEFORE_GONE):
            await pings.poll_when_due(gone())
        assert [status for _, status, _ in pings.ended] == ["uncertain"]

    following(tmp_path, work, poll={"deadline_s": 100.0}, limits={"max_outage_s": 0.001})


def test_a_job_that_is_not_done_by_its_deadline_expires_at_a_last_poll(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.gap_s = 40.0
        pings.add(accepted_now(0))
        assert [await pings.poll_when_due() for _ in range(3)] == [40.0, 80.0, 100.0]
        ((_, status, failure),) = pings.ended
        assert status == "expired"
        assert failure
        assert failure.message == "not done 100 s after it was accepted (poll.deadline_s)"

    following(tmp_path, work, poll={"deadline_s": 100.0})


def test_a_job_that_is_done_at_the_poll_of_its_deadline_keeps_its_result(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.gap_s = 1000.0
        pings.add(accepted_now(0))
        assert await pings.poll_when_due(done("job-0")) == 100.0
        assert pings.ended == [(0, "completed", None)]

    following(tmp_path, work, poll={"deadline_s": 100.0})


@pytest.mark.parametrize("others_are_answered", [True, False])
def test_failing_polls_past_the_deadline_expire_a_job_only_while_others_are_answered(
    tmp_path: Path, others_are_answered: bool
) -> None:
    async def work(pings: Pings) -> None:
        pings.gap_s = 1000.0
        pings.add(accepted_now(0))
        for count in range(1, POLLS_BEFORE_GONE + 1):
            at_mono = await pings.poll_when_due(transient("connect"))
            assert (at_mono >= 100.0, pings.ended) == (True, []) or count == POLLS_BEFORE_GONE
            if others_are_answered:
                pings.health.record_answer(at_mono + 0.001)
        assert [status for _, status, _ in pings.ended] == (["expired"] if others_are_answered else [])

    following(tmp_path, work, poll={"deadline_s": 100.0}, limits={"max_outage_s": 1e6})


def test_a_throttled_job_is_not_given_up_however_late_it_is(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        job = pings.add(accepted_now(0))
        for _ in range(10):
            at_mono = await pings.poll_when_due(throttled(5.0))
            pings.health.record_answer(at_mono + 0.001)
        assert (job.failed_polls, pings.ended) == (10, [])

    following(tmp_path, work, poll={"deadline_s": 1.0})


def test_a_refused_key_ends_the_run_and_leaves_the_job_outstanding(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        pings.add(accepted_now(0))
        with pytest.raises(KeyRefused):
            await pings.poll_when_due(unauthorised())
        assert pings.ended == []

    following(tmp_path, work)


def test_what_ends_the_run_is_raised_after_the_answer_was_dealt_with(tmp_path: Path) -> None:
    async def work(pings: Pings) -> None:
        job = pings.add(accepted_now(0))
        with pytest.raises(Exception, match="no_files"):
            await pings.poll_when_due(transient("no_files"))
        assert (job.failed_polls, pings.meter.counts.poll_retries) == (1, {"no_files": 1})

    following(tmp_path, work)


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
