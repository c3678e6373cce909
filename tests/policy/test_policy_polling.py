"""Polling strategies in virtual time: what each of them spends, and what it must never do."""

from __future__ import annotations

import math
import random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config.poll import Poll
from runner.policy.polling import Adaptive, Exponential, Fixed, Followed, Polling, polling
from runner.policy.polling.kind import ENOUGH_COMPLETIONS
from scripts.lib.bench.polling.optimum import LATENCIES, Latency, lognormal
from scripts.lib.bench.polling.virtual_time import WatchedJob, queued, spaced, watch

JOBS = 2000


def _adaptive(lag_target: float = 0.05) -> Adaptive:
    return Adaptive(_backing_off(), lag_target)


def _backing_off() -> Exponential:
    return Exponential(1.0, 1.5, 30.0)


def _draw(latency: Latency, jobs: int = JOBS) -> list[float]:
    return latency.draws(jobs, seed=7)


def _job(pending: float | None = None, polls: int = 0, kind: str = "kind", accepted: float = 0.0) -> Followed:
    return WatchedJob(kind, 0, accepted, math.inf, pending, polls)


def test_the_config_names_the_strategy() -> None:
    assert type(polling(Poll(strategy="fixed", interval_s=2))) is Fixed
    assert type(polling(Poll(strategy="exponential"))) is Exponential
    assert type(polling(Poll())) is Adaptive


def test_fixed_polls_at_even_intervals() -> None:
    policy = polling(Poll(strategy="fixed", interval_s=2.5))
    due = [policy.next_poll(_job(at, polls), at) for polls, at in enumerate([0, 2.5, 5, 100.25])]

    assert due == [2.5, 5, 7.5, 102.75]


def test_exponential_multiplies_each_interval_up_to_the_longest() -> None:
    policy = polling(Poll(strategy="exponential", interval_s=1, factor=2, max_interval_s=10))
    at, gaps = 0.0, []
    for polls in range(7):
        following = policy.next_poll(_job(at, polls), at)
        gaps.append(following - at)
        at = following

    assert gaps == pytest.approx([1, 2, 4, 8, 10, 10, 10])


def test_a_factor_of_one_and_a_longest_interval_below_the_first_are_harmless() -> None:
    assert polling(Poll(strategy="exponential", factor=1)).next_poll(_job(5.0, 10**6), 5.0) == 6.0
    short = polling(Poll(strategy="exponential", interval_s=20, max_interval_s=5))
    assert short.next_poll(_job(0.0, 3), 0.0) == 20.0


@given(
    st.floats(0, 1e7), st.integers(0, 10**9), st.floats(1, 1e300), st.floats(1e-3, 1e6), st.floats(1e-3, 1e6)
)
def test_backing_off_never_overflows(
    at: float, polls: int, factor: float, first: float, longest: float
) -> None:
    following = Exponential(first, factor, longest).next_poll(_job(at, polls), at)

    assert at < following <= at + max(first, longest) * (1 + 1e-9) + 1e-6


@pytest.mark.parametrize(
    "policy", [Fixed(2.0), _backing_off(), _adaptive()], ids=lambda policy: type(policy).__name__
)
def test_an_overdue_job_is_polled_at_once_and_one_that_is_not_due_yet_is_not(policy: Polling) -> None:
    job = _job(pending=10.0, polls=3)
    due = policy.next_poll(job, 10.0)

    assert policy.next_poll(job, due) <= due
    assert policy.next_poll(job, due + 100) <= due + 100
    assert policy.next_poll(job, due - 0.5) > due - 0.5


def test_adaptive_backs_off_until_it_has_learned() -> None:
    policy, fallback = _adaptive(), _backing_off()
    jobs = [_job(), _job(1.0, 1), _job(70.0, 9)]

    def agrees() -> bool:
        return all(policy.next_poll(job, 70.0) == fallback.next_poll(job, 70.0) for job in jobs)

    for _ in range(ENOUGH_COMPLETIONS - 1):
        assert agrees()
        policy.saw_pending(_job(), 9.0)
        policy.saw_done(_job(9.0, 1), 10.0)
    assert agrees()
    policy.saw_done(_job(9.0, 1), 10.0)
    assert not agrees()


def test_what_is_learned_of_one_kind_leaves_another_alone() -> None:
    policy = _adaptive()
    for _ in range(200):
        policy.saw_done(_job(0.9, 1, "fast"), 1.0)

    assert policy.next_poll(_job(100.0, 20, "slow"), 100.0) == 130.0


