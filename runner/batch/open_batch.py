"""A batch that the service works on, and one of its requests that is done and whose result is fetched."""

from __future__ import annotations

from typing import Final

import msgspec

from runner.batch.submission import Names
from runner.records import Failure, Job, ResultStatus

MOST_SAMPLED: Final = 64
"""Requests of a batch from which the polling strategy learns; it needs no more."""


class Sampled(msgspec.Struct, gc=False):
    """One request of a batch, as a strategy sees a job; see `policy.polling.Followed`."""

    wire_id: str
    kind: str
    order: int
    accepted: float
    pending: float | None = None
    polls: int = 0


class OpenBatch(msgspec.Struct):
    """An accepted batch with rows that have no result yet. Owned by the collector; times in Unix seconds."""

    id: str
    number: int
    kind: str
    names: Names
    """Of the requests that are not known to be done; in `own`, of all."""
    due: float
    sent: float
    accepted: float
    attempts: int
    without_result: int
    """Requests that have no result: those not done, and those to be fetched."""
    inherited: bool
    """Accepted in an earlier session."""
    sampled: list[Sampled] = []
    order: int = 0
    """Where it stands among all batches of this session."""
    polls: int = 0
    pending: float | None = None
    """The last time that it was seen unfinished."""
    look_due: float = 0.0
    failed_polls: int = 0
    failing_since: float = 0.0
    missing: int = 0
    missing_since: float = 0.0

    @property
    def row(self) -> int:
        """What tells it from all others; see `Watched`."""
        return self.number

    def sample(self) -> None:
        """Choose requests to learn from, evenly over the batch."""
        step = -(-len(self.names.rows) // MOST_SAMPLED) or 1
        self.sampled = [
            Sampled(wire_id, self.kind, self.order, self.accepted)
            for wire_id in list(self.names.rows)[::step]
        ]


class Item(Job, kw_only=True, gc=False):
    """A request of a batch that is done, or is said to be: its result is to be fetched."""

    batch: OpenBatch
    wire_id: str
    said: ResultStatus
    """How the batch says that it ended."""
    asked_since: float
    """Unix seconds; its deadline counts from then, since the batch says that it is done."""
    otherwise: Failure | None = None
    """What it ends with unless it is done: nobody has said that it is."""
