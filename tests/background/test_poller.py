"""What the poller decides without the network."""

from __future__ import annotations

from types import SimpleNamespace

import uvloop

from runner.background.poller import Poller
from runner.config.limits import Limits
from runner.config.poll import Poll
from runner.measure.meter import Meter
from runner.records import Failure, Job
from runner.session.follower import MOST_ASKED
from runner.transport.outcomes import Throttled


class Clock:
    """Stands still until it is put forward."""

    at = 0.0

    def now(self):
        return self.at

    def unix(self, monotonic):
        return monotonic

    monotonic = unix


class PutsOff:
    """Looks are due after a second, until it learns better."""

    gap_s = 1.0
    asked = 0

    def next_poll(self, job, now):
        self.asked += 1
        return job.accepted + self.gap_s

    def started(self, job, late_s):
        pass


def test_jobs_that_are_put_off_all_at_once_are_asked_about_a_bounded_number_at_a_time() -> None:
    async def scenario():
        clock, policy = Clock(), PutsOff()
        config = SimpleNamespace(poll=Poll(), limits=Limits())
        poller = Poller(SimpleNamespace(meter=Meter(3 * MOST_ASKED), config=config, clock=clock))
        poller._policy = policy
        for row in range(3 * MOST_ASKED):
            poller.follow(Job(row, f"row-{row}", f"job-{row}", "m", 0.0, 0.0, 0.0, 1))
        clock.at, policy.gap_s, policy.asked = 2.0, 100.0, 0

        for turn in range(1, 4):
            assert poller.take(clock.at) == (None, 1.0 if turn < 3 else 100.0)
            assert policy.asked == turn * MOST_ASKED
        assert poller.take(clock.at) == (None, 100.0)

    uvloop.run(scenario())


def test_a_job_past_its_deadline_is_not_given_up_because_the_service_wants_fewer_questions() -> None:
    async def scenario():
        lost = []
        contact = SimpleNamespace(note=lambda *_: None, answered_since=lambda _: True)
        parts = SimpleNamespace(
            meter=Meter(1),
            config=SimpleNamespace(poll=Poll(deadline_s=1.0), limits=Limits()),
            clock=Clock(),
            contact=contact,
            throttled=lambda *_: None,
            retry_wait_s=lambda *_: 0.5,
            sink=SimpleNamespace(lose=lambda *it: lost.append(it)),
        )
        poller = Poller(parts)
        job = Job(0, "row-0", "job-0", "m", 0.0, 0.0, 0.0, 1)
        for at in range(10, 20):
            poller._circuit.started()
            await poller._settle(job, Throttled("429", 0.5, Failure("busy", "too many")), at - 0.1, at)
        assert (job.failed_polls, lost) == (10, [])

    uvloop.run(scenario())
