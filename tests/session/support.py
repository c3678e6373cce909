"""A whole session in virtual time: a service in memory, real files, a list of rows, and what came of them.

ended = run_session(tmp_path, Fake(Behaviour(takes_s=30.0)), rows=1000, submit={"max_in_flight": 100})
assert ended.at_s == 300.0
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

from runner.background.mode import BackgroundMode
from runner.config import RunConfig
from runner.errors import RunnerError
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.measure.session_info import SessionInfo
from runner.measure.summary import RequestSummary, summarise
from runner.measure.vitals import Vitals
from runner.session.clock import Clock
from runner.session.feed import AllExcept
from runner.session.session import Assignment, Session, SessionOutcome
from runner.source import Source
from runner.store import Recovery, ResultHead, RunDir, ignore, read_marks, read_results, recover
from runner.store.journal import Acceptance, Entry, Intent, Retraction, read_journal
from runner.transport import Transport
from runner.transport.fake import Fake, Script
from tests import virtual_time
from tests.listed import listed

UNIX: Final = 1_000_000.0
"""Unix time at which the clock of the event loop is 0."""
BASE_URL: Final = "http://fake/v1"
RUN_ID: Final = "run-1"
SECTIONS: Final[Mapping[str, Mapping[str, object]]] = {
    "target": {"base_url": BASE_URL},
    "request": {"model": "m"},
    "submit": {"concurrency": 20},
    "poll": {"concurrency": 20, "strategy": "fixed"},
    "sink": {"fsync_s": 60.0},
}
"""Sections of the config where a test does not say otherwise; each key on its own."""


def config_of(**sections: Mapping[str, object]) -> RunConfig:
    """Return a config: `SECTIONS`, and over them the keys that are given."""
    names = {**SECTIONS, **sections}
    return RunConfig.model_validate(
        {"name": "t", **{name: {**SECTIONS.get(name, {}), **sections.get(name, {})} for name in names}}
    )


class RecordingHost:
    """A host that does nothing but keep what it is informed of."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.low = 0
        """Times that few rows were left."""
        self.stopped_by: list[RunnerError] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def rows_low(self) -> None:
        self.low += 1

    def stopping(self, error: RunnerError) -> None:
        self.stopped_by.append(error)


class PeakedInFlight(InFlight):
    """Counts that remember the most slots in use after one was taken."""

    most_slots: int = 0

    def take(self, rows: int = 1) -> None:
        super().take(rows)
        self.most_slots = max(self.most_slots, self.slots_used)

    __repr__ = InFlight.__repr__


class StillVitals(Vitals):
    """Vitals that leave the event loop alone: in virtual time it would wake up 20 times a second."""

    async def watch_loop(self) -> None:
        """Return at once."""


@dataclass
class Surroundings:
    """What a session finds: clocks, files, and what earlier sessions left there. Needs a running loop."""

    directory: Path
    total: int
    config: RunConfig
    clock_set_s: float = 0.0
    """Seconds by which the system clock was set forward before the session, or back."""
    asleep_s: float = 0.0
    """Seconds for which the machine has slept."""
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.clock = Clock(lambda: loop.time() + self.asleep_s, lambda: UNIX + self.clock_set_s + loop.time())
        self.run_dir = RunDir(self.directory)
        marks = read_marks(*self.run_dir.journals)
        self.number = marks.next_session
        self.recovery: Recovery = recover(self.run_dir, self.total, self.meter.recall, ignore, marks=marks)
        self.in_flight = PeakedInFlight(
            total=self.total,
            announced=self.recovery.unacknowledged_count,
            outstanding=self.recovery.outstanding_count,
            finished=self.recovery.done.count,
        )
        self.meter.begin(self.clock.now())

    def assignment(
        self, source: Source, transport: Transport, *, ends_when_complete: bool = True
    ) -> Assignment:
        return Assignment(
            config=self.config,
            run_id=RUN_ID,
            base_url=BASE_URL,
            rows=source,
            files=self.run_dir.files(),
            transport=transport,
            clock=self.clock,
            meter=self.meter,
            in_flight=self.in_flight,
            vitals=StillVitals(),
            session=self.number,
            resumes=self.number > 0,
            ends_when_complete=ends_when_complete,
        )


Act: TypeAlias = Callable[["Stage"], Coroutine[Any, Any, None]]
"""What is done beside a session, while it runs."""


@dataclass(frozen=True)
class Ended:
    """What is left of a session."""

    outcome: SessionOutcome
    results: dict[int, ResultHead]
    """Last word on each row that has one, those of earlier sessions included."""
    journal: list[Entry]
    requests: RequestSummary
    in_flight: PeakedInFlight
    at_s: float
    """Seconds from the start to the end."""
    said: list[str]
    meter: Meter

    @property
    def statuses(self) -> Counter[str]:
        return Counter(result.status for result in self.results.values())

    @property
    def intents(self) -> list[Intent]:
        return [entry for entry in self.journal if isinstance(entry, Intent)]

    @property
    def acceptances(self) -> list[Acceptance]:
        return [entry for entry in self.journal if isinstance(entry, Acceptance)]

    @property
    def retractions(self) -> list[Retraction]:
        return [entry for entry in self.journal if isinstance(entry, Retraction)]

    def has_said(self, text: str) -> bool:
        return any(text in line for line in self.said)


