"""The uploader: sends batches, at most `batch.concurrency` at once, and acts on the answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from runner.batch.failed_rows import nothing_accepted
from runner.batch.offender import find_offending_request
from runner.batch.open_batch import OpenBatch
from runner.batch.planner import Planner
from runner.batch.reconcile import Reconciler
from runner.batch.submission import BatchSubmission
from runner.batch.submissions import BatchSubmissions
from runner.records import Failure
from runner.session.parts import Parts
from runner.transport.outcomes import (
    Created,
    CreateOutcome,
    Listing,
    Rejected,
    Throttled,
    Transient,
    Unauthorised,
)
from runner.transport.uploads import Upload

MOST_REFUSALS: Final = 10
"""Consecutive refusals that end the run while the service has never accepted a batch."""
TOO_LARGE: Final = 413
"""Status of an answer to a body that is larger than the service accepts."""


class Uploader:
    """Sends the batches that the planner has cut.

    A batch is announced in the journal before its first POST. If a POST brought no answer, the batch is
    looked up by its label before it is sent again: that costs less than an upload, and it cannot be paid for
    twice.
    """

    def __init__(self, parts: Parts[OpenBatch], planner: Planner, submissions: BatchSubmissions) -> None:
        self._parts = parts
        self._planner = planner
        self._submissions = submissions
        self._reconciler = Reconciler(parts, submissions)
        self._refusals = 0
        """Consecutive refusals."""
        self._stopped = asyncio.Event()

    async def confirm_service(self) -> None:
        """Find out with a small exchange whether the service is there, before megabytes are sent.

        Returns once it has answered. Raises what ends the run.
        """
        parts, failures = self._parts, 0
        while not parts.health.is_confirmed and not self._stopped.is_set():
            outcome = await parts.transport.list_batches(None, 1)
            if not isinstance(outcome, Listing | Throttled | Transient | Unauthorised):
                return  # the service does not list batches: the first batch will show
            end_of_run = parts.health.record(outcome, parts.clock.now_mono())
            if end_of_run:
                raise end_of_run
            if isinstance(outcome, Throttled | Transient):
                failures += 1
                parts.meter.counts.submit_retries[outcome.cause] += 1
                with suppress(TimeoutError):
                    wait_s = parts.retry_wait_s(failures, outcome.wait_s)
                    await asyncio.wait_for(self._stopped.wait(), wait_s)

    async def work(self) -> None:
        """Send batches until the turnstile closes: one of `batch.concurrency` workers.

        Raises what ends the run.
        """
        while (batch := await self._submissions.turnstile.get()) is not None:
            try:
                if batch.in_doubt and not batch.may_send:
                    await self._reconciler.reconcile(batch)
                else:
                    await self._send(batch)
            finally:
                self._submissions.release()
            self.wake()

    def wake(self) -> None:
        """Wake the planner and the workers: a slot is free, rows were read, or the service is confirmed."""
        self._planner.wake()
        self._submissions.turnstile.wake()

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped.set()
        self._submissions.turnstile.close()

    async def _send(self, batch: BatchSubmission) -> None:
        clock = self._parts.clock
        body = batch.body or await self._planner.make_again(batch)
        if self._stopped.is_set():  # that took a while
            self._submissions.requeue(batch)
            return
        started_mono = clock.now_mono()
        if batch.sent is None:
            batch.sent = clock.unix(started_mono)
        await self._submissions.announce(batch)
        batch.attempts += 1
        batch.may_send, batch.absent, batch.inconclusive = False, 0, 0
        outcome = await self._parts.transport.create_batch(Upload(body, batch.size_bytes), batch.key)
        if isinstance(outcome, Transient) and outcome.is_spoken:
            await self._ask_for_others(started_mono)
        self._settle(batch, outcome, started_mono, clock.now_mono())

    async def _ask_for_others(self, since_mono: float) -> None:
        """Find out whether the service answers other requests: if so, only this batch fails.

        Without this, the last batch of a run would never use up its attempts, and end the run each time.
        """
        health = self._parts.health
        if not health.answered_since(since_mono):
            outcome = await self._parts.transport.list_batches(None, 1)
            if isinstance(outcome, Listing):
                health.record_answer(self._parts.clock.now_mono())

    def _settle(
        self, batch: BatchSubmission, outcome: CreateOutcome, started_mono: float, ended_mono: float
    ) -> None:
        submissions = self._submissions
        end_of_run = submissions.exchanges.settle(outcome, started_mono, ended_mono)
        match outcome:
            case Created():
                self._accept(batch, outcome, ended_mono)
            case Throttled():
                batch.excused += 1  # the gate has its own pace, and the batch is not to blame
                self._try_again(batch, outcome, ended_mono)
            case Transient():
                since_mono = started_mono if batch.failed_at_mono is None else batch.failed_at_mono
                is_mute = outcome.cause in ("connect", "no_files")
                batch.excused += is_mute or not self._parts.health.answered_since(since_mono)
                batch.failed_at_mono = ended_mono
                batch.in_doubt = batch.in_doubt or self._leaves_doubt(outcome)
                self._try_again(batch, outcome, ended_mono)
            case Rejected():
                self._refuse(batch, outcome, ended_mono)
            case Unauthorised():
                if not batch.in_doubt:
                    submissions.retract(batch, str(outcome.failure.status_code), ended_mono)
        if end_of_run:
            raise end_of_run

    def _accept(self, batch: BatchSubmission, outcome: Created, now_mono: float) -> None:
        if outcome.count not in (None, batch.count):
            self._parts.say(
                f"the service reports {outcome.count:,} requests in batch {batch.label}, "
                f"and it was sent with {batch.count:,}"
            )
        self._refusals = 0
        self._planner.grow()
        self._submissions.accept(batch, outcome.id, now_mono)

    def _refuse(self, batch: BatchSubmission, outcome: Rejected, now_mono: float) -> None:
        """Act on a definite refusal: of one request if the service names one, else of the whole batch."""
        failure, submissions = outcome.failure, self._submissions
        if failure.type == "idempotency_error" or (batch.in_doubt and not submissions.is_protected(batch)):
            submissions.end(batch, "uncertain", failure)
            return
        submissions.retract(batch, str(failure.status_code), now_mono)
        self._refusals += 1
        rows = batch.names.rows
        is_too_large = failure.status_code == TOO_LARGE and batch.count > 1
        offender = None if is_too_large else find_offending_request(outcome.param, failure.message, rows)
        if failure.status_code == TOO_LARGE and batch.count == 1:
            offender = next(iter(rows))
        if not submissions.has_accepted and (
            self._refusals >= MOST_REFUSALS or not (is_too_large or offender is not None)
        ):
            raise nothing_accepted(failure, self._refusals)
        if is_too_large:
            self._cut_smaller(batch, failure)
        elif offender is None:
            submissions.end(batch, "rejected", failure)
        else:
            self._cut_without(batch, offender, outcome)

    def _cut_smaller(self, batch: BatchSubmission, failure: Failure) -> None:
        """Put the rows into smaller batches: the service accepts less at once than the config says."""
        self._planner.lower(batch.size_bytes)
        self._parts.say(
            f"the service accepts no batch of {batch.size_bytes:,} bytes ({failure.message}): "
            "the next ones are half as large; a lower batch.max_bytes saves the upload"
        )
        self._submissions.take_apart(batch)

    def _cut_without(self, batch: BatchSubmission, offender: str, outcome: Rejected) -> None:
        """Put the rows into other batches, except for the one that the service refuses."""
        failure = outcome.failure
        if self._refusals == 1:
            named = batch.names.custom_id(offender)
            self._parts.say(
                f"the service refuses a batch for one of its requests, {named!r}: {failure.message}; "
                "the others are sent again without it"
            )
        else:
            self._planner.shrink(batch.count)
        self._submissions.take_apart_without(batch, offender, failure, outcome.reply)

    def _try_again(self, batch: BatchSubmission, outcome: Throttled | Transient, now_mono: float) -> None:
        submissions = self._submissions
        batch.last = None if outcome.cause == "connect" else outcome.failure
        if not batch.failures:
            batch.failing_since_mono = now_mono
        batch.failures += 1
        self._parts.meter.counts.submit_retries[outcome.cause] += 1
        if not batch.in_doubt:
            submissions.retract(batch, outcome.cause, now_mono)
            if batch.settled:
                submissions.take_apart(batch)
                return
            if submissions.is_spent(batch, now_mono):
                if not submissions.has_accepted:
                    outage_s = now_mono - batch.failing_since_mono
                    raise self._parts.health.unreachable(outcome.failure, outage_s)
                submissions.end(batch, "rejected", outcome.failure)
                return
        wait_s = self._parts.retry_wait_s(batch.failures, outcome.wait_s)
        submissions.push(batch, now_mono + wait_s)

    def _leaves_doubt(self, outcome: Transient) -> bool:
        """Return whether the service may have accepted the batch, by the same rule as for one request."""
        return outcome.ambiguous or (
            outcome.cause == "500" and self._parts.config.target.idempotency_header is None
        )
