"""HTTP/1.1 as bytes: a strict request parser and the heads of replies. Knows nothing of sockets."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from runner.simulator.api.request import HttpRequest

HEAD_LIMIT: Final = 32 * 1024
BODY_LIMIT: Final = 64 * 1024 * 1024
_CHUNK_LINE_LIMIT: Final = 1024
_LARGE: Final = 1024 * 1024

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) (\S+)")
_HEADER_LINE: Final = re.compile(rb"(" + _TOKEN + rb"):([^\r\n\0]*)\r\n")
_DIGITS: Final = re.compile(rb"[0-9]{1,19}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_ONCE: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"host", b"authorization", b"idempotency-key"}
)


class UnreadableRequest(Exception):
    """The bytes received are not an HTTP request that can be served; the connection must be closed."""

    def __init__(self, status_code: int, message: str) -> None:
        self.status_code = status_code
        super().__init__(message)


class RequestParser:
    """Turns bytes, in whatever pieces they arrive, into requests, one at a time.

    `limits` are the largest bodies by path, in bytes; BODY_LIMIT applies to all other paths.
    """

    def __init__(self, limits: Mapping[str, int] | None = None) -> None:
        self._limits = limits or {}
        self._limit = BODY_LIMIT
        self._buffer = bytearray()
        self._scanned = 0
        self._request: HttpRequest | None = None
        self._missing: int | None = None
        """Length of the current body in bytes; None if it comes in chunks."""
        self._chunks: bytearray = bytearray()
        self.wants_continue = False
        """Whether the client waits for `100 Continue` before it sends the body; reset once that is sent."""

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        self._buffer += data

    def __len__(self) -> int:
        return len(self._buffer)

    def next(self) -> HttpRequest | None:
        """Return the next whole request, or None while there is none. Raises UnreadableRequest."""
        request = self._request or self._head()
        if request is None:
            return None
        body = self._chunked() if self._missing is None else self._take(self._missing)
        if body is None:
            return None
        request.body = body
        self._request = None
        self.wants_continue = False
        return request

    def _take(self, length: int) -> bytes | bytearray | None:
        buffer = self._buffer
        if len(buffer) < length:
            return None
        if len(buffer) == length > _LARGE:
            self._buffer = bytearray()
            return buffer  # not a copy: copying 256 MB would delay all other connections
        with memoryview(buffer) as view:
            body = bytes(view[:length])
        del buffer[:length]
        return body

    def _head(self) -> HttpRequest | None:
        buffer = self._buffer
        if not buffer:
            return None
        while buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: ignore an empty line before a request
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end > HEAD_LIMIT or (end < 0 and len(buffer) > HEAD_LIMIT):
            raise UnreadableRequest(431, f"The head of the request is larger than {HEAD_LIMIT} bytes.")
        if end < 0:
            self._scanned = len(buffer)
            return None
        head = bytes(buffer[: end + 2])
        del buffer[: end + 4]
        self._scanned = 0
        self._request = request = _parse_head(head)
        self._limit = self._limits.get(request.path.partition("?")[0], BODY_LIMIT)
        self._missing = _body_length(request.headers, self._limit)
        expected = request.headers.get(b"expect")
        if expected is not None:
            if expected.lower() != b"100-continue":
                raise UnreadableRequest(417, "The only supported expectation is 100-continue.")
            self.wants_continue = True
        return request

    def _chunked(self) -> bytes | bytearray | None:
        """Return the body once it is whole, or None. Takes chunks off the buffer.

        The body ends with a chunk of size 0, which trailers may follow.
        """
        buffer, done = self._buffer, 0
        while True:
            end = buffer.find(b"\r\n", done, done + _CHUNK_LINE_LIMIT)
            if end < 0:
                if len(buffer) - done >= _CHUNK_LINE_LIMIT:
                    raise UnreadableRequest(400, "The size line of a chunk is too long.")
                break
            size_line = _CHUNK_SIZE.fullmatch(buffer, done, end)
            if size_line is None:
                raise UnreadableRequest(400, "The size of a chunk is not a hexadecimal number.")
            size = int(size_line[1], 16)
            if len(self._chunks) + size > self._limit:
                raise _too_large(self._limit)
            if size == 0:
                trailers_end = self._trailers_end(end)
                if trailers_end is None:
                    break
                del buffer[:trailers_end]
                body, self._chunks = self._chunks, bytearray()
                return body if len(body) > _LARGE else bytes(body)
            start = end + 2
            if len(buffer) < start + size + 2:
                break
            if buffer[start + size : start + size + 2] != b"\r\n":
                raise UnreadableRequest(400, "A chunk does not have the length that it announces.")
            with memoryview(buffer) as view:
                self._chunks += view[start : start + size]
            done = start + size + 2
        del buffer[:done]
        return None

    def _trailers_end(self, size_end: int) -> int | None:
        """Return where the body ends, after its trailers, which are ignored; None until they have arrived."""
        if self._buffer[size_end + 2 : size_end + 4] == b"\r\n":
            return size_end + 4
        end = self._buffer.find(b"\r\n\r\n", size_end)
        if end < 0:
            if len(self._buffer) - size_end > HEAD_LIMIT:
                raise UnreadableRequest(431, "The trailers are too large.")
            return None
        return end + 4


def _too_large(limit: int) -> UnreadableRequest:
    return UnreadableRequest(413, f"The request body is larger than {limit} bytes.")


def _parse_head(head: bytes) -> HttpRequest:
    """Return the request of a head, which ends with the line end of its last line."""
    line, _, rest = head.partition(b"\r\n")
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise UnreadableRequest(400, "The request line is malformed.")
    method, target, version = found.groups()
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise UnreadableRequest(505, "Only HTTP/1.1 and HTTP/1.0 are supported.")
    headers = _parse_headers(rest)
    if version == b"HTTP/1.1" and b"host" not in headers:
        raise UnreadableRequest(400, "The header host is missing.")
    connection = headers.get(b"connection", b"").lower()
    keep_alive = b"close" not in connection if version == b"HTTP/1.1" else b"keep-alive" in connection
    return HttpRequest(method.decode(), _path(target), headers, keep_alive, chunks=version == b"HTTP/1.1")


def _parse_headers(lines: bytes) -> dict[bytes, bytes]:
    found = _HEADER_LINE.findall(lines)
    # Malformed lines are not found; then the lengths of those that were found do not add up.
    if sum(len(name) + len(value) for name, value in found) + 3 * len(found) != len(lines):
        raise UnreadableRequest(400, "A header line is malformed.")
    headers = {name.lower(): value.strip(b" \t") for name, value in found}
    if len(headers) < len(found):
        names = [name.lower() for name, _ in found]
        twice = next((name for name in _ONCE if names.count(name) > 1), None)
        if twice is not None:
            raise UnreadableRequest(400, f"The header {twice.decode()} appears twice.")
    return headers


def _path(target: bytes) -> str:
    text = target.decode()
    if text.startswith("/"):
        return text
    scheme, _, rest = text.partition("://")  # the absolute form, as it is sent to proxies
    if scheme.lower() not in ("http", "https"):
        raise UnreadableRequest(400, "The request target is malformed.")
    return "/" + rest.partition("/")[2]


def _body_length(headers: dict[bytes, bytes], limit: int) -> int | None:
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is not None:
        # Requests are smuggled past proxies with both at once.
        if length is not None:
            raise UnreadableRequest(400, "Content-Length and Transfer-Encoding exclude each other.")
        if coding.lower() != b"chunked":
            raise UnreadableRequest(501, "The only supported transfer coding is chunked.")
        return None
    if length is None:
        return 0
    if not _DIGITS.fullmatch(length):
        raise UnreadableRequest(400, "Content-Length is not a number.")
    if int(length) > limit:
        raise _too_large(limit)
    return int(length)


_REASONS: Final = {code.value: code.phrase for code in HTTPStatus}


class ReplyHeads:
    """Writes the heads of replies. Owns the date, formatted once a second, and the count of request ids."""

    def __init__(self) -> None:
        self._second = -1
        self._date = ""
        self._prefix = f"req_{time.time_ns():x}"
        self._count = 0

    def head(self, status_code: int, content_type: str, length: int | None, extra: str, close: bool) -> bytes:
        """Return the head of a reply.

        A `length` of None announces a body in chunks; `extra` are whole header lines.
        """
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        self._count += 1
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        if close:
            framing += "\r\nConnection: close"
        return (
            f"HTTP/1.1 {status_code} {_REASONS.get(status_code, 'Overloaded')}\r\n"
            f"Date: {self._date}\r\nX-Request-Id: {self._prefix}{self._count:x}\r\n"
            f"Content-Type: {content_type}\r\n{extra}{framing}\r\n\r\n"
        ).encode("latin-1")
