"""A fetcher over a workbench, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

from runner.batch.fetcher import Fetcher
from runner.batch.open_batch import OpenBatch
from runner.config import RunConfig
from runner.records import ResultStatus
from runner.transport.fake import Behaviour, Exchange, Fake, Script
from runner.transport.outcomes import RetrieveOutcome
from tests import virtual_time
from tests.batch.polling import poll_due
from tests.batch.support import config_of
from tests.batch.workbench import Workbench
from tests.listed import listed

Scene: TypeAlias = Callable[["Fetch"], Coroutine[Any, Any, None]]


class Fetch:
    """A fetcher, and what it reports."""

    def __init__(self, bench: Workbench, max_rate_per_s: float | None = None) -> None:
        self.bench = bench
        self.due = 0
        self.fetched: list[int] = []
        """Number of the batch of each request that has ended."""
        self.forgotten: list[int] = []
        self.epochs: dict[int, int] = {}
        self.fetcher = Fetcher(
            bench.parts,
            bench.parts.exchanges(lambda: None, max_rate_per_s),
            self.epochs,
            on_due=self._due,
            on_fetched=lambda batch: self.fetched.append(batch.number),
            on_forgotten=lambda item: self.forgotten.append(item.row),
        )

    async def fetch(
        self, rows: range, status: ResultStatus = "completed", *, inherited: bool = False
    ) -> OpenBatch:
        """Let the service have these rows in a batch, which reports all of them as ended with `status`."""
        batch = await self.bench.create(rows, inherited=inherited)
        self.fetcher.fetch(batch, [(name, status) for name in batch.names.rows], None)
        return batch

    async def run(self, until_mono: float = float("inf")) -> None:
        await poll_due(self.fetcher, self.bench.clock, until_mono)

    @property
    def gets(self) -> list[float]:
        """Times at which results were requested."""
        return [exchange.started_mono for exchange in self.bench.fake.of("batch_result")]

    def statuses(self) -> set[str]:
        return {result.status for result in self.bench.results().values()}

    def _due(self) -> None:
        self.due += 1


def fetch(
    directory: Path,
    scene: Scene,
    fake: Fake | None = None,
    config: RunConfig | None = None,
    max_rate_per_s: float | None = None,
) -> None:
    """Play a scene with a fetcher over a workbench with 30 rows, at a service that is done at once."""

    async def main() -> None:
        service = fake or Fake(Behaviour(takes_s=0.0))
        it = Fetch(Workbench(directory, service, listed(30), config or config_of()), max_rate_per_s)
        it.bench.health.confirm()
        await scene(it)

    virtual_time.run(main())


def answering(answer: Callable[[Exchange], RetrieveOutcome | None], ends: ResultStatus = "completed") -> Fake:
    """Return a service with these answers to fetches; after them, all requests have ended with `ends`."""
    return Fake(Behaviour(takes_s=0.0, ends=ends), Script(batch_result=answer))


def until(end_mono: float, outcome: RetrieveOutcome) -> Callable[[Exchange], RetrieveOutcome | None]:
    """Return answers that are all `outcome` before `end_mono`."""
    return lambda exchange: outcome if exchange.started_mono < end_mono else None
