"""Each fault of the three tables of batches: what the client is told, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from runner.config.simulation import Simulator
from runner.simulator.api.reply import HttpReply
from tests.simulator.support import Virtual, batch_of, content, settings, simulator

CODES = ("400", "404", "429", "500", "502", "503", "504", "529")
INSTEAD = (*CODES, "html", "reset", "hang")
SPOILS = ("empty", "cut", "not_utf8", "not_json", "not_object", "no_id", "odd_status", "lost", "slow")


def faulty(table: str, kind: str) -> Simulator:
    return settings(faults={table: {kind: 1.0}}, fault_s=5.0)


def check_told(kind: str, reply: HttpReply) -> Any:
    """What is told of a fault is what its name says; returns the content where there is any."""
    manner = {"cut": "cut", "reset": "reset", "lost": "close", "hang": "hang"}.get(kind, "whole")
    assert reply.manner == manner
    assert reply.delay_s == (5.0 if kind == "slow" else 0.0)
    if kind in CODES or kind == "html":
        assert reply.status_code == (502 if kind == "html" else int(kind))
    elif kind == "empty":
        assert reply.body == b""
    elif kind == "not_utf8":
        with pytest.raises(UnicodeDecodeError):
            reply.body.decode()
    elif kind == "not_json":
        with pytest.raises(json.JSONDecodeError):
            json.loads(reply.body)
    elif kind in SPOILS:
        assert reply.status_code == 200
        return json.loads(reply.body)
    return None


@pytest.mark.parametrize("kind", [*INSTEAD, *SPOILS])
def test_a_fault_on_a_post_creates_the_batch_or_not(kind: str) -> None:
    virtual = Virtual(faulty("batch", kind))
    told = check_told(kind, virtual.batch(batch_of("a", "b", label="l")))
    report = virtual.service.report()
    made = int(kind in SPOILS)
    assert (report.batches, report.accepted, report.executed) == (made, 2 * made, 2 * made)
    assert report.faults == {"post": {}, "get": {}, "batch": {kind: 1}}
    assert report.batch_posts_now == 0
    if kind == "no_id":
        assert "id" not in told
        assert told["label"] == "l"
    elif kind == "odd_status":
        assert (told["status"], told["request_counts"]) == ("warming_up", 2)
    elif kind == "not_object":
        assert isinstance(told, list)


@pytest.mark.parametrize("kind", [*INSTEAD, *SPOILS])
def test_a_fault_on_a_look(kind: str) -> None:
    virtual = Virtual(faulty("status", kind))
    told = check_told(kind, virtual.call("GET", f"/v1/batches/{virtual.create_batch('a', 'b')}"))
    assert virtual.service.report().faults == {"post": {}, "get": {}, "status": {kind: 1}}
    if kind == "no_id":
        assert "id" not in told
        assert len(told["request_status"]) == 2
    elif kind == "odd_status":
        assert told["request_status"] == {"a": {"status": "WARMING_UP"}, "b": {"status": "WARMING_UP"}}
    elif kind == "not_object":
        assert isinstance(told, list)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("kind", [*INSTEAD, *SPOILS])
def test_a_fault_on_the_list_changes_each_batch_of_it(kind: str, count: int) -> None:
    virtual = Virtual(faulty("status", kind))
    for i in range(count):
        virtual.create_batch(f"a{i}")
    told = check_told(kind, virtual.call("GET", "/v1/batches"))
    assert virtual.service.report().faults == {"post": {}, "get": {}, "status": {kind: 1}}
    if kind == "no_id":
        assert [sorted(batch) for batch in told] == [["created_at", "request_counts"]] * count
    elif kind == "odd_status":
        assert [batch["status"] for batch in told] == ["warming_up"] * count
    elif kind == "not_object":
        assert len(told["data"]) == count


@pytest.mark.parametrize("kind", [*INSTEAD, *SPOILS])
def test_a_fault_on_a_result_delivers_nothing_unless_it_is_only_slow(kind: str) -> None:
    virtual = Virtual(faulty("result", kind))
    told = check_told(kind, virtual.call("GET", f"/v1/batches/{virtual.create_batch('a')}/a"))
    report = virtual.service.report()
    assert report.delivered == int(kind == "slow")
    assert report.faults == {"post": {}, "get": {}, "result": {kind: 1}}
    if kind == "odd_status":
        assert told["status"] == "warming_up"


def test_faults_are_drawn_anew_for_each_exchange_and_are_the_same_each_time() -> None:
    def met() -> list[list[int]]:
        share = {"500": 0.3}
        virtual = Virtual(settings(faults={"batch": share, "status": share, "result": share}))
        posts, batch_id = [], ""
        for _ in range(100):
            reply = virtual.batch(batch_of("a"))
            posts.append(reply.status_code)
            if reply.status_code == 200:
                batch_id = content(reply)["id"]
        paths = (f"/v1/batches/{batch_id}", "/v1/batches", f"/v1/batches/{batch_id}/a")
        return [posts, *([virtual.call("GET", path).status_code for _ in range(100)] for path in paths)]

    first = met()
    assert first == met()
    assert all(15 <= codes.count(500) <= 45 for codes in first)


def test_a_lost_acknowledgement_can_be_had_by_the_key_and_by_the_label() -> None:
    async def scenario() -> None:
        async with simulator(faulty("batch", "lost")) as client:
            for _ in range(2):
                with pytest.raises(aiohttp.ClientError):
                    await client.call("POST", "/batches", batch_of("a", label="night"), key="k")
            stats = await client.stats()
            assert (stats["batches"], stats["batch_replays"], stats["executed"]) == (1, 1, 1)
            status, found = await client.call("GET", "/batches")
            assert (status, [batch["label"] for batch in found]) == (200, ["night"])

    asyncio.run(scenario())
