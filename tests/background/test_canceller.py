"""Cancelling what is outstanding: one by one until it works, then all at once, and every result is kept."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runner.background.canceller import (
    FIRST_POLL_S,
    LONGEST_POLL_S,
    MOST_REFUSALS,
    CancelCounts,
    CancelMode,
    NoRows,
)
from runner.errors import KeyRefused, StoppedEarly
from runner.records import Job
from runner.session.session import Session, SessionOutcome
from runner.store.results import ResultHead, read_results
from runner.transport.fake import (
    Behaviour,
    Exchange,
    Fake,
    Script,
    done,
    gone,
    rejected,
    throttled,
    transient,
    unauthorised,
)
from runner.transport.outcomes import PENDING, CancelOutcome, RetrieveOutcome
from tests import virtual_time
from tests.listed import listed
from tests.session.building import job_of
from tests.session.support import UNIX, RecordingHost, Surroundings, config_of


@dataclass(frozen=True)
class Cancelled:
    """What came of a cancellation."""

    outcome: SessionOutcome
    counted: CancelCounts
    results: dict[int, ResultHead]
    outstanding: int
    at_s: float

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.counted.cancelled, self.counted.ended, self.counted.unknown


Act = Callable[[Session[CancelMode]], Coroutine[Any, Any, None]]


def cancel(
    directory: Path, fake: Fake, jobs: int, act: Act | None = None, timeout_s: float = 3600.0
) -> Cancelled:
    """Make that many jobs at the service, then cancel them all within a time."""

    async def main() -> Cancelled:
        loop = asyncio.get_running_loop()
        outstanding: list[Job] = []
        for row in range(jobs):
            fake.service.submit(b"{}", f"key-{row}", 0.0)
            outstanding.append(job_of(row + 1, accepted=UNIX, inherited=True))
        await asyncio.sleep(10.0)
        around = Surroundings(directory, jobs, config_of())
        around.in_flight.inherit(jobs)
        assignment = around.assignment(listed(0), fake, ends_when_complete=False)
        session = Session(assignment, lambda parts, _: CancelMode(parts, outstanding), RecordingHost())
        loop.call_later(timeout_s, session.shutdown.end)
        outcome = await session.run(*([act(session)] if act else []))
        results = {head.row: head for head in read_results(around.run_dir.results)}
        left = around.in_flight.outstanding
        assert len(results) + left == jobs
        return Cancelled(outcome, session.mode.counts, results, left, loop.time() - 10.0)

    return virtual_time.run(main())


def answers_by_job(
    cancels: dict[str, CancelOutcome], gets: dict[str, RetrieveOutcome] | None = None
) -> Script:
    return Script(cancel=lambda it: cancels.get(it.id), retrieve=lambda it: (gets or {}).get(it.id))


FOR_EVER = Behaviour(takes_s=math.inf)


def test_every_job_is_cancelled_and_has_its_result(tmp_path: Path) -> None:
    fake = Fake(FOR_EVER, latency_s=0.1)
    cancelled = cancel(tmp_path, fake, 100)
    assert (cancelled.counts, cancelled.outstanding) == ((100, 0, 0), 0)
    assert {result.status for result in cancelled.results.values()} == {"cancelled"}
    assert (len(fake.of("cancel")), fake.gets, fake.posts) == (100, [], [])
    assert cancelled.outcome.ended_by is None


def test_they_go_one_by_one_until_one_is_accepted_and_then_all_at_once(tmp_path: Path) -> None:
    fake = Fake(FOR_EVER, Script(cancel={1: transient("503"), 2: throttled(2.0)}), latency_s=1.0)
    cancel(tmp_path, fake, 60)
    cancels = fake.of("cancel")
    for earlier, later in pairwise(cancels[:4]):
        assert later.started_mono >= (earlier.ended_mono or math.inf)
    assert fake.at_once["cancel"].most > 10


def test_a_cancellation_that_takes_a_while_is_polled_at_growing_intervals(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=math.inf, cancel_s=30.0))
    cancelled = cancel(tmp_path, fake, 1)
    polls = [get.started_mono - 10.0 for get in fake.gets]
    assert polls[:5] == [FIRST_POLL_S, 1.5, 3.5, 7.5, 7.5 + LONGEST_POLL_S]
    assert (cancelled.counts, len(fake.of("cancel"))) == ((1, 0, 0), 1)
    assert 30.0 <= cancelled.at_s <= 30.0 + LONGEST_POLL_S


def test_jobs_that_had_ended_or_end_meanwhile_keep_their_results(tmp_path: Path) -> None:
    behaviour = Behaviour(takes_s=lambda job: {1: 5.0, 2: 12.0}.get(job.number, math.inf), cancel_s=30.0)
    cancelled = cancel(tmp_path, Fake(behaviour), 5)
    assert cancelled.counts == (3, 2, 0)
    assert [cancelled.results[row].status for row in range(1, 6)] == [
        "completed", "completed", "cancelled", "cancelled", "cancelled",
    ]  # fmt: skip


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_service_that_cannot_cancel_is_asked_once(tmp_path: Path, status: int) -> None:
    fake = Fake(FOR_EVER, Script(cancel=lambda _: rejected("no such call", status)), latency_s=0.1)
    cancelled = cancel(tmp_path, fake, 30)
    assert (len(fake.of("cancel")), len(fake.gets)) == (1, 1)
    assert (cancelled.counts, cancelled.outstanding) == ((0, 0, 0), 30)
    assert cancelled.counted.refusal
    assert cancelled.counted.refusal.message == "no such call"
    assert cancelled.outcome.ended_by is None


def test_results_that_are_there_are_kept_even_where_nothing_can_be_cancelled(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=lambda job: 1.0 if job.number < 4 else math.inf, cancel_s=None))
    cancelled = cancel(tmp_path, fake, 10)
    assert (cancelled.counts, cancelled.outstanding) == ((0, 3, 0), 7)
    assert len(fake.of("cancel")) == 4


def test_a_stray_404_where_others_were_cancelled_is_asked_again_three_times(tmp_path: Path) -> None:
    fake = Fake(FOR_EVER, answers_by_job({"job-2": rejected("Not found.", 404)}))
    cancelled = cancel(tmp_path, fake, 5)
    assert sum(it.id == "job-2" for it in fake.of("cancel")) == MOST_REFUSALS
    assert (cancelled.counts, cancelled.outstanding) == ((4, 0, 0), 1)


def test_a_job_that_is_unknown_to_cancel_and_to_poll_is_left_for_the_run_to_judge(tmp_path: Path) -> None:
    script = answers_by_job({"job-2": rejected("Not found.", 404)}, {"job-2": gone()})
    cancelled = cancel(tmp_path, Fake(FOR_EVER, script), 5)
    assert (cancelled.counts, cancelled.outstanding) == ((4, 0, 1), 1)


@pytest.mark.parametrize("status", [400, 409])
def test_one_job_that_cannot_be_cancelled_any_more_holds_up_no_other(tmp_path: Path, status: int) -> None:
    fake = Fake(FOR_EVER, answers_by_job({"job-1": rejected("already being delivered", status)}))
    cancelled = cancel(tmp_path, fake, 8)
    assert (cancelled.counts, cancelled.outstanding) == ((7, 0, 0), 1)
    assert cancelled.counted.refusal
    assert cancelled.counted.refusal.message == "already being delivered"
    assert sum(it.id == "job-1" for it in fake.of("cancel")) == 1


def test_a_job_that_was_refused_because_it_is_done_keeps_its_result(tmp_path: Path) -> None:
    script = answers_by_job({"job-1": rejected("it has completed", 409)}, {"job-1": done("job-1")})
    cancelled = cancel(tmp_path, Fake(FOR_EVER, script), 3)
    assert (cancelled.counts, cancelled.counted.refusal) == ((2, 1, 0), None)


def test_one_throttled_cancellation_holds_back_all(tmp_path: Path) -> None:
    fake = Fake(FOR_EVER, Script(cancel={30: throttled(40.0)}), latency_s=1.0)
    cancelled = cancel(tmp_path, fake, 100)
    closed = fake.of("cancel")[29].ended_mono
    assert closed
    assert not [it for it in fake.of("cancel") if closed < it.started_mono < closed + 40.0]
    assert cancelled.counts == (100, 0, 0)


def test_failures_of_every_kind_are_retried_until_each_job_has_ended_once(tmp_path: Path) -> None:
    kinds = [transient("500"), transient("502"), transient("reset"), throttled(1.0), transient("not_json")]

    def failing(exchange: Exchange) -> Any:
        return kinds[exchange.number % 5] if exchange.number % 3 == 0 else None

    fake = Fake(
        Behaviour(takes_s=math.inf, cancel_s=5.0), Script(cancel=failing, retrieve=failing), latency_s=0.1
    )
    cancelled = cancel(tmp_path, fake, 60)
    assert (cancelled.counts, len(cancelled.results)) == ((60, 0, 0), 60)


def test_it_ends_when_its_time_is_over(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=math.inf, cancel_s=math.inf))
    cancelled = cancel(tmp_path, fake, 5, timeout_s=60.0)
    assert (cancelled.at_s, cancelled.outstanding, len(fake.of("cancel"))) == (60.0, 5, 5)
    assert cancelled.outcome.ended_by is None


def test_a_signal_ends_it_and_keeps_what_came(tmp_path: Path) -> None:
    async def act(session: Session[CancelMode]) -> None:
        await asyncio.sleep(20.0)
        session.shutdown.stop(StoppedEarly("interrupted"))

    script = Script(cancel=lambda it: PENDING if it.number > 2 else None)
    cancelled = cancel(tmp_path, Fake(FOR_EVER, script), 5, act)
    assert (cancelled.counts, cancelled.outstanding) == ((2, 0, 0), 3)
    assert str(cancelled.outcome.ended_by) == "interrupted"
    assert cancelled.at_s == 20.0


def test_a_refused_key_ends_it(tmp_path: Path) -> None:
    cancelled = cancel(tmp_path, Fake(FOR_EVER, Script(cancel={2: unauthorised()})), 5)
    assert isinstance(cancelled.outcome.ended_by, KeyRefused)
    assert cancelled.outstanding > 0


def test_an_address_where_nobody_listens_ends_it(tmp_path: Path) -> None:
    cancelled = cancel(tmp_path, Fake(FOR_EVER, down_mono=[(0.0, math.inf)]), 5)
    assert "no Responses API answers there" in str(cancelled.outcome.ended_by)
    assert cancelled.outstanding == 5


def test_it_sends_no_rows() -> None:
    assert list(NoRows().blocks()) == []


def test_nothing_can_be_accepted_while_cancelling(tmp_path: Path) -> None:
    async def act(session: Session[CancelMode]) -> None:
        with pytest.raises(AssertionError):
            session.mode.follow(job_of(1))
        session.mode.wake()

    assert cancel(tmp_path, Fake(FOR_EVER), 2, act).counts == (2, 0, 0)
