"""A batch on its way to being accepted, and what is written down of it."""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator
from pathlib import Path

import msgspec

from runner.records import Failure
from runner.store import BatchAcceptance, BatchIntent, BatchRetraction


class Names(msgspec.Struct):
    """The rows of a batch by the ids that the service knows them by."""

    rows: dict[str, int] = {}
    """Row by the id that the service knows, in the order of the body."""
    own: dict[str, str] = {}
    """The row's own id by that one, where the two differ."""

    def add(self, wire_id: str, custom_id: str, row: int) -> None:
        """Add a row behind all others."""
        self.rows[wire_id] = row
        if wire_id != custom_id:
            self.own[wire_id] = custom_id

    def without(self, rows: Container[int]) -> Names:
        """Return the names of all rows but those."""
        return Names({name: row for name, row in self.rows.items() if row not in rows}, self.own)

    def custom_id(self, wire_id: str) -> str:
        """Return the row's own id."""
        return self.own.get(wire_id, wire_id)


class BatchSubmission(msgspec.Struct):
    """Rows that were cut into one batch, which has no id yet. Times in Unix seconds."""

    number: int
    label: str
    key: str
    kind: str
    """Kind of its first row; jobs of one batch are expected to take equally long."""
    names: Names
    ranges: list[range]
    size_bytes: int
    body: Path | None
    """File with the encoded batch; None where it has to be made again."""
    due: float
    sent: float | None = None
    """When its first POST began; None until then."""
    attempts: int = 0
    excused: int = 0
    """Attempts that reached nobody, or fell into an outage: they do not count against `retry.max_attempts`."""
    failures: int = 0
    """Consecutive failed exchanges about it."""
    failing_since_mono: float = 0.0
    """Monotonic time of the first of those."""
    failed_at_mono: float | None = None
    """Monotonic time of the last failure of a POST."""
    announced: bool = False
    """Whether an intent is in the journal: the service may know of this batch."""
    in_doubt: bool = False
    """Whether a POST was sent and it is not known if the service accepted it."""
    may_send: bool = False
    """Whether it may be sent again, after a lookup."""
    absent: int = 0
    """Lookups that did not find it at the service."""
    inconclusive: int = 0
    """Consecutive lookups that could not tell."""
    missed_since_mono: float = 0.0
    """Monotonic time of the first lookup of either sort."""
    last: Failure | None = None
    """The failure of the last attempt, where the service was reached."""
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
        """The lowest row of its body."""
        return self.ranges[0].start

    def intent(self) -> BatchIntent:
        """Return the journal entry that announces it."""
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
        """Return the journal entry that the service works on it since `accepted`."""
        return BatchAcceptance(batch=self.number, id=batch_id, attempts=self.attempts, at=accepted)

    def retraction(self, cause: str, at: float) -> BatchRetraction:
        """Return the journal entry that the service surely does not know of it."""
        return BatchRetraction(batch=self.number, cause=cause, at=at)


def ranges_of(rows: array[int]) -> Iterator[range]:
    """Yield the runs of consecutive rows in `rows`, which are in rising order."""
    start = previous = -1
    for row in rows:
        if row != previous + 1 or start < 0:
            if start >= 0:
                yield range(start, previous + 1)
            start = row
        previous = row
    if start >= 0:
        yield range(start, previous + 1)
