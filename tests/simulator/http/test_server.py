"""The simulator over real sockets: clients, keys, foreground requests, pipelining."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from runner.simulator.api import api
from tests.simulator.live import BODY, Client, raw_connection, read_reply, request, simulator
from tests.simulator.support import KEY, body_of, settings, taking


def test_the_official_client_works_unchanged() -> None:
    async def scenario() -> None:
        configured = taking(0.02, vocabulary="openai")
        async with (
            simulator(configured) as client,
            openai.AsyncOpenAI(base_url=client.base_url, api_key=KEY, max_retries=0) as sdk,
        ):
            models = await sdk.models.list()
            assert [model.id for model in models.data]
            created = await sdk.responses.create(
                model="zai-org/GLM-5",
                input=[{"role": "user", "content": "hello"}],
                max_output_tokens=40,
                background=True,
                extra_headers={"Idempotency-Key": "k"},
            )
            assert created.status == "queued"
            await client.until_done(created.id)
            found = await sdk.responses.retrieve(created.id)
            assert found.status == "completed"
            assert found.output_text.startswith("answer ")
            assert found.usage is not None
            assert found.usage.output_tokens == len(found.output_text.split())
            assert (await sdk.responses.cancel(created.id)).status == "completed"
            await sdk.responses.delete(created.id)
            with pytest.raises(openai.NotFoundError):
                await sdk.responses.retrieve(created.id)
            with pytest.raises(openai.BadRequestError, match="max_output_tokens"):
                await sdk.responses.create(model="m", input="a", max_output_tokens=0)

    asyncio.run(scenario())


def test_a_foreground_request_is_answered_when_its_job_is_done() -> None:
    async def scenario() -> None:
        configured = taking(0.02, capacity=1)
        async with simulator(configured) as client:
            replies = await asyncio.gather(
                *(client.post(body_of(f"p{i}", background=False)) for i in range(4))
            )
            assert [status for status, _ in replies] == [200] * 4
            assert {response["status"] for _, response in replies} == {"completed"}
            stats = await client.stats()
            assert stats["peak_posts"] == 4
            assert stats["peak_running"] == 1
            assert stats["delivered"] == 4
            status, refused = await client.call("POST", f"/responses/{replies[0][1]['id']}/cancel")
            assert (status, refused["error"]["code"]) == (400, "not_background")

    asyncio.run(scenario())


def test_paths_are_served_also_without_v1() -> None:
    async def scenario() -> None:
        async with simulator() as client:
            bare = Client(client.root, client.session)
            status, created = await bare.post()
            assert status == 202
            assert (await client.get(created["id"]))[0] == 200
            assert (await bare.call("GET", "/models"))[0] == 200

    asyncio.run(scenario())


CALLS = [
    ("GET", "/models"),
    ("POST", "/responses"),
    ("GET", "/responses/resp_1"),
    ("POST", "/responses/resp_1/cancel"),
    ("DELETE", "/responses/resp_1"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("header", [None, "Bearer", "Bearer ", "Basic abc"])
def test_a_request_without_an_api_key_is_a_401(method: str, path: str, header: str | None) -> None:
    async def scenario() -> None:
        async with simulator() as client:
            headers = {} if header is None else {"Authorization": header}
            async with client.session.request(method, client.base_url + path, headers=headers) as reply:
                assert reply.status == 401
                assert (await reply.json())["error"]["code"] == "invalid_api_key"
            assert (await client.stats())["unauthorised"] == 1

    asyncio.run(scenario())


def test_only_the_key_of_api_key_env_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_ONLY_KEY", "right")

    async def scenario() -> None:
        async with simulator(settings(api_key_env="THE_ONLY_KEY")) as client:
            assert (await client.call("GET", "/models", api_key="right"))[0] == 200
            assert (await client.call("GET", "/models", api_key="wrong"))[0] == 401

    asyncio.run(scenario())


def test_the_api_key_is_not_in_the_stats_the_jobs_or_the_state_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        state = tmp_path / "state.jsonl"
        async with simulator(state=state) as client:
            _, created = await client.post(key="k")
            await client.get(created["id"])
            texts = [json.dumps(await client.stats()), json.dumps(await client.jobs()), state.read_text()]
        assert all(texts)
        assert not [text for text in texts if KEY in text]

    asyncio.run(scenario())


def test_all_jobs_are_listed_one_per_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_JOBS_A_PIECE", 10)

    async def scenario() -> None:
        async with simulator() as client:
            created = await asyncio.gather(*(client.post(body_of(f"p{i}"), key=f"k{i}") for i in range(25)))
            await client.get(created[7][1]["id"])
            jobs = await client.jobs()
            assert {job["idempotency_key"] for job in jobs} == {f"k{i}" for i in range(25)}
            seen = next(job for job in jobs if job["id"] == created[7][1]["id"])
            assert (seen["gets"], seen["delivered"], seen["executed"], len(seen["sha256"])) == (
                1,
                True,
                1,
                64,
            )

    asyncio.run(scenario())


# --- the wire


def test_pipelined_requests_are_answered_in_order_even_if_one_takes_time() -> None:
    async def scenario() -> None:
        async with (
            simulator(settings(exchange_s=0.02)) as client,
            raw_connection(client.base_url) as (reader, writer),
        ):
            writer.write(
                request("POST", "/v1/responses", BODY)
                + request("GET", "/v1/models")
                + request("GET", "/v1/responses/resp_unknown")
                + request("GET", "/simulator/stats")
            )
            replies = [await read_reply(reader) for _ in range(4)]
            assert [status for status, _, _ in replies] == [202, 200, 404, 200]
            assert json.loads(replies[3][2])["peak_posts"] == 1

    asyncio.run(scenario())


def test_a_client_that_expects_100_receives_it() -> None:
    async def scenario() -> None:
        async with simulator() as client, raw_connection(client.base_url) as (reader, writer):
            data = request("POST", "/responses", BODY, "Expect: 100-continue")
            writer.write(data.removesuffix(BODY))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(BODY)
            assert (await read_reply(reader))[0] == 202

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("data", "status_code"),
    [(b"nonsense\r\n\r\n", 400), (b"A" * 40_000, 431), (request("HEAD", "/models"), 405)],
)
def test_an_unreadable_request_is_refused_and_a_reply_to_head_has_no_body(
    data: bytes, status_code: int
) -> None:
    async def scenario() -> None:
        async with simulator() as client, raw_connection(client.base_url) as (reader, writer):
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            assert int(head.split()[1]) == status_code
            if status_code == 405:
                assert b"\r\nAllow: GET\r\n" in head
                writer.write(request("GET", "/models", b"", "Connection: close"))
                assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
            else:
                assert json.loads(await reader.read())["error"]["code"] == "bad_request"

    asyncio.run(scenario())


def test_a_body_in_chunks_is_read_and_an_http_1_0_connection_is_closed_after_its_reply() -> None:
    async def scenario() -> None:
        async with simulator() as client:

            async def pieces() -> AsyncIterator[bytes]:
                yield BODY[:10]
                yield BODY[10:]

            headers = {"Authorization": f"Bearer {KEY}"}
            url = f"{client.base_url}/responses"
            async with client.session.post(url, data=pieces(), headers=headers) as reply:
                assert reply.status == 202
            async with raw_connection(client.base_url) as (reader, writer):
                writer.write(b"GET /simulator/jobs HTTP/1.0\r\n\r\n")
                whole = await reader.read()
                assert json.loads(whole.partition(b"\r\n\r\n")[2])["status"] == "completed"

    asyncio.run(scenario())


def test_every_reply_has_its_own_request_id() -> None:
    async def scenario() -> None:
        async with simulator() as client:
            ids = set()
            for _ in range(5):
                async with client.session.get(f"{client.root}/simulator/stats") as reply:
                    ids.add(reply.headers["x-request-id"])
            assert len(ids) == 5

    asyncio.run(scenario())


def test_an_exchange_ends_when_its_client_goes_away() -> None:
    async def scenario() -> None:
        async with simulator(settings(faults={"post": {"hang": 1.0}})) as client:
            async with raw_connection(client.base_url) as (_, writer):
                writer.write(request("POST", "/v1/responses", BODY))
                await client.until("posts_now", 1)
            await client.until("posts_now", 0)

    asyncio.run(scenario())


def test_the_peak_of_posts_is_the_number_served_at_once() -> None:
    async def scenario() -> None:
        async with simulator(settings(exchange_s=0.1)) as client:
            await asyncio.gather(*(client.post(body_of(f"p{i}")) for i in range(20)))
            stats = await client.stats()
            assert stats["peak_posts"] == 20
            assert stats["peak_open"] == 20

    asyncio.run(scenario())
