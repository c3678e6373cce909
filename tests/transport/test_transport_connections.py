"""Connections: how many, how long they are kept, what is left behind, and that nothing is sent twice."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from runner.errors import ConfigError
from runner.transport.outcomes import Accepted, Done, Pending, Transient
from tests.transport.conftest import Http

CLIENTS = 200


def test_exchanges_one_after_another_share_a_connection(talk: Callable[..., Any], http: type[Http]) -> None:
    async def conversation(transport, service):
        for n in range(5):
            await transport.submit(b"{}", f"key-{n}")
            await transport.retrieve("resp_1")
        return len(service.received), service.connections

    assert talk(conversation, http.job("running")) == (10, 1)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_a_connection_outlives_an_error_status(
    talk: Callable[..., Any], http: type[Http], status: int
) -> None:
    async def conversation(transport, service):
        for _ in range(3):
            await transport.retrieve("resp_1")
        return service.connections

    assert talk(conversation, http.json({"error": {"message": "no"}}, status)) == 1


def test_200_submits_at_once_are_all_under_way_at_once_on_200_connections(
    talk: Callable[..., Any], http: type[Http]
) -> None:
    """The service answers nobody until all have asked: a pool smaller than the semaphore would never end."""

    async def conversation(transport, service):
        everybody = asyncio.Event()
        service.on_request = lambda _: len(service.received) == CLIENTS and everybody.set()
        service.steps = (http.job("queued", 202, gate=everybody),)
        submits = (transport.submit(b"{}", f"key-{n}") for n in range(CLIENTS))
        outcomes = await asyncio.gather(*submits)
        again = await asyncio.gather(*(transport.retrieve("resp_1") for _ in range(CLIENTS)))
        return outcomes, again, service

    outcomes, again, service = talk(conversation, concurrency=CLIENTS)
    assert outcomes == [Accepted(id="resp_1")] * CLIENTS
    assert again == [Pending()] * CLIENTS
    assert service.connections <= CLIENTS
    assert {request.header("Idempotency-Key") for request in service.received} == {
        *(f"key-{n}" for n in range(CLIENTS)),
        None,
    }


def test_every_exchange_gets_its_own_answer(talk: Callable[..., Any], http: type[Http]) -> None:
    async def conversation(transport, service):
        everybody = asyncio.Event()
        service.on_request = lambda _: len(service.received) == 20 and everybody.set()
        service.steps = tuple(
            http.json({"id": str(n), "status": "queued"}, gate=everybody) for n in range(20)
        )
        outcomes = await asyncio.gather(*(transport.submit(b"{}", f"key-{n}") for n in range(20)))
        keys = [request.header("Idempotency-Key") for request in service.received]
        return outcomes, keys

    outcomes, keys = talk(conversation)
    for n, outcome in enumerate(outcomes):
        assert outcome == Accepted(id=str(keys.index(f"key-{n}")))


def test_a_connection_that_the_service_will_close_is_not_used_again(
    talk: Callable[..., Any], http: type[Http]
) -> None:
    async def conversation(transport, service):
        outcomes = [await transport.submit(b"{}", f"key-{n}") for n in range(3)]
        return outcomes, service.connections

    answer = http.json({"id": "resp_1"}, 202, {"Connection": "close"}, after="close")
    assert talk(conversation, answer) == ([Accepted(id="resp_1")] * 3, 3)


def test_a_connection_closed_without_notice_never_ends_in_more_than_a_doubt(
    talk: Callable[..., Any], http: type[Http]
) -> None:
    async def conversation(transport, service):
        outcomes = [await transport.submit(b"{}", f"key-{n}") for n in range(20)]
        keys = [request.header("Idempotency-Key") for request in service.received]
        return outcomes, keys

    outcomes, keys = talk(conversation, http.json({"id": "resp_1"}, 202, after="close"))
    assert Accepted(id="resp_1") in outcomes
    for outcome in outcomes:
        if outcome != Accepted(id="resp_1"):
            assert isinstance(outcome, Transient)
            assert (outcome.cause, outcome.ambiguous) == ("reset", True)
    assert len(keys) == len(set(keys)), "a POST was sent twice"


@pytest.mark.parametrize("verb", ["POST", "GET"])
@pytest.mark.parametrize("fault", ["close", "reset"])
def test_no_library_repeats_an_exchange_that_failed_on_a_kept_connection(
    request: pytest.FixtureRequest, talk: Callable[..., Any], http: type[Http], verb: str, fault: str
) -> None:
    """The only retries are those of `policy/retry.py`, each counted by its cause.

    Except in the SDK: its aiohttp client repeats a GET, and it is there for those who want its behaviour.
    """
    if "openai" in request.node.callspec.params.values() and verb == "GET":
        pytest.skip("the SDK's own aiohttp client repeats a GET on a kept connection that was dropped")

    async def conversation(transport, service):
        outcomes = []
        for _ in range(2):
            if verb == "POST":
                outcomes.append(await transport.submit(b"{}", "key-1"))
            else:
                outcomes.append(await transport.retrieve("resp_1"))
        return outcomes, len(service.received)

    steps = (http.job("running"), http.step(b"", fault), http.job("completed"))
    (first, second), requests = talk(conversation, *steps)
    assert isinstance(first, Accepted | Pending)
    assert isinstance(second, Transient)
    assert second.cause == "reset"
    assert requests == 2


def test_what_comes_unasked_on_an_idle_connection_is_no_answer_to_the_next_request(
    request: pytest.FixtureRequest, talk: Callable[..., Any], http: type[Http]
) -> None:
    if "openai" in request.node.callspec.params.values():
        pytest.skip("the SDK's own aiohttp client takes it for one; of a GET it is noticed by the id")

    async def conversation(transport, service):
        first = await transport.submit(b"{}", "key-1")
        await asyncio.sleep(0.3)  # so long that it comes while nothing is asked
        return first, await transport.submit(b"{}", "key-2"), service.connections

    unasked = http.json({"id": "unasked"}, 202).data
    steps = (http.step(http.json({"id": "1"}, 202).data, later=unasked), http.json({"id": "2"}, 202))
    assert talk(conversation, *steps) == (Accepted(id="1"), Accepted(id="2"), 2)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_no_library_repeats_an_exchange_because_of_its_status(
    talk: Callable[..., Any], http: type[Http], status: int
) -> None:
    async def conversation(transport, service):
        await transport.submit(b"{}", "key-1")
        await transport.retrieve("resp_1")
        return len(service.received)

    headers = {"Retry-After": "0", "X-Should-Retry": "true"}
    assert talk(conversation, http.json({"error": {"message": "no"}}, status, headers)) == 2


def test_after_any_fault_the_transport_goes_on(talk: Callable[..., Any], http: type[Http]) -> None:
    async def conversation(transport, service):
        await transport.submit(b"{}", "key-1")
        await transport.submit(b"{}", "key-1")
        await transport.submit(b"{}", "key-1")
        return await transport.retrieve("resp_1")

    steps = (
        http.step(b"", "reset"),
        http.step(b"junk\r\n\r\n", "close"),
        http.step(b"HTTP/1.1 200 OK\r\n", "close"),
    )
    assert isinstance(talk(conversation, *steps, http.job("completed")), Done)


@pytest.mark.parametrize("verb", ["POST", "GET"])
def test_a_cancelled_exchange_is_cancelled_and_gives_its_connection_up(
    talk: Callable[..., Any], http: type[Http], verb: str
) -> None:
    async def conversation(transport, service):
        asked = asyncio.Event()
        service.on_request = lambda _: asked.set()
        exchange = transport.submit(b"{}", "key-1") if verb == "POST" else transport.retrieve("resp_1")
        task = asyncio.create_task(exchange)
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        service.steps = (http.job("running"),)
        service.on_request = None
        return await transport.retrieve("resp_1"), service.connections

    assert talk(conversation) == (Pending(), 2)


def test_closing_leaves_nothing_open_and_nothing_to_complain_about(
    talk: Callable[..., Any], http: type[Http]
) -> None:
    complaints = []

    async def conversation(transport, service):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        await transport.submit(b"{}", "key-1")
        await asyncio.gather(*(transport.retrieve("resp_1") for _ in range(5)))
        await transport.close()
        await asyncio.wait_for(service.all_closed.wait(), 10)
        return service.open

    steps = (http.job("running"), http.step(b"", "reset"), http.step(b"", "hang"), http.job("running"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert talk(conversation, *steps, timeout_s=1.0) == 0
        gc.collect()
    assert [str(warning.message) for warning in said] == []
    assert complaints == []


def test_a_transport_that_was_never_used_closes_in_silence(talk: Callable[..., Any]) -> None:
    async def conversation(transport, service):
        await transport.close()
        return service.connections

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert talk(conversation) == 0
        gc.collect()
    assert [str(warning.message) for warning in said] == []


@pytest.mark.parametrize("form", ["http://127.0.0.1:{port}", "127.0.0.1:{port}"])
def test_a_proxy_of_the_environment_that_is_down_leaves_no_doubt(
    talk: Callable[..., Any], http: type[Http], monkeypatch: pytest.MonkeyPatch, dead_port: int, form: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", form.format(port=dead_port))

    async def conversation(transport, service):
        return await transport.submit(b"{}", "key-1"), service.connections

    outcome, connections = talk(conversation, http.job("queued", 202))
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.ambiguous, connections) == ("connect", False, 0)


@pytest.mark.parametrize("with_port", [False, True])
def test_a_host_under_no_proxy_is_met_directly(
    talk: Callable[..., Any],
    http: type[Http],
    monkeypatch: pytest.MonkeyPatch,
    dead_port: int,
    with_port: bool,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{dead_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def conversation(transport, service):
        if with_port:
            monkeypatch.setenv("NO_PROXY", service.root.removeprefix("http://"))
            transport = talk.open(base_url=f"{service.root}/v1")
        try:
            return await transport.submit(b"{}", "key-1"), service.connections
        finally:
            await transport.close()

    assert talk(conversation, http.job("queued", 202)) == (Accepted(id="resp_1"), 1)


def test_a_proxy_that_refuses_the_tunnel_leaves_no_doubt(
    talk: Callable[..., Any], http: type[Http], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def conversation(transport, service):
        proxy = type(service)((http.raw(b"", 407, after="close"),))
        async with proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.root)
            behind = talk.open(base_url="https://service.invalid/v1")
            try:
                return await behind.submit(b"{}", "key-1")
            finally:
                await behind.close()

    outcome = talk(conversation)
    assert isinstance(outcome, Transient)
    assert not outcome.ambiguous


def test_a_proxy_that_does_not_speak_http_is_refused_before_anything_is_sent(
    http: type[Http], monkeypatch: pytest.MonkeyPatch, talk: Callable[..., Any]
) -> None:
    async def conversation(transport, service):
        monkeypatch.setenv("ALL_PROXY", service.root.replace("http", "socks5"))
        with pytest.raises(ConfigError, match="a socks5 proxy cannot be used"):
            talk.open(base_url="http://service.invalid/v1")
        return service.connections

    assert talk(conversation) == 0
