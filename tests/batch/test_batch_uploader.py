"""The uploader: how batches are sent, and what each answer to a POST leads to; in whole sessions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.errors import EndpointUnreachable, KeyRefused, NothingAccepted, StoppedEarly
from runner.store import BatchAcceptance, BatchIntent, BatchRetraction
from runner.transport.fake import (
    LOST,
    Behaviour,
    Exchange,
    Fake,
    Script,
    rejected,
    throttled,
    transient,
    unauthorised,
    unsupported,
)
from runner.transport.outcomes import Created, CreateOutcome, ListOutcome, Rejected
from tests.batch.support import BatchSession, names_in, run_batches

AT_ONCE = Behaviour(takes_s=0.0)
SOON = {"retry": {"base_s": 0.01, "cap_s": 0.5, "max_attempts": 3}}


def creating(*answers: CreateOutcome | None) -> Script:
    """Return a script whose first answers to POSTs of batches are these; None for the usual answer."""
    return Script(
        create_batch=lambda exchange: (
            answers[exchange.number - 1] if exchange.number <= len(answers) else None
        )
    )


def slow_uploads(seconds: float) -> Callable[[Exchange], float]:
    """Return latencies that are `seconds` for uploads, and zero for all other exchanges."""
    return lambda exchange: seconds if exchange.verb == "create_batch" else 0.0


def sizes(fake: Fake) -> list[int]:
    """Return the number of requests in each POST."""
    return [len(names_in(exchange.body)) for exchange in fake.of("create_batch")]


def test_each_batch_is_sent_once_with_its_key_and_announced_before_it_is_accepted(tmp_path: Path) -> None:
    fake = Fake(AT_ONCE)
    ended = run_batches(tmp_path, fake, rows=25)
    assert ended.statuses == {"completed": 25}
    posts = fake.of("create_batch")
    assert {exchange.key for exchange in posts} == {intent.key for intent in ended.intents}
    assert len({exchange.key for exchange in posts}) == len(posts) == 3
    sent = {name for exchange in posts for name in names_in(exchange.body)}
    assert sent == {f"row-{i}" for i in range(25)}
    entries = [entry for entry in ended.journal if isinstance(entry, BatchIntent | BatchAcceptance)]
    for number in range(3):
        of_batch = [type(entry) for entry in entries if entry.batch == number]
        assert of_batch == [BatchIntent, BatchAcceptance]
    assert {result.attempts for result in ended.results.values()} == {1}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_at_most_batch_concurrency_batches_are_sent_at_once(tmp_path: Path, concurrency: int) -> None:
    fake = Fake(AT_ONCE, latency_s=1.0)
    ended = run_batches(tmp_path, fake, rows=100, batch={"concurrency": concurrency})
    assert ended.statuses == {"completed": 100}
    assert fake.at_once["create_batch"].most == concurrency


def test_the_second_batch_waits_for_the_answer_to_the_first(tmp_path: Path) -> None:
    fake = Fake(AT_ONCE, latency_s=5.0)
    run_batches(tmp_path, fake, rows=40, batch={"concurrency": 4})
    first, *others = fake.of("create_batch")
    assert first.ended_mono is not None
    assert min(exchange.started_mono for exchange in others) >= first.ended_mono


def test_no_body_is_sent_before_a_small_exchange_has_confirmed_the_service(tmp_path: Path) -> None:
    fake = Fake(AT_ONCE, Script(list_batches={1: throttled(4.0)}))
    ended = run_batches(tmp_path, fake, rows=5)
    assert ended.statuses == {"completed": 5}
    verbs = [exchange.verb for exchange in fake.exchanges]
    assert verbs[: verbs.index("create_batch")] == ["list_batches"]
    assert 4.0 <= fake.of("create_batch")[0].started_mono < 5.0, "it asks to wait"


@pytest.mark.parametrize("outcome", [transient("connect"), transient("timeout", ambiguous=True)])
def test_a_service_that_does_not_answer_is_asked_again_before_the_first_body(
    tmp_path: Path, outcome: ListOutcome
) -> None:
    fake = Fake(AT_ONCE, Script(list_batches={1: outcome, 2: outcome}), latency_s=0.5)
    ended = run_batches(tmp_path, fake, rows=5)
    assert ended.statuses == {"completed": 5}
    assert len(fake.of("list_batches")) == 3
    assert ended.meter.counts.submit_retries.total() == 2
    assert sizes(fake) == [5]


def test_a_service_that_is_not_there_ends_the_run_before_anything_is_announced(tmp_path: Path) -> None:
    ended = run_batches(tmp_path, Fake(down_mono=[(0.0, 1e9)]), rows=5)
    assert isinstance(ended.ended_by, EndpointUnreachable)
    assert "no Responses API answers there" in str(ended.ended_by)
    assert (ended.intents, ended.results) == ([], {})
    assert ended.at_s < 10.0


def test_a_refused_key_ends_the_run_before_any_body_is_sent(tmp_path: Path) -> None:
    fake = Fake(script=Script(list_batches=lambda _: unauthorised()))
    ended = run_batches(tmp_path, fake, rows=5)
    assert isinstance(ended.ended_by, KeyRefused)
    assert (len(fake.exchanges), ended.intents, ended.results) == (1, [], {})


def test_a_service_without_a_list_is_shown_by_the_first_batch(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=0.0, lists_batches=False))
    assert run_batches(tmp_path, fake, rows=5).statuses == {"completed": 5}
    assert len(fake.of("list_batches")) == 1


def test_a_service_without_a_batch_api_ends_the_run_with_advice(tmp_path: Path) -> None:
    fake = Fake(
        script=Script(list_batches=lambda _: unsupported(), create_batch=lambda _: rejected("No.", 404))
    )
    ended = run_batches(tmp_path, fake, rows=50)
    assert isinstance(ended.ended_by, NothingAccepted)
    assert "does the service have a Batch API?" in str(ended.ended_by)
    assert (len(fake.of("create_batch")), ended.results) == (1, {})


@pytest.mark.parametrize("outcome", [transient("connect"), transient("502"), throttled(3.0)])
def test_a_post_that_was_certainly_not_accepted_is_retracted_and_repeated(
    tmp_path: Path, outcome: CreateOutcome
) -> None:
    fake = Fake(AT_ONCE, creating(outcome, outcome))
    ended = run_batches(tmp_path, fake, rows=5)
    assert ended.statuses == {"completed": 5}
    repeated = [BatchIntent, BatchRetraction] * 2
    assert [type(entry) for entry in ended.journal[1:]] == [*repeated, BatchIntent, BatchAcceptance]
    assert len({entry.key for entry in ended.intents}) == 1
    assert {result.attempts for result in ended.results.values()} == {3}
    assert ended.meter.counts.submit_retries.total() == 2


def test_throttled_posts_use_up_no_attempt_of_a_batch(tmp_path: Path) -> None:
    """A service may limit the number of open batches: the next one is accepted once another is done."""
    fake = Fake(Behaviour(takes_s=50.0, max_jobs=10, retry_after_s=1.0))
    ended = run_batches(tmp_path, fake, rows=30, submit=SOON, limits={"max_outage_s": 5.0})
    assert ended.statuses == {"completed": 30}
    assert ended.meter.counts.submit_retries["429"] > 6


@pytest.mark.parametrize("header", ["Idempotency-Key", None])
def test_a_batch_whose_acknowledgement_is_lost_is_found_by_its_label_and_not_sent_again(
    tmp_path: Path, header: str | None
) -> None:
    fake = Fake(Behaviour(takes_s=9.0, honours_keys=False), Script(create_batch=lambda _: LOST))
    ended = run_batches(tmp_path, fake, rows=40, target={"idempotency_header": header})
    assert ended.statuses == {"completed": 40}
    assert len(fake.of("create_batch")) == len(fake.batches_made) == 4
    assert ended.meter.counts.submit_retries == {"reset": 4}
    assert {result.attempts for result in ended.results.values()} == {1}


@pytest.mark.parametrize("header", ["Idempotency-Key", None])
def test_a_batch_that_never_arrived_is_sent_again_once_lookups_have_shown_that(
    tmp_path: Path, header: str | None
) -> None:
    fake = Fake(AT_ONCE, creating(None, transient("timeout", ambiguous=True)))
    ended = run_batches(
        tmp_path, fake, rows=30, target={"idempotency_header": header}, limits={"max_outage_s": 60.0}
    )
    assert ended.statuses == {"completed": 30}
    assert len(fake.batches_made) == 3
    posts = fake.of("create_batch")
    again = [exchange for exchange in posts if exchange.key == posts[1].key]
    assert len(again) == 2
    assert again[1].started_mono - again[0].started_mono >= 10.0
    assert again[1].body == again[0].body


def test_after_each_post_without_an_answer_a_batch_is_looked_up_for_as_long_as_after_the_first(
    tmp_path: Path,
) -> None:
    """The first POST never arrived. The second did, and its batch appears in the list only later."""
    fake = Fake(
        Behaviour(takes_s=0.0, listed_after_s=5.0),
        Script(create_batch={1: transient("reset", ambiguous=True), 2: LOST}),
    )
    ended = run_batches(tmp_path, fake, rows=10, target={"idempotency_header": None})
    assert ended.statuses == {"completed": 10}
    assert (len(fake.of("create_batch")), len(fake.batches_made)) == (2, 1)


def test_an_intent_is_on_the_disk_before_its_batch_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut then neither frees the number of a batch for other rows nor takes its key."""
    journal, sync = tmp_path / "journal.jsonl", os.fdatasync
    on_disk = b""

    def fdatasync(fd: int) -> None:
        nonlocal on_disk
        written = journal.read_bytes()
        sync(fd)
        if os.path.samestat(os.fstat(fd), journal.stat()):
            on_disk = written

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    unsafe = []

    def check(exchange: Exchange) -> None:
        if exchange.key.encode() not in on_disk:
            unsafe.append(exchange.key)

    fake = Fake(AT_ONCE, Script(create_batch=check))
    assert run_batches(tmp_path, fake, rows=35).statuses == {"completed": 35}
    assert (len(fake.of("create_batch")), unsafe) == (4, [])


