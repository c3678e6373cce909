"""What an earlier session left: rows done, jobs open at the service, requests whose fate is not known."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from runner.records import Job
from runner.store.journal import (
    Acceptance,
    Intent,
    Marks,
    Reopened,
    Retraction,
    SessionStart,
    read_journals,
    read_marks,
)
from runner.store.results import Line, is_superseded, read_results
from runner.store.rundir import RunDir


class Rows:
    """A set of row numbers as a bitmap: one bit a row, so a million rows take 125 kB."""

    def __init__(self, total: int) -> None:
        self._bits = bytearray((total + 7) // 8)
        self.count = 0

    @property
    def capacity(self) -> int:
        """Rows from this one on cannot be in."""
        return 8 * len(self._bits)

    def add(self, row: int) -> None:
        """Put `row` in; nothing changes where it is in already, or out of range."""
        byte, bit = row >> 3, 1 << (row & 7)
        if byte < len(self._bits) and not self._bits[byte] & bit:
            self._bits[byte] |= bit
            self.count += 1

    def discard(self, row: int) -> None:
        """Take `row` out; nothing changes where it is not in."""
        if row in self:
            self._bits[row >> 3] &= ~(1 << (row & 7))
            self.count -= 1

    def count_below(self, row: int) -> int:
        """How many of the rows before `row` are in."""
        whole, rest = divmod(row, 8)
        count = int.from_bytes(self._bits[:whole], "little").bit_count()
        return count + (self._bits[whole] & ((1 << rest) - 1)).bit_count() if rest else count

    def copy(self) -> Rows:
        """Another set with the same rows."""
        copied = Rows(0)
        copied._bits, copied.count = self._bits[:], self.count
        return copied

    def __contains__(self, row: int) -> bool:
        return row >> 3 < len(self._bits) and bool(self._bits[row >> 3] & (1 << (row & 7)))


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
        self.done = Rows(total)
        self.open: dict[int, Job] = {}
        self.unacknowledged: dict[int, Unacknowledged] = {}
        self.epochs: dict[int, int] = {}
        """Of the rows that were reopened; see `Reopened`."""
        self.has_superseded = False
        """Results of earlier epochs stand in `results.jsonl`: a kill came before they were set aside."""

    def need_no_post(self) -> Rows:
        """Rows that are done, or accepted and to be polled."""
        rows = self.done.copy()
        for row in self.open:
            rows.add(row)
        return rows

    @property
    def nothing_done(self) -> bool:
        return not (self.done.count or self.open or self.unacknowledged or self.epochs)


def recover(
    run_dir: RunDir,
    total: int,
    on_result: Callable[[Line], None],
    on_superseded: Callable[[Line], None] = lambda _: None,
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
    for entry in read_journals(run_dir.journals):
        if isinstance(entry, SessionStart | Reopened) or entry.row in recovery.done:
            continue
        if entry.epoch < recovery.epochs.get(entry.row, 0):
            continue
        match entry:
            case Intent():
                intents[entry.row] = entry
                recovery.open.pop(entry.row, None)  # the service had forgotten that job
                recovery.unacknowledged[entry.row] = Unacknowledged(entry.key, entry.due, entry.at)
            case Retraction():
                recovery.unacknowledged.pop(entry.row, None)
            case Acceptance():
                recovery.unacknowledged.pop(entry.row, None)
                recovery.open[entry.row] = _job(entry, intents.pop(entry.row, None))


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
