"""The fake transport in virtual time: it answers as scripted, and records what it was asked."""

import asyncio
import json
import math

import pytest

from runner.transport import Transport
from runner.transport.fake import (
    LOST,
    Behaviour,
    Fake,
    Script,
    done,
    gone,
    rejected,
    throttled,
    transient,
    unauthorised,
)
from runner.transport.outcomes import (
    PENDING,
    Accepted,
    AnyOutcome,
    Done,
    Gone,
    Rejected,
    Throttled,
)
from tests import virtual_time


async def accepted(fake: Fake, body: bytes = b"{}", key: str = "") -> str:
    """Submit a job that must be accepted, and return its id."""
    outcome = await fake.submit(body, key or f"key-{len(fake.posts) + 1}")
    assert isinstance(outcome, Accepted)
    return outcome.id


async def finished(fake: Fake, job_id: str) -> float:
    """Poll a job once a second until it is done, and return the loop time of that."""
    while not isinstance(await fake.retrieve(job_id), Done):  # noqa: ASYNC110 - polling is what is tested
        await asyncio.sleep(1.0)
    return asyncio.get_running_loop().time()


def test_it_is_a_transport() -> None:
    transport: Transport = Fake()
    assert repr(transport) == "<Fake: no exchanges; 0 in flight>"


def test_a_job_is_pending_until_its_time_has_passed() -> None:
    async def main() -> None:
        fake = Fake(Behaviour(takes_s=30.0))
        job_id = await accepted(fake)
        await asyncio.sleep(29.9)
        assert await fake.retrieve(job_id) is PENDING
        await asyncio.sleep(0.1)
        assert await fake.retrieve(job_id) == done(job_id)
        assert repr(fake) == "<Fake: 1 submit, 2 retrieve; 0 in flight>"

    virtual_time.run(main())


def test_a_function_decides_how_long_a_job_takes_and_how_it_ends() -> None:
    behaviour = Behaviour(
        takes_s=lambda job: float(json.loads(job.body)["seconds"]),
        ends=lambda job: "failed" if job.number == 2 else "completed",
    )

    async def main() -> None:
        fake = Fake(behaviour)
        first, second = await accepted(fake, b'{"seconds": 7}'), await accepted(fake, b'{"seconds": 3}')
        assert await finished(fake, second) == 3.0
        assert await finished(fake, first) == 7.0
        assert await fake.retrieve(second) == done(second, "failed")

    virtual_time.run(main())


def test_posts_are_answered_by_their_number() -> None:
    script = Script(
        submit={1: throttled(5.0), 2: transient("503"), 3: rejected(), 4: unauthorised(), 5: done("x")}
    )

    async def main() -> None:
        fake = Fake(script=script)
        outcomes = [await fake.submit(b"{}", "key") for _ in range(5)]
        assert outcomes == [throttled(5.0), transient("503"), rejected(), unauthorised(), done("x")]
        assert fake.jobs_made == []
        assert await accepted(fake) == "job-1"
        assert [post.outcome for post in fake.posts] == [*outcomes, Accepted("job-1")]

    virtual_time.run(main())


def test_a_function_answers_the_exchanges_that_it_is_about() -> None:
    script = Script(retrieve=lambda get: gone() if get.id == "job-2" else None)

    async def main() -> None:
        fake = Fake(script=script)
        for expected in (PENDING, gone()):
            assert await fake.retrieve(await accepted(fake)) == expected

    virtual_time.run(main())


def test_a_scripted_exception_is_raised() -> None:
    async def main() -> None:
        fake = Fake(script=Script(submit={1: OSError("a bug")}), latency_s=2.0)
        with pytest.raises(OSError, match="a bug"):
            await fake.submit(b"{}", "key")
        assert (fake.posts[0].ended_mono, fake.posts[0].outcome) == (2.0, None)

    virtual_time.run(main())


@pytest.mark.parametrize(("honours_keys", "jobs"), [(True, 1), (False, 2)])
def test_a_job_whose_acknowledgement_was_lost_is_found_by_its_key(honours_keys: bool, jobs: int) -> None:
    async def main() -> None:
        fake = Fake(Behaviour(takes_s=5.0, honours_keys=honours_keys), Script(submit={1: LOST}))
        assert await fake.submit(b"{}", "key") == transient("reset", ambiguous=True)
        assert len(fake.jobs_made) == 1
        assert await fake.submit(b"{}", "key") == Accepted(f"job-{jobs}")
        await asyncio.sleep(5.0)
        again = await fake.submit(b"{}", "key")
        assert again == (done("job-1") if honours_keys else Accepted("job-3"))

    virtual_time.run(main())


def test_a_lost_job_is_unknown() -> None:
    async def main() -> None:
        fake = Fake()
        job_id = await accepted(fake)
        fake.service.jobs[job_id].is_lost = True
        assert isinstance(await fake.retrieve(job_id), Gone)
        assert isinstance(await fake.cancel(job_id), Rejected)
        assert isinstance(await fake.retrieve("job-7"), Gone)

    virtual_time.run(main())


