"""A batch that the service has accepted, and a request of it whose result is being fetched."""

from __future__ import annotations

from typing import Final

import msgspec

from runner.batch.submission import BatchSubmission, Names
from runner.records import Failure, Job, Polled, ResultStatus

MOST_SAMPLED: Final = 64
"""Requests of a batch from which the polling strategy learns."""


class Sampled(msgspec.Struct, gc=False):
    """One request of a batch as a polling strategy sees a job; see `policy.polling.Followed`."""

    wire_id: str
    kind: str
    order: int
    accepted: float
    pending: float | None = None
    polls: int = 0


class OpenBatch(Polled, gc=True):
    """An accepted batch with rows that have no result yet. Owned by the collector; times in Unix seconds."""

    id: str
    number: int
    kind: str
    names: Names
    """Names of the requests that are not known to be done; its `own` keeps the ids of all."""
    due: float
    sent: float
    accepted: float
    attempts: int
    without_result: int
    """Requests without a result: not done, or still to be fetched."""
    sampled: list[Sampled] = msgspec.field(default_factory=list)
    order: int = 0
    """Rank among all batches of this session, by acceptance."""

    @classmethod
    def of(cls, batch: BatchSubmission, batch_id: str, accepted: float) -> OpenBatch:
        """Return what a submission becomes when the service has accepted it."""
        return cls(
            id=batch_id,
            number=batch.number,
            kind=batch.kind,
            names=batch.own_names,
            due=batch.due,
            sent=batch.sent or accepted,
            accepted=accepted,
            attempts=batch.attempts,
            without_result=batch.own_count,
        )

    @property
    def row(self) -> int:
        """Number among all batches that are followed; see `Watched`."""
        return self.number

    def sample(self) -> None:
        """Choose the requests to learn from, evenly over the batch."""
        step = -(-len(self.names.rows) // MOST_SAMPLED) or 1
        self.sampled = [
            Sampled(wire_id, self.kind, self.order, self.accepted)
            for wire_id in list(self.names.rows)[::step]
        ]


class Item(Job, kw_only=True, gc=False):
    """A request whose result is to be fetched: its batch reported it done, or is past its deadline."""

    batch: OpenBatch
    wire_id: str
    reported: ResultStatus
    """How the batch reported that it ended, or how it ends if this last fetch finds no result."""
    asked_since: float
    """Unix seconds at which it was first due to be fetched; its deadline counts from then."""
    failure: Failure | None = None
    """Failure to record if this last fetch finds no result; None once the batch reported the request done."""
    unfinished: int = 0
    """Answers that it is not done, although the batch reported that it is."""
    refused: int = 0
    """Answers in the API's own words that its response cannot be given, such as a 500."""
