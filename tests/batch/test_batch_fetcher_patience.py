"""How long the fetcher waits for a result that was paid for, or that says why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import EndpointUnreachable
from runner.records import ResultStatus
from runner.transport.fake import Exchange, gone, throttled, transient
from runner.transport.outcomes import PENDING, RetrieveOutcome
from tests.batch.fetching import Fetch, answering, fetch, until
from tests.batch.support import config_of

UNSUCCESSFUL: tuple[ResultStatus, ...] = ("failed", "cancelled", "expired")
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
        return gone() if exchange.number % 10 == 0 else transient("cut")

    config = config_of(submit={"retry": {"cap_s": 2.0}}, limits={"max_outage_s": 20.0})
    fetch(tmp_path, scene, answering(answer, "failed"), config)


def test_a_last_request_whose_response_the_service_cannot_give_is_given_up_before_the_run_stops(
    tmp_path: Path,
) -> None:
    async def scene(it: Fetch) -> None:
        await it.fetch(range(1), "failed")
        await it.run()
        (result,) = it.bench.results().values()
        assert result.error is not None
        assert (result.status, result.error.status_code, result.response) == ("failed", 500, None)
        assert it.gets[-1] >= 30.0

    fetch(tmp_path, scene, answering(lambda _: transient("500")), config_of(**OUTAGE))
