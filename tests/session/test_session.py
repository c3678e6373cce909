"""A whole session: every row to its result, within all limits, in this session or the next."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest

from runner.errors import EndpointUnreachable, NothingAccepted
from runner.session.session import CHECK_S
from runner.store import SessionStart
from runner.store.journal import Acceptance, Intent
from runner.transport.fake import Behaviour, Exchange, Fake, Script, done, rejected, transient
from tests import virtual_time
from tests.listed import listed, row_of
from tests.session.support import UNIX, Stage, assert_no_job_is_polled_twice_at_once, run_session, session_of


def test_a_thousand_jobs_of_thirty_seconds_a_hundred_at_a_time_take_five_minutes(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=30.0))
    poll = {"interval_s": 30.0}
    ended = run_session(tmp_path, fake, 1000, submit={"max_in_flight": 100}, poll=poll)
    assert ended.at_s == pytest.approx(300.0)
    assert ended.statuses == {"completed": 1000}
    assert fake.most_in_flight == ended.in_flight.most_slots == 100
    assert repr(ended.in_flight) == (
        "<InFlight 0 taken, 0 announced, 0 sending, 0 outstanding, 1000 of 1000 finished>"
    )
    assert fake.service.jobs.keys() == {get.id for get in fake.gets}


def test_posts_and_polls_are_never_more_at_once_than_they_may_be(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=3.0), latency_s=0.5)
    run_session(tmp_path, fake, 300, submit={"concurrency": 7}, poll={"concurrency": 11, "interval_s": 0.1})
    assert (fake.at_once["submit"].most, fake.at_once["retrieve"].most) == (7, 11)


def test_each_result_is_the_answer_to_its_row_with_times_in_order(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=lambda job: 2.0 + job.number % 7), latency_s=0.1)
    run_session(tmp_path, fake, 60, submit={"concurrency": 5})
    for line in map(json.loads, (tmp_path / "results.jsonl").read_bytes().splitlines()):
        job = fake.service.jobs[line["response"]["body"]["id"]]
        assert row_of(job.body) == line["row"]
        timing = line["timing"]
        assert timing["due"] == timing["sent"] == UNIX + job.made_mono
        assert timing["accepted"] == pytest.approx(timing["sent"] + 0.1)
        assert timing["accepted"] <= timing["pending"] <= UNIX + job.ends_mono <= timing["done"]
        assert (line["attempts"], line["polls"]) == (1, sum(get.id == job.id for get in fake.gets))


def test_the_journal_announces_each_row_before_its_post_and_accepts_it_before_its_first_poll(
    tmp_path: Path,
) -> None:
    seen: dict[str, str] = {}

    def look(exchange: Exchange) -> float:
        seen[f"{exchange.verb} {exchange.number}"] = (tmp_path / "journal.jsonl").read_text()
        return 0.2

    fake = Fake(latency_s=look)
    ended = run_session(tmp_path, fake, 40, submit={"concurrency": 3})
    for post in fake.posts:
        assert f'"intent","row":{row_of(post.body)},' in seen[f"submit {post.number}"]
    for get in fake.gets:
        assert f'"job":"{get.id}"' in seen[f"retrieve {get.number}"]
    first, *entries = ended.journal
    assert first == SessionStart(at=UNIX, number=0)
    assert len(entries) == 80
    for row in range(40):
        assert [type(entry) for entry in entries if getattr(entry, "row", None) == row] == [
            Intent,
            Acceptance,
        ]


def test_the_first_request_goes_alone_until_the_service_is_confirmed(tmp_path: Path) -> None:
    fake = Fake(latency_s=5.0)
    run_session(tmp_path, fake, 20)
    assert [post.started_mono for post in fake.posts] == [0.0] + [5.0] * 19


def test_ten_rejections_stop_a_run_that_nothing_was_ever_accepted_of(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit=lambda _: rejected("no such model")), latency_s=1.0)
    ended = run_session(tmp_path, fake, 500)
    assert isinstance(ended.outcome.ended_by, NothingAccepted)
    assert len(fake.posts) == 10
    assert fake.at_once["submit"].most == 1
    assert ended.statuses == {"rejected": 10}
    assert repr(ended.in_flight) == (
        "<InFlight 0 taken, 0 announced, 0 sending, 0 outstanding, 10 of 500 finished>"
    )


def test_a_first_request_that_is_accepted_after_nine_rejections_lets_the_others_go(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit=lambda post: rejected() if post.number < 10 else None))
    ended = run_session(tmp_path, fake, 100)
    assert ended.statuses == {"completed": 91, "rejected": 9}


def test_an_address_where_nobody_listens_is_given_up_within_seconds_and_costs_no_row(tmp_path: Path) -> None:
    fake = Fake(down_mono=[(0.0, math.inf)])
    ended = run_session(tmp_path, fake, 50)
    assert isinstance(ended.outcome.ended_by, EndpointUnreachable)
    assert 3.0 <= ended.at_s < 15.0
    assert {row_of(post.body) for post in fake.posts} == {0}
    assert (ended.results, ended.requests.unsent) == ({}, 50)


def test_a_service_that_answers_with_results_at_once_needs_no_poll(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit=lambda post: done(f"resp-{post.number}")))
    ended = run_session(tmp_path, fake, 30)
    assert ended.statuses == {"completed": 30}
    assert fake.gets == []
    assert ended.acceptances == []


def test_without_rows_it_is_over_at_once(tmp_path: Path) -> None:
    fake = Fake()
    ended = run_session(tmp_path, fake, 0)
    assert (ended.at_s, ended.outcome.ended_by, fake.exchanges) == (0.0, None, [])


def test_on_return_the_transport_is_closed_and_no_file_is_left_behind(tmp_path: Path) -> None:
    fake = Fake()
    run_session(tmp_path, fake, 5)
    assert fake.is_closed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.jsonl", "results.jsonl"]


def test_a_session_that_is_cancelled_from_outside_closes_its_files(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=math.inf))

    async def main() -> None:
        task = asyncio.create_task(session_of(tmp_path, fake, 20))
        await asyncio.sleep(10.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_time.run(main())
    assert fake.is_closed
    ended = run_session(tmp_path, fake, 20, poll={"deadline_s": 100.0})
    assert (ended.statuses, len(fake.posts)) == ({"expired": 20}, 20)


def test_the_next_session_polls_what_is_outstanding_and_sends_only_the_rest(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=lambda job: math.inf if job.number <= 10 else 1.0), latency_s=0.1)

    async def stop(stage: Stage) -> None:
        await asyncio.sleep(30.0)
        stage.session.shutdown.end()

    async def main() -> None:
        first = await session_of(tmp_path, fake, 50, stop, submit={"max_in_flight": 10})
        assert repr(first.in_flight) == (
            "<InFlight 0 taken, 0 announced, 0 sending, 10 outstanding, 0 of 50 finished>"
        )
        assert (first.requests.open, first.requests.unsent) == (10, 40)
        for job in fake.jobs_made:
            job.ends_mono = 100.0
        await asyncio.sleep(100.0)
        posts = len(fake.posts)
        second = await session_of(tmp_path, fake, 50)
        assert second.statuses == {"completed": 50}
        assert len(fake.posts) == posts + 40 == 50
        inherited = {entry.job for entry in first.acceptances}
        assert {get.id for get in fake.gets if get.started_mono == 130.0} == inherited
        starts = [entry for entry in second.journal if isinstance(entry, SessionStart)]
        assert starts == [SessionStart(at=UNIX, number=0), SessionStart(at=UNIX + 130.0, number=1)]
        assert second.meter.counts.spanned == 10, "nobody watched them for a while"

    virtual_time.run(main())


def test_a_job_of_an_earlier_session_confirms_the_service_for_the_first_request(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=5.0), latency_s=1.0)

    async def stop(stage: Stage) -> None:
        await asyncio.sleep(2.0)
        stage.session.shutdown.end()

    async def main() -> None:
        await session_of(tmp_path, fake, 30, stop, submit={"max_in_flight": 3})
        posts = len(fake.posts)
        began = asyncio.get_running_loop().time()
        await session_of(tmp_path, fake, 30)
        starts = [post.started_mono - began for post in fake.posts[posts:]]
        assert starts[:2] == [0.0, 1.0]
        assert starts.count(1.0) == 20

    virtual_time.run(main())


@pytest.mark.parametrize("clock_set_s", [-7200.0, 7200.0])
def test_a_clock_that_was_set_between_two_sessions_stretches_no_wait(
    tmp_path: Path, clock_set_s: float
) -> None:
    fake = Fake(Behaviour(takes_s=20.0))

    async def stop(stage: Stage) -> None:
        await asyncio.sleep(10.0)
        stage.session.shutdown.end()

    async def main() -> None:
        await session_of(tmp_path, fake, 30, stop)
        second = Stage.at(tmp_path, fake, listed(30), True, clock_set_s, poll={"strategy": "adaptive"})
        ended = await second.run()
        assert (ended.statuses, len(fake.posts)) == ({"completed": 30}, 30)
        assert ended.at_s <= 10.0 + 30.0

    virtual_time.run(main())


def test_the_host_hears_when_few_rows_are_left_and_ends_the_session_when_it_likes(
    tmp_path: Path,
) -> None:
    fake = Fake(Behaviour(takes_s=5.0))

    async def main() -> None:
        stage = Stage.at(tmp_path, fake, listed(20), False)

        async def act(stage: Stage) -> None:
            await asyncio.sleep(60.0)
            assert repr(stage.in_flight).endswith("20 of 20 finished>")
            assert stage.host.low > 0
            stage.session.shutdown.end()

        ended = await stage.run(act)
        assert ended.at_s == 60.0

    virtual_time.run(main())


def test_a_worker_ends_only_once_it_knows_that_no_more_rows_will_come(tmp_path: Path) -> None:
    async def main() -> None:
        stage = Stage.at(tmp_path, Fake(), listed(5))
        stage.session.feed.all_granted = False

        async def act(stage: Stage) -> None:
            await asyncio.sleep(60.0)
            stage.session.feed.all_granted = True

        ended = await stage.run(act)
        assert 60.0 <= ended.at_s <= 60.0 + CHECK_S

    virtual_time.run(main())


def test_a_machine_that_slept_for_two_hours_collects_what_was_done_meanwhile(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=1800.0))

    async def act(stage: Stage) -> None:
        await asyncio.sleep(600.0)
        stage.suspend(fake, 7200.0)

    poll = {"strategy": "adaptive", "deadline_s": 3600.0}
    ended = run_session(tmp_path, fake, 100, act, submit={"max_in_flight": 50}, poll=poll)
    assert ended.statuses == {"completed": 100}
    assert ended.outcome.ended_by is None
    assert sum(it.timing.done - it.timing.due > 7000.0 for it in ended.results.values()) == 50
    assert 600.0 + 1800.0 <= ended.at_s < 2600.0, "the second half is polled as if nothing had been"


def test_a_job_that_is_still_pending_after_a_sleep_past_its_deadline_expires(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=math.inf))

    async def act(stage: Stage) -> None:
        await asyncio.sleep(10.0)
        stage.suspend(fake, 7200.0)

    ended = run_session(tmp_path, fake, 5, act, poll={"deadline_s": 3600.0, "interval_s": 20.0})
    assert ended.statuses == {"expired": 5}
    assert ended.at_s < 60.0


def test_no_network_for_a_moment_after_a_sleep_costs_no_job(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=1800.0), down_mono=[(600.0, 640.0)])

    async def act(stage: Stage) -> None:
        await asyncio.sleep(600.0)
        stage.suspend(fake, 7200.0)

    ended = run_session(tmp_path, fake, 30, act, poll={"deadline_s": 3600.0, "interval_s": 7.0})
    assert ended.statuses == {"completed": 30}


def test_times_of_a_session_rise_although_polls_of_a_slow_service_overlap(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=20.0), latency_s=lambda exchange: 0.1 + exchange.number % 5)
    ended = run_session(tmp_path, fake, 50, poll={"interval_s": 0.5})
    assert_no_job_is_polled_twice_at_once(fake)
    assert ended.statuses == {"completed": 50}


@pytest.mark.parametrize("cause", ["500", "connect", "timeout"])
def test_a_few_failures_are_retried_and_counted_by_cause(tmp_path: Path, cause: str) -> None:
    failing = {number: transient(cause) for number in (3, 7, 11)}
    script = Script(submit=failing, retrieve=failing)
    ended = run_session(tmp_path, Fake(script=script), 20)
    assert ended.statuses == {"completed": 20}
    assert ended.meter.counts.submit_retries == ended.meter.counts.poll_retries == {cause: 3}
