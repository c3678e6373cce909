"""Batch mode in one session: slots, limits, and how the session ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runner.errors import LimitReached
from runner.transport.fake import Behaviour, Fake, Script
from runner.transport.outcomes import BatchOutcome, Listing
from tests.batch.support import BatchSession, run_batches
from tests.listed import listed

NEVER = 1e9


def most_open(fake: Fake) -> int:
    """Return the highest number of batches that were made and not fetched completely."""
    changes = [(exchange.started_mono, 1) for exchange in fake.of("create_batch")]
    for batch in fake.batches_made:
        fetched = [
            exchange.ended_mono or NEVER for exchange in fake.of("batch_result") if exchange.id == batch.id
        ]
        changes.append((max(fetched, default=NEVER), -1))
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def test_every_row_has_one_result_and_every_batch_is_sent_once(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=lambda job: 1.0 + job.number % 7))
    ended = run_batches(tmp_path, fake, rows=1005, batch={"max_requests": 100})
    assert ended.ended_by is None
    assert ended.statuses == {"completed": 1005}
    assert [len(batch.jobs) for batch in fake.batches_made].count(100) == 10
    assert len(fake.of("create_batch")) == 11
    assert len(fake.of("batch_result")) == 1005
    for row, result in ended.results.items():
        assert result.custom_id == f"row-{row}"
        assert result.response is not None
        timing = result.timing
        assert timing.sent is not None
        assert timing.accepted is not None
        assert timing.due <= timing.sent <= timing.accepted <= timing.done


@pytest.mark.parametrize("max_open", [1, 2, 3])
@pytest.mark.parametrize("lists_batches", [True, False])
def test_no_more_batches_are_outstanding_than_max_open(
    tmp_path: Path, max_open: int, lists_batches: bool
) -> None:
    """The acceptance of the first batch also confirms a service without a list, and wakes the planner."""
    fake = Fake(Behaviour(takes_s=20.0, lists_batches=lists_batches), latency_s=0.1)
    ended = run_batches(tmp_path, fake, rows=60, batch={"concurrency": 4, "max_open": max_open})
    assert ended.statuses == {"completed": 60}
    assert most_open(fake) == max_open


def test_few_bodies_are_on_the_disk_however_many_batches_are_outstanding(tmp_path: Path) -> None:
    seen = []

    async def count_bodies(_: BatchSession) -> None:
        for _tenth in range(30):
            seen.append(len(list(tmp_path.glob(".batch-*"))))  # noqa: ASYNC240 - it is the matter of this test
            await asyncio.sleep(0.1)

    fake = Fake(Behaviour(takes_s=60.0), latency_s=1.0)
    run_batches(tmp_path, fake, 500, count_bodies, batch={"max_open": 50, "concurrency": 2})
    assert 1 <= max(seen) <= 3 + 1, "two being sent, one waiting, one being cut"


def test_a_drained_session_sends_nothing_more_and_collects_what_is_outstanding(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=20.0))
    limits = {"max_s": 5.0, "drain_s": 100.0}
    ended = run_batches(tmp_path, fake, rows=300, batch={"max_open": 2}, limits=limits)
    assert isinstance(ended.ended_by, LimitReached)
    assert ended.statuses == {"completed": 20}
    assert ended.in_flight.outstanding == 0
    assert ended.has_said("limits.max_s: nothing more is sent; waiting at most 100 s for 20 open jobs")
    assert len(fake.batches_made) == 2


def test_a_drain_ends_in_time_with_what_is_still_outstanding(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=3600.0))
    ended = run_batches(tmp_path, fake, rows=25, limits={"max_s": 5.0, "drain_s": 10.0})
    assert (ended.at_s, ended.in_flight.outstanding, ended.results) == (15.0, 25, {})


def test_too_many_failures_stop_the_run(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=0.0, ends="failed"))
    batch, limits = {"max_open": 2}, {"max_failures": 20}
    ended = run_batches(tmp_path, fake, rows=500, batch=batch, limits=limits)
    assert "limits.max_failures 20" in str(ended.ended_by)
    assert 20 <= ended.statuses["failed"] <= 20 + 2 * 10
    sent = len(fake.batches_made)
    assert run_batches(tmp_path, fake, rows=500, batch=batch, limits=limits).statuses == ended.statuses
    assert len(fake.batches_made) == sent
    assert run_batches(tmp_path, fake, rows=500).statuses == {"failed": 500}


def test_rows_that_are_rejected_count_as_failures(tmp_path: Path) -> None:
    source = listed(200, large=dict.fromkeys(range(20, 40), 3000))
    batch = {"concurrency": 1, "max_open": 1, "max_bytes": 2000}
    ended = run_batches(tmp_path, Fake(), source, batch=batch, limits={"max_failures": 5})
    assert "limits.max_failures 5" in str(ended.ended_by)
    assert 5 <= ended.statuses["rejected"] <= 20
    assert ended.in_flight.outstanding == 0


PRICES = {"input": 1.0, "output": 100.0}


@pytest.mark.parametrize("max_requests", [10, 100_000])
def test_a_budget_includes_what_is_in_flight(tmp_path: Path, max_requests: int) -> None:
    fake = Fake(Behaviour(takes_s=1.0))
    batch, limits = {"max_requests": max_requests}, {"max_cost_usd": 1.0}
    ended = run_batches(tmp_path, fake, rows=1000, batch=batch, limits=limits, prices=PRICES)
    assert "limits.max_cost_usd 1" in str(ended.ended_by)
    cost_usd = len(ended.results) * (10 * 1.0 + 20 * 100.0) / 1e6
    assert 0.95 < cost_usd < 1.05
    assert sum(len(made.jobs) for made in fake.batches_made) == len(ended.results)


def test_until_the_first_result_shows_what_one_costs_few_rows_are_sent(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=NEVER))
    limits = {"max_cost_usd": 5, "max_s": 5.0, "drain_s": 1.0}
    run_batches(tmp_path, fake, rows=500, prices=PRICES, batch={"max_requests": 500}, limits=limits)
    assert sum(len(made.jobs) for made in fake.batches_made) == 20


def test_an_answer_that_is_no_answer_to_a_poll_stops_the_session_and_says_so(tmp_path: Path) -> None:
    odd: BatchOutcome = Listing(())  # type: ignore[assignment]  # what no transport returns
    fake = Fake(script=Script(retrieve_batch=lambda _: odd))
    ended = run_batches(tmp_path, fake, rows=10, limits={"max_s": 100.0})
    assert "a defect of this program" in str(ended.ended_by)
    assert "a poll of a batch cannot be answered with Listing" in str(ended.ended_by)
    assert ended.in_flight.outstanding == 10