class Stage:
    """A session that can be acted upon while it runs."""

    def __init__(
        self,
        around: Surroundings,
        transport: Transport,
        source: Source,
        *,
        ends_when_complete: bool = True,
    ) -> None:
        self.around = around
        self.host = RecordingHost()
        self.in_flight = around.in_flight
        make = partial(BackgroundMode, source=source, recovery=around.recovery)
        assignment = around.assignment(source, transport, ends_when_complete=ends_when_complete)
        self.session: Session[BackgroundMode] = Session(assignment, make, self.host)
        self._failures: list[BaseException] = []

    @classmethod
    def at(
        cls,
        directory: Path,
        transport: Transport,
        source: Source,
        ends_when_complete: bool = True,
        clock_set_s: float = 0.0,
        /,
        **sections: Mapping[str, object],
    ) -> Stage:
        """Return a session over the files in a directory, with all rows granted."""
        total = sum(len(block) for block in source.blocks())
        around = Surroundings(directory, total, config_of(**sections), clock_set_s)
        stage = cls(around, transport, source, ends_when_complete=ends_when_complete)
        stage.session.feed.grant(AllExcept(total, around.recovery.rows_to_skip()))
        stage.session.feed.all_granted = True
        return stage

    def suspend(self, fake: Fake, seconds: float) -> None:
        """Let the machine sleep: clocks go on and timers stand still, and the service works on."""
        self.around.asleep_s += seconds
        now_mono = asyncio.get_running_loop().time()
        for job in fake.jobs_made:
            if job.ends_mono > now_mono:
                job.ends_mono -= seconds
                heapq.heappush(fake.service._ends, (job.ends_mono, job.number, job))

    async def run(self, act: Act | None = None) -> Ended:
        """Run the session to its end, with `act` beside it. Raises what `act` raises."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome = await self.session.run(*([self._act(act(self))] if act else []))
        if self._failures:
            raise self._failures[0]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return self._ended(outcome, loop.time() - began)

    async def _act(self, act: Coroutine[Any, Any, None]) -> None:
        try:
            await act
        except Exception as error:  # the session reports it as well; the test fails with it
            self._failures.append(error)
            raise

    def _ended(self, outcome: SessionOutcome, at_s: float) -> Ended:
        around = self.around
        heads = list(read_results(*around.run_dir.all_results))
        results = {head.row: head for head in heads}
        assert len(results) == len(heads), "a row has two results"
        summary = summarise(around.meter, self.in_flight, SessionInfo("t", 0.0), "complete", None, None)
        return Ended(
            outcome=outcome,
            results=results,
            journal=list(read_journal(around.run_dir.journal)),
            requests=summary.requests,
            in_flight=self.in_flight,
            at_s=at_s,
            said=self.host.said,
            meter=around.meter,
        )


async def session_of(
    directory: Path,
    transport: Transport,
    rows: int | Source = 20,
    act: Act | None = None,
    /,
    **sections: Mapping[str, object],
) -> Ended:
    """Run one session, or one more, over the files in a directory, and return what came of it.

    All rows are granted at the start. `act` runs beside the session, until it ends.
    """
    source = listed(rows) if isinstance(rows, int) else rows
    return await Stage.at(directory, transport, source, **sections).run(act)


def assert_no_job_is_polled_twice_at_once(fake: Fake) -> None:
    """Check all polls that were not cut off with their session."""
    ended = [get for get in fake.gets if get.ended_mono is not None]
    ended.sort(key=lambda get: get.id)  # which keeps them in order of time
    for earlier, later in pairwise(ended):
        assert earlier.ended_mono is not None
        assert earlier.id != later.id or earlier.ended_mono <= later.started_mono


def run_session(
    directory: Path,
    transport: Transport,
    rows: int | Source = 20,
    act: Act | None = None,
    /,
    **sections: Mapping[str, object],
) -> Ended:
    """Run `session_of` on an event loop of its own, whose clock starts at 0."""
    return virtual_time.run(session_of(directory, transport, rows, act, **sections))


def after(seconds: float, *signums: int) -> Act:
    """Return an act that sends signals to the session, all at that time."""

    async def act(stage: Stage) -> None:
        await asyncio.sleep(seconds)
        for signum in signums:
            stage.session.shutdown.signal(signum)

    return act


def resumed(directory: Path, fake: Fake, rows: int) -> Ended:
    """Run the next session, to which all jobs of the first are done, and return what came of both."""
    for job in fake.jobs_made:
        job.ends_mono = 0.0
    fake.script, fake.latency_s = Script(), 0.0
    return run_session(directory, fake, rows)
