"""What a journal says about batches, compared with a naive account of what happened."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.submission import ranges_of
from runner.records import Result, Timing
from runner.store import (
    BatchAcceptance,
    BatchIntent,
    BatchRetraction,
    Journal,
    Results,
    RunDir,
    ignore,
    recover,
)
from runner.store.batch_replay import BatchReplay, UnfinishedBatch
from runner.store.journal import Entry, Reopened, SessionStart
from runner.store.row_set import RowSet

ROWS = 12


def intent(number: int, rows: Iterable[int]) -> BatchIntent:
    ends = [end for part in ranges_of(array("I", sorted(rows))) for end in (part.start, part.stop)]
    return BatchIntent(number, f"l-{number}", f"k-{number}", ends, 99, "m", due=1.0 + number, at=2.0 + number)


def accepted(number: int) -> BatchAcceptance:
    return BatchAcceptance(number, f"batch_{number}", attempts=2, at=3.0 + number)


def refused(number: int) -> BatchRetraction:
    return BatchRetraction(number, "429", at=2.5 + number)


def result(row: int, epoch: int = 0) -> Result:
    timing = Timing(due=1.0, sent=2.0, accepted=3.0, pending=None, done=4.0)
    return Result(f"id-{row}", row, "failed", None, None, timing, attempts=1, polls=1, epoch=epoch)


Unfinished: TypeAlias = dict[int, tuple[bool, list[int]]]
"""For each batch whether it was accepted, and its rows without a result."""


class History:
    """A run: its entries and results in the order in which they are written, and a naive account of them."""

    def __init__(self) -> None:
        self.written: list[Entry] = [SessionStart(at=1.0, number=0)]
        self.results: list[Result] = []
        self.rows: dict[int, int] = {}
        """The batch of each row that is in one."""
        self.intents: dict[int, set[int]] = {}
        """The rows of each batch when it was announced."""
        self.is_accepted: dict[int, bool] = {}
        self.done: set[int] = set()
        self.epochs: dict[int, int] = {}
        self.next_number = 0

    def __repr__(self) -> str:
        return f"<History {self.written} {self.results}>"

    @property
    def in_doubt(self) -> list[int]:
        """Batches that were announced, and neither accepted nor refused."""
        return [number for number, is_accepted in self.is_accepted.items() if not is_accepted]

    @property
    def open_rows(self) -> list[int]:
        """Rows that are in a batch and have no result."""
        return [row for row in self.rows if row not in self.done]

    @property
    def free_rows(self) -> list[int]:
        """Rows that are in no batch and have no result."""
        return [row for row in range(ROWS) if row not in self.rows and row not in self.done]

    @property
    def forgettable_rows(self) -> list[int]:
        """Rows without a result in accepted batches."""
        return [row for row in self.open_rows if self.is_accepted.get(self.rows[row])]

    def unfinished(self) -> Unfinished:
        found: dict[int, list[int]] = {}
        for row, number in sorted(self.rows.items()):
            if row not in self.done:
                found.setdefault(number, []).append(row)
        return {number: (self.is_accepted[number], rows) for number, rows in found.items()}

    def announce(self, rows: set[int]) -> None:
        """Put rows into a new batch, whatever batch they were in."""
        number = self.next_number
        self.written.append(intent(number, rows))
        self.intents[number], self.is_accepted[number] = rows, False
        self.rows.update(dict.fromkeys(rows, number))
        self.next_number += 1

    def accept(self, number: int) -> None:
        self.written.append(accepted(number))
        self.is_accepted[number] = True

    def refuse(self, number: int) -> None:
        """Refuse a batch, which is not sent again."""
        self.written.append(refused(number))
        self.rows = {row: owner for row, owner in self.rows.items() if owner != number}
        del self.is_accepted[number]

    def resend(self, number: int) -> None:
        """Refuse a batch, and announce it again as it is."""
        self.written += [refused(number), intent(number, self.intents[number])]
        self.rows.update(dict.fromkeys(self.intents[number], number))

    def end(self, row: int) -> None:
        self.results.append(result(row, self.epochs.get(row, 0)))
        self.done.add(row)

    def reopen(self, row: int) -> None:
        self.epochs[row] = self.epochs.get(row, 0) + 1
        self.written.append(Reopened(row=row, epoch=self.epochs[row], status="failed", at=5.0))
        self.done.discard(row)
        self.rows.pop(row, None)


EVENTS = ["cut", "cut", "accept", "refuse", "resend", "end", "end", "reopen", "session", "forget"]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Return a run in which anything may happen that can."""
    history = History()
    for _ in range(draw(st.integers(0, 14))):
        match draw(st.sampled_from(EVENTS)):
            case "cut" if history.free_rows:
                history.announce(draw(st.sets(st.sampled_from(history.free_rows), min_size=1)))
            case "accept" if history.in_doubt:
                history.accept(draw(st.sampled_from(history.in_doubt)))
            case "refuse" if history.in_doubt:
                history.refuse(draw(st.sampled_from(history.in_doubt)))
            case "resend" if history.in_doubt:
                history.resend(draw(st.sampled_from(history.in_doubt)))
            case "forget" if history.forgettable_rows:
                history.announce(set(history.forgettable_rows))
            case "end" if history.open_rows or history.free_rows:
                history.end(draw(st.sampled_from(history.open_rows or history.free_rows)))
            case "reopen" if history.done:
                history.reopen(draw(st.sampled_from(sorted(history.done))))
            case "session":
                history.written.append(SessionStart(at=1.0, number=len(history.written)))
    return history


