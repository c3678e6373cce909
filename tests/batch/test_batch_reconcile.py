"""What becomes of a batch whose POST brought no answer, by what lookups at the service show."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runner.batch.reconcile import Reconciler
from runner.batch.submission import BatchSubmission
from runner.config import RunConfig
from runner.errors import EndpointUnreachable, KeyRefused
from runner.store import BatchAcceptance, BatchRetraction
from runner.transport.fake import (
    Behaviour,
    Exchange,
    Fake,
    Script,
    throttled,
    transient,
    unauthorised,
    unsupported,
)
from runner.transport.outcomes import BatchEntry, Listing, ListOutcome
from tests.batch.desk import Desk, play
from tests.batch.support import UNIX, config_of

EMPTY = Listing(())
UNLABELLED = Listing((BatchEntry("batch-x", None, None, 10),))


def answering(*outcomes: ListOutcome) -> Fake:
    """Return a service that answers requests for its list in this way; the last answer repeats."""
    return Fake(
        script=Script(list_batches=lambda exchange: outcomes[min(exchange.number, len(outcomes)) - 1])
    )


def config(
    header: str | None = "Idempotency-Key", on_uncertain: str = "hold", max_attempts: int = 8
) -> RunConfig:
    """Return a config with which a batch must be missing for 60 s."""
    return config_of(
        target={"idempotency_header": header},
        submit={"on_uncertain": on_uncertain, "retry": {"max_attempts": max_attempts, "cap_s": 8.0}},
        limits={"max_outage_s": 360.0},
    )


async def in_doubt(it: Desk, settled: frozenset[int] = frozenset()) -> BatchSubmission:
    """Return a batch whose first POST was just sent and brought no answer."""
    batch = await it.announced(range(10))
    batch.sent = it.bench.clock.now()
    batch.attempts, batch.in_doubt, batch.settled = 1, True, settled
    it.submissions.exchanges.settle(transient("reset", ambiguous=True), 0.0, 0.0)
    if settled:
        it.bench.in_flight.retract(len(settled))
        it.bench.in_flight.release(len(settled))
    it.submissions.push(batch, it.bench.clock.now_mono())
    it.submissions.release()
    return batch


async def reconcile(it: Desk, batch: BatchSubmission) -> None:
    """Look the batch up until it is decided what becomes of it."""
    reconciler = Reconciler(it.bench.parts, it.submissions)
    while batch.number in it.numbers and not batch.may_send:
        assert await it.take() is batch
        try:
            await reconciler.reconcile(batch)
        finally:
            it.submissions.release()
        await asyncio.sleep(0.0)


def lookups(it: Desk) -> list[float]:
    """Return the times of all requests for the list."""
    return [exchange.started_mono for exchange in it.bench.fake.of("list_batches")]


def test_a_batch_that_is_found_is_accepted_since_its_creation(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        it.bench.fake.script = Script(
            list_batches=lambda _: Listing((BatchEntry("batch-x", batch.label, UNIX + 3.0, 10),))
        )
        await asyncio.sleep(20.0)
        await reconcile(it, batch)
        (opened,) = it.bench.accepted
        assert (opened.id, opened.accepted) == ("batch-x", UNIX + 3.0)
        assert it.bench.entries()[-1] == BatchAcceptance(batch=0, id="batch-x", attempts=1, at=UNIX + 3.0)
        assert len(lookups(it)) == 1

    play(tmp_path, scene, config())


@pytest.mark.parametrize("header", ["Idempotency-Key", None])
def test_a_batch_that_is_absent_for_long_enough_may_be_sent_again(tmp_path: Path, header: str | None) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        await reconcile(it, batch)
        assert it.bench.clock.now_mono() == pytest.approx(60.0)
        assert len(lookups(it)) >= 5
        assert batch.may_send
        assert batch.in_doubt is (header is not None), (
            "with a key, its next refusal may be one of the first POST"
        )
        assert await it.take() is batch
        assert not it.bench.results()

    play(tmp_path, scene, config(header), fake=answering(EMPTY))


def test_a_batch_that_appears_late_in_the_list_is_not_sent_again(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        body = it.bench.files.spool(0).read_bytes()
        it.bench.fake.service.create_batch(body, batch.key, 0.0)
        await reconcile(it, batch)
        assert [opened.id for opened in it.bench.accepted] == ["batch-1"]
        assert 50.0 <= it.bench.clock.now_mono() <= 60.0

    play(tmp_path, scene, config(None), fake=Fake(Behaviour(listed_after_s=50.0)))


def test_lookups_go_on_until_there_were_enough_of_them(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        await reconcile(it, batch)
        assert len(lookups(it)) == 5
        assert 2.0 * 60.0 < lookups(it)[-1] < 4.0 * 60.0

    slow = answering(EMPTY)
    slow.latency_s = 50.0
    play(tmp_path, scene, config(), fake=slow)


UNCLEAR = pytest.mark.parametrize("outcome", [UNLABELLED, unsupported()], ids=["no labels", "no list"])


@UNCLEAR
def test_where_lookups_show_nothing_a_key_makes_it_harmless_to_send_again(
    tmp_path: Path, outcome: ListOutcome
) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        await reconcile(it, batch)
        assert (batch.may_send, batch.in_doubt) == (True, True)
        assert it.bench.clock.now_mono() == pytest.approx(60.0)

    play(tmp_path, scene, config(), fake=answering(outcome))


@UNCLEAR
@pytest.mark.parametrize("on_uncertain", ["hold", "resend"])
def test_where_nothing_shows_whether_it_was_accepted_the_config_decides(
    tmp_path: Path, outcome: ListOutcome, on_uncertain: str
) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        await reconcile(it, batch)
        if on_uncertain == "resend":
            assert (batch.may_send, batch.in_doubt) == (True, False)
            return
        results = it.bench.results().values()
        assert {result.status for result in results} == {"uncertain"}
        assert len(results) == 10
        assert all(
            result.error and "cannot be found by its label" in result.error.message for result in results
        )
        assert it.bench.in_flight.taken == it.bench.in_flight.announced == 0

    play(tmp_path, scene, config(None, on_uncertain), fake=answering(outcome))


def test_one_inconclusive_answer_among_others_decides_nothing(tmp_path: Path) -> None:
    """All lookups but one show that it is absent. That one shows no list, which may be a proxy."""

    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        await reconcile(it, batch)
        assert batch.may_send
        assert not it.bench.results()
        assert lookups(it)[-1] > 60.0

    def answer(exchange: Exchange) -> ListOutcome:
        return unsupported() if exchange.started_mono == pytest.approx(60.0) else EMPTY

    play(tmp_path, scene, config(None), fake=Fake(script=Script(list_batches=answer)))


def test_a_batch_with_rows_that_are_done_is_taken_apart_instead_of_sent_again(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it, frozenset({2, 3}))
        await reconcile(it, batch)
        assert it.requeued == [0, 1, 4, 5, 6, 7, 8, 9]
        assert it.bench.entries()[-1] == BatchRetraction(batch=0, cause="absent", at=UNIX + 60.0)
        assert it.bench.in_flight.taken == it.bench.in_flight.announced == 0

    play(tmp_path, scene, config(), fake=answering(EMPTY))


def test_a_throttled_lookup_is_repeated_later_and_holds_back_uploads(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        other = it.bench.submission(range(10, 20), 1)
        it.submissions.add(other)
        reconciler = Reconciler(it.bench.parts, it.submissions)
        assert await it.take() is batch
        await reconciler.reconcile(batch)
        it.submissions.release()
        assert await it.take() is other
        assert 40.0 <= it.bench.clock.now_mono() < 42.0
        assert it.bench.meter.counts.submit_retries == {"429": 1}
        assert it.bench.said == ["waiting 40 s, as the service asks: Too many requests."]
        assert (batch.absent, batch.inconclusive) == (0, 0)

    play(tmp_path, scene, config(), fake=answering(throttled(wait_s=40.0)))


def test_where_the_list_always_fails_a_key_makes_it_harmless_to_send_again(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        await reconcile(it, batch)
        assert batch.may_send
        assert 60.0 <= it.bench.clock.now_mono() < 90.0

    play(tmp_path, scene, config(), fake=answering(transient("500")))


def test_without_a_key_a_list_that_always_fails_shows_nothing(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        with pytest.raises(EndpointUnreachable, match="nothing but failures for 4"):
            await reconcile(it, batch)
        assert not batch.may_send
        assert not it.bench.results()

    play(tmp_path, scene, config(None), fake=answering(transient("500")))


def test_a_refused_key_ends_the_run_and_the_batch_stays_in_doubt(tmp_path: Path) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        with pytest.raises(KeyRefused):
            await reconcile(it, batch)
        assert batch.in_doubt
        assert batch.announced

    play(tmp_path, scene, config(), fake=answering(unauthorised()))


@pytest.mark.parametrize(("header", "status"), [("Idempotency-Key", "uncertain"), (None, "rejected")])
def test_a_batch_that_was_sent_often_enough_ends_with_its_last_failure(
    tmp_path: Path, header: str | None, status: str
) -> None:
    async def scene(it: Desk) -> None:
        batch = await in_doubt(it)
        failure = transient("504", ambiguous=True).failure
        batch.attempts, batch.last, batch.failing_since_mono = 4, failure, -400.0
        await reconcile(it, batch)
        results = it.bench.results().values()
        assert {(result.status, result.error) for result in results} == {(status, failure)}

    play(tmp_path, scene, config(header, max_attempts=4), fake=answering(EMPTY))
