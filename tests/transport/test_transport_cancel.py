"""Cancellation of a job: the request, and the outcome of each kind of answer; the same on both transports."""

from __future__ import annotations

from typing import Unpack
from urllib.parse import unquote

import msgspec
import pytest

from runner.transport import Transport
from runner.transport.outcomes import (
    Accepted,
    CancelOutcome,
    Done,
    Pending,
    Rejected,
    SubmitOutcome,
    Throttled,
    Transient,
    Unauthorised,
)
from tests.transport.scripted import After, Received, Service, Step, as_json, job, raw
from tests.transport.talking import API_KEY, SHORT_S, Ask, Options, Talk

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PAGE = b"<!DOCTYPE html><html><body><h1>Hello</h1></body></html>"
ENVELOPE = {"error": {"message": "No such thing.", "type": "some_error", "param": None, "code": "some_code"}}
ODD_IDS = ["a/b", "a b", "a?b=c", "a#b", "a%2Fb", "a%b", "Zoë", "a+b&c;d:e@f", "a\\b", "a..b", "a\nb"]


def asked(talk: Talk, job_id: str = "resp_1", **options: Unpack[Options]) -> Received:
    """Cancel a job, and return the one request that was received."""

    async def conversation(transport: Transport, service: Service) -> list[Received]:
        await transport.cancel(job_id)
        return service.received

    (request,) = talk(conversation, job("cancelled"), **options)
    return request


@pytest.mark.parametrize("path", ["", "/v1", "/gateway/openai/v1"])
def test_a_cancellation_is_a_post_without_a_body_to_the_job_with_the_key(talk: Talk, path: str) -> None:
    request = asked(talk, path=path)
    assert (request.method, request.target) == ("POST", f"{path}/responses/resp_1/cancel")
    assert request.body == b""
    assert request.header("Content-Length") in (None, "0")
    assert request.header("Transfer-Encoding") is None
    assert request.header("Authorization") == f"Bearer {API_KEY}"
    assert request.header("Accept") == "application/json"


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Request-Token", None])
def test_a_cancellation_has_no_idempotency_key(talk: Talk, header: str | None) -> None:
    request = asked(talk, idempotency_header=header)
    assert request.header("Idempotency-Key") is None
    assert request.header("X-Request-Token") is None


@pytest.mark.parametrize("job_id", ODD_IDS)
def test_an_odd_job_id_stays_one_segment_of_the_path(talk: Talk, job_id: str) -> None:
    *path, quoted, action = asked(talk, job_id).target.split("/")
    assert (path, action) == (["", "v1", "responses"], "cancel")
    assert "?" not in quoted
    assert "#" not in quoted
    assert unquote(quoted) == job_id


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize(
    ("word", "ended"),
    [
        ("cancelled", "cancelled"),
        ("CANCELED", "cancelled"),
        ("completed", "completed"),
        ("incomplete", "incomplete"),
        ("failed", "failed"),
    ],
)
def test_an_answer_with_a_job_that_has_ended_is_done(ask: Ask, status: int, word: str, ended: str) -> None:
    body = {"id": "resp_1", "status": word, "usage": {"input_tokens": 3}}
    outcome = ask.expect(Done, "CANCEL", as_json(body, status, {"X-Request-Id": "req_1"}))
    assert (outcome.status, outcome.usage.input) == (ended, 3)
    assert (outcome.reply.status_code, outcome.reply.request_id) == (status, "req_1")
    assert msgspec.json.decode(outcome.reply.body) == body
    assert (outcome.failure is None) == (ended == "completed")


PENDING = {
    "in progress": b'{"id":"resp_1","status":"in_progress"}',
    "cancelling, a word never seen": b'{"id":"resp_1","status":"cancelling"}',
    "no status": b'{"id":"resp_1"}',
    "no id": b'{"status":"cancelled"}',
    "empty": b"",
    "a web page": PAGE,
    "not JSON": b"OK",
    "half an object": b'{"id":"resp_1","status":"canc',
    "not UTF-8": b'{"id":"resp_1","status":"cancelled","t":"\xff"}',
    "true": b"true",
    "a list": b'[{"id":"resp_1","status":"cancelled"}]',
}


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("name", PENDING)
def test_a_success_without_the_end_of_the_job_is_left_to_a_poll(ask: Ask, status: int, name: str) -> None:
    assert ask("CANCEL", raw(PENDING[name], status)) == Pending()


