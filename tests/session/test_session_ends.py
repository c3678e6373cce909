"""How a session ends early: by a signal, a limit, an outage, an error or a defect; never with a loss."""

from __future__ import annotations

import asyncio
import math
import signal
from pathlib import Path

import msgspec
import pytest

from runner.errors import (
    EndpointUnreachable,
    Interrupted,
    KeyRefused,
    LimitReached,
    OutOfFiles,
    RunnerError,
    StoppedEarly,
)
from runner.session.session import CHECK_S
from runner.session.shutdown import GRACE_S
from runner.transport.fake import Behaviour, Exchange, Fake, Script, throttled, transient, unauthorised
from runner.transport.outcomes import Done, Transient
from tests import virtual_time
from tests.session.support import Stage, after, resumed, run_session, session_of

PRICES = {"input": 0.0, "output": 50_000.0}
"""USD per million tokens; a job of the fake service, which uses 20 of them, costs one dollar."""


def test_after_a_signal_nothing_more_is_sent_and_outstanding_jobs_are_collected(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=20.0), latency_s=0.1)
    ended = run_session(tmp_path, fake, 200, after(10.0, signal.SIGINT), submit={"max_in_flight": 50})
    assert isinstance(ended.outcome.ended_by, Interrupted)
    assert ended.said == [
        "SIGINT: nothing more is sent; waiting at most 30 s for 50 open jobs (Ctrl-C: stop at once)"
    ]
    assert 20.0 < ended.at_s < 22.0
    assert ended.statuses == {"completed": 50}
    assert repr(ended.in_flight) == (
        "<InFlight 0 taken, 0 announced, 0 sending, 0 outstanding, 50 of 200 finished>"
    )
    assert resumed(tmp_path, fake, 200).statuses == {"completed": 200}
    assert len(fake.jobs_made) == 200


def test_jobs_that_take_longer_than_the_drain_stay_outstanding(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=lambda job: 20.0 if job.number % 2 else 3600.0))
    ended = run_session(tmp_path, fake, 40, after(10.0, signal.SIGTERM), limits={"drain_s": 15.0})
    assert ended.at_s == pytest.approx(25.0)
    assert (ended.statuses, ended.requests.open) == ({"completed": 20}, 20)
    assert resumed(tmp_path, fake, 40).statuses == {"completed": 40}
    assert len(fake.posts) == 40


def test_a_drain_waits_for_a_post_that_is_being_sent_and_for_its_job(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=5.0), latency_s=lambda exchange: 1.0 if exchange.verb == "submit" else 0.0)
    ended = run_session(tmp_path, fake, 5, after(0.5, signal.SIGINT))
    assert ended.at_s == pytest.approx(5.0, abs=1.0)  # also if a check falls on the moment of the acceptance
    assert ended.statuses == {"completed": 1}
    assert ended.requests.unsent == 4


def test_a_drain_in_which_nothing_is_outstanding_is_over_at_once(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit={1: throttled(3000.0)}))
    ended = run_session(tmp_path, fake, 5, after(10.1, signal.SIGINT))
    assert ended.at_s <= 10.1 + CHECK_S
    assert (ended.results, ended.requests.unsent) == ({}, 5)
    assert ended.said[0] == "waiting 3000 s, as the service asks: Too many requests."
    assert ended.intents[0].row == ended.retractions[0].row == 0


def test_polls_that_hang_do_not_hold_up_the_end_of_a_drain(tmp_path: Path) -> None:
    fake = Fake(latency_s=lambda exchange: math.inf if exchange.verb == "retrieve" else 0.0)
    ended = run_session(tmp_path, fake, 3, after(10.0, signal.SIGINT), limits={"drain_s": 0.5})
    assert ended.at_s == pytest.approx(10.5 + GRACE_S)
    assert (ended.requests.open, ended.in_flight.sending) == (3, 0)


def test_polls_that_the_service_asked_to_wait_for_do_not_hold_up_the_end_of_a_drain(tmp_path: Path) -> None:
    fake = Fake(script=Script(retrieve=lambda _: throttled(3000.0)))
    ended = run_session(tmp_path, fake, 3, after(10.0, signal.SIGINT), limits={"drain_s": 5.0})
    assert ended.at_s == pytest.approx(15.0)
    assert (ended.requests.open, ended.has_said("waiting 3000 s")) == (3, True)
    assert resumed(tmp_path, fake, 3).statuses == {"completed": 3}


