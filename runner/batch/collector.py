"""The collector: looks at batches and fetches results, at most `poll.concurrency` GETs at once in all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from runner.batch.fetcher import Fetcher
from runner.batch.open_batch import Item, OpenBatch
from runner.batch.submission import Names
from runner.batch.watcher import Watcher
from runner.policy.circuit import Circuit
from runner.policy.rate_gate import RateGate
from runner.session.parts import Parts
from runner.session.turnstile import Turnstile

ENOUGH_TO_FETCH: Final = 8
"""Times `poll.concurrency`: while so many results wait, another look would only make the line longer."""


class Collector:
    """Owns the open batches. No batch is looked at while there is enough to fetch."""

    def __init__(self, parts: Parts, epochs: Mapping[int, int]) -> None:
        self._parts = parts
        gate = RateGate(parts.config.poll.max_rate)
        circuit = Circuit(parts.config.limits.max_outage_s)
        self.turnstile: Turnstile[OpenBatch | Item] = Turnstile(self._take, parts.clock.now)
        self._watcher = Watcher(parts, gate, circuit, self.turnstile.wake)
        self._fetcher = Fetcher(parts, gate, circuit, self.turnstile.wake, epochs)
        self._watcher.on_ended = self._fetcher.fetch
        self._watcher.on_lost = self._fetcher.lose
        self._watcher.on_late = self._fetcher.ask_each
        self._watcher.on_forgotten = self._forget
        self._fetcher.on_fetched = self._fetched
        self._fetcher.on_forgotten = self._forget_one
        self._enough = ENOUGH_TO_FETCH * parts.config.poll.concurrency
        self._open: set[int] = set()
        self._looked_last = False
        self.on_collected: Callable[[], None] = lambda: None
        """Told when a batch has no rows left that are open."""
        self.on_forgotten: Callable[[list[int]], None] = lambda _: None
        """Told of rows that the service does not know any more, and that may be sent again."""

    def __len__(self) -> int:
        """Open batches."""
        return len(self._open)

    def follow(self, batch: OpenBatch) -> None:
        """Take over an accepted batch; its rows count as open already."""
        self._open.add(batch.number)
        self._watcher.watch(batch)

    async def work(self) -> None:
        """One of `poll.concurrency` workers. Raises what ends the run."""
        while (work := await self.turnstile.get()) is not None:
            if isinstance(work, Item):
                await self._fetcher.look(work)
            else:
                await self._watcher.look(work)

    def _take(self, now: float) -> tuple[OpenBatch | Item | None, float | None]:
        """Looks and fetches take turns where both are due: neither has to wait for all of the other."""
        ask_at = math.inf
        for is_look in (not self._looked_last, self._looked_last):
            work: OpenBatch | Item | None = None
            at: float | None = None
            if not is_look:
                work, at = self._fetcher.take(now)
            elif self._fetcher.backlog < self._enough:
                work, at = self._watcher.take(now)
            if work is not None:
                self._looked_last = is_look
                return work, None
            ask_at = min(ask_at, math.inf if at is None else at)
        return None, ask_at

    def _fetched(self, batch: OpenBatch) -> None:
        if not batch.without_result:
            self._open.discard(batch.number)
            self.on_collected()

    def _forget(self, batch: OpenBatch) -> None:
        rows = list(batch.names.rows.values())
        batch.names = Names()
        self._parts.meter.open -= len(rows)
        batch.without_result -= len(rows)
        self._fetched(batch)
        self.on_forgotten(rows)

    def _forget_one(self, item: Item) -> None:
        self._parts.meter.open -= 1
        item.batch.without_result -= 1
        self._fetched(item.batch)
        self.on_forgotten([item.row])
