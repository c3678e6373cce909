"""Batch mode in virtual time: a service in memory, rows from a list, and real files.

`run_batches` is for whole sessions; for single parts of the mode, see `workbench.Workbench`.

    ended = run_batches(tmp_path, Fake(Behaviour(takes_s=30.0)), rows=1000, batch={"max_requests": 100})
    assert ended.statuses == {"completed": 1000}
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from runner.batch.mode import BatchMode
from runner.config import RunConfig
from runner.errors import RunnerError
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.records import Failure, Result
from runner.session.clock import Clock
from runner.session.feed import AllExcept
from runner.session.session import Assignment, Session
from runner.store import (
    BatchAcceptance,
    BatchIntent,
    BatchRetraction,
    Recovery,
    ResultHead,
    RunDir,
    ignore,
    read_marks,
    recover,
)
from runner.store.journal import Entry, read_journal
from runner.transport import Transport
from tests import virtual_time
from tests.listed import Listed, listed
from tests.session.support import RecordingHost, StillVitals

UNIX: Final = 1_000_000.0
"""Unix time at which the clock of the event loop is 0."""
BASE_URL: Final = "http://fake/v1"
RUN_ID: Final = "0123456789abcdef0123456789abcdef"

Sections: TypeAlias = Mapping[str, object]
SECTIONS: Final[Mapping[str, Sections]] = {
    "target": {"base_url": BASE_URL, "mode": "batch"},
    "request": {"model": "m"},
    "batch": {"max_requests": 10},
    "poll": {"strategy": "fixed", "concurrency": 8},
    "sink": {"fsync_s": 60.0},
}
"""Sections of the config unless a test gives others; each key on its own."""


def config_of(**sections: Sections) -> RunConfig:
    """Return a config: `SECTIONS`, overridden by the keys that are given."""
    names = {**SECTIONS, **sections}
    merged = {name: {**SECTIONS.get(name, {}), **sections.get(name, {})} for name in names}
    return RunConfig.model_validate({"name": "t", **merged})


@dataclass(frozen=True)
class Ended:
    """All that a session left."""

    ended_by: RunnerError | None
    results: dict[int, Result]
    """Result of each row that has one, those of earlier sessions included."""
    journal: list[Entry]
    in_flight: InFlight
    meter: Meter
    said: list[str]
    at_s: float
    """Seconds from the start to the end."""

    @property
    def statuses(self) -> dict[str, int]:
        return dict(Counter(result.status for result in self.results.values()))

    @property
    def intents(self) -> list[BatchIntent]:
        return [entry for entry in self.journal if isinstance(entry, BatchIntent)]

    @property
    def acceptances(self) -> list[BatchAcceptance]:
        return [entry for entry in self.journal if isinstance(entry, BatchAcceptance)]

    @property
    def retractions(self) -> list[BatchRetraction]:
        return [entry for entry in self.journal if isinstance(entry, BatchRetraction)]

    def rows(self, status: str) -> set[int]:
        """Return the rows that ended with `status`."""
        return {row for row, result in self.results.items() if result.status == status}

    def failures(self, status: str) -> list[Failure]:
        """Return the errors of the rows that ended with `status`."""
        found = (result.error for result in self.results.values() if result.status == status)
        return [failure for failure in found if failure is not None]

    def has_said(self, text: str) -> bool:
        return any(text in line for line in self.said)


_decode_result: Final = msgspec.json.Decoder(Result).decode


def read_results(path: Path) -> dict[int, Result]:
    """Return the result of each row in a file, and check that none has two."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    results = {result.row: result for result in map(_decode_result, lines)}
    assert len(results) == len(lines), "a row has two results"
    return results


Act: TypeAlias = Callable[["BatchSession"], Coroutine[Any, Any, None]]
"""Something to do to a session while it runs."""


