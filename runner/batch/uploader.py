"""Batches become POSTs, at most `batch.concurrency` at once, and then belong to the collector."""

from __future__ import annotations

import asyncio
from typing import Final

from runner.batch.failed_rows import nothing_accepted
from runner.batch.offender import culprit_of
from runner.batch.planner import Planner
from runner.batch.reconcile import Search, meet
from runner.batch.submission import Draft
from runner.batch.submissions import Drafts
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
"""Batches that are sent to a service that has refused each one before."""
TOO_LARGE: Final = 413


class Uploader:
    """Sends what the planner has cut.

    A batch is announced in the journal before its first POST. One whose POST brought no answer is looked for
    by its label before it is sent again: that costs less than its body, and cannot be paid for twice.
    """

    def __init__(self, parts: Parts, planner: Planner, drafts: Drafts) -> None:
        self._parts = parts
        self._planner = planner
        self._drafts = drafts
        self._search = Search(parts, drafts)
        self._refusals = 0
        """In a row."""
        self._stopped = asyncio.Event()

    async def meet(self) -> None:
        """Find out whether there is a service. Raises what ends the run."""
        await meet(self._parts, self._stopped)

    async def work(self) -> None:
        """One of `batch.concurrency` workers. Raises what ends the run."""
        while (draft := await self._drafts.turnstile.get()) is not None:
            try:
                if draft.in_doubt and not draft.may_send:
                    await self._search.look_for(draft)
                else:
                    await self._send(draft)
            finally:
                self._drafts.over()
            self._drafts.places_are_free()

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped.set()
        self._drafts.turnstile.close()

    async def _send(self, draft: Draft) -> None:
        clock = self._parts.clock
        body = draft.body or await self._planner.make_again(draft)
        if self._stopped.is_set():  # that took its time
            self._drafts.not_now(draft)
            return
        started = clock.now()
        if draft.sent is None:
            draft.sent = clock.unix(started)
        await self._drafts.announce(draft)
        draft.attempts += 1
        draft.may_send, draft.missed, draft.blind = False, 0, 0
        outcome = await self._parts.transport.create_batch(Upload(body, draft.size_bytes), draft.key)
        if isinstance(outcome, Transient) and outcome.is_spoken:
            await self._ask_for_others(started)
        self._settle(draft, outcome, started, clock.now())

    async def _ask_for_others(self, since: float) -> None:
        """A batch that the service cannot digest is no outage: does it answer other questions?

        Without this the last batch would never use up its tries, and end the run each time.
        """
        contact = self._parts.contact
        if not contact.answered_since(since):
            outcome = await self._parts.transport.list_batches(None, 1)
            if isinstance(outcome, Listing):
                contact.hear_of_an_answer(self._parts.clock.now())

    def _settle(self, draft: Draft, outcome: CreateOutcome, started: float, ended: float) -> None:
        end_of_run = self._parts.contact.note(outcome, ended)
        drafts = self._drafts
        if drafts.circuit.ended(ended, answered=not isinstance(outcome, Transient)):
            drafts.turnstile.wake()
        match outcome:
            case Created():
                drafts.gate.accepted()
                self._accept(draft, outcome, ended)
            case Throttled():
                draft.excused += 1  # the gate has its own pace, and the batch has done nothing
                self._parts.throttled(drafts.gate, outcome, started, ended)
                self._try_again(draft, outcome, ended)
            case Transient():
                since = started if draft.failed_at is None else draft.failed_at
                is_mute = outcome.cause in ("connect", "no_files")
                draft.excused += is_mute or not self._parts.contact.answered_since(since)
                draft.failed_at = ended
                draft.in_doubt = draft.in_doubt or self._leaves_doubt(outcome)
                self._try_again(draft, outcome, ended)
            case Rejected():
                drafts.gate.accepted()
                self._refuse(draft, outcome, ended)
            case Unauthorised():
                if not draft.in_doubt:
                    drafts.retract(draft, str(outcome.failure.status_code), ended)
        if end_of_run:
            raise end_of_run

    def _accept(self, draft: Draft, outcome: Created, now: float) -> None:
        if outcome.count not in (None, draft.count):
            self._parts.warn(
                f"the service says that batch {draft.label} has {outcome.count:,} requests, "
                f"and it was sent with {draft.count:,}"
            )
        self._refusals = 0
        self._planner.grow()
        self._drafts.accept(draft, outcome.id, now)

    def _refuse(self, draft: Draft, outcome: Rejected, now: float) -> None:
        """A definite no: to one of its requests, where the service names one, or to all."""
        failure, drafts = outcome.failure, self._drafts
        if failure.type == "idempotency_error" or (draft.in_doubt and not drafts.is_protected(draft)):
            drafts.end(draft, "uncertain", failure)
            return
        drafts.retract(draft, str(failure.status_code), now)
        self._refusals += 1
        rows = draft.names.rows
        is_too_large = failure.status_code == TOO_LARGE and draft.count > 1
        culprit = None if is_too_large else culprit_of(outcome.param, failure.message, rows)
        if failure.status_code == TOO_LARGE and draft.count == 1:
            culprit = next(iter(rows))
        if not drafts.any_accepted and (
            self._refusals >= MOST_REFUSALS or not (is_too_large or culprit is not None)
        ):
            raise nothing_accepted(failure, self._refusals)
        if is_too_large:
            self._cut_smaller(draft, failure)
        elif culprit is None:
            drafts.end(draft, "rejected", failure)
        else:
            self._cut_without(draft, culprit, outcome)

    def _cut_smaller(self, draft: Draft, failure: Failure) -> None:
        """The service takes less at once than the config says."""
        self._planner.lower(draft.size_bytes)
        self._parts.warn(
            f"the service takes no batch of {draft.size_bytes:,} bytes ({failure.message}): "
            "the next ones are half as large; a lower batch.max_bytes saves the upload"
        )
        self._drafts.cut_anew(draft)

    def _cut_without(self, draft: Draft, culprit: str, outcome: Rejected) -> None:
        """One of its requests is to blame."""
        failure = outcome.failure
        if self._refusals == 1:
            named = draft.names.custom_id(culprit)
            self._parts.warn(
                f"the service refuses a batch for one of its requests, {named!r}: {failure.message}; "
                "the others are sent again without it"
            )
        else:
            self._planner.shrink(draft.count)
        self._drafts.cut_anew_without(draft, culprit, failure, outcome.reply)

    def _try_again(self, draft: Draft, outcome: Throttled | Transient, now: float) -> None:
        drafts = self._drafts
        draft.last = None if outcome.cause == "connect" else outcome.failure
        if not draft.failures:
            draft.failing_since = now
        draft.failures += 1
        self._parts.meter.submit_retries[outcome.cause] += 1
        if not draft.in_doubt:
            drafts.retract(draft, outcome.cause, now)
            if draft.settled:
                drafts.cut_anew(draft)
                return
            if drafts.is_spent(draft, now):
                if not drafts.any_accepted:
                    raise self._parts.contact.unreachable(outcome.failure, now - draft.failing_since)
                drafts.end(draft, "rejected", outcome.failure)
                return
        drafts.push(draft, now + self._parts.retry_wait_s(draft.failures, outcome.wait_s))

    def _leaves_doubt(self, outcome: Transient) -> bool:
        """As for a single request; see `Submitter`."""
        return outcome.ambiguous or (
            outcome.cause == "500" and self._parts.config.target.idempotency_header is None
        )
