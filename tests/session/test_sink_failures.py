"""What cannot be written: it counts nowhere, it is reported, and it is kept until there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from runner.errors import StorageError
from runner.records import Job
from runner.session.sink import RESCUE_EVERY_S, WrittenResult
from tests import virtual_time
from tests.session.building import DONE, job_of
from tests.session.full_disk import Disk
from tests.session.sink_desk import Desk, at_desk, end_of_turn, intent_of


def test_an_intent_that_cannot_be_written_is_an_error_and_is_dropped(tmp_path: Path, disk: Disk) -> None:
    async def work(desk: Desk) -> None:
        disk.full = {"journal.jsonl"}
        with pytest.raises(StorageError, match="No space left"):
            desk.sink.intend([intent_of(1)])
        disk.full = set()
        assert desk.journal.log.rescue()
        assert desk.rows("journal") == []

    at_desk(tmp_path, work)


def test_an_acceptance_that_was_to_be_written_before_such_an_intent_is_not_followed(
    tmp_path: Path, disk: Disk
) -> None:
    async def work(desk: Desk) -> None:
        disk.full = {"journal.jsonl"}
        desk.accept(1)
        with pytest.raises(StorageError, match="No space left"):
            desk.sink.intend([intent_of(2)])
        await end_of_turn()
        assert desk.followed == []
        disk.full = set()
        await desk.sink.rescue(1.0, asyncio.Event(), lambda _: None)
        assert desk.rows("journal") == [1]

    at_desk(tmp_path, work)


def test_an_acceptance_that_cannot_be_written_is_not_followed_and_results_are_written_all_the_same(
    tmp_path: Path, disk: Disk
) -> None:
    async def work(desk: Desk) -> None:
        disk.full = {"journal.jsonl"}
        desk.accept(1)
        desk.sink.finish(job_of(2), 9.0, DONE)
        await end_of_turn()
        assert [type(error) for error in desk.broken] == [StorageError]
        assert desk.followed == []
        assert [it.result.row for it in desk.ended] == [2]
        assert desk.rows("results") == [2]

    at_desk(tmp_path, work)


def test_a_result_that_cannot_be_written_does_not_count_and_is_kept_for_room(
    tmp_path: Path, disk: Disk
) -> None:
    disk.full = {"results.jsonl"}

    async def work(desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        desk.accept(1)
        desk.sink.finish(job_of(2), 9.0, DONE)
        desk.sink.finish(job_of(3), 9.0, DONE)
        await end_of_turn()
        assert [type(error) for error in desk.broken] == [StorageError]
        assert desk.ended == []
        assert desk.rows("journal") == [1]
        loop.call_later(10.1, disk.full.clear)
        said: list[str] = []
        await desk.sink.rescue(30.0, asyncio.Event(), said.append)
        assert loop.time() == pytest.approx(10.25)
        assert said == ["waiting at most 30 s for room to write what was received"]
        assert desk.rows("results") == [2, 3]
        assert [it.result.row for it in desk.ended] == [2, 3]
        await desk.sink.rescue(30.0, asyncio.Event(), said.append)
        assert (len(said), len(desk.ended)) == (1, 2), "once is enough"

    at_desk(tmp_path, work)


def test_the_wait_for_room_ends_after_its_time_and_the_loss_is_reported(tmp_path: Path, disk: Disk) -> None:
    disk.full = {"results.jsonl"}

    async def work(desk: Desk) -> None:
        for row in range(1200):
            desk.sink.finish(job_of(row), 9.0, DONE)
        said: list[str] = []
        await desk.sink.rescue(7.0, asyncio.Event(), said.append)
        assert asyncio.get_running_loop().time() == 7.0
        assert said[-1] == (
            "1,200 results that were received could not be written: a resumed run asks for them again"
        )

    at_desk(tmp_path, work)


def test_the_wait_for_room_ends_when_the_user_wants_the_end_now(tmp_path: Path, disk: Disk) -> None:
    disk.full = {"results.jsonl"}

    async def work(desk: Desk) -> None:
        loop, forced = asyncio.get_running_loop(), asyncio.Event()
        desk.sink.finish(job_of(1), 9.0, DONE)
        loop.call_later(3.0, forced.set)
        await desk.sink.rescue(1000.0, forced, lambda _: None)
        assert loop.time() == pytest.approx(3.0, abs=RESCUE_EVERY_S)

    at_desk(tmp_path, work)


def test_without_anything_kept_back_nothing_is_waited_for(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.sink.finish(job_of(1), 9.0, DONE)
        said: list[str] = []
        await desk.sink.rescue(30.0, asyncio.Event(), said.append)  # writes the last turn, too
        assert (said, desk.rows("results"), len(desk.ended)) == ([], [1], 1)

    at_desk(tmp_path, work)


def test_a_defect_in_what_follows_is_reported_and_keeps_nothing_from_being_written(tmp_path: Path) -> None:
    class Defective(Desk):
        def written(self, accepted: Sequence[Job], ended: Sequence[WrittenResult]) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        desk = Defective(tmp_path)
        desk.accept(1)
        desk.sink.finish(job_of(2), 9.0, DONE)
        await end_of_turn()
        assert [type(error) for error in desk.broken] == [ZeroDivisionError]
        assert (desk.rows("journal"), desk.rows("results")) == ([1], [2])
        desk.sink.close()

    virtual_time.run(main())


def test_closing_syncs_first_and_closes_even_where_that_fails(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path)
        desk.accept(1)
        desk.sink.flush()
        (tmp_path / "journal.jsonl").rename(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match="was removed, moved or replaced"):
            desk.sink.close()
        for log in (desk.journal.log, desk.results.log):
            with pytest.raises(OSError, match="Bad file descriptor"):
                log.close()

    virtual_time.run(main())
