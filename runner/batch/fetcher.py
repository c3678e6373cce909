"""Fetches the results of requests that are done, each as soon as a slot is free."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from runner.batch.open_batch import Item, OpenBatch
from runner.batch.statuses import EndedRequest
from runner.policy.polling import Exponential
from runner.records import Failure, ResultStatus
from runner.session.exchanges import Exchanges
from runner.session.follower import GONE_SHARE, POLLS_BEFORE_GONE, Follower
from runner.session.parts import Parts
from runner.session.turnstile import AFTER_AN_EVENT, NotBefore
from runner.transport.outcomes import AnyOutcome, Done, Pending, RetrieveOutcome, Transient

THROTTLED: Final = ("429", "503", "529")
"""Causes of a failed fetch that concern the load, and not the request."""
REFUSAL_SHARE: Final = 1 / 2
"""Least time for which the service itself must fail to give the response of an unsuccessful request.

It is a share of `limits.max_outage_s`: longer than a restart, and shorter than the outage that ends the run,
which would otherwise stop at the same request each time it is resumed.
"""
UNSUCCESSFUL: Final = ("failed", "cancelled", "expired")
"""Reported statuses of requests that may have no result to fetch."""


class _Ready(NamedTuple):
    """A request that waits to be fetched, before it becomes an `Item`."""

    batch: OpenBatch
    wire_id: str
    row: int
    reported: ResultStatus
    pending: float | None
    failure: Failure | None


class Fetcher(Follower[Item]):
    """Owns requests that are done and not fetched. Each becomes an `Item` only when its turn comes."""

    gone_share = 5.0
    """Least time a result must stay unknown, as a share of `limits.max_outage_s`.

    It is long, because the batch reported the request done: its result is paid for, and the store of the
    service may only be behind.
    """

    def __init__(
        self,
        parts: Parts[OpenBatch],
        exchanges: Exchanges,
        epochs: Mapping[int, int],
        *,
        on_due: Callable[[], None],
        on_fetched: Callable[[OpenBatch], None],
        on_forgotten: Callable[[Item], None],
    ) -> None:
        """`on_fetched` is called when a request of a batch has ended; for the others see `Follower`.

        `epochs` holds the epoch of each row that was reopened.
        """
        super().__init__(parts, exchanges, on_due=on_due, on_forgotten=on_forgotten)
        section = parts.config.poll
        self._backoff = Exponential(section.interval_s, section.factor, section.max_interval_s)
        self._unsuccessful_patience_s = GONE_SHARE * parts.config.limits.max_outage_s
        self._refusal_patience_s = REFUSAL_SHARE * parts.config.limits.max_outage_s
        self._epochs = epochs
        self._on_fetched = on_fetched
        self._ready: deque[_Ready] = deque()

    @property
    def backlog(self) -> int:
        """Number of requests that are done and wait for a slot."""
        return len(self._ready)

    def fetch(self, batch: OpenBatch, ended: list[EndedRequest], pending: float | None) -> None:
        """Fetch requests that are done, and that were last seen unfinished at `pending`, in Unix seconds."""
        rows = batch.names.rows
        self._ready.extend(
            _Ready(batch, name, rows.pop(name), status, pending, None) for name, status in ended
        )
        self._on_due()

    def fetch_rest(self, batch: OpenBatch, status: ResultStatus, failure: Failure) -> None:
        """Fetch every request that was never reported done; without a result, it ends with `failure`."""
        rows = batch.names.rows
        while rows:
            name, row = rows.popitem()
            self._ready.append(_Ready(batch, name, row, status, batch.pending, failure))
        self._on_due()

    def lose(self, batch: OpenBatch, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        """End all requests of a batch that are not reported done."""
        rows = batch.names.rows
        while rows:
            name, row = rows.popitem()
            item = self._item(_Ready(batch, name, row, status, batch.pending, failure))
            self._lose(item, status, failure, now_mono)

    def take(self, now_mono: float) -> Item | NotBefore:
        """Return what is to be fetched now: retries first, then what was never fetched."""
        item = super().take(now_mono) if self._heap else AFTER_AN_EVENT
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

    def _request(self, item: Item) -> Awaitable[RetrieveOutcome]:
        return self._parts.transport.batch_result(item.id, item.wire_id)

    async def _take_in(self, item: Item, outcome: AnyOutcome, started_mono: float, ended_mono: float) -> None:
        match outcome:
            case Done():
                self._parts.sink.finish(item, self._parts.clock.unix(ended_mono), outcome)
                self._ended(item)
            case Pending():
                self._wait_longer(item, started_mono, ended_mono)
            case _:  # to ignore it would be to never fetch the result, and to never say so
                raise AssertionError(f"a fetch of a result cannot be answered with {outcome!r}")

    def _wait_longer(self, item: Item, started_mono: float, ended_mono: float) -> None:
        """Act on an answer that a request is not done, although its batch reported it done or is late."""
        item.unfinished += 1
        if item.failure is not None:
            self._lose(item, item.reported, item.failure, ended_mono)
        elif self._has_nothing_to_show(item, item.unfinished, ended_mono):
            message = f"the batch reports that it ended {item.reported}, and its response does not say why"
            self._lose(item, item.reported, Failure(item.reported, message), ended_mono)
        else:
            self._wait_on(item, self._parts.clock.unix(started_mono), ended_mono)

    def _fail(self, item: Item, outcome: Transient, now_mono: float) -> None:
        """Give up an unsuccessful request whose response the service itself, again and again, cannot give.

        An error in the API's own words is an answer about the request; a proxy's page, or silence, is not.
        """
        item.refused += outcome.is_spoken and outcome.cause not in THROTTLED
        is_own = item.reported in UNSUCCESSFUL and item.refused >= POLLS_BEFORE_GONE
        if is_own and self._age_s(item, now_mono) >= self._refusal_patience_s:
            self._meter.counts.poll_retries[outcome.cause] += 1
            self._lose(item, item.reported, item.failure or outcome.failure, now_mono)
        else:
            super()._fail(item, outcome, now_mono)

    def _miss(self, item: Item, failure: Failure, now_mono: float) -> None:
        """Give up an unsuccessful request sooner than a successful one: it may have nothing to show."""
        if item.reported not in UNSUCCESSFUL:
            super()._miss(item, failure, now_mono)
            return
        item.missing += 1
        if self._has_nothing_to_show(item, item.missing, now_mono):
            self._lose(item, item.reported, item.failure or failure, now_mono)
        else:
            self._postpone(item, "gone", None, now_mono)

    def _has_nothing_to_show(self, item: Item, answers: int, now_mono: float) -> bool:
        """Return whether an unsuccessful request has no response, after `answers` that brought none.

        Only answers count, and not failed fetches. They must go on for as long as for an unknown job: the
        store of a service that was just restarted lags behind the statuses of a batch.
        """
        is_unsuccessful = item.reported in UNSUCCESSFUL and answers >= POLLS_BEFORE_GONE
        return is_unsuccessful and self._age_s(item, now_mono) >= self._unsuccessful_patience_s

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
