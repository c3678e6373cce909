"""The fetcher: one GET for each result, and patience with a service that does not have it yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from runner.batch.fetcher import Fetcher
from runner.batch.open_batch import Item, OpenBatch
from runner.config import RunConfig
from runner.errors import EndpointUnreachable
from runner.records import Failure, ResultStatus
from runner.session.turnstile import NotBefore
from runner.transport.fake import Behaviour, Exchange, Fake, Script, done, gone, throttled, transient
from runner.transport.outcomes import PENDING, Listing, RetrieveOutcome
from tests import virtual_time
from tests.batch.polling import poll_due
from tests.batch.support import UNIX, Listed, Workbench, config_of, listed

Scene: TypeAlias = Callable[["Fetch"], Coroutine[Any, Any, None]]
LATE = Failure("deadline", "not done in time")
UNSUCCESSFUL: tuple[ResultStatus, ...] = ("failed", "cancelled", "expired")


class Fetch:
    """A fetcher, and what it reports."""

    def __init__(self, bench: Workbench, max_rate_per_s: float | None = None) -> None:
        self.bench = bench
        self.due = 0
        self.fetched: list[int] = []
        """Number of the batch of each request that has ended."""
        self.forgotten: list[int] = []
        self.epochs: dict[int, int] = {}
        self.fetcher = Fetcher(
            bench.parts,
            bench.parts.exchanges(lambda: None, max_rate_per_s),
            self.epochs,
            on_due=self._due,
            on_fetched=lambda batch: self.fetched.append(batch.number),
            on_forgotten=lambda item: self.forgotten.append(item.row),
        )

    async def fetch(
        self, rows: range, status: ResultStatus = "completed", *, inherited: bool = False
    ) -> OpenBatch:
        """Let the service have these rows in a batch, which reports all of them as ended with `status`."""
        batch = await self.bench.create(rows, inherited=inherited)
        self.fetcher.fetch(batch, [(name, status) for name in batch.names.rows], None)
        return batch

    async def run(self, until_mono: float = float("inf")) -> None:
        await poll_due(self.fetcher, self.bench.clock, until_mono)

    @property
    def gets(self) -> list[float]:
        """Times at which results were requested."""
        return [exchange.started_mono for exchange in self.bench.fake.of("batch_result")]

    def statuses(self) -> set[str]:
        return {result.status for result in self.bench.results().values()}

    def _due(self) -> None:
        self.due += 1


def fetch(
    directory: Path,
    scene: Scene,
    fake: Fake | None = None,
    config: RunConfig | None = None,
    max_rate_per_s: float | None = None,
) -> None:
    """Play a scene with a fetcher over a workbench with 30 rows, at a service that is done at once."""

    async def main() -> None:
        service = fake or Fake(Behaviour(takes_s=0.0))
        it = Fetch(Workbench(directory, service, listed(30), config or config_of()), max_rate_per_s)
        it.bench.health.confirm()
        await scene(it)

    virtual_time.run(main())


def answering(answer: Callable[[Exchange], RetrieveOutcome | None], ends: ResultStatus = "completed") -> Fake:
    """Return a service with these answers to fetches; after them, all requests have ended with `ends`."""
    return Fake(Behaviour(takes_s=0.0, ends=ends), Script(batch_result=answer))


def until(end_mono: float, outcome: RetrieveOutcome) -> Callable[[Exchange], RetrieveOutcome | None]:
    """Return answers that are all `outcome` before `end_mono`."""
    return lambda exchange: outcome if exchange.started_mono < end_mono else None


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


OUTAGE = {"limits": {"max_outage_s": 60.0}}
"""An unknown job is then given up after 10 s, and a result that was reported done after 300 s."""


def test_a_result_that_the_service_does_not_find_is_given_up_after_five_outages(
    tmp_path: Path,
) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(1))
        await it.run()
        assert it.gets[-1] >= 300.0
        assert it.gets[-2] < 300.0
        (result,) = it.bench.results().values()
        assert (result.status, result.error) == ("expired", gone().failure)

    config = config_of(submit={"retry": {"cap_s": 20.0}}, **OUTAGE)
    fetch(tmp_path, scene, answering(lambda _: gone()), config)


@pytest.mark.parametrize("on_uncertain", ["hold", "resend"])
def test_a_result_of_an_earlier_session_that_the_service_forgot_is_uncertain_or_resent(
    tmp_path: Path, on_uncertain: str
) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(2), inherited=True)
        await it.run()
        if on_uncertain == "resend":
            assert sorted(it.forgotten) == [0, 1]
            assert not it.bench.results()
        else:
            assert it.forgotten == []
            errors = [result.error for result in it.bench.results().values()]
            assert all(error and "accepted in an earlier session" in error.message for error in errors)
            assert it.statuses() == {"uncertain"}

    config = config_of(submit={"on_uncertain": on_uncertain}, **OUTAGE)
    fetch(tmp_path, scene, answering(lambda _: gone()), config)


@pytest.mark.parametrize("status", UNSUCCESSFUL)
@pytest.mark.parametrize(
    "outcome", [transient("connect"), transient("500"), transient("502"), throttled(0.0)]
)
def test_the_response_of_an_unsuccessful_request_is_fetched_as_patiently_as_a_success(
    tmp_path: Path, status: ResultStatus, outcome: RetrieveOutcome
) -> None:
    """A service that restarts answers nothing, or nothing useful, for a while: see issue 11."""

    async def scene(it: Fetch) -> None:
        await it.fetch(range(3), status)
        await it.run()
        results = it.bench.results()
        assert it.statuses() == {status}
        assert all(result.response is not None for result in results.values())
        assert all(result.polls > 5 for result in results.values())

    config = config_of(submit={"retry": {"base_s": 0.02, "cap_s": 0.3}}, **OUTAGE)
    fetch(tmp_path, scene, answering(until(20.0, outcome), status), config)


def test_an_outage_ends_the_run_and_no_unsuccessful_request(
    tmp_path: Path,
) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(3), "failed")
        with pytest.raises(EndpointUnreachable):
            await it.run()
        assert not it.bench.results()
        assert it.bench.in_flight.outstanding == 3

    fetch(tmp_path, scene, answering(lambda _: transient("connect")), config_of(**OUTAGE))


@pytest.mark.parametrize("status", UNSUCCESSFUL)
@pytest.mark.parametrize("outcome", [gone(), PENDING], ids=["404", "in progress"])
def test_a_store_that_lags_behind_the_batch_does_not_lose_an_unsuccessful_request(
    tmp_path: Path, status: ResultStatus, outcome: RetrieveOutcome
) -> None:
    """Many polls fit into the nine seconds, as they do where retries come soon."""

    async def scene(it: Fetch) -> None:
        await it.fetch(range(3), status)
        await it.run()
        results = it.bench.results()
        assert it.statuses() == {status}
        assert all(result.response is not None for result in results.values())
        assert all(result.polls > 5 for result in results.values())

    config = config_of(
        submit={"retry": {"base_s": 0.02, "cap_s": 0.3}}, poll={"max_interval_s": 1.0}, **OUTAGE
    )
    fetch(tmp_path, scene, answering(until(9.0, outcome), status), config)


@pytest.mark.parametrize("status", UNSUCCESSFUL)
@pytest.mark.parametrize("cap_s", [0.3, 60.0])
def test_an_unsuccessful_request_without_a_response_ends_as_the_batch_reports(
    tmp_path: Path, status: ResultStatus, cap_s: float
) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(3), status)
        await it.run()
        results = it.bench.results().values()
        assert {(result.status, result.error) for result in results} == {(status, gone().failure)}
        assert all(result.polls >= 5 for result in results)
        assert it.gets[-1] >= 10.0
        assert max(it.gets[:-3]) < 10.0 + cap_s

    config = config_of(submit={"retry": {"base_s": cap_s / 10, "cap_s": cap_s}}, **OUTAGE)
    fetch(tmp_path, scene, answering(lambda _: gone()), config)


def test_an_unsuccessful_request_with_an_empty_response_ends_as_the_batch_reports(
    tmp_path: Path,
) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(1), "failed")
        await it.run()
        (result,) = it.bench.results().values()
        assert result.error is not None
        assert (result.status, result.error.type) == ("failed", "failed")
        assert "its response does not say why" in result.error.message
        assert it.gets == [0.0, 1.5, 3.75, 7.125, 12.1875]

    fetch(tmp_path, scene, answering(lambda _: PENDING), config_of(**OUTAGE))


def test_failed_fetches_between_the_answers_do_not_count(tmp_path: Path) -> None:
    """Four answers that it is not there and any number of failures are no reason to give up."""

    async def scene(it: Fetch) -> None:
        await it.fetch(range(1), "failed")
        await it.run()
        (result,) = it.bench.results().values()
        assert result.response is not None
        assert result.polls == 41

    def answer(exchange: Exchange) -> RetrieveOutcome | None:
        if exchange.number > 40:
            return None
        return gone() if exchange.number % 10 == 0 else transient("500")

    config = config_of(submit={"retry": {"cap_s": 2.0}}, limits={"max_outage_s": 20.0})
    fetch(tmp_path, scene, answering(answer, "failed"), config)


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

    fetch(tmp_path, scene, answering(lambda _: outcome), config_of(**OUTAGE))


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
