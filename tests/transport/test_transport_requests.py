"""Requests on the wire: exactly the bytes of the body, and only the headers that are needed."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from runner.transport import Transport
from runner.transport.outcomes import RetrieveOutcome
from tests.transport.scripted import Received, Service, as_json, job
from tests.transport.talking import API_KEY, Talk

BODIES = {
    "odd spacing": b'{ "model" :\t"m",\n  "input":"hi" }  ',
    "raw unicode": '{"input":"Zoë 🦊 \u2028"}'.encode(),
    "escaped unicode": b'{"input":"\\u00eb \\ud83e\\udd8a \\/"}',
    "numbers as written": b'{"temperature":1.0,"top_p":1e-1,"seed":12345678901234567890}',
    "keys twice": b'{"a":1,"a":2}',
    "a megabyte": b'{"input":"' + b"x" * 1_000_000 + b'"}',
}
ODD_IDS = [
    "resp_1",
    "a/b",
    "a b",
    "a?b=c",
    "a#b",
    "a%2Fb",
    "a%b",
    "Zoë",
    "a+b&c;d:e@f",
    "a\\b",
    "a.b",
    "a\nb",
]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_submit_sends_exactly_the_bytes_of_the_request(talk: Talk, body: bytes) -> None:
    async def conversation(transport: Transport, service: Service) -> list[Received]:
        await transport.submit(body, "key-1")
        return service.received

    (request,) = talk(conversation, job("queued", 202))
    assert request.body == body
    assert request.header("Content-Length") == str(len(body))
    assert request.header("Content-Encoding") is None


def test_a_submit_is_a_post_of_json_to_responses_with_the_key(talk: Talk) -> None:
    async def conversation(transport: Transport, service: Service) -> list[Received]:
        await transport.submit(b"{}", "key-1")
        return service.received

    (request,) = talk(conversation, job("queued", 202))
    assert (request.method, request.target) == ("POST", "/v1/responses")
    assert request.header("Authorization") == f"Bearer {API_KEY}"
    assert request.header("Content-Type") == "application/json"
    assert request.header("Accept") == "application/json"


def test_a_retrieve_is_a_get_without_a_body_and_with_the_key(talk: Talk) -> None:
    async def conversation(transport: Transport, service: Service) -> list[Received]:
        await transport.retrieve("resp_1")
        return service.received

    (request,) = talk(conversation, job("queued"))
    assert (request.method, request.target, request.body) == ("GET", "/v1/responses/resp_1", b"")
    assert request.header("Authorization") == f"Bearer {API_KEY}"
    assert request.header("Idempotency-Key") is None


@pytest.mark.parametrize("path", ["", "/v1", "/gateway/openai/v1"])
def test_the_path_of_the_base_url_is_kept(talk: Talk, path: str) -> None:
    async def conversation(transport: Transport, service: Service) -> list[str]:
        await transport.submit(b"{}", "key-1")
        await transport.retrieve("resp_1")
        return [request.target for request in service.received]

    sent = talk(conversation, job("queued"), path=path)
    assert sent == [f"{path}/responses", f"{path}/responses/resp_1"]


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Request-Token"])
def test_the_idempotency_key_is_sent_in_the_header_that_the_config_names(talk: Talk, header: str) -> None:
    async def conversation(transport: Transport, service: Service) -> list[str | None]:
        for key in ("key-1", "key-1", "key-2"):
            await transport.submit(b"{}", key)
        return [request.header(header) for request in service.received]

    sent = talk(conversation, job("queued", 202), idempotency_header=header)
    assert sent == ["key-1", "key-1", "key-2"]


def test_the_idempotency_key_is_not_sent_without_a_header_for_it(talk: Talk) -> None:
    async def conversation(transport: Transport, service: Service) -> list[Received]:
        await transport.submit(b"{}", "the-idempotency-key")
        return service.received

    (request,) = talk(conversation, job("queued", 202), idempotency_header=None)
    assert request.header("Idempotency-Key") is None
    assert "the-idempotency-key" not in str(request.headers)


@pytest.mark.parametrize("job_id", ODD_IDS)
def test_an_odd_job_id_stays_one_segment_of_the_path(talk: Talk, job_id: str) -> None:
    async def conversation(transport: Transport, service: Service) -> tuple[RetrieveOutcome, list[Received]]:
        outcome = await transport.retrieve(job_id)
        return outcome, service.received

    outcome, (request,) = talk(conversation, as_json({"id": job_id, "status": "running"}))
    *path, last = request.target.split("/")
    assert path == ["", "v1", "responses"]
    assert "?" not in last
    assert "#" not in last
    assert unquote(last) == job_id
    assert type(outcome).__name__ == "Pending"


def test_keys_and_addresses_of_the_openai_environment_are_not_used(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, dead_port: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{dead_port}/v1")

    async def conversation(transport: Transport, service: Service) -> list[Received]:
        await transport.submit(b"{}", "key-1")
        return service.received

    (request,) = talk(conversation, job("queued", 202))
    assert request.header("Authorization") == f"Bearer {API_KEY}"
