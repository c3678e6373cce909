"""The openai SDK on its aiohttp client, for those who need its exact behaviour. Its own retries are off."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from urllib.parse import quote

import aiohttp
import httpx2
import openai

from runner.config.sections import RunConfig
from runner.transport.deadlines import Deadlines
from runner.transport.faults import CONNECT_SHARE, Faults
from runner.transport.outcomes import CancelOutcome, Outcome, RetrieveOutcome, SubmitOutcome, Transient
from runner.transport.proxies import proxy_for
from runner.transport.reading import Reader, read_cancel, read_retrieve, read_submit
from runner.transport.scrub import Headers, Scrubber

_NETWORK_ERRORS = (openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError, OSError)
_UNREADABLE = (ValueError, UnicodeError)
"""What the SDK's client raises for headers that it cannot hold."""


class Sdk:
    """Sends the request's own bytes through the SDK, and reads the bytes that it received."""

    def __init__(self, config: RunConfig, base_url: str, key: str) -> None:
        self._idempotency_header = config.target.idempotency_header
        proxy_for(base_url)  # only to refuse one that cannot be used; the SDK finds it by itself
        timeout_s = config.target.timeout_s
        self._scrub = Scrubber(key)
        self._faults = Faults(self._scrub, timeout_s)
        self._deadlines = Deadlines(timeout_s)
        # Given as a number: the SDK's default is 1000 connections, and no number becomes aiohttp's 100.
        connections = config.submit.concurrency + config.poll.concurrency
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key,
            max_retries=0,
            timeout=httpx2.Timeout(timeout_s, connect=CONNECT_SHARE * timeout_s),
            http_client=openai.DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
                follow_redirects=False,
                event_hooks={"response": [_forget_charset]},
            ),
        )

    async def submit(self, body: bytes, idempotency_key: str) -> SubmitOutcome:
        headers = {self._idempotency_header: idempotency_key} if self._idempotency_header else {}
        call = self._client.post(
            "/responses", cast_to=httpx2.Response, content=body, options={"headers": headers}
        )
        return await self._exchange(call, read_submit)

    async def retrieve(self, job_id: str) -> RetrieveOutcome:
        call = self._client.get(f"/responses/{quote(job_id, safe='')}", cast_to=httpx2.Response)
        return await self._exchange(call, read_retrieve, job_id)

    async def cancel(self, job_id: str) -> CancelOutcome:
        call = self._client.post(f"/responses/{quote(job_id, safe='')}/cancel", cast_to=httpx2.Response)
        return await self._exchange(call, read_cancel, job_id)

    async def close(self) -> None:
        self._deadlines.close()
        await self._client.close()

    async def _exchange(
        self, call: Awaitable[httpx2.Response], read: Reader[Outcome], job_id: str = ""
    ) -> Outcome | Transient:
        """Await one call within the whole deadline; the SDK's own timeouts are per read."""
        try:
            with self._deadlines:
                answer = await call
        except openai.APIStatusError as error:
            answer = error.response
        except _NETWORK_ERRORS as error:
            if isinstance(error.__cause__, httpx2.DecodingError):
                error = aiohttp.ClientPayloadError(str(error.__cause__))
            return self._faults.transient(error)
        except _UNREADABLE as error:
            return self._faults.transient(aiohttp.http_exceptions.BadHttpMessage(str(error)))
        headers = Headers(answer.headers, self._scrub)
        return read(answer.status_code, headers, self._scrub.body(answer.content), time.time(), job_id)


async def _forget_charset(response: httpx2.Response) -> None:
    """Bodies are read as bytes; the SDK reads the text of an error, and raises on a charset that is none."""
    response.headers["content-type"] = "application/json"
