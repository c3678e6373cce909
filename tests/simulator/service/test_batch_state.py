"""Batches over a restart: whole or not at all, with their keys, their order and what was delivered."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner.config.simulation import Simulator
from runner.errors import ConfigError
from runner.simulator.service import time_slice
from runner.simulator.service.ledger import Ledger
from tests.simulator.support import (
    Virtual,
    base_url_of,
    batch_of,
    client_of,
    content,
    listed,
    server_process,
    settings,
)

SLOW: dict[str, Any] = {"latency": {"type": "exponential", "mean_s": 100.0}}


@contextmanager
def remembering(state: Path, configured: Simulator | None = None) -> Iterator[Virtual]:
    ledger = Ledger(state)
    try:
        yield Virtual(configured or settings(**SLOW), ledger)
    finally:
        ledger.close()


def facts(virtual: Virtual) -> list[tuple[object, ...]]:
    return [(job.terms, job.status, job.started, job.finish, job.delivered) for job in virtual.service.jobs()]


@pytest.mark.parametrize("capacity", [None, 2])
def test_a_batch_is_remembered_with_all_that_happened_to_it(tmp_path: Path, capacity: int | None) -> None:
    state, configured = tmp_path / "state.jsonl", settings(**SLOW, capacity=capacity)
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


def test_a_torn_batch_is_none_and_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slice, "SLICE_S", 0.0)
    state, body = tmp_path / "state.jsonl", batch_of(*(f"row-{i}" for i in range(10)))
    with remembering(state) as virtual:
        made = content(virtual.batch(body, key="k"))
        before = facts(virtual)
    lines = state.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["event"] for line in lines] == ["accepted"] * 10 + ["batch"]
    for torn in (lines[:1], lines[:10], [*lines[:10], lines[10][:-1]], [*lines[:4], lines[4][:-5]]):
        state.write_bytes(b"".join(torn))
        with remembering(state) as virtual:
            assert (list(virtual.service.jobs()), virtual.service.report().accepted) == ([], 0)
            assert content(virtual.batch(body, key="k")) == made
            assert facts(virtual) == before
        with remembering(state) as virtual:
            assert facts(virtual) == before
            assert virtual.service.report().batches == 1


def test_a_state_file_that_lacks_requests_of_a_batch_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    with remembering(state) as virtual:
        virtual.create_batch("a", "b")
    state.write_bytes(b"".join(state.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(ConfigError, match="lacks requests of the batch batch_"), remembering(state):
        pass


def test_a_killed_simulator_has_the_batch_whole_or_not_at_all(tmp_path: Path) -> None:
    state, body = tmp_path / "state.jsonl", batch_of(*(f"row-{i}" for i in range(300)))
    slow = settings(**SLOW, batches={"create_s": 60.0})

    async def kill_within(base_url: str) -> None:
        async with client_of(base_url) as client:
            posting = asyncio.create_task(client.call("POST", "/batches", body, key="k"))
            while (await client.stats())["batch_posts_now"] != 1:  # noqa: ASYNC110  # the server knows
                await asyncio.sleep(0.005)
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
        with server_process(settings(**SLOW), state) as process:
            made.append(asyncio.run(post(base_url_of(process))))
            process.kill()
    assert made[0] == made[1]


def test_a_full_disk_is_a_500_and_leaves_no_batch_and_the_key_free(tmp_path: Path) -> None:
    state, body = tmp_path / "state.jsonl", batch_of(*(f"row-{i}" for i in range(50)))
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    async def scenario(base_url: str, pid: int) -> None:
        async with client_of(base_url) as client:
            assert (await client.call("POST", "/batches", batch_of("a")))[0] == 200
            size = state.stat().st_size
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 10_000, resource.RLIM_INFINITY))
            status, refused = await client.call("POST", "/batches", body, key="k")
            assert (status, refused["error"]["code"]) == (500, "storage")
            assert (await client.stats())["batches"] == 1
            resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
            assert (await client.call("POST", "/batches", body, key="k"))[0] == 200
            assert (await client.stats())["accepted"] == 51

    with server_process(settings(**SLOW), state) as process:
        asyncio.run(scenario(base_url_of(process), process.pid))
    with remembering(state) as virtual:
        assert virtual.service.report().accepted == 51
