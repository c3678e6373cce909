"""The default transport: aiohttp's connections and its HTTP parser, bytes in, bytes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import quote

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from runner import __version__
from runner.config import RunConfig
from runner.transport.batch_urls import batch_path, list_query
from runner.transport.faults import CONNECT_SHARE
from runner.transport.outcomes import (
    BatchOutcome,
    CancelOutcome,
    CreateOutcome,
    ListOutcome,
    Outcome,
    RetrieveOutcome,
    SubmitOutcome,
    Transient,
)
from runner.transport.proxies import proxy_for
from runner.transport.reading import Reader, read_cancel, read_result, read_retrieve, read_submit
from runner.transport.reading_batches import read_create, read_list, read_statuses
from runner.transport.scrub import Headers, Scrubber
from runner.transport.timeout import Timeout
from runner.transport.uploads import Sending, Upload
from runner.transport.wire import CountingConnector, Wire

DNS_CACHE_S: Final = 300
_NO_TRACES: Final[list[Any]] = []
_NETWORK_ERRORS: Final = (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError)


class Direct:
    """Requests to one service over a pool of connections, bounded by the number of workers that use it.

    What aiohttp's session does anew for every request (URL, header and timer objects, redirects, cookies,
    a task to write the body) is the same for all of ours, so it is done once: a request is the bytes of a
    prepared head and of a body, written to a connection of aiohttp's connector, whose parser reads the
    answer. See docs/decisions/below-the-session.md.
    """

    def __init__(self, config: RunConfig, base_url: str, key: str, wire: Wire) -> None:
        target = config.target
        self._wire = wire
        self._scrub = Scrubber(key)
        self._usual = Timeout(self._scrub, target.timeout_s, "target.timeout_s")
        self._long = Timeout(self._scrub, config.batch.timeout_s, "batch.timeout_s")
        self._connector = CountingConnector(wire, ttl_dns_cache=DNS_CACHE_S)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SHARE * target.timeout_s)
        self._route = _route(f"{base_url}/responses", key)
        jobs = _request_target(self._route)
        batches = f"{jobs.removesuffix('/responses')}/batches"
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in self._route.headers.items())
        self._get = f"GET {jobs}/", f" HTTP/1.1\r\n{self._headers}\r\n"
        self._cancel = f"POST {jobs}/", f"/cancel HTTP/1.1\r\n{self._headers}Content-Length: 0\r\n\r\n"
        json = f" HTTP/1.1\r\n{self._headers}Content-Type: application/json\r\n"
        self._post = f"POST {jobs}{json}"
        self._post_batch = f"POST {batches}{json}"
        self._get_batches = f"GET {batches}", self._get[1]
        self._key_line = f"{target.idempotency_header}: " if target.idempotency_header else None

    async def submit(self, body: bytes, idempotency_key: str) -> SubmitOutcome:
        key_line = f"{self._key_line}{idempotency_key}\r\n" if self._key_line else ""
        head = f"{self._post}{key_line}Content-Length: {len(body)}\r\n\r\n"
        return await self._exchange(head.encode() + body, read_submit)

    async def retrieve(self, job_id: str) -> RetrieveOutcome:
        before, after = self._get
        return await self._exchange(
            f"{before}{quote(job_id, safe='')}{after}".encode(), read_retrieve, job_id
        )

    async def cancel(self, job_id: str) -> CancelOutcome:
        before, after = self._cancel
        request = f"{before}{quote(job_id, safe='')}{after}".encode()
        return await self._exchange(request, read_cancel, job_id)

    async def create_batch(self, content: Upload, idempotency_key: str) -> CreateOutcome:
        key_line = f"{self._key_line}{idempotency_key}\r\n" if self._key_line else ""
        head = f"{self._post_batch}{key_line}Content-Length: {content.size_bytes}\r\n\r\n"
        return await self._exchange(head.encode(), read_create, upload=content)

    async def look_at_batch(self, batch_id: str) -> BatchOutcome:
        return await self._exchange(self._look(batch_path(batch_id)), read_statuses, batch_id)

    async def batch_result(self, batch_id: str, custom_id: str) -> RetrieveOutcome:
        return await self._exchange(self._look(batch_path(batch_id, custom_id)), read_result)

    async def list_batches(self, before_id: str | None, limit: int) -> ListOutcome:
        return await self._exchange(self._look(list_query(before_id, limit)), read_list)

    async def close(self) -> None:
        self._usual.deadlines.close()
        self._long.deadlines.close()
        await self._connector.close()

    def _look(self, below: str) -> bytes:
        before, after = self._get_batches
        return f"{before}{below}{after}".encode()

    async def _exchange(
        self, request: bytes, read: Reader[Outcome], job_id: str = "", upload: Upload | None = None
    ) -> Outcome | Transient:
        patience = self._usual if upload is None else self._long
        self._wire["requests"] += 1
        try:
            with patience.deadlines:
                status, headers, content = await self._send(request, upload)
        except _NETWORK_ERRORS as error:
            return patience.faults.transient(error)
        return read(status, Headers(headers, self._scrub), self._scrub.body(content), time.time(), job_id)

    async def _connect(self) -> tuple[Connection, ResponseHandler]:
        """A connection on which nothing has come that was not asked for."""
        while True:
            try:
                connection = await self._connector.connect(self._route, _NO_TRACES, self._timeout)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError(f"{self._route.url.host}: not in time") from error
            protocol = cast("ResponseHandler", connection.protocol)
            if not protocol.should_close:
                return connection, protocol
            connection.close()  # an answer to nobody, while it was idle: not to be taken for the next one

    async def _send(self, request: bytes, upload: Upload | None) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer to `request`, which `upload` is the body of.

        An answer may come before all of that was sent: a refusal, for which the rest would be wasted.
        Raises `_NETWORK_ERRORS`, and `StorageError` for an upload.
        """
        connection, protocol = await self._connect()
        sending = None
        try:
            protocol.set_response_params(read_until_eof=True)
            self._write(protocol, request)
            if upload is not None:
                sending = Sending(protocol, upload, self._wire)
            message, payload = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:
                message, payload = await protocol.read()
            if sending is not None:
                sending.stop()
            content = payload.read_nowait() if payload.is_eof() else await payload.read()
        except BaseException:  # in the middle of an exchange: nothing else may use it
            if sending is not None:
                sending.give_up()
            connection.close()
            raise
        if sending is not None and not sending.is_whole:
            sending.give_up()
            connection.close()
        connection.release()
        return message.code, message.headers, content

    def _write(self, protocol: ResponseHandler, request: bytes) -> None:
        transport = protocol.transport
        if transport is None or transport.is_closing():  # lost since it was made, or taken from the pool
            raise aiohttp.ClientConnectionResetError("Connection lost before the request was written")
        transport.write(request)
        self._wire["sent_bytes"] += len(request)


def _route(url: str, key: str) -> aiohttp.ClientRequest:
    """A request that is never sent: it tells the connector where to, and knows the headers of all others."""
    address = URL(url)
    proxy = proxy_for(url)
    route = aiohttp.ClientRequest(
        hdrs.METH_GET,
        address,
        headers={
            hdrs.AUTHORIZATION: f"Bearer {key}",
            hdrs.USER_AGENT: f"responses-runner/{__version__}",
            hdrs.ACCEPT: "application/json",
        },
        loop=asyncio.get_running_loop(),
        proxy=proxy,
    )
    if proxy is not None and proxy.user is not None and not route.is_ssl():
        route.headers[hdrs.PROXY_AUTHORIZATION] = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
    return route


def _request_target(route: aiohttp.ClientRequest) -> str:
    """What stands behind the method (RFC 9112, 3.2): a proxy that is no tunnel wants the whole address."""
    return str(route.url) if route.proxy is not None and not route.is_ssl() else route.url.raw_path
