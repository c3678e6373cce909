"""Fetches the results of requests that are done, one by one, each as soon as there is a place."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from runner.batch.open_batch import Item, OpenBatch
from runner.batch.statuses import Ended
from runner.policy.circuit import Circuit
from runner.policy.polling import Exponential
from runner.policy.rate_gate import RateGate
from runner.records import Failure, ResultStatus
from runner.session.follower import LOOKS_BEFORE_GONE, Follower
from runner.session.parts import Parts
from runner.transport.outcomes import SILENT, AnyOutcome, Done, RetrieveOutcome

UNSUCCESSFUL: Final = ("failed", "cancelled", "expired")
"""Said of a request that has no result to wait for."""
GONE_SHARE: Final = 5.0
"""A result that is there, by the batch, is paid for: it may take its time to be found by its own name."""
THROTTLED: Final = ("429", "503", "529")


class Fetcher(Follower[Item]):
    """Owns what is done and not fetched. A request becomes an object of its own only when its turn comes."""

    gone_share = GONE_SHARE

    def __init__(
        self,
        parts: Parts,
        gate: RateGate,
        circuit: Circuit,
        wake: Callable[[], None],
        epochs: Mapping[int, int],
    ) -> None:
        super().__init__(parts, gate, circuit, wake)
        section = parts.config.poll
        self._backoff = Exponential(section.interval_s, section.factor, section.max_interval_s)
        self._epochs = epochs
        self._ready: deque[tuple[OpenBatch, str, int, ResultStatus, float | None, Failure | None]] = deque()
        self.on_fetched: Callable[[OpenBatch], None] = lambda _: None
        """Told when a request of a batch has ended."""

    @property
    def backlog(self) -> int:
        """Requests that are done and wait for a place."""
        return len(self._ready)

    def fetch(self, batch: OpenBatch, ended: list[Ended], pending: float | None) -> None:
        """Take over requests that are done; the batch saw them unfinished last at `pending`."""
        rows = batch.names.rows
        self._ready.extend((batch, name, rows.pop(name), status, pending, None) for name, status in ended)
        self._wake()

    def ask_each(self, batch: OpenBatch, status: ResultStatus, failure: Failure) -> None:
        """A last question about each request that its batch never called done; `failure` where that is no."""
        rows = batch.names.rows
        while rows:
            name, row = rows.popitem()
            self._ready.append((batch, name, row, status, batch.pending, failure))
        self._wake()

    def lose(self, batch: OpenBatch, status: ResultStatus, failure: Failure, now: float) -> None:
        """Give up all requests of a batch that are not done."""
        rows = batch.names.rows
        while rows:
            name, row = rows.popitem()
            self._lose(self._item(batch, name, row, status, batch.pending, failure), status, failure, now)

    def take(self, now: float) -> tuple[Item | None, float | None]:
        """As for any follower: those that are tried again go first."""
        item, ask_at = super().take(now)
        if item is not None or not self._ready:
            return item, ask_at
        opens_at = max(self._gate.opens_at(now), self._circuit.opens_at())
        if opens_at > now:
            return None, min(opens_at, math.inf if ask_at is None else ask_at)
        self._gate.started(now)
        self._circuit.started()
        return self._item(*self._ready.popleft()), None

    def _item(
        self,
        batch: OpenBatch,
        wire_id: str,
        row: int,
        said: ResultStatus,
        pending: float | None,
        otherwise: Failure | None,
    ) -> Item:
        return Item(
            row=row,
            custom_id=batch.names.custom_id(wire_id),
            id=batch.id,
            kind=batch.kind,
            due=batch.due,
            sent=batch.sent,
            accepted=batch.accepted,
            attempts=batch.attempts,
            pending=pending,
            epoch=self._epochs.get(row, 0),
            inherited=batch.inherited,
            batch=batch,
            wire_id=wire_id,
            said=said,
            asked_since=self._parts.clock.unix(self._parts.clock.now()),
            otherwise=otherwise,
        )

    async def _ask(self, item: Item) -> RetrieveOutcome:
        return await self._parts.transport.batch_result(item.id, item.wire_id)

    async def _take_in(self, item: Item, outcome: AnyOutcome, started: float, ended: float) -> None:
        clock = self._parts.clock
        if isinstance(outcome, Done):
            self._parts.sink.finish(item, clock.unix(ended), outcome)
            self._ended(item)
        elif item.otherwise is not None:
            self._lose(item, item.said, item.otherwise, ended)
        elif item.said in UNSUCCESSFUL and item.polls >= LOOKS_BEFORE_GONE:
            message = f"the batch says that it ended {item.said}, and its response does not say why"
            self._lose(item, item.said, Failure(item.said, message), ended)
        else:  # the batch is ahead of its parts
            self._wait_on(item, clock.unix(started), ended)

    def _miss(self, item: Item, failure: Failure, now: float) -> None:
        """A request that came to no good end may have nothing to show."""
        if item.said not in UNSUCCESSFUL:
            super()._miss(item, failure, now)
        elif item.missing + 1 < LOOKS_BEFORE_GONE:
            item.missing += 1
            self._push_back(item, "gone", None, now)
        else:
            self._lose(item, item.said, item.otherwise or failure, now)

    def _look_again(self, item: Item, cause: str, failure: Failure, wait_s: float | None, now: float) -> None:
        """Nor is it asked about for as long as one that succeeded."""
        is_about_it = cause not in SILENT and cause not in THROTTLED
        if item.said in UNSUCCESSFUL and is_about_it and item.failed_polls + 1 >= LOOKS_BEFORE_GONE:
            self._meter.poll_retries[cause] += 1
            self._lose(item, item.said, item.otherwise or failure, now)
        else:
            super()._look_again(item, cause, failure, wait_s, now)

    def _since(self, item: Item) -> float:
        return item.asked_since

    def _next_look(self, item: Item, now: float) -> float:
        return self._backoff.next_poll(item, now)

    def _lose(self, item: Item, status: ResultStatus, failure: Failure, now: float) -> None:
        self._parts.sink.lose(item, self._parts.clock.unix(now), status, failure)
        self._ended(item)

    def _ended(self, item: Item) -> None:
        item.batch.without_result -= 1
        self.on_fetched(item.batch)
