"""A batch that the service has not accepted yet, and its entries in the journal."""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator
from pathlib import Path

import msgspec

from runner.records import Failure
from runner.store import BatchAcceptance, BatchIntent, BatchRetraction


class Names(msgspec.Struct):
    """The rows of a batch by their ids at the service."""

    rows: dict[str, int] = {}
    """Row by its id at the service, in the order of the body."""
    own: dict[str, str] = {}
    """Own id of a row by its id at the service, where the two differ."""

    def add(self, wire_id: str, custom_id: str, row: int) -> None:
        """Add a row after all others."""
        self.rows[wire_id] = row
        if wire_id != custom_id:
            self.own[wire_id] = custom_id

    def without(self, rows: Container[int]) -> Names:
        """Return the names of all other rows."""
        return Names({name: row for name, row in self.rows.items() if row not in rows}, self.own)

    def custom_id(self, wire_id: str) -> str:
        """Return the own id of a row."""
        return self.own.get(wire_id, wire_id)


class BatchSubmission(msgspec.Struct):
    """Rows cut into one batch that has no id yet. Times in Unix seconds unless they end in `_mono`."""

    number: int
    label: str
    key: str
    kind: str
    """Kind of its first row; all requests of a batch are expected to take equally long."""
    names: Names
    ranges: list[range]
    size_bytes: int
    body: Path | None
    """File with the encoded batch; None if it has to be made again."""
    due: float
    sent: float | None = None
    """When its first POST began; None until then."""
    attempts: int = 0
    excused: int = 0
    """Attempts during an outage, throttled, or without a connection: not counted in `retry.max_attempts`."""
    failures: int = 0
    """Consecutive failed exchanges."""
    failing_since_mono: float = 0.0
    """Monotonic time of the first of these failures."""
    failed_at_mono: float | None = None
    """Monotonic time of the last failure of a POST."""
    announced: bool = False
    """Whether an intent is in the journal: the service may know of this batch."""
    in_doubt: bool = False
    """Whether a POST was sent and it is not known if the service accepted it."""
    may_send: bool = False
    """Whether it may be sent again, after a lookup."""
    absent: int = 0
    """Lookups that showed that the service does not have it."""
    inconclusive: int = 0
    """Consecutive lookups that did not show whether the service has it."""
    missed_since_mono: float = 0.0
    """Monotonic time of the first lookup that did not find it."""
    last: Failure | None = None
    """Failure of the last attempt, if the service was reached."""
    settled: frozenset[int] = frozenset()
    """Rows in the body that belong to this batch no longer.

    They have a result or moved to another batch, and a killed session left the body as it was.
    """

    @property
    def count(self) -> int:
        """Rows in its body."""
        return len(self.names.rows)

    @property
    def own_count(self) -> int:
        """Rows that belong to it."""
        return self.count - len(self.settled)

    @property
    def own_names(self) -> Names:
        """Names of the rows that belong to it."""
        return self.names.without(self.settled) if self.settled else self.names

    @property
    def first_row(self) -> int:
        """Lowest row in its body."""
        return self.ranges[0].start

    def intent(self) -> BatchIntent:
        """Return the journal entry to be written before its first POST."""
        return BatchIntent(
            batch=self.number,
            label=self.label,
            key=self.key,
            rows=[end for part in self.ranges for end in (part.start, part.stop)],
            size_bytes=self.size_bytes,
            kind=self.kind,
            due=self.due,
            at=self.sent or self.due,
        )

    def acceptance(self, batch_id: str, accepted: float) -> BatchAcceptance:
        """Return the journal entry for its acceptance at `accepted`, in Unix seconds."""
        return BatchAcceptance(batch=self.number, id=batch_id, attempts=self.attempts, at=accepted)

    def retraction(self, cause: str, at: float) -> BatchRetraction:
        """Return the journal entry that the service certainly does not have it."""
        return BatchRetraction(batch=self.number, cause=cause, at=at)


def ranges_of(rows: array[int]) -> Iterator[range]:
    """Yield the ranges of consecutive rows in `rows`, which must rise."""
    start = previous = -1
    for row in rows:
        if row != previous + 1 or start < 0:
            if start >= 0:
                yield range(start, previous + 1)
            start = row
        previous = row
    if start >= 0:
        yield range(start, previous + 1)
