"""Batches that are not accepted yet: which are due, and what is put on record about each of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from runner.batch.failed_rows import FailedRows
from runner.batch.open_batch import OpenBatch
from runner.batch.submission import BatchSubmission
from runner.policy.idempotency import is_protected
from runner.records import Failure, Reply, ResultStatus
from runner.session.parts import Parts
from runner.session.turnstile import AFTER_AN_EVENT, NotBefore, Turnstile


class BatchSubmissions:
    """Owns batches until they are accepted, and hands each to a worker when it must be sent or looked up."""

    def __init__(
        self,
        parts: Parts[OpenBatch],
        failed_rows: FailedRows,
        *,
        has_accepted: bool,
        on_requeued: Callable[[Iterable[int]], None],
        on_gone: Callable[[BatchSubmission], None],
    ) -> None:
        """`on_requeued` is called with rows that must go into other batches.

        `on_gone` is called with a batch that needs its body no more: accepted, ended or taken apart.
        """
        self._parts = parts
        self._in_flight = parts.in_flight
        self._failed_rows = failed_rows
        self._on_requeued = on_requeued
        self._on_gone = on_gone
        self.has_accepted = has_accepted
        """Whether the service ever accepted a batch of this run.

        Until then a refusal stops the run; afterwards it concerns one batch.
        """
        self._all: dict[int, BatchSubmission] = {}
        """By number: batches that wait, are handed out, or whose acceptance is being written."""
        self._waiting: list[tuple[float, int, BatchSubmission]] = []
        self._handed_out = 0
        self._began_mono = parts.clock.now_mono()
        self.turnstile: Turnstile[BatchSubmission] = Turnstile(self._take, parts.clock.now_mono)
        self.exchanges = parts.exchanges(self.turnstile.wake)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"<BatchSubmissions {len(self._all)}, {self._handed_out} handed out, {self.exchanges!r}>"

    def add(self, batch: BatchSubmission) -> None:
        """Take over a batch that is due at once."""
        self._all[batch.number] = batch
        self.push(batch, self._parts.clock.now_mono())

    def push(self, batch: BatchSubmission, due_mono: float) -> None:
        """Hand out a batch at `due_mono`."""
        heapq.heappush(self._waiting, (due_mono, batch.number, batch))
        self.turnstile.wake()

    def release(self) -> None:
        """Release the slot of a batch whose upload or lookup has ended, well or not."""
        self._handed_out -= 1
        self._in_flight.post_ended()

    def requeue(self, batch: BatchSubmission) -> None:
        """Take back a batch that was handed out just as sending stopped."""
        self.exchanges.dropped()
        self.push(batch, self._parts.clock.now_mono())

    async def announce(self, batch: BatchSubmission) -> None:
        """Put the intent on the disk; only then may the POST be made. Raises `StorageError`."""
        if batch.announced:
            return
        await self._parts.sink.intend_batch(batch.intent())
        batch.announced = True
        self._in_flight.announce(batch.own_count)

    def accept(
        self, batch: BatchSubmission, batch_id: str, now_mono: float, created: float | None = None
    ) -> None:
        """Put on record that the service has a batch, since `created` by its own clock if that is known.

        The batch counts as one of these until that is written: `hand_over` follows then.
        """
        clock, meter = self._parts.clock, self._parts.meter
        accepted = clock.unix(now_mono)
        if created is not None:
            accepted = min(max(created, batch.sent or accepted), accepted)
        self.has_accepted = True
        sent_mono = now_mono if batch.sent is None else clock.mono(batch.sent)
        since_mono = max(sent_mono, self._began_mono)
        meter.accept(accepted, now_mono, batch.own_count, since_mono)
        open_batch = OpenBatch.of(batch, batch_id, accepted)
        self._parts.sink.accept(batch.acceptance(batch_id, accepted), open_batch)

    def hand_over(self, number: int) -> None:
        """Forget a batch whose acceptance is on record."""
        self._forget(self._all[number])

    def retract(self, batch: BatchSubmission, cause: str, now_mono: float) -> None:
        """Put on record that the service certainly does not have a batch."""
        if batch.announced:
            self._parts.sink.retract(batch.retraction(cause, self._parts.clock.unix(now_mono)))
            batch.announced = batch.in_doubt = False
            self._in_flight.retract(batch.own_count)

    def end(self, batch: BatchSubmission, status: ResultStatus, failure: Failure) -> None:
        """End all rows of a batch with `status`."""
        for wire_id in batch.own_names.rows:
            self._failed_rows.end(batch, wire_id, status, failure)
        self._forget(batch)

    def take_apart(self, batch: BatchSubmission) -> None:
        """Put the rows of a batch into other batches, after a retraction."""
        self._forget(batch)
        self._requeue(list(batch.own_names.rows.values()))

    def take_apart_without(
        self, batch: BatchSubmission, offender: str, failure: Failure, reply: Reply | None
    ) -> None:
        """Put the rows of a batch into other batches, except for `offender`, which ends `rejected`."""
        rows = [row for name, row in batch.own_names.rows.items() if name != offender]
        if batch.names.rows[offender] not in batch.settled:
            self._failed_rows.end(batch, offender, "rejected", failure, reply)
        self._forget(batch)
        self._requeue(rows)

    def is_protected(self, batch: BatchSubmission) -> bool:
        """Return whether the key of a batch makes it harmless to resend it."""
        has_keys = self._parts.config.target.idempotency_header is not None
        return is_protected(has_keys, batch.sent, self._parts.clock.now())

    def is_spent(self, batch: BatchSubmission, now_mono: float) -> bool:
        """Return whether a batch was tried often enough, and for as long as an outage may last."""
        attempts = batch.attempts - batch.excused
        is_over = now_mono - batch.failing_since_mono >= self._parts.config.limits.max_outage_s
        return is_over and attempts >= self._parts.config.submit.retry.max_attempts

    def close(self) -> None:
        """Remove the bodies of batches that are not accepted: they can be made again."""
        for batch in self._all.values():
            self._on_gone(batch)

    def _take(self, now_mono: float) -> BatchSubmission | NotBefore:
        # The answer to the first batch decides whether a second is sent.
        is_on_trial = not (self._parts.health.is_confirmed and self.has_accepted)
        if not self._waiting or (self._handed_out and is_on_trial):
            return AFTER_AN_EVENT
        ready_at_mono = max(self._waiting[0][0], self.exchanges.opens_at(now_mono))
        if ready_at_mono > now_mono:
            return NotBefore(ready_at_mono)
        self.exchanges.started(now_mono)
        self._handed_out += 1
        self._in_flight.post_started()
        return heapq.heappop(self._waiting)[2]

    def _requeue(self, rows: list[int]) -> None:
        self._in_flight.release(len(rows))
        self._on_requeued(rows)

    def _forget(self, batch: BatchSubmission) -> None:
        del self._all[batch.number]
        self._on_gone(batch)
