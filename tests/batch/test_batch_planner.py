"""The planner: batches by number and by size, slots, the budget, and bodies that are made again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from runner.batch.planner import Planner
from runner.batch.submission import BatchSubmission
from runner.config import RunConfig
from runner.errors import StoppedEarly
from runner.records import Timing, Usage
from runner.session.feed import AllExcept, Only
from runner.store import RowSet
from tests import virtual_time
from tests.batch.support import config_of, names_in
from tests.batch.workbench import Workbench
from tests.listed import Listed, listed

Scene: TypeAlias = Callable[["Cutting"], Coroutine[Any, Any, None]]


class Cutting:
    """A planner, and the batches that it has cut."""

    def __init__(self, bench: Workbench, first_number: int = 0) -> None:
        self.bench = bench
        self.source = bench.source
        self.batches: list[BatchSubmission] = []
        self.slots = 1000
        """Most batches that may be cut."""
        self.planner = Planner(
            bench.parts,
            bench.source,
            bench.feed,
            bench.failed_rows,
            first_number,
            has_slot=lambda: len(self.batches) < self.slots,
            on_cut=self.batches.append,
        )
        bench.woken.append(self.planner.wake)

    @property
    def rows(self) -> list[list[int]]:
        """Rows of each batch."""
        return [[row for part in batch.ranges for row in part] for batch in self.batches]

    @property
    def counts(self) -> list[int]:
        return [batch.count for batch in self.batches]

    def grant_all(self) -> None:
        rows = len(self.source)
        self.bench.feed.grant(AllExcept(rows, RowSet(rows)))

    async def settle(self) -> None:
        """Wait until nothing more happens: in virtual time, a second is enough for all work."""
        await asyncio.sleep(1.0)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Let the planner work; at the end of the block it has come to rest, and is closed."""
        fill = asyncio.create_task(self.bench.feed.fill())
        async with self.working_without_reading():
            yield
        fill.cancel()

    @asynccontextmanager
    async def working_without_reading(self) -> AsyncIterator[None]:
        """Let the planner work on a feed that reads nothing."""
        work = asyncio.create_task(self.planner.work())
        yield
        await self.settle()
        self.planner.close()
        await work


def cut(
    directory: Path, source: Listed, scene: Scene, config: RunConfig | None = None, first: int = 0
) -> None:
    """Play a scene with a planner for these rows."""

    async def main() -> None:
        await scene(Cutting(Workbench(directory, source=source, config=config or config_of()), first))

    virtual_time.run(main())


