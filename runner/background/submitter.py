"""The semaphore-gated submitter: rows become POSTs, at most `submit.concurrency` at once, and then jobs."""

from __future__ import annotations

import heapq
from typing import Final

from runner.background.intake import Intake
from runner.background.submission import Submission, acceptance_of
from runner.errors import EndpointUnreachable, StoppedEarly
from runner.policy.idempotency import is_protected
from runner.records import Failure, Job, Reply, ResultStatus
from runner.session.parts import Parts
from runner.session.turnstile import AFTER_AN_EVENT, NotBefore, Turnstile
from runner.transport.outcomes import (
    Accepted,
    Done,
    Rejected,
    SubmitOutcome,
    Throttled,
    Transient,
    Unauthorised,
)

LAST_TRIES: Final = 3
"""Attempts after which a row is hopeless when only failing rows are left.

Each of seven rows gets as many of some twenty probes a minute.
"""
BACKLOG_PER_WORKER: Final = 2
"""Requests per worker that wait for a retry, at which fresh rows are held back: bodies take memory."""

_DOUBT: Final = Failure(
    type="uncertain",
    message="it was sent once without an acknowledgement, and sending it again could be paid for twice",
)


class Submitter:
    """Owns the requests that are not accepted yet: those being sent, and those that wait for a retry."""

    def __init__(self, parts: Parts[Job], intake: Intake) -> None:
        self._parts = parts
        self._meter = parts.meter
        self._in_flight = parts.in_flight
        self._section = parts.config.submit
        self._intake = intake
        self._retries: list[tuple[float, int, Submission]] = []
        self._backlog = BACKLOG_PER_WORKER * self._section.concurrency
        self.turnstile: Turnstile[Submission] = Turnstile(self._take, parts.clock.now_mono)
        self._exchanges = parts.exchanges(self.turnstile.wake)

    def __repr__(self) -> str:
        return f"<Submitter {len(self._retries)} waiting for a retry, {self._exchanges!r}>"

    async def work(self) -> None:
        """Send requests until the turnstile closes; one of several workers. Raises what ends the run."""
        while (submission := await self.turnstile.get()) is not None:
            await self._send(submission)

    def resend(self, job: Job) -> None:
        """Send the request of a forgotten job again."""
        self._in_flight.forget()
        self._intake.requeue(job)
        self.turnstile.wake()  # its slot is free

    def _take(self, now_mono: float) -> Submission | NotBefore:
        opens_at_mono = self._exchanges.opens_at(now_mono)
        if opens_at_mono > now_mono:
            return NotBefore(opens_at_mono)
        submission = self._retry(now_mono) or self._fresh(now_mono)
        if submission is None:
            return NotBefore(self._retries[0][0]) if self._retries else AFTER_AN_EVENT
        self._exchanges.started(now_mono)
        self._in_flight.post_started()
        return submission

    def _retry(self, now_mono: float) -> Submission | None:
        if self._retries and self._retries[0][0] <= now_mono:
            return heapq.heappop(self._retries)[2]
        return None

    def _fresh(self, now_mono: float) -> Submission | None:
        health = self._parts.health
        if not health.is_confirmed and (self._in_flight.taken or not health.allows_another):
            return None  # the first request decides whether there will be a second
        if len(self._retries) >= self._backlog:
            return None
        return self._intake.take(self._parts.clock.unix(now_mono))

    async def _send(self, submission: Submission) -> None:
        parts = self._parts
        started_mono = parts.clock.now_mono()
        try:
            if submission.in_doubt and not self._may_resend(submission, parts.clock.unix(started_mono)):
                self._exchanges.dropped()
                self._end(submission, "uncertain", _DOUBT)
                return
            if submission.sent is None:
                submission.sent = parts.clock.unix(started_mono)
            if not submission.announced:
                parts.sink.intend((submission.intent(),))
                self._in_flight.announce()
                submission.announced = True
            submission.attempts += 1
            outcome = await parts.transport.submit(submission.request.body, submission.key)
        finally:
            self._in_flight.post_ended()
        self._settle(submission, outcome, started_mono, parts.clock.now_mono())

    def _may_resend(self, submission: Submission, now: float) -> bool:
        """Return whether a POST that may have been accepted may be repeated.

        Either it cannot be paid twice, or the user says so.
        """
        return self._section.on_uncertain == "resend" or self._is_protected(submission, now)

    def _is_protected(self, submission: Submission, now: float) -> bool:
        has_keys = self._parts.config.target.idempotency_header is not None
        return is_protected(has_keys, submission.sent, now)

    def _settle(
        self, submission: Submission, outcome: SubmitOutcome, started_mono: float, ended_mono: float
    ) -> None:
        end_of_run = self._exchanges.settle(outcome, started_mono, ended_mono)
        match outcome:
            case Accepted():
                self._accept(submission, outcome.id, ended_mono)
            case Done():
                done = self._parts.clock.unix(ended_mono)
                self._meter.accept(done, ended_mono)
                self._in_flight.accept()
                self._parts.sink.finish(submission.job("", done), done, outcome)
            case Throttled() | Transient():
                submission.excused += self._is_excused(submission, outcome, started_mono)
                submission.failed_at_mono = ended_mono
                submission.in_doubt = submission.in_doubt or self._leaves_doubt(outcome)
                self._try_again(submission, outcome, ended_mono)
            case Rejected():
                status = self._status_of_rejected(submission, outcome, ended_mono)
                self._end(submission, status, outcome.failure, outcome.reply)
            case Unauthorised():
                if not submission.in_doubt:
                    self._retract(submission, str(outcome.failure.status_code), ended_mono)
        if end_of_run and not self._end_hopeless_rows(end_of_run):
            raise end_of_run

    def _is_excused(
        self, submission: Submission, outcome: Throttled | Transient, started_mono: float
    ) -> bool:
        """Return whether an attempt does not count: it reached nobody, or nothing was answered meanwhile."""
        since_mono = started_mono if submission.failed_at_mono is None else submission.failed_at_mono
        answered = self._parts.health.answered_since(since_mono)
        return outcome.cause in ("connect", "no_files") or not answered

    def _leaves_doubt(self, outcome: Throttled | Transient) -> bool:
        """Return whether the service may have accepted the request.

        A 500 is a rejection, but may come after the job was stored: only a key makes resending harmless then.
        """
        if isinstance(outcome, Throttled):
            return False
        has_keys = self._parts.config.target.idempotency_header is not None
        return outcome.ambiguous or (outcome.cause == "500" and not has_keys)

    def _end_hopeless_rows(self, end_of_run: StoppedEarly) -> bool:
        """End the remaining rows and return True if the "outage" is only a few rows that always fail.

        A run must not stop each time at a few rows that the service cannot digest.
        """
        tries = min(LAST_TRIES, self._section.retry.max_attempts)
        spent = [
            (submission, submission.last)
            for _, _, submission in self._retries
            if submission.last is not None and submission.attempts >= tries
        ]
        left = self._in_flight.total - self._in_flight.finished
        are_all = len(spent) == len(self._retries) == left
        if not (are_all and self._intake.all_granted) or not isinstance(end_of_run, EndpointUnreachable):
            return False
        self._retries.clear()
        for submission, failure in spent:
            self._end(submission, "uncertain" if submission.in_doubt else "rejected", failure)
        return True

    def _status_of_rejected(self, submission: Submission, outcome: Rejected, now_mono: float) -> ResultStatus:
        """Return `rejected`, or `uncertain` where an earlier POST of the row was perhaps accepted."""
        failure = outcome.failure
        if failure.type == "idempotency_error":  # the key was used with other bytes: by whom, cannot be known
            return "uncertain"
        is_forgotten = failure.status_code in (404, 410)
        protected = self._is_protected(submission, self._parts.clock.unix(now_mono))
        return "uncertain" if submission.in_doubt and (is_forgotten or not protected) else "rejected"

    def _accept(self, submission: Submission, job_id: str, now_mono: float) -> None:
        job = submission.job(job_id, self._parts.clock.unix(now_mono))
        self._meter.accept(job.accepted, now_mono)
        self._parts.sink.accept(acceptance_of(job), job)

    def _try_again(self, submission: Submission, outcome: Throttled | Transient, now_mono: float) -> None:
        cause, failure = outcome.cause, outcome.failure
        if not submission.in_doubt:
            self._retract(submission, cause, now_mono)
        if submission.in_doubt and not self._may_resend(submission, self._parts.clock.unix(now_mono)):
            self._end(submission, "uncertain", failure)
        elif submission.attempts - submission.excused >= self._section.retry.max_attempts:
            if not self._parts.health.is_confirmed:
                raise self._parts.health.unreachable(failure)
            self._end(submission, "uncertain" if submission.in_doubt else "rejected", failure)
        else:
            submission.last = None if cause == "connect" else failure
            self._meter.counts.submit_retries[cause] += 1
            due_mono = now_mono + self._parts.retry_wait_s(submission.attempts, outcome.wait_s)
            heapq.heappush(self._retries, (due_mono, submission.request.row, submission))

    def _retract(self, submission: Submission, cause: str, now_mono: float) -> None:
        self._parts.sink.retract(submission.retraction(cause, self._parts.clock.unix(now_mono)))
        submission.announced = False
        self._in_flight.retract()

    def _end(
        self, submission: Submission, status: ResultStatus, failure: Failure, reply: Reply | None = None
    ) -> None:
        result = submission.result(status, failure, reply, self._parts.clock.now())
        self._parts.sink.refuse(result, was_announced=submission.announced)
