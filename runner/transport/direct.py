"""The default transport, on aiohttp's connections and HTTP parser: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from runner import __version__
from runner.config import RunConfig
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
from runner.transport.urls import batch_path, list_query, segment
from runner.transport.wire import CountingConnector, Wire

DNS_CACHE_S: Final = 300
_NO_TRACES: Final[list[Any]] = []
_NETWORK_ERRORS: Final = (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError)


class Direct:
    """Exchanges with one service over a pool of connections, as many as there are workers that use it.

    aiohttp's session builds URL, header and timer objects, handles redirects and cookies, and starts a task
    to write the body, for every request. All requests of a run have these in common, so they are prepared
    once: a request is a prepared head and a body, written as bytes to a connection of aiohttp's connector,
    whose parser reads the answer. See docs/decisions/below-the-session.md.
    """

    def __init__(self, config: RunConfig, base_url: str, key: str, wire: Wire) -> None:
        target = config.target
        self._wire = wire
        self._scrub = Scrubber(key)
        self._timeout = Timeout(self._scrub, target.timeout_s, "target.timeout_s")
        self._upload_timeout = Timeout(self._scrub, config.batch.timeout_s, "batch.timeout_s")
        self._connector = CountingConnector(wire, ttl_dns_cache=DNS_CACHE_S)
        self._connect_timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SHARE * target.timeout_s
        )
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
        return await self._exchange(f"{before}{segment(job_id)}{after}".encode(), read_retrieve, job_id)

    async def cancel(self, job_id: str) -> CancelOutcome:
        before, after = self._cancel
        request = f"{before}{segment(job_id)}{after}".encode()
        return await self._exchange(request, read_cancel, job_id)

    async def create_batch(self, content: Upload, idempotency_key: str) -> CreateOutcome:
        key_line = f"{self._key_line}{idempotency_key}\r\n" if self._key_line else ""
        head = f"{self._post_batch}{key_line}Content-Length: {content.size_bytes}\r\n\r\n"
        return await self._exchange(head.encode(), read_create, upload=content)

    async def retrieve_batch(self, batch_id: str) -> BatchOutcome:
        return await self._exchange(self._get_batches_below(batch_path(batch_id)), read_statuses, batch_id)

    async def batch_result(self, batch_id: str, custom_id: str) -> RetrieveOutcome:
        return await self._exchange(self._get_batches_below(batch_path(batch_id, custom_id)), read_result)

    async def list_batches(self, before_id: str | None, limit: int) -> ListOutcome:
        return await self._exchange(self._get_batches_below(list_query(before_id, limit)), read_list)

    async def close(self) -> None:
        self._timeout.deadlines.close()
        self._upload_timeout.deadlines.close()
        await self._connector.close()

    def _get_batches_below(self, below: str) -> bytes:
        before, after = self._get_batches
        return f"{before}{below}{after}".encode()

    async def _exchange(
        self, request: bytes, read: Reader[Outcome], job_id: str = "", upload: Upload | None = None
    ) -> Outcome | Transient:
        timeout = self._timeout if upload is None else self._upload_timeout
        self._wire["requests"] += 1
        try:
            with timeout.deadlines:
                status, headers, content = await self._send(request, upload)
        except _NETWORK_ERRORS as error:
            return timeout.faults.transient(error)
        return read(status, Headers(headers, self._scrub), self._scrub.body(content), time.time(), job_id)

    async def _connect(self) -> tuple[Connection, ResponseHandler]:
        """Return a connection on which nothing was received since the last answer."""
        while True:
            try:
                connection = await self._connector.connect(self._route, _NO_TRACES, self._connect_timeout)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError(f"{self._route.url.host}: timed out") from error
            protocol = cast("ResponseHandler", connection.protocol)
            if not protocol.should_close:
                return connection, protocol
            connection.close()  # bytes that came while it was idle would be taken for the next answer

    async def _send(self, request: bytes, upload: Upload | None) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request, with the body in `request` or from `upload`; return status, headers and body.

        An answer may come before all of an upload is sent, such as a rejection; the rest is then not sent.
        Raises `_NETWORK_ERRORS`, and `StorageError` for an upload that cannot be read.
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
        except BaseException:  # in the middle of an exchange: the connection cannot be used again
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
        if transport is None or transport.is_closing():  # lost while it was idle in the pool
            raise aiohttp.ClientConnectionResetError("Connection lost before the request was written")
        transport.write(request)
        self._wire["sent_bytes"] += len(request)


def _route(url: str, key: str) -> aiohttp.ClientRequest:
    """Make the one request object, which is never sent.

    It tells the connector where to connect, and holds the headers of all requests. Raises `ConfigError` for a
    proxy that cannot be used.
    """
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
    """Return the request target (RFC 9112, 3.2): the path, or the whole URL for a proxy without a tunnel."""
    return str(route.url) if route.proxy is not None and not route.is_ssl() else route.url.raw_path
