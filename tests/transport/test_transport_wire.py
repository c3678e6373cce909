"""What goes over the wire is counted to the byte: heads and bodies, of exchanges that failed, too."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from runner.transport import Upload
from runner.transport.uploads import PIECE_BYTES
from tests.transport.conftest import Http

SHORT_S = 0.3
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = b'{"id":"resp_1","status":"completed"}'


async def one_of_each(transport, upload):
    await transport.submit(b'{"input":"hi"}', "key-1")
    await transport.retrieve("resp/1")
    await transport.cancel("resp_1")
    await transport.create_batch(upload(bytes(2 * PIECE_BYTES + 7)), "key-1")
    await transport.retrieve_batch("batch_1")
    await transport.batch_result("batch_1", "row-1")
    await transport.list_batches("batch 1", 25)


def counted(talk, conversation, *steps, **options):
    """The wire of a conversation that is given its service, and what the service received."""
    wire: Counter[str] = Counter()

    async def main(transport, service):
        await conversation(transport)
        return service.received

    return wire, talk(main, *steps, wire=wire, **options)


ANSWERS = {
    "a job": lambda http: http.job("running"),
    "headers of all sorts": lambda http: http.json(
        {"id": "resp_1"},
        202,
        {"X-Request-Id": "req_1", "Content-Type": "text/html; charset=latin-1", "X": ""},
    ),
    "a compressed answer": lambda http: http.raw(
        gzip.compress(b'{"id":"resp_1","x":"' + b"x" * 5000 + b'"}'), headers={"Content-Encoding": "gzip"}
    ),
    "an error": lambda http: http.json({"error": {"message": "no"}}, 500),
    "a redirect": lambda http: http.raw(b"", 307, {"Location": "http://127.0.0.1/"}),
    "ten megabytes": lambda http: http.json({"id": "resp_1", "x": "x" * 10_000_000}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_byte_of_an_exchange_is_counted_once(
    talk: Callable[..., Any], http: type[Http], upload: Callable[[bytes], Upload], name: Any
) -> None:
    step = ANSWERS[name](http)
    wire, received = counted(talk, lambda transport: one_of_each(transport, upload), step)

    assert len(received) == 7
    assert wire == {
        "requests": 7,
        "sent_bytes": sum(request.size for request in received),
        "received_bytes": 7 * len(step.data),
    }


def test_where_nobody_listens_nothing_is_sent(
    talk: Callable[..., Any], upload: Callable[[bytes], Upload], dead_port: int
) -> None:
    wire, received = counted(
        talk, lambda transport: one_of_each(transport, upload), base_url=f"http://127.0.0.1:{dead_port}/v1"
    )

    assert received == []
    assert +wire == {"requests": 7}


@pytest.mark.parametrize("after", ["close", "reset", "hang"])
def test_an_exchange_that_failed_was_one_all_the_same(
    talk: Callable[..., Any], http: type[Http], after: str
) -> None:
    wire, received = counted(
        talk, lambda transport: transport.submit(b"{}", "key-1"), http.step(after=after), timeout_s=SHORT_S
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
def test_what_came_counts_as_it_came(
    request: pytest.FixtureRequest, talk: Callable[..., Any], http: type[Http], name: Any
) -> None:
    if "openai" in request.node.callspec.params.values():
        pytest.skip("the SDK tells of whole answers only, and not how they came")
    wire, _ = counted(talk, lambda transport: transport.retrieve("resp_1"), http.step(WHOLE[name], "close"))

    assert wire["received_bytes"] == len(WHOLE[name])


def test_of_an_upload_that_was_refused_only_what_was_sent_is_counted(
    talk: Callable[..., Any], http: type[Http], upload: Callable[[bytes], Upload]
) -> None:
    size = 20_000_000
    wire, _ = counted(
        talk,
        lambda transport: transport.create_batch(upload(bytes(size)), "key-1"),
        http.json({"error": {"message": "no"}}, 413, early=True, after="stall"),
    )

    assert 0 < wire["sent_bytes"] < size
