"""Monotonic and Unix seconds: each becomes the other, and a system clock that is set disturbs neither."""

from __future__ import annotations

import time

import pytest

from runner.session.clock import Clock, system_mono


class Clocks:
    """The clocks of a machine, moved by hand."""

    def __init__(self) -> None:
        self.mono = 500.0
        self.wall = 1_700_000_000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.mono, lambda: self.wall)


def test_monotonic_time_and_unix_time_become_each_other() -> None:
    clock = Clocks().clock()
    assert clock.unix(500.0) == 1_700_000_000.0
    assert clock.unix(530.5) == 1_700_000_030.5
    assert clock.mono(clock.unix(123.25)) == 123.25


def test_unix_time_passes_with_the_monotonic_clock() -> None:
    clocks = Clocks()
    clock = clocks.clock()
    clocks.mono += 7200.0  # a machine that slept for two hours
    assert (clock.now_mono(), clock.now()) == (7700.0, 1_700_007_200.0)


@pytest.mark.parametrize("jump_s", [-7200.0, 7200.0, 1e6])
def test_a_system_clock_that_is_set_changes_no_time_of_the_run(jump_s: float) -> None:
    clocks = Clocks()
    clock = clocks.clock()
    clocks.wall += jump_s
    assert clock.now() == clock.unix(500.0) == 1_700_000_000.0


def test_without_clocks_of_its_own_it_reads_those_of_the_system() -> None:
    clock = Clock()
    assert clock.now() == pytest.approx(time.time(), abs=5.0)
    assert clock.now_mono() == pytest.approx(system_mono(), abs=5.0)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that counts sleep")
def test_time_passes_while_the_machine_sleeps() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= system_mono() <= time.clock_gettime(time.CLOCK_BOOTTIME)
