"""Rows that end without a result of the service: too large, rejected, or perhaps accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner.batch.open_batch import OpenBatch
from runner.batch.submission import BatchSubmission
from runner.errors import NothingAccepted, Problem
from runner.records import Failure, Reply, Request, Result, ResultStatus, Timing
from runner.session.parts import Parts

_NO_BATCHES: Final = (404, 405, 501)


class FailedRows:
    """Writes the results of rows that are in no accepted batch."""

    def __init__(self, parts: Parts[OpenBatch], epochs: Mapping[int, int]) -> None:
        """`epochs` holds the epoch of each row that was reopened."""
        self._parts = parts
        self._epochs = epochs

    def end_unsent(self, request: Request, failure: Failure) -> None:
        """End a request that fits into no batch."""
        now = self._parts.clock.now()
        self._parts.in_flight.take()
        timing = Timing(due=now, sent=None, accepted=None, pending=None, done=now)
        result = self._result(request.custom_id, request.row, "rejected", failure, None, timing, 0)
        self._parts.sink.refuse(result, was_announced=False)

    def end(
        self,
        batch: BatchSubmission,
        wire_id: str,
        status: ResultStatus,
        failure: Failure,
        reply: Reply | None = None,
    ) -> None:
        """End one row of a batch that was cut."""
        names, done = batch.names, self._parts.clock.now()
        timing = Timing(due=batch.due, sent=batch.sent, accepted=None, pending=None, done=done)
        row, attempts = names.rows[wire_id], batch.attempts
        result = self._result(names.custom_id(wire_id), row, status, failure, reply, timing, attempts)
        self._parts.sink.refuse(result, was_announced=batch.announced)

    def _result(
        self,
        custom_id: str,
        row: int,
        status: ResultStatus,
        failure: Failure,
        reply: Reply | None,
        timing: Timing,
        attempts: int,
    ) -> Result:
        epoch = self._epochs.get(row, 0)
        return Result(custom_id, row, status, reply, failure, timing, attempts, polls=0, epoch=epoch)


def nothing_accepted(failure: Failure, refusals: int) -> NothingAccepted:
    """Return the error that ends a run whose first `refusals` batches were all refused."""
    what = f"the first batch was refused: {failure.message}"
    hint = "no more were sent; fix the request or the config, then start over with --new"
    if refusals > 1:
        what = f"the first {refusals} batches were all refused: {failure.message}"
    if failure.status_code in _NO_BATCHES:
        hint = "does the service have a Batch API? if not, set target.mode: background"
    elif failure.status_code == 413:
        hint = "lower batch.max_bytes, then run the same command again"
    return NothingAccepted(Problem(what, f"HTTP {failure.status_code}", hint))
