"""What the journal says about batches: which rows went into which, and which of them are unfinished."""

from __future__ import annotations

from array import array

import msgspec

from runner.store.journal import BatchAcceptance, BatchIntent, BatchJournalEntry, BatchRetraction
from runner.store.row_set import RowSet


class UnfinishedBatch(msgspec.Struct):
    """A batch of an earlier session with rows that have no result. Times in Unix seconds."""

    intent: BatchIntent
    accepted: BatchAcceptance | None
    """None while it is unknown whether the service accepted it."""
    rows: array[int]
    """Rows without a result, in rising order."""


class BatchReplay:
    """Follows the entries of a journal in order. Memory: four bytes a row, once there is a batch."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._owner = array("I")
        """For each row 1 + the number of the batch that it is in; 0 for a row in no batch."""
        self._intents: dict[int, BatchIntent] = {}
        self._accepted: dict[int, BatchAcceptance] = {}
        self.next_number = 0
        """Number of the next batch: above all that were ever used."""
        self.has_accepted = False
        """Whether the service ever accepted a batch of this run."""

    def read(self, entry: BatchJournalEntry) -> None:
        """Follow the next entry."""
        match entry:
            case BatchIntent():
                self._owner = self._owner or array("I", bytes(array("I").itemsize * self._total))
                self._intents[entry.batch] = entry
                self.next_number = max(self.next_number, entry.batch + 1)
                self._claim(entry)
            case BatchAcceptance():
                self._accepted[entry.batch] = entry
                self.has_accepted = True
            case BatchRetraction():
                intent = self._intents.pop(entry.batch, None)
                self._accepted.pop(entry.batch, None)
                if intent:
                    self._release(intent)

    def reopen(self, row: int) -> None:
        """Take a row out of its batch: it had a result, and is retried."""
        if row < len(self._owner):
            self._owner[row] = 0

    def unfinished(self, done: RowSet) -> dict[int, UnfinishedBatch]:
        """Return the batches with rows that are not `done`, by number."""
        unfinished: dict[int, UnfinishedBatch] = {}
        for number, intent in self._intents.items():
            rows = array("I", (row for row in self._rows(intent) if row not in done))
            if rows:
                unfinished[number] = UnfinishedBatch(intent, self._accepted.get(number), rows)
        return unfinished

    def _claim(self, intent: BatchIntent) -> None:
        """Move all rows of the intent into its batch."""
        for part in intent.ranges:
            stop = min(part.stop, self._total)
            self._owner[part.start : stop] = array("I", [intent.batch + 1]) * max(stop - part.start, 0)

    def _release(self, intent: BatchIntent) -> None:
        """Take out the rows that are still in the batch."""
        for row in self._rows(intent):
            self._owner[row] = 0

    def _rows(self, intent: BatchIntent) -> list[int]:
        """Return the rows that are still in the batch of the intent."""
        owner, number = self._owner, intent.batch + 1
        return [
            row
            for part in intent.ranges
            for row in range(part.start, min(part.stop, self._total))
            if owner[row] == number
        ]