def test_a_success_without_content_is_left_to_a_poll(ask: Ask) -> None:
    assert ask("CANCEL", Step(b"HTTP/1.1 204 No Content\r\n\r\n")) == Pending()


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 422, 501])
def test_a_refusal_is_rejected_with_the_words_of_the_service(ask: Ask, status: int) -> None:
    outcome = ask.expect(Rejected, "CANCEL", as_json(ENVELOPE, status, {"X-Request-Id": "req_1"}))
    assert outcome.has_envelope
    failure = outcome.failure
    assert (failure.message, failure.type, failure.code) == ("No such thing.", "some_error", "some_code")
    assert failure.status_code == status
    assert outcome.reply is not None
    assert (outcome.reply.status_code, outcome.reply.request_id) == (status, "req_1")


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 501])
@pytest.mark.parametrize(("body", "quoted"), [(PAGE, "<h1>Hello</h1>"), (b"", "an empty body")])
def test_a_refusal_without_an_error_envelope_is_rejected(
    ask: Ask, status: int, body: bytes, quoted: str
) -> None:
    outcome = ask.expect(Rejected, "CANCEL", raw(body, status, {"Content-Type": "text/html"}))
    assert not outcome.has_envelope
    assert outcome.reply is None
    assert outcome.failure.status_code == status
    assert quoted in outcome.failure.message


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_key_is_unauthorised(ask: Ask, status: int) -> None:
    outcome = ask.expect(Unauthorised, "CANCEL", as_json(ENVELOPE, status))
    assert (outcome.failure.message, outcome.failure.status_code) == ("No such thing.", status)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_service_that_wants_fewer_requests_is_throttled(ask: Ask, status: int) -> None:
    outcome = ask.expect(Throttled, "CANCEL", as_json(ENVELOPE, status, {"Retry-After": "7"}))
    assert (outcome.cause, outcome.wait_s) == (str(status), 7.0)
    assert outcome.failure.message == "No such thing."


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", PAGE, b'{"error":{"message":"later"}}'])
def test_a_status_that_may_pass_is_transient(ask: Ask, status: int, body: bytes) -> None:
    outcome = ask.expect(Transient, "CANCEL", raw(body, status))
    assert (outcome.cause, outcome.wait_s) == (str(status), None)
    assert outcome.failure.status_code == status


WIRE: dict[str, tuple[bytes, After, str]] = {
    "closed at once": (b"", "close", "reset"),
    "reset at once": (b"", "reset", "reset"),
    "half a header": (HEAD + b"Content-Le", "close", "reset"),
    "no HTTP at all": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "close", "not_http"),
    "a cut body": (HEAD + b'Content-Length: 100\r\n\r\n{"id":"r"', "close", "cut"),
    "a body cut by a reset": (HEAD + b'Content-Length: 100\r\n\r\n{"id":"r"', "reset", "cut"),
    "silence": (b"", "hang", "timeout"),
    "a body that stops half way": (HEAD + b"Content-Length: 100\r\n\r\n{", "hang", "timeout"),
}


@pytest.mark.parametrize("name", WIRE)
def test_a_fault_of_the_network_is_transient_with_its_cause(ask: Ask, name: str) -> None:
    data, after, cause = WIRE[name]
    options: Options = {"timeout_s": SHORT_S} if cause == "timeout" else {}
    outcome = ask.expect(Transient, "CANCEL", Step(data, after), **options)
    assert outcome.cause == outcome.failure.type == cause
    assert outcome.failure.message


def test_a_cancellation_cannot_connect_where_nobody_listens(ask: Ask, dead_port: int) -> None:
    outcome = ask.expect(Transient, "CANCEL", base_url=f"http://127.0.0.1:{dead_port}/v1")
    assert (outcome.cause, outcome.ambiguous) == ("connect", False)
    assert str(dead_port) in outcome.failure.message


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(talk: Talk, status: int) -> None:
    async def conversation(transport: Transport, service: Service) -> tuple[CancelOutcome, int]:
        service.steps = (raw(b"", status, {"Location": f"{service.root}/elsewhere"}),)
        return await transport.cancel("resp_1"), len(service.received)

    outcome, requests = talk(conversation)
    assert isinstance(outcome, Transient)
    assert (outcome.cause, requests) == ("redirect", 1)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_no_library_repeats_a_cancellation_because_of_its_status(talk: Talk, status: int) -> None:
    async def conversation(transport: Transport, service: Service) -> int:
        await transport.cancel("resp_1")
        return len(service.received)

    headers = {"Retry-After": "0", "X-Should-Retry": "true"}
    assert talk(conversation, as_json(ENVELOPE, status, headers)) == 1


@pytest.mark.parametrize("fault", ["close", "reset"])
def test_no_library_repeats_a_cancellation_that_failed_on_a_kept_connection(talk: Talk, fault: After) -> None:
    async def conversation(
        transport: Transport, service: Service
    ) -> tuple[SubmitOutcome, CancelOutcome, int]:
        accepted = await transport.submit(b"{}", "key-1")
        return accepted, await transport.cancel("resp_1"), len(service.received)

    steps = (job("queued", 202), Step(b"", fault), job("cancelled"))
    accepted, outcome, requests = talk(conversation, *steps)
    assert accepted == Accepted(id="resp_1")
    assert isinstance(outcome, Transient)
    assert (outcome.cause, requests) == ("reset", 2)


def test_submit_poll_and_cancellation_share_a_connection(talk: Talk) -> None:
    async def conversation(transport: Transport, service: Service) -> tuple[list[str], int]:
        await transport.submit(b"{}", "key-1")
        await transport.cancel("resp_1")
        await transport.retrieve("resp_1")
        return [request.method for request in service.received], service.connections

    assert talk(conversation, job("running")) == (["POST", "POST", "GET"], 1)
