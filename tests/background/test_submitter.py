"""Rows become POSTs: paced, retried, never sent twice without need, and never holding up the end of a run."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from runner.background.submitter import LAST_TRIES
from runner.errors import EndpointUnreachable
from runner.transport.fake import Behaviour, Exchange, Fake, Script, rejected, throttled, transient
from runner.transport.outcomes import PENDING, SubmitOutcome, Throttled, Transient
from tests.background.sending import QUICK, finished, for_row, posts_of
from tests.listed import row_of
from tests.session.support import Ended, Stage, run_session


def test_one_throttled_post_closes_the_gate_for_all_workers(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit={30: throttled(40.0)}), latency_s=1.0)
    ended = run_session(tmp_path, fake, 200)
    closed_at = fake.posts[29].ended_mono
    assert closed_at == 3.0
    assert not [post for post in fake.posts if 3.0 < post.started_mono < 43.0]
    assert ended.has_said("waiting 40 s, as the service asks: Too many requests.")
    assert (ended.statuses, repr(ended.in_flight)) == ({"completed": 200}, finished(200))


def test_a_first_answer_that_asks_for_a_wait_is_heeded_by_everybody(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit={1: throttled(30.0)}), latency_s=0.1)
    run_session(tmp_path, fake, 50)
    assert fake.posts[1].started_mono >= 30.1


def test_a_rate_limit_is_found_and_kept_to_with_few_refusals(tmp_path: Path) -> None:
    fake = Fake(Behaviour(posts_per_s=20.0), latency_s=0.1)
    ended = run_session(tmp_path, fake, 1000, submit={"concurrency": 100})
    assert ended.statuses == {"completed": 1000}
    refused = ended.meter.counts.submit_retries["429"]
    assert refused < 200, "at worst one burst of all workers, and a few at each try for more"
    assert len(fake.posts) == 1000 + refused
    assert 48.0 <= ended.at_s < 75.0
    assert len(ended.retractions) == refused


def test_a_wait_that_the_service_asks_of_one_request_is_kept_by_that_request(tmp_path: Path) -> None:
    fake = Fake(script=for_row(7, transient("503", wait_s=100.0), times=1))
    ended = run_session(tmp_path, fake, 20)
    first, second = posts_of(fake, 7)
    assert second.started_mono - first.started_mono >= 100.0
    assert max(post.started_mono for post in fake.posts if post is not second) < 10.0
    assert ended.statuses == {"completed": 20}


def test_every_attempt_of_a_row_has_the_same_bytes_and_the_same_key(tmp_path: Path) -> None:
    fake = Fake(script=for_row(7, transient("502", ambiguous=True), times=4))
    ended = run_session(tmp_path, fake, 20, submit={"retry": QUICK})
    posts = posts_of(fake, 7)
    assert (len(posts), len({(post.body, post.key) for post in posts})) == (5, 1)
    assert len({post.key for post in fake.posts}) == 20
    assert ended.results[7].attempts == 5
    assert [entry.row for entry in ended.intents].count(7) == 1, "it was in doubt all the time"


def test_a_definite_refusal_is_retracted_and_announced_again(tmp_path: Path) -> None:
    fake = Fake(script=for_row(7, transient("503"), times=2))
    ended = run_session(tmp_path, fake, 20, submit={"retry": QUICK})
    assert [entry.row for entry in ended.intents].count(7) == 3
    assert [(entry.row, entry.cause) for entry in ended.retractions] == [(7, "503")] * 2
    assert repr(ended.in_flight) == finished(20)


def test_the_wait_between_attempts_grows_up_to_its_cap(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=100.0), for_row(7, transient("503"), times=11))
    retry = {"base_s": 1.0, "cap_s": 8.0, "max_attempts": 12}
    ended = run_session(tmp_path, fake, 20, submit={"retry": retry}, poll={"interval_s": 0.5})
    gaps_s = [b.started_mono - a.started_mono for a, b in pairwise(posts_of(fake, 7))]
    for failures, gap_s in enumerate(gaps_s, start=1):
        assert 0.0 <= gap_s <= min(2.0 ** (failures - 1), 8.0) + 0.01
    assert max(gaps_s) > 4.0
    assert ended.results[7].attempts == 12


ANSWERED: Mapping[str, object] = {"base_s": 2.0, "cap_s": 2.0}
"""Retries that are so far apart that other rows are answered in between."""


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(transient("500"), "rejected"), (transient("timeout", ambiguous=True), "uncertain")],
    ids=["definite", "in doubt"],
)
def test_a_row_that_always_fails_while_others_are_answered_ends_after_its_attempts(
    tmp_path: Path, outcome: Transient, status: str
) -> None:
    fake = Fake(Behaviour(takes_s=60.0), for_row(7, outcome))
    retry = {**ANSWERED, "max_attempts": 5}
    ended = run_session(tmp_path, fake, 20, submit={"retry": retry}, poll={"interval_s": 0.1})
    assert ended.statuses == {"completed": 19, status: 1}
    assert 5 <= ended.results[7].attempts == len(posts_of(fake, 7)) <= 7
    assert ended.results[7].error == outcome.failure
    assert repr(ended.in_flight) == finished(20)


def test_attempts_that_reach_nobody_do_not_count(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=600.0), for_row(7, transient("connect"), times=12))
    retry = {**ANSWERED, "max_attempts": 2}
    ended = run_session(tmp_path, fake, 20, submit={"retry": retry})
    assert (ended.statuses, ended.results[7].attempts) == ({"completed": 20}, 13)


@pytest.mark.parametrize("outcome", [transient("502"), throttled(1.0)], ids=["502", "429"])
def test_attempts_during_an_outage_do_not_count(tmp_path: Path, outcome: Transient | Throttled) -> None:
    def down(exchange: Exchange) -> Transient | Throttled | None:
        return outcome if 5.0 <= exchange.started_mono < 55.0 else None

    fake = Fake(script=Script(submit=down, retrieve=down), latency_s=0.1)
    retry = {**QUICK, "max_attempts": 2}
    ended = run_session(tmp_path, fake, 300, submit={"concurrency": 3, "retry": retry})
    assert ended.statuses == {"completed": 300}
    assert max(result.attempts for result in ended.results.values()) > 3
    assert repr(ended.in_flight) == finished(300)


def test_an_outage_costs_about_twenty_posts_a_minute_however_many_rows_wait(tmp_path: Path) -> None:
    fake = Fake(down_mono=[(5.0, 305.0)], latency_s=0.1)
    limits = {"max_outage_s": 400.0}
    ended = run_session(tmp_path, fake, 2000, limits=limits)
    assert ended.statuses == {"completed": 2000}
    down = [post for post in fake.posts if 5.0 <= post.started_mono < 305.0]
    assert 20 <= len(down) <= 20 + 5 * 20
    late = [post for post in down if post.started_mono > 10.0]
    assert 5 <= len(late) < 20
    for earlier, later in pairwise(late):
        assert later.started_mono >= (earlier.ended_mono or 0.0), "one by one"


def test_when_the_service_is_back_all_workers_send_again(tmp_path: Path) -> None:
    fake = Fake(down_mono=[(5.0, 35.0)], latency_s=0.1)
    run_session(tmp_path, fake, 2000)
    first = min(post.ended_mono or 0.0 for post in fake.posts if post.started_mono >= 35.0)
    assert sum(first <= post.started_mono < first + 0.05 for post in fake.posts) == 20


def test_a_rejected_row_keeps_the_answer_and_holds_up_nobody(tmp_path: Path) -> None:
    fake = Fake(script=for_row(7, rejected("no such tool")))
    ended = run_session(tmp_path, fake, 20)
    assert ended.statuses == {"completed": 19, "rejected": 1}
    result = ended.results[7]
    assert (result.attempts, result.error and result.error.message) == (1, "no such tool")
    assert result.timing.accepted is None
    assert b'"no such tool"' in (tmp_path / "results.jsonl").read_bytes()
    assert repr(ended.in_flight) == finished(20)


def test_rows_that_the_service_cannot_digest_do_not_keep_the_run_from_its_end(tmp_path: Path) -> None:
    def answers(post: Exchange) -> SubmitOutcome | None:
        return {7: transient("500"), 8: transient("502", ambiguous=True)}.get(row_of(post.body))

    fake = Fake(script=Script(submit=answers))
    ended = run_session(tmp_path, fake, 20, submit={"retry": {"max_attempts": 100}})
    assert ended.outcome.ended_by is None
    assert ended.statuses == {"completed": 18, "rejected": 1, "uncertain": 1}
    assert (ended.results[7].status, ended.results[8].status) == ("rejected", "uncertain")
    assert ended.results[7].attempts >= LAST_TRIES
    assert 60.0 <= ended.at_s < 120.0
    assert repr(ended.in_flight) == finished(20)


def test_the_last_row_waits_out_an_outage_that_is_shorter_than_the_limit(tmp_path: Path) -> None:
    fake = Fake(script=for_row(19, transient("502"), times=14))
    ended = run_session(tmp_path, fake, 20, submit={"retry": {**QUICK, "max_attempts": 2}})
    assert (ended.statuses, ended.results[19].attempts) == ({"completed": 20}, 15)


def test_a_row_that_is_alone_among_outstanding_jobs_is_not_used_up_by_an_outage(tmp_path: Path) -> None:
    """With almost every slot taken, all probes of an outage fall to one row."""

    def down(exchange: Exchange) -> Transient | None:
        is_before = exchange.verb == "submit" and exchange.number < 20
        return None if is_before or exchange.started_mono >= 50.0 else transient("502")

    fake = Fake(Behaviour(takes_s=60.0), Script(submit=down, retrieve=down))
    submit = {"max_in_flight": 20, "retry": {**QUICK, "max_attempts": 4}}
    ended = run_session(tmp_path, fake, 60, submit=submit)
    assert ended.statuses == {"completed": 60}
    assert max(result.attempts for result in ended.results.values()) > 4


def test_last_rows_that_reach_nobody_are_an_outage_and_are_kept(tmp_path: Path) -> None:
    fake = Fake(script=for_row(7, transient("connect")))
    ended = run_session(tmp_path, fake, 20)
    assert isinstance(ended.outcome.ended_by, EndpointUnreachable)
    assert (ended.statuses, ended.requests.unsent) == ({"completed": 19}, 1)


def test_failing_rows_are_not_ended_while_other_rows_are_still_to_be_sent(tmp_path: Path) -> None:
    fake = Fake(
        Behaviour(takes_s=math.inf), Script(submit=lambda post: None if post.number < 5 else transient("500"))
    )
    poll = {"interval_s": 1000.0}
    ended = run_session(tmp_path, fake, 2000, submit={"concurrency": 3}, poll=poll)
    assert isinstance(ended.outcome.ended_by, EndpointUnreachable)
    assert (ended.results, ended.requests.open) == ({}, 4)


def test_fresh_rows_wait_while_twice_as_many_retries_wait_as_there_are_workers(tmp_path: Path) -> None:
    script = Script(submit=lambda post: transient("503", wait_s=500.0) if post.number > 1 else None)
    fake = Fake(Behaviour(takes_s=600.0), script)
    run_session(
        tmp_path, fake, 100, submit={"concurrency": 3}, poll={"interval_s": 0.5}, limits={"max_s": 100.0}
    )
    assert len({row_of(post.body) for post in fake.posts if post.started_mono < 100.0}) <= 1 + 2 * 3 + 2


def test_retries_go_before_fresh_rows(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit={5: transient("503")}), latency_s=1.0)
    run_session(tmp_path, fake, 200, submit={"concurrency": 2, "retry": QUICK})
    row = row_of(fake.posts[4].body)
    assert [post.number for post in posts_of(fake, row)] in ([5, 7], [5, 8])


def test_an_answer_that_is_not_of_the_submitter_confirms_the_service_for_it(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(10.0)
        stage.session.health.record(PENDING, 10.0)  # of another process of the run

    fake = Fake(latency_s=lambda exchange: 60.0 if exchange.number == 1 else 1.0)
    run_session(tmp_path, fake, 50, act)
    assert Counter(post.started_mono for post in fake.posts)[10.0] == 19


def test_a_worker_whose_exchange_breaks_is_no_longer_counted_as_sending(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit={5: RuntimeError("a defect")}), latency_s=1.0)
    ended: Ended = run_session(tmp_path, fake, 20)
    assert ended.in_flight.sending == 0
    assert "a defect" in str(ended.outcome.ended_by)
