"""The fetcher: one GET for each result, and patience with a service that does not have it yet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from runner.batch.open_batch import Item
from runner.records import Failure
from runner.session.turnstile import NotBefore
from runner.transport.fake import Behaviour, Fake, done, gone, throttled, transient
from runner.transport.outcomes import PENDING, Listing, RetrieveOutcome
from tests import virtual_time
from tests.batch.fetching import Fetch, answering, fetch, until
from tests.batch.support import UNIX, config_of
from tests.batch.workbench import Workbench
from tests.listed import Listed, listed

LATE = Failure("deadline", "not done in time")


def test_each_result_is_fetched_once_and_put_on_record(tmp_path: Path) -> None:
    async def scene(it: Fetch) -> None:
        batch = await it.bench.create(range(10))
        await asyncio.sleep(5.0)
        it.fetcher.fetch(batch, [(name, "completed") for name in batch.names.rows], UNIX + 3.0)
        assert (it.fetcher.backlog, it.due) == (10, 1)
        assert batch.names.rows == {}
        await it.run()
        results = it.bench.results()
        assert sorted(results) == list(range(10))
        assert len(it.gets) == 10
        assert it.fetched == [0] * 10
        assert (it.fetcher.backlog, batch.without_result) == (0, 0)
        assert (it.bench.in_flight.outstanding, it.bench.in_flight.finished) == (0, 10)
        timing = results[4].timing
        assert (timing.accepted, timing.pending, timing.done) == (UNIX, UNIX + 3.0, UNIX + 5.0)
        assert (results[4].status, results[4].polls) == ("completed", 1)

    fetch(tmp_path, scene)


def test_a_result_has_the_own_id_and_the_epoch_of_its_row(tmp_path: Path) -> None:
    async def main() -> None:
        source = Listed(listed(2).bodies, ["Zoë", "b"])
        it = Fetch(Workbench(tmp_path, Fake(Behaviour(takes_s=0.0)), source))
        it.epochs[1] = 3
        await it.fetch(range(2))
        await it.run()
        results = it.bench.results()
        assert [(results[row].custom_id, results[row].epoch) for row in (0, 1)] == [("Zoë", 0), ("b", 3)]

    virtual_time.run(main())


def test_results_that_are_fetched_again_go_before_those_that_never_were(tmp_path: Path) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(3))
        item = it.fetcher.take(0.0)
        assert isinstance(item, Item)
        await it.fetcher.poll(item)
        await asyncio.sleep(1.0)
        await it.run()
        assert [exchange.custom_id for exchange in it.bench.fake.of("batch_result")] == [
            "row-0", "row-0", "row-1", "row-2",
        ]  # fmt: skip

    fetch(tmp_path, scene, answering(lambda exchange: transient("500") if exchange.number == 1 else None))


def test_fetches_keep_to_the_greatest_rate(tmp_path: Path) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(30))
        await it.run()
        assert 5.0 <= it.gets[-1] <= 6.0
        work = it.fetcher.take(it.bench.clock.now_mono())
        assert isinstance(work, NotBefore)

    fetch(tmp_path, scene, max_rate_per_s=5.0)


def test_a_throttled_fetch_is_repeated_after_the_wait_that_the_service_asks_for(tmp_path: Path) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(2))
        await it.run()
        assert it.gets[0] == 0.0
        assert all(20.0 <= at <= 23.0 for at in it.gets[1:])
        assert it.statuses() == {"completed"}

    fetch(tmp_path, scene, answering(lambda exchange: throttled(20.0) if exchange.number == 1 else None))


def test_a_result_that_is_not_there_yet_is_fetched_again_at_growing_intervals(tmp_path: Path) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(1))
        await it.run()
        assert it.gets == [0.0, 2.0, 6.0, 10.0]
        assert it.statuses() == {"completed"}
        assert it.bench.results()[0].timing.pending == UNIX + 6.0

    config = config_of(poll={"interval_s": 1.0, "factor": 2.0, "max_interval_s": 4.0})
    fetch(tmp_path, scene, answering(until(10.0, PENDING)), config)


def test_the_deadline_of_a_result_counts_from_its_first_fetch(tmp_path: Path) -> None:
    async def scene(it: Fetch) -> None:
        await asyncio.sleep(500.0)
        await it.fetch(range(1))
        await it.run()
        assert it.gets[-1] == 530.0
        (result,) = it.bench.results().values()
        assert result.error is not None
        assert (result.status, result.error.type) == ("expired", "deadline")

    fetch(tmp_path, scene, answering(lambda _: PENDING), config_of(poll={"deadline_s": 30.0}))


def test_an_answer_that_is_no_answer_to_a_fetch_does_not_lose_the_result_in_silence(tmp_path: Path) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(1))
        with pytest.raises(AssertionError, match="a fetch of a result cannot be answered with Listing"):
            await it.run()

    odd: Any = Listing(())  # what no transport returns
    fetch(tmp_path, scene, answering(lambda _: odd))


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(None, None), (PENDING, LATE), (gone(), LATE)],
    ids=["done", "in progress", "404"],
)
def test_the_last_fetch_of_a_late_batch_finds_each_result_or_ends_the_request(
    tmp_path: Path, outcome: RetrieveOutcome | None, error: Failure | None
) -> None:
    async def scene(it: Fetch) -> None:
        batch = await it.bench.create(range(5))
        batch.pending = UNIX
        it.fetcher.fetch_rest(batch, "expired", LATE)
        assert (it.fetcher.backlog, batch.names.rows) == (5, {})
        await it.run()
        results = it.bench.results().values()
        status = "completed" if error is None else "expired"
        assert {(result.status, result.error) for result in results} == {(status, error)}
        assert it.fetched == [0] * 5
        if outcome is PENDING:
            assert len(it.gets) == 5

    fetch(tmp_path, scene, answering(lambda _: outcome), config_of(limits={"max_outage_s": 60.0}))


def test_the_requests_of_a_lost_batch_end_without_a_fetch(tmp_path: Path) -> None:
    async def scene(it: Fetch) -> None:
        batch = await it.bench.create(range(5))
        del batch.names.rows["row-2"]
        it.fetcher.lose(batch, "expired", gone().failure, 7.0)
        await asyncio.sleep(0.0)
        results = it.bench.results()
        assert sorted(results) == [0, 1, 3, 4]
        assert {(result.status, result.error) for result in results.values()} == {("expired", gone().failure)}
        assert {result.timing.done for result in results.values()} == {UNIX + 7.0}
        assert it.gets == []
        assert (batch.without_result, it.fetched) == (1, [0] * 4)

    fetch(tmp_path, scene)


def test_what_the_response_says_counts_and_not_what_the_batch_reported(tmp_path: Path) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(1), "failed")
        await it.run()
        assert it.bench.results()[0].status == "incomplete"

    fetch(tmp_path, scene, answering(lambda _: done("x", "incomplete")))
