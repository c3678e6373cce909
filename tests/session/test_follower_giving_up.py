"""Why a follower gives something up: it is unknown, or past its deadline; and why it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import KeyRefused
from runner.session.follower import POLLS_BEFORE_GONE
from runner.transport.fake import done, gone, throttled, transient, unauthorised
from runner.transport.outcomes import PENDING, AnyOutcome
from tests.session.pings import Pings, accepted_now, following


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