def test_rows_are_cut_in_order_into_batches_of_max_requests(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working():
            it.grant_all()
        assert it.counts == [20, 20, 20, 20, 15]
        assert [row for rows in it.rows for row in rows] == list(range(95))
        assert [batch.number for batch in it.batches] == [3, 4, 5, 6, 7]
        assert it.bench.in_flight.taken == 95
        assert repr(it.planner) == "<Planner at batch 8, at most 20 requests and 256,000,000 bytes>"

    cut(tmp_path, listed(95), scene, config_of(batch={"max_requests": 20}), first=3)


def test_a_batch_has_its_body_in_a_file_and_a_label_of_the_run(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working():
            it.grant_all()
        (batch,) = it.batches
        assert batch.body is not None
        body = json.loads(batch.body.read_bytes())
        assert body["label"] == batch.label == "my-job-0123456789-0"
        assert names_in(batch.body.read_bytes()) == list(batch.names.rows) == ["row-0", "row-1", "row-2"]
        assert batch.due == it.bench.clock.now() - 1.0

    cut(tmp_path, listed(3), scene, config_of(batch={"label": "My-Job"}))


def test_batches_are_as_full_as_max_bytes_allows(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working():
            it.grant_all()
        sizes = [batch.size_bytes for batch in it.batches]
        assert sum(it.counts) == 95
        assert len(sizes) > 2
        assert max(sizes) <= 1000
        assert min(sizes[:-1]) > 1000 - 60

    cut(tmp_path, listed(95), scene, config_of(batch={"max_requests": 1000, "max_bytes": 1000}))


def test_a_row_for_which_no_batch_is_large_enough_is_rejected_and_the_others_are_cut(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working():
            it.grant_all()
        assert [row for rows in it.rows for row in rows] == [i for i in range(30) if i not in (0, 7, 29)]
        results = it.bench.results()
        assert set(results) == {0, 7, 29}
        assert {result.status for result in results.values()} == {"rejected"}
        assert it.bench.in_flight.taken == 27
        assert it.bench.in_flight.finished == 3

    config = config_of(batch={"max_requests": 10, "max_bytes": 2000})
    cut(tmp_path, listed(30, large=dict.fromkeys((0, 7, 29), 3000)), scene, config)


def test_rows_that_are_all_too_large_make_no_batch_and_leave_no_file(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working():
            it.grant_all()
        assert it.batches == []
        assert len(it.bench.results()) == 5
        assert it.bench.body_files() == []

    cut(tmp_path, listed(5), scene, config_of(batch={"max_bytes": 50}))


def test_no_batch_is_cut_before_there_is_a_slot_for_it(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        it.slots = 2
        async with it.working():
            it.grant_all()
            await it.settle()
            assert it.counts == [10, 10]
            assert it.bench.in_flight.taken == 20
            it.slots = 3
            it.planner.wake()
        assert it.counts == [10, 10, 10]

    cut(tmp_path, listed(50), scene)


def test_a_batch_waits_for_the_rows_that_are_still_being_read(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working():
            it.grant_all()
        assert it.counts == [900, 100]

    source = Listed(listed(1000).bodies, block_rows=7)
    cut(tmp_path, source, scene, config_of(batch={"max_requests": 900}))


def test_rows_that_are_requeued_are_cut_into_a_batch_of_a_new_number(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working():
            it.grant_all()
            await it.settle()
            it.planner.requeue([4, 5, 11])
        assert it.rows[2:] == [[4, 5, 11]]
        assert it.batches[-1].number == 2

    cut(tmp_path, listed(20), scene)


def test_refusals_for_single_requests_halve_the_next_batches_and_acceptances_double_them(
    tmp_path: Path,
) -> None:
    async def scene(it: Cutting) -> None:
        it.planner.shrink(64)
        it.planner.shrink(30)
        it.slots = 1
        async with it.working():
            it.grant_all()
            for slots in range(2, 6):
                await it.settle()
                it.planner.grow()
                it.slots = slots
                it.planner.wake()
        assert it.counts == [15, 30, 60, 100, 100]

    cut(tmp_path, listed(400), scene, config_of(batch={"max_requests": 100}))


def test_batches_never_become_smaller_than_one_request(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        for _ in range(9):
            it.planner.shrink(1)
        async with it.working():
            it.grant_all()
        assert it.counts == [1, 1, 1]

    cut(tmp_path, listed(3), scene)


def test_after_a_refusal_for_size_batches_are_half_as_large_and_a_larger_row_goes_alone(
    tmp_path: Path,
) -> None:
    async def scene(it: Cutting) -> None:
        it.planner.lower(900)
        async with it.working():
            it.grant_all()
        assert [5] in it.rows
        assert [row for rows in it.rows for row in rows] == list(range(12))
        assert all(batch.size_bytes <= 450 for batch in it.batches if batch.count > 1)
        assert not it.bench.results()

    cut(tmp_path, listed(12, large={5: 700}), scene, config_of(batch={"max_requests": 100}))


def test_the_budget_counts_the_batch_that_is_being_cut_and_continues_when_it_allows_more(
    tmp_path: Path,
) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working():
            it.grant_all()
            await it.settle()
            assert it.counts == [15, 5], "until a first result shows the cost, 20 rows are taken"
            timing = Timing(due=0.0, sent=0.0, accepted=0.0, pending=None, done=1.0)
            for _ in range(30):
                it.bench.meter.finished("completed", timing, Usage())
            it.planner.wake()
        assert it.counts == [15, 5, 10]

    config = config_of(
        batch={"max_requests": 15}, limits={"max_cost_usd": 5}, prices={"input": 1.0, "output": 1.0}
    )
    cut(tmp_path, listed(100), scene, config)


def test_a_planner_that_is_closed_while_it_waits_for_rows_leaves_no_file(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working_without_reading():
            it.grant_all()
            await it.settle()
            assert it.bench.body_files() == [".batch-0"]
        assert it.batches == []
        assert it.bench.body_files() == []

    cut(tmp_path, listed(20), scene)


@pytest.mark.parametrize("rows", [[0, 1, 2], [3, 7, 8, 19]])
def test_a_body_is_made_again_byte_by_byte(tmp_path: Path, rows: Sequence[int]) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working():
            it.bench.feed.grant(Only(rows))
        (batch,) = it.batches
        assert batch.body is not None
        before = batch.body.read_bytes()
        it.planner.drop_body(batch)
        assert batch.body is None
        assert it.bench.body_files() == []
        it.planner.drop_body(batch)
        path = await it.planner.make_again(batch)
        assert path.read_bytes() == before
        assert batch.body == path

    ids = [f"Row {i}" for i in range(20)]
    cut(tmp_path, Listed(listed(20).bodies, ids), scene)


def test_a_body_that_becomes_another_one_stops_the_run_and_is_not_kept(tmp_path: Path) -> None:
    async def scene(it: Cutting) -> None:
        async with it.working():
            it.grant_all()
        batch = it.batches[1]
        it.planner.drop_body(batch)
        it.source.bodies[15] = b'{"input":"another"}'
        with pytest.raises(StoppedEarly) as stopped:
            await it.planner.make_again(batch)
        assert "batch t-0123456789-1, rows 10 to 19: makes other bytes now" in str(stopped.value)
        assert batch.body is None
        assert it.bench.body_files() == [".batch-0"]

    cut(tmp_path, listed(20), scene)
