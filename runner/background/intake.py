"""Rows on their way to their first POST: taken, made into requests, and announced in the journal."""

from __future__ import annotations

from collections import deque
from typing import Final

from runner.background.submission import Submission, idempotency_key
from runner.errors import Problem, StoppedEarly
from runner.records import Job
from runner.session.feed import Feed
from runner.session.parts import Parts
from runner.source import Row, Source
from runner.store import Recovery

ROWS_AT_ONCE: Final = 32
"""Whose intents go to the journal with one write: so many are left without a POST by a kill, at the most."""


class Intake:
    """Owns the rows that were taken and not handed out yet, and what earlier sessions say of rows.

    Where a key makes sending again harmless, intents are written some rows ahead. Where none does, a kill
    would leave those rows `uncertain` that were never sent, so each is written alone.
    """

    def __init__(self, parts: Parts, source: Source, feed: Feed, recovery: Recovery) -> None:
        self._parts = parts
        self._source = source
        self._feed = feed
        self._unacknowledged = recovery.unacknowledged
        self._epochs = recovery.epochs
        self._forgotten: dict[int, Job] = {}
        self._ready: deque[Submission] = deque()
        self._at_once = 1 if parts.config.target.idempotency_header is None else ROWS_AT_ONCE
        parts.meter.unacknowledged = len(recovery.unacknowledged)

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def all_granted(self) -> bool:
        """No rows will come but those that are here or were here."""
        return self._feed.all_granted

    def take(self, now: float, in_flight: int) -> Submission | None:
        """The next request, or None while there is none or no place for it. Raises `RunnerError`.

        `in_flight` counts those handed out that are not done, and those that are ready here.
        """
        if not self._ready:
            self._prepare(now, in_flight)
            if not self._ready:
                return None
        submission = self._ready.popleft()
        if submission.sent is None:
            submission.due = self._parts.clock.unix(now)
        return submission

    def again(self, job: Job) -> None:
        """Hand out the request of a forgotten job once more, under the key that it had."""
        self._forgotten[job.row] = job
        self._feed.again(job.row)

    def close(self) -> None:
        """What is ready will not be sent."""
        self._retract_fresh()
        self._ready.clear()

    def give_back(self) -> list[int]:
        """Rows that were not sent and wait here, in rising order; another process may send them.

        Those that were perhaps sent before stay.
        """
        rows = sorted((*self._retract_fresh(), *self._feed.give_back()))
        kept = [row for row in rows if row in self._unacknowledged]
        for row in kept:
            self._feed.again(row)
        return [row for row in rows if row not in self._unacknowledged]

    def _retract_fresh(self) -> list[int]:
        at = self._parts.clock.unix(self._parts.clock.now())
        fresh = [submission for submission in self._ready if not submission.in_doubt]
        for submission in fresh:
            self._parts.sink.retract(submission, "unsent", at)
        self._parts.meter.unacknowledged -= len(fresh)
        self._ready = deque(submission for submission in self._ready if submission.in_doubt)
        return [submission.request.row for submission in fresh]

    def _prepare(self, now: float, in_flight: int) -> None:
        config = self._parts.config
        places = config.submit.max_in_flight - in_flight
        rows = min(places, self._at_once) if self._parts.contact.made else min(places, 1)
        submissions: list[Submission] = []
        while len(submissions) < rows and self._parts.limits.allow_another(in_flight + len(submissions)):
            line = self._feed.take()
            if line is None:
                break
            submissions.append(self._submission(line, self._parts.clock.unix(now)))
        fresh = [submission for submission in submissions if not submission.intended]
        if fresh:
            self._parts.sink.intend(fresh)
            self._parts.meter.unacknowledged += len(fresh)
            for submission in fresh:
                submission.intended = True
        self._ready.extend(submissions)

    def _submission(self, line: Row, now_unix: float) -> Submission:
        request = self._source.request(line)
        epoch = self._epochs.get(line.i, 0)
        key = idempotency_key(self._parts.run_id, request, epoch)
        job = self._forgotten.pop(line.i, None)
        if job is not None:
            return Submission(
                request=request, key=key, epoch=epoch, due=job.due, sent=job.sent, in_doubt=True
            )
        before = self._unacknowledged.pop(line.i, None)
        if before is None:
            return Submission(request=request, key=key, epoch=epoch, due=now_unix)
        if before.key != key:
            raise StoppedEarly(
                Problem(
                    "makes other bytes now than when it was first sent",
                    line.where,
                    "was this tool or a library under it changed? use the old one, or --new",
                )
            )
        return Submission(
            request=request,
            key=key,
            epoch=epoch,
            due=before.due,
            sent=before.sent,
            intended=True,
            in_doubt=True,
        )
