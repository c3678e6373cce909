"""Rows on their way in: each exactly once and in order, read ahead within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import InputError, Problem, RunnerError, StoppedEarly
from runner.session.feed import LOW_WATER_ROWS, AllExcept, Feed, Only
from runner.source import Row
from runner.store import RowSet
from tests import virtual_time
from tests.listed import BLOCK_ROWS, Listed, ListedRow, listed
from tests.session.building import Calls


class Bench:
    """A feed, and what it called."""

    def __init__(self, rows: Listed) -> None:
        self.rows = rows
        self.on_rows, self.on_low = Calls(), Calls()
        self.feed = Feed(rows, on_rows=self.on_rows, on_low=self.on_low)

    async def settle(self) -> None:
        """Let the feed read until it waits: work in threads takes no virtual time."""
        await asyncio.sleep(0.001)

    async def take(self, most: int = 10**9) -> list[int]:
        """Take rows until there are none, or enough."""
        taken: list[int] = []
        while len(taken) < most:
            row = self.feed.take()
            if row is None:
                await self.settle()
                row = self.feed.take()
                if row is None:
                    break
            taken.append(row.i)
        return taken


def filled(rows: int | Listed, work: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    """Do `work` while the feed is being filled. Raises what `fill` raises."""

    async def main() -> None:
        bench = Bench(listed(rows) if isinstance(rows, int) else rows)
        filling = asyncio.create_task(bench.feed.fill())
        await work(bench)
        filling.cancel()
        with suppress(asyncio.CancelledError):
            await filling

    virtual_time.run(main())


def all_of(rows: int) -> AllExcept:
    return AllExcept(rows, RowSet(0))


def test_rows_are_handed_out_in_order_and_then_no_more() -> None:
    async def work(bench: Bench) -> None:
        feed = bench.feed
        assert feed.take() is None
        assert feed.is_exhausted
        feed.grant(all_of(1000))
        assert not feed.is_exhausted
        assert await bench.take() == list(range(1000))
        assert feed.is_exhausted
        assert feed.taken == 1000
        assert bench.rows.passes == 1

    filled(1000, work)


def test_no_more_is_read_ahead_than_is_soon_needed() -> None:
    async def work(bench: Bench) -> None:
        bench.feed.grant(all_of(5000))
        await bench.settle()
        assert LOW_WATER_ROWS <= len(bench.feed) < LOW_WATER_ROWS + BLOCK_ROWS
        assert repr(bench.feed) == f"<Feed {len(bench.feed)} rows read, 1 leases, 0 taken>"
        while await bench.take(100):
            await bench.settle()
            assert len(bench.feed) < LOW_WATER_ROWS + BLOCK_ROWS
        assert bench.feed.taken == 5000

    filled(5000, work)


def test_rows_that_need_no_post_are_left_out() -> None:
    done = RowSet(50)
    for row in (0, 7, 8, 49):
        done.add(row)

    async def work(bench: Bench) -> None:
        bench.feed.grant(AllExcept(50, done))
        assert await bench.take() == [row for row in range(50) if row not in done]

    filled(60, work)


def test_leases_come_one_after_the_other() -> None:
    async def work(bench: Bench) -> None:
        bench.feed.grant(Only([3, 5, 700]))
        bench.feed.grant(Only([701, 900]))
        assert await bench.take() == [3, 5, 700, 701, 900]
        bench.feed.grant(Only([950]))
        assert await bench.take() == [950]
        assert bench.rows.passes == 1

    filled(1000, work)


def test_a_lease_of_rows_before_the_last_one_makes_it_read_from_the_start_again() -> None:
    async def work(bench: Bench) -> None:
        bench.feed.grant(Only([900]))
        bench.feed.grant(Only([10, 20]))
        assert await bench.take() == [900, 10, 20]
        assert bench.rows.passes == 2

    filled(1000, work)


def test_a_row_that_was_handed_out_before_can_be_requeued() -> None:
    async def work(bench: Bench) -> None:
        bench.feed.grant(all_of(30))
        await bench.take()
        bench.feed.requeue(17)
        bench.feed.requeue(3)
        assert not bench.feed.is_exhausted
        assert await bench.take() == [3, 17]
        assert bench.feed.is_exhausted

    filled(30, work)


def test_a_row_beyond_every_lease_can_be_requeued() -> None:
    async def work(bench: Bench) -> None:
        bench.feed.requeue(25)
        assert await bench.take() == [25]

    filled(30, work)


def test_rows_that_were_read_and_not_taken_are_given_back_and_not_handed_out() -> None:
    async def work(bench: Bench) -> None:
        bench.feed.grant(all_of(100))
        await bench.settle()
        assert await bench.take(60) == list(range(60))
        assert bench.feed.give_back() == list(range(60, 100))
        assert await bench.take() == []
        assert bench.feed.is_exhausted
        bench.feed.grant(Only([70, 80]))  # they came back
        assert await bench.take() == [70, 80]

    filled(100, work)


def test_waiting_workers_are_woken_when_rows_have_come_and_when_none_will() -> None:
    async def work(bench: Bench) -> None:
        bench.feed.grant(all_of(10))
        await bench.settle()
        count = bench.on_rows.count
        assert count > 0
        bench.feed.grant(Only([5]))  # of which every row was handed out: nothing comes of it
        await bench.settle()
        assert bench.on_rows.count > count

    filled(10, work)


def test_the_host_hears_at_each_row_that_is_taken_when_no_lease_is_left_to_read() -> None:
    async def work(bench: Bench) -> None:
        feed, on_low = bench.feed, bench.on_low
        feed.take()
        assert on_low.count == 1
        feed.grant(all_of(1000))
        await bench.settle()
        before = on_low.count
        await bench.take(200)
        assert on_low.count == before, "there is a lease left"
        await bench.take(700)
        count = on_low.count
        await bench.take(50)
        assert on_low.count == count + 50

    filled(1000, work)


def test_an_input_that_became_shorter_stops_the_run() -> None:
    async def work(bench: Bench) -> None:
        bench.feed.grant(all_of(30))
        await bench.settle()

    with pytest.raises(
        StoppedEarly, match="the input changed while it was being sent: it had 30 rows, now 20"
    ):
        filled(20, work)


def test_an_input_that_can_no_longer_be_read_stops_the_run_early() -> None:
    class Vanished(Listed):
        def blocks(self) -> Iterator[list[Row]]:
            yield from super().blocks()
            raise InputError(Problem("the input cannot be read: No such file", "rows.jsonl"))

    async def work(bench: Bench) -> None:
        bench.feed.grant(all_of(5))
        await bench.settle()

    with pytest.raises(RunnerError, match=r"rows\.jsonl: the input cannot be read") as raised:
        filled(Vanished([b"{}"]), work)
    assert raised.value.exit_code == 3


@settings(max_examples=40)
@given(
    st.lists(st.sets(st.integers(0, 299), min_size=1, max_size=60), max_size=6),
    st.integers(1, 120),
    st.sets(st.integers(0, 299), max_size=5),
)
def test_every_row_of_every_lease_is_handed_out_as_often_as_it_was_granted(
    leases: list[set[int]], block_rows: int, requeued: set[int]
) -> None:
    async def work(bench: Bench) -> None:
        for lease in leases:
            bench.feed.grant(Only(lease))
        taken = await bench.take()
        assert taken == [row for lease in leases for row in sorted(lease)]
        for row in requeued:
            bench.feed.requeue(row)
        assert await bench.take() == sorted(requeued)
        assert bench.feed.is_exhausted

    filled(Listed(listed(300).bodies, block_rows=block_rows), work)


@pytest.mark.parametrize(("rows", "start", "stop"), [([4], 4, 5), ([9, 2, 5], 2, 10)])
def test_a_lease_of_single_rows_knows_its_bounds(rows: Collection[int], start: int, stop: int) -> None:
    lease = Only(rows)
    assert (lease.start, lease.stop) == (start, stop)
    assert [row for row in range(12) if row in lease] == sorted(rows)


def test_rows_keep_what_was_read() -> None:
    async def work(bench: Bench) -> None:
        bench.feed.grant(all_of(3))
        await bench.settle()
        assert bench.feed.take() == ListedRow(0, b'{"input":"0"}')

    filled(3, work)
