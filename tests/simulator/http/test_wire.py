"""The HTTP parser: requests are read in whatever pieces they arrive; unreadable ones are refused."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.simulator.api.request import HttpRequest
from runner.simulator.http import wire
from runner.simulator.http.wire import BODY_LIMIT, HEAD_LIMIT, RequestParser, UnreadableRequest

POST = b"POST /v1/responses HTTP/1.1\r\nHost: h\r\nX-A:  b \r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
)
GET = b"GET /v1/models?x=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def parse(*pieces: bytes) -> list[HttpRequest]:
    """Return the requests in a stream that arrives in these pieces."""
    parser, requests = RequestParser(), []
    for piece in pieces:
        parser.feed(piece)
        while (request := parser.next()) is not None:
            requests.append(request)
    return requests


def test_requests_are_read() -> None:
    post, chunked, get = parse(POST + CHUNKED + b"\r\n" + GET)
    assert (post.method, post.path, post.body, post.keep_alive) == ("POST", "/v1/responses", b"hello", True)
    assert post.headers[b"x-a"] == b"b"
    assert chunked.body == b"abc0123456789"
    assert (get.path, get.keep_alive) == ("/v1/models?x=1", False)


@given(st.lists(st.integers(0, len(POST + CHUNKED + GET)), max_size=12))
def test_requests_do_not_depend_on_the_pieces_that_they_arrive_in(cuts: list[int]) -> None:
    data = POST + CHUNKED + GET
    edges = [0, *sorted(cuts), len(data)]
    assert parse(*(data[a:b] for a, b in itertools.pairwise(edges))) == parse(data)


def head(*lines: bytes) -> bytes:
    """Return the head of a request."""
    return b"\r\n".join([*lines, b"", b""])


UNREADABLE = {
    "no request line": (400, head(b"hello", b"Host: h")),
    "four words": (400, head(b"GET / / HTTP/1.1", b"Host: h")),
    "no path": (400, head(b"GET responses HTTP/1.1", b"Host: h")),
    "control character": (400, head(b"GET /\x01 HTTP/1.1", b"Host: h")),
    "HTTP/2": (505, head(b"GET / HTTP/2.0", b"Host: h")),
    "no host": (400, head(b"GET / HTTP/1.1", b"A: b")),
    "two hosts": (400, head(b"GET / HTTP/1.1", b"Host: h", b"host: i")),
    "space before the colon": (400, head(b"GET / HTTP/1.1", b"Host : h")),
    "no colon": (400, head(b"GET / HTTP/1.1", b"Host: h", b"hello")),
    "folded line": (400, head(b"GET / HTTP/1.1", b"Host: h", b" folded")),
    "bare line feed": (400, head(b"GET / HTTP/1.1", b"Host: h\nA: b")),
    "null": (400, head(b"GET / HTTP/1.1", b"Host: h\0")),
    "length of words": (400, head(b"POST / HTTP/1.1", b"Host: h", b"Content-Length: five")),
    "negative length": (400, head(b"POST / HTTP/1.1", b"Host: h", b"Content-Length: -5")),
    "two lengths": (400, head(b"POST / HTTP/1.1", b"Host: h", b"Content-Length: 5", b"Content-Length: 6")),
    "length and chunks": (
        400,
        head(b"POST / HTTP/1.1", b"Host: h", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    ),
    "gzip": (501, head(b"POST / HTTP/1.1", b"Host: h", b"Transfer-Encoding: gzip, chunked")),
    "expects more": (417, head(b"POST / HTTP/1.1", b"Host: h", b"Expect: 200-ok")),
    "too large a body": (413, head(b"POST / HTTP/1.1", b"Host: h", b"Content-Length: %d" % (BODY_LIMIT + 1))),
    "too large a head": (431, b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"a" * HEAD_LIMIT),
    "chunk size": (400, head(b"POST / HTTP/1.1", b"Host: h", b"Transfer-Encoding: chunked") + b"xyz\r\n"),
    "endless chunk size": (
        400,
        head(b"POST / HTTP/1.1", b"Host: h", b"Transfer-Encoding: chunked") + b"0" * 2000,
    ),
    "chunk too long": (
        400,
        head(b"POST / HTTP/1.1", b"Host: h", b"Transfer-Encoding: chunked") + b"2\r\nabcd\r\n",
    ),
    "large trailers": (
        431,
        head(b"POST / HTTP/1.1", b"Host: h", b"Transfer-Encoding: chunked") + b"0\r\nA: " + b"a" * HEAD_LIMIT,
    ),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_an_unreadable_request_is_refused_with_its_status_code(what: str) -> None:
    status_code, data = UNREADABLE[what]
    with pytest.raises(UnreadableRequest) as refused:
        parse(data)
    assert refused.value.status_code == status_code


def test_a_chunked_body_that_grows_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_LIMIT", 12)
    with pytest.raises(UnreadableRequest) as refused:
        parse(CHUNKED)
    assert refused.value.status_code == 413


@given(st.binary(max_size=300))
def test_any_bytes_are_requests_or_unreadable_or_unfinished(data: bytes) -> None:
    with contextlib.suppress(UnreadableRequest):
        assert all(request.method for request in parse(data))


def test_the_parser_reports_that_a_client_expects_100_until_its_body_has_arrived() -> None:
    parser = RequestParser()
    parser.feed(head(b"POST / HTTP/1.1", b"Host: h", b"Content-Length: 2", b"Expect: 100-continue"))
    assert parser.next() is None
    assert parser.wants_continue
    parser.feed(b"ok")
    request = parser.next()
    assert request is not None
    assert request.body == b"ok"
    assert not parser.wants_continue


def test_an_http_1_0_connection_closes_unless_keep_alive_is_asked_for() -> None:
    plain, kept = parse(head(b"GET / HTTP/1.0") + head(b"GET / HTTP/1.0", b"Connection: keep-alive"))
    assert (plain.keep_alive, kept.keep_alive) == (False, True)
