"""A coordinator and real worker sessions on one event loop, before one service in memory, in virtual time."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.engine.coordinator import Coordinator
from runner.engine.task import Task
from runner.errors import EndpointUnreachable, KeyRefused, NothingAccepted, RunnerError
from runner.measure.summary import summarise
from runner.measure.vitals import Fleet
from runner.store import ResultHead, read_results, reopen
from runner.transport.fake import (
    Behaviour,
    Exchange,
    Fake,
    FakeJob,
    Script,
    rejected,
    transient,
    unauthorised,
)
from runner.transport.fake_outcomes import USAGE
from runner.transport.outcomes import SubmitOutcome
from tests import virtual_time
from tests.engine.coordinating import make_task
from tests.engine.session_worker import SessionWorker, loop_clock


class Ran:
    """A session of a run over some workers, from its beginning to its end."""

    def __init__(self, task: Task, fake: Fake, stop_after_s: float = math.inf) -> None:
        self.task = task
        self.said: list[str] = []
        self.took_s = 0.0
        self.ended_by = virtual_time.run(self._run(fake, stop_after_s))

    async def _run(self, fake: Fake, stop_after_s: float) -> RunnerError | None:
        loop, task = asyncio.get_running_loop(), self.task
        assert isinstance(task.vitals, Fleet)
        task.history.meter.begin(loop_clock().now())
        engine = Coordinator(task, task.vitals, self.said.append, lambda: SessionWorker(fake))
        if stop_after_s < math.inf:
            loop.call_later(stop_after_s, engine.shutdown.signal, 2)
        async with asyncio.timeout(3600):
            outcome = await engine.run()
        self.took_s = loop.time()
        return outcome.ended_by

    def results(self) -> list[ResultHead]:
        return list(read_results(*self.task.run_dir.all_results))

    def statuses(self) -> Counter[str]:
        """Return the number of rows by status; no row may have two lines."""
        results = self.results()
        assert len({result.row for result in results}) == len(results)
        return Counter(result.status for result in results)

    def assert_each_row_once(self) -> None:
        in_flight = self.task.history.in_flight
        assert self.ended_by is None
        assert self.statuses() == {"completed": in_flight.total}
        assert (in_flight.finished, in_flight.outstanding, in_flight.announced) == (in_flight.total, 0, 0)


def row_of(exchange: Exchange) -> int:
    """Return the row of a POST with the default prompt."""
    text: str = msgspec.json.decode(exchange.body)["input"]
    return int(text.split("TASK ")[1].split(":")[0])


def test_limits_hold_for_all_workers_together_and_each_row_ends_once(tmp_path: Path) -> None:
    task = make_task(
        tmp_path,
        rows=2000,
        workers=3,
        submit={"concurrency": 20, "max_in_flight": 301},
        poll={"concurrency": 10, "interval_s": 0.2},
    )
    fake = Fake(Behaviour(takes_s=2.0), latency_s=0.02)
    ran = Ran(task, fake)

    ran.assert_each_row_once()
    assert len(fake.posts) == len(fake.jobs_made) == 2000
    assert fake.at_once["submit"].most <= 20
    assert fake.at_once["retrieve"].most <= 10
    assert fake.most_in_flight <= 301
    rows_of_each = [len(path.read_bytes().splitlines()) for path in task.run_dir.all_results[1:]]
    assert len(rows_of_each) == 3
    assert min(rows_of_each) > 2000 / 3 / 2
    counts = task.history.meter.counts
    assert (counts.accepted, counts.polls) == (2000, len(fake.gets))
    assert counts.tokens["output"] == 2000 * USAGE.output


def test_latencies_of_all_workers_are_in_the_summary(tmp_path: Path) -> None:
    task = make_task(tmp_path, rows=600, submit={"max_in_flight": 100}, poll={"interval_s": 0.1})
    ran = Ran(task, Fake(Behaviour(takes_s=lambda job: 1.0 + job.number / 300)))
    history = task.history
    summary = summarise(history.meter, history.in_flight, history.session, "complete", None, task.vitals)

    exact = sorted(result.timing.done - result.timing.due for result in ran.results())
    completion = summary.latency_s.completion
    assert completion.p50 == pytest.approx(exact[len(exact) // 2], rel=0.01)
    assert completion.max == pytest.approx(exact[-1], rel=0.01)
    assert completion.mean == pytest.approx(sum(exact) / len(exact), rel=0.001)


def test_the_first_request_goes_alone_and_a_refused_key_is_reported_once(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit=lambda _: unauthorised()), latency_s=0.1)
    ran = Ran(make_task(tmp_path, workers=4), fake)

    assert isinstance(ran.ended_by, KeyRefused)
    assert len(ran.ended_by.problems) == 1
    assert len(fake.posts) == 1
    assert ran.said == []


def test_when_every_row_is_rejected_ten_are_sent_in_all(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit=lambda _: rejected("no such model")))
    ran = Ran(make_task(tmp_path, workers=3), fake)

    assert isinstance(ran.ended_by, NothingAccepted)
    assert "the first 10 requests were all rejected" in str(ran.ended_by)
    assert len(fake.posts) == 10
    assert ran.said == ["the first request was rejected: no such model"]


def test_an_address_where_nobody_listens_is_reported_once(tmp_path: Path) -> None:
    ran = Ran(make_task(tmp_path, workers=3), Fake(down_mono=[(0.0, math.inf)]))

    assert isinstance(ran.ended_by, EndpointUnreachable)
    assert str(ran.ended_by).count("no Responses API answers there") == 1
    assert ran.results() == []


def test_an_outage_ends_the_run_and_it_continues_with_other_workers_once_it_is_over(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=3.0), down_mono=[(10.0, math.inf)])
    sections: dict[str, Any] = {
        "submit": {"max_in_flight": 100},
        "limits": {"max_outage_s": 20, "drain_s": 1},
    }
    ran = Ran(make_task(tmp_path, 600, workers=2, **sections), fake)
    assert isinstance(ran.ended_by, EndpointUnreachable)
    assert str(ran.ended_by).count("nothing but failures") == 1
    assert 0 < ran.statuses()["completed"] < 600

    back = follow_on(fake)
    ran = Ran(make_task(tmp_path, 600, workers=3, **sections), back)
    ran.assert_each_row_once()
    assert len(back.jobs_made) == 600


def test_a_worker_with_nothing_but_rows_that_always_fail_is_no_outage(tmp_path: Path) -> None:
    def submit(exchange: Exchange) -> SubmitOutcome | None:
        return transient("500") if row_of(exchange) < 2 else None

    sections: dict[str, Any] = {
        "submit": {"concurrency": 2, "max_in_flight": 4, "retry": {"max_attempts": 8}},
        "limits": {"max_outage_s": 10},
    }
    ran = Ran(make_task(tmp_path, rows=120, **sections), Fake(script=Script(submit=submit)))

    assert ran.ended_by is None
    assert {it.row for it in ran.results() if it.status == "rejected"} == {0, 1}
    assert ran.statuses() == {"completed": 118, "rejected": 2}


def test_a_block_of_bad_rows_is_no_reason_to_stop_once_the_service_is_confirmed(tmp_path: Path) -> None:
    def submit(exchange: Exchange) -> SubmitOutcome | None:
        return rejected("bad row") if 20 <= row_of(exchange) < 100 else None

    ran = Ran(make_task(tmp_path, rows=160), Fake(script=Script(submit=submit)))

    assert ran.ended_by is None
    assert ran.statuses() == {"completed": 80, "rejected": 80}


def test_rows_that_wait_for_a_slot_with_one_worker_go_to_another(tmp_path: Path) -> None:
    """The first three jobs take an hour: whoever has them has no slot for its other rows."""

    def takes_s(job: FakeJob) -> float:
        return 3000.0 if job.number <= 3 else 1.0

    task = make_task(tmp_path, rows=100, submit={"concurrency": 2, "max_in_flight": 6})
    fake = Fake(Behaviour(takes_s=takes_s))
    ran = Ran(task, fake, stop_after_s=60)

    assert ran.statuses() == {"completed": 97}
    assert task.history.in_flight.outstanding == 3
    assert len(fake.posts) == 100


def test_a_run_of_one_process_is_continued_by_several_and_by_one_again(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=5.0))
    sections: dict[str, Any] = {"submit": {"max_in_flight": 50}, "limits": {"drain_s": 0}}
    for workers, stop_after_s in ((3, 6.0), (2, 4.0), (4, 8.0)):
        task = make_task(tmp_path, 600, workers=workers, **sections)
        ran = Ran(task, fake, stop_after_s)
        assert ran.ended_by is not None
        assert task.history.in_flight.finished == sum(ran.statuses().values())
        fake = follow_on(fake)
    ran = Ran(make_task(tmp_path, 600, workers=2, **sections), fake)

    ran.assert_each_row_once()
    assert len(fake.jobs_made) == 600
    assert ran.task.session == 3


def follow_on(fake: Fake) -> Fake:
    """Return the service of the next session, whose clock begins at 0: jobs of earlier ones have ended."""
    for job in fake.jobs_made:
        job.ends_mono = 0.0
    following = Fake(fake.service.behaviour)
    following.service = fake.service
    return following


def test_rows_that_failed_are_retried_by_other_workers_under_other_keys(tmp_path: Path) -> None:
    fake = Fake(Behaviour(ends=lambda job: "failed" if job.number % 3 == 0 else "completed"))
    ran = Ran(make_task(tmp_path, 90, workers=3), fake)
    failed = {result.row for result in ran.results() if result.status == "failed"}
    assert len(failed) == 30

    assert reopen(ran.task.run_dir, ["failed"], 90, 1.0) == 30
    again = Fake()
    ran = Ran(make_task(tmp_path, 90, workers=2), again)
    ran.assert_each_row_once()
    assert {result.row for result in ran.results() if result.epoch == 1} == failed
    assert not {post.key for post in again.posts} & {post.key for post in fake.posts}


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), workers=st.integers(2, 4))
def test_whatever_fails_on_the_way_each_row_completes_once_and_runs_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int, workers: int
) -> None:
    def submit(exchange: Exchange) -> SubmitOutcome | None:
        if (exchange.number * 7 + seed) % 5:
            return None
        return transient(("500", "timeout", "reset")[(exchange.number + seed) % 3], ambiguous=False)

    path = tmp_path_factory.mktemp("runs")
    fake = Fake(Behaviour(takes_s=1.5), Script(submit=submit), latency_s=0.05)
    retry = {"max_attempts": 30, "base_s": 0.1, "cap_s": 1.0}
    ran = Ran(make_task(path, 150, workers, submit={"retry": retry}), fake)

    ran.assert_each_row_once()
    assert len(fake.jobs_made) == 150
    assert len(fake.posts) == 150 + ran.task.history.meter.counts.submit_retries.total()
