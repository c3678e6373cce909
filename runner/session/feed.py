"""RowSet on their way in: read ahead off the event loop, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Final, Protocol

from runner.errors import InputError, StoppedEarly
from runner.source import Row, Source
from runner.store import RowSet

LOW_WATER_ROWS: Final = 512


class Lease(Protocol):
    """RowSet that may be sent from here and from nowhere else."""

    @property
    def start(self) -> int:
        """The first of them."""

    @property
    def stop(self) -> int:
        """One past the last of them."""

    def __contains__(self, row: int, /) -> bool: ...


class AllBut:
    """All rows of a run of one process, but for those that need no POST."""

    def __init__(self, rows: int, need_no_post: RowSet) -> None:
        self.start, self.stop = 0, rows
        self._need_no_post = need_no_post

    def __contains__(self, row: int) -> bool:
        return row not in self._need_no_post


class These:
    """Some rows by their numbers, in a process that is one of several."""

    def __init__(self, rows: Collection[int]) -> None:
        self.start, self.stop = min(rows), max(rows) + 1
        self._rows = frozenset(rows)

    def __contains__(self, row: int) -> bool:
        return row in self._rows


class Feed:
    """The rows that are still to be sent, in order. `fill` reads, `take` hands out."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._reader = _Reader(source)
        self._lines: deque[Row] = deque()
        self._leases: deque[Lease] = deque()
        self._again: set[int] = set()
        self._reading_again = False
        self._asked = asyncio.Event()
        self._low = asyncio.Event()
        self._low.set()
        self.all_granted = False
        """Nothing will be granted any more, as far as is known."""
        self.taken = 0
        """RowSet handed out so far."""
        self.on_more: Callable[[], None] = lambda: None
        self.on_low: Callable[[], None] = lambda: None
        """Told, at every row that is taken, when few are left and nothing is being read."""

    def take(self) -> Row | None:
        """The next row, or None while none is there."""
        line = None
        if self._lines:
            line = self._lines.popleft()
            self.taken += 1
        if len(self._lines) < LOW_WATER_ROWS:
            self._low.set()
            if not self._leases:
                self.on_low()
        return line

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def is_dry(self) -> bool:
        """All that was granted, or asked for again, was taken."""
        return not (self._lines or self._leases or self._again or self._reading_again)

    def grant(self, lease: Lease) -> None:
        """Hand out these rows, too, behind all that was granted before."""
        self._leases.append(lease)
        self._asked.set()

    def give_back(self) -> list[int]:
        """The rows that were read and not taken, which will not be handed out here."""
        rows = [line.i for line in self._lines]
        self._lines.clear()
        self._low.set()
        return rows

    def again(self, row: int) -> None:
        """Hand out a row that was in no lease, or taken before."""
        self._again.add(row)
        self._asked.set()

    async def fill(self) -> None:
        """Read what is granted, as there is room, and what is asked for again; never ends.

        Raises `StoppedEarly` if rows are missing.
        """
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._leases:
                lease = self._leases[0]
                if lease.start < self._reader.reached:  # given back by another process
                    self._reader = _Reader(self._source)
                await self._read(self._reader, lease)
                del self._leases[0]
            rows, self._again = self._again, set()
            if rows:  # perhaps of an earlier, larger --limit
                self._reading_again = True
                await self._read(_Reader(self._source), These(rows))
                self._reading_again = False
            self.on_more()  # or the last of it: there is no more

    async def _read(self, reader: _Reader, lease: Lease) -> None:
        while reader.reached < lease.stop:
            await self._low.wait()
            if not reader.rest:
                await asyncio.to_thread(reader.read_on, lease.stop)
            self._lines.extend(line for line in reader.cut(lease.stop) if line.i in lease)
            if len(self._lines) >= LOW_WATER_ROWS:
                self._low.clear()
            self.on_more()


class _Reader:
    """Goes through the input once, a block at a time."""

    def __init__(self, source: Source) -> None:
        self._blocks = source.blocks()
        self.rest: list[Row] = []
        """Of the block that was read last, what was not asked for yet."""
        self.reached = 0

    def read_on(self, wanted: int) -> None:
        """Blocking. Raises `StoppedEarly` where there are fewer than `wanted` rows."""
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
        """What was read and stands before row `stop`."""
        count = stop - self.rest[0].i
        lines, self.rest = self.rest[:count], self.rest[count:]
        self.reached = lines[-1].i + 1
        return lines
