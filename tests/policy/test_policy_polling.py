"""When to look at a job next, in virtual time: what each strategy spends, and what it must never do."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config.sections import Poll
from runner.policy.polling import ENOUGH_COMPLETIONS, Adaptive, Exponential, Fixed, polling

JOBS = 2000


def _adaptive() -> Adaptive:
    return Adaptive(Exponential(1.0, 1.5, 30.0))


def _draw(distribution, jobs: int = JOBS) -> list[float]:
    chance = random.Random(7)
    return [distribution(chance) for _ in range(jobs)]


def test_the_config_names_the_strategy():
    assert type(polling(Poll(strategy="fixed", interval_s=2))) is Fixed
    assert type(polling(Poll(strategy="exponential"))) is Exponential
    assert type(polling(Poll())) is Adaptive


def test_fixed_looks_at_even_intervals():
    policy = polling(Poll(strategy="fixed", interval_s=2.5))

    assert [policy.next_look("k", age, looks) for looks, age in enumerate([0, 2.5, 5, 100.25])] == [
        2.5,
        5,
        7.5,
        102.75,
    ]


def test_exponential_multiplies_each_interval_up_to_the_longest():
    policy = polling(Poll(strategy="exponential", interval_s=1, factor=2, max_interval_s=10))
    age, gaps = 0.0, []
    for looks in range(7):
        following = policy.next_look("k", age, looks)
        gaps.append(following - age)
        age = following

    assert gaps == pytest.approx([1, 2, 4, 8, 10, 10, 10])


def test_a_factor_of_one_and_a_longest_interval_below_the_first_are_harmless():
    assert polling(Poll(strategy="exponential", factor=1)).next_look("k", 5.0, 10**6) == 6.0
    short = polling(Poll(strategy="exponential", interval_s=20, max_interval_s=5))
    assert short.next_look("k", 0.0, 3) == 20.0


@given(
    st.floats(0, 1e7), st.integers(0, 10**9), st.floats(1, 1e300), st.floats(1e-3, 1e6), st.floats(1e-3, 1e6)
)
@settings(deadline=None)
def test_backing_off_never_overflows(age, looks, factor, first, longest):
    following = Exponential(first, factor, longest).next_look("k", age, looks)

    assert age < following <= age + max(first, longest) * (1 + 1e-9) + 1e-6


def test_adaptive_backs_off_until_it_has_learned():
    policy, fallback = _adaptive(), Exponential(1.0, 1.5, 30.0)

    def agrees() -> bool:
        looks = [(0.0, 0), (1.0, 1), (70.0, 9)]
        return all(policy.next_look("k", *look) == fallback.next_look("k", *look) for look in looks)

    for _ in range(ENOUGH_COMPLETIONS - 1):
        assert agrees()
        policy.saw_pending("k", 0.0, 9.0)
        policy.saw_done("k", 9.0, 10.0)
    assert agrees()
    policy.saw_done("k", 9.0, 10.0)
    assert not agrees()


def test_what_is_learned_of_one_kind_says_nothing_of_another():
    policy = _adaptive()
    for _ in range(200):
        policy.saw_done("fast", 0.9, 1.0)

    assert policy.next_look("slow", 100.0, 20) == 130.0


@pytest.mark.parametrize("kind", ["lognormal", "bimodal", "uniform"])
def test_adaptive_spends_fewer_looks_than_backing_off_for_about_the_same_lag(watch, latencies, kind):
    jobs = _draw(latencies[kind])
    learned = watch(_adaptive(), jobs, spacing_s=1.0)
    backing_off = watch(Exponential(1.0, 1.5, 30.0), jobs, spacing_s=1.0)
    later = JOBS // 2

    assert learned.mean_looks(later) <= 0.65 * backing_off.mean_looks(later)
    assert learned.mean_lag_s(later) <= 1.2 * backing_off.mean_lag_s(later)


def test_adaptive_finds_a_constant_latency_and_looks_about_twice(watch, latencies):
    learned = watch(_adaptive(), _draw(latencies["constant"]), spacing_s=1.0)

    assert learned.mean_looks(JOBS // 2) <= 3
    assert learned.mean_lag_s(JOBS // 2) <= 0.5


@pytest.mark.parametrize("kind", ["lognormal", "bimodal"])
def test_adaptive_spends_a_small_part_of_what_fixed_does(watch, latencies, kind):
    jobs = _draw(latencies[kind], 600)
    learned = watch(_adaptive(), jobs, spacing_s=1.0)
    fixed = watch(Fixed(1.0), jobs, spacing_s=1.0)

    assert learned.mean_looks() <= 0.2 * fixed.mean_looks()
    assert fixed.mean_lag_s() <= 1.0


@pytest.mark.parametrize("kind", ["lognormal", "bimodal", "uniform"])
def test_jobs_sent_all_at_once_are_not_noticed_much_later_than_by_backing_off(watch, latencies, kind):
    # The first to finish are the fastest: they say nothing about ages that no job has reached yet.
    jobs = _draw(latencies[kind])
    learned = watch(_adaptive(), jobs, spacing_s=0.0)
    backing_off = watch(Exponential(1.0, 1.5, 30.0), jobs, spacing_s=0.0)

    assert learned.mean_lag_s() <= 2.0 * backing_off.mean_lag_s()
    assert learned.mean_looks() <= 1.5 * backing_off.mean_looks()


@pytest.mark.parametrize("factor", [8.0, 0.125])
def test_a_service_that_changes_its_speed_half_way_is_followed(watch, factor):
    chance = random.Random(3)
    before = [chance.lognormvariate(math.log(40), 0.3) for _ in range(2 * JOBS)]
    after = [factor * chance.lognormvariate(math.log(40), 0.3) for _ in range(3 * JOBS)]
    changed = watch(_adaptive(), before + after, spacing_s=0.5)
    always = watch(_adaptive(), after, spacing_s=0.5)

    assert changed.mean_lag_s(-JOBS) <= 2.0 * always.mean_lag_s(-JOBS)
    assert changed.mean_looks(-JOBS) <= 2.0 * always.mean_looks(-JOBS)


def test_a_job_that_never_ends_is_looked_at_for_ever(watch, latencies):
    policy = _adaptive()
    watch(policy, _draw(latencies["lognormal"], 500), spacing_s=1.0)
    age, looks = 0.0, 0
    while age < 86_400.0:
        policy.saw_pending("kind", age, following := policy.next_look("kind", age, looks))
        assert following - age <= 0.5 * following + 60
        age, looks = following, looks + 1

    assert 10 <= looks <= 3000


def test_a_very_old_job_is_not_hammered(watch, latencies):
    policy = _adaptive()
    watch(policy, _draw(latencies["constant"], 500), spacing_s=1.0)

    assert policy.next_look("kind", 60 * 86_400.0, 100) >= 60 * 86_400.0 + 0.5


AGES = st.floats(0, 4e6)
HISTORY = st.lists(
    st.tuples(st.sampled_from(["pending", "done"]), AGES, AGES, st.integers(1, 60)), max_size=25
)


@given(HISTORY, AGES, st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_after_any_history_the_next_look_is_finite_and_later(history, age, looks):
    policy = _adaptive()
    for what, a, b, times in history:
        for _ in range(times):
            (policy.saw_pending if what == "pending" else policy.saw_done)("k", min(a, b), max(a, b))
        following = policy.next_look("k", age, looks)
        assert age < following < math.inf


@given(HISTORY, st.lists(st.floats(0, 3e6), min_size=2, max_size=20))
@settings(deadline=None, max_examples=50)
def test_an_older_job_is_never_looked_at_before_a_younger_one_would_be(history, ages):
    policy = _adaptive()
    for what, a, b, times in history:
        for _ in range(times):
            (policy.saw_pending if what == "pending" else policy.saw_done)("k", min(a, b), max(a, b))
    looks = [policy.next_look("k", age, 5) for age in sorted(ages)]

    assert all(later >= earlier * (1 - 1e-9) for earlier, later in pairwise(looks))


def test_clocks_that_disagree_do_no_harm():
    policy = _adaptive()
    for _ in range(100):
        policy.saw_pending("k", 5.0, 4.0)
        policy.saw_done("k", 5.0, 5.0)
        policy.saw_done("k", 5.0, 4.0)
        policy.saw_pending("k", -1.0, 3.0)

    assert 3.0 < policy.next_look("k", 3.0, 4) < math.inf
    assert -1.0 < policy.next_look("k", -1.0, 4) < math.inf
