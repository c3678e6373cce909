"""Fetches the results of requests that are done, one by one, each as soon as a slot is free."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from runner.batch.open_batch import Item, OpenBatch
from runner.batch.statuses import EndedRequest
from runner.policy.polling import Exponential
from runner.records import Failure, ResultStatus
from runner.session.exchanges import Exchanges
from runner.session.follower import POLLS_BEFORE_GONE, Follower
from runner.session.parts import Parts
from runner.session.turnstile import NotBefore
from runner.transport.outcomes import AnyOutcome, Done, RetrieveOutcome

UNSUCCESSFUL: Final = ("failed", "cancelled", "expired")
"""Reported statuses of requests that may have no result to fetch."""
GONE_SHARE: Final = 5.0
"""Least time a result must stay unknown, as a share of `limits.max_outage_s`: the batch reported it, so it is paid
for, and a store may lag behind."""


class _Ready(NamedTuple):
    """A request that waits to be fetched, before it becomes an `Item`."""

    batch: OpenBatch
    wire_id: str
    row: int
    reported: ResultStatus
    pending: float | None
    failure: Failure | None


class Fetcher(Follower[Item]):
    """Owns what is done and not fetched. A request becomes an object of its own only when its turn comes."""

    gone_share = GONE_SHARE

    def __init__(
        self,
        parts: Parts[Any],
        exchanges: Exchanges,
        epochs: Mapping[int, int],
        *,
        on_due: Callable[[], None],
        on_fetched: Callable[[OpenBatch], None],
        on_forgotten: Callable[[Item], None],
    ) -> None:
        """`on_fetched` is called when a request of a batch has ended; for the others see `Follower`.

        `epochs` are those of rows that were reopened.
        """
        super().__init__(parts, exchanges, on_due=on_due, on_forgotten=on_forgotten)
        section = parts.config.poll
        self._backoff = Exponential(section.interval_s, section.factor, section.max_interval_s)
        self._epochs = epochs
        self._on_fetched = on_fetched
        self._ready: deque[_Ready] = deque()

    @property
    def backlog(self) -> int:
        """Requests that are done and wait for a slot."""
        return len(self._ready)

    def fetch(self, batch: OpenBatch, ended: list[EndedRequest], pending: float | None) -> None:
        """Take over requests that are done; the batch last saw them unfinished at `pending`, in Unix seconds."""
        rows = batch.names.rows
        self._ready.extend(
            _Ready(batch, name, rows.pop(name), status, pending, None) for name, status in ended
        )
        self._on_due()

    def fetch_rest(self, batch: OpenBatch, status: ResultStatus, failure: Failure) -> None:
        """Fetch once more every request never reported done; those still without a result end with `failure`."""
        rows = batch.names.rows
        while rows:
            name, row = rows.popitem()
            self._ready.append(_Ready(batch, name, row, status, batch.pending, failure))
        self._on_due()

    def lose(self, batch: OpenBatch, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        """Give up all requests of a batch that are not done."""
        rows = batch.names.rows
        while rows:
            name, row = rows.popitem()
            item = self._item(_Ready(batch, name, row, status, batch.pending, failure))
            self._lose(item, status, failure, now_mono)

    def take(self, now_mono: float) -> Item | NotBefore:
        """Return what is to be fetched now; as for any follower, retries go first."""
        item = super().take(now_mono)
        if not isinstance(item, NotBefore) or not self._ready:
            return item
        opens_at_mono = self._exchanges.opens_at(now_mono)
        if opens_at_mono > now_mono:
            return NotBefore(min(opens_at_mono, item.at_mono))
        self._exchanges.started(now_mono)
        return self._item(self._ready.popleft())

    def _item(self, ready: _Ready) -> Item:
        batch = ready.batch
        return Item(
            row=ready.row,
            custom_id=batch.names.custom_id(ready.wire_id),
            id=batch.id,
            kind=batch.kind,
            due=batch.due,
            sent=batch.sent,
            accepted=batch.accepted,
            attempts=batch.attempts,
            pending=ready.pending,
            epoch=self._epochs.get(ready.row, 0),
            inherited=batch.inherited,
            batch=batch,
            wire_id=ready.wire_id,
            reported=ready.reported,
            asked_since=self._parts.clock.now(),
            failure=ready.failure,
        )

    async def _request(self, item: Item) -> RetrieveOutcome:
        return await self._parts.transport.batch_result(item.id, item.wire_id)

    async def _take_in(self, item: Item, outcome: AnyOutcome, started_mono: float, ended_mono: float) -> None:
        clock = self._parts.clock
        if isinstance(outcome, Done):
            self._parts.sink.finish(item, clock.unix(ended_mono), outcome)
            self._ended(item)
            return
        item.unfinished += 1
        if item.failure is not None:
            self._lose(item, item.reported, item.failure, ended_mono)
        elif item.reported in UNSUCCESSFUL and item.unfinished >= POLLS_BEFORE_GONE:
            message = f"the batch reports that it ended {item.reported}, and its response does not say why"
            self._lose(item, item.reported, Failure(item.reported, message), ended_mono)
        else:  # the batch is ahead of its parts
            self._wait_on(item, clock.unix(started_mono), ended_mono)

    def _miss(self, item: Item, failure: Failure, now_mono: float) -> None:
        """Give up an unsuccessful request after a few polls: it may have nothing to show."""
        if item.reported not in UNSUCCESSFUL:
            super()._miss(item, failure, now_mono)
        elif item.missing + 1 < POLLS_BEFORE_GONE:
            item.missing += 1
            self._postpone(item, "gone", None, now_mono)
        else:
            self._lose(item, item.reported, item.failure or failure, now_mono)

    def _since(self, item: Item) -> float:
        return item.asked_since

    def _next_poll(self, item: Item, now: float) -> float:
        return self._backoff.next_poll(item, now)

    def _lose(self, item: Item, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        self._parts.sink.lose(item, self._parts.clock.unix(now_mono), status, failure)
        self._ended(item)

    def _ended(self, item: Item) -> None:
        item.batch.without_result -= 1
        self._on_fetched(item.batch)
