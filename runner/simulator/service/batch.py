"""A batch: the terms it was accepted on, its jobs by custom_id, and what is told of it."""

from __future__ import annotations

from typing import Final

import msgspec

from runner.simulator.service.job import JobStatus, SimulatedJob

_WORDS: Final[dict[JobStatus, str]] = {
    "waiting": "PENDING",
    "running": "RUNNING",
    "completed": "COMPLETED",
    "incomplete": "COMPLETED",
    "failed": "FAILED",
    "expired": "FAILED",
    "cancelled": "CANCELLED",
}


class BatchTerms(msgspec.Struct, frozen=True, gc=False, tag="batch", tag_field="event"):
    """Also the batch's line in the state file: it follows those of its jobs, and without it they are none."""

    id: str
    key: str | None
    """The Idempotency-Key, where one was sent."""
    scope: str
    """Stands for the API key; only who has that sees the batch."""
    sha256: bytes
    """Of the request body."""
    label: str | None
    count: int
    accepted: float
    """Unix seconds."""


class SimulatedBatch:
    """Owned by the service. Its jobs are in the order of its requests."""

    __slots__ = ("_form", "jobs", "looks", "position", "terms")

    def __init__(self, terms: BatchTerms, jobs: dict[str, SimulatedJob], position: int) -> None:
        self.terms = terms
        self.jobs = jobs
        self.position = position
        """Among the batches of its scope, the oldest first."""
        self.looks = 0
        # One string with a gap for each word: a hundred thousand states are filled in within milliseconds.
        # No custom_id has a character that JSON escapes or a `%`.
        self._form = ",".join([f'"{custom_id}":{{"status":"%s"}}' for custom_id in jobs])

    def summary(self, labels: bool) -> str:
        """What its creation and the list say of it, as a JSON object. Begins with its id."""
        terms = self.terms
        label = f',"label":"{terms.label}"' if labels and terms.label is not None else ""
        return (
            f'{{"id":"{terms.id}","request_counts":{terms.count},"created_at":{int(terms.accepted)}{label}}}'
        )

    def status(self, labels: bool) -> bytes:
        """The summary and the state of every request."""
        words = _WORDS
        states = self._form % tuple([words[job.status] for job in self.jobs.values()])
        return f'{self.summary(labels)[:-1]},"request_status":{{{states}}}}}'.encode()
