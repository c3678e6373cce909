"""The hazard that is learned from what polls saw, and the cells that it is learned in."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.polling.cells import SHARES, edges_around, rebinned
from runner.policy.polling.hazard import Hazard, Interval
from runner.policy.polling.tally import Tally

FIRST, LAST = -1000.0, 1e6
POSITIONS = st.floats(FIRST, LAST)
SPANS = st.tuples(POSITIONS, POSITIONS).map(lambda pair: (min(pair), max(pair)))
ROUNDS = st.tuples(st.lists(SPANS, max_size=20), st.lists(SPANS, min_size=1, max_size=20))
EDGES = st.lists(POSITIONS, max_size=30, unique=True).map(lambda inner: sorted({FIRST, *inner, LAST}))


def followed(hazard: Hazard, latency_s: float, interval_s: float) -> tuple[float, float]:
    """Report one job that is polled at even intervals, and return the interval that it completed in."""
    pending = 0.0
    while pending + interval_s < latency_s:
        hazard.tally.expose(pending, pending + interval_s)
        pending += interval_s
    return pending, pending + interval_s


@pytest.mark.parametrize("interval_s", [2.0, 15.0])
def test_a_constant_hazard_is_found_from_polls_alone(interval_s: float) -> None:
    chance, hazard = random.Random(1), Hazard([0.0, *(0.01 * 1.12**k for k in range(200))])
    for _ in range(20):
        hazard.learn([followed(hazard, chance.expovariate(1 / 40.0), interval_s) for _ in range(100)])

    for age_s in (5.0, 20.0, 40.0, 80.0):
        at = bisect_right(hazard.tally.edges, age_s) - 1
        nearby = hazard.hazards[at - 1 : at + 2]
        assert sum(nearby) / len(nearby) == pytest.approx(1 / 40.0, rel=0.4)
    assert hazard.mean == pytest.approx(40.0, rel=0.15)
    assert hazard.probability(0.0, 40.0) == pytest.approx(1 - math.exp(-1), abs=0.05)


def test_jobs_that_are_still_pending_lower_the_hazard() -> None:
    alone, beside = Hazard([0.0, 1.0, 10.0, 100.0, 1000.0]), Hazard([0.0, 1.0, 10.0, 100.0, 1000.0])
    for _ in range(900):
        beside.tally.expose(0.0, 10.0)
    for hazard in (alone, beside):
        hazard.learn([(0.0, 10.0)] * 100)

    assert beside.probability(0.0, 10.0) < 0.2 < 0.7 < alone.probability(0.0, 10.0)


def test_old_completions_fade_when_a_service_slows_down() -> None:
    chance, hazard = random.Random(2), Hazard([0.0, *(0.01 * 1.12**k for k in range(200))])
    for mean_s in (10.0, 80.0):
        for _ in range(40):
            hazard.learn([followed(hazard, chance.gauss(mean_s, 1.0), 1.0) for _ in range(100)])

    assert hazard.median == pytest.approx(80.0, rel=0.1)


@given(
    st.lists(st.tuples(st.lists(SPANS, max_size=20), st.lists(SPANS, min_size=1, max_size=20)), max_size=8)
)
def test_after_any_history_the_hazard_is_finite_and_probabilities_add_up(
    rounds: list[tuple[list[Interval], list[Interval]]],
) -> None:
    hazard = Hazard([FIRST, -1.0, 0.0, 1.0, 10.0, 1000.0, LAST])
    for pending, completed in rounds:
        for start, stop in pending:
            hazard.tally.expose(start, stop)
        hazard.learn(completed)
        assert len(hazard.hazards) == len(hazard.tally.edges) - 1
        assert all(0 < value < math.inf for value in hazard.hazards)
        assert FIRST <= hazard.earliest <= hazard.known <= LAST + 1
        assert 0 <= hazard.unseen <= 1
        assert hazard.probability(FIRST, LAST) >= hazard.probability(-1.0, 1000.0) - 1e-6 > 0


@given(st.lists(POSITIONS, min_size=len(SHARES), max_size=len(SHARES)))
def test_cells_cover_the_axis_and_grow_outside_of_the_completions(quantiles: list[float]) -> None:
    edges = edges_around(sorted(quantiles), FIRST, LAST)

    assert edges[0] <= FIRST
    assert edges[-1] >= LAST
    assert all(a < b for a, b in pairwise(edges))
    assert len(edges) < 250


@given(EDGES, EDGES, st.data())
def test_counts_that_move_to_other_cells_keep_their_sum(
    edges: list[float], others: list[float], data: st.DataObject
) -> None:
    counts = data.draw(st.lists(st.floats(0, 1e6), min_size=len(edges) - 1, max_size=len(edges) - 1))

    assert sum(rebinned(counts, edges, others)) == pytest.approx(sum(counts))
    assert rebinned(counts, edges, edges) == pytest.approx(counts)


@given(EDGES, st.lists(SPANS, max_size=20))
def test_time_at_risk_is_counted_once_wherever_it_passes(edges: list[float], spans: list[Interval]) -> None:
    tally = Tally(edges)
    for start, stop in spans:
        tally.expose(start, stop)
    tally.settle()
    tally.settle()

    assert sum(tally.exposed_s) == pytest.approx(sum(stop - start for start, stop in spans), abs=1e-3)


@given(EDGES, st.lists(SPANS, min_size=1, max_size=20))
def test_each_completion_counts_as_one_however_many_cells_it_may_lie_in(
    edges: list[float], intervals: list[Interval]
) -> None:
    tally = Tally(edges)
    for after, by in intervals:
        tally.complete(after, by, [], 1.0)

    assert sum(tally.events) == pytest.approx(len(intervals))
    assert 1 / len(tally.events) <= tally.heaviest_share() <= 1.0
    assert edges[0] <= tally.quantile(0.25) <= tally.quantile(0.75) <= edges[-1]
