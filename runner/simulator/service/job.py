"""A job of the service: the terms it was accepted on, which never change, and its current state."""

from __future__ import annotations

from typing import Literal

import msgspec

JobOutcome = Literal["completed", "failed", "incomplete", "cancelled", "expired"]
JobStatus = Literal["waiting", "running"] | JobOutcome


class JobTerms(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="accepted", tag_field="event"):
    """Everything that is decided when a job is accepted. Written as its line in the state file."""

    id: str
    key: str | None
    """The Idempotency-Key, or None if none was sent."""
    scope: str
    """Digest that stands for the API key, which is never kept."""
    sha256: bytes
    """Digest of the request body or, in a batch, of the request's params."""
    model: str
    parameters: str
    metadata: str
    background: bool
    prompt: str
    input_tokens: int
    output_tokens: int
    outcome: JobOutcome
    accepted: float
    """Time of acceptance, in Unix seconds."""
    duration_s: float
    batch: str | None = None
    """The id of the job's batch, or None for a single job."""
    custom_id: str | None = None
    """The name of the job's request in its batch, or None for a single job."""


class SimulatedJob(msgspec.Struct, gc=False):
    """One job and its state. Owned by the service; only the slots change `status`."""

    terms: JobTerms
    status: JobStatus = "waiting"
    started: float | None = None
    """Time when it started, in Unix seconds; None while it waits."""
    finish: float | None = None
    """Time when it ends or ended, in Unix seconds; None while it waits."""
    gets: int = 0
    """Number of polls."""
    delivered: float | None = None
    """Time when a whole 2xx reply first carried its final status, in Unix seconds."""
    deleted: bool = False

    @property
    def done(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.status not in ("waiting", "running")
