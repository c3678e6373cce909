"""How the client itself was doing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from runner.measure import vitals
from runner.measure.histogram import Histogram
from runner.measure.vitals import Fleet, Vitals, WorkerVitals, max_rss_bytes

Spend = Callable[[float], None]


@pytest.fixture
def spend(monkeypatch: pytest.MonkeyPatch) -> Spend:
    """Replace the CPU clock by one that is set by hand."""
    spent_s = 0.0
    monkeypatch.setattr(vitals, "cpu_s", lambda: spent_s)

    def spend(seconds: float) -> None:
        nonlocal spent_s
        spent_s += seconds

    return spend


def test_a_client_that_is_busy_for_long_has_limited_the_run(spend: Spend) -> None:
    watched = Vitals()
    for _ in range(10):
        spend(0.95)
        assert watched.second_passed(1.0) == pytest.approx(0.95)

    assert watched.limited
    assert watched.cpu_s == pytest.approx(9.5)


def test_a_busy_start_or_an_idle_client_has_not(spend: Spend) -> None:
    watched = Vitals()
    spend(1.0)
    watched.second_passed(1.0)
    for _ in range(99):
        spend(0.2)
        watched.second_passed(1.0)
    assert watched.second_passed(0.0) == 0.0

    assert not watched.limited


def test_cpu_and_memory_of_a_fleet_are_those_of_all_processes(spend: Spend) -> None:
    fleet = Fleet()
    alone_bytes = fleet.rss_bytes
    spend(1.0)
    fleet.report("w0", WorkerVitals(cpu_s=5.0, rss_bytes=10**12, is_limited=False), ([], 0.0, 0.0))
    fleet.report("w0", WorkerVitals(cpu_s=7.0, rss_bytes=10**12, is_limited=False), ([], 0.0, 0.0))
    fleet.report("w1", WorkerVitals(cpu_s=2.0, rss_bytes=10**12, is_limited=False), ([(5, 3)], 1.5, 0.5))

    assert fleet.cpu_s == 10.0
    assert fleet.rss_bytes >= 2 * 10**12 + alone_bytes
    assert (fleet.loop_lag.count, fleet.loop_lag.max_s) == (3, 0.5)
    assert not fleet.limited


def test_one_busy_worker_limits_a_fleet_and_a_busy_coordinator_does_not(spend: Spend) -> None:
    fleet = Fleet()
    for _ in range(10):
        spend(1.0)
        fleet.second_passed(1.0)
    assert not fleet.limited
    fleet.report("w0", WorkerVitals(cpu_s=1.0, rss_bytes=1, is_limited=True), ([], 0.0, 0.0))

    assert fleet.limited


def test_peak_memory_is_in_bytes() -> None:
    assert 10e6 < max_rss_bytes() < 100e9


def test_the_loop_is_watched_until_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "PROBE_S", 0.001)

    class Signalling(Histogram):
        def record(self, seconds: float) -> None:
            super().record(seconds)
            if self.count >= 2:
                twice.set()

    async def watch() -> None:
        watched = Vitals()
        watched.loop_lag = Signalling()
        task = asyncio.create_task(watched.watch_loop())
        await twice.wait()
        task.cancel()
        await asyncio.wait([task])

    twice = asyncio.Event()
    asyncio.run(watch())
