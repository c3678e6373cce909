"""What the tests of the simulator share: settings, a virtual clock, a client, a server process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from runner.config.simulation import Simulator
from runner.simulator import serving
from runner.simulator.api.api import Api
from runner.simulator.api.reply import HttpReply, SlicedWork
from runner.simulator.http.wire import HttpRequest
from runner.simulator.service.ledger import Ledger
from runner.simulator.service.service import Service

KEY = "sk-a-key-that-must-not-be-kept"
OPENAPI = Path(__file__).resolve().parents[2].parent / "shared" / "spec" / "sail-openapi.json"


def settings(**values: Any) -> Simulator:
    """Settings under which a job takes no time, unless told otherwise."""
    return Simulator.model_validate({"latency": {"type": "constant", "mean_s": 0.0}, **values})


def body_of(prompt: object = "What is a fun fact about 7?", **values: Any) -> dict[str, Any]:
    return {"model": "zai-org/GLM-5", "input": prompt, "background": True, **values}


def params_of(prompt: object = "What is a fun fact about 7?", **values: Any) -> dict[str, Any]:
    return {"model": "zai-org/GLM-5", "input": prompt, **values}


def batch_of(*custom_ids: str, label: str | None = None, **values: Any) -> dict[str, Any]:
    """A batch whose prompts are the custom_ids; `values` go into the params of each."""
    requests = [{"custom_id": name, "params": params_of(name, **values)} for name in custom_ids]
    body: dict[str, Any] = {"endpoint": "/v1/responses", "requests": requests}
    return body if label is None else {**body, "label": label}


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Virtual:
    """The API without sockets, in virtual time."""

    def __init__(self, configured: Simulator | None = None, ledger: Ledger | None = None) -> None:
        self.clock = Clock()
        configured = configured or settings()
        self.service = Service(configured, self.clock, ledger)
        self.api = Api(configured, self.service, None)

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | bytes | None = None,
        key: str | None = None,
        api_key: str | None = KEY,
    ) -> HttpReply:
        raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        headers = {} if key is None else {b"idempotency-key": key.encode()}
        if api_key is not None:
            headers[b"authorization"] = b"Bearer " + api_key.encode()
        reply = self.api.answer(HttpRequest(method, path, headers, keep_alive=True, chunks=True, body=raw))
        if reply.work is not None:
            reply = self._worked(reply.work)
        self.api.served(reply, sent=reply.waits_for is None and reply.manner == "whole")
        return reply

    def post(
        self, body: dict[str, Any] | bytes | None = None, key: str | None = None, **more: Any
    ) -> HttpReply:
        return self.call("POST", "/v1/responses", body_of() if body is None else body, key, **more)

    def _worked(self, work: SlicedWork) -> HttpReply:
        """What the work makes, when all of it is done."""
        made = None
        for said in work:
            if isinstance(said, HttpReply):
                made = said
            else:
                self.clock.now += said
        assert made is not None
        return made

    def batch(
        self, body: dict[str, Any] | bytes | None = None, key: str | None = None, **more: Any
    ) -> HttpReply:
        return self.call("POST", "/v1/batches", batch_of("a", "b") if body is None else body, key, **more)

    def create_batch(self, *custom_ids: str, **more: Any) -> str:
        reply = self.batch(batch_of(*custom_ids, **more))
        assert reply.status_code == 200, reply.body
        return str(content(reply)["id"])

    def states(self, batch_id: str) -> list[str]:
        """The words of a batch's requests, in order."""
        told = content(self.call("GET", f"/v1/batches/{batch_id}"))["request_status"]
        return [state["status"] for state in told.values()]

    def result(self, batch_id: str, custom_id: str) -> dict[str, Any]:
        return content(self.call("GET", f"/v1/batches/{batch_id}/{custom_id}"))

    def create(self, prompt: object, **values: Any) -> str:
        reply = self.post(body_of(prompt, **values))
        assert reply.status_code == 202, reply.body
        return str(content(reply)["id"])

    def get(self, job_id: str) -> dict[str, Any]:
        return content(self.call("GET", f"/v1/responses/{job_id}"))


def content(reply: HttpReply) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(reply.body)
    return decoded


def listed(reply: HttpReply) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.body
    decoded: list[dict[str, Any]] = json.loads(reply.body)
    return decoded


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
        headers = {"Content-Type": "application/json"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        if key is not None:
            headers["Idempotency-Key"] = key
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self.session.request(method, self.base_url + path, data=data, headers=headers) as answer:
            return answer.status, json.loads(await answer.read())

    async def post(self, body: object = None, key: str | None = None) -> tuple[int, dict[str, Any]]:
        return await self.call("POST", "/responses", body_of() if body is None else body, key=key)

    async def get(self, job_id: str) -> tuple[int, dict[str, Any]]:
        return await self.call("GET", f"/responses/{job_id}")

    async def until_done(self, job_id: str) -> dict[str, Any]:
        while True:
            _, response = await self.get(job_id)
            if response["status"] not in ("pending", "running", "queued", "in_progress"):
                return response
            await asyncio.sleep(0.01)

    async def until_posts_now(self, count: int) -> None:
        while (await self.stats())["posts_now"] != count:  # noqa: ASYNC110  # it is the server that knows
            await asyncio.sleep(0.005)

    async def stats(self) -> dict[str, Any]:
        async with self.session.get(f"{self.root}/simulator/stats") as answer:
            stats: dict[str, Any] = json.loads(await answer.read())
            return stats

    async def jobs(self) -> list[dict[str, Any]]:
        async with self.session.get(f"{self.root}/simulator/jobs") as answer:
            return [json.loads(line) for line in (await answer.read()).splitlines()]


@asynccontextmanager
async def client_of(base_url: str) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
        yield Client(base_url, session)


@asynccontextmanager
async def simulator(configured: Simulator | None = None, state: Path | None = None) -> AsyncIterator[Client]:
    """A simulator on this loop, and a client of it."""
    async with serving(configured or settings(), state_path=state) as base_url, client_of(base_url) as client:
        yield client


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: h", f"Authorization: Bearer {KEY}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


BODY = json.dumps(body_of()).encode()


@asynccontextmanager
async def raw_connection(base_url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = base_url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


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
    """serve_forever in a process of its own."""
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
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("simulator listening on http://127.0.0.1:"), line
    return line.split()[-1]
