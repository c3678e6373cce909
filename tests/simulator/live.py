"""Shared by the tests of the simulator: a running one, its clients, and one in a process of its own."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from runner.config.simulation import Simulator
from runner.simulator import serving
from tests.simulator.support import KEY, body_of, settings

# --- sockets


class Client:
    """A plain HTTP client of a running simulator."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self.base_url = base_url
        self.root = base_url.removesuffix("/v1")
        self.session = session

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        api_key: str | None = KEY,
    ) -> tuple[int, dict[str, Any]]:
        """Return the status code and the object of a reply."""
        headers = {"Content-Type": "application/json"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        if key is not None:
            headers["Idempotency-Key"] = key
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self.session.request(method, self.base_url + path, data=data, headers=headers) as reply:
            return reply.status, json.loads(await reply.read())

    async def post(self, body: object = None, key: str | None = None) -> tuple[int, dict[str, Any]]:
        """Return the status code and the object of the reply to a POST of a response."""
        return await self.call("POST", "/responses", body_of() if body is None else body, key=key)

    async def get(self, job_id: str) -> tuple[int, dict[str, Any]]:
        """Return the status code and the object of the reply to a GET of a response."""
        return await self.call("GET", f"/responses/{job_id}")

    async def batches(self) -> list[dict[str, Any]]:
        """Return the list of batches."""
        headers = {"Authorization": f"Bearer {KEY}"}
        async with self.session.get(f"{self.base_url}/batches", headers=headers) as reply:
            assert reply.status == 200
            found: list[dict[str, Any]] = await reply.json()
            return found

    async def until_done(self, job_id: str) -> dict[str, Any]:
        """Poll a response until it is done, and return it."""
        while True:
            _, response = await self.get(job_id)
            if response["status"] not in ("pending", "running", "queued", "in_progress"):
                return response
            await asyncio.sleep(0.01)

    async def stats(self) -> dict[str, Any]:
        """Return the stats of the simulator."""
        async with self.session.get(f"{self.root}/simulator/stats") as reply:
            stats: dict[str, Any] = json.loads(await reply.read())
            return stats

    async def until(self, count: str, value: int) -> None:
        """Wait until a count of the stats has this value."""
        while (await self.stats())[count] != value:  # noqa: ASYNC110  # only the server knows
            await asyncio.sleep(0.002)

    async def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs of the simulator."""
        async with self.session.get(f"{self.root}/simulator/jobs") as reply:
            return [json.loads(line) for line in (await reply.read()).splitlines()]


@asynccontextmanager
async def client_of(base_url: str) -> AsyncIterator[Client]:
    """Provide a client of a running simulator."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
        yield Client(base_url, session)


@asynccontextmanager
async def simulator(configured: Simulator | None = None, state: Path | None = None) -> AsyncIterator[Client]:
    """Run a simulator on this event loop, and provide a client of it."""
    async with serving(configured or settings(), state_path=state) as base_url, client_of(base_url) as client:
        yield client


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: h", f"Authorization: Bearer {KEY}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


BODY = json.dumps(body_of()).encode()


@asynccontextmanager
async def raw_connection(base_url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Provide a bare connection to a simulator; it is aborted at the end."""
    host, port = base_url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Read one reply; return its status code, its headers by name in lower case, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers.get("content-length", "0")))


# --- processes

SERVE = """
import sys
from pathlib import Path
from runner.config.simulation import Simulator
from runner.errors import RunnerError
from runner.simulator import serve_forever
settings, port, state, parent_pipe = sys.argv[1:]
try:
    code = serve_forever(
        Simulator.model_validate_json(settings), "127.0.0.1", int(port), Path(state) if state else None,
        parent_pipe == "yes",
    )
except RunnerError as error:
    sys.exit(str(error))
sys.exit(code)
"""


@contextmanager
def server_process(
    configured: Simulator | None = None, state: Path | None = None, port: int = 0, parent_pipe: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run `serve_forever` in a process of its own, which is killed at the end."""
    process = subprocess.Popen(
        [
            sys.executable, "-c", SERVE, (configured or settings()).model_dump_json(), str(port),
            str(state or ""), "yes" if parent_pipe else "no",
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def base_url_of(process: subprocess.Popen[str]) -> str:
    """Return the base URL that a process prints once it listens."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("simulator listening on http://127.0.0.1:"), line
    return line.split()[-1]


@contextmanager
def full_disk(process: subprocess.Popen[str], state: Path, spare: int) -> Iterator[int]:
    """Let a process's state file grow by no more than `spare` bytes; provides its present size."""
    size = state.stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size + spare, resource.RLIM_INFINITY))
    try:
        yield size
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
