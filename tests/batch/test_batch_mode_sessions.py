"""Batch mode over several sessions: what one leaves is what the next one continues with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runner.errors import StoppedEarly
from runner.transport.fake import Behaviour, Exchange, Fake, Script, rejected
from runner.transport.outcomes import CreateOutcome, Listing
from tests.batch.support import Act, BatchSession, names_in, rows_of, run_batches
from tests.listed import Listed, listed

NEVER = 1e9


def stop_at(mono: float, *, with_grace: bool = False) -> Act:
    """Return what stops a session at this time; without grace it leaves its files as a kill does."""

    async def act(it: BatchSession) -> None:
        await asyncio.sleep(mono)
        shutdown = it.session.shutdown
        (shutdown.stop if with_grace else shutdown.force)(StoppedEarly("killed"))

    return act


def slow_uploads(seconds: float) -> Callable[[Exchange], float]:
    """Return latencies that are `seconds` for uploads, and zero for all other exchanges."""
    return lambda exchange: seconds if exchange.verb == "create_batch" else 0.0


def keep(path: Path, wanted: Callable[[bytes], bool]) -> None:
    """Leave only the wanted lines of a file, as if a kill or a full disk had kept the others from it."""
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(keepends=True) if wanted(line)))


def lose_acceptances(directory: Path, rows: Sequence[int]) -> None:
    """Leave of a complete run the intents of its batches, and the results of some rows."""
    keep(directory / "journal.jsonl", lambda line: b"batch_accepted" not in line)
    marks = [b'"row":%d,' % row for row in rows]
    keep(directory / "results.jsonl", lambda line: any(mark in line for mark in marks))


def test_batches_of_an_earlier_session_occupy_slots(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=1000.0, lists_batches=False))
    for _ in range(3):
        ended = run_batches(tmp_path, fake, 500, stop_at(50.0), batch={"max_open": 3})
        assert len(fake.batches_made) == 3
        assert (ended.in_flight.outstanding, ended.results) == (30, {})


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
    fake = Fake(Behaviour(takes_s=5.0), latency_s=slow_uploads(9.0))
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


def test_what_a_service_without_keys_is_still_creating_is_found_and_not_sent_again(tmp_path: Path) -> None:
    behaviour = Behaviour(takes_s=0.0, honours_keys=False, listed_after_s=8.0)
    fake = Fake(behaviour, latency_s=slow_uploads(60.0))
    target = {"idempotency_header": None}
    run_batches(tmp_path, fake, 10, stop_at(1.0), target=target)
    ended = run_batches(tmp_path, fake, rows=10, target=target)
    assert ended.statuses == {"completed": 10}
    assert len(fake.of("create_batch")) == len(fake.batches_made) == 1


def test_what_a_service_never_received_is_sent_again_under_its_old_label_and_key(tmp_path: Path) -> None:
    first = run_batches(tmp_path, Fake(), rows=40)
    lose_acceptances(tmp_path, [])
    fake = Fake()
    ended = run_batches(tmp_path, fake, rows=40, target={"idempotency_header": None})
    assert ended.statuses == {"completed": 40}
    assert {batch.label for batch in fake.batches_made} == {it.label for it in first.intents}
    assert {batch.key for batch in fake.batches_made} == {it.key for it in first.intents}
    assert min(post.started_mono for post in fake.of("create_batch")) >= 10.0


DAY_S = 24 * 3600.0
AGES = {
    "just now": (0.0, "completed"),
    "an hour ago": (3600.0, "completed"),
    "before the key was forgotten": (DAY_S, "uncertain"),
    "by a clock that was set back since": (-DAY_S, "uncertain"),
}


@pytest.mark.parametrize(("age_s", "status"), AGES.values(), ids=AGES)
def test_without_a_list_a_batch_is_sent_again_only_while_its_key_protects_it(
    tmp_path: Path, age_s: float, status: str
) -> None:
    fake = Fake(Behaviour(takes_s=0.0, lists_batches=False))
    run_batches(tmp_path, fake, rows=20)
    lose_acceptances(tmp_path, [])
    journal = tmp_path / "journal.jsonl"
    entries = [json.loads(line) for line in journal.read_bytes().splitlines()]
    for entry in entries:
        entry["at"] -= age_s
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    ended = run_batches(tmp_path, fake, rows=20)
    assert ended.statuses == {status: 20}
    assert len(fake.batches_made) == 2
    assert len(fake.of("create_batch")) == (4 if status == "completed" else 2)


@pytest.mark.parametrize("lists_batches", [True, False])
def test_a_refusal_that_was_lost_although_its_row_was_rejected_doubles_nothing(
    tmp_path: Path, lists_batches: bool
) -> None:
    def reject_row_2(exchange: Exchange) -> CreateOutcome | None:
        names = names_in(exchange.body)
        bad = f"requests[{names.index('row-2')}].params" if "row-2" in names else None
        return rejected("No.", param=bad) if bad else None

    fake = Fake(Behaviour(takes_s=0.0, lists_batches=lists_batches), Script(create_batch=reject_row_2))
    assert run_batches(tmp_path, fake, rows=6).statuses == {"completed": 5, "rejected": 1}
    keep(tmp_path / "journal.jsonl", lambda line: b'"batch":0,' in line and b"refused" not in line)
    keep(tmp_path / "results.jsonl", lambda line: b'"row":2,' in line)
    fake = Fake(Behaviour(takes_s=0.0, lists_batches=lists_batches), Script(create_batch=reject_row_2))
    assert run_batches(tmp_path, fake, rows=6).statuses == {"completed": 5, "rejected": 1}
    assert [list(batch.jobs) for batch in fake.batches_made] == [
        ["row-0", "row-1", "row-3", "row-4", "row-5"]
    ]


def test_an_upload_that_brings_no_answer_is_abandoned_and_found_by_the_next_session(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=5.0), latency_s=slow_uploads(60.0))
    ended = run_batches(tmp_path, fake, rows=30, act=stop_at(1.0, with_grace=True))
    assert (ended.results, ended.in_flight.announced) == ({}, 10)
    assert ended.at_s == 3.0, "the grace period for open exchanges"
    fake.latency_s = 0.0
    ended = run_batches(tmp_path, fake, rows=30)
    assert ended.statuses == {"completed": 30}
    assert len(fake.of("create_batch")) == len(fake.batches_made) == 3
    assert sorted(map(rows_of, ended.intents)) == [list(range(n, n + 10)) for n in (0, 10, 20)]


def test_a_batch_whose_input_has_changed_is_not_sent_under_its_old_key(tmp_path: Path) -> None:
    fake = Fake(Behaviour(lists_batches=False), latency_s=slow_uploads(60.0))
    assert run_batches(tmp_path, fake, rows=10, act=stop_at(1.0, with_grace=True)).in_flight.announced == 10
    other = listed(10)
    other.bodies[3] = b'{"input":"another"}'
    ended = run_batches(tmp_path, fake, other)
    assert isinstance(ended.ended_by, StoppedEarly)
    assert "makes other bytes now" in str(ended.ended_by)
    assert (len(fake.of("create_batch")), ended.results) == (1, {})
