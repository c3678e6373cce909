"""What a single part of batch mode works with in virtual time: a service in memory, and real files."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.batch.failed_rows import FailedRows
from runner.batch.names import label_of
from runner.batch.open_batch import OpenBatch
from runner.batch.submission import BatchSubmission
from runner.batch.writer import BatchWriter
from runner.config import RunConfig
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.records import Result
from runner.session.clock import Clock
from runner.session.feed import Feed
from runner.session.health import FIRST_PATIENCE_S, ServiceHealth
from runner.session.limits import LimitCheck
from runner.session.parts import Parts
from runner.session.sink import Sink, WrittenResult
from runner.store import Files, Journal, Results, RunDir
from runner.store.journal import Entry, read_journal
from runner.transport.fake import Fake
from tests.batch.support import BASE_URL, RUN_ID, UNIX, config_of, read_results
from tests.listed import Listed, ListedRow, listed


@dataclass
class Workbench:
    """Everything that a part of batch mode works with, and a record of what came of it.

    Make it with the event loop running. Of a session it has the sink, and the counts that follow from writes.
    """

    directory: Path
    fake: Fake = field(default_factory=Fake)
    source: Listed = field(default_factory=lambda: listed(0))
    config: RunConfig = field(default_factory=config_of)
    on_accepted: Callable[[OpenBatch], None] = lambda _: None
    """Called with each batch whose acceptance is on record."""
    accepted: list[OpenBatch] = field(default_factory=list)
    ended: list[WrittenResult] = field(default_factory=list)
    broken: list[Exception] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    news: int = 0
    """Times that a feed or the service had news for the mode."""

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.clock = Clock(loop.time, lambda: UNIX + loop.time())
        self.files: Files = RunDir(self.directory).files()
        self.in_flight = InFlight(total=len(self.source))
        self.meter = Meter()
        self.meter.begin(self.clock.now())
        self.journal = Journal(self.files.journal)
        self.sink: Sink[OpenBatch] = Sink(
            self.journal,
            Results(self.files.results),
            "full",
            60.0,
            on_written=self._written,
            on_broken=self.broken.append,
        )
        self.health = ServiceHealth(
            self.config, BASE_URL, FIRST_PATIENCE_S, say=self.said.append, on_confirmed=self.wake
        )
        self.feed = Feed(self.source, on_rows=self.wake, on_low=lambda: None)
        self.parts: Parts[OpenBatch] = Parts(
            config=self.config,
            files=self.files,
            run_id=RUN_ID,
            transport=self.fake,
            sink=self.sink,
            meter=self.meter,
            in_flight=self.in_flight,
            clock=self.clock,
            health=self.health,
            limits=LimitCheck(self.config, self.meter),
            say=self.said.append,
            random=random.Random(0),
        )
        self.failed_rows = FailedRows(self.parts, {})
        self.woken: list[Callable[[], None]] = []
        """Called on news of the feed or the service."""

    def wake(self) -> None:
        self.news += 1
        for listener in self.woken:
            listener()

    def entries(self) -> list[Entry]:
        """Return all that is in the journal."""
        return list(read_journal(self.files.journal))

    def results(self) -> dict[int, Result]:
        """Return all results on record."""
        return read_results(self.files.results)

    def body_files(self) -> list[str]:
        """Return the names of the files with bodies of batches."""
        return sorted(path.name for path in self.directory.glob(".batch-*"))

    def submission(self, rows: range, number: int = 0) -> BatchSubmission:
        """Return a batch of these rows of the source, cut and counted, with its body in a file."""
        label = label_of("t", RUN_ID, number)
        with BatchWriter(self.files.spool(number), RUN_ID, number, label, 10**6) as writer:
            for row in rows:
                assert writer.add(self.source.request(ListedRow(row, self.source.bodies[row])))
            batch = writer.finish(self.clock.now())
        self.in_flight.take(batch.count)
        return batch

    def open_batch(self, rows: range, number: int = 0, *, inherited: bool = False) -> OpenBatch:
        """Return an outstanding batch of these rows, which the fake service has as `batch-<number + 1>`."""
        batch = OpenBatch.of(self.submission(rows, number), f"batch-{number + 1}", self.clock.now())
        batch.inherited = inherited
        self.in_flight.announce(len(rows))
        self.in_flight.accept(len(rows))
        return batch

    async def create(self, rows: range, number: int = 0, *, inherited: bool = False) -> OpenBatch:
        """Return an outstanding batch of these rows, which the fake service has just made."""
        batch = self.open_batch(rows, number, inherited=inherited)
        body = self.files.spool(number).read_bytes()
        self.fake.service.create_batch(body, f"key-{number}", self.clock.now_mono())
        batch.id = self.fake.batches_made[-1].id
        return batch

    def _written(self, accepted: Sequence[OpenBatch], ended: Sequence[WrittenResult]) -> None:
        for batch in accepted:
            self.in_flight.accept(batch.without_result)
            self.accepted.append(batch)
            self.on_accepted(batch)
        for it in ended:
            if it.was_outstanding:
                self.in_flight.finish()
            else:
                self.in_flight.refuse(announced=it.was_announced)
            self.meter.finished(it.result.status, it.result.timing, it.usage)
            self.ended.append(it)
