"""The collector: polls batches and fetches results, at most `poll.concurrency` GETs at once in all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from runner.batch.fetcher import Fetcher
from runner.batch.open_batch import Item, OpenBatch
from runner.batch.statuses import EndedRequest
from runner.batch.submission import Names
from runner.batch.watcher import Watcher
from runner.records import Failure, ResultStatus
from runner.session.parts import Parts
from runner.session.turnstile import AFTER_AN_EVENT, NotBefore, Turnstile

ENOUGH_TO_FETCH: Final = 8
"""Results waiting to be fetched, in multiples of `poll.concurrency`, at which batches are no longer polled.

Another poll would only make the queue longer.
"""


class Collector:
    """Owns the open batches, and lets its workers poll them and fetch their results in turn.

    It is the `Listener` of its watcher.
    """

    def __init__(
        self,
        parts: Parts[OpenBatch],
        epochs: Mapping[int, int],
        *,
        on_collected: Callable[[], None],
        on_forgotten: Callable[[list[int]], None],
    ) -> None:
        """`on_collected` is called when a batch has no outstanding rows left.

        `on_forgotten` is called with rows that the service no longer knows and that may be resent.
        """
        self._in_flight = parts.in_flight
        self._on_collected = on_collected
        self._on_forgotten = on_forgotten
        self.turnstile: Turnstile[OpenBatch | Item] = Turnstile(self._take, parts.clock.now_mono)
        exchanges = parts.exchanges(self.turnstile.wake, parts.config.poll.max_rate)
        self._watcher = Watcher(parts, exchanges, self)
        self._fetcher = Fetcher(
            parts,
            exchanges,
            epochs,
            on_due=self.turnstile.wake,
            on_fetched=self._fetched,
            on_forgotten=self._item_forgotten,
        )
        self._enough = ENOUGH_TO_FETCH * parts.config.poll.concurrency
        self._open: set[int] = set()
        self._polled_last = False

    def __len__(self) -> int:
        """Return how many batches are open."""
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Collector {len(self._open)} batches, {self._fetcher.backlog} results to fetch>"

    def follow(self, batch: OpenBatch) -> None:
        """Poll an accepted batch, and fetch its results."""
        self._open.add(batch.number)
        self._watcher.watch(batch)

    async def work(self) -> None:
        """Poll and fetch until the turnstile closes: one of `poll.concurrency` workers.

        Raises what ends the run.
        """
        while (work := await self.turnstile.get()) is not None:
            if isinstance(work, Item):
                await self._fetcher.poll(work)
            else:
                await self._watcher.poll(work)

    def requests_due(self) -> None:
        """Wake the workers."""
        self.turnstile.wake()

    def requests_ended(self, batch: OpenBatch, ended: list[EndedRequest], pending: float | None) -> None:
        """Fetch the results of requests that are done."""
        self._fetcher.fetch(batch, ended, pending)

    def batch_lost(self, batch: OpenBatch, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        """End the requests of a batch that the service does not know, except for those that are done."""
        self._fetcher.lose(batch, status, failure, now_mono)

    def batch_late(self, batch: OpenBatch, status: ResultStatus, failure: Failure) -> None:
        """Fetch the requests that a late batch never reported done one last time."""
        self._fetcher.fetch_rest(batch, status, failure)

    def batch_forgotten(self, batch: OpenBatch) -> None:
        """Give up a batch that the service no longer knows: its rows may be resent."""
        rows = list(batch.names.rows.values())
        batch.names = Names()
        self._forget(batch, rows)

    def _item_forgotten(self, item: Item) -> None:
        self._forget(item.batch, [item.row])

    def _forget(self, batch: OpenBatch, rows: list[int]) -> None:
        self._in_flight.forget(len(rows))
        batch.without_result -= len(rows)
        self._fetched(batch)
        self._on_forgotten(rows)

    def _fetched(self, batch: OpenBatch) -> None:
        if not batch.without_result:
            self._open.discard(batch.number)
            self._on_collected()

    def _take(self, now_mono: float) -> OpenBatch | Item | NotBefore:
        """Alternate between polls and fetches when both are due: neither waits for all of the other."""
        first, second = (self._take_item, self._take_batch)
        if not self._polled_last:
            first, second = second, first
        work = first(now_mono)
        if not isinstance(work, NotBefore):
            return work
        other = second(now_mono)
        if isinstance(other, NotBefore):
            return other if other.at_mono < work.at_mono else work
        return other

    def _take_item(self, now_mono: float) -> OpenBatch | Item | NotBefore:
        item = self._fetcher.take(now_mono)
        self._polled_last = self._polled_last and isinstance(item, NotBefore)
        return item

    def _take_batch(self, now_mono: float) -> OpenBatch | Item | NotBefore:
        if self._fetcher.backlog >= self._enough:
            return AFTER_AN_EVENT
        batch = self._watcher.take(now_mono)
        self._polled_last = self._polled_last or not isinstance(batch, NotBefore)
        return batch
