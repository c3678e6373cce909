"""What goes over the wire: exactly the request's bytes, and no more headers than asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest

from tests.transport.conftest import Http

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
def test_a_submit_sends_exactly_the_bytes_of_the_request(
    talk: Callable[..., Any], http: type[Http], body: Any
) -> None:
    async def conversation(transport, service):
        await transport.submit(body, "key-1")
        return service.received

    (request,) = talk(conversation, http.job("queued", 202))
    assert request.body == body
    assert request.header("Content-Length") == str(len(body))
    assert request.header("Content-Encoding") is None


def test_a_submit_is_a_post_of_json_to_responses_with_the_key(
    talk: Callable[..., Any], http: type[Http], api_key: str
) -> None:
    async def conversation(transport, service):
        await transport.submit(b"{}", "key-1")
        return service.received

    (request,) = talk(conversation, http.job("queued", 202))
    assert (request.method, request.target) == ("POST", "/v1/responses")
    assert request.header("Authorization") == f"Bearer {api_key}"
    assert request.header("Content-Type") == "application/json"
    assert request.header("Accept") == "application/json"


def test_a_retrieve_is_a_bare_get_with_the_key(
    talk: Callable[..., Any], http: type[Http], api_key: str
) -> None:
    async def conversation(transport, service):
        await transport.retrieve("resp_1")
        return service.received

    (request,) = talk(conversation, http.job("queued"))
    assert (request.method, request.target, request.body) == ("GET", "/v1/responses/resp_1", b"")
    assert request.header("Authorization") == f"Bearer {api_key}"
    assert request.header("Idempotency-Key") is None


@pytest.mark.parametrize("path", ["", "/v1", "/gateway/openai/v1"])
def test_the_path_of_the_base_url_is_kept(talk: Callable[..., Any], http: type[Http], path: str) -> None:
    async def conversation(transport, service):
        await transport.submit(b"{}", "key-1")
        await transport.retrieve("resp_1")
        return [request.target for request in service.received]

    sent = talk(conversation, http.job("queued"), path=path)
    assert sent == [f"{path}/responses", f"{path}/responses/resp_1"]


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Request-Token"])
def test_the_idempotency_key_goes_under_the_header_that_the_config_names(
    talk: Callable[..., Any], http: type[Http], header: str
) -> None:
    async def conversation(transport, service):
        for key in ("key-1", "key-1", "key-2"):
            await transport.submit(b"{}", key)
        return [request.header(header) for request in service.received]

    sent = talk(conversation, http.job("queued", 202), idempotency_header=header)
    assert sent == ["key-1", "key-1", "key-2"]


def test_without_an_idempotency_header_the_key_is_not_sent_at_all(
    talk: Callable[..., Any], http: type[Http]
) -> None:
    async def conversation(transport, service):
        await transport.submit(b"{}", "the-idempotency-key")
        return service.received

    (request,) = talk(conversation, http.job("queued", 202), idempotency_header=None)
    assert request.header("Idempotency-Key") is None
    assert "the-idempotency-key" not in str(request.headers)


@pytest.mark.parametrize("job_id", ODD_IDS)
def test_an_odd_job_id_stays_one_segment_of_the_path(
    talk: Callable[..., Any], http: type[Http], job_id: Any
) -> None:
    async def conversation(transport, service):
        outcome = await transport.retrieve(job_id)
        return outcome, service.received

    outcome, (request,) = talk(conversation, http.json({"id": job_id, "status": "running"}))
    *path, last = request.target.split("/")
    assert path == ["", "v1", "responses"]
    assert "?" not in last
    assert "#" not in last
    assert unquote(last) == job_id
    assert type(outcome).__name__ == "Pending"


def test_keys_and_addresses_of_the_openai_environment_are_not_used(
    talk: Callable[..., Any], http: type[Http], monkeypatch: pytest.MonkeyPatch, api_key: str, dead_port: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{dead_port}/v1")

    async def conversation(transport, service):
        await transport.submit(b"{}", "key-1")
        return service.received

    (request,) = talk(conversation, http.job("queued", 202))
    assert request.header("Authorization") == f"Bearer {api_key}"
