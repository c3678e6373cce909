"""A batch on its way to being accepted, and what is written down of it."""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator
from pathlib import Path

import msgspec

from runner.records import Failure
from runner.store import BatchIntent


class Names(msgspec.Struct):
    """Which row goes by which id in a batch."""

    rows: dict[str, int] = {}
    """Row by the id that the service knows, in the order of the body."""
    own: dict[str, str] = {}
    """The row's own id by that one, where they differ."""

    def add(self, wire_id: str, custom_id: str, row: int) -> None:
        self.rows[wire_id] = row
        if wire_id != custom_id:
            self.own[wire_id] = custom_id

    def without(self, rows: Container[int]) -> Names:
        """All but those."""
        return Names({name: row for name, row in self.rows.items() if row not in rows}, self.own)

    def custom_id(self, wire_id: str) -> str:
        """The row's own id."""
        return self.own.get(wire_id, wire_id)


class Draft(msgspec.Struct):
    """Rows that were cut into one batch, which has no id yet. Times in Unix seconds."""

    number: int
    label: str
    key: str
    kind: str
    """Of its first row; jobs of one batch are expected to take alike."""
    names: Names
    ranges: list[range]
    size_bytes: int
    body: Path | None
    """None where it has to be made again."""
    due: float
    sent: float | None = None
    """When its first POST began."""
    attempts: int = 0
    excused: int = 0
    """Of the attempts, those that found nobody, or tried in an outage."""
    failures: int = 0
    """Of exchanges about it, in a row."""
    failing_since: float = 0.0
    """Monotonic time of the first of them."""
    failed_at: float | None = None
    """Monotonic time of the last of them."""
    intended: bool = False
    """An intent stands in the journal: the service may know of this batch."""
    in_doubt: bool = False
    """A POST was sent whose fate is not known."""
    may_send: bool = False
    """It was looked for, and may be sent again."""
    missed: int = 0
    """Searches that did not find it at the service."""
    blind: int = 0
    """Searches in a row that could not tell."""
    missed_since: float = 0.0
    """Monotonic time of the first search of either sort."""
    last: Failure | None = None
    settled: frozenset[int] = frozenset()
    """Rows that are in its body and not its own any more: they have a result, or are in another batch.

    What was said of the batch after that was lost, or not written yet, when an earlier session ended.
    """

    @property
    def count(self) -> int:
        """How many rows are in its body."""
        return len(self.names.rows)

    @property
    def own_count(self) -> int:
        """How many rows are its own."""
        return self.count - len(self.settled)

    @property
    def own_names(self) -> Names:
        """Of the rows that are its own."""
        return self.names.without(self.settled) if self.settled else self.names

    @property
    def first_row(self) -> int:
        return self.ranges[0].start

    def intent(self) -> BatchIntent:
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


def ranges_of(rows: array[int]) -> Iterator[range]:
    """Runs of consecutive rows; `rows` rise."""
    start = previous = -1
    for row in rows:
        if row != previous + 1 or start < 0:
            if start >= 0:
                yield range(start, previous + 1)
            start = row
        previous = row
    if start >= 0:
        yield range(start, previous + 1)
