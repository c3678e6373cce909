"""A run directory that fails under a session: it stops at once, keeps what it has, and can be continued."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from runner.errors import StorageError
from runner.transport.fake import Behaviour, Fake, FakeJob
from tests import virtual_time
from tests.session.full_disk import Disk
from tests.session.support import Stage, resumed, run_session, session_of


@pytest.mark.parametrize("name", ["journal.jsonl", "results.jsonl"])
def test_a_full_disk_stops_sending_and_polling_and_the_next_session_loses_nothing(
    tmp_path: Path, disk: Disk, name: str
) -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(50.05)
        disk.full = {name}

    def takes_s(job: FakeJob) -> float:
        return 5.0 + job.number % 10

    fake = Fake(Behaviour(takes_s=takes_s), latency_s=0.1)
    ended = run_session(tmp_path, fake, 300, act, submit={"max_in_flight": 30})
    assert isinstance(ended.outcome.ended_by, StorageError)
    assert "No space left on device" in str(ended.outcome.ended_by)
    assert max(exchange.started_mono for exchange in fake.exchanges) < 52.0
    delivered = fake.service.in_flight
    if name == "results.jsonl":
        assert ended.has_said("results that were received could not be written")
    else:
        assert len(ended.results) == len(fake.jobs_made) - delivered.now, "every result that was received"
    disk.full = set()
    again = resumed(tmp_path, fake, 300)
    assert (again.statuses, len(fake.jobs_made)) == ({"completed": 300}, 300)


def test_results_that_a_full_disk_kept_back_are_written_when_there_is_room(
    tmp_path: Path, disk: Disk
) -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(50.05)
        disk.full = {"journal.jsonl", "results.jsonl"}
        asyncio.get_running_loop().call_later(20.0, disk.full.clear)

    fake = Fake(Behaviour(takes_s=lambda job: 5.0 + job.number % 10), latency_s=0.1)
    ended = run_session(tmp_path, fake, 300, act, submit={"max_in_flight": 30})
    assert isinstance(ended.outcome.ended_by, StorageError)
    assert ended.said == ["waiting at most 30 s for room to write what was received"]
    assert 70.0 < ended.at_s < 72.0
    assert len(ended.results) == len(fake.jobs_made) - fake.service.in_flight.now
    assert ended.requests.completed == ended.in_flight.finished == len(ended.results)


def test_a_signal_ends_the_wait_for_room(tmp_path: Path, disk: Disk) -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(10.0)
        disk.full = {"results.jsonl"}
        asyncio.get_running_loop().call_later(30.0, stage.session.shutdown.signal, signal.SIGINT)

    fake = Fake(Behaviour(takes_s=11.0))
    ended = run_session(tmp_path, fake, 5, act, limits={"drain_s": 1000.0})
    assert isinstance(ended.outcome.ended_by, StorageError)
    assert ended.at_s == pytest.approx(40.0, abs=1.0)


def test_a_disk_that_is_full_at_the_start_ends_the_session_before_anything_is_sent(
    tmp_path: Path, disk: Disk
) -> None:
    disk.full = {"journal.jsonl"}
    fake = Fake()
    ended = run_session(tmp_path, fake, 5)
    assert isinstance(ended.outcome.ended_by, StorageError)
    assert (fake.exchanges, ended.in_flight.slots_used) == ([], 0)
    assert fake.is_closed


def test_a_file_that_is_moved_away_stops_the_session_at_the_next_sync(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(10.5)
        (tmp_path / "results.jsonl").rename(tmp_path / "elsewhere")

    async def main() -> None:
        with pytest.raises(StorageError, match="was removed, moved or replaced"):
            await session_of(tmp_path, Fake(Behaviour(takes_s=100.0)), 5, act, sink={"fsync_s": 1.0})
        assert asyncio.get_running_loop().time() == pytest.approx(11.0)

    virtual_time.run(main())
