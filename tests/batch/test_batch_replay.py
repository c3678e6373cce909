"""What a journal tells of batches, whatever happened: compared with a plain reading of its entries."""

from __future__ import annotations

import tempfile
from array import array
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.submission import ranges_of
from runner.records import Result, Timing
from runner.store import BatchAcceptance, BatchIntent, BatchRetraction, Journal, Results, RunDir, recover
from runner.store.batch_replay import BatchReplay
from runner.store.journal import Reopened, SessionStart
from runner.store.row_set import RowSet

ROWS = 12


def intent(number, rows):
    ends = [end for part in ranges_of(array("I", sorted(rows))) for end in (part.start, part.stop)]
    return BatchIntent(number, f"l-{number}", f"k-{number}", ends, 99, "m", due=1.0 + number, at=2.0 + number)


def accepted(number):
    return BatchAcceptance(number, f"batch_{number}", attempts=2, at=3.0 + number)


def refused(number):
    return BatchRetraction(number, "429", at=2.5 + number)


def result(row, epoch=0):
    timing = Timing(due=1.0, sent=2.0, accepted=3.0, pending=None, done=4.0)
    return Result(f"id-{row}", row, "failed", None, None, timing, attempts=1, polls=1, epoch=epoch)


class Told:
    """A naive account of a history: who owns each row, what became of each batch."""

    def __init__(self):
        self.rows = {}
        self.intents = {}
        self.is_accepted = {}
        self.done = set()
        self.epochs = {}
        self.next_number = 0

    def left(self):
        found = {}
        for row, number in sorted(self.rows.items()):
            if row not in self.done:
                found.setdefault(number, []).append(row)
        return {number: (self.is_accepted[number], rows) for number, rows in found.items()}


@st.composite
def histories(draw):  # noqa: C901 - a case for each thing that can happen
    """Entries and results in the order in which runs write them, and what they come to."""
    told, written, results = Told(), [SessionStart(at=1.0, number=0)], []
    for _ in range(draw(st.integers(0, 14))):
        in_doubt = [n for n, it in told.is_accepted.items() if not it]
        known = [n for n, it in told.is_accepted.items() if it]
        open_rows = [row for row in told.rows if row not in told.done]
        free = [row for row in range(ROWS) if row not in told.rows and row not in told.done]
        match draw(
            st.sampled_from(
                ["cut", "cut", "accept", "refuse", "again", "end", "end", "reopen", "session", "forget"]
            )
        ):
            case "cut" if free:
                number, rows = told.next_number, draw(st.sets(st.sampled_from(free), min_size=1))
                written.append(intent(number, rows))
                told.intents[number] = rows
                told.is_accepted[number] = False
                told.rows.update(dict.fromkeys(rows, number))
                told.next_number += 1
            case "accept" if in_doubt:
                number = draw(st.sampled_from(in_doubt))
                written.append(accepted(number))
                told.is_accepted[number] = True
            case "refuse" if in_doubt:  # and not sent again
                number = draw(st.sampled_from(in_doubt))
                written.append(refused(number))
                told.rows = {row: owner for row, owner in told.rows.items() if owner != number}
                del told.is_accepted[number]
            case "again" if in_doubt:  # refused, and sent again as it is
                number = draw(st.sampled_from(in_doubt))
                written += [refused(number), intent(number, told.intents[number])]
                told.rows.update(dict.fromkeys(told.intents[number], number))
            case "forget" if known:  # its rows go into another batch
                rows = [row for row in open_rows if told.rows[row] in known]
                if rows:
                    number = told.next_number
                    written.append(intent(number, rows))
                    told.intents[number], told.is_accepted[number] = set(rows), False
                    told.rows.update(dict.fromkeys(rows, number))
                    told.next_number += 1
            case "end" if open_rows or free:
                row = draw(st.sampled_from(open_rows or free))
                results.append(result(row, told.epochs.get(row, 0)))
                told.done.add(row)
            case "reopen" if told.done:
                row = draw(st.sampled_from(sorted(told.done)))
                told.epochs[row] = told.epochs.get(row, 0) + 1
                written.append(Reopened(row=row, epoch=told.epochs[row], status="failed", at=5.0))
                told.done.discard(row)
                told.rows.pop(row, None)
            case "session":
                written.append(SessionStart(at=1.0, number=len(written)))
    return written, results, told


