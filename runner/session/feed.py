"""Rows on their way in: read ahead off the event loop, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Final, Protocol

from runner.errors import InputError, StoppedEarly
from runner.source import Row
from runner.store import RowSet

LOW_WATER_ROWS: Final = 512
"""Rows in the buffer below which more are read."""


class Rows(Protocol):
    """The rows of a run, as a `Source` reads them."""

    def blocks(self) -> Iterator[list[Row]]:
        """Yield all rows in order, a bounded number at a time; blocks. Raises `InputError`."""


class Lease(Protocol):
    """Rows that only this process may send."""

    @property
    def start(self) -> int:
        """The first row."""

    @property
    def stop(self) -> int:
        """One past the last row."""

    def __contains__(self, row: int, /) -> bool: ...


class AllExcept:
    """All rows of a run of one process, except for those that need no POST."""

    def __init__(self, rows: int, to_skip: RowSet) -> None:
        self.start, self.stop = 0, rows
        self._to_skip = to_skip

    def __contains__(self, row: int) -> bool:
        return row not in self._to_skip


class Only:
    """Some rows by their numbers, in a process that is one of several."""

    def __init__(self, rows: Collection[int]) -> None:
        self.start, self.stop = min(rows), max(rows) + 1
        self._rows = frozenset(rows)

    def __contains__(self, row: int) -> bool:
        return row in self._rows


class Feed:
    """Hands out the rows that are still to be sent, in order. `fill` reads them, `take` hands them out."""

    def __init__(self, rows: Rows, *, on_rows: Callable[[], None], on_low: Callable[[], None]) -> None:
        """`on_rows` is called when more rows may have come, or when it is certain that none will.

        `on_low` is called on each `take` while the buffer is low and no lease is left to read.
        """
        self._rows = rows
        self._on_rows = on_rows
        self._on_low = on_low
        self._reader = _Reader(rows)
        self._buffer: deque[Row] = deque()
        self._leases: deque[Lease] = deque()
        self._requeued: set[int] = set()
        self._is_rereading = False
        self._asked = asyncio.Event()
        self._low = asyncio.Event()
        self._low.set()
        self.all_granted = False
        """Whether nothing more will be granted, as far as is known."""
        self.taken = 0
        """Rows handed out so far."""

    def __repr__(self) -> str:
        return f"<Feed {len(self._buffer)} rows read, {len(self._leases)} leases, {self.taken} taken>"

    def __len__(self) -> int:
        """Return how many rows are read and not taken."""
        return len(self._buffer)

    @property
    def is_exhausted(self) -> bool:
        """Whether everything that was granted, or requeued, was taken."""
        return not (self._buffer or self._leases or self._requeued or self._is_rereading)

    def take(self) -> Row | None:
        """Return the next row, or None while none is read."""
        row = None
        if self._buffer:
            row = self._buffer.popleft()
            self.taken += 1
        if len(self._buffer) < LOW_WATER_ROWS:
            self._low.set()
            if not self._leases:
                self._on_low()
        return row

    def grant(self, lease: Lease) -> None:
        """Hand out the rows of a lease, after all that was granted before."""
        self._leases.append(lease)
        self._asked.set()

    def give_back(self) -> list[int]:
        """Return the rows that were read and not taken; they will not be handed out here."""
        rows = [row.i for row in self._buffer]
        self._buffer.clear()
        self._low.set()
        return rows

    def requeue(self, row: int) -> None:
        """Hand out a row that was in no lease, or that was taken before."""
        self._requeued.add(row)
        self._asked.set()

    async def fill(self) -> None:
        """Read what is granted and requeued, as far as there is room; never return.

        Raises `StoppedEarly` if rows are missing.
        """
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._leases:
                lease = self._leases[0]
                if lease.start < self._reader.reached:  # given back by another process
                    self._reader = _Reader(self._rows)
                await self._read(self._reader, lease)
                del self._leases[0]
            rows, self._requeued = self._requeued, set()
            if rows:  # perhaps of an earlier, larger --limit
                self._is_rereading = True
                await self._read(_Reader(self._rows), Only(rows))
                self._is_rereading = False
            self._on_rows()  # also when nothing came: then it is certain that nothing more will

    async def _read(self, reader: _Reader, lease: Lease) -> None:
        while reader.reached < lease.stop:
            await self._low.wait()
            if not reader.rest:
                await asyncio.to_thread(reader.read_on, lease.stop)
            self._buffer.extend(row for row in reader.cut(lease.stop) if row.i in lease)
            if len(self._buffer) >= LOW_WATER_ROWS:
                self._low.clear()
            self._on_rows()


class _Reader:
    """Goes through the input once, a block at a time."""

    def __init__(self, rows: Rows) -> None:
        self._blocks = rows.blocks()
        self.rest: list[Row] = []
        """Rows of the last block that was read which were not asked for yet."""
        self.reached = 0
        """The first row that was not handed out yet."""

    def read_on(self, wanted: int) -> None:
        """Read the next block; blocks. Raises `StoppedEarly` where there are fewer than `wanted` rows."""
        try:
            block = next(self._blocks, None)
        except InputError as error:
            raise StoppedEarly(*error.problems) from None
        if block is None:
            raise StoppedEarly(
                f"the input changed while it was being sent: it had {wanted} rows, now {self.reached}"
            )
        self.rest = block

    def cut(self, stop: int) -> list[Row]:
        """Return what was read before row `stop`."""
        count = stop - self.rest[0].i
        rows, self.rest = self.rest[:count], self.rest[count:]
        self.reached = rows[-1].i + 1
        return rows