class BatchSession:
    """One session in batch mode over the files in a directory. Make it with the event loop running."""

    def __init__(self, directory: Path, transport: Transport, source: Listed, config: RunConfig) -> None:
        loop = asyncio.get_running_loop()
        self.clock = Clock(loop.time, lambda: UNIX + loop.time())
        self.run_dir = RunDir(directory)
        self.meter = Meter()
        marks = read_marks(*self.run_dir.journals)
        self.recovery: Recovery = recover(self.run_dir, len(source), self._recall, ignore, marks=marks)
        self.in_flight = InFlight(
            total=len(source),
            announced=self.recovery.unacknowledged_count,
            outstanding=self.recovery.outstanding_count,
            finished=self.recovery.done.count,
        )
        self.host = RecordingHost()
        self.meter.begin(self.clock.now())
        assignment = Assignment(
            config=config,
            run_id=RUN_ID,
            base_url=BASE_URL,
            rows=source,
            files=self.run_dir.files(),
            transport=transport,
            clock=self.clock,
            meter=self.meter,
            in_flight=self.in_flight,
            vitals=StillVitals(),
            session=marks.next_session,
            resumes=marks.next_session > 0,
        )
        make_mode = partial(BatchMode, source=source, recovery=self.recovery)
        self.session: Session[BatchMode] = Session(assignment, make_mode, self.host)
        self.session.feed.grant(AllExcept(len(source), self.recovery.rows_to_skip()))
        self.session.feed.all_granted = True

    async def run(self, act: Act | None = None) -> Ended:
        """Run the session to its end, with `act` beside it, and check its counts; raise what `act` raises."""
        began_mono = self.clock.now_mono()
        failures: list[BaseException] = []

        async def beside(act: Act) -> None:
            try:
                await act(self)
            except Exception as error:  # the session reports it as well; the test fails with it
                failures.append(error)
                raise

        outcome = await self.session.run(*([beside(act)] if act else []))
        if failures:
            raise failures[0]
        self._check_counts(stopped=outcome.ended_by is not None)
        return Ended(
            ended_by=outcome.ended_by,
            results=read_results(self.run_dir.results),
            journal=list(read_journal(self.run_dir.journal)),
            in_flight=self.in_flight,
            meter=self.meter,
            said=self.host.said,
            at_s=self.clock.now_mono() - began_mono,
        )

    def _check_counts(self, *, stopped: bool) -> None:
        """Check that nothing is counted twice or forgotten, and that no body of a batch is left behind."""
        counts, results = self.in_flight, read_results(self.run_dir.results)
        assert counts.sending == 0, counts
        assert counts.finished == len(results), counts
        assert counts.finished + counts.outstanding + counts.unsent == counts.total, counts
        if not stopped:
            assert (counts.taken, counts.announced, counts.outstanding) == (0, 0, 0), counts
        assert not list(self.run_dir.path.glob(".batch-*"))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def _recall(self, head: ResultHead) -> None:
        self.meter.recall(head)


async def batches_of(
    directory: Path,
    transport: Transport,
    rows: int | Listed = 20,
    act: Act | None = None,
    **sections: Sections,
) -> Ended:
    """Run one session, or one more, over the files in `directory`."""
    source = listed(rows) if isinstance(rows, int) else rows
    return await BatchSession(directory, transport, source, config_of(**sections)).run(act)


def run_batches(
    directory: Path,
    transport: Transport,
    rows: int | Listed = 20,
    act: Act | None = None,
    **sections: Sections,
) -> Ended:
    """Run `batches_of` on an event loop of its own, whose clock starts at 0."""
    return virtual_time.run(batches_of(directory, transport, rows, act, **sections))


def names_in(body: bytes) -> list[str]:
    """Return the ids of the requests in the body of a batch, in order."""
    return [item["custom_id"] for item in msgspec.json.decode(body)["requests"]]


def rows_of(intent: BatchIntent) -> list[int]:
    """Return the rows of an intent."""
    return [row for part in intent.ranges for row in part]
