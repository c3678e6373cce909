"""The semaphore-gated submitter: rows become POSTs, at most `concurrency` at once, and then jobs."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from runner.background.intake import Intake
from runner.background.submission import Submission
from runner.config import RunConfig
from runner.errors import EndpointUnreachable, StoppedEarly
from runner.policy.circuit import Circuit
from runner.policy.rate_gate import RateGate
from runner.records import Failure, Job, Reply, ResultStatus
from runner.session.parts import Parts
from runner.session.turnstile import Turnstile
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
LAST_TRIES: Final = 3
"""Of each row, when a few are left that only fail: so much of a minute's probes falls to each of seven."""
CLOCK_SKEW_S: Final = 300.0
"""An intent from further in the future was written by a clock that was set back since: its age is unknown."""
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

    def __init__(self, parts: Parts, intake: Intake, follow: Callable[[Job], None]) -> None:
        self._parts = parts
        self._meter = parts.meter
        self._section = parts.config.submit
        self._intake = intake
        self._follow = follow
        self._retries: list[tuple[float, int, Submission]] = []
        self._backlog = BACKLOG_PER_WORKER * self._section.concurrency
        self._outstanding = 0
        self.gate = RateGate()
        self._circuit = Circuit(parts.config.limits.max_outage_s)
        self.turnstile: Turnstile[Submission] = Turnstile(self._take, parts.clock.now)
        parts.sink.on_accepted = self._hand_over
        parts.contact.on_made = self.turnstile.wake

    async def work(self) -> None:
        """One of `concurrency` workers. Raises what ends the run."""
        while (submission := await self.turnstile.get()) is not None:
            await self._send(submission)

    def resend(self, job: Job) -> None:
        """Send the request of a forgotten job once more."""
        self._meter.open -= 1
        self._intake.again(job)
        self.turnstile.wake()  # its place in flight is free

    def _take(self, now: float) -> tuple[Submission | None, float | None]:
        opens_at = max(self.gate.opens_at(now), self._circuit.opens_at())
        if opens_at > now:
            return None, opens_at
        submission = self._retry(now) or self._fresh(now)
        if submission is None:
            return None, self._retries[0][0] if self._retries else None
        self.gate.started(now)
        self._circuit.started()
        self._meter.posting += 1
        return submission, None

    def _retry(self, now: float) -> Submission | None:
        if self._retries and self._retries[0][0] <= now:
            return heapq.heappop(self._retries)[2]
        return None

    def _fresh(self, now: float) -> Submission | None:
        contact = self._parts.contact
        if not contact.made and (self._outstanding or not contact.wants_another):
            return None  # the first request decides whether there will be a second
        if len(self._retries) >= self._backlog:
            return None
        submission = self._intake.take(now, self._outstanding + len(self._intake) + self._meter.open)
        self._outstanding += submission is not None
        return submission

    async def _send(self, submission: Submission) -> None:
        parts = self._parts
        started = parts.clock.now()
        try:
            if submission.in_doubt and not self._may_send_again(submission, parts.clock.unix(started)):
                self._circuit.dropped()
                self._end(submission, "uncertain", _DOUBT)
                return
            if submission.sent is None:
                submission.sent = parts.clock.unix(started)
            if not submission.intended:
                parts.sink.intend((submission,))
                submission.intended = True
                self._meter.unacknowledged += 1
            submission.attempts += 1
            outcome = await parts.transport.submit(submission.request.body, submission.key)
        finally:
            self._meter.posting -= 1
        self._settle(submission, outcome, started, parts.clock.now())

    def _may_send_again(self, submission: Submission, now_unix: float) -> bool:
        """Whether a POST of unknown fate may be repeated: it cannot be paid twice, or the user says so."""
        return self._section.on_uncertain == "resend" or self._is_protected(submission, now_unix)

    def _is_protected(self, submission: Submission, now_unix: float) -> bool:
        return is_protected(self._parts.config, submission.sent, now_unix)

    def _settle(self, submission: Submission, outcome: SubmitOutcome, started: float, ended: float) -> None:
        end_of_run = self._parts.contact.note(outcome, ended)
        if self._circuit.ended(ended, answered=not isinstance(outcome, Transient)):
            self.turnstile.wake()
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
                self._meter.open += 1  # until that is written
                self._parts.sink.finish(submission.job("", done), done, outcome)
            case Throttled():
                self._parts.throttled(self.gate, outcome, started, ended)
                self._try_again(submission, outcome.cause, outcome.failure, outcome.wait_s, ended)
            case Transient():
                submission.excused += self._is_excused(submission, outcome, started)
                submission.failed_at = ended
                submission.in_doubt = submission.in_doubt or self._leaves_doubt(outcome)
                self._try_again(submission, outcome.cause, outcome.failure, outcome.wait_s, ended)
            case Rejected():
                self.gate.accepted()
                self._end(submission, self._fate(submission, outcome, ended), outcome.failure, outcome.reply)
            case Unauthorised():
                if not submission.in_doubt:
                    self._retract(submission, str(outcome.failure.status_code), ended)
        if end_of_run and not self._give_up_the_last(end_of_run):
            raise end_of_run

    def _is_excused(self, submission: Submission, outcome: Transient, started: float) -> bool:
        """An attempt uses up the row only if it reached somebody, and if anything was answered meanwhile."""
        since = started if submission.failed_at is None else submission.failed_at
        answered = self._parts.contact.answered_since(since)
        return outcome.cause in ("connect", "no_files") or not answered

    def _leaves_doubt(self, outcome: Transient) -> bool:
        """A 500 is a no, but may come after the job was stored; only a key makes asking again harmless."""
        return outcome.ambiguous or (
            outcome.cause == "500" and self._parts.config.target.idempotency_header is None
        )

    def _give_up_the_last(self, end_of_run: StoppedEarly) -> bool:
        """Whether an outage is none: only rows that failed too often are left, and they can be ended.

        A run must not stop for ever on a few rows that the service cannot digest.
        """
        tries = min(LAST_TRIES, self._section.retry.max_attempts)
        spent = [
            (submission, submission.last)
            for _, _, submission in self._retries
            if submission.last is not None and submission.attempts >= tries
        ]
        are_all = len(spent) == len(self._retries) == self._meter.total - self._meter.done
        if not (are_all and self._intake.all_granted) or not isinstance(end_of_run, EndpointUnreachable):
            return False
        self._retries.clear()
        for submission, failure in spent:
            self._end(submission, "uncertain" if submission.in_doubt else "rejected", failure)
        return True

    def _fate(self, submission: Submission, outcome: Rejected, now: float) -> ResultStatus:
        """`rejected`, unless an earlier POST of the row was perhaps accepted."""
        failure = outcome.failure
        if failure.type == "idempotency_error":  # the key was used with other bytes: by whom, cannot be known
            return "uncertain"
        is_forgotten = failure.status_code in (404, 410)
        is_protected = self._is_protected(submission, self._parts.clock.unix(now))
        return "uncertain" if submission.in_doubt and (is_forgotten or not is_protected) else "rejected"

    def _accept(self, submission: Submission, job_id: str, now: float) -> None:
        self._meter.unacknowledged -= 1
        self._meter.accept(now)
        self._parts.sink.accept(submission.job(job_id, self._parts.clock.unix(now)))

    def _hand_over(self, job: Job) -> None:
        """An acceptance is on record: the job is the poller's."""
        self._outstanding -= 1
        self._follow(job)

    def _try_again(
        self, submission: Submission, cause: str, failure: Failure, wait_s: float | None, now: float
    ) -> None:
        if not submission.in_doubt:
            self._retract(submission, cause, now)
        if submission.in_doubt and not self._may_send_again(submission, self._parts.clock.unix(now)):
            self._end(submission, "uncertain", failure)
        elif submission.attempts - submission.excused >= self._section.retry.max_attempts:
            if not self._parts.contact.made:
                raise self._parts.contact.unreachable(failure)
            self._end(submission, "uncertain" if submission.in_doubt else "rejected", failure)
        else:
            submission.last = None if cause == "connect" else failure
            self._meter.submit_retries[cause] += 1
            due = now + self._parts.retry_wait_s(submission.attempts, wait_s)
            heapq.heappush(self._retries, (due, submission.request.row, submission))

    def _retract(self, submission: Submission, cause: str, now: float) -> None:
        self._parts.sink.retract(submission, cause, self._parts.clock.unix(now))
        submission.intended = False
        self._meter.unacknowledged -= 1

    def _end(
        self, submission: Submission, status: ResultStatus, failure: Failure, reply: Reply | None = None
    ) -> None:
        self._outstanding -= 1
        self._meter.unacknowledged -= submission.intended
        done = self._parts.clock.unix(self._parts.clock.now())
        self._parts.sink.refuse(submission, done, status, failure, reply)


def is_protected(config: RunConfig, sent: float | None, now_unix: float) -> bool:
    """Whether the service still knows the key of a first POST at `sent`, if it ever came to know it."""
    if config.target.idempotency_header is None:
        return False
    age_s = 0.0 if sent is None else now_unix - sent
    return -CLOCK_SKEW_S < age_s < KEY_LIFE_S