def as_told(left):
    return {number: (it.accepted is not None, list(it.rows)) for number, it in left.items()}


@settings(max_examples=60)
@given(histories())
def test_the_files_of_a_run_tell_which_rows_are_in_which_batch(history: Any) -> None:
    written, results, told = history
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder))
        for log, entries in ((Journal(run_dir.journal), written), (Results(run_dir.results), results)):
            for entry in entries:
                log.write(entry)
            log.log.close()
        recovery = recover(run_dir, ROWS, lambda _: None)
    assert as_told(recovery.batches) == told.left()
    assert recovery.next_batch == told.next_number
    assert {row for row in range(ROWS) if row in recovery.done} == told.done
    left = told.left().values()
    assert recovery.outstanding_count == sum(len(rows) for is_accepted, rows in left if is_accepted)
    assert recovery.unacknowledged_count == sum(len(rows) for is_accepted, rows in left if not is_accepted)
    assert sorted(recovery.claimed_rows()) == sorted(row for _, rows in left for row in rows)
    needed = recovery.rows_to_skip()
    assert {row for row in range(ROWS) if row in needed} == told.done | set(told.rows)
    for number, batch in recovery.batches.items():
        assert batch.intent == next(
            e for e in reversed(written) if isinstance(e, BatchIntent) and e.batch == number
        )
        assert batch.accepted in (None, accepted(number))


@settings(max_examples=60)
@given(histories(), st.data())
def test_cut_off_at_any_entry_a_row_is_in_one_batch_at_most(history: Any, data: Any) -> None:
    written, results, _ = history
    cut = data.draw(st.integers(0, len(written)))
    book, done = BatchReplay(ROWS), RowSet(ROWS)
    for it in results[: data.draw(st.integers(0, len(results)))]:
        done.add(it.row)
    for entry in written[:cut]:
        if isinstance(entry, BatchIntent | BatchAcceptance | BatchRetraction):
            book.read(entry)
        elif isinstance(entry, Reopened):
            book.reopen(entry.row)
    rows = [row for batch in book.unfinished(done).values() for row in batch.rows]
    assert len(set(rows)) == len(rows)
    assert not any(row in done for row in rows)


@settings(max_examples=10)
@given(histories())
def test_entries_of_batches_come_back_as_they_were_written(history: Any) -> None:
    written, _, _ = history
    for entry in written:
        assert msgspec.json.decode(msgspec.json.encode(entry), type=type(entry)) == entry


def test_rows_beyond_the_input_are_nobodys() -> None:
    book = BatchReplay(5)
    book.read(intent(0, range(3, 9)))
    assert as_told(book.unfinished(RowSet(5))) == {0: (False, [3, 4])}
    book.read(refused(0))
    assert book.unfinished(RowSet(5)) == {}
    assert book.next_number == 1


def test_a_retraction_of_a_batch_leaves_rows_that_are_in_another_by_now_with_that_one() -> None:
    book = BatchReplay(5)
    book.read(intent(0, [0, 1, 2]))
    book.read(intent(1, [1]))
    book.read(refused(0))
    assert as_told(book.unfinished(RowSet(5))) == {1: (False, [1])}


def test_what_is_told_of_a_batch_that_was_never_announced_changes_nothing() -> None:
    book = BatchReplay(5)
    book.read(accepted(7))
    book.read(refused(8))
    book.reopen(3)
    assert book.unfinished(RowSet(5)) == {}