@pytest.mark.parametrize("lists", [{"lists_batches": False}, {"lists_labels": False}])
def test_where_lookups_show_nothing_a_batch_is_sent_again_with_its_key_and_exists_once(
    tmp_path: Path, lists: dict[str, bool]
) -> None:
    behaviour = Behaviour(takes_s=0.0, **lists)  # type: ignore[arg-type]  # the names are two of its switches
    fake = Fake(behaviour, Script(create_batch={2: LOST}))
    ended = run_batches(tmp_path, fake, rows=30)
    assert ended.statuses == {"completed": 30}
    assert (len(fake.batches_made), len(fake.of("create_batch"))) == (3, 4)


def test_a_500_leaves_doubt_only_where_there_are_no_keys(tmp_path: Path) -> None:
    for header, lookups in (("Idempotency-Key", 1), (None, 6)):
        directory = tmp_path / str(header)
        directory.mkdir()
        fake = Fake(AT_ONCE, creating(transient("500")))
        ended = run_batches(directory, fake, rows=5, target={"idempotency_header": header})
        assert ended.statuses == {"completed": 5}
        assert len(fake.of("list_batches")) >= lookups
        assert len(ended.retractions) == (0 if header is None else 1)


def test_a_key_that_was_used_with_other_bytes_is_no_reason_to_send_again(tmp_path: Path) -> None:
    answer = rejected("Keys must not be reused.")
    failure = msgspec.structs.replace(answer.failure, type="idempotency_error")
    fake = Fake(AT_ONCE, creating(Rejected(failure, answer.reply, has_envelope=True)))
    ended = run_batches(tmp_path, fake, rows=5)
    assert ended.statuses == {"uncertain": 5}
    assert {error.type for error in ended.failures("uncertain")} == {"idempotency_error"}
    assert len(fake.of("create_batch")) == 1


