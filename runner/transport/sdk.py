"""The transport on the openai SDK and its aiohttp client, with the SDK's own retries off."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from contextlib import suppress

import aiohttp
import httpx2
import openai

from runner.config import RunConfig
from runner.errors import StorageError
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
from runner.transport.uploads import Upload
from runner.transport.urls import batch_path, list_query, segment
from runner.transport.wire import Wire

_NETWORK_ERRORS = (openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError, OSError)
_UNREADABLE = (ValueError, UnicodeError)
"""Raised by the SDK's client for headers that it cannot represent."""


class Sdk:
    """Exchanges through the SDK, which sends the bytes of a request and returns the bytes of the answer."""

    def __init__(self, config: RunConfig, base_url: str, key: str, wire: Wire) -> None:
        target = config.target
        self._wire = wire
        self._idempotency_header = target.idempotency_header
        proxy_for(base_url)  # only to refuse a proxy that cannot be used; the SDK finds it by itself
        self._scrub = Scrubber(key)
        self._timeout = Timeout(self._scrub, target.timeout_s, "target.timeout_s")
        self._upload_timeout = Timeout(self._scrub, config.batch.timeout_s, "batch.timeout_s")
        self._connect_s = CONNECT_SHARE * target.timeout_s
        # A number is needed: the SDK's default is 1,000 connections, and None becomes aiohttp's 100.
        connections = config.posts_at_once + config.poll.concurrency
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key,
            max_retries=0,
            timeout=httpx2.Timeout(target.timeout_s, connect=self._connect_s),
            http_client=openai.DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
                follow_redirects=False,
                event_hooks={
                    "request": [self._count_request],
                    "response": [self._count_head, _forget_charset],
                },
            ),
        )

    async def submit(self, body: bytes, idempotency_key: str) -> SubmitOutcome:
        call = self._client.post(
            "/responses",
            cast_to=httpx2.Response,
            content=body,
            options={"headers": self._key_header(idempotency_key)},
        )
        return await self._exchange(call, read_submit)

    async def retrieve(self, job_id: str) -> RetrieveOutcome:
        call = self._client.get(f"/responses/{segment(job_id)}", cast_to=httpx2.Response)
        return await self._exchange(call, read_retrieve, job_id)

    async def cancel(self, job_id: str) -> CancelOutcome:
        call = self._client.post(f"/responses/{segment(job_id)}/cancel", cast_to=httpx2.Response)
        return await self._exchange(call, read_cancel, job_id)

    async def create_batch(self, content: Upload, idempotency_key: str) -> CreateOutcome:
        length = {"Content-Length": str(content.size_bytes)}  # without it the SDK would send chunks
        call = self._client.post(
            "/batches",
            cast_to=httpx2.Response,
            content=content.pieces(self._wire),
            options={
                "headers": {**self._key_header(idempotency_key), **length},
                "timeout": httpx2.Timeout(self._upload_timeout.timeout_s, connect=self._connect_s),
            },
        )
        return await self._exchange(call, read_create, within=self._upload_timeout)

    async def retrieve_batch(self, batch_id: str) -> BatchOutcome:
        return await self._exchange(self._get_batches_below(batch_path(batch_id)), read_statuses, batch_id)

    async def batch_result(self, batch_id: str, custom_id: str) -> RetrieveOutcome:
        return await self._exchange(self._get_batches_below(batch_path(batch_id, custom_id)), read_result)

    async def list_batches(self, before_id: str | None, limit: int) -> ListOutcome:
        return await self._exchange(self._get_batches_below(list_query(before_id, limit)), read_list)

    async def close(self) -> None:
        self._timeout.deadlines.close()
        self._upload_timeout.deadlines.close()
        await self._client.close()

    def _key_header(self, idempotency_key: str) -> dict[str, str]:
        return {self._idempotency_header: idempotency_key} if self._idempotency_header else {}

    def _get_batches_below(self, below: str) -> Awaitable[httpx2.Response]:
        return self._client.get(f"/batches{below}", cast_to=httpx2.Response)

    async def _exchange(
        self,
        call: Awaitable[httpx2.Response],
        read: Reader[Outcome],
        job_id: str = "",
        within: Timeout | None = None,
    ) -> Outcome | Transient:
        """Await one call within its whole deadline: the SDK's own timeouts are per read.

        Raises `StorageError` for an upload that cannot be read.
        """
        within = within or self._timeout
        try:
            with within.deadlines:
                answer = await call
        except openai.APIStatusError as error:
            answer = error.response
        except _NETWORK_ERRORS as error:
            _raise_storage_error(error)
            if isinstance(error.__cause__, httpx2.DecodingError):
                error = aiohttp.ClientPayloadError(str(error.__cause__))
            outcome = within.faults.transient(error)
            if not outcome.ambiguous and isinstance(error, openai.APIConnectionError):
                self._wire["sent_bytes"] -= _sent_bytes(error.request)  # it was never sent
            return outcome
        except _UNREADABLE as error:
            return within.faults.transient(aiohttp.http_exceptions.BadHttpMessage(str(error)))
        self._wire["received_bytes"] += answer.num_bytes_downloaded
        headers = Headers(answer.headers, self._scrub)
        return read(answer.status_code, headers, self._scrub.body(answer.content), time.time(), job_id)

    async def _count_request(self, request: httpx2.Request) -> None:
        self._wire["requests"] += 1
        self._wire["sent_bytes"] += _sent_bytes(request)

    async def _count_head(self, response: httpx2.Response) -> None:
        """Count the head of an answer. Bytes of an answer that was cut off cannot be had from the SDK."""
        first = f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n"
        self._wire["received_bytes"] += len(first) + _header_bytes(response.headers)


def _sent_bytes(request: httpx2.Request) -> int:
    """Return the bytes of head and body, without a body from a file: that is counted as it is read."""
    first = len(f"{request.method} HTTP/1.1\r\n ") + len(request.url.raw_path)
    with suppress(httpx2.RequestNotRead):
        first += len(request.content)
    return first + _header_bytes(request.headers)


def _header_bytes(headers: httpx2.Headers) -> int:
    """Return the bytes of all header lines and of the empty line after them."""
    return sum(len(name) + len(value) + 4 for name, value in headers.raw) + 2


def _raise_storage_error(error: BaseException) -> None:
    """Raise the `StorageError` of an upload, which three libraries have wrapped in errors of their own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StorageError):
            raise cause
        cause = cause.__cause__


async def _forget_charset(response: httpx2.Response) -> None:
    """Overwrite the content type: the SDK decodes the text of errors, and raises for an unknown charset."""
    response.headers["content-type"] = "application/json"
