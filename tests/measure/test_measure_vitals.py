"""How the client itself was doing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner.measure import vitals
from runner.measure.vitals import Vitals, max_rss_bytes


@pytest.fixture
def spend(monkeypatch: pytest.MonkeyPatch):
    """A CPU clock to set by hand."""
    spent = [0.0]
    monkeypatch.setattr(vitals, "cpu_s", lambda: spent[0])

    def spend(seconds: float) -> None:
        spent[0] += seconds

    return spend


def test_a_client_that_is_busy_for_long_has_limited_the_run(spend: Any) -> None:
    watched = Vitals()
    for _ in range(10):
        spend(0.95)
        assert watched.second_passed(1.0) == pytest.approx(0.95)

    assert watched.limited
    assert watched.cpu_s == pytest.approx(9.5)


def test_a_busy_start_or_an_idle_client_has_not(spend: Any) -> None:
    watched = Vitals()
    spend(1.0)
    watched.second_passed(1.0)
    for _ in range(99):
        spend(0.2)
        watched.second_passed(1.0)
    assert watched.second_passed(0.0) == 0.0

    assert not watched.limited


def test_peak_memory_is_told_in_bytes() -> None:
    assert 10e6 < max_rss_bytes() < 100e9


def test_the_loop_is_watched_until_cancelled() -> None:
    async def watch() -> int:
        watched, seen = Vitals(), asyncio.Event()
        record = watched.loop_lag.record

        def note(seconds: float) -> None:
            record(seconds)
            seen.set()

        watched.loop_lag.record = note
        task = asyncio.create_task(watched.watch_loop())
        await seen.wait()
        seen.clear()
        await seen.wait()
        task.cancel()
        await asyncio.wait([task])
        return watched.loop_lag.count

    assert asyncio.run(watch()) == 2
