"""One HTTP exchange → one typed outcome. Two ways to do it, one contract."""

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

__all__ = ["Transport", "Upload", "open_transport"]

_TRANSPORTS: Final = {
    "aiohttp": "runner.transport.direct:Direct",
    "openai": "runner.transport.sdk:Sdk",
}


class Transport(Protocol):
    """Never raises for what a network or a service does; retries nothing, waits for nothing else."""

    async def submit(self, body: bytes, idempotency_key: str) -> SubmitOutcome:
        """POST exactly these bytes."""

    async def retrieve(self, job_id: str) -> RetrieveOutcome:
        """GET one job."""

    async def cancel(self, job_id: str) -> CancelOutcome:
        """Ask that one job be cancelled."""

    async def create_batch(self, content: Upload, idempotency_key: str) -> CreateOutcome:
        """POST a batch, its body streamed from a file. Raises `StorageError` where that cannot be read."""

    async def look_at_batch(self, batch_id: str) -> BatchOutcome:
        """GET one batch: how all of its requests stand."""

    async def batch_result(self, batch_id: str, custom_id: str) -> RetrieveOutcome:
        """GET the response to one request of a batch."""

    async def list_batches(self, before_id: str | None, limit: int) -> ListOutcome:
        """GET one page of all batches, the newest first."""

    async def close(self) -> None:
        """Close all connections."""


def open_transport(config: RunConfig, base_url: str, key: str, wire: Wire) -> Transport:
    """The transport that the config names, counting in `wire`; call it with the event loop running."""
    module, _, name = _TRANSPORTS[config.target.transport].partition(":")
    transport: Transport = getattr(import_module(module), name)(config, base_url, key, wire)
    return transport
