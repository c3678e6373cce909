"""The poller: follows each job from its acceptance to its result, and hurries where somebody asks for it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.background.poller import Poller
from runner.records import Job
from runner.session.turnstile import NotBefore
from runner.transport.fake import Behaviour, Fake, Script, gone, throttled, transient
from tests import virtual_time
from tests.session.building import Rig, job_of
from tests.session.support import UNIX, Stage, assert_no_job_is_polled_twice_at_once, run_session


class Desk:
    """A poller with its rig. A test says when what is polled."""

    def __init__(self, rig: Rig, fake: Fake) -> None:
        self.rig, self.fake = rig, fake
        self.forgotten: list[Job] = []
        self.poller: Poller = rig.poller(self.forgotten.append)

    async def post(self, count: int, *, inherited: bool = False) -> list[Job]:
        """Make jobs at the service, and return them, accepted now; their rows count from 1."""
        jobs = []
        for _ in range(count):
            await self.fake.submit(b"{}", f"key-{len(self.fake.posts)}")
            number = self.fake.jobs_made[-1].number
            jobs.append(job_of(number, accepted=self.rig.clock.now(), inherited=inherited))
        return jobs

    async def poll_next(self) -> Job:
        """Poll what is due now."""
        job = self.poller.take(self.rig.clock.now_mono())
        assert isinstance(job, Job)
        await self.poller.poll(job)
        return job

    def opens_at(self) -> float:
        """Return when the next poll is due, which is not now."""
        answer = self.poller.take(self.rig.clock.now_mono())
        assert isinstance(answer, NotBefore)
        return answer.at_mono


def at_desk(
    directory: Path,
    fake: Fake,
    work: Callable[[Desk], Coroutine[Any, Any, None]],
    /,
    **sections: Mapping[str, object],
) -> None:
    async def main() -> None:
        rig = Rig(directory, fake, 0, **sections)
        await work(Desk(rig, fake))
        rig.sink.close()

    virtual_time.run(main())


def test_jobs_are_numbered_in_the_order_of_acceptance_and_inherited_ones_before_them(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        old, new = await desk.post(3, inherited=True), await desk.post(3)
        for job in old:
            desk.poller.follow_inherited(job)
        for job in new:
            desk.poller.follow(job)
        assert [job.order for job in old + new] == [-1, -2, -3, 0, 1, 2]
        assert repr(desk.poller).startswith("<Poller 6 jobs, <Exchanges ")

    at_desk(tmp_path, Fake(), work)


def test_inherited_jobs_are_polled_at_once_whatever_the_strategy_says(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        jobs = await desk.post(3, inherited=True)
        for job in jobs:
            desk.poller.follow_inherited(job)
        assert [await desk.poll_next() for _ in jobs] == jobs
        assert desk.opens_at() == 1000.0

    at_desk(tmp_path, Fake(Behaviour(takes_s=math.inf)), work, poll={"interval_s": 1000.0})


def test_a_clock_that_was_set_back_does_not_delay_the_deadline_of_an_inherited_job(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        (job,) = await desk.post(1, inherited=True)
        job.accepted = UNIX + 7200.0
        desk.poller.follow_inherited(job)
        assert job.accepted == UNIX
        await desk.poll_next()
        assert desk.opens_at() == 100.0

    at_desk(
        tmp_path, Fake(Behaviour(takes_s=math.inf)), work, poll={"interval_s": 1000.0, "deadline_s": 100.0}
    )


def test_a_done_job_is_written_and_no_longer_followed(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        (job,) = await desk.post(1)
        desk.rig.accept(job)
        await asyncio.sleep(0)
        desk.poller.follow(job)
        await asyncio.sleep(1.0)
        await desk.poll_next()
        await asyncio.sleep(0)
        assert desk.rig.statuses == {1: "completed"}
        assert repr(desk.rig.in_flight).endswith("0 outstanding, 1 of 0 finished>")
        assert not desk.poller.expedite_id(job.id)
        assert repr(desk.poller).startswith("<Poller 0 jobs")

    at_desk(tmp_path, Fake(), work)


def test_a_job_is_expedited_by_its_id_wherever_it_is(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        jobs = await desk.post(3)
        for job in jobs:
            desk.poller.follow(job)
        assert desk.poller.expedite_id("job-2")
        assert desk.poller.expedite_id("job-2")
        assert not desk.poller.expedite_id("job-4")
        assert await desk.poll_next() is jobs[1]
        assert desk.opens_at() == 1000.0
        job = jobs[2]
        assert desk.poller.expedite_id(job.id)
        assert desk.poller.take(0.0) is job
        assert desk.poller.expedite_id(job.id), "while it is being polled"
        assert desk.opens_at() == 1000.0
        await desk.poller.poll(job)
        assert await desk.poll_next() is job
        assert [get.id for get in desk.fake.gets] == ["job-2", job.id, job.id]

    at_desk(tmp_path, Fake(Behaviour(takes_s=math.inf)), work, poll={"interval_s": 1000.0})


def test_an_expedited_job_ends_as_soon_as_it_is_done(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(10.0)
        for number in range(1, 6):
            assert stage.session.mode.expedite(f"job-{number}")
        assert not stage.session.mode.expedite("job-9")

    fake = Fake(Behaviour(takes_s=8.0), latency_s=0.1)
    ended = run_session(tmp_path, fake, 8, act, poll={"interval_s": 500.0})
    done = sorted(result.timing.done - UNIX for result in ended.results.values())
    assert done == pytest.approx([10.1] * 5 + [500.3] * 3, abs=0.2)
    assert len(fake.gets) == 8


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(1, 6)), max_size=40),
    st.lists(st.sampled_from([None, None, transient("503"), throttled(2.0), gone()]), max_size=20),
    st.sampled_from([0.0, 0.5, 5.0]),
)
def test_however_often_jobs_are_expedited_none_is_polled_twice_at_once_and_each_ends_once(
    expedited: list[tuple[float, int]], answers: list[Any], latency_s: float
) -> None:
    async def act(stage: Stage) -> None:
        for at_s, number in sorted(expedited):
            await asyncio.sleep(at_s - asyncio.get_running_loop().time())
            stage.session.mode.expedite(f"job-{number}")

    script = Script(retrieve=lambda get: answers[get.number - 1] if get.number <= len(answers) else None)
    fake = Fake(Behaviour(takes_s=lambda job: 4.0 * job.number), script, latency_s=latency_s)
    with TemporaryDirectory() as name:
        ended = run_session(Path(name), fake, 6, act, poll={"interval_s": 10.0})
    assert ended.statuses == {"completed": 6}
    assert_no_job_is_polled_twice_at_once(fake)


def test_polls_are_never_more_often_than_they_may_be(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=20.0))
    ended = run_session(tmp_path, fake, 100, poll={"max_rate": 5.0, "interval_s": 1.0})
    assert ended.statuses == {"completed": 100}
    starts = [get.started_mono for get in fake.gets]
    for first, sixth in zip(starts, starts[6:], strict=False):
        assert sixth - first >= 1.0


def test_one_throttled_poll_closes_the_gate_for_all_polls_and_for_no_post(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=3.0), Script(retrieve={5: throttled(30.0)}), latency_s=0.5)
    run_session(tmp_path, fake, 200, submit={"concurrency": 2})
    closed = fake.gets[4].ended_mono
    assert closed
    assert not [get for get in fake.gets if closed < get.started_mono < closed + 30.0]
    assert [post for post in fake.posts if closed < post.started_mono < closed + 30.0]


def test_while_posts_fail_and_polls_are_answered_outstanding_jobs_are_collected(tmp_path: Path) -> None:
    script = Script(submit=lambda post: transient("502") if post.started_mono >= 5.0 else None)
    fake = Fake(Behaviour(takes_s=60.0), script, latency_s=0.1)
    submit = {"concurrency": 1, "retry": {"max_attempts": 100}}
    ended = run_session(tmp_path, fake, 200, submit=submit)
    assert "nothing but failures for" in str(ended.outcome.ended_by)
    assert ended.requests.open == 0
    assert ended.statuses == {"completed": len(fake.jobs_made)}
    assert 120.0 < ended.at_s < 150.0, "the outage began when the last poll was answered"


def test_a_strategy_that_learns_is_taught_only_by_polls_at_their_time(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(100.0)
        stage.suspend(fake, 24 * 3600.0)

    fake = Fake(Behaviour(takes_s=10.0))
    poll = {"strategy": "adaptive", "deadline_s": 1e6}
    ended = run_session(tmp_path, fake, 1000, act, submit={"max_in_flight": 50}, poll=poll)
    assert ended.statuses == {"completed": 1000}
    assert ended.at_s < 300.0, "jobs that were found after a day do not teach that jobs take a day"
    assert ended.meter.counts.polls < 5 * 1000


def test_jobs_that_the_service_loses_during_the_session_expire(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(5.0)
        for job in fake.jobs_made[:3]:
            job.is_lost = True

    fake = Fake(Behaviour(takes_s=60.0))
    ended = run_session(tmp_path, fake, 10, act)
    assert ended.statuses == {"completed": 7, "expired": 3}
    assert len(fake.posts) == 10
    assert ended.in_flight.is_complete
