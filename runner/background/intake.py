"""Rows on their way to their first POST: taken, turned into requests, and announced in the journal."""

from __future__ import annotations

from collections import deque
from typing import Final

from runner.background.submission import Submission
from runner.errors import Problem, StoppedEarly
from runner.policy.idempotency import idempotency_key
from runner.records import Job
from runner.session.feed import Feed
from runner.session.parts import Parts
from runner.source import Row, Source
from runner.store import Recovery

ROWS_PER_WRITE: Final = 32
"""Rows whose intents share one journal write. A kill leaves at most this many intents without a POST."""


class Intake:
    """Owns the rows that were taken and not handed out yet, and what earlier sessions know of rows.

    Where a key makes resending harmless, intents are written some rows ahead. Where none does, a kill would
    leave rows `uncertain` that were never sent, so each intent is written alone.
    """

    def __init__(self, parts: Parts[Job], source: Source, feed: Feed, recovery: Recovery) -> None:
        self._parts = parts
        self._in_flight = parts.in_flight
        self._source = source
        self._feed = feed
        self._unacknowledged = recovery.unacknowledged
        self._epochs = recovery.epochs
        self._forgotten: dict[int, Job] = {}
        self._ready: deque[Submission] = deque()
        has_keys = parts.config.target.idempotency_header is not None
        self._rows_per_write = ROWS_PER_WRITE if has_keys else 1

    def __repr__(self) -> str:
        return f"<Intake {len(self._ready)} ready, {len(self._forgotten)} forgotten>"

    @property
    def all_granted(self) -> bool:
        """Whether no more rows will come than were granted so far."""
        return self._feed.all_granted

    def take(self, now: float) -> Submission | None:
        """Return the next request, or None while there is none or no slot for it. Raises `RunnerError`.

        `now` is in Unix seconds.
        """
        if not self._ready:
            self._prepare(now)
            if not self._ready:
                return None
        submission = self._ready.popleft()
        if submission.sent is None:
            submission.due = now
        return submission

    def requeue(self, job: Job) -> None:
        """Hand out the request of a forgotten job again, under the key that it had."""
        self._forgotten[job.row] = job
        self._feed.requeue(job.row)

    def close(self) -> None:
        """Retract what was announced and will not be sent."""
        self._retract_fresh()
        self._in_flight.release(len(self._ready))
        self._ready.clear()

    def give_back(self) -> list[int]:
        """Return rows that were not sent and wait here, in rising order; another process may send them.

        Rows that were perhaps sent before stay.
        """
        rows = sorted((*self._retract_fresh(), *self._feed.give_back()))
        kept = [row for row in rows if row in self._unacknowledged]
        for row in kept:
            self._feed.requeue(row)
        return [row for row in rows if row not in self._unacknowledged]

    def _retract_fresh(self) -> list[int]:
        at = self._parts.clock.now()
        fresh = [submission for submission in self._ready if not submission.in_doubt]
        for submission in fresh:
            self._parts.sink.retract(submission.retraction("unsent", at))
        self._in_flight.retract(len(fresh))
        self._in_flight.release(len(fresh))
        self._ready = deque(submission for submission in self._ready if submission.in_doubt)
        return [submission.request.row for submission in fresh]

    def _prepare(self, now: float) -> None:
        """Take as many rows as may be announced with one write."""
        parts, in_flight = self._parts, self._in_flight
        used = in_flight.slots_used
        slots = parts.config.submit.max_in_flight - used
        rows = min(slots, self._rows_per_write if parts.health.is_confirmed else 1)
        taken: list[Submission] = []
        while len(taken) < rows and parts.limits.allow_another(used + len(taken)):
            row = self._feed.take()
            if row is None:
                break
            taken.append(self._submission(row, now))
        in_flight.take(len(taken))
        fresh = [submission for submission in taken if not submission.announced]
        if fresh:
            parts.sink.intend([submission.intent() for submission in fresh])
            in_flight.announce(len(fresh))
            for submission in fresh:
                submission.announced = True
        self._ready.extend(taken)

    def _submission(self, row: Row, now: float) -> Submission:
        request = self._source.request(row)
        epoch = self._epochs.get(row.i, 0)
        key = idempotency_key(self._parts.run_id, request.custom_id, epoch, request.body)
        job = self._forgotten.pop(row.i, None)
        if job is not None:
            return Submission(request, key, job.due, epoch, job.sent, in_doubt=True)
        before = self._unacknowledged.pop(row.i, None)
        if before is None:
            return Submission(request, key, now, epoch)
        if before.key != key:
            raise StoppedEarly(
                Problem(
                    "makes other bytes now than when it was first sent",
                    row.where,
                    "was this tool or a library under it changed? use the old one, or --new",
                )
            )
        return Submission(request, key, before.due, epoch, before.sent, announced=True, in_doubt=True)
