"""Background mode as a session sees it: intake, submitter and poller together, with what was left to them."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from runner.background.mode import BackgroundMode
from runner.policy.idempotency import KEY_LIFE_S
from runner.transport.fake import Behaviour, Fake
from tests import virtual_time
from tests.listed import listed, row_of
from tests.session.building import Rig, job_of
from tests.session.support import UNIX, Ended, Stage, run_session, session_of

POLL = {"interval_s": 5.0}


async def stop(stage: Stage) -> None:
    """End the session after ten seconds, with everything that is outstanding."""
    await asyncio.sleep(10.0)
    stage.session.shutdown.end()


async def stopped(directory: Path, fake: Fake, rows: int) -> Ended:
    """Run a first session that leaves all of its rows outstanding."""
    ended = await session_of(directory, fake, rows, stop, poll={"interval_s": 1000.0})
    assert ended.requests.open == rows
    return ended


def test_there_are_as_many_workers_as_posts_and_polls_may_be_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path, Fake(), 5, submit={"concurrency": 3}, poll={"concurrency": 4})
        source = listed(5)
        mode = BackgroundMode(rig.parts, rig.feed(source), source, rig.recovery)
        workers = mode.workers()
        assert len(workers) == 7
        mode.stop()
        await asyncio.gather(*workers)
        rig.sink.close()

    virtual_time.run(main())


def test_jobs_that_another_process_left_are_counted_and_polled(tmp_path: Path) -> None:
    async def main() -> None:
        fake = Fake()
        rig = Rig(tmp_path, fake, 5)
        source = listed(5)
        mode = BackgroundMode(rig.parts, rig.feed(source), source, rig.recovery)
        await fake.submit(b"{}", "key")
        mode.follow_inherited(job_of(1, accepted=UNIX, inherited=True))
        assert repr(rig.in_flight) == (
            "<InFlight 0 taken, 0 announced, 0 sending, 1 outstanding, 0 of 5 finished>"
        )
        mode.stop_submitting()
        work = asyncio.gather(*mode.workers())
        await asyncio.sleep(5.0)
        assert rig.statuses == {1: "completed"}
        mode.stop()
        await work
        mode.close()
        rig.sink.close()

    virtual_time.run(main())


def test_rows_that_wait_for_a_slot_are_given_back_and_not_sent_here(tmp_path: Path) -> None:
    given: list[int] = []

    async def act(stage: Stage) -> None:
        await asyncio.sleep(5.0)
        given.extend(stage.session.mode.give_back())
        stage.in_flight.revoke(len(given))

    fake = Fake(Behaviour(takes_s=20.0))
    ended = run_session(tmp_path, fake, 100, act, submit={"max_in_flight": 30})
    sent = {row_of(post.body) for post in fake.posts}
    assert sent == set(range(30))
    assert given == list(range(30, 100))
    assert repr(ended.in_flight) == (
        "<InFlight 0 taken, 0 announced, 0 sending, 0 outstanding, 30 of 30 finished>"
    )


@pytest.mark.parametrize("choice", ["hold", "resend"])
def test_jobs_that_the_service_forgot_between_two_sessions_are_uncertain_or_resent(
    tmp_path: Path, choice: str
) -> None:
    async def main() -> None:
        fake = Fake(Behaviour(takes_s=60.0, honours_keys=False))
        first = await stopped(tmp_path, fake, 15)
        for job in fake.jobs_made:
            job.is_lost = True
        ended = await session_of(tmp_path, fake, 15, None, submit={"on_uncertain": choice}, poll=POLL)
        resent = fake.posts[15:]
        if choice == "hold":
            assert (ended.statuses, resent) == ({"uncertain": 15}, [])
            error = ended.results[0].error
            assert error
            assert "accepted in an earlier session" in error.message
        else:
            assert (ended.statuses, len(resent)) == ({"completed": 15}, 15)
            assert {post.key for post in resent} == {entry.key for entry in first.intents}
        assert repr(ended.in_flight) == (
            "<InFlight 0 taken, 0 announced, 0 sending, 0 outstanding, 15 of 15 finished>"
        )

    virtual_time.run(main())


def test_a_result_that_was_delivered_to_a_killed_session_comes_back_by_its_key(tmp_path: Path) -> None:
    async def main() -> None:
        fake = Fake()
        await session_of(tmp_path, fake, 10)
        results = tmp_path / "results.jsonl"
        lines = results.read_bytes().splitlines(keepends=True)
        results.write_bytes(b"".join(lines[:-3]))  # as a power cut does
        for job in fake.jobs_made:
            job.is_lost = True  # it forgets results that it has delivered, but not keys
        ended = await session_of(tmp_path, fake, 10, None, submit={"on_uncertain": "resend"}, poll=POLL)
        assert ended.statuses == {"completed": 10}
        assert len(fake.jobs_made) == 10

    virtual_time.run(main())


@pytest.mark.parametrize(("header", "wait_s"), [("Idempotency-Key", KEY_LIFE_S + 60.0), (None, 60.0)])
def test_a_post_that_was_cut_off_by_a_kill_is_resent_only_while_its_key_lives(
    tmp_path: Path, header: str | None, wait_s: float
) -> None:
    async def cut_off(stage: Stage) -> None:
        await asyncio.sleep(10.0)
        stage.session.shutdown.signal(2)
        stage.session.shutdown.signal(2)

    async def main() -> None:
        target = {"idempotency_header": header}
        fake = Fake(latency_s=lambda exchange: 0.0 if exchange.number == 1 else math.inf)
        first = await session_of(tmp_path, fake, 1 + 4, cut_off, target=target, submit={"concurrency": 4})
        assert first.in_flight.announced == 4
        assert first.in_flight.sending == 0
        fake.latency_s = 0.0
        second = await session_of(tmp_path, fake, 5, None, target=target) if header else first
        if header:
            assert (second.statuses, len(fake.jobs_made)) == ({"completed": 5}, 5)
            return
        await asyncio.sleep(wait_s)
        third = await session_of(tmp_path, fake, 5, None, target=target)
        assert third.statuses == {"completed": 1, "uncertain": 4}
        assert len(fake.posts) == 5

    virtual_time.run(main())


def test_no_more_slots_are_used_after_a_stop_and_unsent_rows_leave_no_trace(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=100.0), latency_s=2.0)
    ended = run_session(tmp_path, fake, 200, stop, submit={"concurrency": 1})
    announced = {entry.row for entry in ended.intents}
    unsent = {entry.row for entry in ended.retractions if entry.cause == "unsent"}
    assert announced - unsent == {row_of(post.body) for post in fake.posts}
    assert len(unsent) == 32 - len(fake.posts) + 1
    assert ended.requests.unsent == 200 - ended.requests.open
    again = run_session(tmp_path, fake, 200, None, poll=POLL)
    assert (again.statuses, len(fake.jobs_made)) == ({"completed": 200}, 200)
