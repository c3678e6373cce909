"""A batch of the service: the terms it was accepted on, its jobs by custom_id, and its JSON."""

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
    """Everything that is decided when a batch is accepted. Written as its line in the state file.

    The line follows those of the batch's jobs; without it, they count for nothing.
    """

    id: str
    key: str | None
    """The Idempotency-Key, or None if none was sent."""
    scope: str
    """Digest that stands for the API key; the batch is visible with that key only."""
    sha256: bytes
    """Digest of the request body."""
    label: str | None
    count: int
    """Number of requests."""
    accepted: float
    """Time of acceptance, in Unix seconds."""


class SimulatedBatch:
    """One batch. Owned by the service; its jobs are in the order of its requests."""

    __slots__ = ("_form", "jobs", "polls", "position", "terms")

    def __init__(self, terms: BatchTerms, jobs: dict[str, SimulatedJob], position: int) -> None:
        self.terms = terms
        self.jobs = jobs
        self.position = position
        """Index among the batches of its scope, the oldest first."""
        self.polls = 0
        # One string with a gap for each word: a hundred thousand states are filled in within milliseconds.
        # A custom_id never contains a `%` or a character that JSON escapes.
        self._form = ",".join([f'"{custom_id}":{{"status":"%s"}}' for custom_id in jobs])

    def summary(self, labels: bool) -> str:
        """Return the JSON object that the creation and the list reply with. The id comes first."""
        terms = self.terms
        label = f',"label":"{terms.label}"' if labels and terms.label is not None else ""
        return (
            f'{{"id":"{terms.id}","request_counts":{terms.count},"created_at":{int(terms.accepted)}{label}}}'
        )

    def status(self, labels: bool) -> bytes:
        """Return the summary with the state of every request, as JSON."""
        words = _WORDS
        states = self._form % tuple([words[job.status] for job in self.jobs.values()])
        return f'{self.summary(labels)[:-1]},"request_status":{{{states}}}}}'.encode()
