"""Rows that are read again: once, in order, for all batches together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.rereading import rows_in
from runner.errors import InputError, Problem, StoppedEarly
from runner.source import Row
from tests import virtual_time
from tests.listed import Listed, listed

RANGES = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=4)
"""For each range, how far it starts after the end of the one before, and its length."""


def reread(source: Listed, wanted: Sequence[Sequence[range]]) -> list[tuple[int, int]]:
    """Return the index and the number of each row, in the order in which they come."""

    async def main() -> list[tuple[int, int]]:
        return [(index, row.i) async for index, row in rows_in(source, wanted)]

    return virtual_time.run(main())


def rising(drawn: list[tuple[int, int]]) -> list[range]:
    ranges, stop = [], 0
    for gap, length in drawn:
        ranges.append(range(stop + gap, stop + gap + length))
        stop = ranges[-1].stop
    return ranges


@settings(max_examples=60)
@given(st.lists(RANGES.map(rising), max_size=4), st.integers(1, 40))
def test_each_member_gets_its_rows_in_order_from_one_pass_over_the_input(
    wanted: list[list[range]], block_rows: int
) -> None:
    source = Listed(listed(80).bodies, block_rows=block_rows)
    found = reread(source, wanted)
    rows = [row for _, row in found]
    assert rows == sorted(rows)
    for index, ranges in enumerate(wanted):
        assert [row for i, row in found if i == index] == [row for part in ranges for row in part]
    assert source.passes <= 1


def test_nothing_is_read_beyond_the_last_wanted_row() -> None:
    class Watched(Listed):
        blocks_read = 0

        def blocks(self) -> Iterator[list[Row]]:
            for block in super().blocks():
                self.blocks_read += 1
                yield block

    source = Watched(listed(100).bodies, block_rows=10)
    assert reread(source, [[range(3, 5)], [range(14, 16)]]) == [(0, 3), (0, 4), (1, 14), (1, 15)]
    assert source.blocks_read == 2


def test_the_event_loop_gets_its_turn_between_rows() -> None:
    async def main() -> int:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count_turns())
        source = Listed(listed(1000).bodies, block_rows=1000)
        assert len([row async for row in rows_in(source, [[range(1000)]])]) == 1000
        counting.cancel()
        return turns

    assert virtual_time.run(main()) >= 10


def test_an_input_that_lost_rows_ends_the_run() -> None:
    with pytest.raises(StoppedEarly, match="it had 25 rows, now 20"):
        reread(listed(20), [[range(3)], [range(18, 25)]])


def test_an_input_that_cannot_be_read_any_more_ends_the_run() -> None:
    class Broken(Listed):
        def blocks(self) -> Iterator[list[Row]]:
            yield from super().blocks()
            raise InputError(Problem("is gone", "rows.jsonl"))

    with pytest.raises(StoppedEarly, match="is gone"):
        reread(Broken([b"{}"]), [[range(2)]])
