"""Connections: how many there are, how long they are kept, and that nothing is sent twice."""

from __future__ import annotations

import asyncio
import gc
import warnings
from functools import partial

import pytest

from runner.errors import ConfigError
from runner.transport import Transport
from runner.transport.outcomes import Accepted, Done, Pending, RetrieveOutcome, SubmitOutcome, Transient
from tests.transport.scripted import After, Received, Service, Step, as_json, job, raw
from tests.transport.talking import Talk, Verb

CLIENTS = 200


def _open_when(gate: asyncio.Event, service: Service, count: int) -> None:
    """Open the gate once the service has received `count` requests."""
    if len(service.received) == count:
        gate.set()


def test_exchanges_one_after_another_share_a_connection(talk: Talk) -> None:
    async def conversation(transport: Transport, service: Service) -> tuple[int, int]:
        for n in range(5):
            await transport.submit(b"{}", f"key-{n}")
            await transport.retrieve("resp_1")
        return len(service.received), service.connections

    assert talk(conversation, job("running")) == (10, 1)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_a_connection_outlives_an_error_status(talk: Talk, status: int) -> None:
    async def conversation(transport: Transport, service: Service) -> int:
        for _ in range(3):
            await transport.retrieve("resp_1")
        return service.connections

    assert talk(conversation, as_json({"error": {"message": "no"}}, status)) == 1


def test_200_submits_at_once_use_200_connections_at_once(talk: Talk) -> None:
    """The service answers only once all have arrived: a pool smaller than the semaphore would hang."""

    async def conversation(
        transport: Transport, service: Service
    ) -> tuple[list[SubmitOutcome], list[RetrieveOutcome], Service]:
        everybody = asyncio.Event()
        service.on_request = partial(_open_when, everybody, service, CLIENTS)
        service.steps = (job("queued", 202, gate=everybody),)
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


def test_every_exchange_gets_its_own_answer(talk: Talk) -> None:
    async def conversation(
        transport: Transport, service: Service
    ) -> tuple[list[SubmitOutcome], list[str | None]]:
        everybody = asyncio.Event()
        service.on_request = partial(_open_when, everybody, service, 20)
        service.steps = tuple(as_json({"id": str(n), "status": "queued"}, gate=everybody) for n in range(20))
        outcomes = await asyncio.gather(*(transport.submit(b"{}", f"key-{n}") for n in range(20)))
        keys = [request.header("Idempotency-Key") for request in service.received]
        return outcomes, keys

    outcomes, keys = talk(conversation)
    for n, outcome in enumerate(outcomes):
        assert outcome == Accepted(id=str(keys.index(f"key-{n}")))


def test_a_connection_that_the_service_will_close_is_not_used_again(talk: Talk) -> None:
    async def conversation(transport: Transport, service: Service) -> tuple[list[SubmitOutcome], int]:
        outcomes = [await transport.submit(b"{}", f"key-{n}") for n in range(3)]
        return outcomes, service.connections

    answer = as_json({"id": "resp_1"}, 202, {"Connection": "close"}, after="close")
    assert talk(conversation, answer) == ([Accepted(id="resp_1")] * 3, 3)


def test_a_connection_closed_without_notice_leaves_at_most_a_doubt(talk: Talk) -> None:
    async def conversation(
        transport: Transport, service: Service
    ) -> tuple[list[SubmitOutcome], list[str | None]]:
        outcomes = [await transport.submit(b"{}", f"key-{n}") for n in range(20)]
        keys = [request.header("Idempotency-Key") for request in service.received]
        return outcomes, keys

    outcomes, keys = talk(conversation, as_json({"id": "resp_1"}, 202, after="close"))
    assert Accepted(id="resp_1") in outcomes
    for outcome in outcomes:
        if outcome != Accepted(id="resp_1"):
            assert isinstance(outcome, Transient)
            assert (outcome.cause, outcome.ambiguous) == ("reset", True)
    assert len(keys) == len(set(keys)), "a POST was sent twice"


@pytest.mark.parametrize("verb", ["POST", "GET"])
@pytest.mark.parametrize("fault", ["close", "reset"])
def test_no_library_repeats_an_exchange_that_failed_on_a_kept_connection(
    talk: Talk, verb: Verb, fault: After
) -> None:
    """The only retries are those of `policy/retry.py`, each counted by its cause.

    Except in the SDK: its aiohttp client repeats a GET, and it is there for those who want its behaviour.
    """
    if talk.name == "openai" and verb == "GET":
        pytest.skip("the SDK's own aiohttp client repeats a GET on a kept connection that was dropped")

    async def conversation(
        transport: Transport, service: Service
    ) -> tuple[list[SubmitOutcome | RetrieveOutcome], int]:
        outcomes: list[SubmitOutcome | RetrieveOutcome] = []
        for _ in range(2):
            if verb == "POST":
                outcomes.append(await transport.submit(b"{}", "key-1"))
            else:
                outcomes.append(await transport.retrieve("resp_1"))
        return outcomes, len(service.received)

    steps = (job("running"), Step(b"", fault), job("completed"))
    (first, second), requests = talk(conversation, *steps)
    assert isinstance(first, Accepted | Pending)
    assert isinstance(second, Transient)
    assert second.cause == "reset"
    assert requests == 2