def account_of(unfinished: dict[int, UnfinishedBatch]) -> Unfinished:
    return {number: (it.accepted is not None, list(it.rows)) for number, it in unfinished.items()}


@settings(max_examples=60)
@given(histories())
def test_the_files_of_a_run_show_which_rows_are_in_which_batch(history: History) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder))
        journal, results = Journal(run_dir.journal), Results(run_dir.results)
        journal.write(*history.written)
        results.write(*history.results)
        journal.log.close()
        results.log.close()
        recovery = recover(run_dir, ROWS, ignore, ignore)
    assert account_of(recovery.batches) == history.unfinished()
    assert recovery.next_batch == history.next_number
    assert {row for row in range(ROWS) if row in recovery.done} == history.done
    left = history.unfinished().values()
    assert recovery.outstanding_count == sum(len(rows) for is_accepted, rows in left if is_accepted)
    assert recovery.unacknowledged_count == sum(len(rows) for is_accepted, rows in left if not is_accepted)
    assert sorted(recovery.claimed_rows()) == sorted(row for _, rows in left for row in rows)
    needed = recovery.rows_to_skip()
    assert {row for row in range(ROWS) if row in needed} == history.done | set(history.rows)
    for number, batch in recovery.batches.items():
        assert batch.intent == next(
            e for e in reversed(history.written) if isinstance(e, BatchIntent) and e.batch == number
        )
        assert batch.accepted in (None, accepted(number))


@settings(max_examples=60)
@given(histories(), st.data())
def test_wherever_a_journal_is_cut_off_a_row_is_in_one_batch_at_most(
    history: History, data: st.DataObject
) -> None:
    written, results = history.written, history.results
    cut = data.draw(st.integers(0, len(written)))
    replay, done = BatchReplay(ROWS), RowSet(ROWS)
    for it in results[: data.draw(st.integers(0, len(results)))]:
        done.add(it.row)
    for entry in written[:cut]:
        if isinstance(entry, BatchIntent | BatchAcceptance | BatchRetraction):
            replay.read(entry)
        elif isinstance(entry, Reopened):
            replay.reopen(entry.row)
    rows = [row for batch in replay.unfinished(done).values() for row in batch.rows]
    assert len(set(rows)) == len(rows)
    assert not any(row in done for row in rows)


@settings(max_examples=10)
@given(histories())
def test_entries_of_batches_are_read_as_they_were_written(history: History) -> None:
    for entry in history.written:
        assert msgspec.json.decode(msgspec.json.encode(entry), type=type(entry)) == entry


def test_rows_beyond_the_input_are_in_no_batch() -> None:
    replay = BatchReplay(5)
    replay.read(intent(0, range(3, 9)))
    assert account_of(replay.unfinished(RowSet(5))) == {0: (False, [3, 4])}
    replay.read(refused(0))
    assert replay.unfinished(RowSet(5)) == {}
    assert replay.next_number == 1


def test_a_retraction_leaves_rows_that_have_moved_to_another_batch_in_that_batch() -> None:
    replay = BatchReplay(5)
    replay.read(intent(0, [0, 1, 2]))
    replay.read(intent(1, [1]))
    replay.read(refused(0))
    assert account_of(replay.unfinished(RowSet(5))) == {1: (False, [1])}


def test_entries_about_a_batch_that_was_never_announced_change_nothing() -> None:
    replay = BatchReplay(5)
    replay.read(accepted(7))
    replay.read(refused(8))
    replay.reopen(3)
    assert replay.unfinished(RowSet(5)) == {}
