"""The planner: cuts rows into batches, each as large as it may be and ready to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from runner.batch.failed_rows import FailedRows
from runner.batch.names import label_of
from runner.batch.open_batch import OpenBatch
from runner.batch.rereading import rows_in
from runner.batch.submission import BatchSubmission
from runner.batch.writer import BatchWriter
from runner.errors import Problem, StoppedEarly
from runner.records import Failure, Request
from runner.session.feed import Feed
from runner.session.parts import Parts
from runner.source import Source

ROWS_PER_SLICE: Final = 100
"""Rows after which the event loop may do other things: some milliseconds of work."""
BYTES_PER_ROW: Final = 10_000
"""Bytes of a request that take as long to write as one more row."""


class Planner:
    """Cuts the rows of a feed into batches by number and by exact size; their bodies are on the disk.

    One batch is cut at a time, once there is a slot for it. Only the names of its rows are kept in memory.
    """

    def __init__(
        self,
        parts: Parts[OpenBatch],
        source: Source,
        feed: Feed,
        failed_rows: FailedRows,
        first_number: int,
        *,
        has_slot: Callable[[], bool],
        on_cut: Callable[[BatchSubmission], None],
    ) -> None:
        """`has_slot` returns whether one more batch may be cut; `on_cut` is called with each that was cut."""
        self._parts = parts
        self._section = parts.config.batch
        self._source = source
        self._feed = feed
        self._failed_rows = failed_rows
        self._number = first_number
        self._has_slot = has_slot
        self._on_cut = on_cut
        self._most_requests = self._section.max_requests
        self._most_bytes = self._section.max_bytes
        self._held: Request | None = None
        """First request of the next batch: it did not fit into the last one."""
        self._news = asyncio.Event()
        self._closed = False

    def __repr__(self) -> str:
        most = f"{self._most_requests:,} requests and {self._most_bytes:,} bytes"
        return f"<Planner at batch {self._number}, at most {most}>"

    def wake(self) -> None:
        """Continue if possible: there may be rows, or slots for them."""
        self._news.set()

    def close(self) -> None:
        """Cut no more batches."""
        self._closed = True
        self._news.set()

    def requeue(self, rows: Iterable[int]) -> None:
        """Cut these rows again, into other batches."""
        for row in rows:
            self._feed.requeue(row)

    def shrink(self, refused: int) -> None:
        """Halve the batch size after repeated refusals for single requests.

        A bad row then costs O(log n) uploads of the rows around it. `refused` is how many requests the last
        refused batch had.
        """
        self._most_requests = max(min(self._most_requests, refused) // 2, 1)

    def lower(self, refused_bytes: int) -> None:
        """Limit batches to half the size of one that was refused as too large."""
        self._most_bytes = min(self._most_bytes, max(refused_bytes // 2, 1))

    def grow(self) -> None:
        """Allow twice as many requests, up to `batch.max_requests`: a batch was accepted."""
        self._most_requests = min(self._most_requests * 2, self._section.max_requests)

    def drop_body(self, batch: BatchSubmission) -> None:
        """Remove the body of a batch from the disk."""
        if batch.body is not None:
            with suppress(OSError):
                batch.body.unlink()
            batch.body = None

    async def work(self) -> None:
        """Cut whenever there are rows and a slot for them. Raises what ends the run."""
        while not self._closed:
            if self._has_slot() and (self._held or not self._feed.is_exhausted):
                batch = await self._cut()
                if batch is not None:
                    self._parts.in_flight.take(batch.count)
                    self._on_cut(batch)
            else:
                await self._wait()

    async def make_again(self, batch: BatchSubmission) -> Path:
        """Write the body of a batch that was cut before, and return its file.

        Raises `StoppedEarly` if the same rows make other bytes now, and `StorageError`.
        """
        path = self._parts.files.spool(batch.number)
        with BatchWriter(path, self._parts.run_id, batch.number, batch.label, batch.size_bytes) as writer:
            async for _, row in rows_in(self._source, [batch.ranges]):
                writer.add(self._source.request(row))
            again = writer.finish(batch.due)
        if again.key != batch.key:
            path.unlink(missing_ok=True)
            where = f"batch {batch.label}, rows {batch.first_row:,} to {batch.ranges[-1].stop - 1:,}"
            hint = "was this tool or a library under it changed? use the old one, or --new"
            raise StoppedEarly(Problem("makes other bytes now than when it was first sent", where, hint))
        batch.body, batch.names = path, again.names
        return path

    async def _cut(self) -> BatchSubmission | None:
        """Return the next batch, or None if there were no more rows for it."""
        number, run_id = self._number, self._parts.run_id
        label = label_of(self._section.label or self._parts.config.name, run_id, number)
        path = self._parts.files.spool(number)
        with BatchWriter(path, run_id, number, label, self._most_bytes, self._section.max_bytes) as writer:
            await self._fill(writer)
            if self._closed or not writer.count:
                return None
            self._number += 1
            return writer.finish(self._parts.clock.now())

    async def _fill(self, writer: BatchWriter) -> None:
        """Add rows until the batch is full, or there are no more for now."""
        work = 0
        while not self._closed and writer.count < self._most_requests:
            if not self._allows_another(writer.count):
                if writer.count:
                    return
                await self._wait()
                continue
            request, self._held = self._held or self._next(), None
            if request is None:
                if self._feed.is_exhausted:
                    return
                await self._wait()
            elif not writer.add(request):
                if writer.count:
                    self._held = request
                    return
                self._reject(request)
            work += 1 if request is None else 1 + len(request.body) // BYTES_PER_ROW
            if work >= ROWS_PER_SLICE:
                work = 0
                await asyncio.sleep(0)

    def _allows_another(self, count: int) -> bool:
        """Return whether the budget allows one more row, when `count` are in the batch that is being cut."""
        return self._parts.limits.allow_another(self._parts.in_flight.slots_used + count)

    def _next(self) -> Request | None:
        row = self._feed.take()
        return None if row is None else self._source.request(row)

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _reject(self, request: Request) -> None:
        """End a request for which no batch is large enough."""
        message = (
            f"the request of {len(request.body):,} bytes fits into no batch of "
            f"{self._section.max_bytes:,} bytes (batch.max_bytes)"
        )
        self._failed_rows.end_unsent(request, Failure(type="too_large", message=message))