def test_bytes_that_come_on_an_idle_connection_are_not_the_next_answer(talk: Talk) -> None:
    if talk.name == "openai":
        pytest.skip("the SDK's own aiohttp client takes them for the answer; for a GET the id shows it")

    async def conversation(
        transport: Transport, service: Service
    ) -> tuple[SubmitOutcome, SubmitOutcome, int]:
        first = await transport.submit(b"{}", "key-1")
        await asyncio.sleep(0.1)  # time for the unexpected bytes to come
        return first, await transport.submit(b"{}", "key-2"), service.connections

    unasked = as_json({"id": "unasked"}, 202).data
    steps = (Step(as_json({"id": "1"}, 202).data, later=unasked), as_json({"id": "2"}, 202))
    assert talk(conversation, *steps) == (Accepted(id="1"), Accepted(id="2"), 2)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_no_library_repeats_an_exchange_because_of_its_status(talk: Talk, status: int) -> None:
    async def conversation(transport: Transport, service: Service) -> int:
        await transport.submit(b"{}", "key-1")
        await transport.retrieve("resp_1")
        return len(service.received)

    headers = {"Retry-After": "0", "X-Should-Retry": "true"}
    assert talk(conversation, as_json({"error": {"message": "no"}}, status, headers)) == 2


def test_the_transport_works_after_any_fault(talk: Talk) -> None:
    async def conversation(transport: Transport, service: Service) -> RetrieveOutcome:
        await transport.submit(b"{}", "key-1")
        await transport.submit(b"{}", "key-1")
        await transport.submit(b"{}", "key-1")
        return await transport.retrieve("resp_1")

    steps = (
        Step(b"", "reset"),
        Step(b"junk\r\n\r\n", "close"),
        Step(b"HTTP/1.1 200 OK\r\n", "close"),
    )
    assert isinstance(talk(conversation, *steps, job("completed")), Done)


@pytest.mark.parametrize("verb", ["POST", "GET"])
def test_a_cancelled_exchange_closes_its_connection(talk: Talk, verb: Verb) -> None:
    async def conversation(transport: Transport, service: Service) -> tuple[RetrieveOutcome, int]:
        asked = asyncio.Event()
        service.on_request = asked.set
        exchange = transport.submit(b"{}", "key-1") if verb == "POST" else transport.retrieve("resp_1")
        task = asyncio.create_task(exchange)
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        service.steps = (job("running"),)
        service.on_request = lambda: None
        return await transport.retrieve("resp_1"), service.connections

    assert talk(conversation) == (Pending(), 2)


def test_closing_leaves_nothing_open_and_warns_of_nothing(talk: Talk) -> None:
    complaints = []

    async def conversation(transport: Transport, service: Service) -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        await transport.submit(b"{}", "key-1")
        await asyncio.gather(*(transport.retrieve("resp_1") for _ in range(5)))
        await transport.close()
        await asyncio.wait_for(service.all_closed.wait(), 10)
        return service.open

    steps = (job("running"), Step(b"", "reset"), Step(b"", "hang"), job("running"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert talk(conversation, *steps, timeout_s=0.3) == 0
        gc.collect()
    assert [str(warning.message) for warning in said] == []
    assert complaints == []


def test_a_transport_that_was_never_used_closes_without_warnings(talk: Talk) -> None:
    async def conversation(transport: Transport, service: Service) -> int:
        await transport.close()
        return service.connections

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert talk(conversation) == 0
        gc.collect()
    assert [str(warning.message) for warning in said] == []


@pytest.mark.parametrize("form", ["http://127.0.0.1:{port}", "127.0.0.1:{port}"])
def test_a_proxy_that_is_down_leaves_no_doubt(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, dead_port: int, form: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", form.format(port=dead_port))

    async def conversation(transport: Transport, service: Service) -> tuple[SubmitOutcome, int]:
        return await transport.submit(b"{}", "key-1"), service.connections

    outcome, connections = talk(conversation, job("queued", 202))
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.ambiguous, connections) == ("connect", False, 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK calls deprecated parts of aiohttp
def test_a_request_goes_through_a_proxy_with_its_whole_url_and_the_password_of_the_proxy(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def conversation(_: Transport, proxy: Service) -> list[Received]:
        monkeypatch.setenv("HTTP_PROXY", proxy.root.replace("//", "//user:pass@"))
        behind = talk.open(base_url="http://service.invalid/v1")
        try:
            assert await behind.submit(b"{}", "key-1") == Accepted(id="resp_1")
        finally:
            await behind.close()
        return proxy.received

    (request,) = talk(conversation, job("queued", 202))
    assert request.target == "http://service.invalid/v1/responses"
    assert request.header("Proxy-Authorization") == "Basic dXNlcjpwYXNz"
    assert request.header("Host") == "service.invalid"


@pytest.mark.parametrize("with_port", [False, True])
def test_a_host_in_no_proxy_is_connected_to_directly(
    talk: Talk,
    monkeypatch: pytest.MonkeyPatch,
    dead_port: int,
    with_port: bool,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{dead_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def conversation(transport: Transport, service: Service) -> tuple[SubmitOutcome, int]:
        if with_port:
            monkeypatch.setenv("NO_PROXY", service.root.removeprefix("http://"))
            transport = talk.open(base_url=f"{service.root}/v1")
        try:
            return await transport.submit(b"{}", "key-1"), service.connections
        finally:
            await transport.close()

    assert talk(conversation, job("queued", 202)) == (Accepted(id="resp_1"), 1)


def test_a_proxy_that_refuses_the_tunnel_leaves_no_doubt(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def conversation(transport: Transport, service: Service) -> SubmitOutcome:
        proxy = Service((raw(b"", 407, after="close"),))
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
    monkeypatch: pytest.MonkeyPatch, talk: Talk
) -> None:
    async def conversation(transport: Transport, service: Service) -> int:
        monkeypatch.setenv("ALL_PROXY", service.root.replace("http", "socks5"))
        with pytest.raises(ConfigError, match="a socks5 proxy cannot be used"):
            talk.open(base_url="http://service.invalid/v1")
        return service.connections

    assert talk(conversation) == 0