def test_a_second_signal_does_not_even_wait_for_open_exchanges(tmp_path: Path) -> None:
    fake = Fake(latency_s=lambda exchange: math.inf if exchange.number > 5 else 0.0)
    ended = run_session(tmp_path, fake, 20, after(10.0, signal.SIGINT, signal.SIGTERM))
    assert ended.at_s == pytest.approx(10.0)
    assert ended.outcome.ended_by
    assert ended.outcome.ended_by.exit_code == 130
    assert ended.in_flight.sending == 0
    again = resumed(tmp_path, fake, 20)
    assert again.statuses == {"completed": 20}
    assert len(fake.jobs_made) == 20, "what was being sent has its key"


def test_a_job_that_completes_during_the_drain_completes_the_run(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=20.0))
    ended = run_session(tmp_path, fake, 10, after(10.0, signal.SIGINT))
    assert (ended.outcome.ended_by, ended.statuses) == (None, {"completed": 10})


def test_a_refused_key_stops_at_once_and_exchanges_of_the_last_moment_still_count(tmp_path: Path) -> None:
    latencies_s = {1: 0.0, 2: 1.0, 3: 1.0 + GRACE_S - 0.1, 4: 1.0 + GRACE_S + 0.1}

    def latency_s(exchange: Exchange) -> float:
        return latencies_s.get(exchange.number, 0.0)

    fake = Fake(Behaviour(takes_s=100.0), Script(submit={2: unauthorised()}), latency_s=latency_s)
    ended = run_session(tmp_path, fake, 4)
    assert isinstance(ended.outcome.ended_by, KeyRefused)
    assert ended.at_s == 1.0 + GRACE_S
    assert [entry.row for entry in ended.acceptances] == [0, 2]
    assert [entry.row for entry in ended.retractions] == [1]
    assert repr(ended.in_flight).startswith("<InFlight 2 taken, 1 announced, 0 sending, 2 outstanding")
    again = resumed(tmp_path, fake, 4)
    assert (again.statuses, len(fake.jobs_made)) == ({"completed": 4}, 4)


def test_the_host_hears_of_an_error_before_open_exchanges_have_ended(tmp_path: Path) -> None:
    heard: list[tuple[float, list[RunnerError]]] = []

    async def act(stage: Stage) -> None:
        await asyncio.sleep(1.5)
        heard.append((asyncio.get_running_loop().time(), list(stage.host.stopped_by)))

    fake = Fake(
        script=Script(submit={2: unauthorised()}),
        latency_s=lambda exchange: float(exchange.number - 1) if exchange.number < 3 else math.inf,
    )
    run_session(tmp_path, fake, 10, act)
    ((at_s, (error,)),) = heard
    assert at_s == 1.5
    assert isinstance(error, KeyRefused)


def test_a_time_limit_drains_and_the_next_session_does_the_rest(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=10.0))
    submit = {"max_in_flight": 20}
    ended = run_session(tmp_path, fake, 100, submit=submit, limits={"max_s": 25.0})
    assert isinstance(ended.outcome.ended_by, LimitReached)
    assert ended.has_said("limits.max_s: nothing more is sent; waiting at most 30 s for 20 open jobs")
    assert ended.at_s == pytest.approx(30.0)
    assert ended.statuses == {"completed": 60}
    assert resumed(tmp_path, fake, 100).statuses == {"completed": 100}


def test_too_many_failures_drain(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=10.0, ends="failed"))
    submit = {"max_in_flight": 5, "concurrency": 5}
    ended = run_session(tmp_path, fake, 100, submit=submit, limits={"max_failures": 12})
    assert str(ended.outcome.ended_by).startswith("limits.max_failures 12: ")
    assert 12 <= ended.statuses["failed"] <= 12 + 5
    assert ended.requests.open == 0
    posts = len(fake.posts)
    again = run_session(tmp_path, fake, 100, limits={"max_failures": 12})
    assert isinstance(again.outcome.ended_by, LimitReached)
    assert len(fake.posts) == posts, "the limit is reached before anything is sent"