def test_answers_take_their_time_and_are_recorded() -> None:
    async def main() -> None:
        fake = Fake(latency_s=lambda exchange: 0.5 * exchange.number)
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(fake.submit(b"%d" % number, f"key-{number}"))
            await asyncio.sleep(0.25)
            assert fake.at_once["submit"].now == 3
        assert [(post.started_mono, post.ended_mono) for post in fake.posts] == [
            (0.0, 0.5),
            (0.0, 1.0),
            (0.0, 1.5),
        ]
        assert [(post.body, post.key) for post in fake.posts] == [
            (b"0", "key-0"),
            (b"1", "key-1"),
            (b"2", "key-2"),
        ]
        assert (fake.at_once["submit"].now, fake.at_once["submit"].most) == (0, 3)

    virtual_time.run(main())


@pytest.mark.parametrize("latency_s", [61.0, math.inf])
def test_an_answer_that_takes_too_long_is_a_timeout_although_the_job_was_made(latency_s: float) -> None:
    async def main() -> None:
        fake = Fake(latency_s=latency_s, timeout_s=60.0)
        assert await fake.submit(b"{}", "key") == transient("timeout", ambiguous=True)
        assert asyncio.get_running_loop().time() == 60.0
        assert len(fake.jobs_made) == 1

    virtual_time.run(main())


def test_a_call_that_was_cancelled_has_no_outcome() -> None:
    async def main() -> None:
        fake = Fake(latency_s=math.inf)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fake.submit(b"{}", "key"), 3.0)
        assert (fake.posts[0].ended_mono, fake.posts[0].outcome) == (None, None)
        assert fake.at_once["submit"].now == 0

    virtual_time.run(main())


def test_nobody_answers_while_the_service_is_down_and_its_jobs_go_on() -> None:
    async def main() -> None:
        fake = Fake(Behaviour(takes_s=30.0), down_mono=[(10.0, 20.0), (25.0, 40.0)])
        job_id = await accepted(fake)
        outcomes = {}
        for at in (9.0, 10.0, 19.0, 20.0, 25.0, 40.0):
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            outcomes[at] = await fake.retrieve(job_id)
        refused = transient("connect")
        assert outcomes == {
            9.0: PENDING,
            10.0: refused,
            19.0: refused,
            20.0: PENDING,
            25.0: refused,
            40.0: done(job_id),
        }

    virtual_time.run(main())


def test_posts_above_the_rate_are_throttled() -> None:
    async def main() -> None:
        fake = Fake(Behaviour(posts_per_s=2.0, retry_after_s=1.0))
        outcomes = [type(await fake.submit(b"{}", str(number))) for number in range(3)]
        assert outcomes == [Accepted, Accepted, Throttled]
        assert fake.posts[-1].outcome == throttled(1.0)
        await asyncio.sleep(0.5)
        assert [type(await fake.submit(b"{}", str(number))) for number in range(3, 5)] == [
            Accepted,
            Throttled,
        ]
        assert await fake.retrieve("job-1") is PENDING

    virtual_time.run(main())


def test_gets_are_throttled_above_a_rate_of_less_than_one_a_second() -> None:
    async def main() -> None:
        fake = Fake(Behaviour(gets_per_s=0.1, takes_s=math.inf))
        job_id = await accepted(fake)
        answered = 0
        for _ in range(100):
            answered += await fake.retrieve(job_id) is PENDING
            await asyncio.sleep(1.0)
        assert answered == 10

    virtual_time.run(main())


def test_posts_are_throttled_while_the_service_is_full() -> None:
    async def main() -> None:
        fake = Fake(Behaviour(takes_s=10.0, max_jobs=2))
        first = await accepted(fake)
        await asyncio.sleep(1.0)
        await accepted(fake)
        assert isinstance(await fake.submit(b"{}", "third"), Throttled)
        await asyncio.sleep(9.0)
        await accepted(fake, key="third")
        assert isinstance(await fake.submit(b"{}", "fourth"), Throttled)
        await fake.cancel("job-3")
        assert isinstance(await fake.retrieve(first), Done)
        assert fake.service.running.most == 2
        assert fake.most_in_flight == 3
        assert fake.service.in_flight.now == 1

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("cancel_s", "answer"), [(0.0, done("job-1", "cancelled")), (4.0, PENDING), (20.0, PENDING)]
)
def test_a_cancelled_job_ends_when_the_service_has_stopped_it(cancel_s: float, answer: AnyOutcome) -> None:
    async def main() -> None:
        fake = Fake(Behaviour(takes_s=10.0, cancel_s=cancel_s))
        job_id = await accepted(fake)
        assert await fake.cancel(job_id) == answer
        assert await finished(fake, job_id) == min(cancel_s, 10.0)
        assert await fake.cancel(job_id) == done(job_id, "cancelled" if cancel_s < 10.0 else "completed")

    virtual_time.run(main())


def test_a_service_may_refuse_to_cancel() -> None:
    async def main() -> None:
        fake = Fake(Behaviour(cancel_s=None))
        assert isinstance(await fake.cancel(await accepted(fake)), Rejected)

    virtual_time.run(main())


def test_a_day_of_a_busy_service_passes_in_a_moment() -> None:
    async def main() -> None:
        fake = Fake(Behaviour(takes_s=3600.0), latency_s=0.1)

        async def work() -> None:
            for _ in range(24):
                await finished_at_the_hour(fake)

        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(work())
        assert len(fake.jobs_made) == 50 * 24
        assert fake.most_in_flight == 50
        assert asyncio.get_running_loop().time() == pytest.approx(24 * 3600.2)

    virtual_time.run(main())


async def finished_at_the_hour(fake: Fake) -> None:
    job_id = await accepted(fake)
    await asyncio.sleep(3600.0)
    assert isinstance(await fake.retrieve(job_id), Done)
