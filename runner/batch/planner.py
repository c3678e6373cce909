"""The planner: rows in, batches out, each as large as it may be and ready to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from runner.batch.failed_rows import Endings
from runner.batch.names import label_of
from runner.batch.rereading import lines_in
from runner.batch.submission import Draft
from runner.batch.writer import BatchWriter
from runner.errors import Problem, StoppedEarly
from runner.records import Failure, Request
from runner.session.feed import Feed
from runner.session.parts import Parts
from runner.source import Source

ROWS_AT_ONCE: Final = 100
"""Between which the event loop may do other things: some milliseconds of work."""
BYTES_PER_ROW: Final = 10_000
"""A large row is as much work as so many of them."""


class Planner:
    """Cuts the rows of a feed into batches by number and by exact size; their bodies lie on the disk.

    One batch is being cut at a time, and only once there is a place for it. In memory is no more of a row
    than its name.
    """

    def __init__(self, parts: Parts, source: Source, feed: Feed, endings: Endings, first_number: int) -> None:
        self._parts = parts
        self._section = parts.config.batch
        self._source = source
        self._feed = feed
        self._endings = endings
        self._number = first_number
        self._most_requests = self._section.max_requests
        self._most_bytes = self._section.max_bytes
        self._held: Request | None = None
        """The first of the next batch: there was no room for it in the last."""
        self._news = asyncio.Event()
        self._closed = False
        self.has_place: Callable[[], bool] = lambda: True
        """Whether one batch more may be cut now."""
        self.on_cut: Callable[[Draft], None] = lambda _: None
        self._waiting_rows = 0
        """In batches that were cut and are not accepted."""
        feed.on_more = self.wake

    def wake(self) -> None:
        """There are rows, or places for them, perhaps."""
        self._news.set()

    def close(self) -> None:
        """No more batches."""
        self._closed = True
        self._news.set()

    def again(self, rows: Iterable[int]) -> None:
        """Cut these rows once more, into other batches."""
        for row in rows:
            self._feed.again(row)

    def shrink(self, refused: int) -> None:
        """One request after the other is refused, and with each all of its batch: make smaller ones.

        So the good ones get through, and a bad one costs the logarithm of what its batch weighs.
        """
        self._most_requests = max(min(self._most_requests, refused) // 2, 1)

    def lower(self, refused_bytes: int) -> None:
        """A batch was refused for its size alone: none is to be larger than half of it from now on."""
        self._most_bytes = min(self._most_bytes, max(refused_bytes // 2, 1))

    def grow(self) -> None:
        """A batch was accepted."""
        self._most_requests = min(self._most_requests * 2, self._section.max_requests)

    def expect(self, draft: Draft) -> None:
        """A batch of an earlier session is on its way, too."""
        self._waiting_rows += draft.own_count

    def sent(self, draft: Draft) -> None:
        """The batch is accepted, or its rows have ended or will be cut anew."""
        self._waiting_rows -= draft.own_count
        if draft.body is not None:
            with suppress(OSError):
                draft.body.unlink()
            draft.body = None

    async def work(self) -> None:
        """Cut whenever there are rows and a place for them. Raises what ends the run."""
        while not self._closed:
            if self.has_place() and (self._held or not self._feed.is_dry):
                draft = await self._cut()
                if draft is not None:
                    self._waiting_rows += draft.count
                    self.on_cut(draft)
            else:
                await self._wait()

    async def make_again(self, draft: Draft) -> Path:
        """The body of a batch that was cut before. Raises `StoppedEarly` where its bytes are others now."""
        path = self._parts.files.spool(draft.number)
        with BatchWriter(path, self._parts.run_id, draft.number, draft.label, draft.size_bytes) as writer:
            async for _, line in lines_in(self._source, [draft.ranges]):
                writer.add(self._source.request(line))
            again = writer.finish(draft.due)
        if again.key != draft.key:
            path.unlink(missing_ok=True)
            where = f"batch {draft.label}, rows {draft.first_row:,} to {draft.ranges[-1].stop - 1:,}"
            hint = "was this tool or a library under it changed? use the old one, or --new"
            raise StoppedEarly(Problem("makes other bytes now than when it was first sent", where, hint))
        draft.body, draft.names = path, again.names
        return path

    async def _cut(self) -> Draft | None:
        """The next batch; None where no rows came after all."""
        number, run_id = self._number, self._parts.run_id
        label = label_of(self._section.label or self._parts.config.name, run_id, number)
        path = self._parts.files.spool(number)
        with BatchWriter(path, run_id, number, label, self._most_bytes, self._section.max_bytes) as writer:
            await self._fill(writer)
            if self._closed or not writer.count:
                return None
            self._number += 1
            clock = self._parts.clock
            return writer.finish(clock.unix(clock.now()))

    async def _fill(self, writer: BatchWriter) -> None:
        """Add rows until the batch is full, or there are no more for now."""
        done = 0
        while not self._closed and writer.count < self._most_requests:
            if not self._allows_another(writer.count):
                if writer.count:
                    return
                await self._wait()
                continue
            request, self._held = self._held or self._next(), None
            if request is None:
                if self._feed.is_dry:
                    return
                await self._wait()
            elif not writer.add(request):
                if writer.count:
                    self._held = request
                    return
                self._reject(request)
            done += 1 if request is None else 1 + len(request.body) // BYTES_PER_ROW
            if done >= ROWS_AT_ONCE:
                done = 0
                await asyncio.sleep(0)

    def _allows_another(self, count: int) -> bool:
        """Whether the budget lets one more row out, with `count` in the batch that is being cut."""
        return self._parts.limits.allow_another(self._parts.meter.open + self._waiting_rows + count)

    def _next(self) -> Request | None:
        line = self._feed.take()
        return None if line is None else self._source.request(line)

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _reject(self, request: Request) -> None:
        """No batch is large enough for it."""
        message = (
            f"the request of {len(request.body):,} bytes fits into no batch of "
            f"{self._section.max_bytes:,} bytes (batch.max_bytes)"
        )
        self._endings.end_unsent(request, Failure(type="too_large", message=message))
