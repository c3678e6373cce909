"""Reads rows again, independently of the feed: for batches of earlier sessions."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Sequence
from itertools import chain
from typing import Final

from runner.errors import InputError, StoppedEarly
from runner.source import Row, Source

ROWS_PER_SLICE: Final = 100
"""Rows after which the event loop may do other things."""


async def rows_in(source: Source, wanted: Sequence[Sequence[range]]) -> AsyncIterator[tuple[int, Row]]:
    """Yield the wanted rows in order, each with the index of the member of `wanted` that it is in.

    The input is read once. The ranges of each member must rise; a row may be in several members. Raises
    `StoppedEarly` if rows are missing.
    """
    rows = [chain.from_iterable(ranges) for ranges in wanted]
    following = [(first, index) for index, row in enumerate(rows) if (first := next(row, None)) is not None]
    heapq.heapify(following)
    blocks = source.blocks()
    seen = 0
    while following:
        try:
            block = await asyncio.to_thread(next, blocks, None)
        except InputError as error:
            raise StoppedEarly(*error.problems) from None
        if block is None:
            last = max(ranges[-1].stop for ranges in wanted if ranges)
            raise StoppedEarly(f"the input changed while it was being sent: it had {last} rows, now {seen}")
        seen = block[-1].i + 1
        while following and following[0][0] < seen:
            row, index = following[0]
            yield index, block[row - block[0].i]
            after = next(rows[index], None)
            if after is None:
                heapq.heappop(following)
            else:
                heapq.heapreplace(following, (after, index))
            if row % ROWS_PER_SLICE == 0:
                await asyncio.sleep(0)
