"""A raw-socket service that answers from a script and records what it received."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

After = Literal["keep", "close", "reset", "hang", "stall"]
"""What happens to the connection: `hang` reads on and answers no more, `stall` does not read either."""
A_MOMENT_S = 0.01


@dataclass(frozen=True)
class Step:
    """Treatment of one request: send these bytes, then do something with the connection."""

    data: bytes = b""
    after: After = "keep"
    drip: bytes = b""
    """Sent again and again once `data` is sent, until the client goes away."""
    later: bytes = b""
    """Sent once, a moment after `data`."""
    gate: asyncio.Event | None = None
    """Waited for before anything is sent."""
    early: bool = False
    """Whether to answer after the head of the request, without reading its body."""


@dataclass(frozen=True)
class Received:
    """One request, as it was received."""

    method: str
    target: str
    headers: dict[str, list[str]]
    body: bytes
    connection: int
    size: int
    """Bytes of head and body."""

    def header(self, name: str) -> str | None:
        values = self.headers.get(name.lower(), [])
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None


@dataclass
class Service:
    """Answers the n-th request with the n-th step, and all further ones with the last."""

    steps: tuple[Step, ...]
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    on_request: Callable[[], object] = lambda: None
    """Called with each request, before it is answered."""
    root: str = ""

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self.all_closed = asyncio.Event()
        self.all_closed.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.root = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self.open += 1
        number = self.connections
        self.all_closed.clear()
        try:
            while (request := await self._receive(reader, number)) is not None:
                self.received.append(request)
                self.on_request()
                step = self.steps[min(len(self.received), len(self.steps)) - 1]
                if not await _perform(step, reader, writer):
                    return
        except OSError:
            pass  # the client went away
        finally:
            writer.transport.abort()
            self.open -= 1
            if not self.open:
                self.all_closed.set()

    async def _receive(self, reader: asyncio.StreamReader, connection: int) -> Received | None:
        try:
            request = await _read_head(reader, connection)
            if self.steps[min(len(self.received), len(self.steps) - 1)].early:
                return request
            body = await reader.readexactly(int(request.header("Content-Length") or "0"))
            return replace(request, body=body, size=request.size + len(body))
        except asyncio.IncompleteReadError:
            return None


async def _read_head(reader: asyncio.StreamReader, connection: int) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    method, target, _ = first.split(" ")
    return Received(method, target, headers, b"", connection, len(head))


async def _perform(step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Send what the step says; return whether the connection is kept."""
    if step.gate:
        await step.gate.wait()
    writer.write(step.data)
    await writer.drain()
    if step.later:
        await asyncio.sleep(A_MOMENT_S)  # the fault itself, not a wait for something
        writer.write(step.later)
        await writer.drain()
    while step.drip:
        writer.write(step.drip)
        await writer.drain()
        await asyncio.sleep(A_MOMENT_S)  # the fault itself, not a wait for something
    match step.after:
        case "hang":
            await reader.read()  # until the client goes away
        case "stall":
            await asyncio.Event().wait()
        case "close":
            writer.close()
            await writer.wait_closed()
        case "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
    return step.after == "keep"


def raw(
    body: bytes,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    after: After = "keep",
    gate: asyncio.Event | None = None,
    early: bool = False,
) -> Step:
    """Return an answer with this body."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    data = f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode("latin-1") + body
    return Step(data, after=after, gate=gate, early=early)


def as_json(
    value: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    after: After = "keep",
    gate: asyncio.Event | None = None,
    early: bool = False,
) -> Step:
    """Return an answer whose body is `value` as JSON."""
    return raw(json.dumps(value).encode(), status, headers, after=after, gate=gate, early=early)


def job(word: str | None, status: int = 200, *, gate: asyncio.Event | None = None) -> Step:
    """Return an answer with the response object `resp_1`, whose status is `word`."""
    return as_json({"id": "resp_1", "object": "response", "status": word}, status, gate=gate)
