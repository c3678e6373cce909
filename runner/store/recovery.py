"""What earlier sessions left: results, outstanding jobs, and requests that may have been accepted."""

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
    """A request that may have been accepted: it has an intent, and nothing after it."""

    key: str
    due: float
    sent: float


class Recovery:
    """The state of a run according to its files.

    Memory: one bit a row, and one entry for each outstanding or unacknowledged request.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = RowSet(total)
        """Rows that have a result."""
        self.outstanding: dict[int, Job] = {}
        """Accepted jobs without a result, by row."""
        self.unacknowledged: dict[int, Unacknowledged] = {}
        """Requests that may have been accepted, by row."""
        self.batches: dict[int, UnfinishedBatch] = {}
        """Batches with rows that are not done, by number."""
        self.next_batch = 0
        """Number of the next batch."""
        self.has_accepted_batch = False
        """Whether the service ever accepted a batch of this run."""
        self.epochs: dict[int, int] = {}
        """Current epoch of each row that was reopened; see `Reopened`."""
        self.has_superseded = False
        """Whether results of earlier epochs are still in `results.jsonl`: a kill interrupted their move."""

    def rows_to_skip(self) -> RowSet:
        """Return the rows that need no POST of their own: they are done, or claimed."""
        rows = self.done.copy()
        for row in self.claimed_rows():
            rows.add(row)
        return rows

    def claimed_rows(self) -> Iterator[int]:
        """Yield the rows that get their results without a new POST: those of outstanding jobs and of batches.

        A batch that may have been accepted is looked up as a whole, and sent again as a whole.
        """
        yield from self.outstanding
        for batch in self.batches.values():
            yield from batch.rows

    @property
    def outstanding_count(self) -> int:
        """The number of rows that the service works on."""
        in_batches = sum(len(batch.rows) for batch in self.batches.values() if batch.accepted)
        return len(self.outstanding) + in_batches

    @property
    def unacknowledged_count(self) -> int:
        """The number of rows that the service may be working on."""
        in_batches = sum(len(batch.rows) for batch in self.batches.values() if not batch.accepted)
        return len(self.unacknowledged) + in_batches

    @property
    def is_empty(self) -> bool:
        """Whether no row was ever accepted, or may have been, or has a result."""
        return not (self.done.count or self.outstanding or self.unacknowledged or self.batches or self.epochs)


def ignore(result: ResultHead) -> None:
    """Do nothing with a result: for a caller of `recover` who wants only what is left to do."""


def recover(
    run_dir: RunDir,
    total: int,
    on_result: Callable[[ResultHead], None],
    on_superseded: Callable[[ResultHead], None],
    *,
    marks: Marks | None = None,
) -> Recovery:
    """Read the results and journals of all workers, except for torn last lines.

    `on_result` is called with the last word of each row, `on_superseded` with results of earlier epochs.
    `marks` saves a pass over the journals for a caller who has them. Raises `RunDirError` for a damaged line,
    `StorageError` where a file cannot be read.
    """
    recovery = Recovery(total)
    recovery.epochs = (marks or read_marks(*run_dir.journals)).epochs
    for result in read_results(*run_dir.all_results):
        if is_superseded(result, recovery.epochs):
            recovery.has_superseded = True
            on_superseded(result)
        elif result.row not in recovery.done:
            recovery.done.add(result.row)
            on_result(result)
    _read_journals(run_dir, recovery)
    return recovery


def _read_journals(run_dir: RunDir, recovery: Recovery) -> None:
    """Replay the entries about rows without a result, in the current epoch of each."""
    intents: dict[int, Intent] = {}
    replay = BatchReplay(recovery.total)
    for entry in read_journals(run_dir.journals):
        if isinstance(entry, BatchIntent | BatchAcceptance | BatchRetraction):
            replay.read(entry)
            continue
        if isinstance(entry, Reopened):
            replay.reopen(entry.row)
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
    recovery.batches, recovery.next_batch = replay.unfinished(recovery.done), replay.next_number
    recovery.has_accepted_batch = replay.has_accepted


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