def test_a_batch_that_is_resent_without_a_key_may_be_rejected_as_any_other(tmp_path: Path) -> None:
    script = creating(None, transient("reset", ambiguous=True), rejected("No."))
    ended = run_batches(
        tmp_path,
        Fake(Behaviour(takes_s=0.0, lists_batches=False), script),
        rows=20,
        batch={"concurrency": 1},
        submit={"on_uncertain": "resend"},
        target={"idempotency_header": None},
    )
    assert ended.statuses == {"completed": 10, "rejected": 10}


def test_a_key_that_is_refused_later_ends_the_run_and_the_next_session_completes_it(tmp_path: Path) -> None:
    fake = Fake(AT_ONCE, creating(None, None, unauthorised()))
    ended = run_batches(tmp_path, fake, rows=60, batch={"concurrency": 1})
    assert isinstance(ended.ended_by, KeyRefused)
    assert len(ended.retractions) == 1
    fake.script = Script()
    ended = run_batches(tmp_path, fake, rows=60)
    assert ended.statuses == {"completed": 60}
    assert sum(len(batch.jobs) for batch in fake.batches_made) == 60


def test_a_batch_that_always_fails_while_the_service_answers_others_is_rejected(
    tmp_path: Path,
) -> None:
    def answer(exchange: Exchange) -> CreateOutcome | None:
        return transient("503") if names_in(exchange.body)[0] == "row-10" else None

    fake = Fake(AT_ONCE, Script(create_batch=answer))
    ended = run_batches(tmp_path, fake, rows=40, submit=SOON, limits={"max_outage_s": 60.0})
    assert ended.statuses == {"completed": 30, "rejected": 10}
    assert ended.rows("rejected") == set(range(10, 20))
    assert {error.status_code for error in ended.failures("rejected")} == {503}
    assert 60.0 <= ended.at_s < 90.0
    assert all(result.attempts >= 3 for result in ended.results.values() if result.status == "rejected")


