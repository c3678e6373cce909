"""A coordinator in virtual time, over a crew of fake workers and the files of a real run directory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from runner.config import RunConfig
from runner.engine.coordinator import Coordinator
from runner.engine.task import Task
from runner.errors import RunnerError
from runner.measure.counts import merged
from runner.measure.history import recall
from runner.measure.vitals import Fleet
from runner.session.session import SessionOutcome
from runner.source import Source
from runner.store import RunDir, read_results
from tests import virtual_time
from tests.engine.crew import Crew

PATIENCE_S = 600.0
"""Virtual seconds after which a run that does not end has failed its test."""


def make_config(rows: int = 100, workers: int = 2, **sections: Any) -> RunConfig:
    """Return a config of a run that several workers share."""
    return RunConfig.model_validate(
        {
            "name": "t",
            "target": {"base_url": "http://service/v1"},
            "request": {"model": "m"},
            "source": {"count": rows},
            "engine": {"workers": workers},
            **sections,
        }
    )


def make_task(
    path: Path, rows: int = 100, workers: int = 2, *, limit: int | None = None, **sections: Any
) -> Task:
    """Return the next session of the run in `path`, for its first `limit` rows; make the run if need be."""
    config = make_config(rows, workers, **sections)
    source, run_dir, fleet = Source(config), RunDir(path), Fleet()
    path.mkdir(exist_ok=True)
    if not run_dir.manifest.exists():
        run_dir.create(config, source.survey(), "key")
    run_dir.repair()
    manifest = run_dir.read_manifest()
    history = recall(run_dir, manifest, limit or rows)
    history.session.continued = history.next_session
    return Task(
        config=config,
        run_dir=run_dir,
        manifest=manifest,
        key="key",
        base_url=config.target.base_url,
        source=source,
        history=history,
        rows=limit or rows,
        vitals=fleet,
    )


@dataclass
class Coordinated:
    """One session under a coordinator: what is being watched, and how it ended."""

    task: Task
    crew: Crew
    said: list[str] = field(default_factory=list)
    """Lines for the user."""
    outcome: SessionOutcome | None = None
    took_s: float = 0.0
    """Virtual seconds from its beginning to its end."""

    @property
    def ended_by(self) -> RunnerError | None:
        """What ended it early."""
        assert self.outcome is not None
        return self.outcome.ended_by

    def rows_on_record(self) -> Counter[int]:
        """Return how many results the files have of each row."""
        return Counter(result.row for result in read_results(*self.task.run_dir.all_results))

    def assert_complete(self) -> None:
        """Every row has one result on record, and the counts say the same."""
        rows, in_flight = self.task.history.in_flight.total, self.task.history.in_flight
        assert self.ended_by is None
        assert self.rows_on_record() == dict.fromkeys(range(rows), 1)
        assert self.task.history.meter.done == rows
        assert (in_flight.finished, in_flight.outstanding, in_flight.announced) == (rows, 0, 0)


def coordinate(
    task: Task,
    crew: Crew,
    *events: tuple[float, Callable[[Coordinator], object]],
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> Coordinated:
    """Run a session to its end in virtual time; each of `events` is called with the coordinator at its time.

    As long as no worker has died, the counts of the run are compared every 13 ms with those that earlier
    sessions left plus what the workers have reported.
    """
    ran = Coordinated(task, crew)

    async def run() -> SessionOutcome:
        loop = asyncio.get_running_loop()
        assert isinstance(task.vitals, Fleet)
        engine = Coordinator(task, task.vitals, ran.said.append, crew.launch)
        for at_mono, act in events:
            loop.call_at(at_mono, act, engine)
        try:
            async with asyncio.timeout(PATIENCE_S):
                more = () if beside is None else (beside(),)
                return await engine.run(_check_totals(ran), *more)
        finally:
            ran.took_s = loop.time()

    ran.outcome = virtual_time.run(run())
    for worker in crew.workers:
        if worker.failure:
            raise worker.failure
    return ran


async def _check_totals(ran: Coordinated) -> None:
    history = ran.task.history
    counts = merged([history.meter.counts])
    in_flight = msgspec.structs.replace(
        history.in_flight, outstanding=0
    )  # the workers count what they follow
    while not any(worker.has_died for worker in ran.crew.workers):
        reports = [worker.heard for worker in ran.crew.workers if worker.heard]
        if reports:
            assert history.meter.counts == merged([counts, *(report.counts for report in reports)])
            summed = merged([in_flight, *(report.in_flight for report in reports)])
            assert history.in_flight.finished == summed.finished
            assert history.in_flight.outstanding == summed.outstanding
            assert history.in_flight.taken == summed.taken
            assert history.in_flight.total == in_flight.total
        await asyncio.sleep(0.013)
