"""Batches become POSTs, at most `batch.concurrency` at once, and then belong to the collector."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from runner.batch.culprit import culprit_of
from runner.batch.draft import Draft
from runner.batch.ending import Endings, nothing_accepted
from runner.batch.finder import NOT_FOUND, Found, Sight, find
from runner.batch.planner import Planner
from runner.pipeline.follower import GONE_SHARE, LOOKS_BEFORE_GONE
from runner.pipeline.parts import Parts
from runner.pipeline.submitter import is_protected
from runner.pipeline.turnstile import Turnstile
from runner.policy.circuit import Circuit
from runner.policy.limiter import Gate
from runner.records import Failure, ResultStatus
from runner.store import BatchAcceptance, BatchRetraction
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


class Uploader:
    """Owns the batches that are not accepted yet: those being sent, looked for, or waiting for another try.

    A batch is announced in the journal before its first POST. One whose POST brought no answer is looked for
    by its label before it is sent again: that costs less than its body, and cannot be paid for twice.
    """

    def __init__(
        self,
        parts: Parts,
        planner: Planner,
        endings: Endings,
        follow: Callable[[Draft, str, float], None],
        *,
        any_accepted: bool,
    ) -> None:
        self._parts = parts
        self._meter = parts.meter
        self._planner = planner
        self._endings = endings
        self._follow = follow
        self._any_accepted = any_accepted
        """By the service, of this run, ever: a refusal is one batch's then, and not that of all to come."""
        self._refusals = 0
        """In a row."""
        self._waiting: list[tuple[float, int, Draft]] = []
        self._under_way = 0
        self._drafts: dict[int, Draft] = {}
        """All that are here, by number: those that wait, and those under way."""
        self._gate = Gate()
        self._circuit = Circuit(parts.config.limits.max_outage_s)
        self._stopped = asyncio.Event()
        self.turnstile: Turnstile[Draft] = Turnstile(self._take, parts.clock.now)
        parts.contact.on_made = self.turnstile.wake

    def __len__(self) -> int:
        """Batches that are here."""
        return len(self._drafts)

    def add(self, draft: Draft) -> None:
        """Send it, or look for it, as soon as there is room."""
        self._drafts[draft.number] = draft
        self._push(draft, self._parts.clock.now())

    async def meet(self) -> None:
        """Before megabytes are sent, a small question: is there a service, and does it take the key?

        Returns once it has answered. Raises what ends the run.
        """
        contact, failures = self._parts.contact, 0
        while not contact.made and not self._stopped.is_set():
            outcome = await self._parts.transport.list_batches(None, 1)
            if not isinstance(outcome, Listing | Throttled | Transient | Unauthorised):
                return  # it lists none: the first batch will tell
            end_of_run = contact.note(outcome, self._parts.clock.now())
            if end_of_run:
                raise end_of_run
            if isinstance(outcome, Throttled | Transient):
                failures += 1
                self._meter.submit_retries[outcome.cause] += 1
                with suppress(TimeoutError):
                    wait_s = self._parts.retry_wait_s(failures, outcome.wait_s)
                    await asyncio.wait_for(self._stopped.wait(), wait_s)

    async def work(self) -> None:
        """One of `batch.concurrency` workers. Raises what ends the run."""
        while (draft := await self.turnstile.get()) is not None:
            try:
                if draft.in_doubt and not draft.may_send:
                    await self._search(draft)
                else:
                    await self._send(draft)
            finally:
                self._under_way -= 1
                self._meter.posting -= 1
            self._planner.wake()
            self.turnstile.wake()

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped.set()
        self.turnstile.close()

    def close(self) -> None:
        """All workers have ended. What is not accepted can be made again."""
        for draft in self._drafts.values():
            self._planner.sent(draft)

    def _take(self, now: float) -> tuple[Draft | None, float | None]:
        if not self._waiting or (self._under_way and not self._parts.contact.made):
            return None, None
        ready_at = max(self._waiting[0][0], self._gate.opens_at(now), self._circuit.opens_at())
        if ready_at > now:
            return None, ready_at
        self._gate.started(now)
        self._circuit.started()
        self._under_way += 1
        self._meter.posting += 1
        return heapq.heappop(self._waiting)[2], None

    async def _search(self, draft: Draft) -> None:
        sight = await find(self._parts.transport, draft)
        now = self._parts.clock.now()
        if not isinstance(sight, Found | Sight):
            self._search_again(draft, sight, now)
            return
        self._circuit.ended(now, answered=True)
        self._parts.contact.hear_of_an_answer(now)
        if isinstance(sight, Found):
            self._accept(draft, sight.id, now, sight.at)
            return
        is_protected = self._is_protected(draft)
        if is_protected and sight is not Sight.ABSENT:
            self._send_again(draft, now)
        elif self._may_yet_come(draft, now):  # a service that ignores keys would run it twice
            self._push(draft, now + self._parts.retry_wait_s(draft.missed, None))
        elif sight is not Sight.ABSENT and self._parts.config.submit.on_uncertain != "resend":
            self._end(draft, "uncertain", NOT_FOUND)
        elif draft.settled:  # in its body are rows that must not be sent again
            self._retract(draft, "absent", now)
            self._cut_anew(draft)
        else:
            draft.in_doubt = is_protected
            self._send_again(draft, now)

    def _cut_anew(self, draft: Draft) -> None:
        """The service does not have it: let its rows go into other batches."""
        self._let_go(draft)
        self._planner.again(draft.own_names.rows.values())

    def _send_again(self, draft: Draft, now: float) -> None:
        if draft.last is not None and self._is_spent(draft):
            self._end(draft, "uncertain" if draft.in_doubt else "rejected", draft.last)
            return
        draft.may_send = True
        self._push(draft, now)

    def _may_yet_come(self, draft: Draft, now: float) -> bool:
        """It was not found, and may have been on its way when the list was made."""
        draft.missed += 1
        if draft.missed == 1:
            draft.missed_since = now
        is_early = now - draft.missed_since < GONE_SHARE * self._parts.config.limits.max_outage_s
        return is_early or draft.missed < LOOKS_BEFORE_GONE

    def _search_again(self, draft: Draft, outcome: Throttled | Transient | Unauthorised, now: float) -> None:
        end_of_run = self._parts.contact.note(outcome, now)
        self._circuit.ended(now, answered=not isinstance(outcome, Transient))
        wait_s = None
        if isinstance(outcome, Throttled):
            self._parts.throttled(self._gate, outcome, now, now)
        if not isinstance(outcome, Unauthorised):
            self._meter.submit_retries[outcome.cause] += 1
            wait_s = outcome.wait_s
        draft.failures += 1
        self._push(draft, now + self._parts.retry_wait_s(draft.failures, wait_s))
        if end_of_run:
            raise end_of_run

    async def _send(self, draft: Draft) -> None:
        clock = self._parts.clock
        body = draft.body or await self._planner.make_again(draft)
        started = clock.now()
        if draft.sent is None:
            draft.sent = clock.unix(started)
        if not draft.intended:
            self._parts.journal.write(draft.intent(), is_owed=False)
            draft.intended = True
            self._meter.unacknowledged += draft.own_count
            # So much is paid for at once that a power cut must not make its number, or its rows, free again.
            await asyncio.to_thread(self._parts.journal.log.sync)
        draft.attempts += 1
        draft.may_send = False
        draft.missed = 0
        outcome = await self._parts.transport.create_batch(Upload(body, draft.size_bytes), draft.key)
        self._settle(draft, outcome, started, clock.now())

    def _settle(self, draft: Draft, outcome: CreateOutcome, started: float, ended: float) -> None:
        end_of_run = self._parts.contact.note(outcome, ended)
        if self._circuit.ended(ended, answered=not isinstance(outcome, Transient)):
            self.turnstile.wake()
        match outcome:
            case Created():
                self._gate.accepted()
                if outcome.count not in (None, draft.count):
                    self._parts.warn(
                        f"the service says that batch {draft.label} has {outcome.count:,} requests, "
                        f"and it was sent with {draft.count:,}"
                    )
                self._accept(draft, outcome.id, ended)
            case Throttled():
                self._parts.throttled(self._gate, outcome, started, ended)
                self._try_again(draft, outcome, ended)
            case Transient():
                since = started if draft.failed_at is None else draft.failed_at
                is_mute = outcome.cause in ("connect", "no_files")
                draft.excused += is_mute or not self._parts.contact.answered_since(since)
                draft.failed_at = ended
                draft.in_doubt = draft.in_doubt or self._leaves_doubt(outcome)
                self._try_again(draft, outcome, ended)
            case Rejected():
                self._gate.accepted()
                self._refuse(draft, outcome, ended)
            case Unauthorised():
                if not draft.in_doubt:
                    self._retract(draft, str(outcome.failure.status_code), ended)
        if end_of_run:
            raise end_of_run

    def _accept(self, draft: Draft, batch_id: str, now: float, made_at: float | None = None) -> None:
        """The service has it, since `made_at` by its own clock where that is known."""
        accepted = self._parts.clock.unix(now)
        if made_at is not None:
            accepted = min(max(made_at, draft.sent or accepted), accepted)
        self._refusals = 0
        self._any_accepted = True
        self._meter.accept(now, draft.own_count)
        self._let_go(draft)
        self._planner.grow()
        acceptance = BatchAcceptance(batch=draft.number, id=batch_id, attempts=draft.attempts, at=accepted)
        try:
            self._parts.journal.write(acceptance)
        finally:  # paid for, whatever became of the journal
            self._follow(draft, batch_id, accepted)

    def _refuse(self, draft: Draft, outcome: Rejected, now: float) -> None:
        """A definite no: to one of its requests, where the service names one, or to all."""
        failure = outcome.failure
        if failure.type == "idempotency_error" or (draft.in_doubt and not self._is_protected(draft)):
            self._end(draft, "uncertain", failure)
            return
        self._retract(draft, str(failure.status_code), now)
        self._refusals += 1
        rows = draft.names.rows
        culprit = culprit_of(outcome.param, failure.message, rows)
        if not self._any_accepted and (culprit is None or self._refusals >= MOST_REFUSALS):
            raise nothing_accepted(failure, self._refusals)
        if culprit is None:
            self._end(draft, "rejected", failure)
            return
        if self._refusals == 1:
            named = draft.names.custom_id(culprit)
            self._parts.warn(
                f"the service refuses a batch for one of its requests, {named!r}: {failure.message}; "
                "the others are sent again without it"
            )
        else:
            self._planner.shrink(draft.count)
        if rows[culprit] not in draft.settled:
            self._endings.end(draft, culprit, "rejected", failure, outcome.reply)
        self._let_go(draft)
        self._planner.again(row for name, row in draft.own_names.rows.items() if name != culprit)

    def _try_again(self, draft: Draft, outcome: Throttled | Transient, now: float) -> None:
        draft.last = None if outcome.cause == "connect" else outcome.failure
        draft.failures += 1
        self._meter.submit_retries[outcome.cause] += 1
        if not draft.in_doubt:
            self._retract(draft, outcome.cause, now)
            if draft.settled:
                self._cut_anew(draft)
                return
            if self._is_spent(draft):
                if not self._parts.contact.made:
                    raise self._parts.contact.unreachable(outcome.failure)
                self._end(draft, "rejected", outcome.failure)
                return
        self._push(draft, now + self._parts.retry_wait_s(draft.failures, outcome.wait_s))

    def _is_spent(self, draft: Draft) -> bool:
        return draft.attempts - draft.excused >= self._parts.config.submit.retry.max_attempts

    def _leaves_doubt(self, outcome: Transient) -> bool:
        """As for a single request; see `Submitter`."""
        return outcome.ambiguous or (
            outcome.cause == "500" and self._parts.config.target.idempotency_header is None
        )

    def _is_protected(self, draft: Draft) -> bool:
        now_unix = self._parts.clock.unix(self._parts.clock.now())
        return is_protected(self._parts.config, draft.sent, now_unix)

    def _retract(self, draft: Draft, cause: str, now: float) -> None:
        if draft.intended:
            at = self._parts.clock.unix(now)
            self._parts.journal.write(BatchRetraction(batch=draft.number, cause=cause, at=at))
            draft.intended = draft.in_doubt = False
            self._meter.unacknowledged -= draft.own_count

    def _end(self, draft: Draft, status: ResultStatus, failure: Failure) -> None:
        """All of its rows."""
        for wire_id in draft.own_names.rows:
            self._endings.end(draft, wire_id, status, failure)
        self._let_go(draft)

    def _let_go(self, draft: Draft) -> None:
        """It is no longer on its way."""
        self._meter.unacknowledged -= draft.own_count if draft.intended else 0
        del self._drafts[draft.number]
        self._planner.sent(draft)

    def _push(self, draft: Draft, due: float) -> None:
        heapq.heappush(self._waiting, (due, draft.number, draft))
        self.turnstile.wake()
