"""A request on its way to being accepted, and what is written down of it."""

from __future__ import annotations

import msgspec

from runner.records import Failure, Job, Reply, Request, Result, ResultStatus, Timing
from runner.store import Acceptance, Intent, Retraction


class Submission(msgspec.Struct, gc=False):
    """A row that was taken and has neither a job nor a result yet. Times in Unix seconds."""

    request: Request
    key: str
    """The idempotency key of every POST of the row in this epoch."""
    due: float
    epoch: int = 0
    sent: float | None = None
    """When its first POST began; None until then."""
    attempts: int = 0
    excused: int = 0
    """Attempts that do not count as `retry.max_attempts`: they reached nobody, or fell into an outage."""
    failed_at_mono: float | None = None
    """Monotonic time of the last failure."""
    last: Failure | None = None
    """The failure of the last attempt, where the service was reached."""
    announced: bool = False
    """Whether an intent is in the journal: the service may know of this request."""
    in_doubt: bool = False
    """Whether a POST was sent and it is not known if the service accepted it."""

    def intent(self) -> Intent:
        """Return the journal entry that announces it."""
        return Intent(
            row=self.request.row,
            custom_id=self.request.custom_id,
            key=self.key,
            due=self.due,
            at=self.sent or self.due,
            epoch=self.epoch,
        )

    def retraction(self, cause: str, at: float) -> Retraction:
        """Return the journal entry that the service surely does not know of it."""
        return Retraction(self.request.row, cause, at, self.epoch)

    def job(self, job_id: str, accepted: float) -> Job:
        """Return what is polled once the service has accepted it."""
        return Job(
            row=self.request.row,
            custom_id=self.request.custom_id,
            id=job_id,
            kind=self.request.kind,
            due=self.due,
            sent=self.sent or accepted,
            accepted=accepted,
            attempts=self.attempts,
            epoch=self.epoch,
        )

    def result(self, status: ResultStatus, failure: Failure, reply: Reply | None, done: float) -> Result:
        """Return the result of a request that ends at `done` without an acceptance."""
        return Result(
            custom_id=self.request.custom_id,
            row=self.request.row,
            status=status,
            response=reply,
            error=failure,
            timing=Timing(due=self.due, sent=self.sent, accepted=None, pending=None, done=done),
            attempts=self.attempts,
            polls=0,
            epoch=self.epoch,
        )


def acceptance_of(job: Job) -> Acceptance:
    """Return the journal entry that the service works on a job."""
    return Acceptance(
        row=job.row,
        job=job.id,
        kind=job.kind,
        attempts=job.attempts,
        at=job.accepted,
        epoch=job.epoch,
    )
