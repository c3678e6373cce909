"""Finds what a worker that died left unfinished, in the files of the run."""

from __future__ import annotations

import msgspec

from runner.measure.counts import Counts, latest
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.records import Job
from runner.store import ResultHead, RowSet, RunDir, Unacknowledged, ignore, recover
from runner.store.files import cut_torn_tail


class UnfinishedWork:
    """Rows that one worker held: finished, outstanding, perhaps sent, or not sent yet."""

    def __init__(self) -> None:
        self.outstanding: list[Job] = []
        self.unacknowledged: dict[int, Unacknowledged] = {}
        self.unsent: list[int] = []
        """Rows that need a POST, in rising order; the unacknowledged ones are among them."""
        self._meter = Meter()

    def __repr__(self) -> str:
        outstanding, unsent = len(self.outstanding), len(self.unsent)
        return f"<UnfinishedWork {outstanding} outstanding, {unsent} to send, {self._meter.done} finished>"

    def count(self, result: ResultHead) -> None:
        """Count a result of the worker."""
        self._meter.recall(result)

    def in_flight(self) -> InFlight:
        """Return the worker's rows that stay with it: the finished ones. Its successor counts the others."""
        return InFlight(finished=self._meter.done)

    def counts(self, reported: Counts) -> Counts:
        """Return the worker's counts at its end, where `reported` is what it reported last.

        What the results show is exact. Latencies and retries since the last report are lost; the results
        whose latencies are lost count as `spanned`.
        """
        exact = self._meter.counts
        unreported = exact.statuses.total() - sum(reported.statuses.values())
        return msgspec.structs.replace(
            reported,
            statuses=exact.statuses,
            tokens=exact.tokens,
            polls=max(exact.polls, reported.polls),
            spanned=reported.spanned + unreported,
            last_accepted=latest((reported.last_accepted, exact.last_accepted)),
            first_done=exact.first_done,
            last_done=exact.last_done,
        )


def read_unfinished(run_dir: RunDir, worker: int, total: int, held: RowSet) -> UnfinishedWork:
    """Read the run directory, to which other workers still write, for the rows that a dead worker held.

    `total` is the number of all rows. Blocks. Raises `RunDirError`, `StorageError`.
    """
    files = run_dir.files(worker)
    for path in (files.journal, files.results):
        cut_torn_tail(path)
    work = UnfinishedWork()

    def count(result: ResultHead) -> None:
        if result.row in held:
            work.count(result)

    recovery = recover(run_dir, total, count, ignore)
    work.outstanding = [job for row, job in recovery.outstanding.items() if row in held]
    work.unacknowledged = {row: it for row, it in recovery.unacknowledged.items() if row in held}
    to_skip = recovery.rows_to_skip()
    work.unsent = [row for row in range(total) if row in held and row not in to_skip]
    return work
