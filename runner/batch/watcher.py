"""Polls batches, each when its strategy says, for requests that are done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import msgspec

from runner.batch.open_batch import OpenBatch
from runner.batch.statuses import EndedRequest, ended_in
from runner.policy.polling import polling
from runner.records import Failure, ResultStatus
from runner.session.exchanges import Exchanges
from runner.session.follower import Follower, was_watched
from runner.session.parts import Parts
from runner.transport.outcomes import AnyOutcome, BatchOutcome, Statuses


class Listener(Protocol):
    """Acts on what a `Watcher` finds out."""

    def requests_due(self) -> None:
        """Wake the workers: a batch may be due sooner than anything before."""

    def requests_ended(self, batch: OpenBatch, ended: list[EndedRequest], pending: float | None) -> None:
        """Take over requests that are done, and their names.

        `pending` is when the batch was last seen before that, in Unix seconds; None if it never was.
        """

    def batch_lost(self, batch: OpenBatch, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        """Give up a batch that the service does not know."""

    def batch_late(self, batch: OpenBatch, status: ResultStatus, failure: Failure) -> None:
        """Act on a batch that is past its deadline, with requests that it never reported done."""

    def batch_forgotten(self, batch: OpenBatch) -> None:
        """Act on a batch of an earlier session that the service has forgotten and that may be resent."""


class Watcher(Follower[OpenBatch]):
    """Polls a batch as often as one of its jobs would be polled if it were alone.

    That is nearly the optimum. The cost of a poll is proportional to the number of requests in the batch,
    because the service sends the status of each. So is the cost of a second of lag. The two cancel out.
    """

    gone_share = 1.0
    """Share of `limits.max_outage_s` for which a batch must stay unknown before it is given up.

    It is all of it, because thousands of rows may depend on one batch.
    """

    def __init__(self, parts: Parts[OpenBatch], exchanges: Exchanges, listener: Listener) -> None:
        super().__init__(
            parts, exchanges, on_due=listener.requests_due, on_forgotten=listener.batch_forgotten
        )
        self._listener = listener
        self._policy = polling(parts.config.poll)
        self._watched = 0

    def watch(self, batch: OpenBatch) -> None:
        """Poll a batch that was just accepted, or that an earlier session left."""
        now_mono = self._parts.clock.now_mono()
        batch.order = self._watched
        self._watched += 1
        batch.sample()
        self._push(batch, now_mono if batch.inherited else self._due_mono(batch, now_mono))

    def _request(self, batch: OpenBatch) -> Awaitable[BatchOutcome]:
        return self._parts.transport.retrieve_batch(batch.id)

    async def _take_in(
        self, batch: OpenBatch, outcome: AnyOutcome, started_mono: float, ended_mono: float
    ) -> None:
        match outcome:
            case Statuses(status_map=status_map):
                await self._read(batch, status_map, started_mono, ended_mono)
            case _:  # to ignore it would be to never poll the batch again, and to never say so
                raise AssertionError(f"a poll of a batch cannot be answered with {outcome!r}")

    async def _read(
        self, batch: OpenBatch, status_map: msgspec.Raw, started_mono: float, ended_mono: float
    ) -> None:
        clock = self._parts.clock
        watched = was_watched(batch, started_mono)
        try:
            for piece in ended_in(status_map):
                # By name, because a map may list a request twice.
                fresh = dict(it for it in piece if it[0] in batch.names.rows)
                if fresh:
                    self._listener.requests_ended(batch, list(fresh.items()), batch.pending)
                await asyncio.sleep(0)
        except msgspec.DecodeError as error:
            failure = Failure("not_object", f"the answer has no map of statuses: {error}")
            self._retry(batch, "not_object", failure, None, ended_mono)
            return
        self._learn(batch, clock.unix(started_mono), clock.unix(ended_mono), watched=watched)
        if batch.names.rows:
            self._wait_on(batch, clock.unix(started_mono), ended_mono)

    def _learn(self, batch: OpenBatch, seen: float, by: float, *, watched: bool) -> None:
        """Report to the strategy what the poll shows of the sampled requests."""
        still_open = []
        for one in batch.sampled:
            one.polls += 1
            if one.wire_id in batch.names.rows:
                self._policy.saw_pending(one, seen)
                one.pending = seen
                still_open.append(one)
            elif watched:
                self._policy.saw_done(one, by)
        batch.sampled = still_open

    def _next_poll(self, batch: OpenBatch, now: float) -> float:
        return self._policy.next_poll(batch, now)

    def _poll_starts(self, batch: OpenBatch, late_s: float) -> None:
        self._policy.started(batch, late_s)

    def _give_up(self, batch: OpenBatch, failure: Failure, now_mono: float) -> None:
        self._listener.batch_late(batch, "expired", failure)

    def _lose(self, batch: OpenBatch, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        self._listener.batch_lost(batch, status, failure, now_mono)
