"""A job: the terms it was accepted on, which never change, and where it stands."""

from __future__ import annotations

from typing import Literal

import msgspec

JobOutcome = Literal["completed", "failed", "incomplete", "cancelled", "expired"]
JobStatus = Literal["waiting", "running"] | JobOutcome


class JobTerms(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="accepted", tag_field="event"):
    """All that is decided when a job is accepted; also its line in the state file."""

    id: str
    key: str | None
    """The Idempotency-Key, where one was sent."""
    scope: str
    """Stands for the API key, which is never kept."""
    sha256: bytes
    """Of the request body or, in a batch, of the request's params."""
    model: str
    parameters: str
    metadata: str
    background: bool
    prompt: str
    input_tokens: int
    output_tokens: int
    outcome: JobOutcome
    accepted: float
    """Unix seconds."""
    duration_s: float
    batch: str | None = None
    """The id of the batch it is a request of, and its name there."""
    custom_id: str | None = None


class SimulatedJob(msgspec.Struct, gc=False):
    """Owned by the service; `status` is changed by the slots alone."""

    terms: JobTerms
    status: JobStatus = "waiting"
    started: float | None = None
    finish: float | None = None
    """When it is, or was, done; None while it waits."""
    gets: int = 0
    delivered: float | None = None
    """When a whole 2xx body with a done status was first sent for it."""
    deleted: bool = False

    @property
    def done(self) -> bool:
        return self.status not in ("waiting", "running")
