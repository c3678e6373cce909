"""Looks at batches, each when its strategy says, for requests that are done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from runner.batch.open_batch import OpenBatch
from runner.batch.statuses import Ended, ended_in
from runner.policy.circuit import Circuit
from runner.policy.polling import polling
from runner.policy.rate_gate import RateGate
from runner.records import Failure, ResultStatus
from runner.session.follower import Follower, was_watched
from runner.session.parts import Parts
from runner.transport.outcomes import AnyOutcome, BatchOutcome, Statuses


class Watcher(Follower[OpenBatch]):
    """A batch is looked at as often as one of its jobs would be if it were alone.

    That is nearly the optimum: a look costs as much as the batch has requests (the service sends the status
    of each), and so does a second of lag while they come to their ends; the two cancel out.
    """

    gone_share = 1.0
    """So much is in a batch that all of `limits.max_outage_s` passes before it is unknown."""

    def __init__(self, parts: Parts, gate: RateGate, circuit: Circuit, wake: Callable[[], None]) -> None:
        super().__init__(parts, gate, circuit, wake)
        self._policy = polling(parts.config.poll)
        self._watched = 0
        self.on_ended: Callable[[OpenBatch, list[Ended], float | None], None] = lambda *_: None
        """Told of requests that are done, and when the batch was last seen before; their names are the
        listener's from then on."""
        self.on_lost: Callable[[OpenBatch, ResultStatus, Failure, float], None] = lambda *_: None
        """Told of a batch that the service does not know."""
        self.on_late: Callable[[OpenBatch, ResultStatus, Failure], None] = lambda *_: None
        """Told of a batch that is past its deadline, with requests that it never called done."""

    def watch(self, batch: OpenBatch) -> None:
        """Take over a batch that was just accepted, or in an earlier session."""
        now = self._parts.clock.now()
        batch.order = self._watched
        self._watched += 1
        batch.sample()
        self._push(batch, now if batch.inherited else self._due_at(batch, now))

    async def _ask(self, batch: OpenBatch) -> BatchOutcome:
        return await self._parts.transport.retrieve_batch(batch.id)

    async def _take_in(self, batch: OpenBatch, outcome: AnyOutcome, started: float, ended: float) -> None:
        if not isinstance(outcome, Statuses):
            return
        clock = self._parts.clock
        watched = was_watched(batch, started)
        try:
            for piece in ended_in(outcome.status_map):
                fresh = dict(it for it in piece if it[0] in batch.names.rows)  # a map may tell one twice
                if fresh:
                    self.on_ended(batch, list(fresh.items()), batch.pending)
                await asyncio.sleep(0)
        except msgspec.DecodeError as error:
            failure = Failure("not_object", f"the answer has no map of statuses: {error}")
            self._look_again(batch, "not_object", failure, None, ended)
            return
        self._learn(batch, clock.unix(started), clock.unix(ended), watched=watched)
        if batch.names.rows:
            self._wait_on(batch, clock.unix(started), ended)

    def _learn(self, batch: OpenBatch, seen: float, by: float, *, watched: bool) -> None:
        """What the look tells of the requests that stand for all."""
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

    def _next_look(self, batch: OpenBatch, now: float) -> float:
        return self._policy.next_poll(batch, now)

    def _starts(self, batch: OpenBatch, late_s: float) -> None:
        self._policy.started(batch, late_s)

    def _give_up(self, batch: OpenBatch, failure: Failure, now: float) -> None:
        self.on_late(batch, "expired", failure)

    def _lose(self, batch: OpenBatch, status: ResultStatus, failure: Failure, now: float) -> None:
        self.on_lost(batch, status, failure, now)