def test_a_batch_that_fails_while_nothing_is_answered_is_not_rejected(tmp_path: Path) -> None:
    fake = Fake(AT_ONCE, Script(create_batch=lambda _: transient("503")))
    ended = run_batches(tmp_path, fake, rows=20, submit=SOON, limits={"max_outage_s": 60.0})
    assert isinstance(ended.ended_by, EndpointUnreachable)
    assert ended.results == {}
    assert len(fake.of("create_batch")) > 3, "an outage may last longer than the attempts of a row"
    fake.script = Script()
    assert run_batches(tmp_path, fake, rows=20).statuses == {"completed": 20}


@pytest.mark.parametrize("cause", ["connect", "500", "502", "reset"])
def test_an_outage_ends_the_run_and_the_next_session_completes_it(tmp_path: Path, cause: str) -> None:
    fake = Fake(AT_ONCE)
    assert run_batches(tmp_path, fake, rows=20).statuses == {"completed": 20}
    outcome = transient(cause, ambiguous=cause == "reset")
    fake.script = Script(create_batch=lambda _: outcome, list_batches=lambda _: transient(cause))
    ended = run_batches(tmp_path, fake, rows=60)
    assert isinstance(ended.ended_by, EndpointUnreachable)
    assert ended.statuses == {"completed": 20}
    fake.script = Script()
    assert run_batches(tmp_path, fake, rows=60).statuses == {"completed": 60}
    assert sum(len(batch.jobs) for batch in fake.batches_made) == 60


def test_a_service_that_counts_other_requests_than_were_sent_is_reported(tmp_path: Path) -> None:
    class Counts(Fake):
        async def create_batch(self, *arguments: Any) -> CreateOutcome:
            outcome = await super().create_batch(*arguments)
            return Created(outcome.id, 7) if isinstance(outcome, Created) else outcome

    ended = run_batches(tmp_path, Counts(AT_ONCE), rows=10)
    assert ended.statuses == {"completed": 10}
    assert ended.said == ["the service reports 7 requests in batch t-0123456789-0, and it was sent with 10"]


def test_a_session_that_is_stopped_during_an_upload_waits_for_the_acknowledgement(tmp_path: Path) -> None:
    async def drain(it: BatchSession) -> None:
        await asyncio.sleep(1.0)
        it.session.shutdown.drain(StoppedEarly("enough"), "enough")

    fake = Fake(AT_ONCE, latency_s=slow_uploads(3.1))
    ended = run_batches(tmp_path, fake, rows=60, act=drain)
    assert ended.ended_by is not None
    assert ended.statuses == {"completed": 10}
    assert (len(ended.acceptances), sizes(fake)) == (1, [10])
    assert run_batches(tmp_path, fake, rows=60).statuses == {"completed": 60}
    assert len(fake.batches_made) == 6
