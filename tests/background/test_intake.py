"""Rows that are made ready ahead of their POSTs: in slots, in order, with no trace where none was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from runner.background.intake import ROWS_PER_WRITE, Intake
from runner.background.submission import Submission
from runner.errors import StoppedEarly, StorageError
from runner.policy.idempotency import idempotency_key
from runner.session.feed import Feed
from runner.store import AppendLog, Intent, Recovery, Retraction, Unacknowledged
from tests import virtual_time
from tests.listed import listed
from tests.session.building import Rig, job_of
from tests.session.full_disk import Disk
from tests.session.support import RUN_ID, UNIX

NO_KEYS: Mapping[str, object] = {"idempotency_header": None}


class Desk:
    """An intake with its rig and its feed, which is being filled."""

    def __init__(self, rig: Rig, feed: Feed, intake: Intake) -> None:
        self.rig, self.feed, self.intake = rig, feed, intake

    def take(self) -> Submission:
        submission = self.intake.take(self.rig.clock.now())
        assert submission
        return submission

    def take_all(self) -> list[int]:
        """Take requests until there are no more, and return their rows."""
        rows = []
        while (submission := self.intake.take(self.rig.clock.now())) is not None:
            rows.append(submission.request.row)
        return rows

    @property
    def announced(self) -> list[int]:
        return [entry.row for entry in self.rig.journal if isinstance(entry, Intent)]

    @property
    def retracted(self) -> list[tuple[int, str]]:
        return [(entry.row, entry.cause) for entry in self.rig.journal if isinstance(entry, Retraction)]


@asynccontextmanager
async def opened(
    directory: Path, rows: int, recovery: Recovery | None, /, **sections: Mapping[str, object]
) -> AsyncIterator[Desk]:
    rig = Rig(directory, None, rows, **sections)
    source = listed(rows)
    feed = rig.feed(source)
    filling = asyncio.create_task(feed.fill())
    await asyncio.sleep(0.001)
    yield Desk(rig, feed, rig.intake(source, feed, recovery))
    filling.cancel()
    with suppress(asyncio.CancelledError):
        await filling
    rig.sink.close()


def at_desk(
    directory: Path,
    rows: int,
    work: Callable[[Desk], Coroutine[Any, Any, None]],
    recovery: Recovery | None = None,
    *,
    confirmed: bool = True,
    **sections: Mapping[str, object],
) -> None:
    async def main() -> None:
        async with opened(directory, rows, recovery, **sections) as desk:
            if confirmed:
                desk.rig.health.confirm()
            await work(desk)

    virtual_time.run(main())


def left_by(unacknowledged: dict[int, Unacknowledged], rows: int = 50) -> Recovery:
    recovery = Recovery(rows)
    recovery.unacknowledged.update(unacknowledged)
    return recovery


def key_of(row: int, epoch: int = 0) -> str:
    return idempotency_key(RUN_ID, f"row-{row}", epoch, b'{"input":"%d"}' % row)


@pytest.mark.parametrize(("target", "ahead"), [({}, ROWS_PER_WRITE), (NO_KEYS, 1)], ids=["keys", "no keys"])
def test_intents_run_ahead_only_where_a_key_makes_that_harmless(
    tmp_path: Path, target: Mapping[str, object], ahead: int
) -> None:
    async def work(desk: Desk) -> None:
        for row in range(50):
            submission = desk.take()
            assert (submission.request.row, submission.announced, submission.in_doubt) == (row, True, False)
            announced = min((row // ahead + 1) * ahead, 50)
            assert desk.announced == list(range(announced))
            assert repr(desk.rig.in_flight).startswith(f"<InFlight {announced} taken, {announced} announced,")
        assert desk.intake.take(0.0) is None
        assert (ROWS_PER_WRITE, repr(desk.intake)) == (32, "<Intake 0 ready, 0 forgotten>")

    at_desk(tmp_path, 50, work, target=target)


def test_intents_of_a_block_are_written_with_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    write = AppendLog._write

    def counted(log: AppendLog, lines: bytes) -> None:
        writes.append(lines.count(b"\n"))
        write(log, lines)

    async def work(desk: Desk) -> None:
        monkeypatch.setattr(AppendLog, "_write", counted)
        desk.take_all()
        assert writes == [32, 18]

    at_desk(tmp_path, 50, work)


def test_a_service_that_is_not_confirmed_is_announced_one_row(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.take()
        assert desk.announced == [0]

    at_desk(tmp_path, 50, work, confirmed=False)


def test_no_more_rows_are_taken_than_there_are_slots(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.rig.in_flight.inherit(4)
        assert desk.take_all() == [0, 1, 2, 3, 4, 5]
        assert desk.rig.in_flight.slots_used == 10
        desk.rig.in_flight.finish(3)
        assert desk.take_all() == [6, 7, 8]

    at_desk(tmp_path, 50, work, submit={"max_in_flight": 10})


def test_no_more_rows_are_taken_than_the_budget_allows(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert desk.take_all() == list(range(20))  # until a result shows what one costs

    at_desk(tmp_path, 50, work, prices={"output": 1.0}, limits={"max_cost_usd": 1.0})


def test_a_request_is_due_when_it_is_handed_out(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert desk.take().due == desk.rig.clock.now()
        await asyncio.sleep(30.0)
        assert desk.take().due == desk.rig.clock.now() >= UNIX + 30.0

    at_desk(tmp_path, 50, work)


def test_rows_that_were_announced_and_not_sent_are_retracted_at_the_end(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        sent = [desk.take() for _ in range(5)]
        desk.intake.close()
        await asyncio.sleep(0)
        assert desk.retracted == [(row, "unsent") for row in range(5, 32)]
        assert repr(desk.rig.in_flight) == (
            "<InFlight 5 taken, 5 announced, 0 sending, 0 outstanding, 0 of 50 finished>"
        )
        assert len(sent) == 5

    at_desk(tmp_path, 50, work)


def test_rows_that_wait_here_are_given_back_in_rising_order(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.take()
        assert desk.intake.give_back() == list(range(1, 50))
        await asyncio.sleep(0)
        assert desk.retracted == [(row, "unsent") for row in range(1, 32)]
        assert repr(desk.rig.in_flight).startswith("<InFlight 1 taken, 1 announced, 0 sending,")
        assert desk.intake.take(0.0) is None

    at_desk(tmp_path, 50, work)


def test_a_row_that_was_perhaps_sent_before_is_not_given_back(tmp_path: Path) -> None:
    recovery = left_by({row: Unacknowledged(key_of(row), 1.0, 2.0) for row in (3, 40)})

    async def work(desk: Desk) -> None:
        desk.take()
        assert desk.intake.give_back() == [row for row in range(1, 50) if row not in (3, 40)]
        await asyncio.sleep(0.001)
        assert (desk.take().request.row, desk.take().request.row) == (3, 40)
        assert desk.intake.take(0.0) is None

    at_desk(tmp_path, 50, work, recovery)


def test_a_request_without_an_acknowledgement_goes_out_again_under_its_key_without_a_new_intent(
    tmp_path: Path,
) -> None:
    recovery = left_by({1: Unacknowledged(key_of(1), 100.0, 200.0)})

    async def work(desk: Desk) -> None:
        desk.rig.in_flight.announce()
        first, second = desk.take(), desk.take()
        assert (first.in_doubt, second.in_doubt) == (False, True)
        assert (second.key, second.due, second.sent) == (key_of(1), 100.0, 200.0)
        assert desk.announced == [0, *range(2, 32)]
        desk.intake.close()
        await asyncio.sleep(0)
        assert [row for row, _ in desk.retracted] == list(range(2, 32)), "the service may know of row 1"
        assert repr(desk.rig.in_flight).startswith("<InFlight 2 taken, 2 announced,")

    at_desk(tmp_path, 50, work, recovery)


def test_a_request_in_doubt_that_is_ready_at_the_end_stays_announced(tmp_path: Path) -> None:
    recovery = left_by({1: Unacknowledged(key_of(1), 100.0, 200.0)})

    async def work(desk: Desk) -> None:
        desk.rig.in_flight.announce()
        desk.take()
        desk.intake.close()
        await asyncio.sleep(0)
        assert [row for row, _ in desk.retracted] == list(range(2, 32))
        assert repr(desk.rig.in_flight).startswith("<InFlight 1 taken, 2 announced,")

    at_desk(tmp_path, 50, work, recovery)


def test_other_bytes_than_those_that_were_perhaps_sent_stop_the_run(tmp_path: Path) -> None:
    recovery = left_by({0: Unacknowledged("another key", 100.0, 200.0)})

    async def work(desk: Desk) -> None:
        with pytest.raises(StoppedEarly, match="rows:1: makes other bytes now than when it was first sent"):
            desk.take()

    at_desk(tmp_path, 50, work, recovery)


def test_a_row_that_is_retried_has_a_key_of_its_epoch(tmp_path: Path) -> None:
    recovery = Recovery(50)
    recovery.epochs[1] = 2

    async def work(desk: Desk) -> None:
        first, second = desk.take(), desk.take()
        assert (first.key, first.epoch) == (key_of(0), 0)
        assert (second.key, second.epoch) == (key_of(1, 2), 2)
        assert [entry.epoch for entry in desk.rig.journal if isinstance(entry, Intent)][:3] == [0, 2, 0]

    at_desk(tmp_path, 50, work, recovery)


def test_a_forgotten_job_goes_out_again_under_its_key_with_its_times_and_a_new_intent(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.take_all()
        job = job_of(7)
        job.due, job.sent = 100.0, 200.0
        desk.intake.requeue(job)
        assert repr(desk.intake) == "<Intake 0 ready, 1 forgotten>"
        await asyncio.sleep(0.001)
        submission = desk.take()
        assert (submission.request.row, submission.key, submission.in_doubt) == (7, key_of(7), True)
        assert (submission.due, submission.sent) == (100.0, 200.0)
        assert desk.announced[-1] == 7
        last = desk.rig.journal[-1]
        assert isinstance(last, Intent)
        assert last.at == 200.0, "the age of the key counts from its first POST"

    at_desk(tmp_path, 50, work)


def test_intents_that_cannot_be_written_are_an_error_and_nothing_is_handed_out(
    tmp_path: Path, disk: Disk
) -> None:
    async def work(desk: Desk) -> None:
        disk.full = {"journal.jsonl"}
        with pytest.raises(StorageError, match="No space left"):
            desk.take()
        disk.full = set()
        assert desk.rig.in_flight.announced == 0

    at_desk(tmp_path, 50, work)


def test_it_knows_whether_more_rows_may_come(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert desk.intake.all_granted
        desk.feed.all_granted = False
        assert not desk.intake.all_granted

    at_desk(tmp_path, 5, work)
