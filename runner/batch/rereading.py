"""Rows read once more, beside the feed: for batches of earlier sessions."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Sequence
from itertools import chain
from typing import Final

from runner.errors import InputError, StoppedEarly
from runner.source import Row, Source

LINES_AT_ONCE: Final = 100
"""Between which the event loop may do other things."""


async def lines_in(source: Source, wanted: Sequence[Sequence[range]]) -> AsyncIterator[tuple[int, Row]]:
    """One pass over the input: each line with the index of a member of `wanted` that it is in, in row order.

    The ranges of each member rise; a row may be in several. Raises `StoppedEarly` where rows are missing.
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
            if row % LINES_AT_ONCE == 0:
                await asyncio.sleep(0)