def test_a_budget_counts_in_what_is_in_flight(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=10.0))
    ended = run_session(
        tmp_path, fake, 1000, submit={"max_in_flight": 500}, prices=PRICES, limits={"max_cost_usd": 100.0}
    )
    assert str(ended.outcome.ended_by).startswith("limits.max_cost_usd 100: cost limit reached: $100.0000")
    assert ended.statuses == {"completed": 100}
    assert ended.in_flight.most_slots <= 50, "at most as many in flight as are done"


def test_an_outage_ends_the_run_with_some_twenty_requests_a_minute_and_uses_up_no_row(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=5.0), down_mono=[(60.0, math.inf)])
    ended = run_session(tmp_path, fake, 5000, submit={"max_in_flight": 100})
    assert isinstance(ended.outcome.ended_by, EndpointUnreachable)
    assert "nothing but failures for" in str(ended.outcome.ended_by)
    assert ended.statuses.keys() == {"completed"}
    assert 120.0 <= ended.at_s < 140.0
    down = [exchange for exchange in fake.exchanges if exchange.started_mono >= 60.0]
    assert len(down) < 2 * (20 + 20 + 10), "posts and polls: all workers at once, ten more, and probes"
    assert ended.in_flight.sending == 0
    assert ended.requests.open + ended.requests.completed + ended.requests.unsent == 5000


def test_a_service_that_only_throttles_ends_the_run_and_costs_no_row(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit=lambda _: throttled(1.0)))
    ended = run_session(tmp_path, fake, 50)
    assert "nothing but failures for" in str(ended.outcome.ended_by)
    assert 60.0 <= ended.at_s < 75.0
    assert (ended.results, ended.requests.unsent) == ({}, 50)


def test_a_proxy_that_knows_no_route_for_a_while_costs_no_row(tmp_path: Path) -> None:
    page = msgspec.structs.replace(transient("404"), is_spoken=False)

    def away(exchange: Exchange) -> Transient | None:
        return page if 10.0 <= exchange.started_mono < 40.0 else None

    fake = Fake(Behaviour(takes_s=5.0), Script(submit=away, retrieve=away))
    ended = run_session(tmp_path, fake, 300, submit={"max_in_flight": 20})
    assert (ended.outcome.ended_by, ended.statuses) == (None, {"completed": 300})


def test_too_many_open_files_stop_the_run_and_lose_nothing(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=5.0), Script(retrieve={100: transient("no_files")}), latency_s=0.1)
    ended = run_session(tmp_path, fake, 60, submit={"max_in_flight": 20})
    assert isinstance(ended.outcome.ended_by, OutOfFiles)
    again = resumed(tmp_path, fake, 60)
    assert (again.statuses, len(fake.jobs_made)) == ({"completed": 60}, 60)


def test_a_shorter_outage_is_waited_out(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=5.0), down_mono=[(60.0, 110.0)])
    ended = run_session(tmp_path, fake, 600, submit={"max_in_flight": 30})
    assert (ended.outcome.ended_by, ended.statuses) == (None, {"completed": 600})
    assert 150.0 < ended.at_s < 170.0
    assert len(fake.jobs_made) == 600


def test_a_defect_of_this_program_stops_in_order_and_the_next_session_loses_nothing(tmp_path: Path) -> None:
    script = Script(retrieve={345: KeyError("nobody thought of this")})
    fake = Fake(Behaviour(takes_s=lambda job: 1.0 + job.number % 9), script, latency_s=0.1)
    ended = run_session(tmp_path, fake, 100)
    assert "a defect of this program: KeyError('nobody thought of this')" in str(ended.outcome.ended_by)
    assert ended.has_said("Traceback")
    delivered = {get.id for get in fake.gets if isinstance(get.outcome, Done)}
    assert len(ended.results) == len(delivered) >= 10
    again = resumed(tmp_path, fake, 100)
    assert (again.statuses, len(fake.jobs_made)) == ({"completed": 100}, 100)


def test_an_error_of_what_runs_beside_stops_the_session(tmp_path: Path) -> None:
    async def main() -> None:
        async def act(stage: Stage) -> None:
            await asyncio.sleep(10.0)
            raise StoppedEarly("the coordinator is gone")

        stage_ended = session_of(tmp_path, Fake(Behaviour(takes_s=math.inf)), 5, act)
        with pytest.raises(StoppedEarly, match="the coordinator is gone"):
            await stage_ended

    virtual_time.run(main())
