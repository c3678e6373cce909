"""Faults of the network and of bodies: each has the same outcome on both transports; none is an exception."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, closing

import msgspec
import pytest

from runner.transport import Transport
from runner.transport.outcomes import (
    AnyOutcome,
    Gone,
    Pending,
    Rejected,
    RetrieveOutcome,
    SubmitOutcome,
    Transient,
)
from tests.transport.scripted import After, Service, Step, as_json, job, raw
from tests.transport.talking import SHORT_S, Ask, Talk, Verb, post_or_get

VERBS = pytest.mark.parametrize("verb", ["POST", "GET"])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"

WIRE: dict[str, tuple[bytes, After, str]] = {
    "closed at once": (b"", "close", "reset"),
    "reset at once": (b"", "reset", "reset"),
    "status line only": (b"HTTP/1.1 200 OK\r\n", "close", "reset"),
    "half a status line": (b"HTTP/1.1 2", "close", "reset"),
    "half a header": (HEAD + b"Content-Le", "close", "reset"),
    "no HTTP at all": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "close", "not_http"),
    "binary": (b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n", "close", "not_http"),
    "a status that is not a number": (b"HTTP/1.1 abc OK\r\n\r\n", "close", "not_http"),
    "a negative length": (HEAD + b"Content-Length: -5\r\n\r\n", "close", "not_http"),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "close", "not_http"),
    "a header too long": (HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n", "close", "not_http"),
    "a cut body": (HEAD + b'Content-Length: 100\r\n\r\n{"id":"r"', "close", "cut"),
    "a body cut by a reset": (HEAD + b'Content-Length: 100\r\n\r\n{"id":"r"', "reset", "cut"),
    "a cut chunk": (HEAD + b'Transfer-Encoding: chunked\r\n\r\n20\r\n{"id":', "close", "cut"),
    "chunks without an end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "close", "cut"),
    "a chunk without a size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", "close", "not_http"),
    "gzip that is not gzip": (
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        "close",
        "cut",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "keep", "empty"),
}

BODIES = {
    "a web page": (HTML, "html"),
    "a web page after blank lines": (b"\n\n  " + HTML, "html"),
    "empty": (b"", "empty"),
    "white space": (b" \r\n\t ", "empty"),
    "not UTF-8": (b'{"id":"r","status":"completed","t":"\xff\xfe"}', "not_utf8"),
    "UTF-16": ('{"id":"r"}'.encode("utf-16"), "not_utf8"),
    "plain text": (b"upstream connect error", "not_json"),
    "half an object": (b'{"id":"r","status":"comp', "not_json"),
    "an object and more": (b'{"id":"r","status":"completed"}{}', "not_json"),
    "100,000 brackets": (b"[" * 100_000, "not_object"),
    "an object with 100,000 brackets": (
        b'{"id":"r","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "not_json",
    ),
    "a list": (b'[{"id":"r"}]', "not_object"),
    "a number": (b"17", "not_object"),
    "null": (b"null", "not_object"),
    "a string": (b'"resp_1"', "not_object"),
    "no id": (b'{"status":"completed"}', "no_id"),
    "an empty object": (b"{}", "no_id"),
    "an id of null": (b'{"id":null,"status":"completed"}', "no_id"),
    "an id of dots": (b'{"id":"..","status":"completed"}', "no_id"),
    "an empty id": (b'{"id":"","status":"completed"}', "no_id"),
    "an id that is a list": (b'{"id":[7],"status":"completed"}', "not_object"),
    "an error in a success": (b'{"error":{"message":"try later"}}', "no_id"),
}


def failed(verb: Verb, outcome: AnyOutcome, cause: str, *, ambiguous: bool) -> Transient:
    """Return `outcome`, which must be a failure of this cause that has a message."""
    assert isinstance(outcome, Transient), outcome
    assert outcome.cause == cause
    assert outcome.failure.message
    assert msgspec.json.encode(outcome)
    if verb == "POST":
        assert outcome.ambiguous is ambiguous
    return outcome


@VERBS
@pytest.mark.parametrize("name", WIRE)
def test_a_fault_of_the_network_is_transient_and_leaves_a_post_in_doubt(
    ask: Ask, verb: Verb, name: str
) -> None:
    data, after, cause = WIRE[name]
    failed(verb, ask(verb, Step(data, after)), cause, ambiguous=True)


@VERBS
@pytest.mark.parametrize("name", BODIES)
def test_a_success_whose_body_is_not_a_response_object_is_transient(ask: Ask, verb: Verb, name: str) -> None:
    body, cause = BODIES[name]
    outcome = failed(verb, ask(verb, raw(body)), cause, ambiguous=True)
    assert outcome.failure.status_code == 200
    assert len(outcome.failure.message) < 500


@VERBS
def test_a_502_with_any_of_these_bodies_is_still_a_502(talk: Talk, verb: Verb) -> None:
    async def conversation(transport: Transport, service: Service) -> list[SubmitOutcome | RetrieveOutcome]:
        return [await post_or_get(transport, verb) for _ in BODIES]

    for outcome in talk(conversation, *(raw(body, 502) for body, _ in BODIES.values())):
        assert len(failed(verb, outcome, "502", ambiguous=True).failure.message) < 500


@VERBS
def test_silence_ends_with_the_deadline(ask: Ask, verb: Verb) -> None:
    failed(verb, ask(verb, timeout_s=SHORT_S), "timeout", ambiguous=True)


@VERBS
@pytest.mark.parametrize(
    ("data", "drip"),
    [
        pytest.param(HEAD + b"Content-Length: 100000\r\n\r\n{", b" ", id="a body"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="chunks"),
        pytest.param(HEAD, b"X: y\r\n", id="headers"),
    ],
)
def test_an_answer_that_trickles_in_ends_with_the_deadline(
    ask: Ask, verb: Verb, data: bytes, drip: bytes
) -> None:
    failed(verb, ask(verb, Step(data, drip=drip), timeout_s=SHORT_S), "timeout", ambiguous=True)


@VERBS
def test_a_body_that_stops_half_way_ends_with_the_deadline(ask: Ask, verb: Verb) -> None:
    step = Step(HEAD + b"Content-Length: 100\r\n\r\n{", "hang")
    failed(verb, ask(verb, step, timeout_s=SHORT_S), "timeout", ambiguous=True)


def test_after_a_timeout_the_next_exchange_gets_its_own_answer(talk: Talk) -> None:
    async def conversation(transport: Transport, service: Service) -> list[RetrieveOutcome]:
        return [await transport.retrieve("resp_1") for _ in range(2)]

    late, outcome = talk(conversation, Step(HEAD, "hang"), job("running"), timeout_s=0.5)
    failed("GET", late, "timeout", ambiguous=True)
    assert outcome == Pending()


@VERBS
def test_nothing_is_sent_where_nobody_listens(ask: Ask, verb: Verb, dead_port: int) -> None:
    outcome = ask(verb, base_url=f"http://127.0.0.1:{dead_port}/v1")
    outcome = failed(verb, outcome, "connect", ambiguous=False)
    assert str(dead_port) in outcome.failure.message


@VERBS
def test_an_unknown_host_is_named_and_nothing_is_sent(ask: Ask, verb: Verb) -> None:
    outcome = failed(verb, ask(verb, base_url="http://nowhere.invalid/v1"), "connect", ambiguous=False)
    assert "nowhere.invalid" in outcome.failure.message


def test_a_connection_that_is_never_made_leaves_no_doubt(ask: Ask) -> None:
    # A listener with a full queue lets further connections hang, like a firewall that drops packets.
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        outcome = ask("POST", base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout_s=0.5)
    failed("POST", outcome, "connect", ambiguous=False)


@VERBS
def test_https_to_a_service_that_speaks_plain_http_cannot_connect(talk: Talk, verb: Verb) -> None:
    async def conversation(transport: Transport, service: Service) -> SubmitOutcome | RetrieveOutcome:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(plain, "127.0.0.1", tls_port)
        async with server:
            return await post_or_get(transport, verb)

    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        tls_port = taken.getsockname()[1]
    outcome = talk(conversation, base_url=f"https://127.0.0.1:{tls_port}/v1")
    failed(verb, outcome, "connect", ambiguous=False)


@pytest.mark.parametrize("name", ["no HTTP at all", "status line only", "a cut body"])
def test_the_message_of_a_fault_is_one_line_a_person_can_read(ask: Ask, name: str) -> None:
    data, after, _ = WIRE[name]
    message = ask.expect(Transient, "GET", Step(data, after)).failure.message
    assert "\n" not in message
    assert "\\n" not in message
    assert "object at 0x" not in message
    assert "RawResponseMessage" not in message


def test_the_message_of_a_timeout_names_the_time_and_its_setting(ask: Ask) -> None:
    message = ask.expect(Transient, "GET", timeout_s=SHORT_S).failure.message
    assert message == f"no answer within {SHORT_S} s (target.timeout_s)"


@VERBS
@pytest.mark.parametrize("charset", ["undefined", "no-such-charset"])
def test_an_error_in_an_unknown_charset_is_read(ask: Ask, verb: Verb, charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    outcome = ask(verb, as_json({"error": {"message": "no such model"}}, 400, headers))
    assert isinstance(outcome, Rejected | Gone)
    assert outcome.failure.message == "no such model"
