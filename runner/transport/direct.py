"""The default transport: aiohttp, bytes in, bytes out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from runner import __version__
from runner.config.sections import RunConfig
from runner.transport.faults import CONNECT_SHARE, Faults
from runner.transport.outcomes import CancelOutcome, Outcome, RetrieveOutcome, SubmitOutcome, Transient
from runner.transport.reading import Reader, read_cancel, read_retrieve, read_submit
from runner.transport.scrub import Headers, Scrubber

DNS_CACHE_S = 300


class Direct:
    """One session, its connections bounded by the number of workers that use it."""

    def __init__(self, config: RunConfig, base_url: str, key: str) -> None:
        self._submit_url = URL(f"{base_url}/responses")
        self._job_url = f"{base_url}/responses/"
        self._idempotency_header = config.target.idempotency_header
        self._scrub = Scrubber(key)
        self._faults = Faults(self._scrub, config.target.timeout_s)
        timeout_s = config.target.timeout_s
        self._session = aiohttp.ClientSession(
            # Workers are the semaphore. A limit in the pool as well would only make them queue twice.
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=DNS_CACHE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_SHARE * timeout_s),
            headers={
                "Authorization": f"Bearer {key}",
                "User-Agent": f"responses-runner/{__version__}",
                "Accept": "application/json",
            },
            proxy=_proxy_for(base_url),
        )
        # aiohttp repeats a GET on a dropped connection, uncounted, and offers no public way to say no.
        self._session._retry_connection = False  # noqa: SLF001 - see above

    async def submit(self, body: bytes, idempotency_key: str) -> SubmitOutcome:
        headers = {"Content-Type": "application/json"}
        if self._idempotency_header:
            headers[self._idempotency_header] = idempotency_key
        call = self._session.post(self._submit_url, data=body, headers=headers, allow_redirects=False)
        return await self._exchange(call, read_submit)

    async def retrieve(self, job_id: str) -> RetrieveOutcome:
        return await self._exchange(
            self._session.get(self._url(job_id), allow_redirects=False), read_retrieve
        )

    async def cancel(self, job_id: str) -> CancelOutcome:
        return await self._exchange(
            self._session.post(self._url(job_id, "/cancel"), allow_redirects=False), read_cancel
        )

    async def _exchange(
        self, call: AbstractAsyncContextManager[aiohttp.ClientResponse], read: Reader[Outcome]
    ) -> Outcome | Transient:
        try:
            async with call as answer:
                content = await answer.read()
        except (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError) as error:
            return self._faults.transient(error)
        headers = Headers(answer.headers, self._scrub)
        return read(answer.status, headers, self._scrub.body(content), time.time())

    def _url(self, job_id: str, action: str = "") -> URL:
        return URL(f"{self._job_url}{quote(job_id, safe='')}{action}", encoded=True)

    async def close(self) -> None:
        await self._session.close()


def _proxy_for(base_url: str) -> str | None:
    """The proxy of the environment, asked once: aiohttp's own `trust_env` asks each time, in a thread."""
    address = urlsplit(base_url)
    proxies: Mapping[str, str] = getproxies()
    if address.hostname is None or proxy_bypass(address.hostname):
        return None
    proxy = proxies.get(address.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
