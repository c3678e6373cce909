"""Batches over real sockets: size limits, clients that go away, and service to others in the meantime."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from runner.simulator.http.wire import BODY_LIMIT, RequestParser
from runner.simulator.service import time_slice
from tests.simulator.live import Client, raw_connection, read_reply, request, simulator
from tests.simulator.support import KEY, batch_of, body_of, settings


def body_of_size(size: int) -> bytes:
    """Return a batch of one request, padded to this size in its prompt."""
    empty = len(json.dumps(batch_of("a", input="")))
    return json.dumps(batch_of("a", input="p" * (size - empty))).encode()


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body in pieces."""
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize("path", ["/v1/batches", "/batches", "/batches?x=1"])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_body_may_have_max_bytes_and_not_one_more(path: str, in_chunks: bool) -> None:
    async def post(client: Client, body: bytes) -> int:
        data = chunks(body) if in_chunks else body
        headers = {"Authorization": f"Bearer {KEY}"}
        async with client.session.post(client.root + path, data=data, headers=headers) as reply:
            content = await reply.json()
            assert reply.status != 413 or content["error"]["message"].endswith("larger than 5000 bytes.")
            return reply.status

    async def scenario() -> None:
        async with simulator(settings(batches={"max_bytes": 5000})) as client:
            assert await post(client, body_of_size(5000)) == 200
            assert await post(client, body_of_size(5001)) == 413
            single = b" " * 6000 + json.dumps(body_of(background=False)).encode()
            assert (await client.post(single))[0] == 200
            stats = await client.stats()
            assert (stats["batches"], stats["batch_posts"]) == (1, 1)

    asyncio.run(scenario())


def test_a_body_that_is_too_large_is_refused_before_it_arrives_and_the_reply_survives_its_arrival() -> None:
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


def test_max_bytes_does_not_apply_if_no_batches_are_offered() -> None:
    async def scenario() -> None:
        async with simulator(settings(batches={"offered": False, "max_bytes": 10})) as client:
            assert (await client.call("POST", "/batches", batch_of("a")))[0] == 404

    asyncio.run(scenario())


def test_a_large_body_is_passed_on_without_a_copy_and_the_next_request_is_not_lost() -> None:
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
    )  # a client on the same loop needs many turns per exchange

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


def test_a_batch_is_created_even_if_its_client_goes_away_after_the_body() -> None:
    async def scenario() -> None:
        async with simulator(settings(batches={"create_s": 0.05})) as client:
            body = json.dumps(batch_of(*(f"row-{i}" for i in range(500)))).encode()
            async with raw_connection(client.base_url) as (_, writer):
                writer.write(request("POST", "/v1/batches", body))
                await client.until("batch_posts_now", 1)
            await client.until("batches", 1)
            stats = await client.stats()
            assert (stats["batch_posts_now"], stats["accepted"]) == (0, 500)
            batch = (await client.batches())[0]
            assert (await client.call("GET", f"/batches/{batch['id']}/row-499"))[0] == 200

    asyncio.run(scenario())


def test_no_batch_is_created_if_its_client_goes_away_within_the_body() -> None:
    async def scenario() -> None:
        async with simulator() as client:
            body = json.dumps(batch_of("a")).encode()
            async with raw_connection(client.base_url) as (_, writer):
                writer.write(request("POST", "/v1/batches", body)[:-1])
                await writer.drain()
                await client.until("connections", 2)
            await client.call("POST", "/batches", batch_of("b"))
            stats = await client.stats()
            assert (stats["batches"], stats["batch_posts"], stats["accepted"]) == (1, 1, 1)

    asyncio.run(scenario())


def test_later_requests_of_the_connection_wait_for_the_batch() -> None:
    async def scenario() -> None:
        async with (
            simulator(settings(batches={"create_s": 0.05})) as client,
            raw_connection(client.base_url) as (reader, writer),
        ):
            body = json.dumps(batch_of("a")).encode()
            writer.write(request("POST", "/v1/batches", body) + request("GET", "/simulator/stats"))
            batch, stats = [json.loads((await read_reply(reader))[2]) for _ in range(2)]
            assert batch["request_counts"] == 1
            assert stats["batches"] == 1

    asyncio.run(scenario())


def test_a_simulator_that_stops_before_a_batch_is_created_does_not_create_it() -> None:
    async def scenario() -> None:
        async with simulator(settings(batches={"create_s": 60.0})) as client:
            async with raw_connection(client.base_url) as (_, writer):
                writer.write(request("POST", "/v1/batches", json.dumps(batch_of("a")).encode()))
                await client.until("batch_posts_now", 1)
            assert (await client.stats())["batches"] == 0

    asyncio.run(scenario())
