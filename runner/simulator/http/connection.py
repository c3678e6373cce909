"""A client's connection: reads requests and sends replies, in order and one exchange at a time."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple, cast

from runner.simulator.api.api import Api
from runner.simulator.api.bodies import error_body
from runner.simulator.api.reply import HttpReply
from runner.simulator.api.request import HttpRequest
from runner.simulator.http.slices import SliceScheduler
from runner.simulator.http.wire import ReplyHeads, RequestParser, UnreadableRequest
from runner.simulator.service.job import SimulatedJob
from runner.simulator.service.refusals import Refusal

_READ_AHEAD: Final = 1024 * 1024
_LEAST_WAIT_S: Final = 0.001
_LINGER_S: Final = 5.0


class _Stream(NamedTuple):
    """A reply whose body is being streamed."""

    pieces: Iterator[bytes]
    request: HttpRequest
    reply: HttpReply


class Connections:
    """The open connections of a server, and what they share."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.heads = ReplyHeads()
        self.scheduler = SliceScheduler()
        self.open: set[Connection] = set()

    def connection(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self)

    def close(self) -> None:
        """Abort all connections and drop unfinished work."""
        self.scheduler.close()
        for connection in tuple(self.open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection. Pipelined requests wait in the parser while an exchange is being served."""

    def __init__(self, shared: Connections) -> None:
        self._shared = shared
        self._api = shared.api
        self._parser = RequestParser(shared.api.body_limits)
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._reply: HttpReply | None = None
        """The reply that is being served, or None."""
        self._timer: asyncio.TimerHandle | None = None
        self._stream: _Stream | None = None
        self._writable = True
        self._reading = True
        self._lingering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._shared.open.add(self)
        self._api.service.stats.connected(len(self._shared.open))

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.open.discard(self)
        self._stream = None
        if self._timer is not None:
            self._timer.cancel()
        if self._reply is not None:
            self._end(self._reply, sent=False)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        self._parser.feed(data)
        if self._reply is None:
            self._serve()
        elif len(self._parser) > _READ_AHEAD and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._stream is not None:
            self._pump(self._stream)
        if self._reply is None:
            self._serve()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def _serve(self) -> None:
        """Serve the requests received so far, until one takes time or the client stops reading."""
        while self._reply is None and self._writable and not self._is_closed():
            try:
                request = self._parser.next()
            except UnreadableRequest as error:
                self._reject(error)
                return
            if request is None:
                if self._parser.wants_continue:
                    self._parser.wants_continue = False
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                if not self._reading:
                    self._reading = True
                    self._transport.resume_reading()
                return
            self._carry_out(request, self._api.answer(request))

    def _is_closed(self) -> bool:
        return self._lingering or self._transport.is_closing()

    def _carry_out(self, request: HttpRequest, reply: HttpReply) -> None:
        """Send the reply now, later, or never."""
        self._reply = reply
        if reply.work is not None:
            self._shared.scheduler.run(reply.work, partial(self._work_done, request, reply))
        elif reply.waits_for is not None:
            wait_s = max(_LEAST_WAIT_S, reply.check_at - time.time())
            self._later(wait_s, self._resume, request, reply, reply.waits_for)
        elif reply.manner == "hang":
            return
        elif reply.delay_s > 0:
            self._later(reply.delay_s, self._send, request, reply)
        else:
            self._send(request, reply)

    def _later(self, wait_s: float, do: Callable[..., None], *args: object) -> None:
        def then() -> None:
            self._timer = None
            do(*args)
            self._serve()

        self._timer = asyncio.get_running_loop().call_later(wait_s, then)

    def _work_done(self, request: HttpRequest, waiting: HttpReply, reply: HttpReply) -> None:
        if self._reply is waiting:  # otherwise the client has gone away
            self._carry_out(request, reply)
            self._serve()

    def _resume(self, request: HttpRequest, reply: HttpReply, job: SimulatedJob) -> None:
        self._carry_out(request, self._api.resume(reply, job))

    def _send(self, request: HttpRequest, reply: HttpReply) -> None:
        if reply.manner == "reset":
            self._end(reply, sent=False)
            self._reset()
        elif reply.manner == "close":
            self._end(reply, sent=False)
            self._transport.close()
        elif reply.stream is not None:
            self._send_stream(request, reply, reply.stream)
        else:
            self._send_body(request, reply)

    def _send_body(self, request: HttpRequest, reply: HttpReply) -> None:
        body, length = reply.body, len(reply.body)
        if reply.manner == "cut":
            body = body[: length // 2]
        elif request.method == "HEAD":
            body = b""
        close = not request.keep_alive
        extra = f"Retry-After: {reply.retry_after}\r\n" if reply.retry_after is not None else ""
        if reply.allow is not None:
            extra += f"Allow: {reply.allow}\r\n"
        head = self._shared.heads.head(reply.status_code, reply.content_type, length, extra, close)
        self._transport.write(head + body)
        self._end(reply, sent=True)
        if close or reply.manner == "cut":
            self._transport.close()

    def _send_stream(self, request: HttpRequest, reply: HttpReply, pieces: Iterator[bytes]) -> None:
        if request.chunks:
            head = self._shared.heads.head(200, reply.content_type, None, "", not request.keep_alive)
            self._transport.write(head)
            self._stream = _Stream(pieces, request, reply)
            self._pump(self._stream)
        else:
            reply.body = b"".join(pieces)
            self._send_body(request, reply)

    def _pump(self, stream: _Stream) -> None:
        """Write the streamed body as fast as the client reads it."""
        while self._writable and not self._transport.is_closing():
            piece = next(stream.pieces, None)
            if piece is None:
                self._stream = None
                self._transport.write(b"0\r\n\r\n")
                self._end(stream.reply, sent=True)
                if not stream.request.keep_alive:
                    self._transport.close()
                return
            self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def _end(self, reply: HttpReply, *, sent: bool) -> None:
        self._reply = None
        self._api.served(reply, sent=sent)

    def _reset(self) -> None:
        # With a linger time of 0 the kernel sends RST, which the client sees as a connection reset.
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _reject(self, error: UnreadableRequest) -> None:
        body = error_body(Refusal(error.status_code, str(error), code="bad_request"))
        head = self._shared.heads.head(error.status_code, "application/json", len(body), "", True)
        self._transport.write(head + body)
        if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            self._linger()
        else:
            self._transport.close()

    def _linger(self) -> None:
        """Send no more, and discard what still arrives for a while before closing.

        A connection that is closed while a body arrives is reset, and its client may never read the reply.
        """
        self._lingering = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._timer = asyncio.get_running_loop().call_later(_LINGER_S, self._transport.close)
