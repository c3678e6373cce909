"""Batch mode as a whole: slots, sessions that follow one another, and the end of each, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runner.errors import LimitReached, StoppedEarly
from runner.transport.fake import Behaviour, Fake, Script
from runner.transport.outcomes import BatchOutcome, Listing
from tests.batch.support import Act, BatchSession, Listed, listed, names_in, run_batches

NEVER = 1e9


def stop_at(mono: float) -> Act:
    """Return what stops a session at this time, as a kill does for what follows."""

    async def act(it: BatchSession) -> None:
        await asyncio.sleep(mono)
        it.session.shutdown.force(StoppedEarly("killed"))

    return act


def keep(path: Path, wanted: Callable[[bytes], bool]) -> None:
    """Leave only the wanted lines of a file, as if a kill or a full disk had kept the others from it."""
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(keepends=True) if wanted(line)))


def lose_acceptances(directory: Path, rows: Sequence[int]) -> None:
    """Leave of a complete run the intents of its batches, and the results of some rows."""
    keep(directory / "journal.jsonl", lambda line: b"batch_accepted" not in line)
    marks = [b'"row":%d,' % row for row in rows]
    keep(directory / "results.jsonl", lambda line: any(mark in line for mark in marks))


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


def test_batches_of_an_earlier_session_occupy_slots(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=1000.0, lists_batches=False))
    for _ in range(3):
        ended = run_batches(tmp_path, fake, 500, stop_at(50.0), batch={"max_open": 3})
        assert len(fake.batches_made) == 3
        assert (ended.in_flight.outstanding, ended.results) == (30, {})


def test_few_bodies_are_on_the_disk_however_many_batches_are_outstanding(tmp_path: Path) -> None:
    seen = []

    async def count_bodies(_: BatchSession) -> None:
        for _tenth in range(30):
            seen.append(len(list(tmp_path.glob(".batch-*"))))  # noqa: ASYNC240 - it is the matter of this test
            await asyncio.sleep(0.1)

    fake = Fake(Behaviour(takes_s=60.0), latency_s=1.0)
    run_batches(tmp_path, fake, 500, count_bodies, batch={"max_open": 50, "concurrency": 2})
    assert 1 <= max(seen) <= 3 + 1, "two being sent, one waiting, one being cut"


def test_a_session_that_has_nothing_to_do_does_nothing(tmp_path: Path) -> None:
    assert run_batches(tmp_path, Fake(), rows=20).statuses == {"completed": 20}
    fake = Fake()
    ended = run_batches(tmp_path, fake, rows=20)
    assert (ended.ended_by, ended.at_s, fake.of("create_batch")) == (None, 0.0, [])


def test_results_of_outstanding_batches_are_collected_by_the_next_session(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=lambda job: 2.0 if job.number % 2 else 50.0))
    ended = run_batches(tmp_path, fake, 40, stop_at(10.0))
    assert ended.statuses == {"completed": 20}
    before = dict(ended.results)
    ended = run_batches(tmp_path, fake, rows=40)
    assert ended.statuses == {"completed": 40}
    assert {row: ended.results[row] for row in before} == before
    assert len(fake.of("create_batch")) == len(fake.batches_made) == 4
    assert len(fake.of("batch_result")) == 40


def test_killed_again_and_again_each_row_ends_once_and_runs_once(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=lambda job: 1.0 + 3.0 * (job.number % 5)), latency_s=0.3)
    for kill_at in (0.4, 0.75, 1.1, 1.3, 2.0, 3.7, 5.0, 9.0):
        run_batches(tmp_path, fake, 200, stop_at(kill_at), batch={"max_requests": 20, "max_open": 3})
    ended = run_batches(tmp_path, fake, rows=200, batch={"max_requests": 20})
    assert ended.statuses == {"completed": 200}
    assert sum(len(batch.jobs) for batch in fake.batches_made) == 200
    assert len({intent.batch for intent in ended.intents}) == 10


@pytest.mark.parametrize("header", ["Idempotency-Key", None])
def test_a_batch_whose_acknowledgement_a_kill_took_is_found_by_the_next_session(
    tmp_path: Path, header: str | None
) -> None:
    fake = Fake(Behaviour(takes_s=5.0), latency_s=lambda it: 9.0 if it.verb == "create_batch" else 0.0)
    target = {"idempotency_header": header}
    ended = run_batches(tmp_path, fake, 20, stop_at(1.0), target=target)
    assert (ended.in_flight.announced, len(fake.batches_made)) == (10, 1)
    fake.latency_s = 0.0
    ended = run_batches(tmp_path, fake, rows=20, target=target)
    assert ended.statuses == {"completed": 20}
    assert len(fake.of("create_batch")) == len(fake.batches_made) == 2


def test_rows_that_have_a_result_are_taken_from_no_other_batch(tmp_path: Path) -> None:
    """As when the disk was full for the journal, and not for the results."""
    fake = Fake(Behaviour(takes_s=0.0))
    ended = run_batches(tmp_path, fake, rows=40)
    lose_acceptances(tmp_path, [7, 8])
    again = run_batches(tmp_path, fake, rows=40)
    assert again.statuses == {"completed": 40}
    assert (again.results[7], again.results[8]) == (ended.results[7], ended.results[8])
    assert len(fake.of("create_batch")) == 4


def test_a_refused_batch_with_rows_that_are_done_is_taken_apart(tmp_path: Path) -> None:
    """Its body has two rows that must not be paid for again, so other batches are cut from the others."""
    run_batches(tmp_path, Fake(Behaviour(takes_s=0.0)), rows=10)
    lose_acceptances(tmp_path, [7, 8])
    fake = Fake(Behaviour(takes_s=0.0), Script(list_batches=lambda _: Listing(())))
    ended = run_batches(tmp_path, fake, rows=10)
    assert ended.statuses == {"completed": 10}
    (post,) = fake.of("create_batch")
    assert names_in(post.body) == [f"row-{i}" for i in range(10) if i not in (7, 8)]
    assert [entry.cause for entry in ended.retractions] == ["absent"]
    assert ended.intents[-1].batch == 1


def test_ids_of_inherited_rows_are_those_of_the_first_session(tmp_path: Path) -> None:
    source = Listed(listed(20).bodies, ["Zoë", "zoë", *(f"Row {i}" for i in range(18))])
    fake = Fake(Behaviour(takes_s=20.0))
    run_batches(tmp_path, fake, source, stop_at(5.0))
    ended = run_batches(tmp_path, fake, source)
    assert [ended.results[row].custom_id for row in range(20)] == source.ids


def test_the_deadline_of_an_inherited_batch_is_not_moved_by_a_clock_that_was_set_back(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=NEVER))
    run_batches(tmp_path, fake, 10, stop_at(500.0))
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"at":1000000.', b'"at":9000000.'))
    ended = run_batches(tmp_path, fake, rows=10, poll={"deadline_s": 60.0})
    assert ended.statuses == {"expired": 10}
    assert 60.0 <= ended.at_s < 70.0


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
    ended = run_batches(tmp_path, Fake(script=Script(retrieve_batch=lambda _: odd)), rows=10)
    assert "a defect of this program" in str(ended.ended_by)
    assert "a poll of a batch cannot be answered with Listing" in str(ended.ended_by)
    assert ended.in_flight.outstanding == 10


@pytest.mark.parametrize("on_uncertain", ["hold", "resend"])
@pytest.mark.parametrize("forgets", ["batches", "some results"])
def test_what_the_service_forgot_of_an_earlier_session_is_uncertain_or_resent(
    tmp_path: Path, on_uncertain: str, forgets: str
) -> None:
    fake = Fake(Behaviour(takes_s=30.0))
    submit = {"on_uncertain": on_uncertain}
    run_batches(tmp_path, fake, 30, stop_at(5.0), submit=submit)
    for batch in fake.batches_made:
        batch.is_lost = forgets == "batches"
    lost = {"row-1", "row-12"}
    for batch in fake.batches_made:
        for name in lost & set(batch.jobs):
            batch.jobs[name].is_lost = True
    ended = run_batches(tmp_path, fake, rows=30, submit=submit)
    count = 30 if forgets == "batches" else 2
    if on_uncertain == "resend":
        assert ended.statuses == {"completed": 30}
        again = [name for post in fake.of("create_batch")[3:] for name in names_in(post.body)]
        assert len(again) == len(set(again)) == count
    else:
        assert ended.statuses.get("uncertain") == count
        assert len(fake.of("create_batch")) == 3
        assert all("accepted in an earlier session" in it.message for it in ended.failures("uncertain"))
