"""Batches after a restart: whole or not at all, with their keys, their order and their deliveries."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConfigError
from runner.simulator.service import time_slice
from tests.simulator.live import base_url_of, client_of, full_disk, server_process
from tests.simulator.support import Virtual, batch_of, content, listed, remembering, settings

EXPONENTIAL = {"type": "exponential", "mean_s": 100.0}
SLOW = settings(latency=EXPONENTIAL)


def facts(virtual: Virtual) -> list[tuple[object, ...]]:
    """Return what is known of each job."""
    return [(job.terms, job.status, job.started, job.finish, job.delivered) for job in virtual.service.jobs()]


@pytest.mark.parametrize("capacity", [None, 2])
def test_batches_and_their_events_survive_a_restart(tmp_path: Path, capacity: int | None) -> None:
    state, configured = tmp_path / "state.jsonl", settings(latency=EXPONENTIAL, capacity=capacity)
    with remembering(state, configured) as virtual:
        virtual.create("single")
        first = content(virtual.batch(batch_of("a", "b", "c", label="night"), key="k"))
        virtual.clock.now += 1
        second = content(virtual.batch(batch_of("a", "d")))
        virtual.clock.now += 1000
        virtual.result(first["id"], "b")
        before, now = facts(virtual), virtual.clock.now
    with remembering(state, configured) as virtual:
        virtual.clock.now = now
        assert facts(virtual) == before
        assert listed(virtual.call("GET", "/v1/batches")) == [second, first]
        assert content(virtual.batch(batch_of("a", "b", "c", label="night"), key="k")) == first
        assert virtual.batch(batch_of("x"), key="k").status_code == 400
        assert virtual.result(first["id"], "b")["status"] == "completed"
        report = virtual.service.report()
        assert (report.batches, report.accepted, report.restored, report.delivered) == (2, 6, 6, 1)
        third = virtual.create_batch("a")
        assert virtual.result(third, "a")["id"] not in {str(terms) for terms, *_ in before}


def test_a_batch_that_was_written_in_part_does_not_exist_and_can_be_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_slice, "SLICE_S", 0.0)
    state, body = tmp_path / "state.jsonl", batch_of(*(f"row-{i}" for i in range(10)))
    with remembering(state, SLOW) as virtual:
        made = content(virtual.batch(body, key="k"))
        before = facts(virtual)
    lines = state.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["event"] for line in lines] == ["accepted"] * 10 + ["batch"]
    for torn in (lines[:1], lines[:10], [*lines[:10], lines[10][:-1]], [*lines[:4], lines[4][:-5]]):
        state.write_bytes(b"".join(torn))
        with remembering(state, SLOW) as virtual:
            assert (list(virtual.service.jobs()), virtual.service.report().accepted) == ([], 0)
            assert content(virtual.batch(body, key="k")) == made
            assert facts(virtual) == before
        with remembering(state, SLOW) as virtual:
            assert facts(virtual) == before
            assert virtual.service.report().batches == 1


def test_a_state_file_without_all_requests_of_a_batch_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    with remembering(state, SLOW) as virtual:
        virtual.create_batch("a", "b")
    state.write_bytes(b"".join(state.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(ConfigError, match="lacks requests of batch batch_"), remembering(state, SLOW):
        pass


def test_a_killed_simulator_has_a_batch_completely_or_not_at_all(tmp_path: Path) -> None:
    state, body = tmp_path / "state.jsonl", batch_of(*(f"row-{i}" for i in range(300)))
    slow = settings(latency=EXPONENTIAL, batches={"create_s": 60.0})

    async def kill_within(base_url: str) -> None:
        async with client_of(base_url) as client:
            posting = asyncio.create_task(client.call("POST", "/batches", body, key="k"))
            await client.until("batch_posts_now", 1)
            process.kill()
            assert isinstance((await asyncio.gather(posting, return_exceptions=True))[0], Exception)

    async def post(base_url: str) -> dict[str, Any]:
        async with client_of(base_url) as client:
            status, batch = await client.call("POST", "/batches", body, key="k")
            assert status == 200
            assert (await client.stats())["accepted"] == 300
            return batch

    with server_process(slow, state) as process:
        asyncio.run(kill_within(base_url_of(process)))
    made = []
    for _ in range(2):
        with server_process(SLOW, state) as process:
            made.append(asyncio.run(post(base_url_of(process))))
            process.kill()
    assert made[0] == made[1]


def test_a_full_disk_is_a_500_that_creates_no_batch_and_does_not_use_up_the_key(tmp_path: Path) -> None:
    state, body = tmp_path / "state.jsonl", batch_of(*(f"row-{i}" for i in range(50)))

    async def scenario(base_url: str) -> None:
        async with client_of(base_url) as client:
            assert (await client.call("POST", "/batches", batch_of("a")))[0] == 200
            with full_disk(process, state, spare=10_000):
                status, refused = await client.call("POST", "/batches", body, key="k")
                assert (status, refused["error"]["code"]) == (500, "storage")
                assert (await client.stats())["batches"] == 1
            assert (await client.call("POST", "/batches", body, key="k"))[0] == 200
            assert (await client.stats())["accepted"] == 51

    with server_process(SLOW, state) as process:
        asyncio.run(scenario(base_url_of(process)))
    with remembering(state, SLOW) as virtual:
        assert virtual.service.report().accepted == 51
