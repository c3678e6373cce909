"""Each fault over a real socket: what the client sees, and what the fault leaves behind."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from tests.simulator.fault_kinds import KINDS, SPOILING, check_reply
from tests.simulator.live import BODY, Client, raw_connection, request, simulator
from tests.simulator.support import KEY, settings

SILENT_S = 0.05
"""Seconds for which a hanging exchange is watched once the server has read its request."""


async def exchange(
    client: Client, kind: str, method: str, path: str, body: bytes = b""
) -> tuple[int, bytes] | str:
    """Return the reply, or what happened instead. Over a bare socket, because aiohttp may repeat a GET."""
    async with raw_connection(client.base_url) as (reader, writer):
        writer.write(request(method, path, body, "Connection: close"))
        if kind == "hang":
            await client.until(f"{method.lower()}s_now", 1)
        try:
            async with asyncio.timeout(SILENT_S if kind == "hang" else None):
                data = await reader.read()
        except TimeoutError:
            return "timeout"
        except ConnectionResetError:
            return "reset"
    head, found, received = data.partition(b"\r\n\r\n")
    if not found:
        return "closed"
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    return (int(head.split()[1]), received) if len(received) == length else "cut"


def check_seen(kind: str, seen: tuple[int, bytes] | str) -> None:
    """Check that what the client sees of a fault is what its name says."""
    without_reply = {"cut": "cut", "reset": "reset", "lost": "closed", "hang": "timeout"}
    if kind in without_reply:
        assert seen == without_reply[kind]
        return
    assert not isinstance(seen, str), seen
    response = check_reply(kind, *seen)
    if kind == "not_object":
        assert isinstance(response, list)
    elif kind == "no_id":
        assert "id" not in response
        assert response["status"] in ("pending", "completed")
    elif kind == "odd_status":
        assert response["status"] == "warming_up"
    elif kind == "slow":
        assert response["id"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_on_a_post_is_what_its_name_says_and_creates_the_job_or_not(kind: str) -> None:
    async def scenario() -> None:
        async with simulator(settings(faults={"post": {kind: 1.0}}, fault_s=0.05)) as client:
            check_seen(kind, await exchange(client, kind, "POST", "/responses", BODY))
            stats = await client.stats()
            assert stats["accepted"] == int(kind in SPOILING)
            assert stats["faults"] == {"post": {kind: 1}, "get": {}}
            assert stats["posts_now"] == 0 or kind == "hang"

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_fault_slow_lets_a_get_deliver(kind: str) -> None:
    async def scenario() -> None:
        async with simulator(settings(faults={"get": {kind: 1.0}}, fault_s=0.05)) as client:
            _, created = await client.post()
            check_seen(kind, await exchange(client, kind, "GET", f"/responses/{created['id']}"))
            stats = await client.stats()
            assert stats["delivered"] == int(kind == "slow")
            assert stats["faults"] == {"post": {}, "get": {kind: 1}}

    asyncio.run(scenario())


def test_a_job_whose_acknowledgement_was_lost_is_found_by_its_key() -> None:
    async def scenario() -> None:
        async with simulator(settings(faults={"post": {"lost": 0.5, "cut": 0.5}})) as client:
            for _ in range(3):
                with pytest.raises(aiohttp.ClientError):
                    await client.post(key="k")
            stats = await client.stats()
            assert (stats["accepted"], stats["replayed"]) == (1, 2)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["429", "503", "529"])
def test_retry_after_comes_as_seconds_and_as_a_date(kind: str) -> None:
    async def scenario() -> None:
        async with simulator(settings(faults={"post": {kind: 1.0}})) as client:
            headers = {"Authorization": f"Bearer {KEY}"}
            seen = []
            for _ in range(2):
                async with client.session.post(
                    f"{client.base_url}/responses", data=BODY, headers=headers
                ) as reply:
                    seen.append((reply.headers["Retry-After"], reply.headers["Date"]))
            assert seen[0][0] == "1"
            until, now = (parsedate_to_datetime(text) for text in seen[1])
            assert 1 <= (until - now).total_seconds() <= 2

    asyncio.run(scenario())
