"""Batches over real sockets: how large they may be, who goes away when, and who else is served meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from runner.simulator.http.wire import BODY_LIMIT, RequestParser
from runner.simulator.service import time_slice
from tests.simulator.support import KEY, Client, batch_of, raw_connection, request, settings, simulator


def body_of_size(size: int) -> bytes:
    """A batch of one request, padded within its prompt."""
    empty = len(json.dumps(batch_of("a", input="")))
    return json.dumps(batch_of("a", input="p" * (size - empty))).encode()


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize("path", ["/v1/batches", "/batches", "/batches?x=1"])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_body_may_have_max_bytes_and_not_one_more(path: str, in_chunks: bool) -> None:
    async def post(client: Client, body: bytes) -> int:
        data = chunks(body) if in_chunks else body
        headers = {"Authorization": f"Bearer {KEY}"}
        async with client.session.post(client.root + path, data=data, headers=headers) as answer:
            told = await answer.json()
            assert answer.status != 413 or told["error"]["message"].endswith("larger than 5000 bytes.")
            return answer.status

    async def scenario() -> None:
        async with simulator(settings(batches={"max_bytes": 5000})) as client:
            assert await post(client, body_of_size(5000)) == 200
            assert await post(client, body_of_size(5001)) == 413
            assert (await client.post(b" " * 6000 + json.dumps({"model": "m", "input": "a"}).encode()))[
                0
            ] == 200
            stats = await client.stats()
            assert (stats["batches"], stats["batch_posts"]) == (1, 1)

    asyncio.run(scenario())


def test_too_large_a_body_is_refused_before_it_comes_and_the_answer_outlives_what_still_comes() -> None:
    async def scenario() -> None:
        async with simulator() as client, raw_connection(client.base_url) as (reader, writer):
            writer.write(request("POST", "/batches", b"", "Content-Length: 256000001"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413 ")
            assert b"\r\nConnection: close\r\n" in head
            writer.write(b"p" * 4_000_000)
            await writer.drain()
            assert json.loads(await reader.read())["error"]["code"] == "bad_request"

    asyncio.run(scenario())


def test_where_no_batches_are_offered_their_path_has_the_limit_of_others() -> None:
    async def scenario() -> None:
        async with simulator(settings(batches={"offered": False, "max_bytes": 10})) as client:
            assert (await client.call("POST", "/batches", batch_of("a")))[0] == 404

    asyncio.run(scenario())


def test_a_large_body_is_handed_on_as_it_came_and_what_follows_it_is_not_lost() -> None:
    body = b"p" * 3_000_000
    head = b"POST /batches HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
    for rest in (b"", head):
        parser = RequestParser({"/batches": len(body)})
        parser.feed(head)
        assert parser.next() is None
        parser.feed(body + rest)
        found = parser.next()
        assert found is not None
        assert found.body == body
        assert isinstance(found.body, bytes if rest else bytearray)
        assert parser.next() is None
        parser.feed(body if rest else head + body)
        second = parser.next()
        assert second is not None
        assert second.body == body
    assert BODY_LIMIT == 64 * 1024 * 1024


def test_other_exchanges_are_served_while_a_large_batch_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        time_slice, "SLICE_S", 0.0005
    )  # a client on the same loop needs many turns an exchange

    async def scenario() -> None:
        async with simulator() as client:
            _, single = await client.post()
            body = json.dumps(batch_of(*(f"row-{i}" for i in range(10_000)))).encode()
            posting = asyncio.create_task(client.call("POST", "/batches", body))
            served = 0
            while not posting.done():
                assert (await client.get(single["id"]))[0] == 200
                served += (await client.stats())["batch_posts_now"]
            assert (await posting)[0] == 200
            assert served >= 10
            assert (await client.stats())["accepted"] == 10_001

    asyncio.run(scenario())


async def until_batches(client: Client, count: int) -> None:
    while (await client.stats())["batches"] != count:  # noqa: ASYNC110  # it is the server that knows
        await asyncio.sleep(0.005)


def test_a_client_that_goes_away_after_its_body_has_its_batch_all_the_same() -> None:
    async def scenario() -> None:
        async with simulator(settings(batches={"create_s": 0.05})) as client:
            body = json.dumps(batch_of(*(f"row-{i}" for i in range(500)))).encode()
            async with raw_connection(client.base_url) as (_, writer):
                writer.write(request("POST", "/v1/batches", body))
                while (await client.stats())["batch_posts_now"] != 1:  # noqa: ASYNC110  # as above
                    await asyncio.sleep(0.001)
            await until_batches(client, 1)
            stats = await client.stats()
            assert (stats["batch_posts_now"], stats["accepted"]) == (0, 500)
            _, found = await client.call("GET", "/batches")
            assert (await client.call("GET", f"/batches/{found[0]['id']}/row-499"))[0] == 200

    asyncio.run(scenario())


def test_a_client_that_goes_away_within_its_body_has_none() -> None:
    async def scenario() -> None:
        async with simulator() as client:
            body = json.dumps(batch_of("a")).encode()
            async with raw_connection(client.base_url) as (_, writer):
                writer.write(request("POST", "/v1/batches", body)[:-1])
                await writer.drain()
                while (await client.stats())["connections"] < 2:  # noqa: ASYNC110  # as above
                    await asyncio.sleep(0.001)
            await client.call("POST", "/batches", batch_of("b"))
            stats = await client.stats()
            assert (stats["batches"], stats["batch_posts"], stats["accepted"]) == (1, 1, 1)

    asyncio.run(scenario())


def test_requests_that_follow_in_the_connection_wait_for_the_batch() -> None:
    async def scenario() -> None:
        async with (
            simulator(settings(batches={"create_s": 0.05})) as client,
            raw_connection(client.base_url) as (reader, writer),
        ):
            body = json.dumps(batch_of("a")).encode()
            writer.write(request("POST", "/v1/batches", body) + request("GET", "/simulator/stats"))
            told = []
            for _ in range(2):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].split()[0])
                told.append(json.loads(await reader.readexactly(length)))
            assert told[0]["request_counts"] == 1
            assert told[1]["batches"] == 1

    asyncio.run(scenario())


def test_a_simulator_that_stops_meanwhile_creates_nothing() -> None:
    async def scenario() -> None:
        async with simulator(settings(batches={"create_s": 60.0})) as client:
            async with raw_connection(client.base_url) as (_, writer):
                writer.write(request("POST", "/v1/batches", json.dumps(batch_of("a")).encode()))
                while (await client.stats())["batch_posts_now"] != 1:  # noqa: ASYNC110  # as above
                    await asyncio.sleep(0.001)
            assert (await client.stats())["batches"] == 0

    asyncio.run(scenario())
