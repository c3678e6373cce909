"""Questions that are asked before a body is sent: is there a service, and does it have this batch already?"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from runner.batch.lookup import NOT_FOUND, Found, Sight, find
from runner.batch.submission import Draft
from runner.batch.submissions import Drafts
from runner.session.follower import GONE_SHARE, LOOKS_BEFORE_GONE
from runner.session.parts import Parts
from runner.transport.outcomes import Listing, Throttled, Transient, Unauthorised

LAST_LOOKS_S: Final = 1.0
"""Between looks once the time is over, if there were too few."""


async def meet(parts: Parts, stopped: asyncio.Event) -> None:
    """Before megabytes are sent, a small question: is there a service, and does it take the key?

    Returns once it has answered. Raises what ends the run.
    """
    contact, failures = parts.contact, 0
    while not contact.made and not stopped.is_set():
        outcome = await parts.transport.list_batches(None, 1)
        if not isinstance(outcome, Listing | Throttled | Transient | Unauthorised):
            return  # it lists none: the first batch will tell
        end_of_run = contact.note(outcome, parts.clock.now())
        if end_of_run:
            raise end_of_run
        if isinstance(outcome, Throttled | Transient):
            failures += 1
            parts.meter.submit_retries[outcome.cause] += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), parts.retry_wait_s(failures, outcome.wait_s))


class Search:
    """Looks for a batch whose POST brought no answer, and decides what follows from what it sees."""

    def __init__(self, parts: Parts, drafts: Drafts) -> None:
        self._parts = parts
        self._drafts = drafts
        self._patience_s = GONE_SHARE * parts.config.limits.max_outage_s

    async def look_for(self, draft: Draft) -> None:
        """Once. Raises what ends the run."""
        sight = await find(self._parts.transport, draft)
        now = self._parts.clock.now()
        if not isinstance(sight, Found | Sight):
            self._look_again(draft, sight, now)
            return
        drafts = self._drafts
        drafts.circuit.ended(now, answered=True)
        self._parts.contact.hear_of_an_answer(now)
        if isinstance(sight, Found):
            drafts.accept(draft, sight.id, now, sight.at)
            return
        if self._may_yet_come(draft, sight, now):  # a service that ignores keys would run it twice
            self._look_soon(draft, now)
            return
        is_protected, is_absent = drafts.is_protected(draft), sight is Sight.ABSENT
        may_resend = is_protected or self._parts.config.submit.on_uncertain == "resend"
        if not is_absent and not may_resend:
            drafts.end(draft, "uncertain", NOT_FOUND)
        elif draft.settled and (is_absent or not is_protected):  # in its body are rows not to be sent again
            drafts.retract(draft, "absent", now)
            drafts.cut_anew(draft)
        else:
            draft.in_doubt = is_protected
            self._allow(draft, now)

    def _allow(self, draft: Draft, now: float) -> None:
        """It may be sent again, unless that was tried often enough."""
        if draft.last is not None and self._drafts.is_spent(draft, now):
            self._drafts.end(draft, "uncertain" if draft.in_doubt else "rejected", draft.last)
            return
        draft.may_send = True
        self._drafts.push(draft, now)

    def _look_soon(self, draft: Draft, now: float) -> None:
        """Again, ever further apart, but not later than the time is over."""
        left_s = max(draft.missed_since + self._patience_s - now, LAST_LOOKS_S)
        wait_s = self._parts.retry_wait_s(draft.missed + draft.blind, None)
        self._drafts.push(draft, now + min(wait_s, left_s))

    def _may_yet_come(self, draft: Draft, sight: Sight, now: float) -> bool:
        """It was not found, and may have been on its way when the list was made.

        That there is no list, or that it does not tell, must be said as often, and without a break: a proxy
        may say so of one question.
        """
        if not draft.missed and not draft.blind:
            draft.missed_since = now
        if sight is Sight.ABSENT:
            draft.missed, draft.blind = draft.missed + 1, 0
        else:
            draft.blind += 1
        looks = draft.missed if sight is Sight.ABSENT else draft.blind
        return now - draft.missed_since < self._patience_s or looks < LOOKS_BEFORE_GONE

    def _look_again(self, draft: Draft, outcome: Throttled | Transient | Unauthorised, now: float) -> None:
        end_of_run = self._parts.contact.note(outcome, now)
        self._drafts.circuit.ended(now, answered=not isinstance(outcome, Transient))
        wait_s = None
        if isinstance(outcome, Throttled):
            self._parts.throttled(self._drafts.gate, outcome, now, now)
        if not isinstance(outcome, Unauthorised):
            self._parts.meter.submit_retries[outcome.cause] += 1
            wait_s = outcome.wait_s
        draft.failures += 1
        is_enough = isinstance(outcome, Transient) and self._drafts.is_protected(draft)
        if is_enough and not self._may_yet_come(draft, Sight.IMPOSSIBLE, now):  # the key will do
            self._allow(draft, now)
        else:
            self._drafts.push(draft, now + self._parts.retry_wait_s(draft.failures, wait_s))
        if end_of_run:
            raise end_of_run
