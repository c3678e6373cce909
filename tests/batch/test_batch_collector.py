"""The collector: polls and fetches share its workers, and every batch ends once all its rows have results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from runner.batch.collector import ENOUGH_TO_FETCH, Collector
from runner.config import RunConfig
from runner.errors import KeyRefused
from runner.transport.fake import Behaviour, Exchange, Fake, Script, gone, unauthorised
from runner.transport.outcomes import RetrieveOutcome
from tests import virtual_time
from tests.batch.support import config_of
from tests.batch.workbench import Workbench
from tests.listed import listed

Scene: TypeAlias = Callable[["Collection"], Coroutine[Any, Any, None]]


class Collection:
    """A collector with its workers, and what it reports."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.collected = 0
        self.requeued: list[int] = []
        self.collector = Collector(
            bench.parts, {}, on_collected=self._collected, on_forgotten=self.requeued.extend
        )

    @asynccontextmanager
    async def working(self, lasts_s: float = 3600.0) -> AsyncIterator[None]:
        """Let the workers work until `lasts_s` after the end of the block."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.bench.config.poll.concurrency):
                tasks.create_task(self.collector.work())
            yield
            await asyncio.sleep(lasts_s)
            self.collector.turnstile.close()

    @property
    def verbs(self) -> list[str]:
        """The exchanges of the service in order: a poll as `P`, a fetch as `f`."""
        letters = {"retrieve_batch": "P", "batch_result": "f"}
        return [letters[exchange.verb] for exchange in self.bench.fake.exchanges]

    def _collected(self) -> None:
        self.collected += 1


def collect(directory: Path, scene: Scene, fake: Fake | None = None, config: RunConfig | None = None) -> None:
    """Play a scene with a collector over a workbench with 400 rows."""

    async def main() -> None:
        it = Collection(Workbench(directory, fake or Fake(), listed(400), config or config_of()))
        it.bench.health.confirm()
        await scene(it)

    virtual_time.run(main())


def test_all_results_of_all_batches_are_collected(tmp_path: Path) -> None:
    async def scene(it: Collection) -> None:
        async with it.working():
            for number in range(3):
                it.collector.follow(await it.bench.create(range(10 * number, 10 * number + 10), number))
            assert len(it.collector) == 3
            assert repr(it.collector) == "<Collector 3 batches, 0 results to fetch>"
        assert (len(it.collector), it.collected) == (0, 3)
        assert sorted(it.bench.results()) == list(range(30))
        assert (it.bench.in_flight.outstanding, it.bench.in_flight.finished) == (0, 30)
        assert len(it.bench.fake.of("batch_result")) == 30

    collect(tmp_path, scene)


def test_results_are_fetched_and_written_while_their_batch_still_runs(tmp_path: Path) -> None:
    async def scene(it: Collection) -> None:
        async with it.working():
            it.collector.follow(await it.bench.create(range(30)))
            await asyncio.sleep(500.0)
            assert len(it.bench.results()) == 29
            assert it.collected == 0
        assert it.collected == 1
        last = it.bench.results()[29].timing
        assert last.pending is not None
        assert last.done - last.pending <= 30.0
        assert last.accepted is not None
        assert last.pending - last.accepted >= 900.0

    behaviour = Behaviour(takes_s=lambda job: 1000.0 if job.number == 30 else 10.0)
    collect(tmp_path, scene, Fake(behaviour), config_of(poll={"interval_s": 30.0}))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_polls_and_fetches_together_are_at_most_poll_concurrency(tmp_path: Path, concurrency: int) -> None:
    async def scene(it: Collection) -> None:
        async with it.working():
            for number in range(6):
                it.collector.follow(await it.bench.create(range(10 * number, 10 * number + 10), number))
        moments = sorted(
            [(exchange.started_mono, 1) for exchange in it.bench.fake.exchanges]
            + [(exchange.ended_mono or 0.0, -1) for exchange in it.bench.fake.exchanges]
        )
        at_once = most = 0
        for _, change in moments:
            at_once += change
            most = max(most, at_once)
        assert most == concurrency
        assert len(it.bench.results()) == 60

    fake = Fake(latency_s=0.3)
    collect(tmp_path, scene, fake, config_of(poll={"concurrency": concurrency}))


def test_while_enough_results_wait_no_batch_is_polled(tmp_path: Path) -> None:
    async def scene(it: Collection) -> None:
        async with it.working():
            it.collector.follow(await it.bench.create(range(100), 0))
            it.collector.follow(await it.bench.create(range(100, 101), 1))
        first, second = [n for n, verb in enumerate(it.verbs) if verb == "P"][:2]
        assert (first, second) == (0, 100 - ENOUGH_TO_FETCH + 2)
        assert len(it.bench.results()) == 101

    fake = Fake(latency_s=2.0)
    collect(tmp_path, scene, fake, config_of(poll={"concurrency": 1, "interval_s": 1.0}))


def test_polls_and_fetches_take_turns_when_both_are_due(tmp_path: Path) -> None:
    """Without turns, five slow batches that are always due would keep the results of the sixth waiting."""

    async def scene(it: Collection) -> None:
        async with it.working(lasts_s=100.0):
            for number in range(6):
                it.collector.follow(await it.bench.create(range(7 * number, 7 * number + 7), number))
        start = it.verbs.index("f")
        assert "".join(it.verbs[start : start + 12]) in ("fP" * 6, "Pf" * 6)
        assert len(it.bench.results()) == 7

    behaviour = Behaviour(takes_s=lambda job: 5.0 if job.number > 35 else 3600.0)
    fake = Fake(behaviour, latency_s=1.0)
    collect(tmp_path, scene, fake, config_of(poll={"concurrency": 1, "interval_s": 1.0}))


OUTAGE = {"limits": {"max_outage_s": 60.0}}


def test_a_batch_that_the_service_does_not_know_ends_with_all_its_rows(tmp_path: Path) -> None:
    async def scene(it: Collection) -> None:
        async with it.working():
            it.collector.follow(await it.bench.create(range(10)))
            it.bench.fake.batches_made[0].is_lost = True
        assert {result.status for result in it.bench.results().values()} == {"expired"}
        assert (len(it.collector), it.collected) == (0, 1)
        assert it.bench.in_flight.finished == 10

    collect(tmp_path, scene, config=config_of(**OUTAGE))


@pytest.mark.parametrize("forgets", ["batch", "some results"])
def test_rows_that_the_service_forgot_free_their_slots_and_may_be_resent(
    tmp_path: Path, forgets: str
) -> None:
    async def scene(it: Collection) -> None:
        async with it.working():
            it.collector.follow(await it.bench.create(range(10), inherited=True))
            batch = it.bench.fake.batches_made[0]
            batch.is_lost = forgets == "batch"
            for name in ("row-3", "row-7"):
                batch.jobs[name].is_lost = True
        rows = list(range(10)) if forgets == "batch" else [3, 7]
        assert sorted(it.requeued) == rows
        assert (len(it.collector), it.collected) == (0, 1)
        assert (it.bench.in_flight.outstanding, it.bench.in_flight.finished) == (0, 10 - len(rows))

    collect(tmp_path, scene, config=config_of(submit={"on_uncertain": "resend"}, **OUTAGE))


def test_a_late_batch_ends_after_a_last_fetch_of_each_request(tmp_path: Path) -> None:
    async def scene(it: Collection) -> None:
        async with it.working():
            it.collector.follow(await it.bench.create(range(10)))
        statuses = [result.status for _, result in sorted(it.bench.results().items())]
        assert statuses == ["completed"] * 5 + ["expired"] * 5
        assert (len(it.collector), it.collected) == (0, 1)

    behaviour = Behaviour(takes_s=lambda job: 1.0 if job.number <= 5 else 10_000.0)
    collect(tmp_path, scene, Fake(behaviour), config_of(poll={"deadline_s": 30.0}))


def test_what_ends_the_run_is_raised_in_a_worker(tmp_path: Path) -> None:
    async def scene(it: Collection) -> None:
        it.collector.follow(await it.bench.create(range(1)))
        with pytest.raises(KeyRefused):
            await it.collector.work()

    def refuse(_: Exchange) -> RetrieveOutcome:
        return unauthorised()

    collect(tmp_path, scene, Fake(Behaviour(takes_s=0.0), Script(batch_result=refuse)))


def test_a_closed_collector_neither_polls_nor_fetches(tmp_path: Path) -> None:
    async def scene(it: Collection) -> None:
        async with it.working(lasts_s=0.5):
            it.collector.follow(await it.bench.create(range(10)))
        await asyncio.sleep(100.0)
        assert it.bench.fake.exchanges == []
        assert it.bench.in_flight.outstanding == 10

    collect(tmp_path, scene, Fake(script=Script(batch_result=lambda _: gone())))
