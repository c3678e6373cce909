"""Bytes over the wire are counted exactly: heads and bodies, failed exchanges included."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Unpack

import pytest

from runner.transport import Transport, Upload
from runner.transport.uploads import PIECE_BYTES
from runner.transport.wire import Wire
from tests.transport.scripted import After, Received, Service, Step, as_json, job, raw
from tests.transport.talking import SHORT_S, Options, Talk, exchange

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = b'{"id":"resp_1","status":"completed"}'


async def one_of_each(transport: Transport, upload: Callable[[bytes], Upload]) -> None:
    """Make one exchange of each kind, with an upload of more than one piece."""
    for verb in ("POST", "GET", "CANCEL", "BATCH", "RESULT", "LIST"):
        await exchange(transport, verb, upload)
    await transport.create_batch(upload(bytes(2 * PIECE_BYTES + 7)), "key-1")


def counted(
    talk: Talk,
    conversation: Callable[[Transport], Awaitable[object]],
    *steps: Step,
    **options: Unpack[Options],
) -> tuple[Wire, list[Received]]:
    """Hold a conversation, and return what was counted and what the service received."""
    wire: Wire = Counter()

    async def main(transport: Transport, service: Service) -> list[Received]:
        await conversation(transport)
        return service.received

    options["wire"] = wire
    return wire, talk(main, *steps, **options)


ANSWERS = {
    "a job": job("running"),
    "headers of all sorts": as_json(
        {"id": "resp_1"},
        202,
        {"X-Request-Id": "req_1", "Content-Type": "text/html; charset=latin-1", "X": ""},
    ),
    "a compressed answer": raw(
        gzip.compress(b'{"id":"resp_1","x":"' + b"x" * 5000 + b'"}'), headers={"Content-Encoding": "gzip"}
    ),
    "an error": as_json({"error": {"message": "no"}}, 500),
    "a redirect": raw(b"", 307, {"Location": "http://127.0.0.1/"}),
    "ten megabytes": as_json({"id": "resp_1", "x": "x" * 10_000_000}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_byte_of_an_exchange_is_counted_once(
    talk: Talk, upload: Callable[[bytes], Upload], name: str
) -> None:
    step = ANSWERS[name]
    wire, received = counted(talk, lambda transport: one_of_each(transport, upload), step)

    assert len(received) == 7
    assert wire == {
        "requests": 7,
        "sent_bytes": sum(request.size for request in received),
        "received_bytes": 7 * len(step.data),
    }


def test_nothing_is_sent_where_nobody_listens(
    talk: Talk, upload: Callable[[bytes], Upload], dead_port: int
) -> None:
    wire, received = counted(
        talk, lambda transport: one_of_each(transport, upload), base_url=f"http://127.0.0.1:{dead_port}/v1"
    )

    assert received == []
    assert +wire == {"requests": 7}


@pytest.mark.parametrize("after", ["close", "reset", "hang"])
def test_a_failed_exchange_counts_as_a_request(talk: Talk, after: After) -> None:
    wire, received = counted(
        talk, lambda transport: transport.submit(b"{}", "key-1"), Step(after=after), timeout_s=SHORT_S
    )

    (request,) = received
    assert +wire == {"requests": 1, "sent_bytes": request.size}


WHOLE = {
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n24\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a cut answer": HEAD + b'Content-Length: 100\r\n\r\n{"id":',
    "an answer after another": b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\n{}",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
}


@pytest.mark.parametrize("name", WHOLE)
def test_received_bytes_count_as_they_came(talk: Talk, name: str) -> None:
    if talk.name == "openai":
        pytest.skip("the SDK reports whole answers only, and not how they came")
    wire, _ = counted(talk, lambda transport: transport.retrieve("resp_1"), Step(WHOLE[name], "close"))

    assert wire["received_bytes"] == len(WHOLE[name])


def test_only_the_sent_bytes_of_a_rejected_upload_are_counted(
    talk: Talk, upload: Callable[[bytes], Upload]
) -> None:
    size = 20_000_000
    wire, _ = counted(
        talk,
        lambda transport: transport.create_batch(upload(bytes(size)), "key-1"),
        as_json({"error": {"message": "no"}}, 413, early=True, after="stall"),
    )

    assert 0 < wire["sent_bytes"] < size
