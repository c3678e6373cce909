"""Rows on their way in: read ahead off the event loop, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from runner.errors import InputError, StoppedEarly
from runner.source import Line, Source

LOW_WATER_ROWS: Final = 512


class Feed:
    """The rows that are still to be sent, in order. `fill` reads, `take` hands out."""

    def __init__(self, source: Source, total: int, skip: Callable[[int], bool]) -> None:
        self._source = source
        self._total = total
        self._skip = skip
        self._lines: deque[Line] = deque()
        self._low = asyncio.Event()
        self._low.set()
        self._again: set[int] = set()
        self._asked = asyncio.Event()
        self.on_more: Callable[[], None] = lambda: None

    def take(self) -> Line | None:
        """The next row, or None while none is there."""
        if not self._lines:
            return None
        line = self._lines.popleft()
        if len(self._lines) < LOW_WATER_ROWS:
            self._low.set()
        return line

    def again(self, row: int) -> None:
        """Hand out a row that was skipped, or taken before."""
        self._again.add(row)
        self._asked.set()

    async def fill(self) -> None:
        """Read all, as there is room, and what is asked for again; never ends.

        Raises `StoppedEarly` if rows are missing.
        """
        await self._read(self._total, lambda row: not self._skip(row))
        while True:
            await self._asked.wait()
            self._asked.clear()
            rows, self._again = self._again, set()
            await self._read(max(rows) + 1, rows.__contains__)  # perhaps of an earlier, larger --limit

    async def _read(self, total: int, wanted: Callable[[int], bool]) -> None:
        blocks = self._source.blocks()
        reached = 0
        while reached < total:
            await self._low.wait()
            try:
                block = await asyncio.to_thread(next, blocks, None)
            except InputError as error:
                raise StoppedEarly(*error.problems) from None
            if block is None:
                raise StoppedEarly(
                    f"the input changed while it was being sent: it had {total} rows, now {reached}"
                )
            reached = block[-1].i + 1
            self._lines.extend(line for line in block if line.i < total and wanted(line.i))
            if len(self._lines) >= LOW_WATER_ROWS:
                self._low.clear()
            self.on_more()
