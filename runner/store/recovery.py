"""What an earlier session left: rows done, jobs open at the service, requests whose fate is not known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from runner.records import Job
from runner.store.batch_replay import BatchReplay, UnfinishedBatch
from runner.store.journal import (
    Acceptance,
    BatchAcceptance,
    BatchIntent,
    BatchRetraction,
    Intent,
    Marks,
    Reopened,
    Retraction,
    SessionStart,
    read_journals,
    read_marks,
)
from runner.store.results import ResultHead, is_superseded, read_results
from runner.store.row_set import RowSet
from runner.store.rundir import RunDir


class Unacknowledged(msgspec.Struct, frozen=True, gc=False):
    """A request that was perhaps sent, with no acceptance on record."""

    key: str
    due: float
    sent: float


class Recovery:
    """The state of a run as its files tell it.

    Memory: a bit a row, and an entry for each request that was under way.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = RowSet(total)
        self.outstanding: dict[int, Job] = {}
        self.unacknowledged: dict[int, Unacknowledged] = {}
        self.batches: dict[int, UnfinishedBatch] = {}
        """By number, those with rows that are not done."""
        self.next_batch = 0
        """The number of the batch that comes next."""
        self.has_accepted_batch = False
        self.epochs: dict[int, int] = {}
        """Of the rows that were reopened; see `Reopened`."""
        self.has_superseded = False
        """Results of earlier epochs stand in `results.jsonl`: a kill came before they were set aside."""

    def rows_to_skip(self) -> RowSet:
        """RowSet that are done or under way."""
        rows = self.done.copy()
        for row in self.claimed_rows():
            rows.add(row)
        return rows

    def claimed_rows(self) -> Iterator[int]:
        """RowSet that will have a result whether they are granted or not: of open jobs, and of batches.

        One whose fate is not known is found out as a whole, and sent again as a whole.
        """
        yield from self.outstanding
        for batch in self.batches.values():
            yield from batch.rows

    @property
    def outstanding_count(self) -> int:
        """How many rows the service works on."""
        return len(self.outstanding) + sum(
            len(batch.rows) for batch in self.batches.values() if batch.accepted
        )

    @property
    def unacknowledged_count(self) -> int:
        """How many rows the service perhaps works on."""
        in_doubt = (len(batch.rows) for batch in self.batches.values() if not batch.accepted)
        return len(self.unacknowledged) + sum(in_doubt)

    @property
    def is_empty(self) -> bool:
        return not (self.done.count or self.outstanding or self.unacknowledged or self.batches or self.epochs)


def recover(
    run_dir: RunDir,
    total: int,
    on_result: Callable[[ResultHead], None],
    on_superseded: Callable[[ResultHead], None] = lambda _: None,
    *,
    marks: Marks | None = None,
) -> Recovery:
    """Read the results and journals of all workers, without torn last lines.

    `on_result` is shown the last word of each row, `on_superseded` the results of earlier epochs. Raises
    `RunDirError` for a damaged line, `StorageError` where a file cannot be read.
    """
    recovery = Recovery(total)
    recovery.epochs = (marks or read_marks(*run_dir.journals)).epochs
    for line in read_results(*run_dir.all_results):
        if is_superseded(line, recovery.epochs):
            recovery.has_superseded = True
            on_superseded(line)
        elif line.row not in recovery.done:
            recovery.done.add(line.row)
            on_result(line)
    _read_journal(run_dir, recovery)
    return recovery


def _read_journal(run_dir: RunDir, recovery: Recovery) -> None:
    """What the journals tell of rows without a result, in the current epoch of each."""
    intents: dict[int, Intent] = {}
    book = BatchReplay(recovery.total)
    for entry in read_journals(run_dir.journals):
        if isinstance(entry, BatchIntent | BatchAcceptance | BatchRetraction):
            book.read(entry)
            continue
        if isinstance(entry, Reopened):
            book.reopen(entry.row)
        if isinstance(entry, SessionStart | Reopened) or entry.row in recovery.done:
            continue
        if entry.epoch < recovery.epochs.get(entry.row, 0):
            continue
        match entry:
            case Intent():
                intents[entry.row] = entry
                recovery.outstanding.pop(entry.row, None)  # the service had forgotten that job
                recovery.unacknowledged[entry.row] = Unacknowledged(entry.key, entry.due, entry.at)
            case Retraction():
                recovery.unacknowledged.pop(entry.row, None)
            case Acceptance():
                recovery.unacknowledged.pop(entry.row, None)
                recovery.outstanding[entry.row] = _job(entry, intents.pop(entry.row, None))
    recovery.batches, recovery.next_batch = book.unfinished(recovery.done), book.next_number
    recovery.has_accepted_batch = book.has_accepted


def _job(accepted: Acceptance, intent: Intent | None) -> Job:
    return Job(
        row=accepted.row,
        custom_id=intent.custom_id if intent else f"row-{accepted.row}",
        id=accepted.job,
        kind=accepted.kind,
        due=intent.due if intent else accepted.at,
        sent=intent.at if intent else accepted.at,
        accepted=accepted.at,
        attempts=accepted.attempts,
        epoch=accepted.epoch,
        inherited=True,
    )
