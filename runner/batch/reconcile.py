"""Decides by lookups at the service what happens to a batch whose POST brought no answer."""

from __future__ import annotations

from typing import Final

from runner.batch.lookup import NOT_FOUND, Found, Sight, look_up
from runner.batch.open_batch import OpenBatch
from runner.batch.submission import BatchSubmission
from runner.batch.submissions import BatchSubmissions
from runner.session.follower import GONE_SHARE, POLLS_BEFORE_GONE
from runner.session.parts import Parts
from runner.transport.outcomes import Throttled, Transient, Unauthorised

LAST_LOOKUPS_S: Final = 1.0
"""Longest wait between lookups, in seconds, if there were too few of them when the time was over."""


class Reconciler:
    """Looks up a batch that may have been accepted: it is accepted, resent, or ends `uncertain`."""

    def __init__(self, parts: Parts[OpenBatch], submissions: BatchSubmissions) -> None:
        self._parts = parts
        self._submissions = submissions
        self._patience_s = GONE_SHARE * parts.config.limits.max_outage_s

    async def reconcile(self, batch: BatchSubmission) -> None:
        """Look up a batch once, and act on what that shows. Raises what ends the run."""
        started_mono = self._parts.clock.now_mono()
        sight = await look_up(self._parts.transport, batch)
        now_mono = self._parts.clock.now_mono()
        if not isinstance(sight, Found | Sight):
            self._retry(batch, sight, started_mono, now_mono)
            return
        submissions = self._submissions
        submissions.exchanges.answered(started_mono, now_mono)
        if isinstance(sight, Found):
            submissions.accept(batch, sight.id, now_mono, sight.created)
            return
        if self._may_yet_appear(batch, sight, now_mono):  # a service that ignores keys would run it twice
            self._look_up_soon(batch, now_mono)
            return
        is_protected, is_absent = submissions.is_protected(batch), sight is Sight.ABSENT
        may_resend = is_protected or self._parts.config.submit.on_uncertain == "resend"
        if not is_absent and not may_resend:
            submissions.end(batch, "uncertain", NOT_FOUND)
        elif batch.settled and (is_absent or not is_protected):  # its body has rows that must not be resent
            submissions.retract(batch, "absent", now_mono)
            submissions.take_apart(batch)
        else:
            batch.in_doubt = is_protected
            self._allow(batch, now_mono)

    def _allow(self, batch: BatchSubmission, now_mono: float) -> None:
        """Let a batch be sent again, unless that was tried often enough."""
        if batch.last is not None and self._submissions.is_spent(batch, now_mono):
            self._submissions.end(batch, "uncertain" if batch.in_doubt else "rejected", batch.last)
            return
        batch.may_send = True
        self._submissions.push(batch, now_mono)

    def _look_up_soon(self, batch: BatchSubmission, now_mono: float) -> None:
        """Look up a batch again after a growing wait, which ends at the latest when the time is over."""
        left_s = max(batch.missed_since_mono + self._patience_s - now_mono, LAST_LOOKUPS_S)
        wait_s = self._parts.retry_wait_s(batch.absent + batch.inconclusive, None)
        self._submissions.push(batch, now_mono + min(wait_s, left_s))

    def _may_yet_appear(self, batch: BatchSubmission, sight: Sight, now_mono: float) -> bool:
        """Return whether to keep looking it up: the batch may be newer than the list.

        An inconclusive list must repeat `POLLS_BEFORE_GONE` times running: a proxy can be wrong once.
        """
        if not batch.absent and not batch.inconclusive:
            batch.missed_since_mono = now_mono
        if sight is Sight.ABSENT:
            batch.absent, batch.inconclusive = batch.absent + 1, 0
        else:
            batch.inconclusive += 1
        lookups = batch.absent if sight is Sight.ABSENT else batch.inconclusive
        return now_mono - batch.missed_since_mono < self._patience_s or lookups < POLLS_BEFORE_GONE

    def _retry(
        self,
        batch: BatchSubmission,
        outcome: Throttled | Transient | Unauthorised,
        started_mono: float,
        now_mono: float,
    ) -> None:
        end_of_run = self._submissions.exchanges.settle(outcome, started_mono, now_mono)
        wait_s = None
        if not isinstance(outcome, Unauthorised):
            self._parts.meter.counts.submit_retries[outcome.cause] += 1
            wait_s = outcome.wait_s
        batch.failures += 1
        is_enough = isinstance(outcome, Transient) and self._submissions.is_protected(batch)
        if is_enough and not self._may_yet_appear(batch, Sight.IMPOSSIBLE, now_mono):  # the key will do
            self._allow(batch, now_mono)
        else:
            self._submissions.push(batch, now_mono + self._parts.retry_wait_s(batch.failures, wait_s))
        if end_of_run:
            raise end_of_run
