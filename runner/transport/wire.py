"""What goes over the wire, counted as it comes: HTTP messages, heads and bodies, before TLS."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

Wire = Counter[str]
"""`requests`: exchanges that were tried. `sent_bytes`, `received_bytes`: of all of them, failed ones too."""

_parse: Final = ResponseHandler.data_received
"""By name: `super()` would cost a fifth of a microsecond at every read."""


class CountingConnector(aiohttp.TCPConnector):
    """aiohttp's connector, whose connections count every byte that comes in, before it is parsed.

    An answer that was cut, or is compressed or in chunks, counts as it came.
    """

    def __init__(self, wire: Wire, *, ttl_dns_cache: int) -> None:
        # Workers are the semaphore. A limit in the pool as well would only make them queue twice.
        super().__init__(limit=0, ttl_dns_cache=ttl_dns_cache)
        # As aiohttp makes them; nothing else of it tells what came over a connection.
        self._factory = cast("partial[ResponseHandler]", partial(_CountingHandler, self._loop, wire))


class _CountingHandler(ResponseHandler):
    def __init__(self, loop: asyncio.AbstractEventLoop, wire: Wire) -> None:
        super().__init__(loop)
        self._wire = wire

    def data_received(self, data: bytes) -> None:
        self._wire["received_bytes"] += len(data)
        _parse(self, data)
