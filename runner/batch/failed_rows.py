"""Rows that end without a result of the service's: too large, refused, or of unknown fate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner.batch.submission import Draft
from runner.errors import NothingAccepted, Problem
from runner.records import Failure, Reply, Request, Result, ResultStatus, Timing, Usage
from runner.session.parts import Parts

_NO_BATCHES: Final = (404, 405, 501)


class Endings:
    """Writes their results. `epochs` are those of rows that were reopened."""

    def __init__(self, parts: Parts, epochs: Mapping[int, int]) -> None:
        self._parts = parts
        self._epochs = epochs

    def end_unsent(self, request: Request, failure: Failure) -> None:
        """A request that can be in no batch."""
        now = self._now()
        timing = Timing(due=now, sent=None, accepted=None, pending=None, done=now)
        self._end(request.custom_id, request.row, "rejected", failure, None, timing, 0)

    def end(
        self, draft: Draft, wire_id: str, status: ResultStatus, failure: Failure, reply: Reply | None = None
    ) -> None:
        """One row of a batch that was sent."""
        names = draft.names
        timing = Timing(due=draft.due, sent=draft.sent, accepted=None, pending=None, done=self._now())
        self._end(
            names.custom_id(wire_id), names.rows[wire_id], status, failure, reply, timing, draft.attempts
        )

    def _end(
        self,
        custom_id: str,
        row: int,
        status: ResultStatus,
        failure: Failure,
        reply: Reply | None,
        timing: Timing,
        attempts: int,
    ) -> None:
        epoch = self._epochs.get(row, 0)
        result = Result(custom_id, row, status, reply, failure, timing, attempts, polls=0, epoch=epoch)
        self._parts.sink.end(result, Usage())

    def _now(self) -> float:
        return self._parts.clock.unix(self._parts.clock.now())


def nothing_accepted(failure: Failure, refusals: int) -> NothingAccepted:
    """The end of a run whose first batches, so many, were all refused."""
    what = f"the first batch was refused: {failure.message}"
    hint = "no more were sent; mend the request or the config, then start afresh with --new"
    if refusals > 1:
        what = f"the first {refusals} batches were all refused: {failure.message}"
    if failure.status_code in _NO_BATCHES:
        hint = "does the service have a Batch API? with target.mode: background it needs none"
    elif failure.status_code == 413:
        hint = "lower batch.max_bytes, then run the same command again"
    return NothingAccepted(Problem(what, f"HTTP {failure.status_code}", hint))
