"""The semaphore-gated submitter: rows become POSTs, at most `concurrency` at once, and then jobs."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from runner.errors import Problem, StoppedEarly
from runner.pipeline.contact import refused
from runner.pipeline.feed import Feed
from runner.pipeline.parts import Parts
from runner.pipeline.submission import Submission, idempotency_key
from runner.pipeline.turnstile import Turnstile
from runner.policy.limiter import Gate
from runner.records import Failure, Job, Reply, ResultStatus
from runner.source import Line, Source
from runner.store import Acceptance, Retraction, Unacknowledged
from runner.transport.outcomes import (
    Accepted,
    Done,
    Rejected,
    SubmitOutcome,
    Throttled,
    Transient,
    Unauthorised,
)

KEY_LIFE_S: Final = 23 * 3600.0
"""Services keep an idempotency key for 24 hours; an hour is left for clocks that disagree."""
BACKLOG_PER_WORKER: Final = 2
"""Requests waiting for another try before fresh rows are held back; bounds the bodies in memory."""

_DOUBT: Final = Failure(
    type="uncertain",
    message="it was sent once without an acknowledgement, and sending it again could be paid for twice",
)


class Submitter:
    """Owns the requests that are not accepted yet: those being sent and those waiting for another try.

    A request has one of `max_in_flight` places from when its row is taken until its result is written.
    """

    def __init__(
        self,
        parts: Parts,
        source: Source,
        feed: Feed,
        unacknowledged: dict[int, Unacknowledged],
        follow: Callable[[Job], None],
    ) -> None:
        self._parts = parts
        self._meter = parts.meter
        self._section = parts.config.submit
        self._source = source
        self._feed = feed
        self._unacknowledged = unacknowledged
        self._follow = follow
        self._retries: list[tuple[float, int, Submission]] = []
        self._backlog = BACKLOG_PER_WORKER * self._section.concurrency
        self._outstanding = 0
        self.gate = Gate()
        self.turnstile: Turnstile[Submission] = Turnstile(self._take, parts.clock.now)
        self._meter.unacknowledged = len(unacknowledged)
        feed.on_more = self._more
        parts.contact.on_made = self.turnstile.wake

    @property
    def finished(self) -> bool:
        """Every row is accepted, or has its result."""
        return self._feed.empty and not self._outstanding

    async def work(self) -> None:
        """One of `concurrency` workers. Raises what ends the run."""
        while (submission := await self.turnstile.get()) is not None:
            await self._send(submission)
            if self.finished:
                self.turnstile.close()

    def _more(self) -> None:
        """More rows were read, or the last one was."""
        if self.finished:
            self.turnstile.close()
        else:
            self.turnstile.wake()

    def _take(self, now: float) -> tuple[Submission | None, float | None]:
        opens_at = self.gate.opens_at(now)
        if opens_at > now:
            return None, opens_at
        submission = self._retry(now) or self._fresh(now)
        if submission is None:
            return None, self._retries[0][0] if self._retries else None
        self.gate.started(now)
        self._meter.posting += 1
        return submission, None

    def _retry(self, now: float) -> Submission | None:
        if self._retries and self._retries[0][0] <= now:
            return heapq.heappop(self._retries)[2]
        return None

    def _fresh(self, now: float) -> Submission | None:
        if self._outstanding + self._meter.open >= self._section.max_in_flight:
            return None
        if len(self._retries) >= self._backlog:
            return None
        contact = self._parts.contact
        if not contact.made and (self._outstanding or not contact.wants_another):
            return None  # the first request decides whether there will be a second
        line = self._feed.take()
        if line is None:
            return None
        self._outstanding += 1
        return self._submission(line, now)

    def _submission(self, line: Line, now: float) -> Submission:
        request = self._source.request(line)
        key = idempotency_key(self._parts.run_id, request)
        before = self._unacknowledged.pop(line.i, None)
        if before is None:
            return Submission(request=request, key=key, due=self._parts.clock.unix(now))
        if before.key != key:
            raise StoppedEarly(
                Problem(
                    "makes other bytes now than when it was first sent",
                    line.where,
                    "was this tool or a library under it changed? use the old one, or --new",
                )
            )
        return Submission(
            request=request, key=key, due=before.due, sent=before.sent, intended=True, in_doubt=True
        )

    async def _send(self, submission: Submission) -> None:
        parts = self._parts
        started = parts.clock.now()
        try:
            if submission.in_doubt and not self._may_send_again(submission, parts.clock.unix(started)):
                self._end(submission, "uncertain", _DOUBT)
                return
            if submission.sent is None:
                submission.sent = parts.clock.unix(started)
            if not submission.intended:
                parts.journal.write(submission.intent())
                submission.intended = True
                self._meter.unacknowledged += 1
            submission.attempts += 1
            outcome = await parts.transport.submit(submission.request.body, submission.key)
        finally:
            self._meter.posting -= 1
        self._settle(submission, outcome, started, parts.clock.now())

    def _may_send_again(self, submission: Submission, now_unix: float) -> bool:
        """Whether a POST of unknown fate can be repeated without paying twice."""
        young = submission.sent is None or now_unix - submission.sent < KEY_LIFE_S
        return self._parts.config.target.idempotency_header is not None and young

    def _settle(self, submission: Submission, outcome: SubmitOutcome, started: float, ended: float) -> None:
        self._parts.contact.note(outcome, ended)
        match outcome:
            case Accepted():
                self.gate.accepted()
                self._accept(submission, outcome.id, ended)
            case Done():
                self.gate.accepted()
                done = self._parts.clock.unix(ended)
                self._outstanding -= 1
                self._meter.unacknowledged -= 1
                self._meter.accept(ended)
                self._parts.sink.finish(submission.job("", done), done, outcome)
            case Throttled():
                self._parts.throttled(self.gate, outcome, started, ended)
                self._try_again(submission, outcome.cause, outcome.failure, outcome.wait_s, ended)
            case Transient():
                submission.unconnected += outcome.cause == "connect"
                submission.in_doubt = submission.in_doubt or outcome.ambiguous
                self._try_again(submission, outcome.cause, outcome.failure, outcome.wait_s, ended)
            case Rejected():
                self.gate.accepted()
                # A key that was used with other bytes was used: by whom, cannot be known.
                spent = outcome.failure.type == "idempotency_error"
                self._end(submission, "uncertain" if spent else "rejected", outcome.failure, outcome.reply)
                self._parts.contact.check_rejections(outcome.failure)
            case Unauthorised():
                if not submission.in_doubt:
                    self._retract(submission, str(outcome.failure.status_code), ended)
                raise refused(outcome.failure, self._parts.config.target.api_key_env)

    def _accept(self, submission: Submission, job_id: str, now: float) -> None:
        job = submission.job(job_id, self._parts.clock.unix(now))
        self._parts.journal.write(
            Acceptance(row=job.row, job=job.id, kind=job.kind, attempts=job.attempts, at=job.accepted)
        )
        self._outstanding -= 1
        self._meter.unacknowledged -= 1
        self._meter.accept(now)
        self._follow(job)

    def _try_again(
        self, submission: Submission, cause: str, failure: Failure, wait_s: float | None, now: float
    ) -> None:
        if not submission.in_doubt:
            self._retract(submission, cause, now)
        if submission.in_doubt and not self._may_send_again(submission, self._parts.clock.unix(now)):
            self._end(submission, "uncertain", failure)
        elif submission.attempts - submission.unconnected >= self._section.retry.max_attempts:
            if not self._parts.contact.made:
                raise self._parts.contact.unreachable(failure)
            self._end(submission, "uncertain" if submission.in_doubt else "rejected", failure)
        else:
            self._meter.submit_retries[cause] += 1
            due = now + self._parts.retry_wait_s(submission.attempts, wait_s)
            heapq.heappush(self._retries, (due, submission.request.row, submission))

    def _retract(self, submission: Submission, cause: str, now: float) -> None:
        """The service surely does not know of this request: a later session may send it without doubt."""
        at = self._parts.clock.unix(now)
        self._parts.journal.write(Retraction(row=submission.request.row, cause=cause, at=at))
        submission.intended = False
        self._meter.unacknowledged -= 1

    def _end(
        self, submission: Submission, status: ResultStatus, failure: Failure, reply: Reply | None = None
    ) -> None:
        self._outstanding -= 1
        self._meter.unacknowledged -= submission.intended
        done = self._parts.clock.unix(self._parts.clock.now())
        self._parts.sink.refuse(submission, done, status, failure, reply)