@pytest.mark.parametrize(
    ("name", "share"), [("lognormal 0.5", 0.5), ("bimodal", 0.55), ("uniform", 0.6), ("heavy-tailed", 0.9)]
)
def test_adaptive_needs_fewer_polls_than_backing_off_for_about_the_same_lag(name: str, share: float) -> None:
    jobs = spaced(_draw(LATENCIES[name]), 1.0)
    learned, backing_off, later = watch(_adaptive(), jobs), watch(_backing_off(), jobs), JOBS // 2

    assert learned.mean_polls(later) <= share * backing_off.mean_polls(later)
    assert learned.mean_lag_s(later) <= 1.2 * backing_off.mean_lag_s(later)


@pytest.mark.parametrize("lag_target", [0.02, 0.05, 0.2])
def test_the_mean_lag_is_the_configured_share_of_the_mean_latency(lag_target: float) -> None:
    latencies = _draw(LATENCIES["lognormal 0.5"])
    seen = watch(_adaptive(lag_target), spaced(latencies, 1.0))

    assert seen.mean_lag_s(JOBS // 2) == pytest.approx(lag_target * sum(latencies) / JOBS, rel=0.15)


def test_adaptive_polls_about_twice_where_latency_is_constant() -> None:
    learned = watch(_adaptive(), spaced([10.0] * JOBS, 1.0))

    assert learned.mean_polls(JOBS // 2) <= 2
    assert learned.mean_lag_s(JOBS // 2) <= 0.5


@pytest.mark.parametrize("name", ["lognormal 0.5", "bimodal"])
def test_adaptive_needs_a_small_part_of_the_polls_of_fixed(name: str) -> None:
    jobs = spaced(_draw(LATENCIES[name], 600), 1.0)
    learned, fixed = watch(_adaptive(), jobs), watch(Fixed(1.0), jobs)

    assert learned.mean_polls() <= 0.2 * fixed.mean_polls()
    assert fixed.mean_lag_s() <= 1.0


@pytest.mark.parametrize("name", ["lognormal 0.5", "bimodal", "uniform"])
def test_jobs_sent_all_at_once_cost_no_more_than_by_backing_off(name: str) -> None:
    # The first jobs to finish are the fastest: they say nothing about ages that no job has reached yet.
    jobs = spaced(_draw(LATENCIES[name]), 0.0)
    learned, backing_off = watch(_adaptive(), jobs), watch(_backing_off(), jobs)
    exchange_s = learned.exchange_s[-1]

    assert learned.cost_s(exchange_s) <= 1.05 * backing_off.cost_s(exchange_s)


@pytest.mark.parametrize("factor", [8.0, 0.125])
def test_adaptive_follows_a_service_that_changes_its_speed_half_way(factor: float) -> None:
    chance = random.Random(3)
    before = [chance.lognormvariate(math.log(40), 0.3) for _ in range(2 * JOBS)]
    after = [factor * chance.lognormvariate(math.log(40), 0.3) for _ in range(3 * JOBS)]
    changed = watch(_adaptive(), spaced(before + after, 0.5))
    always = watch(_adaptive(), spaced(after, 0.5))

    assert changed.mean_lag_s(-JOBS) <= 1.5 * always.mean_lag_s(-JOBS)
    assert changed.mean_polls(-JOBS) <= 1.5 * always.mean_polls(-JOBS)


@pytest.mark.parametrize("spacing_s", [0.005, 0.2], ids=["all at once", "faster than they are served"])
def test_adaptive_sees_the_front_of_a_queue_that_drains_in_order(spacing_s: float) -> None:
    accepted = [n * spacing_s for n in range(JOBS)]
    jobs = queued(accepted, _draw(lognormal(30, 0.5)), 100)
    policy = _adaptive()
    learned, backing_off, later = watch(policy, jobs), watch(_backing_off(), jobs), JOBS // 2
    exchange_s = policy.exchange_s("kind")

    assert exchange_s is not None
    assert learned.mean_polls(later) <= 0.75 * backing_off.mean_polls(later)
    assert learned.cost_s(exchange_s, later) <= 0.8 * backing_off.cost_s(exchange_s, later)


def test_two_kinds_that_share_a_queue_are_each_predicted_by_its_front() -> None:
    short, long = (_draw(lognormal(mean_s, 0.5), JOBS) for mean_s in (12, 48))
    services = [service for pair in zip(short, long, strict=True) for service in pair]
    jobs, kinds = queued([n * 0.15 for n in range(2 * JOBS)], services, 100), ("short", "long")
    policy = _adaptive()
    learned, backing_off = watch(policy, jobs, kinds), watch(_backing_off(), jobs, kinds)

    for kind, offset in zip(kinds, (0, 1), strict=True):
        polls, lag_s = (sum(part[JOBS + offset :: 2]) for part in (learned.polls, learned.lag_s))
        assert polls <= 0.6 * sum(backing_off.polls[JOBS + offset :: 2]), kind
        assert lag_s <= sum(backing_off.lag_s[JOBS + offset :: 2]), kind


def test_adaptive_catches_up_with_a_front_that_gets_ahead() -> None:
    # If every first poll came after the end of its job, none would show by how much.
    jobs = queued([n * 0.005 for n in range(2 * JOBS)], _draw(lognormal(30, 0.5), 2 * JOBS), 100)
    faster = [(accepted, min(ends, 600) + max(ends - 600, 0) / 2) for accepted, ends in jobs]
    learned = watch(_adaptive(), faster)

    assert learned.mean_lag_s(JOBS) <= 0.1 * sum(ends - accepted for accepted, ends in faster) / len(faster)


def test_the_lag_target_rises_where_fewer_polls_are_allowed_than_wanted() -> None:
    jobs = spaced(_draw(LATENCIES["uniform"], 3 * JOBS), 0.25)
    free, capped = _adaptive(), _adaptive()
    watch(free, jobs)
    seen = watch(capped, jobs, rate=8.5)

    exchange_s = free.exchange_s("kind"), capped.exchange_s("kind")
    assert exchange_s[0] is not None
    assert exchange_s[1] is not None
    assert exchange_s[1] > 1.5 * exchange_s[0]
    assert seen.mean_lag_s(JOBS) < 0.5 * watch(_backing_off(), jobs, rate=8.5).mean_lag_s(JOBS)


def test_a_job_that_never_ends_is_polled_again_and_again() -> None:
    policy = _adaptive()
    watch(policy, spaced(_draw(LATENCIES["lognormal 0.5"], 500), 1.0))
    job = WatchedJob("kind", 500, 0.0, math.inf)
    now = 0.0
    while now < 86_400.0:
        if (following := policy.next_poll(job, now)) > now:
            assert following - now <= 0.5 * following + 120
            now = following
            continue
        policy.saw_pending(job, now)
        job.pending, job.polls = now, job.polls + 1

    assert 10 <= job.polls <= 3000


def test_a_very_old_job_is_not_hammered() -> None:
    policy = _adaptive()
    watch(policy, spaced([10.0] * 500, 1.0))
    now = 60 * 86_400.0

    assert policy.next_poll(_job(now, 100), now) >= now + 0.5


Seen = Literal["pending", "done"]
AGES = st.floats(0, 4e6)
HISTORY = st.lists(
    st.tuples(st.sampled_from(["pending", "done"]), AGES, AGES, st.integers(1, 60)), max_size=25
)


def _inform(policy: Adaptive, what: Seen, a: float, b: float, times: int) -> None:
    for order in range(times):
        job = WatchedJob("k", order, 0.0, math.inf, min(a, b), 1)
        (policy.saw_pending if what == "pending" else policy.saw_done)(job, max(a, b))


@given(HISTORY, AGES, st.integers(0, 10**6))
@settings(max_examples=60)
def test_after_any_history_the_next_poll_is_finite_and_later_than_the_last(
    history: list[tuple[Seen, float, float, int]], seen: float, polls: int
) -> None:
    policy = _adaptive()
    for entry in history:
        _inform(policy, *entry)
        following = policy.next_poll(_job(seen, polls, "k"), seen)
        assert seen < following < math.inf


def test_clocks_that_disagree_do_no_harm() -> None:
    policy = _adaptive()
    for _ in range(100):
        policy.saw_pending(_job(5.0), 4.0)
        policy.saw_done(_job(5.0), 5.0)
        policy.saw_done(_job(5.0), 4.0)
        policy.saw_pending(_job(-1.0), 3.0)

    assert 3.0 < policy.next_poll(_job(3.0, 4), 3.0) < math.inf
    assert -1.0 < policy.next_poll(_job(-1.0, 4), -1.0) < math.inf
