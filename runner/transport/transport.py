"""The transports: each makes one HTTP exchange and returns one typed outcome.

`direct` uses aiohttp's connections, `sdk` the openai SDK, `fake` a service in memory, for tests.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final, Protocol

from runner.config import RunConfig
from runner.transport.outcomes import (
    BatchOutcome,
    CancelOutcome,
    CreateOutcome,
    ListOutcome,
    RetrieveOutcome,
    SubmitOutcome,
)
from runner.transport.uploads import Upload
from runner.transport.wire import Wire

_TRANSPORTS: Final = {
    "aiohttp": "runner.transport.direct:Direct",
    "openai": "runner.transport.sdk:Sdk",
}


class Transport(Protocol):
    """One exchange per call. A call retries nothing, and raises nothing for what network or service do."""

    async def submit(self, body: bytes, idempotency_key: str) -> SubmitOutcome:
        """POST a job with exactly these bytes as its body."""

    async def retrieve(self, job_id: str) -> RetrieveOutcome:
        """GET one job."""

    async def cancel(self, job_id: str) -> CancelOutcome:
        """Request the cancellation of one job."""

    async def create_batch(self, content: Upload, idempotency_key: str) -> CreateOutcome:
        """POST a batch, its body streamed from a file. Raises `StorageError` if that cannot be read."""

    async def retrieve_batch(self, batch_id: str) -> BatchOutcome:
        """GET one batch, with the status of every request in it."""

    async def batch_result(self, batch_id: str, custom_id: str) -> RetrieveOutcome:
        """GET the result of one request of a batch."""

    async def list_batches(self, before_id: str | None, limit: int) -> ListOutcome:
        """GET one page of batches, newest first: the first page, or the one after `before_id`."""

    async def close(self) -> None:
        """Close all connections."""


def open_transport(config: RunConfig, base_url: str, key: str, wire: Wire) -> Transport:
    """Open the transport that the config names, which counts its traffic in `wire`.

    The event loop must be running. Raises `ConfigError` for a proxy that cannot be used.
    """
    module, _, name = _TRANSPORTS[config.target.transport].partition(":")
    transport: Transport = getattr(import_module(module), name)(config, base_url, key, wire)
    return transport
