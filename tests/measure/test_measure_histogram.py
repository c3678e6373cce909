"""Durations in constant memory, to a tenth of a percent."""

from __future__ import annotations

import math
import random
import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.measure.histogram import QUANTILES, Distribution, Histogram

DAY_S = 86_400.0


def _exact(values: list[float], percent: float) -> float:
    """Return the value at the nearest rank."""
    ordered = sorted(values)
    return ordered[max(math.floor(percent / 100 * len(ordered) + 0.5), 1) - 1]


def test_quantiles_of_ten_thousand_latencies_are_right_within_a_tenth_of_a_percent() -> None:
    chance = random.Random(5)
    values = [chance.lognormvariate(3, 1.5) for _ in range(10_000)]
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    summary = histogram.summary()

    for name, percent in QUANTILES.items():
        assert getattr(summary, name) == pytest.approx(_exact(values, percent), rel=1e-3)
    assert summary.max == pytest.approx(max(values), rel=1e-3)
    assert summary.mean == pytest.approx(sum(values) / len(values), rel=1e-6)


@given(
    st.lists(st.floats(0.01, 40 * DAY_S), min_size=1, max_size=10),
    st.sampled_from([*QUANTILES.values(), 100.0]),
)
@settings(deadline=None, max_examples=15)
def test_any_quantile_of_any_values_is_right_within_a_tenth_of_a_percent(
    values: list[float], percent: float
) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)

    assert histogram.quantile(percent) == pytest.approx(_exact(values, percent), rel=1e-3)


def test_an_empty_histogram_has_no_values_rather_than_zeros() -> None:
    assert Histogram().summary() == Distribution()
    assert set(msgspec.structs.asdict(Distribution()).values()) == {None}
    assert Histogram().quantile(50) is None


def test_the_summary_has_the_names_of_the_contract() -> None:
    assert list(msgspec.to_builtins(Distribution())) == ["mean", "p50", "p90", "p95", "p99", "p99_9", "max"]


def test_a_clock_that_was_set_back_and_a_job_of_months_do_no_harm() -> None:
    histogram = Histogram()
    for seconds in (-5.0, 0.0, 1000 * DAY_S):
        histogram.record(seconds)
    summary = histogram.summary()

    assert histogram.count == 3
    assert summary.p50 == 0
    assert summary.max == pytest.approx(40 * DAY_S, rel=1e-3)


def test_memory_does_not_grow_with_what_is_recorded() -> None:
    histogram = Histogram()
    histogram.record(1.0)
    tracemalloc.start()
    try:
        for n in range(20_000):
            histogram.record(n * 0.37)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert grown < 20_000


@given(st.lists(st.lists(st.floats(0, 40 * DAY_S), max_size=20), max_size=5))
@settings(deadline=None, max_examples=30)
def test_parts_add_up_to_what_one_would_have_counted(parts: list[list[float]]) -> None:
    whole, merged, part = Histogram(), Histogram(), Histogram()
    for values in parts:
        for value in values:
            whole.record(value)
            part.record(value)
        merged.add(part.take())
        assert part.count == 0
        assert part.quantile(50) is None

    assert merged.count == whole.count
    if whole.count:
        in_parts, at_once = (msgspec.structs.astuple(it.summary()) for it in (merged, whole))
        assert in_parts == pytest.approx(at_once, rel=1e-9)


@given(st.integers(0, int(40 * DAY_S * 1e6)))
@settings(deadline=None)
def test_every_microsecond_has_a_bucket_within_half_a_thousandth(us: int) -> None:
    histogram = Histogram()
    histogram.record(1000 * DAY_S)  # so that the largest value does not cut the quantile
    histogram.record((us + 0.5) / 1e6)

    assert histogram.quantile(1) == pytest.approx(us / 1e6, rel=5e-4, abs=1e-9)
