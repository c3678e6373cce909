"""Batches until they are accepted: which is handed out when, and what is put on record about each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runner.errors import StorageError
from runner.policy.idempotency import KEY_LIFE_S
from runner.records import Failure
from runner.store import BatchAcceptance, BatchIntent, BatchRetraction
from runner.transport.fake import throttled, transient
from tests.batch.desk import Desk, play
from tests.batch.support import UNIX, config_of

NO = Failure("invalid_request_error", "No.", 400)


def test_batches_are_handed_out_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        second, first = it.add(range(10, 20), 1), it.add(range(10), 0)
        assert [await it.take(), await it.take()] == [first, second]
        assert it.bench.in_flight.sending == 2
        assert len(it.submissions) == 2
        assert repr(it.submissions).startswith("<BatchSubmissions 2, 2 handed out, ")
        it.submissions.release()
        assert it.bench.in_flight.sending == 1

    play(tmp_path, scene)


def test_a_batch_is_handed_out_again_when_it_is_due(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = it.add(range(10))
        await it.take()
        it.submissions.release()
        it.submissions.push(batch, it.bench.clock.now_mono() + 7.5)
        assert await it.takes_at(batch) == 7.5

    play(tmp_path, scene)


@pytest.mark.parametrize(("has_accepted", "is_confirmed"), [(False, True), (True, False), (False, False)])
def test_before_the_service_has_accepted_a_batch_only_one_is_handed_out(
    tmp_path: Path, has_accepted: bool, is_confirmed: bool
) -> None:
    async def scene(it: Desk) -> None:
        first, second = it.add(range(10)), it.add(range(10, 20), 1)
        waiting = asyncio.create_task(it.take())
        assert await waiting is first
        waiting = asyncio.create_task(it.take())
        await asyncio.sleep(1.0)
        assert not waiting.done()
        await it.submissions.announce(first)
        it.submissions.accept(first, "batch-1", it.bench.clock.now_mono())
        it.bench.health.confirm()
        it.submissions.release()
        it.submissions.turnstile.wake()
        assert await waiting is second

    play(tmp_path, scene, has_accepted=has_accepted, is_confirmed=is_confirmed)


def test_a_throttled_upload_holds_back_all_batches(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        it.add(range(10))
        other = it.add(range(10, 20), 1)
        await it.take()
        it.submissions.exchanges.settle(throttled(wait_s=30.0), 0.0, 0.0)
        assert 30.0 <= await it.takes_at(other) < 31.0

    play(tmp_path, scene)


def test_a_batch_that_is_requeued_does_not_block_probes_during_an_outage(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        it.add(range(10))
        batch = await it.take()
        for _ in range(20):
            it.submissions.exchanges.started(0.0)
            it.submissions.exchanges.settle(transient("connect"), 0.0, 0.0)
        it.submissions.requeue(batch)
        it.submissions.release()
        assert await it.take() is batch

    play(tmp_path, scene)


def test_an_intent_is_in_the_journal_once_before_the_batch_is_sent(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await it.announced(range(10))
        await it.submissions.announce(batch)
        (intent,) = it.bench.entries()
        assert isinstance(intent, BatchIntent)
        assert (intent.batch, intent.label, intent.key) == (0, batch.label, batch.key)
        assert intent.ranges == [range(10)]
        assert it.bench.in_flight.announced == 10

    play(tmp_path, scene)


def test_a_batch_whose_intent_cannot_be_written_is_not_announced(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = it.add(range(10))
        it.bench.journal.log.close()
        with pytest.raises(StorageError):
            await it.submissions.announce(batch)
        assert not batch.announced
        assert it.bench.in_flight.announced == 0

    play(tmp_path, scene)


def test_an_accepted_batch_counts_until_its_acceptance_is_written(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await it.announced(range(10))
        it.submissions.accept(batch, "batch-1", it.bench.clock.now_mono())
        assert len(it.submissions) == 1
        assert it.gone == []
        await asyncio.sleep(0.0)
        assert len(it.submissions) == 0
        assert it.gone == [0]
        assert [type(entry) for entry in it.bench.entries()] == [BatchIntent, BatchAcceptance]
        assert [opened.id for opened in it.bench.accepted] == ["batch-1"]
        assert (it.bench.in_flight.taken, it.bench.in_flight.outstanding) == (0, 10)
        assert it.bench.meter.counts.accepted == 10

    play(tmp_path, scene)


@pytest.mark.parametrize(("created", "accepted"), [(None, 100.0), (60.0, 60.0), (5.0, 20.0), (300.0, 100.0)])
def test_the_clock_of_the_service_dates_an_acceptance_between_the_post_and_now(
    tmp_path: Path, created: float | None, accepted: float
) -> None:
    async def scene(it: Desk) -> None:
        batch = await it.announced(range(10))
        batch.sent = UNIX + 20.0
        await asyncio.sleep(100.0)
        created_at = None if created is None else UNIX + created
        it.submissions.accept(batch, "batch-1", it.bench.clock.now_mono(), created_at)
        await asyncio.sleep(0.0)
        assert it.bench.accepted[0].accepted == UNIX + accepted

    play(tmp_path, scene)


def test_the_rate_of_acceptance_does_not_count_the_time_between_two_sessions(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await it.announced(range(10))
        batch.sent = UNIX - 86_400.0
        await asyncio.sleep(4.0)
        it.submissions.accept(batch, "batch-1", it.bench.clock.now_mono())
        assert it.bench.meter.total_accepting_s == 4.0

    play(tmp_path, scene)


def test_a_retraction_takes_an_announcement_back_once(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await it.announced(range(10))
        batch.in_doubt = True
        it.submissions.retract(batch, "429", 5.0)
        it.submissions.retract(batch, "429", 6.0)
        await asyncio.sleep(0.0)
        assert it.bench.entries()[1:] == [BatchRetraction(batch=0, cause="429", at=UNIX + 5.0)]
        assert (batch.announced, batch.in_doubt) == (False, False)
        assert (it.bench.in_flight.taken, it.bench.in_flight.announced) == (10, 0)

    play(tmp_path, scene)


@pytest.mark.parametrize("announced", [True, False])
def test_all_rows_of_a_batch_can_be_ended(tmp_path: Path, announced: bool) -> None:
    async def scene(it: Desk) -> None:
        batch = await it.announced(range(10)) if announced else it.add(range(10))
        it.submissions.end(batch, "uncertain", NO)
        await asyncio.sleep(0.0)
        results = it.bench.results()
        assert set(results) == set(range(10))
        assert {(result.status, result.error) for result in results.values()} == {("uncertain", NO)}
        assert repr(it.bench.in_flight).startswith("<InFlight 0 taken, 0 announced")
        assert it.bench.in_flight.finished == 10
        assert (len(it.submissions), it.gone) == (0, [0])

    play(tmp_path, scene)


def test_a_batch_that_is_taken_apart_frees_the_slots_of_its_rows(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await it.announced(range(10))
        it.submissions.retract(batch, "413", 0.0)
        it.submissions.take_apart(batch)
        assert it.requeued == list(range(10))
        assert (it.bench.in_flight.taken, len(it.submissions), it.gone) == (0, 0, [0])

    play(tmp_path, scene)


def test_rows_that_no_longer_belong_to_a_batch_are_neither_ended_nor_requeued(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = it.add(range(10))
        batch.settled = frozenset({0, 3})
        it.bench.in_flight.release(2)
        it.submissions.take_apart(batch)
        assert it.requeued == [1, 2, 4, 5, 6, 7, 8, 9]
        other = it.add(range(10, 20), 1)
        other.settled = frozenset({19})
        it.bench.in_flight.release(1)
        it.submissions.end(other, "rejected", NO)
        await asyncio.sleep(0.0)
        assert set(it.bench.results()) == set(range(10, 19))
        assert it.bench.in_flight.taken == 0

    play(tmp_path, scene)


@pytest.mark.parametrize("is_settled", [True, False])
def test_without_the_offender_a_batch_is_taken_apart_and_the_offender_is_rejected(
    tmp_path: Path, is_settled: bool
) -> None:
    async def scene(it: Desk) -> None:
        batch = await it.announced(range(10))
        it.submissions.retract(batch, "400", 0.0)
        if is_settled:
            batch.settled = frozenset({4})
            it.bench.in_flight.release(1)
        it.submissions.take_apart_without(batch, "row-4", NO, None)
        await asyncio.sleep(0.0)
        assert it.requeued == [0, 1, 2, 3, 5, 6, 7, 8, 9]
        assert set(it.bench.results()) == (set() if is_settled else {4})
        assert it.bench.in_flight.taken == 0

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("header", "age_s", "is_protected"),
    [("Idempotency-Key", 0.0, True), ("Idempotency-Key", KEY_LIFE_S + 1.0, False), (None, 0.0, False)],
)
def test_a_key_protects_a_batch_while_the_service_remembers_it(
    tmp_path: Path, header: str | None, age_s: float, is_protected: bool
) -> None:
    async def scene(it: Desk) -> None:
        batch = it.add(range(10))
        batch.sent = it.bench.clock.now() - age_s
        assert it.submissions.is_protected(batch) is is_protected

    play(tmp_path, scene, config_of(target={"idempotency_header": header}))


@pytest.mark.parametrize(
    ("attempts", "excused", "failing_s", "is_spent"),
    [(3, 0, 60.0, True), (3, 0, 59.0, False), (2, 0, 60.0, False), (9, 7, 60.0, False), (9, 6, 60.0, True)],
)
def test_a_batch_is_given_up_after_enough_attempts_and_the_longest_outage(
    tmp_path: Path, attempts: int, excused: int, failing_s: float, is_spent: bool
) -> None:
    async def scene(it: Desk) -> None:
        batch = it.add(range(10))
        batch.attempts, batch.excused = attempts, excused
        assert it.submissions.is_spent(batch, failing_s) is is_spent

    config = config_of(submit={"retry": {"max_attempts": 3}}, limits={"max_outage_s": 60.0})
    play(tmp_path, scene, config)


def test_at_the_end_the_bodies_of_all_batches_that_are_left_are_given_up(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        it.add(range(10))
        it.add(range(10, 20), 1)
        await it.take()
        it.submissions.close()
        assert it.gone == [0, 1]

    play(tmp_path, scene)
