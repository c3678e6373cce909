"""A request on its way to being accepted, and what is written down of it."""

from __future__ import annotations

import hashlib

import msgspec

from runner.records import Failure, Job, Request, Timing
from runner.store import Intent


class Submission(msgspec.Struct, gc=False):
    """A row that was taken and has neither a job nor a result yet. Times in Unix seconds."""

    request: Request
    key: str
    due: float
    epoch: int = 0
    sent: float | None = None
    """When its first POST began."""
    attempts: int = 0
    excused: int = 0
    """Of the attempts, those that found nobody, or tried in an outage: they do not use up the row."""
    failed_at: float | None = None
    """Monotonic time of the last failure."""
    last: Failure | None = None
    """Of the last attempt, where the service was reached."""
    intended: bool = False
    """An intent stands in the journal: the service may know of this request."""
    in_doubt: bool = False
    """A POST was sent whose fate is not known."""

    def intent(self) -> Intent:
        return Intent(
            row=self.request.row,
            custom_id=self.request.custom_id,
            key=self.key,
            due=self.due,
            at=self.sent or self.due,
            epoch=self.epoch,
        )

    def job(self, job_id: str, accepted: float) -> Job:
        """What the poller follows, once the service took the request."""
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

    def timing(self, done: float) -> Timing:
        """The times of a request that ends without an acceptance."""
        return Timing(due=self.due, sent=self.sent, accepted=None, pending=None, done=done)


def idempotency_key(run_id: str, request: Request, epoch: int = 0) -> str:
    """The same for every try of a row, in this session and the next: hex SHA-256, 64 characters."""
    hasher = hashlib.sha256(f"{run_id}\0{request.custom_id}\0{epoch}\0".encode())
    hasher.update(request.body)
    return hasher.hexdigest()
