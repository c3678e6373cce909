"""Each fault over a real socket: what the client sees, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from tests.simulator.support import BODY, KEY, Client, body_of, raw_connection, request, settings, simulator

CREATES = {"empty", "cut", "not_utf8", "not_json", "not_object", "no_id", "odd_status", "lost", "slow"}
CODES = ("400", "404", "429", "500", "502", "503", "504", "529")


async def meet(client: Client, method: str, path: str, body: bytes = b"") -> tuple[int, bytes] | str:
    """The answer, or what happened instead of one. Over a raw socket: aiohttp repeats a GET by itself."""
    async with raw_connection(client.base_url) as (reader, writer):
        writer.write(request(method, path, body, "Connection: close"))
        try:
            async with asyncio.timeout(0.3):
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


def check_met(kind: str, met: tuple[int, bytes] | str) -> None:
    """What the client sees of a fault is what its name says."""
    without_answer = {"cut": "cut", "reset": "reset", "lost": "closed", "hang": "timeout"}
    if kind in without_answer:
        assert met == without_answer[kind]
        return
    assert not isinstance(met, str), met
    status_code, body = met
    if kind in CODES:
        assert status_code == int(kind)
        assert json.loads(body)["error"]["message"]
    elif kind == "html":
        assert status_code == 502
        assert b"<html>" in body
    elif kind == "empty":
        assert status_code in (200, 202)
        assert body == b""
    elif kind == "not_utf8":
        with pytest.raises(UnicodeDecodeError):
            body.decode()
    elif kind == "not_json":
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
    elif kind == "not_object":
        assert isinstance(json.loads(body), list)
    elif kind == "no_id":
        assert "id" not in json.loads(body)
        assert json.loads(body)["status"] in ("pending", "completed")
    elif kind == "odd_status":
        assert json.loads(body)["status"] == "warming_up"
    else:
        assert kind == "slow"
        assert json.loads(body)["id"]


KINDS = (*CODES, "html", "empty", "cut", "not_utf8", "not_json", "not_object", "no_id", "odd_status",
         "reset", "lost", "hang", "slow")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_on_a_post_is_what_its_name_says_and_creates_the_job_or_not(kind: str) -> None:
    async def scenario() -> None:
        async with simulator(settings(faults={"post": {kind: 1.0}}, fault_s=0.05)) as client:
            check_met(kind, await meet(client, "POST", "/responses", BODY))
            stats = await client.stats()
            assert stats["accepted"] == int(kind in CREATES)
            assert stats["faults"] == {"post": {kind: 1}, "get": {}}
            assert stats["posts_now"] == 0 or kind == "hang"

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_on_a_get_delivers_nothing_unless_it_is_only_slow(kind: str) -> None:
    async def scenario() -> None:
        async with simulator(settings(faults={"get": {kind: 1.0}}, fault_s=0.05)) as client:
            _, created = await client.post()
            check_met(kind, await meet(client, "GET", f"/responses/{created['id']}"))
            stats = await client.stats()
            assert stats["delivered"] == int(kind == "slow")
            assert stats["faults"] == {"post": {}, "get": {kind: 1}}

    asyncio.run(scenario())


def test_an_acknowledgement_that_was_lost_can_be_had_by_its_key() -> None:
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
                ) as answer:
                    seen.append((answer.headers["Retry-After"], answer.headers["Date"]))
            assert seen[0][0] == "1"
            until, now = (parsedate_to_datetime(text) for text in seen[1])
            assert 1 <= (until - now).total_seconds() <= 2

    asyncio.run(scenario())


def test_faults_come_with_their_probability_and_the_same_ones_each_time() -> None:
    async def codes() -> list[int]:
        async with simulator(settings(faults={"post": {"500": 0.2, "503": 0.1}})) as client:
            return [(await client.post(body_of(f"p{i}")))[0] for i in range(400)]

    first, second = asyncio.run(codes()), asyncio.run(codes())
    assert first == second
    assert first.count(500) / 400 == pytest.approx(0.2, abs=0.06)
    assert first.count(503) / 400 == pytest.approx(0.1, abs=0.05)
