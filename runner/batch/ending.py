"""Rows that end without a result of the service's: too large, refused, or of unknown fate."""

from __future__ import annotations

from collections.abc import Mapping

from runner.batch.draft import Draft
from runner.pipeline.parts import Parts
from runner.records import Failure, Reply, Request, Result, ResultStatus, Timing, Usage


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
