"""The service in virtual time: capacity, windows, outcomes, limits, determinism."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from runner.config.simulation import RateLimit
from runner.simulator.service.bucket import Bucket
from tests.simulator.support import Virtual, body_of, content, settings, taking

LATENCIES: list[tuple[dict[str, Any], float]] = [
    ({"type": "constant", "mean_s": 2.0}, 2.0),
    ({"type": "exponential", "mean_s": 2.0}, 2.0),
    ({"type": "lognormal", "mean_s": 2.0, "sigma": 0.8}, 2.0),
    ({"type": "uniform", "min_s": 1.0, "max_s": 5.0}, 3.0),
    ({"type": "bimodal", "fast_s": 1.0, "slow_s": 11.0, "slow_share": 0.2, "sigma": 0.2}, 3.0),
]


@pytest.mark.parametrize(("latency", "mean_s"), LATENCIES, ids=lambda value: str(value)[10:16])
def test_each_latency_has_its_configured_mean(latency: dict[str, Any], mean_s: float) -> None:
    virtual = Virtual(settings(latency=latency))
    n = 4000
    for i in range(n):
        virtual.create(f"prompt {i}")
    durations = [job.terms.duration_s for job in virtual.service.jobs()]
    assert min(durations) > 0
    assert sum(durations) / n == pytest.approx(mean_s, rel=0.08)


def test_a_bimodal_latency_has_its_share_of_slow_jobs() -> None:
    virtual = Virtual(settings(latency=LATENCIES[4][0]))
    for i in range(4000):
        virtual.create(f"prompt {i}")
    slow = sum(job.terms.duration_s > 5 for job in virtual.service.jobs())
    assert slow / 4000 == pytest.approx(0.2, abs=0.03)


def test_a_window_multiplies_the_latency() -> None:
    virtual = Virtual(taking(8.0, windows={"flex": 2.0, "fast": 0.5}))
    virtual.create("a", metadata={"completion_window": "flex"})
    virtual.create("b", metadata={"completion_window": "fast"})
    virtual.create("c")
    assert [job.terms.duration_s for job in virtual.service.jobs()] == [16.0, 4.0, 8.0]


def test_a_job_goes_from_pending_to_running_to_completed() -> None:
    virtual = Virtual(taking(5.0))
    acknowledged = content(virtual.post())
    assert acknowledged["status"] == "pending"
    assert virtual.get(acknowledged["id"])["status"] == "running"
    virtual.clock.now += 4.99
    assert virtual.get(acknowledged["id"])["status"] == "running"
    virtual.clock.now += 0.02
    assert virtual.get(acknowledged["id"])["status"] == "completed"


def test_the_openai_vocabulary_says_queued_and_in_progress_and_null_usage() -> None:
    virtual = Virtual(taking(5.0, vocabulary="openai", capacity=1))
    acknowledged = content(virtual.post())
    second = virtual.create("another")
    assert acknowledged["status"] == "queued"
    assert acknowledged["usage"] is None
    assert virtual.get(acknowledged["id"])["status"] == "in_progress"
    assert virtual.get(second)["status"] == "queued"


def test_at_most_capacity_jobs_run_at_once_and_the_others_wait_in_the_order_of_their_arrival() -> None:
    virtual = Virtual(taking(10.0, capacity=2))
    ids = [virtual.create(f"prompt {i}") for i in range(5)]

    def statuses() -> list[str]:
        return [virtual.get(job_id)["status"] for job_id in ids]

    assert statuses() == ["running", "running", "pending", "pending", "pending"]
    virtual.clock.now += 10
    assert statuses() == ["completed", "completed", "running", "running", "pending"]
    virtual.clock.now += 20
    assert statuses() == ["completed"] * 5
    assert [job.started for job in virtual.service.jobs()] == [
        1_000_000.0, 1_000_000.0, 1_000_010.0, 1_000_010.0, 1_000_020.0,
    ]  # fmt: skip
    assert virtual.service.report().peak_running == 2


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(1, 4),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=25),
    polls=st.lists(st.floats(0, 5), max_size=10),
)
def test_the_times_of_jobs_do_not_depend_on_polls(
    capacity: int, gaps: list[float], polls: list[float]
) -> None:
    def times(polled: bool) -> list[tuple[float | None, float | None]]:
        latency = {"type": "exponential", "mean_s": 2.0}
        virtual = Virtual(settings(capacity=capacity, latency=latency))
        arrivals, at = [], virtual.clock.now
        for gap in gaps:
            at += gap
            arrivals.append((at, True))
        seen = [(virtual.clock.now + offset, False) for offset in polls] if polled else []
        for when, is_arrival in sorted([*arrivals, *seen], key=lambda event: event[0]):
            virtual.clock.now = when
            if is_arrival:
                virtual.create("the same prompt")
            else:
                virtual.service.now()
        virtual.clock.now += 1000
        return [(job.started, job.finish) for job in virtual.service.jobs()]

    alone, polled = times(polled=False), times(polled=True)
    assert alone == polled
    points = sorted([(s, 1) for s, _ in alone if s] + [(f, -1) for _, f in alone if f])
    running = peak = 0
    for _, change in points:
        running += change
        peak = max(peak, running)
    assert peak <= capacity


def test_outcomes_have_their_configured_shares() -> None:
    shares = {"failed": 0.1, "incomplete": 0.2, "cancelled": 0.05, "expired": 0.05}
    virtual = Virtual(settings(outcomes=shares))
    ids = [virtual.create(f"prompt {i}") for i in range(4000)]
    counts = Counter(virtual.get(job_id)["status"] for job_id in ids)
    for outcome, share in {**shares, "completed": 0.6}.items():
        assert counts[outcome] / 4000 == pytest.approx(share, abs=0.03), outcome


def test_jobs_depend_neither_on_the_order_of_arrival_nor_on_their_keys() -> None:
    configured = settings(
        latency={"type": "lognormal", "mean_s": 2.0}, outcomes={"failed": 0.3}, faults={"get": {"500": 0.5}}
    )
    prompts = [f"prompt {i}" for i in range(50)]

    def facts(order: list[str], keys: str) -> dict[str, tuple[str, float, str, list[int]]]:
        virtual = Virtual(configured)
        found: dict[str, tuple[str, float, str, list[int]]] = {}
        for i, prompt in enumerate(order):
            job_id = content(virtual.post(body_of(prompt), key=f"{keys}-{i}"))["id"]
            terms = virtual.service.find(job_id).terms
            codes = [virtual.call("GET", f"/v1/responses/{job_id}").status_code for _ in range(4)]
            found[prompt] = (job_id, terms.duration_s, terms.outcome, codes)
        return found

    forwards, backwards = facts(prompts, "a"), facts(prompts[::-1], "b")
    assert forwards == backwards
    other_seed = configured.model_copy(update={"seed": 2})
    configured = other_seed
    changed = facts(prompts, "a")
    assert all(changed[prompt][:2] != forwards[prompt][:2] for prompt in prompts)


def test_the_same_body_twice_gives_two_jobs_and_the_same_two_in_each_run() -> None:
    def pair() -> list[str]:
        virtual = Virtual()
        return [virtual.create("same"), virtual.create("same")]

    assert len(set(pair())) == 2
    assert pair() == pair()


# --- cancel, delete, retention, limits


def test_cancelling_a_running_job_lets_the_next_one_start() -> None:
    virtual = Virtual(taking(10.0, capacity=1))
    first, second, third = (virtual.create(f"prompt {i}") for i in range(3))
    virtual.clock.now += 4
    assert content(virtual.call("POST", f"/v1/responses/{first}/cancel"))["status"] == "cancelled"
    assert content(virtual.call("POST", f"/v1/responses/{third}/cancel"))["status"] == "cancelled"
    assert virtual.get(second)["status"] == "running"
    virtual.clock.now += 9.9
    assert virtual.get(second)["status"] == "running"
    virtual.clock.now += 0.2
    assert virtual.get(second)["status"] == "completed"
    report = virtual.service.report()
    assert (report.cancelled, report.executed, report.running) == (2, 2, 0)


def test_cancelling_a_completed_job_changes_nothing() -> None:
    virtual = Virtual()
    job_id = virtual.create("a")
    assert virtual.get(job_id)["status"] == "completed"
    assert content(virtual.call("POST", f"/v1/responses/{job_id}/cancel"))["status"] == "completed"


def test_a_deleted_response_is_gone_and_its_key_does_not_run_it_a_second_time() -> None:
    virtual = Virtual()
    job_id = content(virtual.post(key="k"))["id"]
    deleted = virtual.call("DELETE", f"/v1/responses/{job_id}")
    assert content(deleted) == {"id": job_id, "object": "response", "deleted": True}
    assert virtual.call("GET", f"/v1/responses/{job_id}").status_code == 404
    assert virtual.post(key="k").status_code == 404
    report = virtual.service.report()
    assert (report.accepted, report.deleted, report.open) == (1, 1, 0)


def test_without_cancellation_neither_cancel_nor_delete_is_allowed() -> None:
    virtual = Virtual(settings(cancellation=False))
    job_id = virtual.create("a")
    assert virtual.call("POST", f"/v1/responses/{job_id}/cancel").status_code == 405
    assert virtual.call("DELETE", f"/v1/responses/{job_id}").status_code == 405
    assert virtual.get(job_id)["status"] == "completed"


def test_a_delivered_response_is_kept_for_retention_s_and_an_undelivered_one_without_limit() -> None:
    virtual = Virtual(settings(retention_s=600.0))
    seen, unseen = virtual.create("a"), virtual.create("b")
    virtual.get(seen)
    virtual.clock.now += 599
    assert virtual.get(seen)["status"] == "completed"
    virtual.clock.now += 2
    assert virtual.call("GET", f"/v1/responses/{seen}").status_code == 404
    assert virtual.get(unseen)["status"] == "completed"


def test_a_request_over_the_rate_limit_is_a_429_with_the_seconds_until_the_next_token() -> None:
    virtual = Virtual(settings(rate_limits={"post": {"per_s": 0.25, "burst": 2}}))
    assert [virtual.post().status_code for _ in range(3)] == [202, 202, 429]
    refused = virtual.post()
    assert refused.retry_after == "4"
    assert content(refused)["error"]["code"] == "rate_limit_exceeded"
    virtual.clock.now += 3.9
    assert virtual.post().status_code == 429
    virtual.clock.now += 0.1
    assert virtual.post().status_code == 202
    assert virtual.service.report().throttled == 3


def test_a_rate_limit_on_gets_does_not_limit_posts() -> None:
    virtual = Virtual(settings(rate_limits={"get": {"per_s": 10.0, "burst": 1}}))
    job_id = virtual.create("a")
    codes = [virtual.call("GET", f"/v1/responses/{job_id}").status_code for _ in range(2)]
    assert codes == [200, 429]
    assert virtual.post().status_code == 202


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    per_s=st.floats(0.1, 50),
    burst=st.integers(1, 10),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=60),
)
def test_a_bucket_never_exceeds_rate_and_burst_and_has_a_token_after_the_announced_wait(
    per_s: float, burst: int, gaps: list[float]
) -> None:
    bucket, now = Bucket(RateLimit(per_s=per_s, burst=burst), 0.0), 0.0
    for taken, gap in enumerate(gaps, 1):
        now += gap
        wait_s = bucket.take(now)
        if wait_s:
            now += wait_s
            assert bucket.take(now) == 0
        assert taken <= burst + now * per_s + 1e-6


def test_a_bucket_gives_its_rate_in_the_long_run() -> None:
    bucket = Bucket(RateLimit(per_s=0.5, burst=5), 0.0)
    taken = sum(bucket.take(float(second)) == 0 for second in range(10_000))
    assert math.isclose(taken, 5_000, abs_tol=6)


def test_polls_after_delivery_are_counted() -> None:
    virtual = Virtual()
    job_id = virtual.create("a")
    for _ in range(3):
        virtual.get(job_id)
    report = virtual.service.report()
    assert (report.gets, report.delivered, report.polls_after_delivery) == (3, 1, 2)
    assert (report.open, report.peak_open) == (0, 1)
