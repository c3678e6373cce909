"""What a worker that died leaves to its successor, by what the files of the run tell."""

from __future__ import annotations

from collections import Counter

import msgspec

from runner.measure.merging import Totals, totals_of
from runner.measure.meter import Meter
from runner.records import Job
from runner.store import ResultHead, RowSet, RunDir, Unacknowledged, recover
from runner.store.files import cut_torn_tail


class Estate:
    """RowSet that one worker held: done, open, perhaps sent, or not yet."""

    def __init__(self) -> None:
        self.open: list[Job] = []
        self.unacknowledged: dict[int, Unacknowledged] = {}
        self.unsent: list[int] = []
        """Those that need a POST, in rising order; the unacknowledged ones are among them."""
        self._meter = Meter(0)

    def count(self, line: ResultHead) -> None:
        """A result of the worker."""
        self._meter.recall(line)

    def totals(self, told: Totals) -> Totals:
        """The worker's totals at its end, where `told` is what it told last.

        What its results say is exact. A moment's latencies and retries died with it; the results without
        latencies count as those that nobody watched.
        """
        exact = totals_of(self._meter)
        untold = self._meter.done - Counter(told.counters.get("statuses")).total()
        numbers = {
            **told.numbers,
            "posting": 0,
            "open": 0,
            "unacknowledged": 0,
            "polls": max(exact.numbers["polls"], told.numbers.get("polls", 0)),
            "spanned": told.numbers.get("spanned", 0) + untold,
        }
        counters = {
            **told.counters,
            "statuses": exact.counters["statuses"],
            "tokens": exact.counters["tokens"],
        }
        return msgspec.structs.replace(
            told,
            numbers=numbers,
            counters=counters,
            last_accepted_at=max(told.last_accepted_at, exact.last_accepted_at),
            first_done_at=exact.first_done_at,
            last_done_at=exact.last_done_at,
        )


def estate_of(run_dir: RunDir, worker: int, total: int, held: RowSet) -> Estate:
    """Read the run directory, to which other workers write on, for the rows that a dead worker held.

    Blocking. `total` is the number of all rows. Raises `RunDirError`, `StorageError`.
    """
    files = run_dir.files(worker)
    for path in (files.journal, files.results):
        cut_torn_tail(path)
    estate = Estate()

    def count(line: ResultHead) -> None:
        if line.row in held:
            estate.count(line)

    recovery = recover(run_dir, total, count)
    estate.open = [job for row, job in recovery.outstanding.items() if row in held]
    estate.unacknowledged = {row: it for row, it in recovery.unacknowledged.items() if row in held}
    need_no_post = recovery.rows_to_skip()
    estate.unsent = [row for row in range(total) if row in held and row not in need_no_post]
    return estate
