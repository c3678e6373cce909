"""A raw-socket service that answers from a script and records what it received; and conversations with it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import pytest
import uvloop

from runner.config import RunConfig
from runner.transport import Transport, Upload, open_transport
from runner.transport.wire import Wire

API_KEY = "sk-secret/of+the=customer"
WHOLE_S = 20.0
"""`timeout_s` of exchanges that are not about timeouts: never reached."""
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

After = Literal["keep", "close", "reset", "hang", "stall"]
"""`hang` goes on to read and says nothing more; `stall` does not read either."""


@dataclass(frozen=True)
class Step:
    """What the service does with one request: send these bytes, then something with the connection."""

    data: bytes = b""
    after: After = "keep"
    drip: bytes = b""
    """Sent a byte at a time, for ever, once `data` is out."""
    later: bytes = b""
    """Sent once, a moment after `data`."""
    gate: asyncio.Event | None = None
    """Waited for before anything is sent."""
    early: bool = False
    """After the head of the request, without having read its body."""


@dataclass(frozen=True)
class Received:
    method: str
    target: str
    headers: dict[str, list[str]]
    body: bytes
    connection: int
    size: int
    """In bytes, head and body."""

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
    on_request: Callable[[Received], None] | None = None
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
                if self.on_request:
                    self.on_request(request)
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
    """Whether the connection is kept."""
    if step.gate:
        await step.gate.wait()
    writer.write(step.data)
    await writer.drain()
    if step.later:
        await asyncio.sleep(0.05)  # the fault itself, not a wait for something
        writer.write(step.later)
        await writer.drain()
    while step.drip:
        writer.write(step.drip)
        await writer.drain()
        await asyncio.sleep(0.02)  # the fault itself, not a wait for something
    match step.after:
        case "hang":
            await reader.read()  # until the client goes
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


class Http:
    """Builds the answers of a script."""

    step = Step

    @staticmethod
    def raw(body: bytes, status: int = 200, headers: dict[str, str] | None = None, **step: Any) -> Step:
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return Step(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode("latin-1") + body, **step)

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: dict[str, str] | None = None, **step: Any) -> Step:
        return cls.raw(json.dumps(value).encode(), status, headers, **step)

    @classmethod
    def job(cls, word: str | None, status: int = 200, **step: Any) -> Step:
        return cls.json({"id": "resp_1", "object": "response", "status": word}, status, **step)


@pytest.fixture(scope="session")
def http() -> type[Http]:
    return Http


@pytest.fixture(scope="session")
def api_key() -> str:
    return API_KEY


@pytest.fixture(scope="session")
def no_certificates(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Reading the real ones takes 40 ms a client, and no test here gets as far as needing one."""
    return str(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, no_certificates: str) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", no_certificates)
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that is taken, so that nobody else listens there, and on which nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


Conversation = Callable[[Transport, Service], Awaitable[Any]]


@pytest.fixture(params=["aiohttp", "openai"])
def talk(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs one conversation of the transport under test with a service that answers by the steps given."""

    def talk(conversation: Conversation, *steps: Step, **options: Any) -> Any:
        async def main() -> Any:
            service = Service(steps or (Step(after="hang"),))
            async with service:
                transport = _open(request.param, service.root, **options)
                try:
                    return await conversation(transport, service)
                finally:
                    await transport.close()

        return uvloop.run(main())

    talk.open = partial(_open, request.param, "")  # type: ignore[attr-defined] - a function with an attribute
    return talk


def _open(
    name: str, root: str, *, path: str = "/v1", base_url: str | None = None, key: str = API_KEY,
    concurrency: int = 200, timeout_s: float = WHOLE_S, upload_s: float = WHOLE_S,
    wire: Wire | None = None, **target: Any,
) -> Transport:  # fmt: skip
    config = RunConfig.model_validate(
        {
            "name": "contract",
            "target": {"transport": name, "timeout_s": timeout_s, **target},
            "submit": {"concurrency": concurrency},
            "poll": {"concurrency": concurrency},
            "batch": {"timeout_s": upload_s},
        }
    )
    return open_transport(config, base_url or root + path, key, Counter() if wire is None else wire)


@pytest.fixture
def upload(tmp_path: Path) -> Callable[[bytes], Upload]:
    """A file with these bytes, to be uploaded."""

    def upload(body: bytes) -> Upload:
        path = tmp_path / "batch.json"
        path.write_bytes(body)
        return Upload(path, len(body))

    return upload


@pytest.fixture
def ask(talk: Callable[..., Any], upload: Callable[[bytes], Upload]) -> Callable[..., Any]:
    """One exchange of a kind, against one scripted step → its outcome."""
    exchanges: dict[str, Callable[[Transport], Awaitable[Any]]] = {
        "POST": lambda transport: transport.submit(b'{"model":"m","input":"hi"}', "key-1"),
        "GET": lambda transport: transport.retrieve("resp_1"),
        "CANCEL": lambda transport: transport.cancel("resp_1"),
        "CREATE": lambda transport: transport.create_batch(upload(b'{"requests":[]}'), "key-1"),
        "LOOK": lambda transport: transport.look_at_batch("batch_1"),
        "RESULT": lambda transport: transport.batch_result("batch_1", "row-1"),
        "LIST": lambda transport: transport.list_batches(None, 25),
    }

    def ask(method: str, step: Step | None = None, **options: Any) -> Any:
        async def exchange(transport: Transport, service: Service) -> Any:
            return await exchanges[method](transport)

        return talk(exchange, *((step,) if step else ()), **options)

    return ask
