"""Divides a run among several workers: each gets its share of the limits, and rows on demand."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final

from runner.config import RunConfig
from runner.config.limits import Limits
from runner.store import Recovery, RowSet, Unacknowledged

MOST_ROWS: Final = 256
"""Most rows in one lease: some tens of milliseconds of work."""
LEASES_LEFT: Final = 4
"""Leases into which each worker's part of the remaining rows is divided.

So leases shrink towards the end of the run, and all workers end together.
"""


def share(config: RunConfig, worker: int) -> RunConfig:
    """Return the config of worker number `worker`: its part of each total.

    Limits that end a run are left out, because the coordinator applies them.
    """
    workers = config.engine.workers

    def part(total: int) -> int:
        return total // workers + (worker < total % workers)

    submit = config.submit.model_copy(
        update={
            "concurrency": part(config.submit.concurrency),
            "max_in_flight": part(config.submit.max_in_flight),
        }
    )
    rate = config.poll.max_rate
    poll = config.poll.model_copy(
        update={
            "concurrency": part(config.poll.concurrency),
            "max_rate": None if rate is None else rate / workers,
        }
    )
    limits = Limits(max_outage_s=config.limits.max_outage_s, drain_s=config.limits.drain_s)
    engine = config.engine.model_copy(update={"workers": 1})
    return config.model_copy(update={"submit": submit, "poll": poll, "limits": limits, "engine": engine})


class Leases:
    """Hands out rows on demand, fewer at a time as they run out, and remembers who has which.

    Guided self-scheduling (Polychronopoulos and Kuck, IEEE Transactions on Computers C-36(12), 1987): a slow
    worker asks less often, so nothing is stranded with it but its last lease.
    """

    def __init__(self, rows: int, recovery: Recovery, workers: int) -> None:
        self._rows = rows
        self._workers = workers
        self._to_skip = recovery.rows_to_skip()
        self._unacknowledged = recovery.unacknowledged
        self._held = [RowSet(recovery.done.capacity) for _ in range(workers)]
        self._returned: dict[int, list[int]] = {}
        self._spare: list[int] = []
        self._next = 0
        self.granted = 0
        """Rows handed out; a row that was handed out again after the death of its worker counts once."""

    def hold(self, worker: int, row: int) -> None:
        """Note that a worker has a row that needs no POST, because it polls the job of the row."""
        self._held[worker].add(row)

    def held_by(self, worker: int) -> RowSet:
        """Return all rows that a worker has or had, since its process was started."""
        return self._held[worker]

    def give_back(self, worker: int, rows: list[int]) -> None:
        """Take back rows for which a worker has no slot; whoever wants some gets them."""
        for row in rows:
            self._held[worker].discard(row)
        self._spare += rows
        self.granted -= len(rows)

    def release(self, worker: int, unsent: list[int], followed: Iterable[int]) -> None:
        """Keep the unfinished rows of a worker that died for its successor.

        The successor gets the `unsent` rows first, which are in rising order, and polls the jobs of the
        `followed` rows.
        """
        self._returned[worker] = unsent
        self._held[worker] = RowSet(self._held[worker].capacity)
        for row in chain(unsent, followed):
            self._held[worker].add(row)

    def take(self, worker: int, most: int = MOST_ROWS) -> list[int]:
        """Return the next rows for a worker, in rising order, at most `most`; none when all are handed out.

        Rows that a worker gets from the process before it do not count against `most`.
        """
        returned = self._returned.get(worker)
        if returned:
            rows, self._returned[worker] = returned[:MOST_ROWS], returned[MOST_ROWS:]
            return rows
        if self._spare:
            rows, self._spare = sorted(self._spare[:most]), self._spare[most:]
            for row in rows:
                self._held[worker].add(row)
            self.granted += len(rows)
            return rows
        left = self._rows - self._next
        most = min(most, MOST_ROWS, -(-left // (LEASES_LEFT * self._workers)))
        rows = []
        while len(rows) < most and self._next < self._rows:
            if self._next not in self._to_skip:
                rows.append(self._next)
                self._held[worker].add(self._next)
            self._next += 1
        self.granted += len(rows)
        return rows

    @property
    def are_over(self) -> bool:
        """Whether nothing is left to hand out."""
        return self._next >= self._rows and not self._spare and not any(self._returned.values())

    def unacknowledged(self, rows: list[int]) -> dict[int, Unacknowledged]:
        """Return those of `rows` that were perhaps sent before, each only once."""
        known = self._unacknowledged
        return {row: known.pop(row) for row in rows if row in known} if known else {}
