"""Single parts of a session, each with what it needs around it: real files, a fake service, and lists."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.background.intake import Intake
from runner.background.poller import Poller
from runner.background.submission import acceptance_of
from runner.background.submitter import Submitter
from runner.config import RunConfig
from runner.policy.admission import Admission, Rule
from runner.policy.circuit import Circuit
from runner.policy.rate_gate import RateGate
from runner.records import Job, Reply, Usage
from runner.session.exchanges import Exchanges
from runner.session.feed import AllExcept, Feed
from runner.session.health import FIRST_PATIENCE_S, ServiceHealth
from runner.session.limits import LimitCheck
from runner.session.parts import Parts
from runner.session.sink import Sink, WrittenResult
from runner.source import Source
from runner.store import Journal, Recovery, Results, RowSet
from runner.store.journal import Entry, read_journal
from runner.transport import Transport
from runner.transport.fake import Fake
from runner.transport.outcomes import Done
from tests.listed import listed
from tests.session.support import BASE_URL, RUN_ID, Surroundings, config_of

DONE = Done("completed", Reply(200, None, msgspec.Raw(b'{"id":"x"}')), Usage(input=5, output=2), None)


def job_of(row: int, *, accepted: float = 0.0, inherited: bool = False) -> Job:
    """Return an accepted job."""
    return Job(row, f"row-{row}", f"job-{row}", "m", 0.0, 0.0, accepted, 1, inherited=inherited)


class Calls:
    """A listener that counts how often it was called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def health_of(
    config: RunConfig | None = None, *, first_patience_s: float = FIRST_PATIENCE_S
) -> tuple[ServiceHealth, list[str], Calls]:
    """Return the health of a service, what it said, and the calls of `on_confirmed`."""
    said: list[str] = []
    confirmed = Calls()
    health = ServiceHealth(
        config or config_of(), BASE_URL, first_patience_s, say=said.append, on_confirmed=confirmed
    )
    return health, said, confirmed


def exchanges_of(
    health: ServiceHealth, *rules: Rule, on_reopened: Callable[[], None]
) -> tuple[Exchanges, list[str]]:
    """Return one sort of exchange, with a gate and a circuit if no rules are given, and what it said."""
    said: list[str] = []
    admission = Admission(*(rules or (RateGate(), Circuit(60.0))))
    return Exchanges(admission, health, say=said.append, on_reopened=on_reopened), said


class Rig:
    """All that a mode works with, without a session. What is written is counted, and kept here."""

    def __init__(
        self,
        directory: Path,
        transport: Transport | None = None,
        rows: int = 0,
        /,
        **sections: Mapping[str, object],
    ) -> None:
        """Open the files; call it with the event loop running."""
        around = Surroundings(directory, rows, config_of(**sections))
        self.config, self.clock, self.meter = around.config, around.clock, around.meter
        self.in_flight, self.recovery = around.in_flight, around.recovery
        self.files = around.run_dir.files()
        self.said: list[str] = []
        self.accepted: list[Job] = []
        self.ended: list[WrittenResult] = []
        self.broken: list[Exception] = []
        self.confirmed = Calls()
        self.sink: Sink[Any] = Sink(
            Journal(self.files.journal),
            Results(self.files.results),
            self.config.sink.store,
            self.config.sink.fsync_s,
            on_written=self._written,
            on_broken=self.broken.append,
        )
        self.health = ServiceHealth(
            self.config, BASE_URL, FIRST_PATIENCE_S, say=self.said.append, on_confirmed=self.confirmed
        )
        self.parts: Parts[Any] = Parts(
            config=self.config,
            files=self.files,
            run_id=RUN_ID,
            transport=transport or Fake(),
            sink=self.sink,
            meter=self.meter,
            in_flight=self.in_flight,
            clock=self.clock,
            health=self.health,
            limits=LimitCheck(self.config, self.meter),
            say=self.said.append,
            random=random.Random(RUN_ID),
        )

    @property
    def journal(self) -> list[Entry]:
        """All entries in the file."""
        return list(read_journal(self.files.journal))

    @property
    def statuses(self) -> dict[int, str]:
        """Status of each row that has a result on record."""
        return {it.result.row: it.result.status for it in self.ended}

    def feed(self, rows: int | Source) -> Feed:
        """Return a feed to which all rows are granted; somebody has to let it `fill`."""
        source = listed(rows) if isinstance(rows, int) else rows
        feed = Feed(source, on_rows=Calls(), on_low=Calls())
        total = sum(len(block) for block in source.blocks())
        feed.grant(AllExcept(total, RowSet(0)))
        feed.all_granted = True
        return feed

    def intake(self, source: Source, feed: Feed, recovery: Recovery | None = None) -> Intake:
        """Return an intake, with what earlier sessions left if that is given."""
        return Intake(self.parts, source, feed, recovery or self.recovery)

    def submitter(self, intake: Intake) -> Submitter:
        """Return a submitter; nobody wakes it when results are written."""
        return Submitter(self.parts, intake)

    def poller(self, on_forgotten: Callable[[Job], None]) -> Poller:
        """Return a poller."""
        return Poller(self.parts, on_forgotten=on_forgotten)

    def accept(self, job: Job) -> None:
        """Put the acceptance of a job on record, of a row that is neither taken nor announced so far."""
        self.in_flight.take()
        self.in_flight.announce()
        self.sink.accept(acceptance_of(job), job)

    def _written(self, accepted: Sequence[Job], ended: Sequence[WrittenResult]) -> None:
        self.accepted += accepted
        self.ended += ended
        self.in_flight.accept(len(accepted))
        for it in ended:
            if it.was_outstanding:
                self.in_flight.finish()
            else:
                self.in_flight.refuse(announced=it.was_announced)
