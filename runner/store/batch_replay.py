"""What the journal tells of batches: which rows went into which, and what is left of each."""

from __future__ import annotations

from array import array

import msgspec

from runner.store.journal import BatchAcceptance, BatchJournalEntry, BatchIntent, BatchRetraction
from runner.store.row_set import RowSet


class UnfinishedBatch(msgspec.Struct):
    """A batch of an earlier session with rows that have no result. Times in Unix seconds."""

    intent: BatchIntent
    accepted: BatchAcceptance | None
    """None while it is not known whether the service took it."""
    rows: array[int]
    """Without a result, in rising order."""


class BatchReplay:
    """Follows the entries of a journal in order. Memory: four bytes a row, once there is a batch."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._owner = array("I")
        """For each row the number of the batch it is in, from 1; 0: in none."""
        self._intents: dict[int, BatchIntent] = {}
        self._accepted: dict[int, BatchAcceptance] = {}
        self.next_number = 0
        """Above all that were ever given out."""
        self.has_accepted = False

    def read(self, entry: BatchJournalEntry) -> None:
        match entry:
            case BatchIntent():
                self._owner = self._owner or array("I", bytes(array("I").itemsize * self._total))
                self._intents[entry.batch] = entry
                self.next_number = max(self.next_number, entry.batch + 1)
                self._own(entry, entry.batch + 1)
            case BatchAcceptance():
                self._accepted[entry.batch] = entry
                self.has_accepted = True
            case BatchRetraction():
                intent = self._intents.pop(entry.batch, None)
                self._accepted.pop(entry.batch, None)
                if intent:
                    self._own(intent, 0)

    def reopen(self, row: int) -> None:
        """The row is in no batch any more: it had ended, and is to be tried anew."""
        if row < len(self._owner):
            self._owner[row] = 0

    def unfinished(self, done: RowSet) -> dict[int, UnfinishedBatch]:
        """By number, the batches with rows that are not `done`."""
        left: dict[int, UnfinishedBatch] = {}
        for number, intent in self._intents.items():
            owner, mine = self._owner, number + 1
            rows = array(
                "I",
                (
                    row
                    for part in intent.ranges
                    for row in range(part.start, min(part.stop, self._total))
                    if owner[row] == mine and row not in done
                ),
            )
            if rows:
                left[number] = UnfinishedBatch(intent, self._accepted.get(number), rows)
        return left

    def _own(self, intent: BatchIntent, owner: int) -> None:
        """Its rows are the batch's (`owner`: its number from 1), or no batch's (0) where they still were."""
        for part in intent.ranges:
            stop = min(part.stop, self._total)
            if owner:
                self._owner[part.start : stop] = array("I", [owner]) * max(stop - part.start, 0)
                continue
            for row in range(part.start, stop):
                if self._owner[row] == intent.batch + 1:
                    self._owner[row] = 0
