"""Batches that are not accepted yet: which are due, and what is written down of what becomes of each."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from runner.background.submitter import is_protected
from runner.batch.failed_rows import Endings
from runner.batch.planner import Planner
from runner.batch.submission import Draft
from runner.policy.circuit import Circuit
from runner.policy.rate_gate import RateGate
from runner.records import Failure, Reply, ResultStatus
from runner.session.parts import Parts
from runner.session.turnstile import Turnstile
from runner.store import BatchAcceptance, BatchRetraction


class Drafts:
    """Owns them, and hands each to one worker when it is due: to be sent, or to be looked for."""

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
        self.any_accepted = any_accepted
        """By the service, of this run, ever: a refusal is one batch's then, and not that of all to come."""
        self._all: dict[int, Draft] = {}
        """By number: those that wait, and those under way."""
        self._waiting: list[tuple[float, int, Draft]] = []
        self._under_way = 0
        self._began = parts.clock.now()
        self.gate = RateGate()
        self.circuit = Circuit(parts.config.limits.max_outage_s)
        self.turnstile: Turnstile[Draft] = Turnstile(self._take, parts.clock.now)
        parts.contact.on_made = self.turnstile.wake

    def __len__(self) -> int:
        return len(self._all)

    def add(self, draft: Draft) -> None:
        """It is due at once."""
        self._all[draft.number] = draft
        self.push(draft, self._parts.clock.now())

    def push(self, draft: Draft, due: float) -> None:
        """It is due again at this time, monotonic."""
        heapq.heappush(self._waiting, (due, draft.number, draft))
        self.turnstile.wake()

    def _take(self, now: float) -> tuple[Draft | None, float | None]:
        # What the service says to the first batch decides whether there will be a second.
        is_on_trial = not (self._parts.contact.made and self.any_accepted)
        if not self._waiting or (self._under_way and is_on_trial):
            return None, None
        ready_at = max(self._waiting[0][0], self.gate.opens_at(now), self.circuit.opens_at())
        if ready_at > now:
            return None, ready_at
        self.gate.started(now)
        self.circuit.started()
        self._under_way += 1
        self._meter.posting += 1
        return heapq.heappop(self._waiting)[2], None

    def over(self) -> None:
        """What was to be done with one that was handed out is done, or failed."""
        self._under_way -= 1
        self._meter.posting -= 1

    def places_are_free(self) -> None:
        """After that, unless the run ends by it."""
        self._planner.wake()
        self.turnstile.wake()

    def not_now(self, draft: Draft) -> None:
        """It was handed out to be sent, and nothing more is to be sent."""
        self.circuit.dropped()
        self.push(draft, self._parts.clock.now())

    async def announce(self, draft: Draft) -> None:
        """Its POST may be made from now on. Raises `StorageError`.

        This is on the disk, too: so much is paid for at once that a power cut must not make its number, or
        its rows, free again.
        """
        if draft.intended:
            return
        self._parts.journal.intend([draft.intent()])
        draft.intended = True
        self._meter.unacknowledged += draft.own_count
        await asyncio.to_thread(self._parts.journal.log.sync)

    def accept(self, draft: Draft, batch_id: str, now: float, made_at: float | None = None) -> None:
        """The service has it, since `made_at` by its own clock where that is known."""
        accepted = self._parts.clock.unix(now)
        if made_at is not None:
            accepted = min(max(made_at, draft.sent or accepted), accepted)
        self.any_accepted = True
        sent = now if draft.sent is None else self._parts.clock.monotonic(draft.sent)
        self._meter.accept(now, draft.own_count, since=max(sent, self._began))
        self._meter.milestones.accept(accepted)
        self._let_go(draft)
        acceptance = BatchAcceptance(batch=draft.number, id=batch_id, attempts=draft.attempts, at=accepted)
        try:
            self._parts.journal.write(acceptance)
        finally:  # paid for, whatever became of the journal
            self._follow(draft, batch_id, accepted)

    def retract(self, draft: Draft, cause: str, now: float) -> None:
        """The service surely does not have it. Raises `StorageError`."""
        if draft.intended:
            at = self._parts.clock.unix(now)
            self._parts.journal.write(BatchRetraction(batch=draft.number, cause=cause, at=at))
            draft.intended = draft.in_doubt = False
            self._meter.unacknowledged -= draft.own_count

    def end(self, draft: Draft, status: ResultStatus, failure: Failure) -> None:
        """All of its rows end so."""
        for wire_id in draft.own_names.rows:
            self._endings.end(draft, wire_id, status, failure)
        self._let_go(draft)

    def cut_anew(self, draft: Draft) -> None:
        """After a retraction: its rows go into other batches."""
        self._let_go(draft)
        self._planner.again(draft.own_names.rows.values())

    def cut_anew_without(self, draft: Draft, culprit: str, failure: Failure, reply: Reply | None) -> None:
        """As `cut_anew`, but for one of its requests, which is rejected."""
        if draft.names.rows[culprit] not in draft.settled:
            self._endings.end(draft, culprit, "rejected", failure, reply)
        self._let_go(draft)
        self._planner.again(row for name, row in draft.own_names.rows.items() if name != culprit)

    def is_protected(self, draft: Draft) -> bool:
        """Whether its key makes it harmless to send it again."""
        now_unix = self._parts.clock.unix(self._parts.clock.now())
        return is_protected(self._parts.config, draft.sent, now_unix)

    def is_spent(self, draft: Draft, now: float) -> bool:
        """Whether it was tried often enough, and for as long as an outage may last: many rows hang on it."""
        attempts = draft.attempts - draft.excused
        is_over = now - draft.failing_since >= self._parts.config.limits.max_outage_s
        return is_over and attempts >= self._parts.config.submit.retry.max_attempts

    def close(self) -> None:
        """All workers have ended. What is not accepted can be made again."""
        for draft in self._all.values():
            self._planner.sent(draft)

    def _let_go(self, draft: Draft) -> None:
        self._meter.unacknowledged -= draft.own_count if draft.intended else 0
        del self._all[draft.number]
        self._planner.sent(draft)
